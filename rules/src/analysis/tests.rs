//! When an analysis ends, and with which word: one table a question.

use super::*;
use crate::compare::Compare;
use crate::ids::{EnvironmentName, ServiceName};
use crate::matrix::Severity;
use crate::ruleset::shipped_matrix;
use crate::signal::{Measure, Observation, Reading, Role, Signal};

const MINUTE: u64 = 60;

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(second).unwrap()).unwrap()
}

fn errors() -> SignalName {
    SignalName::new("errors").unwrap()
}

/// Errors of canary against control, a soak of one minute, ten minutes in all.
fn rules() -> RuleSet {
    let matrix = shipped_matrix("canary").unwrap();
    let service = ServiceName::new("checkout").unwrap();
    let mut rules = RuleSet::unconfigured(service, EnvironmentName::new("production").unwrap(), matrix);
    let bad = BTreeMap::from([("code".to_owned(), "5..".to_owned())]);
    let measure = Measure::Proportion { of: "requests_total".into(), bad };
    rules.signals.insert(errors(), Signal::new(errors(), "main", measure));
    let canary = BTreeMap::from([("version".to_owned(), "v2".to_owned())]);
    rules.compare = Some(Compare { canary, control: BTreeMap::new(), with_before: false, share: None });
    rules.watch.watch_for = Span::from_minutes(10);
    rules.watch.soak = Span::from_minutes(1);
    rules.statistics.dispersion = Some(1.0);
    rules
}

fn analysis() -> Analysis {
    let mut analysis = Analysis::new(rules(), at(0), at(10 * MINUTE));
    analysis.take_baseline(BTreeMap::new());
    analysis
}

fn counts(bad: f64, total: f64, to: Timestamp) -> Observation {
    Observation::Seen { reading: Reading::Counts { bad, total }, newest: to }
}

/// A window of ten seconds that ends at `to`.
fn window(to: u64, canary: (f64, f64), control: (f64, f64)) -> Measurement {
    let observation = counts(canary.0, canary.1, at(to));
    let control = Some(counts(control.0, control.1, at(to)));
    Measurement { control, ..Measurement::plain(errors(), at(to - 10), at(to), observation) }
}

/// The same windows one after the other until there is an answer: it, and when.
fn until_answered(analysis: &mut Analysis, canary: (f64, f64), control: (f64, f64)) -> (Verdict, u64) {
    (10..=600)
        .step_by(10)
        .find_map(|second| {
            analysis.take(vec![window(second, canary, control)]);
            Some((analysis.outcome(at(second))?, second))
        })
        .expect("at the deadline there is an answer")
}

#[test]
fn it_ends_when_something_is_shown_and_at_the_deadline_in_any_case() {
    // What canary and control do in ten seconds, the word, and by when it must be said (seconds).
    let cases = [
        ("a step to five times the errors", (25.0, 500.0), (5.0, 500.0), "degraded (P2)", 60),
        ("a fifth of everything fails", (100.0, 500.0), (5.0, 500.0), "degraded (P1)", 20),
        ("both fail alike", (5.0, 500.0), (5.0, 500.0), "healthy", 120),
        ("both are bad alike", (25.0, 500.0), (25.0, 500.0), "healthy", 120),
        ("too little to tell", (0.0, 1.0), (0.0, 1.0), "inconclusive", 600),
        ("no requests at all", (0.0, 0.0), (0.0, 0.0), "inconclusive", 600),
    ];
    for (name, canary, control, verdict, by) in cases {
        let (said, second) = until_answered(&mut analysis(), canary, control);
        assert_eq!(said.to_string(), verdict, "{name}");
        assert!(second <= by, "{name}: after {second} s");
        assert!(said != Verdict::Healthy || second >= MINUTE, "{name}: healthy before the soak is over");
    }
}

#[test]
fn blind_is_said_when_patience_is_over_and_at_the_deadline() {
    let hole = |to: u64| {
        let reason = "connection refused".to_owned();
        Measurement::plain(errors(), at(to - 10), at(to), Observation::Failed { reason })
    };
    // Until when there are data, and when it must be said which word.
    let cases = [
        ("nothing ever", 0, 120, "blind"),
        ("seen for a minute", 60, 180, "blind"),
        ("the last half minute is missing", 570, 600, "inconclusive"),
        ("the last quarter is missing, less than the patience", 490, 600, "inconclusive"),
        ("seen until the end", 600, 600, "inconclusive"),
    ];
    for (name, seen, when, word) in cases {
        let mut analysis = analysis();
        let answer = (10..=600).step_by(10).find_map(|to| {
            let window = if to <= seen { window(to, (0.0, 1.0), (0.0, 1.0)) } else { hole(to) };
            analysis.take(vec![window]);
            Some((analysis.outcome(at(to))?.to_string(), to))
        });
        assert_eq!(answer, Some((word.to_owned(), when)), "{name}");
    }
    // A short analysis does not wait for a patience that is longer than itself.
    let mut short = Analysis::new(rules(), at(0), at(MINUTE));
    short.take_baseline(BTreeMap::new());
    short.take(vec![hole(10)]);
    assert_eq!((short.outcome(at(59)), short.outcome(at(60))), (None, Some(Verdict::Blind)));
    assert_eq!(short.report(at(60)).ended, "the time is over, and it cannot be seen");
}

