//! What one look at one bound of one signal says.

use super::onset::Beginning;
use super::running::Running;
use crate::ids::SignalName;
use crate::matrix::{Bound, Severity, Truth};
use crate::stats::{
    Direction, Interval, RatioInterval, RatioSequence, TwoArms, bernoulli_confidence_sequence,
};
use serde::{Deserialize, Serialize};

/// What one look at one bound of one signal says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The signal.
    pub signal: SignalName,
    /// What it is compared with.
    pub bound: Bound,
    /// Whether that holds.
    pub truth: Truth,
    /// What is compared, in words: "share of bad events", "share of requests slower than 0.5 s".
    pub what: String,
    /// The share now, as counted.
    pub now: Option<f64>,
    /// Its interval, valid at every look.
    pub interval: Option<Interval>,
    /// The share of the control beside it, or before the deployment.
    pub before: Option<f64>,
    /// The share that must be exceeded.
    pub threshold: Option<f64>,
    /// Against a control: the ratio of the shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<RatioFinding>,
    /// Of a gauge: its level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<LevelFinding>,
    /// When it began, once it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beginning: Option<Beginning>,
    /// Trials.
    pub n: f64,
    /// Evidence so far, in natural-log units.
    pub log_e: Option<f64>,
    /// Evidence needed.
    pub log_e_needed: f64,
    /// Since when and why there are no data, or which part is missing; `None` if nothing is.
    pub missing: Option<String>,
}

/// The level of a gauge, in its own unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelFinding {
    /// Now.
    pub now: Option<f64>,
    /// What is usual now, by its past.
    pub usual: f64,
    /// What it must stay below.
    pub bound: Option<f64>,
    /// Where "usual" was read from: `week`, `day` or `trailing`.
    pub season: String,
    /// How many rehearsals on its past alarmed, of how many; `None` if its past is too short to rehearse.
    pub rehearsed: Option<(u32, u32)>,
}

/// Canary against control, as a ratio of shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatioFinding {
    /// As counted; `None` while the control has no bad ones.
    pub now: Option<f64>,
    /// What the data do not exclude, valid at every look.
    pub interval: RatioInterval,
    /// The ratio that must be exceeded.
    pub threshold: f64,
    /// Trials of the control.
    pub control_n: f64,
}

/// One row of the matrix, looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowFinding {
    /// The row.
    pub row: String,
    /// Its severity.
    pub severity: Severity,
    /// Whether it holds.
    pub truth: Truth,
    /// What its conditions rest on.
    pub findings: Vec<Finding>,
    /// The reports it rests on: name, and whether somebody reports it.
    pub reports: Vec<(String, Truth)>,
}

impl Finding {
    /// Nothing known yet about `bound` on `signal`.
    pub(super) fn unknown(signal: SignalName, bound: Bound, needed: f64, missing: Option<String>) -> Self {
        Self {
            signal,
            bound,
            truth: Truth::Unknown,
            what: String::new(),
            now: None,
            interval: None,
            before: None,
            threshold: None,
            ratio: None,
            level: None,
            beginning: None,
            n: 0.0,
            log_e: None,
            log_e_needed: needed,
            missing,
        }
    }

    /// What a running test says after these trials. `rejected` tells whether it was ever shown: a bound once shown to be
    /// broken stays shown.
    pub(super) fn read(
        &mut self,
        test: &Running,
        seen: &TwoArms,
        sequence: Option<&RatioSequence>,
        rejected: bool,
        alpha: f64,
    ) {
        let cluster = test.cluster();
        self.n = seen.canary_total;
        if seen.canary_total > 0.0 {
            self.now = Some(seen.canary_bad / seen.canary_total);
            // Events that fail together are one witness: the interval is as wide as the test is careful.
            let (bad, total) = (seen.canary_bad / cluster, seen.canary_total / cluster);
            self.interval = bernoulli_confidence_sequence(bad, total, alpha).ok();
        }
        let within = match test {
            Running::Share(_) => {
                self.threshold = Some(test.level());
                self.interval.is_some_and(|interval| match test.direction() {
                    Direction::Worse => interval.upper < test.level(),
                    Direction::Better => interval.lower > test.level(),
                })
            }
            Running::Ratio(_) => {
                self.before = (seen.control_total > 0.0).then(|| seen.control_bad / seen.control_total);
                self.ratio = ratio(test, seen, sequence, alpha);
                let upper = self.ratio.and_then(|ratio| ratio.interval.upper);
                upper.is_some_and(|upper| upper < test.level())
            }
        };
        self.truth = match (rejected, within) {
            (true, _) => Truth::Holds,
            (false, true) => Truth::Fails,
            (false, false) => Truth::Unknown,
        };
    }
}

fn ratio(
    test: &Running,
    seen: &TwoArms,
    sequence: Option<&RatioSequence>,
    alpha: f64,
) -> Option<RatioFinding> {
    let interval = match sequence {
        Some(sequence) => sequence.interval(alpha).ok()?,
        None => of_two_shares(seen, test.cluster(), alpha)?,
    };
    let shares = (seen.canary_total > 0.0 && seen.control_bad > 0.0)
        .then(|| (seen.canary_bad / seen.canary_total) / (seen.control_bad / seen.control_total));
    Some(RatioFinding { now: shares, interval, threshold: test.level(), control_n: seen.control_total })
}

/// The ratio of two shares that are each taken to be constant: what the confidence sequences of both arms, at half the level
/// each, leave open. Wider than a [`RatioSequence`], and without any state of its own.
fn of_two_shares(seen: &TwoArms, cluster: f64, alpha: f64) -> Option<RatioInterval> {
    let share = |bad: f64, total: f64| {
        bernoulli_confidence_sequence(bad / cluster, total / cluster, alpha / 2.0).ok()
    };
    let canary = share(seen.canary_bad, seen.canary_total)?;
    let control = share(seen.control_bad, seen.control_total)?;
    let upper = (control.lower > 0.0).then(|| canary.upper / control.lower);
    Some(RatioInterval { lower: canary.lower / control.upper, upper })
}
