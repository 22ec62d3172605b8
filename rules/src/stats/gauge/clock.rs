//! When a sample counts as the next one.
//!
//! The correlation was fitted at the pace of the history. Two samples closer than that are more alike than the fit
//! knows, and two with a hole in between are less: the first must not count twice, the second must not be compared.

use serde::{Deserialize, Serialize};

use crate::stats::error::{StatsError, within};
use crate::stats::exact;

/// A sample earlier than this share of the step is the old one seen again.
const TOO_SOON: f64 = 0.5;

/// A sample later than this many steps has no predecessor.
const TOO_LATE: f64 = 1.5;

/// Longest time between two updates, seconds: 30 years. It keeps sums of times finite.
const LONGEST_SECONDS: f64 = 1e9;

/// Time since the deployment and since the last sample that counted, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SampleClock {
    #[serde(with = "exact")]
    step: f64,
    #[serde(with = "exact")]
    elapsed: f64,
    #[serde(with = "exact")]
    pending: f64,
}

/// A sample that counts.
pub(super) struct Arrival {
    /// Since the last sample that counted, seconds.
    pub(super) dt: f64,
    /// Whether samples are missing in between.
    pub(super) gap: bool,
}

impl SampleClock {
    pub(super) fn new(step: f64) -> Self {
        Self { step, elapsed: 0.0, pending: 0.0 }
    }

    /// Lets time pass. Refuses what is no time span; the state is unchanged then.
    pub(super) fn advance(&mut self, dt_seconds: f64) -> Result<(), StatsError> {
        let inside = (0.0..=LONGEST_SECONDS).contains(&dt_seconds);
        within("the time between samples in seconds", dt_seconds, inside, "a number from 0 to 1e9")?;
        self.elapsed += dt_seconds;
        self.pending += dt_seconds;
        Ok(())
    }

    /// A sample is there: `None` when it came too soon to be a new one.
    pub(super) fn arrive(&mut self) -> Option<Arrival> {
        if self.pending < TOO_SOON * self.step {
            return None;
        }
        let dt = std::mem::take(&mut self.pending);
        Some(Arrival { dt, gap: dt > TOO_LATE * self.step })
    }

    /// Since the deployment, seconds.
    pub(super) fn elapsed(&self) -> f64 {
        self.elapsed
    }

    /// Refuses a clock that was edited into nonsense.
    pub(super) fn admit(&self) -> Result<(), StatsError> {
        within("the stored time between samples in seconds", self.step, self.step > 0.0, "positive")?;
        within("the stored time since the deployment", self.elapsed, self.elapsed >= 0.0, "zero or more")?;
        within("the stored time since a sample", self.pending, self.pending >= 0.0, "zero or more")?;
        Ok(())
    }
}