#[test]
fn a_beginning_in_the_past_is_judged_as_if_it_had_been_looked_at() {
    let opened = 5 * MINUTE;
    let mut late = analysis().opened(at(opened));
    // Nobody can be blind before somebody looks.
    assert_eq!(late.outcome(at(opened)), None);
    late.take((10..=300).step_by(10).map(|to| window(to, (5.0, 500.0), (5.0, 500.0))).collect());
    assert_eq!(late.outcome(at(opened)), Some(Verdict::Healthy));
    let mut over = analysis().opened(at(60 * MINUTE));
    assert_eq!(over.outcome(at(60 * MINUTE)), Some(Verdict::Blind), "of the past everything can be read");
    over.take((10..=300).step_by(10).map(|to| window(to, (0.0, 1.0), (0.0, 1.0))).collect());
    assert_eq!(over.outcome(at(60 * MINUTE)), Some(Verdict::Inconclusive));
    assert_eq!(over.report(at(60 * MINUTE)).until, at(10 * MINUTE));
}

#[test]
fn without_a_past_nothing_is_said_before_the_deadline() {
    let mut rules = rules();
    rules.compare = None;
    let mut analysis = Analysis::new(rules, at(0), at(MINUTE));
    let bad = |to: u64| Measurement::plain(errors(), at(to - 10), at(to), counts(400.0, 500.0, at(to)));
    analysis.take(vec![bad(10)]);
    assert_eq!(analysis.outcome(at(10)), None, "the past is on its way");
    analysis.take_baseline(BTreeMap::new());
    assert_eq!(
        analysis.outcome(at(10)),
        Some(Verdict::Degraded(Severity::P1)),
        "a fixed bound needs no past"
    );
}

#[test]
fn the_report_says_what_is_missing_and_how_much_of_it() {
    let mut analysis = analysis();
    analysis.take(vec![window(10, (0.0, 20.0), (0.0, 20.0))]);
    let report = analysis.report(at(10));
    assert_eq!((report.verdict, report.ended), ("inconclusive", "it is not over"));
    let more = report.signals[0].requests_to_pass.unwrap();
    // Against 1 %: ln(20) / -ln(0.99) = 298 requests without an error, less the 20 seen, and what the price of not
    // knowing the truth adds.
    assert!((200..2_000).contains(&more), "{more}");
    assert_eq!(
        report.missing,
        [format!("errors: about {more} more requests"), "50s until the soak time of 1m is over".into()]
    );
    assert_eq!(report.signals[0].reference, Reference::Control(arm_of(0.0, 20.0)));

    until_answered(&mut analysis, (100.0, 500.0), (5.0, 500.0));
    let report = analysis.report(at(30));
    assert_eq!((report.verdict, report.severity), ("degraded", Some(Severity::P1)));
    assert_eq!(report.row.as_deref(), Some("canary-errors-above-10-percent"));
    assert_eq!(report.worse_signals, ["errors"]);
    let ratio = report.signals[0].ratio.unwrap();
    assert!(ratio.lower > 1.25 && ratio.now.unwrap() > 15.0, "{ratio:?}");
    assert!(report.rows.iter().all(|row| row.bounds.iter().all(|bound| bound.words.starts_with("errors"))));
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains("\"verdict\":\"degraded\"") && !json.contains("NaN"), "{json}");
}

fn arm_of(bad: f64, total: f64) -> Arm {
    Arm { bad, total, share: Some(bad / total) }
}

#[test]
fn without_a_critical_signal_nothing_is_well() {
    let mut rules = rules();
    rules.signals.values_mut().for_each(|signal| signal.role = Role::Informational);
    let mut analysis = Analysis::new(rules, at(0), at(10 * MINUTE));
    analysis.take_baseline(BTreeMap::new());
    let (verdict, second) = until_answered(&mut analysis, (0.0, 500.0), (0.0, 500.0));
    assert_eq!((verdict, second), (Verdict::Inconclusive, 600));
    assert!(analysis.report(at(600)).missing.concat().contains("no signal is critical"));
}
