//! From a judgement to a decision: the table that a manager can read.
//!
//! | verdict | the row says | autonomy | decision |
//! |---|---|---|---|
//! | healthy | – | any | `Clear` |
//! | inconclusive | – | any | `KeepWatching` |
//! | blind | – | any | `Notify` (page: the telemetry is broken) |
//! | degraded | no | any | `Notify` |
//! | degraded | anything, with something left to try first | any | `Mitigate` |
//! | degraded | rollback or maybe, a guard blocks | any | `Hold` |
//! | degraded | rollback or maybe | observe | `Notify` ("would have turned back") |
//! | degraded | rollback or maybe | recommend | `Propose`, a person acts |
//! | degraded | rollback or maybe | approve | `Propose`, a person's word starts it |
//! | degraded | rollback or maybe | auto | `RollBack` |

use crate::action::Reversibility;
use crate::guard::{Hold, Weight};
use crate::matrix::{RowVerdict, Severity};
use crate::verdict::{Judgement, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What the agent may do alone. Ordered: the smaller is the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutonomyLevel {
    /// Watch and report what would have been done.
    #[default]
    Observe,
    /// Draw up the plan and tell people; they act.
    Recommend,
    /// Draw up the plan and carry it out when a person says so.
    Approve,
    /// Carry it out.
    Auto,
}

impl fmt::Display for AutonomyLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AutonomyLevel::Observe => "observe",
            AutonomyLevel::Recommend => "recommend",
            AutonomyLevel::Approve => "approve",
            AutonomyLevel::Auto => "auto",
        })
    }
}

/// What may be done alone, by what is at stake. The strictest of all that applies wins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Autonomy {
    /// For the service.
    pub level: AutonomyLevel,
    /// By severity; what is not named is not limited further.
    pub severity: BTreeMap<Severity, AutonomyLevel>,
    /// By how hard the steps are to take back; what is not named is not limited further, but for destructive steps,
    /// which never run without a person.
    pub reversibility: BTreeMap<Reversibility, AutonomyLevel>,
}

impl Autonomy {
    /// The level that applies: the strictest of the service's, the severity's and the steps'.
    pub fn for_situation(&self, severity: Severity, reversibility: Reversibility) -> AutonomyLevel {
        let by_severity = self.severity.get(&severity).copied().unwrap_or(AutonomyLevel::Auto);
        let by_steps = self.reversibility.get(&reversibility).copied().unwrap_or(AutonomyLevel::Auto);
        let never_alone = match reversibility {
            Reversibility::Destructive => AutonomyLevel::Approve,
            Reversibility::Irreversible | Reversibility::Reversible => AutonomyLevel::Auto,
        };
        self.level.min(by_severity).min(by_steps).min(never_alone)
    }
}

/// What is done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The release is shown to be well.
    Clear,
    /// Nothing can be said yet.
    KeepWatching,
    /// People are told; nothing is done.
    Notify,
    /// People try this first.
    Mitigate {
        /// The mitigation's name.
        name: String,
    },
    /// A plan is put before people.
    Propose {
        /// Whether a person's word starts it (`approve`), or a person has to act (`recommend`).
        approval: bool,
    },
    /// The plan is carried out.
    RollBack,
    /// It would be turned back, but for these guards.
    Hold,
}

