//! The scale on which a gauge is compared: where "twice as much" is the same distance at noon and at midnight.

use serde::{Deserialize, Serialize};

use crate::stats::error::{StatsError, within};

/// How values become comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// `ln x`, for latencies: effects multiply. A latency of 0 means that nothing was measured.
    Log,
    /// `ln(1 + x)`, for queues and backlogs: effects multiply, and an empty queue is a value.
    Log1p,
    /// `x`, for utilisation and other bounded shares.
    Identity,
}

impl Scale {
    /// The value on this scale. `None` is a hole: a latency of exactly 0 has no logarithm and was no measurement.
    ///
    /// # Errors
    /// When the value is not finite, or negative on a logarithmic scale.
    pub fn transform(self, value: f64) -> Result<Option<f64>, StatsError> {
        let allowed = self == Self::Identity || value >= 0.0;
        within("a gauge's value", value, allowed, "zero or more: a latency or a queue is never negative")?;
        let hole = self == Self::Log && value == 0.0;
        Ok((!hole).then(|| self.apply(value)))
    }

    /// [`Scale::transform`] for a value that is known to lie in its range.
    pub(super) fn apply(self, value: f64) -> f64 {
        match self {
            Self::Log => value.ln(),
            Self::Log1p => value.ln_1p(),
            Self::Identity => value,
        }
    }

    /// Back to the original unit; the inverse of [`Scale::transform`].
    #[must_use]
    pub fn restore(self, transformed: f64) -> f64 {
        match self {
            Self::Log => transformed.exp(),
            Self::Log1p => transformed.exp_m1(),
            Self::Identity => transformed,
        }
    }

    /// The smallest difference that means anything, in original units: one item of a queue, one point of a utilisation
    /// in \[0, 1\]. A latency needs none, its scale is relative.
    #[must_use]
    pub fn standard_quantum(self) -> f64 {
        match self {
            Self::Log => 0.0,
            Self::Log1p => 1.0,
            Self::Identity => 0.01,
        }
    }

    /// The floors of the spread, on this scale: (relative to the level, absolute). 2 % of the level wherever the level
    /// is still in original units, ln(1.02) where it is a logarithm, and never less than the quantum at this level.
    pub(super) fn floors(self, level: f64, quantum: f64) -> (f64, f64) {
        const RELATIVE: f64 = 0.02;
        match self {
            // Both are logarithms of what the quantum is added to: x, or one more than x.
            Self::Log | Self::Log1p => (0.0, RELATIVE.ln_1p().max((quantum / level.exp()).ln_1p())),
            Self::Identity => (RELATIVE, quantum),
        }
    }
}
