//! "Worse than the reference": the one question behind every row. The reference is the control that runs beside the
//! release, or the time before the deployment where there is none.

use super::cut::{Cut, Window};
use super::jackknife::Jackknife;
use super::onset::{Beginning, Memory};
use super::running::{Running, Tests};
use crate::signal::Reading;
use crate::stats::{RatioSequence, TwoArms};
use serde::{Deserialize, Serialize};

/// The running comparison of one signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Worse {
    /// Where good ends and bad begins, one a test. The first is the signal's own.
    cuts: Vec<Cut>,
    /// One test a cut, averaged.
    tests: Tests,
    /// The first test again, without each instance.
    jackknife: Jackknife,
    /// What is known of the ratio, for people; only with a control.
    sequence: Option<RatioSequence>,
    /// What was counted at the first cut.
    seen: TwoArms,
    /// When it began.
    memory: Memory,
    /// Whether a window was taken in.
    begun: bool,
    /// The most evidence ever, of everything and without the worst instance, nats.
    peak_of_all: f64,
    peak: f64,
}

impl Worse {
    /// A comparison over these tests; `None` without any.
    pub fn new(tests: Vec<(Cut, Running)>) -> Option<Self> {
        let (cuts, tests): (Vec<Cut>, Vec<Running>) = tests.into_iter().unzip();
        let (tests, jackknife) = (Tests::new(tests)?, Jackknife::default());
        let sequence = match tests.first() {
            Running::Ratio(test) => RatioSequence::new(test.parameters().cluster).ok(),
            Running::Share(_) => None,
        };
        let (seen, memory, begun) = (TwoArms::default(), Memory::new(), false);
        Some(Self { cuts, tests, jackknife, sequence, seen, memory, begun, peak_of_all: 0.0, peak: 0.0 })
    }

    /// Takes in what was seen in the last minutes before the deployment, to date an onset that lies there. Only where the
    /// past is what is compared with: a canary has none.
    pub fn precede(&mut self, seconds: f64, reading: Option<&Reading>) {
        if matches!(self.test(), Running::Share(_)) {
            let (bad, total) = reading.and_then(|reading| self.cut().trial(reading)).unwrap_or_default();
            self.memory.precede(seconds, bad, total);
        }
    }

    /// Takes one window in, which begins `age` seconds after the deployment. At the level `alpha` it is shown, and then its
    /// beginning is dated; `grace` seconds before the deployment belong to the rollout.
    pub fn take(&mut self, window: &Window<'_>, age: f64, alpha: f64, grace: f64) {
        if !std::mem::replace(&mut self.begun, true) {
            // The time in which processes warmed up, or in which it was not known yet where the quantiles lie.
            self.memory.take(&TwoArms::default(), age);
        }
        let has_control = window.control.is_some();
        let alone = !self.jackknife.compares();
        self.jackknife.take(&self.cuts, &self.tests, window);
        if let Some(arms) = window.trials(self.cut(), self.cut()) {
            self.seen = self.seen.plus(&arms);
        }
        // A window in another layout of buckets cannot be cut so: a hole.
        let counted = self.cuts.iter().map(|cut| window.trials(*cut, *cut).unwrap_or_default());
        if let Some((block, seconds)) = self.tests.take(counted, has_control, window.seconds) {
            if let Some(sequence) = &mut self.sequence {
                let _unchanged_on_error = sequence.update(&block);
            }
            self.memory.take(&block, seconds);
        }
        let all = self.log_e_of_all();
        self.peak_of_all = self.peak_of_all.max(all);
        if alone && self.jackknife.compares() {
            // What the first instance showed while it was alone may have been its own.
            self.peak = 0.0;
        }
        self.peak = self.peak.max(self.without_the_worst(all));
        if self.rejects(alpha) {
            self.memory.date(self.tests.first(), grace);
        }
    }

    /// When it began, once it was shown.
    pub fn beginning(&self) -> Option<Beginning> {
        self.memory.beginning()
    }

    /// Evidence now, all instances together, nats.
    pub fn log_e_of_all(&self) -> f64 {
        self.tests.log_e()
    }

    /// Evidence now, without the worst instance where there are several, nats.
    pub fn log_e(&self) -> f64 {
        self.without_the_worst(self.log_e_of_all())
    }

    fn without_the_worst(&self, all: f64) -> f64 {
        self.jackknife.log_e().map_or(all, |without| without.min(all))
    }

    /// Whether it was ever shown at the level `alpha`.
    pub fn rejects(&self, alpha: f64) -> bool {
        self.peak >= -alpha.ln()
    }

    /// The instances without which the release is not shown to be worse, though with them it is.
    pub fn outliers(&self, alpha: f64) -> Vec<&str> {
        if self.peak_of_all >= -alpha.ln() && !self.rejects(alpha) {
            self.jackknife.outliers()
        } else {
            Vec::new()
        }
    }

    /// The signal's own cut.
    pub fn cut(&self) -> Cut {
        self.cuts[0]
    }

    /// The test at the signal's own cut.
    pub fn test(&self) -> &Running {
        self.tests.first()
    }

    /// What is known of the ratio, if there is a control.
    pub fn sequence(&self) -> Option<&RatioSequence> {
        self.sequence.as_ref()
    }

    /// What was counted at the signal's own cut.
    pub fn seen(&self) -> &TwoArms {
        &self.seen
    }

    /// How many instances were seen.
    pub fn instances(&self) -> usize {
        self.jackknife.instances()
    }

    /// How many numbers make up the running state: of the comparison, and of leaving instances out.
    pub fn numbers(&self) -> (usize, usize) {
        let sequence = self.sequence.as_ref().map_or(0, RatioSequence::numbers);
        // what was seen, and the two peaks
        (self.tests.numbers() + self.memory.numbers() + sequence + 6, self.jackknife.numbers())
    }
}
