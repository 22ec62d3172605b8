//! What observing must do with data as it should be, and the three properties everything else rests on.

use super::*;
use crate::ids::SignalName;
use crate::signal::{GaugeScale, Role};
use proptest::prelude::*;

/// Seconds after an arbitrary beginning.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(super) fn window(from: i64, to: i64) -> Window {
    Window { from: at(from), to: at(to) }
}

pub(super) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> RawSeries {
    RawSeries::new(
        labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        samples.iter().map(|(second, value)| Sample { at: at(*second), value: *value }).collect(),
    )
}

pub(super) fn signal(measure: Measure) -> Signal {
    let name = SignalName::new("errors").unwrap();
    Signal { role: Role::Critical, targets: Some("up".into()), ..Signal::new(name, "prometheus", measure) }
}

pub(super) fn errors() -> Signal {
    let bad = BTreeMap::from([("code".to_string(), "5..".to_string())]);
    signal(Measure::Proportion { of: "requests_total".into(), bad })
}

pub(super) fn latency() -> Signal {
    signal(Measure::Latency { buckets: "seconds_bucket".into(), quantile: 0.95 })
}

pub(super) fn availability() -> Signal {
    signal(Measure::Availability { up: "up".into() })
}

pub(super) fn gauge() -> Signal {
    signal(Measure::Gauge { value: "depth".into(), scale: GaugeScale::Backlog })
}

pub(super) const FRESH: Span = Span::from_seconds(30);

pub(super) fn see(signal: &Signal, series: &[RawSeries], window: Window) -> Reading {
    let observation = observe(signal, series, None, window, FRESH);
    observation.reading().cloned().unwrap_or_else(|| panic!("{observation:?}"))
}

fn counts(bad: f64, total: f64) -> Reading {
    Reading::Counts { bad, total }
}

#[test]
fn errors_and_requests_are_counted_per_series() {
    let data = [
        series(&[("code", "200")], &[(0, 10.0), (30, 40.0), (60, 100.0)]),
        series(&[("code", "500")], &[(0, 1.0), (30, 2.0), (60, 6.0)]),
        series(&[("code", "5000")], &[(0, 0.0), (30, 0.0), (60, 7.0)]),
    ];
    // `5..` must not match 5000: the expression holds over the whole value.
    assert_eq!(see(&errors(), &data, window(0, 60)), counts(5.0, 102.0));
    assert_eq!(see(&errors(), &data, window(30, 60)), counts(4.0, 71.0));
}

#[test]
fn a_counter_that_never_failed_has_no_bad_series_and_that_is_fine() {
    let data = [series(&[("code", "200")], &[(0, 10.0), (60, 100.0)])];
    assert_eq!(see(&errors(), &data, window(0, 60)), counts(0.0, 90.0));
}

#[test]
fn no_traffic_is_data() {
    let data = [series(&[("code", "200")], &[(0, 10.0), (50, 10.0)])];
    assert_eq!(see(&errors(), &data, window(0, 60)), counts(0.0, 0.0));
}

#[test]
fn a_new_series_counts_from_its_second_sample() {
    let data = [series(&[("code", "500")], &[(20, 7.0), (40, 9.0)])];
    assert_eq!(see(&errors(), &data, window(0, 60)), counts(2.0, 2.0));
}

#[test]
fn a_hole_longer_than_the_lookback_is_not_bridged() {
    let data = [series(&[("code", "500")], &[(0, 7.0), (301, 90.0), (310, 91.0)])];
    assert_eq!(see(&errors(), &data, window(0, 320)), counts(1.0, 1.0));
}

#[test]
fn every_reset_is_seen() {
    for reset in 1..10 {
        let value =
            |index: i64| if index < reset { 100.0 + index as f64 } else { (index - reset + 3) as f64 };
        let samples: Vec<(i64, f64)> = (0..10).map(|index| (index * 10, value(index))).collect();
        let data = [series(&[("code", "500")], &samples)];
        // Eight steps of one, and three events between the reset and the sample that showed it.
        assert_eq!(see(&errors(), &data, window(0, 90)), counts(11.0, 11.0), "reset at {reset}");
    }
}

