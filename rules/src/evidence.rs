//! What is known of a deployment's signals, holes included.
//!
//! Every signal carries running tests: one against its reference ("worse than the control", or than before where there is
//! none), one the other way round ("shown to be no worse"), and one for each bound that a row of the matrix puts on it.
//! All of them start when the watch starts and are looked at whenever there is news; the guarantee holds at every look.
//! A window without usable data changes no test: it is remembered as a hole, and a hole is neither good nor bad.

mod baseline;
mod bound;
mod cut;
mod finding;
mod gauge;
mod jackknife;
mod onset;
mod running;
mod signal;
mod worse;

pub use baseline::{BaselineState, SignalBaseline};
pub use bound::BoundTest;
pub use cut::Cut;
pub use finding::{Finding, LevelFinding, RatioFinding, RowFinding};
pub use onset::Beginning;
pub(crate) use signal::outlier_words;
pub use signal::{SignalEvidence, Times};

use crate::ids::SignalName;
use crate::matrix::{Bound, Truth};
use crate::past::Past;
use crate::ruleset::{RuleSet, Statistics};
use crate::signal::{Measure, Measurement, Role};
use crate::stats::{average, e_benjamini_hochberg};
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of all signals since `since`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// When the observation began.
    pub since: Timestamp,
    /// When the processes that are observed began: they are cold for a while.
    pub started: Timestamp,
    /// By signal.
    pub signals: BTreeMap<SignalName, SignalEvidence>,
}

/// What all tests of a signal have in common; fixed before the first block.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Terms {
    /// The watch.
    horizon_seconds: f64,
    /// How many events fail together.
    cluster: f64,
    /// Whether there is a control.
    compares: bool,
    /// A canary with less than this share of the traffic is starved.
    starved_below: f64,
}

/// The part of the error budget that goes to "the canary gets no traffic", beside the signals' own.
const TRAFFIC_WEIGHT: f64 = 0.1;
/// The rate of false discoveries among the signals that a report names as worse.
const DISCOVERY_RATE: f64 = 0.05;

impl Evidence {
    /// No evidence yet: the tests for the signals of `rules` against the bounds of its matrix, from `since` on.
    pub fn new(rules: &RuleSet, since: Timestamp) -> Self {
        let mut bounds: BTreeMap<&SignalName, Vec<Bound>> = BTreeMap::new();
        for condition in rules.matrix.rows.iter().flat_map(|row| row.when.signal_conditions()) {
            let known = bounds.entry(&condition.name).or_default();
            // "Worse" has a test of its own; "starved" can be told only beside a control.
            let apart = match condition.is {
                Bound::Worse => true,
                Bound::Starved => rules.compare.is_none(),
                _ => false,
            };
            if !apart && !known.contains(&condition.is) {
                known.push(condition.is);
            }
        }
        let starved =
            |name: &SignalName| bounds.get(name).is_some_and(|bounds| bounds.contains(&Bound::Starved));
        let traffic: f64 = rules.signals.keys().filter(|name| starved(name)).map(|_| TRAFFIC_WEIGHT).sum();
        let sum: f64 = traffic + rules.signals.values().map(|signal| signal.budget_weight()).sum::<f64>();
        let evidence = |(name, signal)| {
            let bounds = bounds.get(name).cloned().unwrap_or_default();
            let traffic_share = if starved(name) { TRAFFIC_WEIGHT / sum } else { 0.0 };
            let evidence = SignalEvidence::new(signal, rules, sum, traffic_share, bounds, since);
            (SignalName::clone(name), evidence)
        };
        Self { since, started: since, signals: rules.signals.iter().map(evidence).collect() }
    }

    /// The same signals and baselines, nothing seen since `since`, of the same processes: how it is tried whether a
    /// mitigation helps. Verification sets `started` too, since a rollback starts processes anew.
    pub fn restarted(&self, rules: &RuleSet, since: Timestamp) -> Self {
        let signals = self.signals.iter();
        let signals = signals.map(|(name, evidence)| (name.clone(), evidence.restarted(rules, since)));
        Self { since, started: self.started, signals: signals.collect() }
    }

