//! Many ail at the same time: then the releases are unlikely to be the cause, and turning them back is no cure.

use super::{APPROVE, Hold, HoldReason, View, Weight, push};
use crate::storm::Storm;
use crate::units::Span;

/// Whether others ail at the same time, and whether this one ails in its own way.
pub(super) fn holds(view: &View<'_>, found: &mut Vec<Hold>) {
    if let Some(storm) = &view.situation.storm {
        let (weight, own) = match differs(view, storm) {
            Some(how) => (APPROVE, format!("; this one differs: {how}")),
            None => (Weight::Blocks, String::new()),
        };
        return push(found, HoldReason::CorrelatedFailure, weight, storm.words() + &own);
    }
    // What hits all of them hits one of them first: the others get a look, too.
    if let (Some(seen), Some(opened)) = (view.situation.others_seen_until, view.found)
        && seen < opened
    {
        let words = "whether other services ail, too, is known after the next look at them";
        push(found, HoldReason::LookingAround, Weight::Blocks, words);
    }
}

/// It was found this long before the storm …
const WELL_BEFORE: Span = Span::from_seconds(120);
/// … or is so many times as bad as that of most others.
const MUCH_WORSE: f64 = 2.0;
/// After this time everybody's last looks are of the storm alone.
const RIPE: Span = Span::from_seconds(60);

/// What tells this release from a mere victim, in words.
fn differs(view: &View<'_>, storm: &Storm) -> Option<String> {
    if let Some(found) = view.found.filter(|found| WELL_BEFORE.after(*found) <= storm.began) {
        let before = Span::between(found, storm.began);
        return Some(format!("it was found {before} before the others"));
    }
    // In its first looks a storm hits one harder than another.
    if Span::between(storm.began, view.now) < RIPE {
        return None;
    }
    let (own, others) = (view.evidence.times()?, storm.times?);
    (own.at_least >= MUCH_WORSE * others).then(|| {
        let own = own.about;
        format!("it is {own:.0} times as bad as before, most of the others are at most {others:.0} times")
    })
}