/// Decides. `next_mitigation` is what is left to try first; `level` what may be done alone; `holds` what stands against
/// acting.
pub fn decide(
    judgement: &Judgement,
    next_mitigation: Option<&str>,
    level: AutonomyLevel,
    holds: &[Hold],
) -> Decision {
    match judgement.verdict {
        Verdict::Healthy => return Decision::Clear,
        Verdict::Inconclusive => return Decision::KeepWatching,
        Verdict::Blind => return Decision::Notify,
        Verdict::Degraded(_) => {}
    }
    match judgement.says {
        Some(RowVerdict::Rollback | RowVerdict::Maybe) => {}
        // A degraded verdict without a row cannot be; telling people is the harmless answer.
        Some(RowVerdict::No) | None => return Decision::Notify,
    }
    if let Some(name) = next_mitigation {
        return Decision::Mitigate { name: name.to_owned() };
    }
    let capped = holds.iter().fold(level, |level, hold| match hold.weight {
        Weight::Blocks => level,
        Weight::CapsTo(cap) => level.min(cap),
    });
    let blocked = holds.iter().any(|hold| hold.weight == Weight::Blocks);
    match capped {
        AutonomyLevel::Observe => Decision::Notify,
        AutonomyLevel::Recommend => Decision::Propose { approval: false },
        AutonomyLevel::Approve | AutonomyLevel::Auto if blocked => Decision::Hold,
        AutonomyLevel::Approve => Decision::Propose { approval: true },
        AutonomyLevel::Auto => Decision::RollBack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::HoldReason;
    use jiff::Timestamp;

    fn judgement(verdict: Verdict, says: Option<RowVerdict>) -> Judgement {
        Judgement { verdict, row: None, says, rows: vec![], blind: vec![], at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn the_table() {
        use AutonomyLevel::{Approve, Auto, Observe, Recommend};
        use RowVerdict::{Maybe, No, Rollback};
        let bad = Verdict::Degraded(Severity::P1);
        let block = Hold { reason: HoldReason::KillSwitch, weight: Weight::Blocks, words: "stopped".into() };
        let cap =
            Hold { reason: HoldReason::Frozen, weight: Weight::CapsTo(Approve), words: "frozen".into() };
        let ask = Decision::Propose { approval: true };
        let tell = Decision::Propose { approval: false };
        let table = [
            (Verdict::Healthy, None, None, Auto, vec![], Decision::Clear),
            (Verdict::Inconclusive, None, None, Auto, vec![], Decision::KeepWatching),
            (Verdict::Blind, None, None, Auto, vec![], Decision::Notify),
            (bad, Some(No), None, Auto, vec![], Decision::Notify),
            (bad, Some(Rollback), Some("fix"), Auto, vec![], Decision::Mitigate { name: "fix".into() }),
            (bad, Some(Rollback), None, Observe, vec![], Decision::Notify),
            (bad, Some(Rollback), None, Observe, vec![block.clone()], Decision::Notify),
            (bad, Some(Rollback), None, Recommend, vec![], tell.clone()),
            (bad, Some(Maybe), None, Approve, vec![], ask.clone()),
            (bad, Some(Rollback), None, Auto, vec![], Decision::RollBack),
            (bad, Some(Rollback), None, Auto, vec![cap.clone()], ask.clone()),
            (bad, Some(Rollback), None, Recommend, vec![cap.clone()], tell),
            (bad, Some(Rollback), None, Auto, vec![cap, block.clone()], Decision::Hold),
            (bad, Some(Rollback), None, Approve, vec![block], Decision::Hold),
        ];
        for (verdict, says, mitigation, level, holds, expected) in table {
            let decided = decide(&judgement(verdict, says), mitigation, level, &holds);
            assert_eq!(decided, expected, "{verdict} {says:?} {mitigation:?} {level}");
        }
    }

    #[test]
    fn the_strictest_level_wins() {
        let mut autonomy = Autonomy { level: AutonomyLevel::Auto, ..Autonomy::default() };
        autonomy.severity.insert(Severity::P2, AutonomyLevel::Recommend);
        autonomy.reversibility.insert(Reversibility::Irreversible, AutonomyLevel::Approve);
        let level = |severity, steps| autonomy.for_situation(severity, steps);
        assert_eq!(level(Severity::P1, Reversibility::Reversible), AutonomyLevel::Auto);
        assert_eq!(level(Severity::P2, Reversibility::Reversible), AutonomyLevel::Recommend);
        assert_eq!(level(Severity::P1, Reversibility::Irreversible), AutonomyLevel::Approve);
        assert_eq!(level(Severity::P2, Reversibility::Irreversible), AutonomyLevel::Recommend);
        assert_eq!(level(Severity::P1, Reversibility::Destructive), AutonomyLevel::Approve);
        assert_eq!(
            Autonomy::default().for_situation(Severity::P0, Reversibility::Reversible),
            AutonomyLevel::Observe
        );
    }
}