#[test]
fn a_restart_resets_all_buckets_of_a_pod_together() {
    // The small bucket grew past its old value after the restart; alone it would count 5 - 2 = 3.
    let data = [
        series(&[("le", "0.1")], &[(0, 2.0), (30, 5.0)]),
        series(&[("le", "+Inf")], &[(0, 100.0), (30, 6.0)]),
    ];
    let reading = see(&latency(), &data, window(0, 30));
    assert_eq!(reading, Reading::Buckets { bounds: vec![0.1], counts: vec![5.0, 1.0] });
}

#[test]
fn different_bounds_merge_down_to_the_common_ones() {
    let data = [
        series(&[("pod", "a"), ("le", "0.1")], &[(0, 0.0), (30, 1.0)]),
        series(&[("pod", "a"), ("le", "0.5")], &[(0, 0.0), (30, 3.0)]),
        series(&[("pod", "a"), ("le", "+Inf")], &[(0, 0.0), (30, 4.0)]),
        series(&[("pod", "b"), ("le", "0.50")], &[(0, 0.0), (30, 10.0)]),
        series(&[("pod", "b"), ("le", "2")], &[(0, 0.0), (30, 30.0)]),
        series(&[("pod", "b"), ("le", "+Inf")], &[(0, 0.0), (30, 60.0)]),
    ];
    let reading = see(&latency(), &data, window(0, 30));
    assert_eq!(reading, Reading::Buckets { bounds: vec![0.5], counts: vec![13.0, 51.0] });
}

#[test]
fn bounds_that_changed_before_the_window_do_no_harm() {
    let data = [
        series(&[("le", "0.1")], &[(-60, 2.0)]),
        series(&[("le", "0.2")], &[(-30, 1.0), (30, 4.0)]),
        series(&[("le", "+Inf")], &[(-60, 9.0), (-30, 1.0), (30, 6.0)]),
    ];
    let reading = see(&latency(), &data, window(0, 30));
    assert_eq!(reading, Reading::Buckets { bounds: vec![0.2], counts: vec![3.0, 2.0] });
}

#[test]
fn a_window_between_two_scrapes_has_no_events_and_keeps_its_bounds() {
    let data = [series(&[("le", "0.1")], &[(0, 2.0)]), series(&[("le", "+Inf")], &[(0, 3.0)])];
    let reading = see(&latency(), &data, window(5, 10));
    assert_eq!(reading, Reading::Buckets { bounds: vec![0.1], counts: vec![0.0, 0.0] });
}

#[test]
fn each_sample_of_up_is_a_trial() {
    let data = [
        series(&[("pod", "a")], &[(0, 0.0), (20, 1.0), (40, 0.0), (60, 1.0)]),
        series(&[("pod", "b")], &[(20, 1.0), (40, 1.0), (60, 1.0)]),
    ];
    assert_eq!(see(&availability(), &data, window(0, 60)), counts(1.0, 6.0));
}

#[test]
fn all_targets_down_is_bad_and_not_blind() {
    let down = [series(&[("pod", "a")], &[(20, 0.0), (40, 0.0), (60, 0.0)])];
    let observation = observe(&availability(), &down, Some(&down), window(0, 60), FRESH);
    assert_eq!(observation.reading(), Some(&counts(3.0, 3.0)));
}

#[test]
fn the_largest_gauge_that_is_still_alive_counts() {
    let mut ended = series(&[("pod", "ended")], &[(50, 99.0)]);
    ended.samples.push(Sample::stale(at(55)));
    let data = [
        ended,
        series(&[("pod", "silent")], &[(10, 98.0)]),
        series(&[("pod", "a")], &[(30, 9.0), (60, -4.0)]),
        series(&[("pod", "b")], &[(30, 1.0), (60, -2.0)]),
    ];
    assert_eq!(see(&gauge(), &data, window(0, 60)), Reading::Level { value: -2.0 });
}

#[test]
fn coverage_needs_nine_of_ten() {
    let data = [series(&[("code", "200")], &[(0, 10.0), (60, 100.0)])];
    let targets = |up: usize| -> Vec<RawSeries> {
        let value = |index| if index < up { 1.0 } else { 0.0 };
        (0..10).map(|index| series(&[("pod", &index.to_string())], &[(60, value(index))])).collect()
    };
    let with = |targets: &[RawSeries]| observe(&errors(), &data, Some(targets), window(0, 60), FRESH);
    assert!(with(&targets(9)).reading().is_some());
    assert_eq!(with(&targets(8)), Observation::Partial { reporting: 8, expected: 10 });
    // A target that is gone is not expected.
    let mut gone = targets(8);
    for target in &mut gone[8..] {
        target.samples = vec![Sample { at: at(40), value: 1.0 }, Sample::stale(at(50))];
    }
    assert!(with(&gone).reading().is_some());
}

