//! Defects that a hostile reading of the engine found; each test states what ought to be, and failed before.

#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

use jiff::Timestamp;
use rules::analysis::Analysis;
use rules::compare::Compare;
use rules::ids::{EnvironmentName, ServiceName, SignalName};
use rules::past::Past;
use rules::ruleset::{RuleSet, shipped_matrix};
use rules::series::{Observer, RawSeries, Sample, Window};
use rules::signal::{Measure, Measurement, Observation, Reading, Signal};
use rules::units::{Quantity, Span, Unit};
use rules::verdict::Verdict;
use std::collections::BTreeMap;

fn at(second: u64) -> Timestamp {
    Span::from_seconds(1_800_000_000 + second).after(Timestamp::UNIX_EPOCH)
}

fn errors() -> Signal {
    let bad = BTreeMap::from([("code".to_owned(), "5..".to_owned())]);
    let measure = Measure::Proportion { of: "requests_total".into(), bad };
    Signal::new(SignalName::new("errors").unwrap(), "main", measure)
}

fn latency() -> Signal {
    let measure = Measure::Latency { buckets: "d_bucket".into(), quantile: 0.95 };
    Signal::new(SignalName::new("latency").unwrap(), "main", measure)
}

fn compare() -> Compare {
    let canary = BTreeMap::from([("version".to_owned(), "v2".to_owned())]);
    Compare { canary, control: BTreeMap::new(), with_before: false, share: None }
}

fn rules(signal: Signal, compares: bool) -> RuleSet {
    let service = ServiceName::new("checkout").unwrap();
    let environment = EnvironmentName::new("production").unwrap();
    let matrix = shipped_matrix(if compares { "canary" } else { "standard" }).unwrap();
    let mut rules = RuleSet::unconfigured(service, environment, matrix);
    rules.signals.insert(signal.name.clone(), signal);
    rules.compare = compares.then(compare);
    rules.statistics.dispersion = Some(1.0);
    rules
}

fn counts(bad: f64, total: f64) -> Reading {
    Reading::Counts { bad, total }
}

fn seen(reading: Reading, to: Timestamp) -> Observation {
    Observation::Seen { reading, newest: to }
}

fn look(name: &SignalName, from: u64, to: u64, own: Reading, control: Option<Reading>) -> Measurement {
    let plain = Measurement::plain(name.clone(), at(from), at(to), seen(own, at(to)));
    Measurement { control: control.map(|reading| seen(reading, at(to))), ..plain }
}

fn series(labels: &[(&str, &str)], values: &[(u64, f64)]) -> RawSeries {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let samples = values.iter().map(|(second, value)| Sample { at: at(*second), value: *value }).collect();
    RawSeries::new(labels, samples)
}

/// Looks every 10 s through the real observer, over series of five canary pods and one control.
fn judged(all: &[RawSeries], seconds: u64) -> Analysis {
    let observer = Observer::comparing(&errors(), Some(&compare()), None).unwrap();
    let mut analysis = Analysis::new(rules(errors(), true), at(0), at(3_600));
    analysis.take_baseline(BTreeMap::new());
    for to in (10..=seconds).step_by(10) {
        let window = Window { from: at(to - 10), to: at(to) };
        analysis.take(vec![observer.measure(all, None, window, Span::from_seconds(60))]);
    }
    analysis
}

/// A pod from `from` on with `good` and `bad` requests a second.
fn pod(version: &str, name: &str, from: u64, to: u64, good: f64, bad: f64) -> Vec<RawSeries> {
    [("200", good), ("500", bad)]
        .into_iter()
        .map(|(code, rate)| {
            let values: Vec<(u64, f64)> =
                (from..=to).step_by(5).map(|second| (second, rate * (second - from) as f64)).collect();
            series(&[("version", version), ("pod", name), ("code", code)], &values)
        })
        .collect()
}

