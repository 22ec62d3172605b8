//! When did it begin? Dated once, at the moment when it was shown: later the memory of the watch is coarser.

use super::running::Running;
use crate::stats::{BlockRing, Counts, Onset, OnsetPrior, TwoArms, onset};
use serde::{Deserialize, Serialize};

/// The beginning of a degradation, in seconds after the deployment; negative is before it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Beginning {
    /// The median.
    pub seconds: f64,
    /// The earlier end of the central 80 %.
    pub earliest: f64,
    /// The later end.
    pub latest: f64,
    /// The probability that it began before the deployment, the time of the rollout left aside.
    pub before: f64,
}

/// The watch so far in a few blocks, and the beginning, once it was dated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    ring: BlockRing,
    /// Seconds in the ring before the deployment.
    preceding: f64,
    dated: Option<Beginning>,
}

impl Memory {
    pub fn new() -> Self {
        Self { ring: BlockRing::new(), preceding: 0.0, dated: None }
    }

    /// Takes in what was seen before the deployment, oldest first.
    pub fn precede(&mut self, seconds: f64, bad: f64, total: f64) {
        if self.ring.append(seconds, Counts { bad, total }, Counts { bad: 0.0, total: 0.0 }).is_ok() {
            self.preceding += seconds;
        }
    }

    /// Takes one window in.
    pub fn take(&mut self, arms: &TwoArms, seconds: f64) {
        let canary = Counts { bad: arms.canary_bad, total: arms.canary_total };
        let control = Counts { bad: arms.control_bad, total: arms.control_total };
        // Numbers that the door has refused already, or more than thirty years of them.
        let _unchanged_on_error = self.ring.append(seconds, canary, control);
    }

    /// Dates the beginning as `test` sees it; `grace` seconds before the deployment belong to the rollout.
    pub fn date(&mut self, test: &Running, grace: f64) {
        if self.dated.is_none() {
            self.dated = self.posterior(test).map(|onset| {
                let deployed = (self.ring.seconds() - self.preceding).max(0.0);
                Beginning {
                    seconds: deployed - onset.median_seconds,
                    earliest: deployed - onset.earliest_seconds,
                    latest: deployed - onset.latest_seconds,
                    before: onset.mass_before(deployed + grace),
                }
            });
        }
    }

    fn posterior(&self, test: &Running) -> Option<Onset> {
        let (horizon_seconds, anchor) = test.prior();
        let anchor_weight = if self.preceding > 0.0 { 0.0 } else { anchor };
        let prior = OnsetPrior { horizon_seconds, anchor_weight };
        let llr = |block: &crate::stats::RingBlock| {
            let arms = TwoArms {
                canary_bad: block.canary().bad,
                canary_total: block.canary().total,
                control_bad: block.control().bad,
                control_total: block.control().total,
            };
            test.block_evidence(&arms)
        };
        onset(&self.ring, prior, test.alternatives(), llr).ok().flatten()
    }

    /// When it began, once that was shown.
    pub fn beginning(&self) -> Option<Beginning> {
        self.dated
    }

    /// How many numbers of eight bytes the memory takes.
    pub fn numbers(&self) -> usize {
        // 20 bytes a block
        crate::stats::RING_BLOCKS * 20 / 8 + 1
    }
}
