//! One bad instance is not a bad release: the same test again without each instance, and the smallest evidence counts.
//!
//! The minimum of e-processes is an e-process, so this costs power and never the guarantee. With one instance only, it
//! cannot be told from the release, and nothing is left out.

use super::running::Running;
use crate::stats::TwoArms;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tests that leave something out. With more instances, several share one: leaving out a few leaves out the bad one, too.
const MOST_SLOTS: usize = 8;
/// Names that are remembered. Instances come and go; after this many, later ones are known by their slot only.
const MOST_NAMES: usize = 64;

/// The tests that leave one instance out each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Jackknife {
    without: Vec<Running>,
    names: BTreeMap<String, Own>,
    /// How many instances were ever seen; the next one's slot.
    seen: usize,
}

/// What one instance did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Own {
    slot: usize,
    bad: f64,
    total: f64,
}

impl Jackknife {
    /// Takes one window in. `full` is the test with everything, *before* it took the window: a slot that is opened now
    /// begins where the full test stands, since nothing of what it leaves out has been counted yet. Nothing is learned
    /// from a window in which the release had requests and its instances are not told apart; requests of the control
    /// alone are the same for all.
    pub fn take<'a>(
        &mut self,
        full: &Running,
        arms: &TwoArms,
        instances: impl Iterator<Item = (&'a str, (f64, f64))>,
        has_control: bool,
        seconds: f64,
    ) {
        let mut left_out = [(0.0, 0.0); MOST_SLOTS];
        let mut told_apart = false;
        for (name, (bad, total)) in instances {
            told_apart = true;
            let slot = self.slot(name, full);
            left_out[slot].0 += bad;
            left_out[slot].1 += total;
            if let Some(own) = self.names.get_mut(name) {
                own.bad += bad;
                own.total += total;
            }
        }
        for (test, (bad, total)) in self.without.iter_mut().zip(left_out) {
            let untold = !told_apart && arms.canary_total > 0.0;
            let rest = if untold { TwoArms::default() } else { without(arms, bad, total) };
            // Numbers that the door has refused already; the test keeps its state either way.
            let _unchanged_on_error = test.update(&rest, has_control, seconds);
        }
    }

    /// The smallest evidence without one instance, nats; `None` while there are not two to compare.
    pub fn log_e(&self) -> Option<f64> {
        if self.without.len() < 2 {
            return None;
        }
        self.without.iter().map(Running::log_e).reduce(f64::min)
    }

    /// The instances without which the evidence is smallest, worst first: the outliers.
    pub fn outliers(&self) -> Vec<&str> {
        let least = |(_, a): &(usize, f64), (_, b): &(usize, f64)| a.total_cmp(b);
        let slot = self.without.iter().map(Running::log_e).enumerate().min_by(least).map(|(slot, _)| slot);
        let share = |own: &Own| own.bad / own.total.max(1.0);
        let mut there: Vec<(&String, &Own)> =
            self.names.iter().filter(|(_, own)| Some(own.slot) == slot).collect();
        there.sort_by(|(_, a), (_, b)| share(b).total_cmp(&share(a)));
        there.into_iter().map(|(name, _)| name.as_str()).collect()
    }

    /// How many instances were seen.
    pub fn instances(&self) -> usize {
        self.seen
    }

    /// How many numbers make up the running state.
    pub fn numbers(&self) -> usize {
        self.without.iter().map(Running::numbers).sum::<usize>() + 3 * self.names.len()
    }

    fn slot(&mut self, name: &str, full: &Running) -> usize {
        if let Some(own) = self.names.get(name) {
            return own.slot;
        }
        let slot = self.seen % MOST_SLOTS;
        if self.names.len() >= MOST_NAMES {
            return slot;
        }
        self.seen += 1;
        if self.without.len() == slot {
            self.without.push(full.clone());
        }
        self.names.insert(name.to_owned(), Own { slot, bad: 0.0, total: 0.0 });
        slot
    }
}

fn without(arms: &TwoArms, bad: f64, total: f64) -> TwoArms {
    let canary_total = (arms.canary_total - total).max(0.0);
    // Differences of floats: keep `bad <= total` exact.
    let canary_bad = (arms.canary_bad - bad).clamp(0.0, canary_total);
    TwoArms { canary_bad, canary_total, ..*arms }
}