/// A pod that dies: its last scrape had the errors, then Prometheus writes the stale marker.
#[test]
fn a_bad_pod_that_dies_is_left_out_too() {
    let mut all = pod("v1", "old", 0, 300, 50.0, 0.05);
    for name in ["a", "b", "c", "d"] {
        all.extend(pod("v2", name, 0, 300, 50.0, 0.05));
    }
    // Pod e answers well, then fails everything between the scrapes at 100 and 105 s, and is gone at 110 s.
    for (code, last) in [("200", 5_000.0), ("500", 250.0)] {
        let mut one = series(&[("version", "v2"), ("pod", "e"), ("code", code)], &[]);
        for second in (0..=100).step_by(5) {
            let value = if code == "200" { 50.0 * second as f64 } else { 0.0 };
            one.samples.push(Sample { at: at(second), value });
        }
        one.samples.push(Sample { at: at(105), value: last });
        one.samples.push(Sample::stale(at(110)));
        all.push(one);
    }
    let analysis = judged(&all, 300);
    let evidence = analysis.evidence().signals.values().next().unwrap();
    let verdict = analysis.judgement(at(300)).verdict;
    assert!(
        !matches!(verdict, Verdict::Degraded(_)),
        "{verdict:?}, outliers {:?}, {:?} of all {:?}",
        evidence.outliers(0.01),
        evidence.worse_log_e(),
        evidence.worse_log_e_of_all()
    );
}

/// Pods come one by one. The first is on a bad host, and was not enough to convict while it was alone.
#[test]
fn what_the_first_pod_did_alone_is_left_out_with_it() {
    let mut all = pod("v1", "old", 0, 300, 50.0, 0.5);
    all.extend(pod("v2", "a", 0, 300, 50.0, 25.0));
    for name in ["b", "c", "d", "e"] {
        all.extend(pod("v2", name, 10, 300, 50.0, 0.5));
    }
    let analysis = judged(&all, 300);
    let evidence = analysis.evidence().signals.values().next().unwrap();
    let verdict = analysis.judgement(at(300)).verdict;
    assert!(
        !matches!(verdict, Verdict::Degraded(_)),
        "{verdict:?}, outliers {:?}, now {:?} of all {:?}",
        evidence.outliers(0.01),
        evidence.worse_log_e(),
        evidence.worse_log_e_of_all()
    );
}

/// A canary whose pods need two minutes to start gets its minute to come into the rotation, too.
#[test]
fn a_canary_that_starts_late_is_not_starved_at_once() {
    let mut rules = rules(errors(), true);
    rules.compare.as_mut().unwrap().share = Some(Quantity { value: 0.2, unit: Unit::Percent });
    let mut analysis = Analysis::new(rules, at(0), at(3_600));
    analysis.take_baseline(BTreeMap::new());
    let name = errors().name;
    for to in (10..=180).step_by(10) {
        let absent = Observation::Absent { reason: "no series matches the selector".into() };
        let hole = Measurement::plain(name.clone(), at(to - 10), at(to), absent);
        let control = Some(seen(counts(1.0, 1_000.0), at(to)));
        analysis.take(vec![Measurement { control, ..hole }]);
    }
    // Scraped for the first time; ready and in the rotation ten seconds later.
    analysis.take(vec![look(&name, 180, 190, counts(0.0, 0.0), Some(counts(1.0, 1_000.0)))]);
    let verdict = analysis.judgement(at(190)).verdict;
    assert!(!matches!(verdict, Verdict::Degraded(_)), "{verdict:?}");
}

fn buckets(fast: f64, middle: f64, slow: f64) -> Reading {
    Reading::Buckets { bounds: vec![0.1, 0.25, 0.5, 1.0], counts: vec![fast, middle, slow, 0.0, 0.0] }
}

