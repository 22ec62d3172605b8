//! The frozen expectation: what the gauge would do in the watch if nothing had been deployed.
//!
//! With a season, its profile, moved up or down by how far the last hour was from it; without one, the median of the
//! last hour. The spread is that of the residuals. None of it is touched again after the deployment: a baseline that
//! adapts learns the regression and calls it normal.

use serde::{Deserialize, Serialize};

use super::history::Moment;
use super::level::{Season, SeasonalLevel, median, robust_level};
use super::parameters::ExceedLevel;
use super::scale::Scale;
use crate::stats::error::{StatsError, finite, within};
use crate::stats::exact::{self, Exact};

/// The last hour decides where the level is.
const TRAILING_SECONDS: f64 = 3_600.0;

/// With fewer samples than this in the last hour, the last 60 there are decide.
const FEWEST_TRAILING: usize = 10;
const FALLBACK_SAMPLES: usize = 60;

/// The profile is read every quarter of an hour and interpolated: a slot is that wide.
const GRID_SECONDS: f64 = 900.0;

/// Most points ahead; longer watches get a coarser grid, so that the state stays small.
const MOST_POINTS: usize = 33;

/// No standardised value is further out: dividing by the smallest spread must not overflow. The test clips far earlier.
const MOST_SPREADS: f64 = 1e6;

/// Rounding on the way to the scale and back: a queue of 20 does not exceed twice a baseline of 10.
const ROUNDING: f64 = 1e-9;

/// The frozen level over the watch, and the spread around it, on the gauge's scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub(super) struct Baseline {
    pub(super) scale: Scale,
    pub(super) quantum: f64,
    pub(super) season: Season,
    pub(super) spread: f64,
    /// Whether the data had less spread than the floor.
    pub(super) floored: bool,
    grid_seconds: f64,
    /// Levels from the deployment on, one for each grid point; one alone when there is no season.
    ahead: Vec<f64>,
}

/// A baseline, and what the history looked like against it.
pub(super) struct FittedBaseline {
    pub(super) baseline: Baseline,
    /// The level at the time of every sample, on the scale.
    pub(super) levels: Vec<f64>,
    /// Residuals of the window around ITS median, in spreads: what the noise is fitted from.
    pub(super) noise: Vec<Option<f64>>,
}

/// The season's levels before and after the moment.
struct Profile {
    season: Season,
    past: Vec<f64>,
    ahead: Vec<f64>,
    grid_seconds: f64,
}

impl FittedBaseline {
    /// The baseline at a moment, for a watch of `horizon` seconds. Fails when the moment's history is not enough.
    pub(super) fn at(
        moment: &Moment<'_>,
        scale: Scale,
        quantum: f64,
        horizon: f64,
    ) -> Result<Self, StatsError> {
        moment.enough()?;
        let profile = Profile::of(moment, horizon)?;
        let count = moment.values.len();
        let shape: Vec<f64> =
            (0..count).map(|i| interpolate(&profile.past, GRID_SECONDS, i as f64 * moment.step)).collect();
        let residuals: Vec<Option<f64>> =
            moment.values.iter().zip(&shape).map(|(value, shape)| value.map(|value| value - shape)).collect();
        let offset = trailing_median(&residuals, moment.step)?;
        let ahead: Vec<f64> = profile.ahead.iter().map(|level| level + offset).collect();
        let (relative, absolute) = scale.floors(ahead[0], quantum);
        let present: Vec<f64> = residuals.iter().flatten().copied().collect();
        let robust = robust_level(&present, 0.0, absolute.max(relative * ahead[0].abs()))?;
        let noise = residuals
            .iter()
            .map(|residual| residual.map(|residual| bounded((residual - robust.level) / robust.scale)))
            .collect();
        let baseline = Baseline {
            scale,
            quantum,
            season: profile.season,
            spread: robust.scale,
            floored: robust.floored,
            grid_seconds: profile.grid_seconds,
            ahead,
        };
        Ok(Self { baseline, levels: shape.iter().map(|shape| shape + offset).collect(), noise })
    }

    /// The history in spreads above its level.
    pub(super) fn standardised(&self, values: &[Option<f64>]) -> Vec<Option<f64>> {
        let spread = self.baseline.spread;
        let above = |value: f64, level: &f64| bounded((value - level) / spread);
        values.iter().zip(&self.levels).map(|(value, level)| value.map(|value| above(value, level))).collect()
    }

    /// Whether each sample of the history was above a level.
    pub(super) fn exceedances(&self, values: &[Option<f64>], level: ExceedLevel) -> Vec<Option<bool>> {
        let above = |value: f64, at: &f64| self.baseline.exceeds_from(value, *at, level);
        values.iter().zip(&self.levels).map(|(value, at)| value.map(|value| above(value, at))).collect()
    }
}

