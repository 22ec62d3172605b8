//! Both arms of a comparison are seldom seen in the same moment: pods are scraped one after the other, and between two
//! scrapes of the canary there is one of the control. A window with one arm only is no block, but half of one.

use crate::stats::{PATIENCE_SECONDS, TwoArms};
use serde::{Deserialize, Serialize};

/// Requests of one arm that wait for requests of the other, and since how long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pairs {
    waiting: TwoArms,
    seconds: f64,
}

impl Pairs {
    /// Takes one window in. A block comes out, with its length in seconds, once both arms have requests; or, after as long
    /// as the tests themselves wait, with what there is of one of them, which says nothing about a ratio.
    pub fn take(&mut self, arms: &TwoArms, seconds: f64) -> Option<(TwoArms, f64)> {
        let (block, length) = (self.waiting.plus(arms), self.seconds + seconds);
        let whole = block.canary_total > 0.0 && block.control_total > 0.0;
        if whole || block == TwoArms::default() || length >= PATIENCE_SECONDS {
            *self = Self::default();
            return Some((block, length));
        }
        *self = Self { waiting: block, seconds: length };
        None
    }

    /// How many numbers make up the running state.
    pub fn numbers() -> usize {
        5
    }
}
