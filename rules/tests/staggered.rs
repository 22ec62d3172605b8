//! Pods are scraped one after the other: between two scrapes of one arm there is one of the other. A window as long as a look
//! then often holds requests of one arm only, or of one pod, and none of that may change what is found.

#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

use jiff::Timestamp;
use rules::compare::Compare;
use rules::evidence::{Evidence, Finding};
use rules::ids::{EnvironmentName, ServiceName, SignalName};
use rules::matrix::{Bound, Truth};
use rules::past::Past;
use rules::ruleset::{RuleSet, Statistics, shipped_matrix};
use rules::signal::{Measure, Measurement, Observation, Reading, Signal};
use std::collections::BTreeMap;

/// Seconds between two scrapes of one pod.
const SCRAPES: i64 = 5;
const PODS: usize = 3;
/// Requests between two scrapes of a pod of the canary; the control has one pod that serves as many as all of them.
const REQUESTS: f64 = 100.0;

fn errors() -> SignalName {
    SignalName::new("errors").unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn rules() -> RuleSet {
    let (service, production) =
        (ServiceName::new("checkout").unwrap(), EnvironmentName::new("production").unwrap());
    let mut rules = RuleSet::unconfigured(service, production, shipped_matrix("canary").unwrap());
    let measure = Measure::Proportion { of: "requests_total".into(), bad: BTreeMap::new() };
    rules.signals.insert(errors(), Signal::new(errors(), "made-up", measure));
    let arm = |track: &str| BTreeMap::from([("track".to_owned(), track.to_owned())]);
    rules.compare =
        Some(Compare { canary: arm("canary"), control: arm("control"), with_before: false, share: None });
    rules.statistics = Statistics { dispersion: Some(1.0), ..Statistics::default() };
    rules
}

/// A canary whose pods fail for these shares of their requests, against a control with one failure in a hundred, after
/// `seconds` of looks every `look` seconds. Pods are scraped in the seconds 1, 2 and 3 of five, the control in the fourth.
fn watched(bad: [f64; PODS], look: i64, seconds: i64) -> Evidence {
    let rules = rules();
    let mut evidence = Evidence::new(&rules, at(0));
    evidence.take_baseline(&BTreeMap::from([(errors(), Past::default())]), &rules);
    for to in (1..=seconds).filter(|second| second % look == 0) {
        let scraped = |place: i64| {
            let scrapes = (to - look + 1..=to).filter(|second| second % SCRAPES == place).count();
            scrapes as f64
        };
        let counts = |bad: f64, total: f64| Reading::Counts { bad, total };
        let pods = (0..PODS).map(|pod| (format!("pod-{pod}"), scraped(pod as i64 + 1), bad[pod]));
        let pods: BTreeMap<String, Reading> = pods
            .filter(|(_, scrapes, _)| *scrapes > 0.0)
            .map(|(name, scrapes, bad)| (name, counts(scrapes * bad * REQUESTS, scrapes * REQUESTS)))
            .collect();
        let own = pods.values().fold(counts(0.0, 0.0), |sum, pod| sum.plus(pod).unwrap());
        let all = scraped(4) * REQUESTS * PODS as f64;
        let seen = |reading| Observation::Seen { reading, newest: at(to) };
        let measurement = Measurement {
            control: Some(seen(counts(0.01 * all, all))),
            instances: pods,
            ..Measurement::plain(errors(), at(to - look), at(to), seen(own))
        };
        evidence.take(&measurement, &rules);
    }
    evidence
}

fn worse(evidence: &Evidence) -> Finding {
    evidence.finding(&errors(), Bound::Worse, &rules().statistics)
}

#[test]
fn a_bad_canary_is_found_whether_or_not_its_pods_are_scraped_together() {
    for look in [1, 2, 5, 10] {
        let evidence = watched([0.05; PODS], look, 30);
        let finding = worse(&evidence);
        assert_eq!(finding.truth, Truth::Holds, "look {look}: {finding:#?}");
        let signal = &evidence.signals[&errors()];
        assert_eq!(signal.outliers(rules().statistics.alpha), Vec::<&str>::new(), "look {look}");
        let ratio = finding.ratio.unwrap();
        let upper = ratio.interval.upper.unwrap_or(f64::INFINITY);
        assert!(ratio.interval.lower > 1.0 && upper < 40.0, "look {look}: {ratio:?}");
        let began = finding.beginning.unwrap();
        assert!(began.earliest < 1.0 && began.seconds < 6.0 && began.latest < 16.0, "look {look}: {began:?}");
    }
}

#[test]
fn one_bad_pod_is_named_and_a_good_canary_left_alone_whatever_is_scraped_together() {
    for look in [1, 2, 5, 10] {
        let evidence = watched([0.01, 0.3, 0.01], look, 60);
        assert_eq!(worse(&evidence).truth, Truth::Unknown, "look {look}");
        let signal = &evidence.signals[&errors()];
        assert_eq!(signal.outliers(rules().statistics.alpha), ["pod-1"], "look {look}");
        let evidence = watched([0.01; PODS], look, 600);
        assert!(worse(&evidence).log_e.unwrap() < 0.0, "look {look}");
        assert!(evidence.shown_healthy(&rules().statistics), "look {look}");
        let ratio = worse(&evidence).ratio.unwrap();
        assert!(ratio.interval.lower > 0.3 && ratio.interval.upper.unwrap() < 3.0, "look {look}: {ratio:?}");
    }
}

/// The first minutes of a latency are not counted; they are minutes all the same.
#[test]
fn a_beginning_is_dated_from_the_deployment_and_not_from_the_end_of_the_warm_up() {
    let name = SignalName::new("latency").unwrap();
    let mut rules = rules();
    let measure = Measure::Latency { buckets: "seconds_bucket".into(), quantile: 0.95 };
    rules.signals = BTreeMap::from([(name.clone(), Signal::new(name.clone(), "made-up", measure))]);
    let mut evidence = Evidence::new(&rules, at(0));
    evidence.take_baseline(&BTreeMap::from([(name.clone(), Past::default())]), &rules);
    for to in (10..=300).step_by(10) {
        let buckets = |slow: f64| Reading::Buckets { bounds: vec![0.1], counts: vec![1_000.0 - slow, slow] };
        let seen = |reading| Observation::Seen { reading, newest: at(to) };
        let measurement = Measurement {
            control: Some(seen(buckets(20.0))),
            ..Measurement::plain(
                name.clone(),
                at(to - 10),
                at(to),
                seen(buckets(if to > 200 { 200.0 } else { 20.0 })),
            )
        };
        evidence.take(&measurement, &rules);
    }
    let began = evidence.finding(&name, Bound::Worse, &rules.statistics).beginning.unwrap();
    assert!(began.earliest >= 190.0 && began.latest <= 210.0, "{began:?}");
}
