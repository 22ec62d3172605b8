//! Nothing is proposed or done alone that was not rehearsed a moment ago.

use super::{APPROVE, Hold, HoldReason, Weight, push};
use crate::fleet::KnownGood;
use crate::rehearsal::{FRESH_FOR, PATIENCE, Rehearsal};
use crate::units::Span;
use jiff::Timestamp;

/// What a watch knows of rehearsals of its plan.
#[derive(Debug, Clone, Copy)]
pub struct Rehearsed<'a> {
    /// The newest one, and when its answer came.
    pub last: Option<(&'a Rehearsal, Timestamp)>,
    /// Since when one is on its way.
    pub asked: Option<Timestamp>,
    /// Whether a person is asked already: then the trial may grow old.
    pub put_forward: bool,
}

/// What stands against acting: no fresh rehearsal, or one that fails.
pub fn holds(rehearsed: Rehearsed<'_>, target: &KnownGood, now: Timestamp) -> Vec<Hold> {
    let mut found = Vec::new();
    let fresh = rehearsed.last.filter(|(rehearsal, at)| {
        let young = rehearsed.put_forward || Span::between(*at, now) < FRESH_FOR;
        rehearsal.to == target.release.version && young
    });
    match (fresh, rehearsed.asked) {
        (Some((rehearsal, _)), _) if rehearsal.failures().next().is_some() => {
            push(&mut found, HoldReason::DryRunFails, APPROVE, rehearsal.words());
        }
        (Some(_), _) => {}
        (None, Some(asked)) if Span::between(asked, now) >= PATIENCE => {
            let words = format!("the plan's dry run has not come back since {asked:.0}");
            push(&mut found, HoldReason::DryRunFails, APPROVE, words);
        }
        (None, _) if rehearsed.put_forward => {}
        (None, _) => {
            let words = "the plan was not rehearsed yet";
            push(&mut found, HoldReason::NotRehearsed, Weight::Blocks, words);
        }
    }
    found
}