/// The window that told where the cuts lie is not counted at those cuts.
#[test]
fn the_window_that_chose_the_cut_is_not_judged_by_it() {
    let mut rules = rules(latency(), true);
    rules.watch.warm_up = Span::default();
    let mut analysis = Analysis::new(rules, at(0), at(3_600));
    analysis.take_baseline(BTreeMap::new());
    let name = latency().name;
    let control = buckets(900.0, 60.0, 40.0);
    analysis.take(vec![look(&name, 0, 10, buckets(500.0, 200.0, 300.0), Some(control))]);
    let evidence = &analysis.evidence().signals[&name];
    assert!(evidence.before().is_some(), "the control told where its quantiles lie");
    assert_eq!(evidence.worse_log_e(), Some(0.0), "fixed before it saw data");
}

/// `with_before` averages canary-against-control with after-against-before. Without a past there is no "before".
#[test]
fn the_present_of_the_control_is_no_past() {
    let mut rules = rules(latency(), true);
    rules.compare.as_mut().unwrap().with_before = true;
    let mut analysis = Analysis::new(rules, at(0), at(3_600));
    analysis.take_baseline(BTreeMap::new());
    let name = latency().name;
    let quiet = || buckets(950.0, 45.0, 5.0);
    for to in (10..=200).step_by(10) {
        analysis.take(vec![look(&name, to - 10, to, quiet(), Some(quiet()))]);
    }
    // A shared database is slow: both arms alike.
    for to in (210..=400).step_by(10) {
        let burst = || buckets(500.0, 200.0, 300.0);
        analysis.take(vec![look(&name, to - 10, to, burst(), Some(burst()))]);
    }
    let evidence = &analysis.evidence().signals[&name];
    let log_e = evidence.worse_log_e().unwrap();
    assert!(log_e < 5.0_f64.ln(), "both arms are the same, and yet {log_e}");
}

/// Every pod of the canary is bad in the same way; the evidence that convicts is that of `with_before`.
#[test]
fn nobody_is_an_outlier_when_all_pods_are_alike() {
    let mut rules = rules(errors(), true);
    rules.compare.as_mut().unwrap().with_before = true;
    let mut analysis = Analysis::new(rules, at(7_200), at(10_800));
    let name = errors().name;
    let past = (0..24).map(|n| look(&name, n * 300, (n + 1) * 300, counts(30.0, 3_000.0), None));
    analysis.take_baseline(BTreeMap::from([(name.clone(), Past::trailing(past.collect()))]));
    for to in (7_210..=9_000).step_by(10) {
        // 5 % instead of 1 %, on every one of four pods; the control is small.
        let mut measurement = look(&name, to - 10, to, counts(4.0, 80.0), Some(counts(0.01, 1.0)));
        measurement.instances =
            ["a", "b", "c", "d"].map(|pod| (pod.to_owned(), counts(1.0, 20.0))).into_iter().collect();
        analysis.take(vec![measurement]);
        let evidence = &analysis.evidence().signals[&name];
        let outliers = evidence.outliers(0.01);
        assert!(outliers.is_empty(), "{} s: {outliers:?}", to - 7_200);
    }
}

/// The same for latency: every pod is slower at the median, the p95 stays in its bucket.
#[test]
fn a_slower_median_on_every_pod_is_found_and_no_pod_is_named() {
    let mut analysis = Analysis::new(rules(latency(), true), at(7_200), at(10_800));
    let name = latency().name;
    let control = || buckets(600.0, 360.0, 40.0);
    let past = (0..24).map(|n| look(&name, n * 300, (n + 1) * 300, control(), None));
    analysis.take_baseline(BTreeMap::from([(name.clone(), Past::trailing(past.collect()))]));
    for to in (7_210..=9_000).step_by(10) {
        let mut measurement = look(&name, to - 10, to, buckets(200.0, 760.0, 40.0), Some(control()));
        measurement.instances = ["a", "b", "c", "d"]
            .map(|pod| (pod.to_owned(), buckets(50.0, 190.0, 10.0)))
            .into_iter()
            .collect();
        analysis.take(vec![measurement]);
    }
    let evidence = &analysis.evidence().signals[&name];
    assert!(
        evidence.outliers(0.01).is_empty(),
        "{:?}, {:?} of all {:?}",
        evidence.outliers(0.01),
        evidence.worse_log_e(),
        evidence.worse_log_e_of_all()
    );
}

