//! What a gauge did before the deployment, and the view of it from any moment of the past.
//!
//! Calibration asks "what would the detector have said had we deployed THEN"; it must see what was known then and
//! nothing later. So everything is fitted from a [`Moment`], a window that ends at the moment in question.

use super::scale::Scale;
use crate::stats::error::{StatsError, finite, within};

/// Fewest samples, and fewest within the window, that a detector is fitted from: half an hour, once a minute.
pub const FEWEST_SAMPLES: usize = 30;

/// Shortest history, seconds: the median of less than half an hour is the median of one busy phase.
pub(super) const SHORTEST_SECONDS: f64 = 1_800.0;

/// What is older says little about the noise of now, and a level that drifted for a day would pass for noise.
const LONGEST_FIT_SECONDS: f64 = 6.0 * 3_600.0;

/// Sampled more rarely than once an hour, a gauge says nothing about a watch.
const LONGEST_STEP_SECONDS: f64 = 3_600.0;

/// A day, once a second, and a little more.
const MOST_SAMPLES: usize = 100_000;

/// Four weeks, once a minute, and a little more.
const MOST_SEASONAL: usize = 50_000;

/// The past of one gauge, in its own unit.
#[derive(Debug, Clone, PartialEq)]
pub struct GaugeHistory {
    /// Evenly spaced samples, the last one taken at the deployment. `None` and NaN are holes; so is a latency of 0. At
    /// most 100 000. Half an hour at least; the last six hours are fitted, everything is used to calibrate.
    pub samples: Vec<Option<f64>>,
    /// Time between samples, seconds, positive, at most an hour. The watch is expected to sample at the same pace.
    pub step_seconds: f64,
    /// Older samples for the season, (seconds on the clock of `deployed_at_seconds`, value), in any order, at most
    /// 50 000; empty when none are known. Those that overlap the fitted six hours are not used.
    pub seasonal: Vec<(f64, f64)>,
    /// The deployment, seconds on any clock that `seasonal` shares.
    pub deployed_at_seconds: f64,
}

/// A history that was checked, on its scale, with the seasonal samples in order.
pub(super) struct Prepared {
    pub(super) values: Vec<Option<f64>>,
    pub(super) step: f64,
    seasonal: Vec<(f64, f64)>,
    deployed_at: f64,
}

/// What was known at one moment.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    /// Evenly spaced samples on the scale; the last one is at the moment.
    pub(super) values: &'a [Option<f64>],
    pub(super) step: f64,
    /// Samples from before `values` begin.
    pub(super) seasonal: &'a [(f64, f64)],
    /// The moment, on the clock of `seasonal`.
    pub(super) at: f64,
}

impl Prepared {
    pub(super) fn new(history: &GaugeHistory, scale: Scale) -> Result<Self, StatsError> {
        let step = history.step_seconds;
        let inside = step > 0.0 && step <= LONGEST_STEP_SECONDS;
        within("the time between samples in seconds", step, inside, "a positive number up to 3600")?;
        let deployed_at = finite("the time of the deployment", history.deployed_at_seconds)?;
        for (quantity, expected, found) in [
            ("the history of a gauge", MOST_SAMPLES, history.samples.len()),
            ("the seasonal history of a gauge", MOST_SEASONAL, history.seasonal.len()),
        ] {
            if found > expected {
                return Err(StatsError::Length { quantity, expected, found });
            }
        }
        let values =
            history.samples.iter().map(|&sample| on_scale(sample, scale)).collect::<Result<_, _>>()?;
        let mut seasonal = Vec::with_capacity(history.seasonal.len());
        for &(seconds, value) in &history.seasonal {
            finite("the time of a seasonal sample", seconds)?;
            if let Some(value) = on_scale(Some(value), scale)? {
                seasonal.push((seconds, value));
            }
        }
        seasonal.sort_by(|left, right| left.0.total_cmp(&right.0));
        Ok(Self { values, step, seasonal, deployed_at })
    }

    /// The view from the sample with index `last`, or from the deployment itself.
    pub(super) fn moment(&self, last: Option<usize>) -> Moment<'_> {
        let count = last.map_or(self.values.len(), |last| (last + 1).min(self.values.len()));
        let longest = (LONGEST_FIT_SECONDS / self.step).floor().max(FEWEST_SAMPLES as f64);
        let begin = count.saturating_sub(longest as usize);
        let at = self.deployed_at - (self.values.len() - count) as f64 * self.step;
        let window = (count - begin) as f64 * self.step;
        let older = self.seasonal.partition_point(|(seconds, _)| *seconds < at - window);
        Moment { values: &self.values[begin..count], step: self.step, seasonal: &self.seasonal[..older], at }
    }
}

impl Moment<'_> {
    /// Refuses a past that is too short or too full of holes to say what is normal.
    pub(super) fn enough(&self) -> Result<(), StatsError> {
        let present = self.values.iter().flatten().count();
        let quantity = "the number of samples before the deployment";
        within(quantity, present as f64, present >= FEWEST_SAMPLES, "at least 30")?;
        let seconds = self.values.len().saturating_sub(1) as f64 * self.step;
        let quantity = "the history of a gauge in seconds";
        within(quantity, seconds, seconds >= SHORTEST_SECONDS, "at least 1800, half an hour")?;
        let pairs = self.values.windows(2).filter(|pair| pair.iter().all(Option::is_some)).count();
        // Three in a row are needed behind the median filter, so pairs alone may still be too few there.
        let quantity = "the number of neighbouring samples before the deployment";
        within(quantity, pairs as f64, pairs >= FEWEST_SAMPLES / 2, "at least 15, without holes in between")?;
        Ok(())
    }
}

/// `None` and NaN are holes, and so is what the scale cannot express.
pub(super) fn on_scale(sample: Option<f64>, scale: Scale) -> Result<Option<f64>, StatsError> {
    match sample {
        Some(value) if !value.is_nan() => scale.transform(value),
        _ => Ok(None),
    }
}
