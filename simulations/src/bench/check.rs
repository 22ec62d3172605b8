//! Whether Turnback kept its promises: false rollbacks at most alpha wherever nothing is wrong, and delays at most a
//! tenth above the reference's.
//!
//! Delays lie on the grid of looks: an alarm at second 80 stands for everything since second 70, and where half of the
//! watches alarm at one look and half at the next, the plain median jumps by a whole look with the dice. So the median
//! within the look ([`Tally::median_within_look`]) is compared with 1.10 times the reference's plain one, without a
//! further allowance. It is at most one look below the plain median, which the table shows.
//!
//! Gauges are not held to alpha: they carry no guarantee and never roll back by themselves.

use serde::Serialize;

use super::expected::reference;
use super::figures::Tally;
use super::run::Outcome;
use super::scenarios::{Method, Scenario};
use super::{ALPHA, LOOK_SECONDS, Who};

/// How much longer than the reference we may take.
const ALLOWED: f64 = 1.10;

/// One promise, and whether it was kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Which scenario.
    pub scenario: String,
    /// Which method of ours.
    pub judge: &'static str,
    /// The promise, in words.
    pub promise: String,
    /// What was seen, in words.
    pub seen: String,
    /// Whether it was kept.
    pub kept: bool,
}

/// The promises that a scenario puts to the test. A method that is not plugged in breaks its promise.
#[must_use]
pub fn checks(scenario: &Scenario, outcomes: &[Outcome]) -> Vec<Check> {
    let claims = scenario.claims.iter();
    claims
        .filter_map(|claim| {
            let who = Who::Turnback(claim.method);
            let tally = outcomes.iter().find(|outcome| outcome.who == who).map(|outcome| &outcome.tally);
            let (promise, seen, kept) = if claim.null {
                silence(claim.method, tally)?
            } else {
                speed(reference(&scenario.name, who)?.delay?, tally)
            };
            Some(Check { scenario: scenario.name.clone(), judge: who.name(), promise, seen, kept })
        })
        .collect()
}

fn silence(method: Method, tally: Option<&Tally>) -> Option<(String, String, bool)> {
    if method == Method::Gauge {
        return None;
    }
    let promise = format!("false rollbacks at most {} %", ALPHA * 100.0);
    let seen = tally.map_or_else(not_judged, |tally| {
        format!("{} of {} watches, {:.2} %", tally.alarms(), tally.watches, tally.share() * 100.0)
    });
    Some((promise, seen, tally.is_some_and(|tally| tally.share() <= ALPHA)))
}

fn speed(reference: f64, tally: Option<&Tally>) -> (String, String, bool) {
    let within = tally.and_then(|tally| tally.median_within_look(LOOK_SECONDS));
    let seen = match (tally, within) {
        (None, _) => not_judged(),
        (Some(_), None) => "fewer than half were found".to_owned(),
        (Some(_), Some(median)) => format!("{median:.1} s"),
    };
    let promise = format!("median delay at most 1.10 x {reference:.0} s");
    (promise, seen, within.is_some_and(|median| median <= reference * ALLOWED))
}

fn not_judged() -> String {
    "not judged: the method is not plugged in".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenarios::all;

    fn outcome(watches: u32, delays: Vec<f64>) -> Vec<Outcome> {
        vec![Outcome { who: Who::Turnback(Method::Ratio), tally: Tally { watches, early: 0, delays } }]
    }

    fn kept(scenario: &str, outcomes: &[Outcome]) -> Vec<bool> {
        let scenario = all().into_iter().find(|one| one.name == scenario).unwrap();
        let of_ratio =
            checks(&scenario, outcomes).into_iter().filter(|check| check.judge == "Turnback, ratio");
        of_ratio.map(|check| check.kept).collect()
    }

    #[test]
    fn false_alarms_above_one_percent_break_the_promise() {
        let hard = "B shared bursts, R=10";
        assert_eq!(kept(hard, &outcome(1_000, vec![10.0; 10])), [true]);
        assert_eq!(kept(hard, &outcome(1_000, vec![10.0; 11])), [false]);
        assert_eq!(kept(hard, &[]), [false], "a method that is not plugged in keeps nothing");
    }

    #[test]
    fn delays_more_than_a_tenth_above_the_reference_break_the_promise() {
        // The reference says 80 s, so 88 s are allowed: a little more than half of what alarms at second 90.
        let at = |first: usize, second: usize| [vec![80.0; first], vec![90.0; second]].concat();
        assert_eq!(kept("R=1, 1->20 %", &outcome(100, at(50, 50))), [true]);
        assert_eq!(kept("R=1, 1->20 %", &outcome(100, at(0, 100))), [true]);
        assert_eq!(kept("R=1, 1->20 %", &outcome(100, at(0, 65))), [true]);
        assert_eq!(kept("R=1, 1->20 %", &outcome(100, at(0, 55))), [false]);
        assert_eq!(kept("R=1, 1->20 %", &outcome(3, vec![80.0])), [false]);
        // No delay in the reference: nothing is promised.
        assert!(kept("R=1, 1->2 %", &outcome(3, vec![])).is_empty());
    }
}