impl Profile {
    /// The finest season that covers the whole window and the whole watch: one that changed in between would be a step.
    fn of(moment: &Moment<'_>, horizon: f64) -> Result<Self, StatsError> {
        let seasonal = SeasonalLevel::new(moment.seasonal, 0.0, 0.0)?;
        let window = (moment.values.len().saturating_sub(1)) as f64 * moment.step;
        let grid_seconds = GRID_SECONDS.max(horizon / (MOST_POINTS - 1) as f64);
        let points = |span: f64, grid: f64| (span / grid).ceil() as usize + 1;
        let read = |season, from: f64, grid: f64, count: usize| -> Result<Option<Vec<f64>>, StatsError> {
            (0..count)
                .map(|i| Ok(seasonal.of(season, from + i as f64 * grid)?.map(|robust| robust.level)))
                .collect()
        };
        for season in [Season::Week, Season::Day] {
            if moment.seasonal.is_empty() {
                break;
            }
            let Some(ahead) = read(season, moment.at, grid_seconds, points(horizon, grid_seconds))? else {
                continue;
            };
            let Some(past) = read(season, moment.at - window, GRID_SECONDS, points(window, GRID_SECONDS))?
            else {
                continue;
            };
            return Ok(Self { season, past, ahead, grid_seconds });
        }
        Ok(Self { season: Season::Trailing, past: vec![0.0], ahead: vec![0.0], grid_seconds })
    }
}

impl Baseline {
    /// The level `elapsed` seconds after the deployment, on the scale.
    pub(super) fn level_at(&self, elapsed: f64) -> f64 {
        interpolate(&self.ahead, self.grid_seconds, elapsed)
    }

    /// How many numbers it is: the levels ahead, their grid, the quantum and the spread.
    pub(super) fn numbers(&self) -> usize {
        self.ahead.len() + 3
    }

    /// A value on the scale, as spreads above the level of the moment.
    pub(super) fn standardise(&self, value: f64, elapsed: f64) -> f64 {
        bounded((value - self.level_at(elapsed)) / self.spread)
    }

    /// Whether a value on the scale is above `level`.
    pub(super) fn exceeds(&self, value: f64, elapsed: f64, level: ExceedLevel) -> bool {
        self.exceeds_from(value, self.level_at(elapsed), level)
    }

    /// The bound `level` means at this moment, in the gauge's own unit.
    pub(super) fn bound_at(&self, elapsed: f64, level: ExceedLevel) -> f64 {
        self.bound(self.level_at(elapsed), level)
    }

    fn bound(&self, baseline: f64, level: ExceedLevel) -> f64 {
        match level {
            ExceedLevel::Absolute(bound) => bound,
            ExceedLevel::Multiple(multiple) => multiple * self.scale.restore(baseline).max(self.quantum),
        }
    }

    fn exceeds_from(&self, value: f64, baseline: f64, level: ExceedLevel) -> bool {
        let bound = self.scale.apply(self.bound(baseline, level));
        value > bound + ROUNDING * bound.abs().max(1.0)
    }
}

fn bounded(spreads: f64) -> f64 {
    spreads.clamp(-MOST_SPREADS, MOST_SPREADS)
}

/// Linear between grid points, constant beyond the last one.
fn interpolate(points: &[f64], grid: f64, at: f64) -> f64 {
    let position = (at / grid).max(0.0);
    let last = points.len() - 1;
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    points[below] + (points[above] - points[below]) * (position - below as f64).min(1.0)
}

/// How far the last hour was from the profile.
fn trailing_median(residuals: &[Option<f64>], step: f64) -> Result<f64, StatsError> {
    let hour = (TRAILING_SECONDS / step).floor().max(1.0) as usize;
    let from = residuals.len().saturating_sub(hour);
    let mut picked: Vec<f64> = residuals[from..].iter().flatten().copied().collect();
    if picked.len() < FEWEST_TRAILING {
        picked = residuals.iter().rev().flatten().take(FALLBACK_SAMPLES).copied().collect();
    }
    median(&mut picked).ok_or(StatsError::Empty { quantity: "gauge samples" })
}

/// The written form.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    scale: Scale,
    #[serde(with = "exact")]
    quantum: f64,
    season: Season,
    #[serde(with = "exact")]
    spread: f64,
    floored: bool,
    #[serde(with = "exact")]
    grid_seconds: f64,
    ahead: Vec<Exact>,
}

impl From<Baseline> for Stored {
    fn from(baseline: Baseline) -> Self {
        let Baseline { scale, quantum, season, spread, floored, grid_seconds, ahead } = baseline;
        let ahead = ahead.into_iter().map(Exact).collect();
        Self { scale, quantum, season, spread, floored, grid_seconds, ahead }
    }
}

impl TryFrom<Stored> for Baseline {
    type Error = StatsError;

    fn try_from(stored: Stored) -> Result<Self, StatsError> {
        let Stored { scale, quantum, season, spread, floored, grid_seconds, ahead } = stored;
        within("the stored quantum of a gauge", quantum, quantum >= 0.0, "zero or more")?;
        within("the stored spread of a gauge", spread, spread > 0.0, "a positive number")?;
        within(
            "the stored grid of a gauge in seconds",
            grid_seconds,
            grid_seconds > 0.0,
            "a positive number",
        )?;
        let found = ahead.len();
        if found == 0 {
            return Err(StatsError::Empty { quantity: "stored levels of a gauge" });
        }
        // One more than planned: the length of a watch need not be a multiple of the grid.
        if found > MOST_POINTS + 1 {
            let quantity = "the stored levels of a gauge";
            return Err(StatsError::Length { quantity, expected: MOST_POINTS, found });
        }
        let ahead = ahead
            .into_iter()
            .map(|level| finite("a stored level of a gauge", level.0))
            .collect::<Result<_, _>>()?;
        Ok(Self { scale, quantum, season, spread, floored, grid_seconds, ahead })
    }
}
