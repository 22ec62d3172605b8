//! Objects that cannot be looked at: what is said of them, and how often.
//!
//! Anybody who may write one object can make one that cannot be looked at, with a selector longer than an address may
//! be, say. That is the trouble of this object and of no other; the source hears, and says what it does not.

use super::claims::Place;
use super::client::Trouble;
use std::time::{Duration, Instant};

/// The same words are said so often, so that the log of a day shows them and does not consist of them.
const SAME_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// Other words are, since whoever makes such objects chooses the words.
const OTHERS_AFTER: Duration = Duration::from_secs(60);

/// The troubles of one listing.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    count: usize,
    first: Option<(Place, Trouble)>,
    /// Whether one of them may pass by itself.
    pub(super) may_pass: bool,
}

impl Troubles {
    /// Of this object.
    pub(super) fn add(&mut self, place: Place, trouble: Trouble) {
        self.count += 1;
        self.may_pass |= trouble.may_pass();
        self.first.get_or_insert((place, trouble));
    }

    /// Of one object alone.
    pub(super) fn of(place: Place, trouble: Trouble) -> Troubles {
        let mut troubles = Troubles::default();
        troubles.add(place, trouble);
        troubles
    }

    /// How many, and the first; nothing if there are none.
    pub(super) fn words(&self) -> Option<String> {
        let (place, trouble) = self.first.as_ref()?;
        Some(match self.count {
            1 => format!("1 object is not heard: {place}: {trouble}"),
            count => format!("{count} objects are not heard, the first: {place}: {trouble}"),
        })
    }
}

/// What was said last, and when.
#[derive(Debug, Default)]
pub(super) struct Said(Option<(String, Instant)>);

impl Said {
    /// Whether these words are to be said at this moment; they are taken to have been.
    pub(super) fn is_due(&mut self, words: &str, now: Instant) -> bool {
        let is_due = self.0.as_ref().is_none_or(|(said, at)| {
            let pause = if said == words { SAME_AGAIN_AFTER } else { OTHERS_AFTER };
            now.duration_since(*at) >= pause
        });
        if is_due {
            self.0 = Some((words.to_owned(), now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_looked_at_again_soon() {
        let object = serde_json::json!({"metadata": {"namespace": "shop", "name": "web"}});
        let place = Place::of(crate::events::kubernetes::WatchedKind::Canary, &object);
        let may_pass = |trouble| Troubles::of(place.clone(), trouble).may_pass;
        assert!(may_pass(Trouble::NotYet("a".into())) && may_pass(Trouble::Lost("a".into())));
        assert!(!may_pass(Trouble::Odd("a".into())) && !may_pass(Trouble::Claimed("a".into())));
    }

    #[test]
    fn the_same_is_said_seldom_and_something_else_not_often() {
        let (mut said, now) = (Said::default(), Instant::now());
        let mut due = |words, seconds| said.is_due(words, now + Duration::from_secs(seconds));
        assert!(due("a", 0) && !due("a", 61) && !due("b", 59) && due("b", 61));
        assert!(!due("b", 600) && due("b", 661));
    }
}
