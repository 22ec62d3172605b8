//! One bad instance is not a bad release: the same test again without each instance, and the smallest evidence counts.
//!
//! The minimum of e-processes is an e-process, so this costs power and never the guarantee. With one instance only, it
//! cannot be told from the release, and nothing is left out.

use super::cut::{Cut, Window};
use super::running::{MOST_TESTS, Tests};
use crate::stats::TwoArms;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tests that leave something out. With more instances, several share one: leaving out a few leaves out the bad one, too.
const MOST_SLOTS: usize = 8;
/// Names that are remembered. Instances come and go; after this many, later ones are known by their slot only.
const MOST_NAMES: usize = 64;

/// Less than this part of the requests, left without an instance, is no witness against it.
const LEAST_LEFT: f64 = 0.1;

/// An outlier has more than this many times the others' share of bad trials.
const STANDS_OUT: f64 = 2.0;

/// The tests that leave one instance out each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Jackknife {
    /// Per slot, the comparison's tests again.
    without: Vec<Tests>,
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
    /// Takes one window in. `tests` are those with everything, *before* they took the window: the first slot begins where
    /// they stand. A later one begins where the weakest slot stands: whatever convicts now must not rest on one instance
    /// alone, be it known by two names. Nothing is learned from a window in which the release had requests and its
    /// instances are not told apart; requests of the control alone are the same for all.
    pub fn take(&mut self, cuts: &[Cut], tests: &Tests, window: &Window<'_>) {
        self.forget(window);
        for name in window.instances.keys() {
            self.know(name, tests);
        }
        let Some(own) = cuts.first() else { return };
        for (name, reading) in window.instances {
            if let (Some(known), Some((bad, total))) = (self.names.get_mut(name), own.trial(reading)) {
                known.bad += bad;
                known.total += total;
            }
        }
        let mut rests = [[TwoArms::default(); MOST_SLOTS]; MOST_TESTS];
        for (rests, cut) in rests.iter_mut().zip(cuts) {
            *rests = self.rests(*cut, window);
        }
        for (slot, without) in self.without.iter_mut().enumerate() {
            let counted = rests.iter().map(|rests| rests[slot]);
            without.take(counted, window.control.is_some(), window.seconds);
        }
    }

    /// Per slot, what is left of a window without its instances.
    fn rests(&self, cut: Cut, window: &Window<'_>) -> [TwoArms; MOST_SLOTS] {
        let mut rests = [TwoArms::default(); MOST_SLOTS];
        let Some(arms) = window.trials(cut, cut) else { return rests };
        if window.instances.is_empty() && arms.canary_total > 0.0 {
            return rests;
        }
        let mut left_out = [(0.0, 0.0); MOST_SLOTS];
        for (name, reading) in window.instances {
            let (Some(known), Some((bad, total))) = (self.names.get(name), cut.trial(reading)) else {
                // One that cannot be told apart here: nothing is learned.
                return rests;
            };
            left_out[known.slot].0 += bad;
            left_out[known.slot].1 += total;
        }
        for (rest, (bad, total)) in rests.iter_mut().zip(left_out) {
            *rest = without(&arms, bad, total);
        }
        rests
    }

    /// The smallest evidence without one instance, nats; `None` while there are not two to compare.
    pub fn log_e(&self) -> Option<f64> {
        if self.without.len() < 2 {
            return None;
        }
        let slots = self.without.iter().enumerate().filter(|(slot, _)| self.leaves_enough(*slot));
        slots.map(|(_, tests)| tests.log_e()).reduce(f64::min)
    }

    /// Whether enough is left without this slot to say anything: an instance that has nearly all requests (the others are
    /// gone, or on their way out) cannot be told from the release.
    fn leaves_enough(&self, slot: usize) -> bool {
        let all: f64 = self.names.values().map(|own| own.total).sum();
        let its: f64 = self.names.values().filter(|own| own.slot == slot).map(|own| own.total).sum();
        all - its >= LEAST_LEFT * all
    }

    /// The instances without which the evidence is smallest, worst first: the outliers. None if they do not stand out: of
    /// instances that are alike each one is missed a little.
    pub fn outliers(&self) -> Vec<&str> {
        let slot = self.weakest();
        let sum = |inside: bool| {
            let chosen = self.names.values().filter(|own| (Some(own.slot) == slot) == inside);
            chosen.fold((0.0, 0.0), |(bad, total), own| (bad + own.bad, total + own.total))
        };
        let ((bad, total), (rest_bad, rest_total)) = (sum(true), sum(false));
        if bad * rest_total <= STANDS_OUT * (rest_bad + 1.0) * total {
            return Vec::new();
        }
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

    /// Whether there are two to compare.
    pub fn compares(&self) -> bool {
        self.without.len() > 1
    }

    /// How many numbers make up the running state.
    pub fn numbers(&self) -> usize {
        self.without.iter().map(Tests::numbers).sum::<usize>() + 3 * self.names.len()
    }

    fn weakest(&self) -> Option<usize> {
        let least = |(_, a): &(usize, f64), (_, b): &(usize, f64)| a.total_cmp(b);
        self.without.iter().map(Tests::log_e).enumerate().min_by(least).map(|(slot, _)| slot)
    }

    /// Makes room: names that are not seen any more go first.
    fn forget(&mut self, window: &Window<'_>) {
        if self.names.len() + window.instances.len() > MOST_NAMES {
            self.names.retain(|name, _| window.instances.contains_key(name));
        }
    }

    fn know(&mut self, name: &str, tests: &Tests) {
        if self.names.contains_key(name) {
            return;
        }
        let slot = self.seen % MOST_SLOTS;
        self.seen += 1;
        if self.without.len() == slot {
            let start = self.weakest().map(|weakest| self.without[weakest].clone());
            self.without.push(start.unwrap_or_else(|| tests.clone()));
        }
        self.names.insert(name.to_owned(), Own { slot, bad: 0.0, total: 0.0 });
    }
}

fn without(arms: &TwoArms, bad: f64, total: f64) -> TwoArms {
    let canary_total = (arms.canary_total - total).max(0.0);
    // Differences of floats: keep `bad <= total` exact.
    let canary_bad = (arms.canary_bad - bad).clamp(0.0, canary_total);
    TwoArms { canary_bad, canary_total, ..*arms }
}