/// Without a control an onset is dated on the deployment's clock, warm-up or not.
#[test]
fn the_warm_up_does_not_shift_the_beginning() {
    let mut analysis = Analysis::new(rules(latency(), false), at(7_200), at(10_800));
    let name = latency().name;
    let good = || buckets(900.0, 80.0, 20.0);
    let past = (0..24).map(|n| look(&name, n * 300, (n + 1) * 300, good(), None)).collect();
    let recent = (0..10).map(|n| look(&name, 6_600 + n * 60, 6_660 + n * 60, good(), None)).collect();
    let past = Past { trailing: past, recent, ..Past::default() };
    analysis.take_baseline(BTreeMap::from([(name.clone(), past)]));
    for to in (7_210..=8_000).step_by(10) {
        let reading = if to <= 7_500 { good() } else { buckets(500.0, 200.0, 300.0) };
        analysis.take(vec![look(&name, to - 10, to, reading, None)]);
    }
    let began = analysis.evidence().signals[&name].beginning().expect("it is shown");
    assert!((began.seconds - 300.0).abs() < 30.0, "it began 300 s after the deployment: {began:?}");
}

/// A latency without any past is not "warming up" for ever.
#[test]
fn without_a_reference_nothing_warms_up_for_ever() {
    let mut analysis = Analysis::new(rules(latency(), false), at(0), at(3_600));
    analysis.take_baseline(BTreeMap::new());
    let name = latency().name;
    for to in (10..=1_800).step_by(10) {
        analysis.take(vec![look(&name, to - 10, to, buckets(900.0, 80.0, 20.0), None)]);
    }
    assert_eq!(analysis.evidence().signals[&name].warming_requests(), None, "half an hour, 180,000 requests");
}

/// New buckets in the new release: nothing can be compared, and that is a hole, not full coverage.
#[test]
fn a_layout_that_cannot_be_cut_is_a_hole() {
    let mut analysis = Analysis::new(rules(latency(), false), at(7_200), at(10_800));
    let name = latency().name;
    let good = || buckets(900.0, 80.0, 20.0);
    let past = (0..24).map(|n| look(&name, n * 300, (n + 1) * 300, good(), None)).collect();
    analysis.take_baseline(BTreeMap::from([(name.clone(), Past::trailing(past))]));
    for to in (7_210..=9_000).step_by(10) {
        let other = Reading::Buckets { bounds: vec![0.2, 0.4], counts: vec![900.0, 80.0, 20.0] };
        analysis.take(vec![look(&name, to - 10, to, other, None)]);
    }
    let evidence = &analysis.evidence().signals[&name];
    assert!(evidence.hole.is_some(), "counted {:?}", evidence.counts());
}

/// One look at eight native latencies with 32 pods each fits into a record of the ledger (1 MiB).
#[test]
fn one_look_fits_into_a_record() {
    let bounds: Vec<f64> = (-96..=56).map(|n| 2.0_f64.powf(f64::from(n) / 8.0)).collect();
    let reading = || Reading::Buckets { bounds: bounds.clone(), counts: vec![1_234.0; 154] };
    let signals: Vec<Measurement> = (0..8)
        .map(|n| {
            let name = SignalName::new(format!("latency{n}")).unwrap();
            let mut one = look(&name, 0, 10, reading(), Some(reading()));
            one.instances =
                (0..32).map(|pod| (format!("checkout-7d9f8b6c5d-abc{pod:02}"), reading())).collect();
            one
        })
        .collect();
    // Whatever is written down goes through this door.
    let signals: Vec<Measurement> = signals.into_iter().map(Measurement::checked).collect();
    let bytes = serde_json::to_string(&signals).unwrap().len();
    assert!(bytes < 1024 * 1024, "{bytes} bytes, {} a signal and look", bytes / 8);
}