#[test]
fn a_series_that_ended_still_counts_what_it_saw() {
    let mut ended = series(&[("code", "500"), ("pod", "a")], &[(0, 1.0), (20, 5.0)]);
    ended.samples.push(Sample::stale(at(25)));
    let data = [ended, series(&[("code", "200"), ("pod", "b")], &[(0, 0.0), (60, 6.0)])];
    assert_eq!(see(&errors(), &data, window(0, 60)), counts(4.0, 10.0));
}

#[test]
fn bad_signals_are_refused_when_they_are_read() {
    let with = |label: &str, pattern: &str| {
        let bad = BTreeMap::from([(label.to_string(), pattern.to_string())]);
        Observer::new(&signal(Measure::Proportion { of: "x".into(), bad }))
    };
    assert!(with("code", "5..|error").is_ok());
    for pattern in ["(", "a)|(b", "[", "(?P<", "x{100000}{100000}"] {
        let problem = with("code", pattern).unwrap_err().to_string();
        assert!(problem.contains("bad.code") && problem.contains(&format!("{pattern:?}")), "{problem}");
    }
    let nothing = signal(Measure::Proportion { of: "x".into(), bad: BTreeMap::new() });
    assert_eq!(Observer::new(&nothing).unwrap_err(), BadSignal::NothingIsBad);
    for quantile in [0.0, 1.0, -1.0, f64::NAN, 95.0] {
        assert!(Observer::new(&signal(Measure::Latency { buckets: "x".into(), quantile })).is_err());
    }
}

/// A service's counters: whole numbers that grow, restart, pause and end.
fn any_counters() -> impl Strategy<Value = Vec<RawSeries>> {
    let sample = (
        prop_oneof![4 => 1_i64..120, 1 => 250_i64..350],
        prop_oneof![8 => 0_u32..50, 1 => Just(1_000_u32), 1 => Just(1_001_u32)],
    );
    let one = prop::collection::vec(sample, 1..40).prop_map(|steps| {
        let (mut second, mut value, mut samples) = (0, 0.0, Vec::new());
        for (pause, step) in steps {
            second += pause;
            match step {
                1_000 => value = 0.0,
                1_001 => {
                    samples.push(Sample::stale(at(second)));
                    continue;
                }
                step => value += f64::from(step),
            }
            samples.push(Sample { at: at(second), value });
        }
        samples
    });
    prop::collection::vec(one, 1..6).prop_map(|all| {
        let label = |index: usize| if index.is_multiple_of(2) { "200" } else { "500" };
        let series = |(index, samples): (usize, Vec<Sample>)| {
            let mut series = series(&[("code", label(index)), ("pod", &index.to_string())], &[]);
            series.samples = samples;
            series
        };
        all.into_iter().enumerate().map(series).collect()
    })
}

/// Cut as a source would that was asked for one window and its lookback only.
pub(super) fn read(data: &[RawSeries], window: Window) -> Vec<RawSeries> {
    let reach = window.with_lookback();
    let cut = |one: &RawSeries| RawSeries {
        labels: one.labels.clone(),
        samples: one.samples.iter().copied().filter(|sample| reach.contains(sample.at)).collect(),
        histograms: one.histograms.iter().filter(|sample| reach.contains(sample.at)).cloned().collect(),
    };
    data.iter().map(cut).collect()
}

/// The same counters seen as the buckets of a histogram: the n-th bucket holds what the first n series hold.
fn as_histogram(data: &[RawSeries]) -> Vec<RawSeries> {
    let Some(first) = data.first() else { return Vec::new() };
    let bounds = ["0.1", "0.2", "0.4", "0.8", "+Inf"];
    let values = first.samples.iter().filter(|sample| !sample.is_stale());
    let cumulative = |place: usize| -> Vec<Sample> {
        let factor = (place + 1) as f64;
        values.clone().map(|sample| Sample { at: sample.at, value: sample.value * factor }).collect()
    };
    let bucket = |(place, le): (usize, &&str)| {
        RawSeries::new(BTreeMap::from([("le".to_string(), le.to_string())]), cumulative(place))
    };
    bounds.iter().enumerate().map(bucket).collect()
}

