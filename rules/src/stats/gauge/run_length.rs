//! Evidence that a gauge stays above a level for longer than it ever used to.
//!
//! Null hypothesis: given the past, the next sample exceeds the level with probability at most `p0`, the entry of an
//! [`ExceedTable`] for the current state and run. Against it stand `p_k = max(0.8 | 0.95 | 0.99, p0)`, and one sample
//! `y` brings `y ln(p_k/p0) + (1 - y) ln((1 - p_k)/(1 - p0))` to the change-time kernel. The ratio grows in the true
//! probability, so its expectation is at most 1 for every probability up to `p0`: an exact e-process IF the table
//! bounds the true probabilities. It is estimated, each entry with 90 %: that is the part without a guarantee.

use serde::{Deserialize, Serialize};

use super::exceed::ExceedTable;
use crate::stats::error::StatsError;
use crate::stats::kernel::ChangeMixture;

/// What the alternatives claim: it exceeds four times in five, 19 in 20, 99 in 100.
const ALTERNATIVES: [f64; 3] = [0.8, 0.95, 0.99];

/// A run that began before anybody looked counts as this long: the last bin.
const LONG_RUN: u64 = 99;

/// Weight on "from the first sample on".
const ANCHOR_WEIGHT: f64 = 0.5;

/// The running test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct RunLengthExceed {
    table: ExceedTable,
    mixture: ChangeMixture,
    /// Whether the last sample exceeded; `None` after a hole.
    above: Option<bool>,
    /// Samples since the state last changed.
    run: u64,
}

impl RunLengthExceed {
    /// A fresh test over a watch of `horizon_seconds` that begins below the level, after a long run there.
    ///
    /// # Errors
    /// When the horizon is not positive.
    pub fn new(table: ExceedTable, horizon_seconds: f64) -> Result<Self, StatsError> {
        let mixture = ChangeMixture::new(ALTERNATIVES.len(), horizon_seconds, ANCHOR_WEIGHT)?;
        Ok(Self { table, mixture, above: Some(false), run: LONG_RUN })
    }

    /// How many numbers make up the running state, the table included: it was estimated, and nothing else remembers it.
    #[must_use]
    pub fn numbers(&self) -> usize {
        // the state, and the length of its run
        self.mixture.numbers() + self.table.rows().as_flattened().len() + 2
    }

    /// The same, beginning with the run that a history ends in. A history that ends in a hole leaves the state open.
    ///
    /// # Errors
    /// When the horizon is not positive.
    pub fn after(
        table: ExceedTable,
        horizon_seconds: f64,
        history: &[Option<bool>],
    ) -> Result<Self, StatsError> {
        let mut test = Self::new(table, horizon_seconds)?;
        test.above = history.last().copied().flatten();
        test.run = history.iter().rev().take_while(|sample| **sample == test.above).count() as u64;
        Ok(test)
    }

    /// Takes in whether a sample, `dt_seconds` after the one before, exceeds the level, and returns the new log
    /// e-value, nats. `None` is a hole: the evidence stays and the state is forgotten; the first sample after it only
    /// says where the gauge is, and a run above is then taken to have lasted long, which is the careful reading.
    ///
    /// # Errors
    /// When `dt_seconds` is negative or not finite; the state is unchanged.
    #[inline]
    pub fn update(&mut self, exceeds: Option<bool>, dt_seconds: f64) -> Result<f64, StatsError> {
        let (Some(exceeds), Some(above)) = (exceeds, self.above) else {
            let log_e = self.mixture.update(None, dt_seconds)?;
            self.above = exceeds;
            self.run = if exceeds == Some(true) { LONG_RUN } else { 1 };
            return Ok(log_e);
        };
        let null = self.table.bound(above, self.run);
        let llr = ALTERNATIVES.map(|alternative| {
            let alternative = alternative.max(null);
            if exceeds { (alternative / null).ln() } else { (-alternative).ln_1p() - (-null).ln_1p() }
        });
        let log_e = self.mixture.update(Some(&llr), dt_seconds)?;
        self.run = if exceeds == above { self.run.saturating_add(1) } else { 1 };
        self.above = Some(exceeds);
        Ok(log_e)
    }

    /// The current log e-value, nats.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.mixture.log_e()
    }

    /// The largest log e-value so far, at least 0, nats.
    #[must_use]
    pub fn max_log_e(&self) -> f64 {
        self.mixture.max_log_e()
    }

    /// Whether the evidence has ever reached `1/alpha`.
    ///
    /// # Errors
    /// When `alpha` is outside (0, 1).
    pub fn rejects(&self, alpha: f64) -> Result<bool, StatsError> {
        self.mixture.rejects(alpha)
    }

    /// The bounds it holds the present against.
    #[must_use]
    pub fn table(&self) -> &ExceedTable {
        &self.table
    }

    /// Refuses a stored test that was not started with this watch.
    pub(super) fn continues(&self, horizon_seconds: f64) -> Result<(), StatsError> {
        self.mixture.continues(&ChangeMixture::new(ALTERNATIVES.len(), horizon_seconds, ANCHOR_WEIGHT)?)
    }
}

/// The written form.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    table: ExceedTable,
    mixture: ChangeMixture,
    above: Option<bool>,
    run: u64,
}

impl From<RunLengthExceed> for Stored {
    fn from(test: RunLengthExceed) -> Self {
        Self { table: test.table, mixture: test.mixture, above: test.above, run: test.run }
    }
}

impl TryFrom<Stored> for RunLengthExceed {
    type Error = StatsError;

    fn try_from(stored: Stored) -> Result<Self, StatsError> {
        let Stored { table, mixture, above, run } = stored;
        if mixture.alternatives() != ALTERNATIVES.len() {
            let (expected, found) = (ALTERNATIVES.len(), mixture.alternatives());
            return Err(StatsError::Length { quantity: "the stored mixture", expected, found });
        }
        Ok(Self { table, mixture, above, run })
    }
}
