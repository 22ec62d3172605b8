//! What becomes of samples, and up to where windows reach.

use super::*;
use rules::series::{HistogramSample, Observer};
use rules::signal::{Measure, Observation, Reading, Role, Signal};
use std::sync::atomic::{AtomicI64, Ordering};

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

/// The beginning of all times here, so that nothing is before it.
const BEGAN: i64 = 1_700_000_000_000;

fn began() -> Timestamp {
    at(BEGAN)
}

fn source(config: &PushedConfig) -> PushedSource {
    PushedSource::new("push", config, None, began).unwrap()
}

fn labels(name: &str, code: &str) -> Labels {
    [("__name__", name), ("code", code)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn sample(after: i64, value: f64) -> Sample {
    Sample { at: at(BEGAN + after), value }
}

fn everything() -> Window {
    Window { from: at(0), to: at(BEGAN + 3_600_000) }
}

async fn values(source: &PushedSource, selector: &str) -> Vec<(i64, f64)> {
    let series = source.read(selector, everything()).await.unwrap();
    let samples = series.iter().flat_map(|one| &one.samples);
    samples.map(|sample| (sample.at.as_millisecond() - BEGAN, sample.value)).collect()
}

#[tokio::test]
async fn each_sample_is_kept_or_counted_with_the_reason() {
    let source = source(&PushedConfig { max_series: 2, ..PushedConfig::default() });
    let now = at(BEGAN + 1_000);
    let one = |after, value| vec![(labels("a", "200"), sample(after, value))];
    assert_eq!(source.append(now, one(900, 1.0)), Taken { kept: 1, ..Taken::default() });
    assert_eq!(source.append(now, one(900, 1.0)), Taken { known: 1, ..Taken::default() });
    assert_eq!(source.append(now, one(1_000, 2.0)), Taken { kept: 1, ..Taken::default() });
    assert_eq!(source.append(now, one(900, 1.0)), Taken { known: 1, ..Taken::default() }, "sent again");
    let many = vec![
        (labels("a", "200"), sample(900, 7.0)),
        (labels("a", "200"), sample(800, 1.0)),
        (labels("a", "200"), sample(-10_800_000, 1.0)),
        (labels("a", "200"), sample(62_000, 1.0)),
        (labels("b", "200"), sample(900, 1.0)),
        (labels("b", "500"), sample(900, 1.0)),
        (labels("", "500"), sample(900, 1.0)),
        (labels("a", &"x".repeat(2_049)), sample(900, 1.0)),
        (
            (0..65).map(|n| (format!("l{n}"), "x".to_owned())).chain(labels("a", "1")).collect(),
            sample(900, 1.0),
        ),
    ];
    let taken = source.append(now, many);
    let why = taken.why.clone().unwrap();
    let expected = Taken {
        kept: 1,
        disorder: 2,
        too_old: 1,
        ahead: 1,
        full: 1,
        unusable: 3,
        why: Some(why.clone()),
        ..Taken::default()
    };
    assert_eq!(taken, expected);
    assert_eq!(taken.refused(), 8);
    let words = taken.words().unwrap();
    for part in [
        "1 of new series",
        "raise `max_series`",
        "2 not in the order",
        "1 too far in the future",
        "3 unusable",
        &why,
    ] {
        assert!(words.contains(part), "{part} in {words}");
    }
    let health = source.health();
    assert_eq!((health.series, health.last_error.unwrap().1), (2, words));
    assert_eq!(health.pushed.unwrap().samples.kept, 3);
    // What was refused for want of room does not look like "there is none".
    assert!(matches!(source.read("b", everything()).await, Err(SourceError::TooLarge { .. })));
    assert_eq!(values(&source, "a").await, [(900, 1.0), (1_000, 2.0)]);
    assert_eq!(Taken::default().words(), None);
}

#[tokio::test]
async fn an_end_is_not_a_number_and_other_numbers_that_are_none_stay() {
    let source = source(&PushedConfig::default());
    let now = at(BEGAN + 10_000);
    let ended = Sample::stale(at(BEGAN + 2_000));
    source.append(now, vec![(labels("a", "1"), sample(1_000, 1.0)), (labels("a", "1"), ended)]);
    source.append(now, vec![(labels("a", "2"), sample(1_000, f64::NAN))]);
    let series = source.read("a", everything()).await.unwrap();
    assert!(series[0].samples[1].is_stale() && !series[1].samples[0].is_stale());
    assert!(series[1].samples[0].value.is_nan());
}

#[tokio::test]
async fn growth_becomes_a_counter_and_is_never_added_twice() {
    let source = source(&PushedConfig::default());
    let grew = |after, value, start: i64| Batch {
        series: vec![PushedSeries {
            labels: labels("a", "1"),
            points: vec![Point { value: Value::Grew(sample(after, value)), start: Some(at(BEGAN + start)) }],
        }],
        ..Batch::default()
    };
    let now = at(BEGAN + 10_000);
    assert_eq!(source.take(now, grew(2_000, 3.0, 1_000)).kept, 1);
    assert_eq!(source.take(now, grew(3_000, 4.0, 2_000)).kept, 1);
    assert_eq!(source.take(now, grew(3_000, 4.0, 2_000)).known, 1);
    assert_eq!(source.take(now, grew(2_500, 4.0, 2_000)).disorder, 1);
    assert_eq!(source.take(now, grew(5_000, 5.0, 4_000)).kept, 1);
    assert_eq!(values(&source, "a").await, [(1_000, 0.0), (2_000, 3.0), (3_000, 7.0), (5_000, 12.0)]);
}

#[tokio::test]
async fn a_counter_is_zero_where_it_began_unless_that_was_before_us() {
    let now_is = |after, value, start: i64| Batch {
        series: vec![PushedSeries {
            labels: labels("a", "1"),
            points: vec![Point { value: Value::Now(sample(after, value)), start: Some(at(BEGAN + start)) }],
        }],
        ..Batch::default()
    };
    let now = at(BEGAN + 600_000);
    let fresh = source(&PushedConfig::default());
    fresh.take(now, now_is(2_000, 5.0, 1_000));
    fresh.take(now, now_is(3_000, 6.0, 1_000));
    // It began anew, and has counted more since than before: only the start tells.
    fresh.take(now, now_is(6_000, 9.0, 4_000));
    assert_eq!(
        values(&fresh, "a").await,
        [(1_000, 0.0), (2_000, 5.0), (3_000, 6.0), (4_000, 0.0), (6_000, 9.0)]
    );
    for (after, start) in [(2_000, -1_000), (400_000, 1_000), (2_000, 2_000), (2_000, 3_000)] {
        let old = source(&PushedConfig::default());
        old.take(now, now_is(after, 5.0, start));
        assert_eq!(values(&old, "a").await, [(after, 5.0)]);
    }
}

/// What is seen of the counter `r` between two times.
async fn observed(source: &PushedSource, from: i64, to: i64) -> Observation {
    let bad = [("code".to_owned(), "5..".to_owned())].into();
    let signal = Signal {
        name: rules::ids::SignalName::new("errors").unwrap(),
        role: Role::Critical,
        source: "push".into(),
        measure: Measure::Proportion { of: "r".into(), bad },
        targets: None,
        weight: None,
        compare: true,
    };
    let window = Window { from: at(BEGAN + from), to: at(BEGAN + to) };
    let observer = Observer::new(&signal).unwrap();
    let measured =
        super::super::measure(source, &observer, &[window], Span::from_seconds(15)).await.remove(0);
    measured.observation
}

/// What the counter `r` is seen to have grown by: bad ones and all.
async fn seen(source: &PushedSource, from: i64, to: i64) -> Option<Reading> {
    observed(source, from, to).await.reading().cloned()
}

#[tokio::test]
async fn growth_after_a_long_silence_is_counted() {
    const MINUTE: i64 = 60_000;
    for grew in [true, false] {
        let source = source(&PushedConfig::default());
        let tell = |code: &str, after: i64, value: f64, start: Option<i64>| {
            let value = sample(after, value);
            let value = if grew { Value::Grew(value) } else { Value::Happened(value) };
            let points = vec![Point { value, start: start.map(|start| at(BEGAN + start)) }];
            let series = vec![PushedSeries { labels: labels("r", code), points }];
            let taken = source.take(at(BEGAN + after + 100), Batch { series, ..Batch::default() });
            assert_eq!((taken.kept, taken.refused()), (1, 0), "{taken:?}");
        };
        for minute in 1..=20 {
            tell("200", minute * MINUTE, 10.0, Some((minute - 1) * MINUTE));
        }
        tell("500", MINUTE, 1.0, Some(1));
        tell("500", 11 * MINUTE, 400.0, Some(10 * MINUTE));
        // A sender that does not tell when the growth began.
        tell("500", 18 * MINUTE, 30.0, None);
        let after = async |minute: i64| seen(&source, (minute - 1) * MINUTE, minute * MINUTE).await;
        assert_eq!(after(10).await, Some(Reading::Counts { bad: 0.0, total: 10.0 }), "{grew}");
        assert_eq!(after(11).await, Some(Reading::Counts { bad: 400.0, total: 410.0 }), "{grew}");
        assert_eq!(after(18).await, Some(Reading::Counts { bad: 30.0, total: 40.0 }), "{grew}");
    }
}

#[tokio::test]
async fn a_silence_that_windows_reach_across_needs_no_further_sample() {
    let source = source(&PushedConfig::default());
    // The first was told by a stream of what was before us; what it stood at is known nonetheless.
    for (after, start) in
        [(-700_000, -700_001), (-300_000, -300_001), (2_000, 1_000), (302_000, 301_000), (602_001, 601_001)]
    {
        let points = vec![Point { value: Value::Grew(sample(after, 1.0)), start: Some(at(BEGAN + start)) }];
        let series = vec![PushedSeries { labels: labels("a", "1"), points }];
        source.take(at(BEGAN + after), Batch { series, ..Batch::default() });
    }
    let expected = [
        (-700_000, 1.0),
        (-300_001, 1.0),
        (-300_000, 2.0),
        (1_000, 2.0),
        (2_000, 3.0),
        (302_000, 4.0),
        (601_001, 4.0),
        (602_001, 5.0),
    ];
    assert_eq!(values(&source, "a").await, expected);
}

static CLOCK: AtomicI64 = AtomicI64::new(BEGAN);

#[tokio::test]
async fn windows_end_at_the_newest_sample_while_more_may_come_and_lateness_is_told() {
    let clock = || at(CLOCK.load(Ordering::Relaxed));
    let tell = |after| CLOCK.store(BEGAN + after, Ordering::Relaxed);
    let source = PushedSource::new("push", &PushedConfig::default(), None, clock).unwrap();
    assert_eq!(source.settle(), Span::from_milliseconds(500), "nothing to wait for yet");
    assert!(source.health().pushed.unwrap().silence.unwrap().contains("yet"));
    tell(10_100);
    source.append(clock(), vec![(labels("a", "1"), sample(10_000, 1.0))]);
    assert_eq!(source.settle(), Span::from_milliseconds(500), "the rest of the same moment");
    tell(13_000);
    assert_eq!(source.settle(), Span::from_milliseconds(3_000), "up to the newest, and no further");
    tell(30_000);
    assert_eq!(source.settle(), LONGEST_WAIT, "the sender may be dead");
    assert!(source.health().pushed.unwrap().silence.unwrap().contains("nothing was pushed for"));
    source.read("a", Window { from: at(BEGAN), to: at(BEGAN + 24_000) }).await.unwrap();
    let taken = source.append(clock(), vec![(labels("a", "1"), sample(23_000, 2.0))]);
    assert_eq!((taken.kept, taken.late), (1, 1));
    let health = source.health();
    assert!(health.last_error.unwrap().1.contains("raise `settle`"));
    assert_eq!(health.pushed.unwrap().silence, None);
}

#[tokio::test]
async fn a_sender_whose_clock_is_ahead_does_not_end_the_wait_for_the_others() {
    static CLOCK: AtomicI64 = AtomicI64::new(BEGAN);
    let clock = || at(CLOCK.load(Ordering::Relaxed));
    let tell = |after| CLOCK.store(BEGAN + after, Ordering::Relaxed);
    let source = PushedSource::new("push", &PushedConfig::default(), None, clock).unwrap();
    tell(10_000);
    source.append(clock(), vec![(labels("a", "slow"), sample(7_000, 1.0))]);
    source.append(clock(), vec![(labels("a", "fast"), sample(30_000, 1.0))]);
    assert_eq!(source.settle(), Span::from_milliseconds(3_000), "the slow one's next is waited for");
    tell(12_000);
    assert_eq!(source.settle(), Span::from_milliseconds(5_000));
    // One that is ahead by less than windows wait anyway is no reason to wait for longer.
    source.append(clock(), vec![(labels("a", "near"), sample(12_200, 1.0))]);
    assert_eq!(source.settle(), Span::from_milliseconds(500));
    tell(12_900);
    assert_eq!(source.settle(), Span::from_milliseconds(900));
}

#[tokio::test]
async fn the_bell_rings_for_news_when_it_can_be_seen() {
    let source = source(&PushedConfig::default());
    let bell = Bell::default();
    source.give_bell(bell.clone());
    let now = at(BEGAN + 1_000);
    source.append(now, vec![(labels("a", "1"), sample(900, 1.0))]);
    assert_eq!(bell.heard().await, BTreeMap::from([("push".to_owned(), at(BEGAN + 1_500))]));
    // A sender whose clock is ahead.
    source.append(now, vec![(labels("a", "1"), sample(1_300, 1.0))]);
    assert_eq!(bell.heard().await, BTreeMap::from([("push".to_owned(), at(BEGAN + 1_800))]));
    source.append(now, vec![(labels("a", "1"), sample(1_300, 1.0))]);
    let rung = tokio::time::timeout(std::time::Duration::from_millis(5), bell.heard()).await;
    assert!(rung.is_err(), "nothing new came");
}

#[tokio::test]
async fn a_window_without_a_new_sample_holds_no_traffic_and_no_fault() {
    let source = source(&PushedConfig::default());
    let now = at(BEGAN + 60_000);
    for second in [10, 20, 30] {
        let at = second * 1_000;
        source.append(now, vec![(labels("r", "200"), sample(at, f64::from(second as i32)))]);
        source.append(now, vec![(labels("r", "500"), sample(at, 1.0))]);
    }
    let seen = async |from: i64, to: i64| observed(&source, from, to).await;
    let reading = |observation: &Observation| observation.reading().cloned();
    assert_eq!(reading(&seen(15_000, 20_000).await), Some(Reading::Counts { bad: 0.0, total: 10.0 }));
    let empty = seen(21_000, 21_250).await;
    assert_eq!(reading(&empty), Some(Reading::Counts { bad: 0.0, total: 0.0 }));
    assert!(reading(&empty).unwrap().is_empty(), "adds no evidence");
    assert!(matches!(seen(46_000, 47_000).await, Observation::Absent { .. }), "too old is a hole");
}

#[tokio::test]
async fn a_hundred_thousand_series_are_within_the_bounds() {
    let source = source(&PushedConfig { max_series: 100_000, ..PushedConfig::default() });
    let now = at(BEGAN + 60_000);
    for round in 0..2 {
        let series =
            (0..100_001).map(|n| (labels(&format!("m{}", n % 100), &n.to_string()), sample(round, 1.0)));
        let taken = source.append(now, series.collect());
        assert_eq!((taken.kept, taken.full), (100_000, 1));
    }
    let began = std::time::Instant::now();
    assert_eq!(source.read("m7", everything()).await.unwrap().len(), 1_000);
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "one metric of a hundred is soon read");
    assert_eq!(source.health().series, 100_000);
    assert!(source.read("m0", everything()).await.is_err(), "the one that was refused");
}

#[tokio::test]
async fn native_histograms_are_kept_as_they_are() {
    let source = source(&PushedConfig::default());
    let histogram = HistogramSample { at: at(BEGAN + 1_000), count: 2.0, sum: 0.5, buckets: Vec::new() };
    let point = Point { value: Value::Histogram(histogram.clone()), start: None };
    let series = PushedSeries { labels: labels("h", "1"), points: vec![point.clone(), point] };
    let batch = Batch { series: vec![series], ..Batch::default() };
    let taken = source.take(at(BEGAN + 2_000), batch);
    assert_eq!((taken.histograms, taken.known_histograms), (1, 1));
    assert_eq!(source.read("h", everything()).await.unwrap()[0].histograms, [histogram]);
}