/// Counts as a list, so that readings can be added. A hole adds nothing: there every series has ended or is silent.
fn parts(observation: &Observation) -> Vec<f64> {
    match observation {
        Observation::Seen { reading: Reading::Counts { bad, total }, .. } => vec![*bad, *total],
        Observation::Seen { reading: Reading::Buckets { counts, .. }, .. } => counts.clone(),
        Observation::Absent { .. } => Vec::new(),
        other => panic!("{other:?}"),
    }
}

fn sum(all: impl Iterator<Item = Vec<f64>>) -> Vec<f64> {
    all.fold(Vec::new(), |mut sum, parts| {
        sum.resize(sum.len().max(parts.len()), 0.0);
        sum.iter_mut().zip(&parts).for_each(|(sum, part)| *sum += part);
        sum
    })
}

/// Fresh whatever happens, so that only counting is tested.
pub(super) const EVER: Span = Span::from_minutes(60 * 24);

proptest! {
    #[test]
    fn windows_that_partition_time_add_up(
        data in any_counters(),
        mut cuts in prop::collection::btree_set(1_i64..5_000, 0..12),
    ) {
        // One series that is always there: else a window may be absent as a whole, although increments lie in it.
        let mut data = data;
        let steady: Vec<(i64, f64)> = (0..=500).map(|step| (step * 10, 0.0)).collect();
        data.push(series(&[("code", "200"), ("pod", "steady")], &steady));
        cuts.extend([0, 5_000]);
        let edges: Vec<i64> = cuts.into_iter().collect();
        for (signal, data) in [(errors(), data.clone()), (latency(), as_histogram(&data))] {
            let see = |window: Window| parts(&observe(&signal, &read(&data, window), None, window, EVER));
            let whole = see(window(0, 5_000));
            let pieces = sum(edges.windows(2).map(|pair| see(window(pair[0], pair[1]))));
            if signal.measure.kind() == "proportion" {
                prop_assert_eq!(&whole, &pieces);
                prop_assert!(whole[0] <= whole[1]);
            } else {
                // Windows after the histogram's end are absent; what the others counted must be all there is.
                let length = whole.len().max(pieces.len());
                let fill = |mut list: Vec<f64>| { list.resize(length, 0.0); list };
                prop_assert_eq!(fill(whole), fill(pieces));
            }
        }
    }

    #[test]
    fn the_order_of_series_changes_nothing(data in any_counters(), turn in 0_usize..6, scale in 0.1_f64..3.0) {
        let mut data = data;
        for sample in data.iter_mut().flat_map(|series| &mut series.samples).filter(|sample| !sample.is_stale()) {
            sample.value *= scale;
        }
        let mut turned = data.clone();
        turned.reverse();
        let turn = turn % turned.len();
        turned.rotate_left(turn);
        for signal in [errors(), availability(), gauge(), latency()] {
            let see = |data: &[RawSeries]| observe(&signal, data, None, window(0, 3_000), EVER);
            prop_assert_eq!(see(&data), see(&turned));
        }
    }

    #[test]
    fn nothing_panics_and_no_number_is_invented(
        values in prop::collection::vec((any::<i16>(), any::<u64>().prop_map(f64::from_bits)), 0..30),
        le in "[-+0-9.INanf]{0,5}",
    ) {
        let values: Vec<(i64, f64)> = values.into_iter().map(|(second, value)| (second.into(), value)).collect();
        let data = [series(&[("code", "500"), ("le", &le)], &values), series(&[("le", "+Inf")], &values)];
        for signal in [errors(), availability(), gauge(), latency()] {
            match observe(&signal, &data, Some(&data), window(0, 1_000), EVER).reading() {
                Some(Reading::Counts { bad, total }) => prop_assert!(0.0 <= *bad && bad <= total && total.is_finite()),
                Some(Reading::Buckets { bounds, counts }) => {
                    prop_assert_eq!(bounds.len() + 1, counts.len());
                    prop_assert!(counts.iter().all(|count| count.is_finite() && *count >= 0.0));
                }
                Some(Reading::Level { value }) => prop_assert!(value.is_finite()),
                None => {}
            }
        }
    }
}