/// Healthy at minute six, then not one request for the rest of the hour.
#[test]
fn an_hour_without_requests_is_not_healthy() {
    let mut analysis = Analysis::new(rules(errors(), false), at(7_200), at(10_800));
    let name = errors().name;
    let past = (0..24).map(|n| look(&name, n * 300, (n + 1) * 300, counts(3.0, 3_000.0), None));
    analysis.take_baseline(BTreeMap::from([(name.clone(), Past::trailing(past.collect()))]));
    for to in (7_210..=10_800).step_by(10) {
        let own = if to <= 7_560 { counts(0.0, 100.0) } else { counts(0.0, 0.0) };
        analysis.take(vec![look(&name, to - 10, to, own, None)]);
    }
    assert_ne!(analysis.judgement(at(10_800)).verdict, Verdict::Healthy, "nobody used it for 54 minutes");
}

/// A pod that is evicted and comes back under another name on the same bad host: still one bad pod at any time.
#[test]
fn a_bad_pod_under_two_names_is_left_out() {
    let mut all = pod("v1", "old", 0, 600, 50.0, 0.5);
    for name in ["b", "c", "d", "e"] {
        all.extend(pod("v2", name, 0, 600, 50.0, 0.5));
    }
    all.extend(pod("v2", "a-1", 0, 300, 50.0, 25.0));
    all.extend(pod("v2", "a-2", 300, 600, 50.0, 25.0));
    let verdict = judged(&all, 600).judgement(at(600)).verdict;
    assert!(!matches!(verdict, Verdict::Degraded(_)), "{verdict:?}");
}

/// Evidence of five to one that the canary is starved holds a pass back, like all evidence that it is bad.
#[test]
fn what_looks_starved_is_not_passed() {
    let mut rules = rules(errors(), true);
    rules.compare.as_mut().unwrap().share = Some(Quantity { value: 0.2, unit: Unit::Percent });
    rules.watch.soak = Span::from_seconds(60);
    let mut analysis = Analysis::new(rules, at(0), at(3_600));
    analysis.take_baseline(BTreeMap::new());
    let name = errors().name;
    for to in (10..=1_200).step_by(10) {
        analysis.take(vec![look(&name, to - 10, to, counts(0.0, 80.0), Some(counts(0.0, 920.0)))]);
        let (verdict, suspicious) = (analysis.judgement(at(to)).verdict, analysis.evidence().is_suspicious());
        assert!(!(suspicious && verdict == Verdict::Healthy), "{to} s");
    }
}

/// At the median requests come in bigger bunches than at the p95; every cut is tempered by its own dispersion.
#[test]
fn every_cut_has_its_own_dispersion() {
    let mut rules = rules(latency(), true);
    rules.statistics.dispersion = None;
    let mut analysis = Analysis::new(rules, at(7_200), at(10_800));
    let name = latency().name;
    let swing = |n: u64| if n.is_multiple_of(2) { (65.0, 35.0) } else { (35.0, 65.0) };
    let half = |(fast, slow): (f64, f64), n: u64| {
        let tail = if n.is_multiple_of(3) { 4.0 } else { 3.0 };
        buckets(fast * 10.0, slow * 10.0 - 10.0 * tail, 10.0 * tail)
    };
    let past = (0..24).map(|n| {
        let (a, b) = (half(swing(n), n), half(swing(n + 1), n));
        let mut one = look(&name, n * 300, (n + 1) * 300, a.plus(&b).unwrap(), None);
        one.instances = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        one
    });
    analysis.take_baseline(BTreeMap::from([(name.clone(), Past::trailing(past.collect()))]));
    // The null: canary and control swing as the two halves of the old release did.
    let mut most = f64::MIN;
    for (n, to) in (0..).zip((7_210..=10_800).step_by(10)) {
        // Which arm is slow is a coin that came up in a fixed order.
        let coin = (n * 7 + n * n / 5) % 2;
        let (own, control) = (half(swing(coin), n), half(swing(coin + 1), n));
        analysis.take(vec![look(&name, to - 10, to, own, Some(control))]);
        most = most.max(analysis.evidence().signals[&name].worse_log_e().unwrap());
    }
    let evidence = &analysis.evidence().signals[&name];
    let cluster = evidence.cluster(&analysis.rules().statistics);
    assert!(most < 100.0_f64.ln(), "{most} nats, divided by {cluster}, cuts {:?}", evidence.before());
}

