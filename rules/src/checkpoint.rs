//! Checkpoints after a rollback: when the service is looked at again, and which bounds it must keep by then.
//!
//! That a rollback helped is shown in minutes, that it *holds* is not: written procedures look again after half an hour
//! and after a day. A checkpoint is that look. It speaks of the time since the checkpoint before it, so that a day of good
//! numbers does not hide a bad last hour, nor a bad first minute spoil the day.
//!
//! Each bound is three-valued, like the conditions of the matrix: it is *kept* when the whole interval lies on its good
//! side, *broken* when the whole interval lies on its bad side, and *unknown* otherwise. Without data it is unknown and
//! says so; nothing that was not seen keeps a bound or breaks one.

mod check;
mod tally;

pub(crate) use check::{Certainty, check, seen};
pub use check::{Checked, Standing};
pub use tally::Tally;

use crate::ids::SignalName;
use crate::signal::Measure;
use crate::units::{Quantity, Span, Unit};
use crate::verdict::Verdict;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// When a service is looked at after a rollback, and what it must keep by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// How long after the last step of the rollback.
    pub after: Span,
    /// By the name of the signal; a bound on a signal that the service does not have is left out, and that is said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bounds: BTreeMap<SignalName, Target>,
}

/// What a signal must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// The share of bad events, the quantile of a latency or the level of a gauge lies below.
    Below(Quantity),
    /// The share of good events, the share of targets that are up or the level of a gauge lies above.
    Above(Quantity),
}

// A quantity is never NaN: it is refused where it is read.
impl Eq for Target {}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Below(quantity) => write!(f, "below {quantity}"),
            Target::Above(quantity) => write!(f, "above {quantity}"),
        }
    }
}

impl Target {
    /// Why this says nothing about a signal of this kind, in words; `None` if it does say something.
    pub fn misfit(&self, measure: &Measure) -> Option<String> {
        let kind = measure.kind();
        let (Target::Below(quantity) | Target::Above(quantity)) = self;
        let a_share = || match quantity.unit {
            Unit::Time => Some(format!("a signal of kind {kind} is a share; write for example 1%")),
            Unit::Percent | Unit::Plain if quantity.value > 1.0 => Some(format!(
                "a signal of kind {kind} is a share, never more than 100%; write for example 1%"
            )),
            Unit::Percent | Unit::Plain => None,
        };
        match (measure, self) {
            (Measure::Proportion { .. }, _) | (Measure::Availability { .. }, Target::Above(_)) => a_share(),
            (Measure::Availability { .. }, Target::Below(_)) => {
                Some("availability must be above something; write for example {above: 99%}".into())
            }
            (Measure::Latency { .. }, Target::Below(_)) if quantity.unit == Unit::Percent => {
                Some("a latency is a time; write for example {below: 300ms}".into())
            }
            (Measure::Latency { .. }, Target::Above(_)) => {
                Some("a latency must be below something; write for example {below: 300ms}".into())
            }
            (Measure::Latency { .. }, Target::Below(_)) | (Measure::Gauge { .. }, _) => None,
        }
    }
}

/// The checkpoints that hold unless others are configured: soon, after a quarter of an hour, after half an hour with the
/// usual bounds, and after a day with the same.
pub fn standard() -> BTreeMap<String, Checkpoint> {
    let share = |value| Quantity { value, unit: Unit::Percent };
    let time = |value| Quantity { value, unit: Unit::Time };
    let usual = [
        ("errors", Target::Below(share(0.01))),
        ("latency", Target::Below(time(0.3))),
        ("queue_depth", Target::Below(Quantity { value: 50.0, unit: Unit::Plain })),
        ("cache_hits", Target::Above(share(0.7))),
        ("query_time", Target::Below(time(0.1))),
    ];
    let bounds: BTreeMap<SignalName, Target> =
        usual.into_iter().filter_map(|(name, target)| Some((SignalName::new(name).ok()?, target))).collect();
    let look = |minutes, bounds: &BTreeMap<SignalName, Target>| Checkpoint {
        after: Span::from_minutes(minutes),
        bounds: bounds.clone(),
    };
    let none = BTreeMap::new();
    let all = [
        ("immediate", look(5, &none)),
        ("extended", look(15, &none)),
        ("30-minutes", look(30, &bounds)),
        ("24-hours", look(24 * 60, &bounds)),
    ];
    all.into_iter().map(|(name, checkpoint)| (name.to_owned(), checkpoint)).collect()
}

/// Checkpoints of one service: people read every one of them.
const MOST_CHECKPOINTS: usize = 20;
/// Bounds of one checkpoint: each is written down and told.
const MOST_BOUNDS: usize = 50;
/// Letters of a checkpoint's name.
const LONGEST_NAME: usize = 40;
/// A week: what is bad later is another incident, and a watch that never ends fills the ledger.
const LATEST: Span = Span::from_minutes(7 * 24 * 60);

