//! What is normal: a median with a robust spread, at this time of the week if the history reaches back far enough.
//!
//! Means and standard deviations are useless here: one incident in the history would double both and hide the next.

use serde::{Deserialize, Serialize};

use crate::stats::error::{StatsError, finite, within};

/// The MAD of a normal distribution times this is its standard deviation.
pub(super) const MAD_TO_DEVIATION: f64 = 1.4826;

/// No spread is smaller, so that nothing is ever divided by zero.
const LEAST_SCALE: f64 = 1e-12;

/// Fewest samples a median is taken of before the next coarser season is used.
const FEWEST_IN_SLOT: usize = 10;

/// What the trailing window falls back to when it holds too few samples.
const FALLBACK_SAMPLES: usize = 60;

const DAY_SECONDS: f64 = 86_400.0;
const WEEK_SECONDS: f64 = 7.0 * DAY_SECONDS;

/// A level and a spread, in the unit of the values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RobustLevel {
    /// The median.
    pub level: f64,
    /// `max(1.4826 MAD, floors)`, positive.
    pub scale: f64,
    /// Whether a floor, not the data, set the scale.
    pub floored: bool,
}

/// Which season a level was read from, finest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Season {
    /// The same quarter of an hour of the week, give or take one, in at least three weeks.
    Week,
    /// The same time of day in at least four days.
    Day,
    /// The last hour: no season known.
    Trailing,
}

/// A level at one moment, and the season it came from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeasonalReading {
    /// Level and spread of the samples that were picked.
    pub robust: RobustLevel,
    /// Where they were picked from.
    pub season: Season,
}

/// Levels by slot of the week, by time of day or by the last hour, over borrowed samples.
///
/// A sample at `t` belongs to the slot around `when` if `|((t - when + P/2) mod P) - P/2| <= slot (neighbours + 1/2)`
/// for the period `P` of a week or a day.
#[derive(Debug, Clone, Copy)]
pub struct SeasonalLevel<'a> {
    samples: &'a [(f64, f64)],
    relative_floor: f64,
    absolute_floor: f64,
}

/// Width of a slot, seconds.
const SLOT_SECONDS: f64 = 900.0;

/// Slots on either side that count as the same time.
const NEIGHBOURS: f64 = 1.0;

/// The median, with the mean of the two middle values for an even number; `None` of nothing. The values are reordered.
#[must_use]
pub fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let odd = values.len() % 2 == 1;
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return Some(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(0.5 * (lower + upper))
}

/// Median and `max(1.4826 median|x - median|, relative_floor |median|, absolute_floor, 1e-12)`, in the unit of the
/// values. Half of the values may be arbitrarily wrong.
///
/// # Errors
/// When there are no values, one is not finite, or a floor is negative.
pub fn robust_level(
    values: &[f64],
    relative_floor: f64,
    absolute_floor: f64,
) -> Result<RobustLevel, StatsError> {
    for &value in values {
        finite("a gauge's value", value)?;
    }
    within("the relative floor of a spread", relative_floor, relative_floor >= 0.0, "zero or more")?;
    within("the absolute floor of a spread", absolute_floor, absolute_floor >= 0.0, "zero or more")?;
    let mut scratch = values.to_vec();
    let empty = StatsError::Empty { quantity: "gauge samples" };
    let level = median(&mut scratch).ok_or_else(|| empty.clone())?;
    for value in &mut scratch {
        *value = (*value - level).abs();
    }
    let spread = MAD_TO_DEVIATION * median(&mut scratch).ok_or(empty)?;
    let floor = (relative_floor * level.abs()).max(absolute_floor).max(LEAST_SCALE);
    Ok(RobustLevel { level, scale: spread.max(floor), floored: spread < floor })
}

impl<'a> SeasonalLevel<'a> {
    /// Levels from `samples`, pairs of (seconds since any fixed moment that all share, value), oldest first. The moment's
    /// own weekday and hour do not matter. Floors as in [`robust_level`].
    ///
    /// # Errors
    /// When a number is not finite or a floor is negative.
    pub fn new(
        samples: &'a [(f64, f64)],
        relative_floor: f64,
        absolute_floor: f64,
    ) -> Result<Self, StatsError> {
        for &(seconds, value) in samples {
            finite("the time of a seasonal sample", seconds)?;
            finite("a seasonal sample", value)?;
        }
        within("the relative floor of a spread", relative_floor, relative_floor >= 0.0, "zero or more")?;
        within("the absolute floor of a spread", absolute_floor, absolute_floor >= 0.0, "zero or more")?;
        Ok(Self { samples, relative_floor, absolute_floor })
    }

    /// The level at `when`, from the finest season the samples support; at last the `trailing_seconds` before `when`,
    /// and when those hold fewer than 10 samples, the last 60 samples there are.
    ///
    /// # Errors
    /// When there is no sample at all, or `when` is not finite.
    pub fn at(&self, when: f64, trailing_seconds: f64) -> Result<SeasonalReading, StatsError> {
        finite("the time of a seasonal level", when)?;
        for season in [Season::Week, Season::Day] {
            if let Some(robust) = self.of(season, when)? {
                return Ok(SeasonalReading { robust, season });
            }
        }
        let last = when - trailing_seconds;
        let mut picked: Vec<f64> =
            self.samples.iter().filter(|(t, _)| (last..when).contains(t)).map(|(_, value)| *value).collect();
        if picked.len() < FEWEST_IN_SLOT {
            let from = self.samples.len().saturating_sub(FALLBACK_SAMPLES);
            picked = self.samples[from..].iter().map(|(_, value)| *value).collect();
        }
        let robust = robust_level(&picked, self.relative_floor, self.absolute_floor)?;
        Ok(SeasonalReading { robust, season: Season::Trailing })
    }

    /// The level at `when` from one season only: `None` when too few weeks (3), days (4) or samples (10) cover this
    /// time, and always for [`Season::Trailing`].
    ///
    /// # Errors
    /// Never for samples that [`SeasonalLevel::new`] let in; the type is that of [`robust_level`].
    pub fn of(&self, season: Season, when: f64) -> Result<Option<RobustLevel>, StatsError> {
        let (period, fewest_cycles) = match season {
            Season::Week => (WEEK_SECONDS, 3),
            Season::Day => (DAY_SECONDS, 4),
            Season::Trailing => return Ok(None),
        };
        let mut picked = Vec::new();
        let mut cycles = Vec::new();
        for &(seconds, value) in self.samples {
            let shifted = seconds - when + period / 2.0;
            if (shifted.rem_euclid(period) - period / 2.0).abs() <= SLOT_SECONDS * (NEIGHBOURS + 0.5) {
                picked.push(value);
                cycles.push((shifted / period).floor());
            }
        }
        cycles.sort_unstable_by(f64::total_cmp);
        cycles.dedup();
        if cycles.len() < fewest_cycles || picked.len() < FEWEST_IN_SLOT {
            return Ok(None);
        }
        robust_level(&picked, self.relative_floor, self.absolute_floor).map(Some)
    }
}
