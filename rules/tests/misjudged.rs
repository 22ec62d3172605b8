//! Data that other judges get wrong: rank tests that see three quiet windows among ten, a mean that swallows NaN, a
//! percentage of three requests. Each is judged as a pipeline would have it judged.

use jiff::Timestamp;
use rules::analysis::Analysis;
use rules::compare::Compare;
use rules::ids::{EnvironmentName, ServiceName, SignalName};
use rules::past::Past;
use rules::ruleset::{RuleSet, shipped_matrix};
use rules::series::{Observer, RawSeries, Sample, Window};
use rules::signal::{Measure, Measurement, Observation, Reading, Signal};
use rules::units::Span;
use rules::verdict::Verdict;
use std::collections::BTreeMap;

/// One window a minute.
const WINDOW: u64 = 60;

fn at(second: u64) -> Timestamp {
    Span::from_seconds(1_800_000_000 + second).after(Timestamp::UNIX_EPOCH)
}

fn signal() -> Signal {
    let bad = BTreeMap::from([("code".to_owned(), "5..".to_owned())]);
    let measure = Measure::Proportion { of: "requests_total".into(), bad };
    Signal::new(SignalName::new("errors").expect("a good name"), "main", measure)
}

fn compare() -> Compare {
    let canary = BTreeMap::from([("version".to_owned(), "v2".to_owned())]);
    Compare { canary, control: BTreeMap::new(), with_before: false, share: None }
}

fn rules(matrix: &str, compares: bool) -> RuleSet {
    let service = ServiceName::new("checkout").expect("a good name");
    let environment = EnvironmentName::new("production").expect("a good name");
    let mut rules = RuleSet::unconfigured(service, environment, shipped_matrix(matrix).expect("it ships"));
    rules.signals.insert(signal().name, signal());
    rules.compare = compares.then(compare);
    rules.watch.soak = Span::default();
    rules
}

fn seen(bad: f64, total: f64, to: Timestamp) -> Observation {
    Observation::Seen { reading: Reading::Counts { bad, total }, newest: to }
}

/// The verdicts at each look over windows of `requests` with so many errors of canary and control.
fn verdicts(rules: RuleSet, canary: &[u32], control: &[u32], requests: f64) -> Vec<Verdict> {
    let end = canary.len() as u64 * WINDOW;
    let mut analysis = Analysis::new(rules, at(0), at(end));
    analysis.take_baseline(BTreeMap::new());
    let windows = canary.iter().zip(control).zip(1..);
    windows
        .map(|((canary, control), number)| {
            let (from, to) = (at((number - 1) * WINDOW), at(number * WINDOW));
            let plain = Measurement::plain(signal().name, from, to, seen(f64::from(*canary), requests, to));
            let control = Some(seen(f64::from(*control), requests, to));
            analysis.take(vec![Measurement { control, ..plain }]);
            analysis.judgement(to).verdict
        })
        .collect()
}

#[test]
fn seven_bad_windows_of_ten_are_never_healthy() {
    // A tenth of the requests fails in seven of ten windows. Compared window by window, three of ten look the same.
    let bad_first = [100, 100, 100, 100, 100, 100, 100, 1, 1, 1];
    let mut bad_last = bad_first;
    bad_last.reverse();
    for (order, soak) in [(bad_first, 0), (bad_last, 10)] {
        let mut rules = rules("canary", true);
        // Three good minutes with 3,000 requests are a pass of their own, unless more of them are asked for.
        rules.watch.soak = Span::from_minutes(soak);
        let verdicts = verdicts(rules, &order, &[1; 10], 1_000.0);
        assert!(!verdicts.contains(&Verdict::Healthy), "{order:?}: {verdicts:?}");
        assert!(matches!(verdicts.last(), Some(Verdict::Degraded(_))), "{order:?}: {verdicts:?}");
    }
}

#[test]
fn a_few_errors_against_none_are_inconclusive_while_there_are_few_requests() {
    for requests in [3.0, 10.0, 25.0, 50.0, 100.0] {
        let verdicts = verdicts(rules("canary", true), &[0, 1, 2, 1, 0, 0], &[0; 6], requests);
        assert_eq!(verdicts, [Verdict::Inconclusive; 6], "{requests} requests a window");
    }
}

#[test]
fn one_error_in_three_requests_is_no_verdict() {
    for matrix in ["canary", "standard", "cautious"] {
        for compares in [true, false] {
            // All at once, and one by one.
            let cases: [(&[u32], &[u32], f64); 3] =
                [(&[1], &[0], 3.0), (&[1, 0, 0], &[0, 0, 0], 1.0), (&[0, 0, 1], &[0, 0, 0], 1.0)];
            for (canary, control, requests) in cases {
                let found = verdicts(rules(matrix, compares), canary, control, requests);
                assert!(
                    found.iter().all(|verdict| *verdict == Verdict::Inconclusive),
                    "{matrix}, {canary:?} of {requests} each: {found:?}"
                );
            }
        }
    }
}

#[test]
fn one_error_in_three_requests_is_no_verdict_after_a_spotless_past_either() {
    let mut analysis = Analysis::new(rules("standard", false), at(7_200), at(7_260));
    let past = (0..24).map(|number| {
        let (from, to) = (at(number * 300), at((number + 1) * 300));
        Measurement::plain(signal().name, from, to, seen(0.0, 3_000.0, to))
    });
    analysis.take_baseline(BTreeMap::from([(signal().name, Past::trailing(past.collect()))]));
    let to = at(7_260);
    analysis.take(vec![Measurement::plain(signal().name, at(7_200), to, seen(1.0, 3.0, to))]);
    assert_eq!(analysis.outcome(to), Some(Verdict::Inconclusive));
}

/// Series of both releases, sampled every 15 s: good and bad requests add up; the control's values are NaN.
fn series_with_a_control_of_nan(seconds: u64) -> Vec<RawSeries> {
    let mut series = Vec::new();
    for version in ["v1", "v2"] {
        for (code, rate) in [("200", 10.0), ("500", 0.1)] {
            let labels = [("version", version), ("code", code)];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let value = |second: u64| if version == "v1" { f64::NAN } else { rate * second as f64 };
            let samples = (0..=seconds).step_by(15);
            let samples = samples.map(|second| Sample { at: at(second), value: value(second) });
            series.push(RawSeries::new(BTreeMap::from(labels), samples.collect()));
        }
    }
    series
}

#[test]
fn a_control_of_nothing_but_nan_is_blind_and_nothing_else() {
    let observer = Observer::comparing(&signal(), Some(&compare()), None).unwrap();
    let series = series_with_a_control_of_nan(600);
    let mut analysis = Analysis::new(rules("canary", true), at(0), at(600));
    analysis.take_baseline(BTreeMap::new());
    let mut verdicts = Vec::new();
    for to in (15..=600).step_by(15) {
        let window = Window { from: at(to - 15), to: at(to) };
        let measurement = observer.measure(&series, None, window, Span::from_seconds(30));
        assert!(matches!(measurement.control, Some(Observation::Failed { .. })), "{measurement:?}");
        analysis.take(vec![measurement]);
        verdicts.push(analysis.judgement(at(to)).verdict);
    }
    assert!(
        verdicts.iter().all(|verdict| matches!(verdict, Verdict::Blind | Verdict::Inconclusive)),
        "{verdicts:?}"
    );
    assert_eq!(verdicts.last(), Some(&Verdict::Blind));
    let report = analysis.report(at(600));
    assert!(report.blind[0].1.contains("NaN"), "{:?}", report.blind);
}