/// Everything wrong with a map of checkpoints, each with the key at fault below it.
pub fn problems(checkpoints: &BTreeMap<String, Checkpoint>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if checkpoints.len() > MOST_CHECKPOINTS {
        let text = format!("has {} checkpoints; expected at most {MOST_CHECKPOINTS}", checkpoints.len());
        found.push((String::new(), text));
    }
    let mut seen: BTreeMap<Span, &str> = BTreeMap::new();
    for (name, checkpoint) in checkpoints {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(letter) {
            let text = format!(
                "{name:?} is no name of a checkpoint; write 1 to {LONGEST_NAME} letters, digits, - or _, such as 30-minutes"
            );
            found.push((name.clone(), text));
        }
        let Checkpoint { after, bounds } = checkpoint;
        if *after < Span::from_seconds(1) || *after > LATEST {
            let text = format!("is {after}; expected 1s to {LATEST}, counted from the end of the rollback");
            found.push((format!("{name}.after"), text));
        }
        if let Some(other) = seen.insert(*after, name) {
            let text = format!("is {after}, as at {other:?}; expected each checkpoint at a time of its own");
            found.push((format!("{name}.after"), text));
        }
        if bounds.len() > MOST_BOUNDS {
            let text = format!("has {} bounds; expected at most {MOST_BOUNDS}", bounds.len());
            found.push((format!("{name}.bounds"), text));
        }
    }
    found
}

/// A checkpoint that lies ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Due {
    /// Its name.
    pub checkpoint: String,
    /// When it is due.
    pub at: Timestamp,
}

/// The checkpoints that lie ahead, the next one first: those that are not among `taken`, counted from `ended`.
pub fn ahead<'t>(
    checkpoints: &BTreeMap<String, Checkpoint>,
    taken: impl Iterator<Item = &'t str> + Clone,
    ended: Timestamp,
) -> Vec<Due> {
    let left = checkpoints.iter().filter(|(name, _)| !taken.clone().any(|taken| taken == name.as_str()));
    let due =
        left.map(|(name, checkpoint)| Due { checkpoint: name.clone(), at: checkpoint.after.after(ended) });
    let mut ahead: Vec<Due> = due.collect();
    ahead.sort_by(|a, b| (a.at, &a.checkpoint).cmp(&(b.at, &b.checkpoint)));
    ahead
}

/// A checkpoint that was taken, as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// Its name.
    pub checkpoint: String,
    /// When it was due.
    pub due: Timestamp,
    /// By how much it was taken late, if that is worth a word: the agent was down, or nothing answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Span>,
    /// From when on what it says was seen.
    pub since: Timestamp,
    /// What the judge says of everything since the rollback.
    pub verdict: Verdict,
    /// The row it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// Each bound, looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<Checked>,
    /// Bounds on signals that the service does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_signal: Vec<SignalName>,
}

/// A checkpoint this much behind its time is called late: looks are not further apart.
const LATE: Span = Span::from_seconds(90);

impl Due {
    /// By how much it is late, if that is worth a word.
    pub(crate) fn late(&self, now: Timestamp) -> Option<Span> {
        let behind = Span::between(self.at, now);
        (behind > LATE).then(|| Span::from_seconds(behind.milliseconds() / 1_000))
    }
}

impl Taken {
    /// The worst standing of its bounds; `None` without any.
    pub fn standing(&self) -> Option<Standing> {
        self.bounds.iter().map(|bound| bound.standing).max()
    }

    /// One line.
    pub fn words(&self) -> String {
        let mut text = format!("checkpoint {}", self.checkpoint);
        if let Some(late) = self.late {
            text.push_str(&format!(" (taken {late} late)"));
        }
        text.push_str(&format!(": {}", self.verdict));
        if let Some(row) = &self.row {
            text.push_str(&format!(" ({row})"));
        }
        let named = |standing: Standing| {
            let names = self.bounds.iter().filter(move |bound| bound.standing == standing);
            let names: Vec<String> =
                names.map(|bound| format!("{} {}", bound.signal, bound.target)).collect();
            (!names.is_empty()).then(|| format!("; {standing}: {}", names.join(", ")))
        };
        for standing in [Standing::Broken, Standing::Unknown, Standing::Kept] {
            text.push_str(&named(standing).unwrap_or_default());
        }
        text
    }

    /// One line for each bound, and one for those without a signal.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.bounds.iter().map(Checked::words).collect();
        if !self.without_signal.is_empty() {
            let names: Vec<&str> = self.without_signal.iter().map(SignalName::as_str).collect();
            lines.push(format!("not looked at, the service has no such signal: {}", names.join(", ")));
        }
        lines
    }
}

#[cfg(test)]
mod tests;
