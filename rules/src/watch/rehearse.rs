//! The dry run before a plan is put forward: asked for when nothing else stands against acting, waited for, and recorded.

use super::{Decided, Effect, Entry, Phase, Watch};
use crate::decision::AutonomyLevel;
use crate::fleet::Situation;
use crate::guard::rehearsal::{Rehearsed, holds};
use crate::guard::{Hold, HoldReason, Weight};
use crate::ids::Version;
use crate::plan::{CannotPlan, RollbackPlan};
use crate::rehearsal::Rehearsal;
use jiff::Timestamp;

impl Watch {
    /// What stands against acting because it was not tried, or would fail. Whoever was asked for an approval already is
    /// not asked again because the trial grows old; where a person acts themselves, nothing waits for it; and where no
    /// plan can be drawn up, there is nothing to try.
    pub(super) fn rehearsal_holds(
        &self,
        level: AutonomyLevel,
        situation: &Situation,
        now: Timestamp,
    ) -> Vec<Hold> {
        let target = self.target(situation, None);
        let (AutonomyLevel::Approve | AutonomyLevel::Auto, Some(target)) = (level, target) else {
            return Vec::new();
        };
        if self.draw(Some(target.clone()), &self.reason(), situation, now).is_err() {
            return Vec::new();
        }
        let rehearsed = Rehearsed {
            last: self.rehearsal.as_ref().map(|(rehearsal, at)| (rehearsal, *at)),
            asked: self.transient.rehearsing,
            put_forward: matches!(self.phase, Phase::AwaitingApproval { .. }),
        };
        holds(rehearsed, &target, now)
    }

    /// Asks for a rehearsal if that is all that is missing.
    pub(super) fn rehearse_if_asked(
        &mut self,
        decided: &Decided,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let blocking = || decided.holds.iter().filter(|hold| hold.weight == Weight::Blocks);
        let only = blocking().count() > 0 && blocking().all(|hold| hold.reason == HoldReason::NotRehearsed);
        if only && self.transient.rehearsing.is_none() {
            self.rehearse(situation, now, out);
        }
    }

    /// The plan that would be drawn up now: for showing, and for trying.
    ///
    /// # Errors
    /// Why there would be none.
    pub fn draft(
        &self,
        to: Option<&Version>,
        situation: &Situation,
        now: Timestamp,
    ) -> Result<RollbackPlan, CannotPlan> {
        self.draw(self.target(situation, to), &self.reason(), situation, now)
    }

    /// Has the plan tried that would be drawn up now.
    pub(super) fn rehearse(&mut self, situation: &Situation, now: Timestamp, out: &mut Vec<Effect>) {
        let target = self.target(situation, None);
        if let Ok(plan) = self.draw(target, &self.reason(), situation, now) {
            self.transient.rehearsing = Some(now);
            out.push(Effect::Rehearse(Box::new(plan)));
        }
    }

    /// The answer: recorded, and decided anew.
    pub(super) fn rehearsed(
        &mut self,
        rehearsal: Rehearsal,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        self.transient.rehearsing = None;
        self.record(Entry::Rehearsed { rehearsal }, now, out);
        self.assess(situation, now, out);
    }
}
