//! The bell that says: samples came. Whoever decides then need not wait for its next look.
//!
//! It holds one entry for each source that rang since it was last heard, so that a flood of samples is one ring.

use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// A bell. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Bell {
    rung: Arc<Mutex<BTreeMap<String, Timestamp>>>,
    notify: Arc<Notify>,
}

impl Bell {
    /// Says that samples of `source` came, and from when on a look at them makes sense.
    pub fn ring(&self, source: &str, from: Timestamp) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        match rung.get_mut(source) {
            Some(known) => *known = from.max(*known),
            None => drop(rung.insert(source.to_owned(), from)),
        }
        drop(rung);
        self.notify.notify_one();
    }

    /// Waits until it was rung, and says by which sources. Nothing is lost if this is dropped while it waits. One
    /// listener at a time.
    pub async fn heard(&self) -> BTreeMap<String, Timestamp> {
        loop {
            let rung = std::mem::take(&mut *self.rung.lock().unwrap_or_else(PoisonError::into_inner));
            if !rung.is_empty() {
                return rung;
            }
            self.notify.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rings_are_heard_once_each_and_none_is_lost() {
        let bell = Bell::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        bell.ring("a", at(2));
        bell.ring("a", at(1));
        bell.ring("b", at(3));
        assert_eq!(bell.heard().await, BTreeMap::from([("a".into(), at(2)), ("b".into(), at(3))]));
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(5), bell.heard()).await;
        assert!(waiting.is_err(), "nobody rang");
        let other = bell.clone();
        let (heard, ()) = tokio::join!(bell.heard(), async { other.ring("c", at(4)) });
        assert_eq!(heard.len(), 1);
    }
}
