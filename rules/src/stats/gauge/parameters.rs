//! What fixes a gauge's detector before it sees the release. Choosing any of it afterwards voids what it promises.

use serde::{Deserialize, Serialize};

use super::scale::Scale;
use crate::stats::error::{StatsError, open_unit, within};
use crate::stats::exact;

/// Most levels one detector watches: each costs half a kilobyte of state, and the evidence is shared among them.
const MOST_LEVELS: usize = 4;

/// The level is an estimate: the median of an hour of a strongly correlated series is off by half a spread. A margin
/// below that would report the error of the estimate as a regression.
const LEAST_MARGIN: f64 = 0.5;

/// How much of a rise is tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Margin {
    /// This times the level, above 1: `ln(ratio)/spread` on a logarithmic scale, `(ratio - 1) level/spread` on the
    /// identity. Never less than half a spread, because the level is an estimate.
    Ratio(#[serde(with = "exact")] f64),
    /// This many spreads, zero or more.
    Spreads(#[serde(with = "exact")] f64),
}

/// A level that a gauge may not stay above.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ExceedLevel {
    /// This many times the frozen baseline of the moment, positive. A baseline below the quantum counts as the quantum:
    /// twice an empty queue is two items, not none.
    Multiple(#[serde(with = "exact")] f64),
    /// This value, in the gauge's own unit.
    Absolute(#[serde(with = "exact")] f64),
}

/// The parameters of a [`GaugeDetector`](super::GaugeDetector).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaugeParameters {
    /// The error probability, 0 to 1 (both excluded), over the whole watch.
    #[serde(with = "exact")]
    pub alpha: f64,
    /// The watch, seconds, positive.
    #[serde(with = "exact")]
    pub horizon_seconds: f64,
    /// On which scale values are compared.
    pub scale: Scale,
    /// How much of a rise is tolerated.
    pub margin: Margin,
    /// The smallest difference that means anything, in the gauge's own unit, zero or more; positive for scales other
    /// than [`Scale::Log`], where a constant history would otherwise make every flicker an event.
    #[serde(with = "exact")]
    pub quantum: f64,
    /// Levels it may not stay above, at most 4. They share half of the evidence; without any, the shift has all of it.
    pub exceed: Vec<ExceedLevel>,
}

impl GaugeParameters {
    /// Production values: 20 % more is tolerated (and half a spread at least), 1.5 and 2 times the baseline are watched.
    #[must_use]
    pub fn standard(alpha: f64, horizon_seconds: f64, scale: Scale) -> Self {
        Self {
            alpha,
            horizon_seconds,
            scale,
            margin: Margin::Ratio(1.2),
            quantum: scale.standard_quantum(),
            exceed: vec![ExceedLevel::Multiple(1.5), ExceedLevel::Multiple(2.0)],
        }
    }

    pub(super) fn admit(&self) -> Result<(), StatsError> {
        open_unit("the error probability alpha", self.alpha)?;
        admit_horizon(self.horizon_seconds)?;
        match self.margin {
            Margin::Ratio(ratio) => within("the tolerated ratio", ratio, ratio > 1.0, "a number above 1")?,
            Margin::Spreads(spreads) => {
                within("the tolerated rise in spreads", spreads, spreads >= 0.0, "zero or more")?
            }
        };
        admit_quantum(self.quantum, self.scale)?;
        if self.exceed.len() > MOST_LEVELS {
            let (expected, found) = (MOST_LEVELS, self.exceed.len());
            return Err(StatsError::Length { quantity: "the list of levels of a gauge", expected, found });
        }
        self.exceed.iter().try_for_each(|level| level.admit(self.scale))
    }
}

impl Margin {
    /// The margin in spreads, for a level on `scale` and a quantum in original units.
    pub(super) fn in_spreads(self, scale: Scale, level: f64, quantum: f64, spread: f64) -> f64 {
        match (self, scale) {
            (Self::Spreads(spreads), _) => spreads,
            (Self::Ratio(ratio), Scale::Log | Scale::Log1p) => (ratio.ln() / spread).max(LEAST_MARGIN),
            (Self::Ratio(ratio), Scale::Identity) => {
                ((ratio - 1.0) * level.abs().max(quantum) / spread).max(LEAST_MARGIN)
            }
        }
    }
}

impl ExceedLevel {
    pub(super) fn admit(self, scale: Scale) -> Result<(), StatsError> {
        let (value, inside, expected) = match self {
            Self::Multiple(multiple) => (multiple, multiple > 0.0, "a positive number"),
            Self::Absolute(value) => match scale {
                Scale::Log => (value, value > 0.0, "a positive number, as the gauge is a latency"),
                Scale::Log1p => (value, value >= 0.0, "zero or more, as the gauge is a queue"),
                Scale::Identity => (value, true, "a finite number"),
            },
        };
        within("the level that a gauge may not exceed", value, inside, expected)?;
        Ok(())
    }
}

/// A watch of a hundred days is a mistake in the unit.
pub(super) fn admit_horizon(seconds: f64) -> Result<(), StatsError> {
    let inside = seconds > 0.0 && seconds <= 100.0 * 86_400.0;
    within("the watch in seconds", seconds, inside, "a positive number, at most 100 days")?;
    Ok(())
}

fn admit_quantum(quantum: f64, scale: Scale) -> Result<(), StatsError> {
    let inside = quantum > 0.0 || (quantum == 0.0 && scale == Scale::Log);
    let expected = "a positive number (0 is allowed for latencies only)";
    within("the smallest difference of a gauge that means anything", quantum, inside, expected)?;
    Ok(())
}
