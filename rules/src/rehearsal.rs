//! Dry runs: what would come of a plan, tried without an effect.
//!
//! A plan that acts alone is rehearsed first: the API server checks the write and drops it, git reverts in a scratch clone
//! and pushes nothing, SQL runs in a transaction that is rolled back. What cannot be tried so (a program, a request of a
//! vendor) is looked at: its secrets are there, its program exists, its `inspect` answers. A step that would certainly
//! fail makes the plan a person's matter; what cannot be told stands against nothing, because a release that is down may
//! well be what does not answer.

use crate::ids::{StepName, Version};
use crate::units::Span;
use serde::{Deserialize, Serialize};

/// A rehearsal older than this says nothing about now.
pub const FRESH_FOR: Span = Span::from_minutes(5);

/// After this time without an answer a rehearsal is not waited for any longer.
pub const PATIENCE: Span = Span::from_seconds(90);

/// What came of trying one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Tried {
    /// It would go through.
    Works {
        /// How far it was tried.
        how: String,
    },
    /// Its effect is there already.
    AlreadyThere,
    /// It would certainly fail.
    Fails {
        /// Why.
        reason: String,
    },
    /// Nobody can tell.
    Unclear {
        /// Why.
        reason: String,
    },
}

/// What came of trying a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    /// The release that the plan returns to.
    pub to: Version,
    /// Step by step, in the plan's order.
    pub steps: Vec<(StepName, Tried)>,
}

impl Tried {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Tried::Works { how } => format!("works ({how})"),
            Tried::AlreadyThere => "is there already".into(),
            Tried::Fails { reason } => format!("fails: {reason}"),
            Tried::Unclear { reason } => format!("cannot be told: {reason}"),
        }
    }
}

impl Rehearsal {
    /// The steps that would certainly fail, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&StepName, &str)> {
        self.steps.iter().filter_map(|(name, tried)| match tried {
            Tried::Fails { reason } => Some((name, reason.as_str())),
            Tried::Works { .. } | Tried::AlreadyThere | Tried::Unclear { .. } => None,
        })
    }

    /// One line for a timeline.
    pub fn words(&self) -> String {
        let count = |wanted: fn(&Tried) -> bool| self.steps.iter().filter(|(_, tried)| wanted(tried)).count();
        let unclear = count(|tried| matches!(tried, Tried::Unclear { .. }));
        let failures: Vec<String> = self.failures().map(|(name, why)| format!("{name}: {why}")).collect();
        let all = self.steps.len();
        match (failures.is_empty(), unclear) {
            (true, 0) => format!("dry run: all {all} steps would go through"),
            (true, _) => format!(
                "dry run: {} of {all} steps would go through, {unclear} cannot be told",
                all - unclear
            ),
            (false, _) => {
                format!("dry run: {} of {all} steps would fail: {}", failures.len(), failures.join("; "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_and_what_is_unclear_is_none() {
        let step = |name: &str, tried| (StepName::new(name).unwrap(), tried);
        let mut rehearsal = Rehearsal {
            to: Version::new("v1").unwrap(),
            steps: vec![
                step("announce", Tried::Works { how: "secrets are there".into() }),
                step("pause", Tried::Unclear { reason: "connection refused".into() }),
            ],
        };
        assert_eq!(rehearsal.failures().count(), 0);
        assert_eq!(rehearsal.words(), "dry run: 1 of 2 steps would go through, 1 cannot be told");
        rehearsal.steps.push(step("undo", Tried::Fails { reason: "403 forbidden".into() }));
        assert_eq!(rehearsal.words(), "dry run: 1 of 3 steps would fail: undo: 403 forbidden");
    }
}
