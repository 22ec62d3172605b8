//! A/A calibration: how often the detector fires at moments at which nothing was deployed.
//!
//! A gauge's promise rests on a model, and the history can contradict it: unlabelled incidents, a batch job at ten past,
//! a correlation that an hour cannot show. So the WHOLE fitted detector is played on pseudo-deployments spread over the
//! history, each fitted only on what came before it. If more than `2 alpha` of them fire, the threshold rises from
//! `ln(1/alpha)` to `ln(1/alpha')` with `alpha' = alpha^2/share`.
//!
//! A heuristic, not a theorem: twenty runs cannot resolve 1 %, the runs overlap, and the future need not be like the past.

use serde::{Deserialize, Serialize};

use super::detector::GaugeDetector;
use super::history::{FEWEST_SAMPLES, GaugeHistory, Moment, Prepared, SHORTEST_SECONDS};
use super::parameters::GaugeParameters;
use crate::stats::error::{StatsError, log_threshold, within};
use crate::stats::exact;

/// Fewest pseudo-deployments a share is computed from; with fewer the detector is "not calibrated".
pub const FEWEST_PSEUDO_DEPLOYMENTS: usize = 20;

/// Most pseudo-deployments: 60 of them resolve 1.7 %, and one fit stays a matter of milliseconds.
const MOST_PSEUDO_DEPLOYMENTS: usize = 60;

/// Pseudo-deployments are at least this share of a watch apart. Closer together they would be the same run twice.
const LEAST_SPACING: f64 = 0.25;

/// What the pseudo-deployments showed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Pseudo-deployments that were played.
    pub runs: u32,
    /// Those that fired at `ln(1/alpha)`.
    pub fired: u32,
    /// `fired / runs`, 0 to 1.
    #[serde(with = "exact")]
    pub share: f64,
    /// The threshold to use, nats, at least `ln(1/alpha)`.
    #[serde(with = "exact")]
    pub threshold_log_e: f64,
}

/// Plays the detector on 20 to 60 pseudo-deployments, at least a quarter of a watch apart, each with at least half an
/// hour before it and a whole watch behind it. `None`: fewer than 20 are possible, the detector is not calibrated.
///
/// # Errors
/// When a parameter or a sample is outside the range its documentation names.
pub fn calibrate(
    history: &GaugeHistory,
    parameters: &GaugeParameters,
) -> Result<Option<Calibration>, StatsError> {
    parameters.admit()?;
    calibrate_prepared(&Prepared::new(history, parameters.scale)?, parameters)
}

pub(super) fn calibrate_prepared(
    prepared: &Prepared,
    parameters: &GaugeParameters,
) -> Result<Option<Calibration>, StatsError> {
    let threshold = log_threshold(parameters.alpha)?;
    let (mut runs, mut fired) = (0_u32, 0_u32);
    for last in starts(prepared, parameters.horizon_seconds) {
        let moment = prepared.moment(Some(last));
        let watch = watch_after(prepared, last, parameters.horizon_seconds);
        if !worth_playing(&moment, watch) {
            continue;
        }
        let mut detector = GaugeDetector::fit_moment(&moment, parameters)?;
        for &value in watch {
            detector.learn(value, prepared.step)?;
        }
        runs += 1;
        fired += u32::from(detector.max_log_e() >= threshold);
    }
    if (runs as usize) < FEWEST_PSEUDO_DEPLOYMENTS {
        return Ok(None);
    }
    let share = f64::from(fired) / f64::from(runs);
    let alpha = parameters.alpha;
    let threshold_log_e = if share > 2.0 * alpha { 2.0 * threshold + share.ln() } else { threshold };
    Ok(Some(Calibration { runs, fired, share, threshold_log_e }))
}

impl Calibration {
    /// Refuses a stored calibration that contradicts itself or is below `threshold`, nats.
    pub(super) fn admit(&self, threshold: f64) -> Result<(), StatsError> {
        let runs = f64::from(self.runs);
        let enough = self.runs as usize >= FEWEST_PSEUDO_DEPLOYMENTS;
        within("the stored number of pseudo-deployments", runs, enough, "at least 20")?;
        let consistent = self.fired <= self.runs && self.share == f64::from(self.fired) / runs;
        within("the stored share of alarms", self.share, consistent, "the alarms over the runs")?;
        let inside = self.threshold_log_e >= threshold;
        within("the stored threshold", self.threshold_log_e, inside, "at least ln(1/alpha)")?;
        Ok(())
    }
}

/// Indices of the last sample before each pseudo-deployment, evenly spread; empty when too few fit.
fn starts(prepared: &Prepared, horizon: f64) -> Vec<usize> {
    let steps = |seconds: f64| (seconds / prepared.step).ceil() as usize;
    let earliest = steps(SHORTEST_SECONDS).max(FEWEST_SAMPLES);
    let Some(latest) = prepared.values.len().checked_sub(steps(horizon).saturating_add(1)) else {
        return Vec::new();
    };
    let Some(room) = latest.checked_sub(earliest) else {
        return Vec::new();
    };
    let possible = room / steps(LEAST_SPACING * horizon).max(1) + 1;
    if possible < FEWEST_PSEUDO_DEPLOYMENTS {
        return Vec::new();
    }
    let runs = possible.min(MOST_PSEUDO_DEPLOYMENTS);
    (0..runs).map(|k| earliest + k * room / (runs - 1)).collect()
}

fn watch_after(prepared: &Prepared, last: usize, horizon: f64) -> &[Option<f64>] {
    let end = (last + 1 + (horizon / prepared.step).ceil() as usize).min(prepared.values.len());
    &prepared.values[last + 1..end]
}

/// A watch that is mostly holes cannot fire and would flatter the share.
fn worth_playing(moment: &Moment<'_>, watch: &[Option<f64>]) -> bool {
    moment.enough().is_ok() && 2 * watch.iter().flatten().count() >= watch.len()
}