/// The canary is promoted and the old release is gone: that is not "telemetry is broken".
#[test]
fn a_promoted_canary_is_not_blind() {
    let mut analysis = Analysis::new(rules(errors(), true), at(0), at(3_600));
    analysis.take_baseline(BTreeMap::new());
    let name = errors().name;
    let mut passed = false;
    for to in (10..=2_400).step_by(10) {
        let control = (to <= 1_200).then(|| counts(0.0, 500.0));
        let mut one = look(&name, to - 10, to, counts(0.0, 500.0), control);
        let gone = || Observation::Absent { reason: "all 2 series have ended".into() };
        one.control.get_or_insert_with(gone);
        analysis.take(vec![one]);
        passed |= analysis.judgement(at(to)).verdict == Verdict::Healthy;
    }
    assert!(passed);
    assert_ne!(analysis.judgement(at(2_400)).verdict, Verdict::Blind);
}

/// After 64 names every later pod is left out together: a release bad on every pod is not seen any more.
#[test]
fn many_names_do_not_hide_a_bad_release() {
    let mut analysis = Analysis::new(rules(errors(), true), at(0), at(3_600));
    analysis.take_baseline(BTreeMap::new());
    let name = errors().name;
    for (n, to) in (0..).zip((10..=2_400_u64).step_by(10)) {
        // Spot instances: the four pods are replaced every two minutes.
        let generation = n / 12;
        let bad = if to <= 2_000 { 1.0 } else { 50.0 };
        let mut one = look(&name, to - 10, to, counts(4.0 * bad, 400.0), Some(counts(4.0, 400.0)));
        one.instances = (0..4).map(|pod| (format!("pod-{generation}-{pod}"), counts(bad, 100.0))).collect();
        analysis.take(vec![one]);
    }
    let evidence = &analysis.evidence().signals[&name];
    let verdict = analysis.judgement(at(2_400)).verdict;
    assert!(
        matches!(verdict, Verdict::Degraded(_)),
        "{verdict:?}, {:?} of all {:?}, outliers {:?}",
        evidence.worse_log_e(),
        evidence.worse_log_e_of_all(),
        evidence.outliers(0.01)
    );
}

/// A ledger that the release before wrote can be read.
#[test]
fn the_past_that_was_written_before_is_read() {
    let old = r#"{"baseline_taken":{"windows":{}}}"#;
    let entry: Result<rules::watch::Entry, _> = serde_json::from_str(old);
    assert!(entry.is_ok(), "{entry:?}");
}

/// A small generator: uniform in [0, 1).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        ((mixed ^ (mixed >> 33)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn of(&mut self, n: u32, p: f64) -> f64 {
        (0..n).map(|_| f64::from(u8::from(self.roll() < p))).sum()
    }
}