    /// The same for the time after a rollback: the canary is gone, and what serves now is compared with what was before.
    pub fn after_rollback(&self, rules: &RuleSet, since: Timestamp) -> Self {
        let mut fresh = self.restarted(rules, since);
        fresh.started = since;
        for evidence in fresh.signals.values_mut() {
            evidence.leave_the_control(rules);
        }
        fresh
    }

    /// Takes the past of the signals in.
    pub fn take_baseline(&mut self, past: &BTreeMap<SignalName, Past>, rules: &RuleSet) {
        let (nothing, since) = (Past::default(), self.since);
        for (name, evidence) in &mut self.signals {
            evidence.take_baseline(past.get(name).unwrap_or(&nothing), since, rules);
        }
    }

    /// Whether the past of some signal has been asked for and has not come yet.
    pub fn awaits_baseline(&self) -> bool {
        self.signals.values().any(|evidence| evidence.baseline == BaselineState::Waiting)
    }

    /// Whether all of these signals have data again.
    pub fn sees(&self, names: &BTreeSet<SignalName>) -> bool {
        names.iter().all(|name| self.signals.get(name).is_none_or(|evidence| evidence.hole.is_none()))
    }

    /// Counts the silence of signals that have never reported from `since` on: what happened before somebody began to
    /// look is no hole.
    pub(crate) fn silent_since(&mut self, since: Timestamp) {
        for evidence in self.signals.values_mut().filter(|evidence| evidence.newest.is_none()) {
            if let Some((began, _)) = &mut evidence.hole {
                *began = since.max(*began);
            }
        }
    }

    /// Takes one measurement in. A hole changes no test, and neither does a window that was counted before.
    pub fn take(&mut self, measurement: &Measurement, rules: &RuleSet) {
        let began = self.started;
        if let Some(evidence) = self.signals.get_mut(&measurement.signal) {
            evidence.take(measurement, began, rules);
        }
    }

    /// Critical signals without usable data for longer than `patience`, with the reason.
    pub fn blind(&self, patience: Span, now: Timestamp) -> Vec<(SignalName, String)> {
        let critical = self.signals.values().filter(|evidence| evidence.signal.role == Role::Critical);
        critical
            .filter_map(|evidence| {
                let (since, reason) = evidence.hole.as_ref()?;
                (Span::between(*since, now) >= patience)
                    .then(|| (evidence.signal.name.clone(), reason.clone()))
            })
            .collect()
    }

    /// Is every critical signal shown to be no worse, and no signal suspicious?
    pub fn shown_healthy(&self, statistics: &Statistics) -> bool {
        let needed = -statistics.beta.ln();
        self.passes(|evidence| {
            evidence.hole.is_none()
                && evidence.pass(statistics.beta).is_some_and(|(log_e, _)| log_e >= needed)
        })
    }

    /// The same, and each of `hurt` is shown to be well too: what was found in the latency is not over because there
    /// are no errors.
    pub fn shown_cured(&self, hurt: &BTreeSet<SignalName>, statistics: &Statistics) -> bool {
        let cured = |name: &SignalName| {
            let Some(evidence) = self.signals.get(name).filter(|evidence| evidence.hole.is_none()) else {
                return false;
            };
            match evidence.pass(statistics.beta) {
                Some((log_e, needed)) => log_e >= needed,
                // A gauge has no test of its own for "well": then it must be shown to be within every bound.
                None => evidence.is_within_every_bound(statistics),
            }
        };
        self.shown_healthy(statistics) && hurt.iter().all(cured)
    }

    /// How many times its reference the worst critical signal has been in the last looks.
    pub fn times(&self) -> Option<Times> {
        let worst = |a: &Times, b: &Times| a.at_least.total_cmp(&b.at_least);
        self.critical().filter_map(SignalEvidence::times).max_by(worst)
    }

    /// Until when all critical signals were seen; `None` without any.
    pub fn seen_until(&self) -> Option<Timestamp> {
        self.critical().map(|evidence| evidence.measured_until).min()
    }

    fn critical(&self) -> impl Iterator<Item = &SignalEvidence> {
        self.signals.values().filter(|evidence| evidence.signal.role == Role::Critical)
    }

