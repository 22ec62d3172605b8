//! One bound of a policy, tested on its own: "queue > 50", "queue > 2 x baseline".

use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, FittedBaseline};
use super::clock::SampleClock;
use super::exceed::exceed_runs;
use super::history::{GaugeHistory, Prepared, on_scale};
use super::parameters::{ExceedLevel, admit_horizon};
use super::run_length::RunLengthExceed;
use super::scale::Scale;
use crate::stats::error::StatsError;
use crate::stats::exact;

/// Evidence that a gauge stays above a level for longer than its history explains. See [`RunLengthExceed`] for the
/// formula and for what is not guaranteed: the bounds are estimated, so it may only suggest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct ExceedTest {
    level: ExceedLevel,
    horizon_seconds: f64,
    baseline: Baseline,
    clock: SampleClock,
    test: RunLengthExceed,
}

impl ExceedTest {
    /// A test of `level` over a watch of `horizon_seconds`; `scale` decides what a multiple of the baseline means.
    ///
    /// # Errors
    /// When the history is shorter than half an hour or 30 samples, or a number is outside the range its documentation
    /// names.
    pub fn fit(
        history: &GaugeHistory,
        level: ExceedLevel,
        horizon_seconds: f64,
        scale: Scale,
    ) -> Result<Self, StatsError> {
        admit_horizon(horizon_seconds)?;
        level.admit(scale)?;
        let prepared = Prepared::new(history, scale)?;
        let moment = prepared.moment(None);
        let fitted = FittedBaseline::at(&moment, scale, scale.standard_quantum(), horizon_seconds)?;
        let past = fitted.exceedances(moment.values, level);
        let test = RunLengthExceed::after(exceed_runs(&past)?, horizon_seconds, &past)?;
        let clock = SampleClock::new(prepared.step);
        Ok(Self { level, horizon_seconds, baseline: fitted.baseline, clock, test })
    }

    /// Takes in a sample in the gauge's own unit, `dt_seconds` after the previous update, and returns the new log
    /// e-value, nats. `None` and NaN are holes and add no evidence; so does a sample sooner than half a step after the
    /// one before, which is the same one seen again.
    ///
    /// # Errors
    /// When the value is infinite or negative on a logarithmic scale, or `dt_seconds` is not a span from 0 to 1e9; the
    /// state is unchanged.
    pub fn update(&mut self, value: Option<f64>, dt_seconds: f64) -> Result<f64, StatsError> {
        let value = on_scale(value, self.baseline.scale)?;
        self.clock.advance(dt_seconds)?;
        let Some(value) = value else { return Ok(self.log_e()) };
        let Some(arrival) = self.clock.arrive() else { return Ok(self.log_e()) };
        if arrival.gap {
            self.test.update(None, 0.0)?;
        }
        let exceeds = self.baseline.exceeds(value, self.clock.elapsed(), self.level);
        self.test.update(Some(exceeds), arrival.dt)
    }

    /// The current log e-value, nats.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.test.log_e()
    }

    /// The largest log e-value so far, at least 0, nats.
    #[must_use]
    pub fn max_log_e(&self) -> f64 {
        self.test.max_log_e()
    }

    /// Whether the evidence has ever reached `1/alpha`.
    ///
    /// # Errors
    /// When `alpha` is outside (0, 1).
    pub fn rejects(&self, alpha: f64) -> Result<bool, StatsError> {
        self.test.rejects(alpha)
    }

    /// How many numbers make up the running state, the fitted baseline included.
    #[must_use]
    pub fn numbers(&self) -> usize {
        // the times of the clock
        self.baseline.numbers() + self.test.numbers() + 3
    }

    /// What is tested.
    #[must_use]
    pub fn level(&self) -> ExceedLevel {
        self.level
    }

    /// The level of now in the gauge's own unit: the bound itself, or the multiple of the baseline of the moment.
    #[must_use]
    pub fn bound(&self) -> f64 {
        self.baseline.bound_at(self.clock.elapsed(), self.level)
    }
}

/// The written form.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    level: ExceedLevel,
    #[serde(with = "exact")]
    horizon_seconds: f64,
    baseline: Baseline,
    clock: SampleClock,
    test: RunLengthExceed,
}

impl From<ExceedTest> for Stored {
    fn from(test: ExceedTest) -> Self {
        let ExceedTest { level, horizon_seconds, baseline, clock, test } = test;
        Self { level, horizon_seconds, baseline, clock, test }
    }
}

impl TryFrom<Stored> for ExceedTest {
    type Error = StatsError;

    fn try_from(stored: Stored) -> Result<Self, StatsError> {
        let Stored { level, horizon_seconds, baseline, clock, test } = stored;
        admit_horizon(horizon_seconds)?;
        level.admit(baseline.scale)?;
        clock.admit()?;
        test.continues(horizon_seconds)?;
        Ok(Self { level, horizon_seconds, baseline, clock, test })
    }
}