/// How often a null watch fires at 1 %: pods swing at the median (one share a window), and not at the p95.
#[test]
fn swings_at_the_median_do_not_fire() {
    let mut dice = Dice(7);
    let (mut fired, runs) = (0, 200);
    for _ in 0..runs {
        let mut arm = |n: u32| {
            let slow_half = if dice.roll() < 0.5 { 0.35 } else { 0.65 };
            let above_median = dice.of(n, slow_half);
            let tail = dice.of(n, 0.04).min(above_median);
            buckets(f64::from(n) - above_median, above_median - tail, tail)
        };
        let mut rules = rules(latency(), true);
        rules.statistics.dispersion = None;
        let mut analysis = Analysis::new(rules, at(7_200), at(10_800));
        let name = latency().name;
        let past: Vec<Measurement> = (0..24)
            .map(|n| {
                let (a, b) = (arm(300), arm(300));
                let mut one = look(&name, n * 300, (n + 1) * 300, a.plus(&b).unwrap(), None);
                one.instances = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
                one
            })
            .collect();
        analysis.take_baseline(BTreeMap::from([(name.clone(), Past::trailing(past))]));
        for to in (7_210..=9_000).step_by(10) {
            analysis.take(vec![look(&name, to - 10, to, arm(300), Some(arm(300)))]);
        }
        fired += i32::from(matches!(analysis.judgement(at(9_000)).verdict, Verdict::Degraded(_)));
    }
    assert!(fired <= 6, "{fired} of {runs} null watches fired at alpha = 1 %");
}

/// The mean e-value after one counted window at the border of the null: at most 1 for an e-process. The cut comes from
/// the control's first 220 requests: in the counted window itself, or in one before it (during the warm-up).
fn mean_e(calibrated_before: bool, runs: u32) -> f64 {
    let bounds: Vec<f64> = (-96..=56).map(|n| 2.0_f64.powf(f64::from(n) / 8.0)).collect();
    let mut dice = Dice(11);
    let mut sum = 0.0;
    for _ in 0..runs {
        // Beyond any edge the canary is 25 % more often: the border of the null.
        let mut arm = |more: f64| {
            let mut counts = vec![0.0; 154];
            for _ in 0..220 {
                let seconds = 0.05 * (dice.roll() / more).max(1e-9).powf(-0.4);
                counts[bounds.partition_point(|edge| *edge < seconds)] += 1.0;
            }
            Reading::Buckets { bounds: bounds.clone(), counts }
        };
        let mut rules = rules(latency(), true);
        rules.watch.warm_up = Span::from_seconds(if calibrated_before { 10 } else { 0 });
        let mut analysis = Analysis::new(rules, at(0), at(3_600));
        analysis.take_baseline(BTreeMap::new());
        let name = latency().name;
        if calibrated_before {
            analysis.take(vec![look(&name, 0, 10, arm(1.25), Some(arm(1.0)))]);
        }
        analysis.take(vec![look(&name, 10, 20, arm(1.25), Some(arm(1.0)))]);
        sum += analysis.evidence().signals[&name].worse_log_e().unwrap().exp();
    }
    sum / f64::from(runs)
}

#[test]
fn choosing_the_cut_and_counting_at_it_are_apart() {
    let (apart, together) = (mean_e(true, 2_000), mean_e(false, 2_000));
    assert!(apart <= 1.05 && together <= 1.05, "mean e-value: apart {apart}, in one window {together}");
}

/// The collector keeps at most 30,000 numbers of a baseline, "some twenty bytes each"; the names of instances count, too.
/// Ten signals with 32 pods each: by its own account 37 windows of 78 numbers a signal.
#[test]
fn a_baseline_with_instances_fits_into_a_record() {
    let name = SignalName::new("errors-of-the-checkout").unwrap();
    let mut one = look(&name, 0, 300, counts(12.0, 12_345.0), None);
    one.instances =
        (0..32).map(|pod| (format!("checkout-7d9f8b6c5d-abc{pod:02}"), counts(1.0, 1_234.0))).collect();
    let bytes = serde_json::to_string(&vec![one; 37]).unwrap().len() * 10;
    assert!(bytes < 1024 * 1024, "{bytes} bytes");
}