    /// Does any signal look bad, though perhaps not enough to accuse it?
    pub fn is_suspicious(&self) -> bool {
        self.signals.values().any(|evidence| {
            let tests = evidence.worse_log_e_of_all().into_iter();
            tests.chain(evidence.bound_log_es()).any(|log_e| log_e > suspicion())
        })
    }

    /// Does what was shown still stand? A short hole or a few bad requests do not take a pass back at once, or it would
    /// come and go at every look; suspicion, or half of the evidence lost, does.
    pub fn stays_healthy(&self, statistics: &Statistics) -> bool {
        let needed = -statistics.beta.ln() / 2.0;
        self.passes(|evidence| evidence.pass(statistics.beta).is_some_and(|(log_e, _)| log_e >= needed))
    }

    fn passes(&self, passed: impl Fn(&SignalEvidence) -> bool) -> bool {
        // One bad instance is no bad release, and no healthy one either.
        let suspicious = |evidence: &SignalEvidence| {
            // A bound alone is no suspicion: a service that always fails a little is beyond a floor. No traffic is.
            let tests = evidence.worse_log_e_of_all().into_iter().chain(evidence.starved_log_e());
            tests.into_iter().any(|log_e| log_e > suspicion())
        };
        // What is only shown holds nothing back.
        let counts = |evidence: &&SignalEvidence| evidence.signal.role != Role::Informational;
        let required = |evidence: &&SignalEvidence| evidence.signal.role == Role::Critical;
        self.signals.values().any(|evidence| required(&evidence))
            && !self.signals.values().filter(counts).any(suspicious)
            && self.signals.values().filter(required).all(|evidence| evidence.is_used() && passed(evidence))
    }

    /// Trials of the critical proportion signals: the requests that the verdict rests on.
    pub fn requests(&self) -> f64 {
        let counted =
            self.signals.values().filter(|e| matches!(e.signal.measure, Measure::Proportion { .. }));
        counted.map(|evidence| evidence.counts().1).fold(0.0, f64::max)
    }

    /// What all counted signals say together about "worse": the weighted average of their evidence, nats, which is evidence
    /// itself under any dependence between them. A signal without data stays in it as "no evidence".
    pub fn together(&self) -> f64 {
        let weights: Vec<f64> = self.counted().map(|(_, evidence)| evidence.share).collect();
        average(&self.worse_log_es(), &weights).unwrap_or(0.0)
    }

    /// The signals that a report may name as worse, with a rate of false ones among them of 5 % (e-BH).
    pub fn discoveries(&self) -> Vec<&SignalName> {
        let found = e_benjamini_hochberg(&self.worse_log_es(), DISCOVERY_RATE).unwrap_or_default();
        found.into_iter().filter_map(|place| self.counted().nth(place)).map(|(name, _)| name).collect()
    }

    /// The signals whose evidence carries a guarantee: all but gauges.
    fn counted(&self) -> impl Iterator<Item = (&SignalName, &SignalEvidence)> {
        let is_counted = |(_, evidence): &(&SignalName, &SignalEvidence)| {
            !matches!(evidence.signal.measure, Measure::Gauge { .. })
        };
        self.signals.iter().filter(is_counted)
    }

    fn worse_log_es(&self) -> Vec<f64> {
        self.counted().map(|(_, evidence)| evidence.worse_log_e().unwrap_or(0.0)).collect()
    }

    /// What is known about `bound` on `name`.
    pub fn finding(&self, name: &SignalName, bound: Bound, statistics: &Statistics) -> Finding {
        match self.signals.get(name) {
            Some(evidence) => evidence.finding(bound, statistics),
            None => {
                let missing = "this signal is not configured for the service".to_owned();
                let what = "this signal".into();
                Finding { what, ..Finding::unknown(name.clone(), bound, 0.0, Some(missing)) }
            }
        }
    }
}

impl SignalEvidence {
    /// Whether every bound is shown to be kept.
    fn is_within_every_bound(&self, statistics: &Statistics) -> bool {
        self.bounds().all(|bound| self.finding(bound, statistics).truth == Truth::Fails)
    }
}

/// Suspicion: five to one in favour of "worse" is enough to hold a pass back, though not to accuse.
fn suspicion() -> f64 {
    5.0_f64.ln()
}
