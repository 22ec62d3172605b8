//! One gauge, one number: the detector that the evidence holds for a queue, a p95 series or a saturation.
//!
//! `log E = ln( E_shift/2 + sum_j E_run,j/(2 J) )` over the shift test and `J` run-length tests: an average of
//! e-processes is one, whatever their dependence. See the module above for what is not guaranteed.

use serde::{Deserialize, Serialize};

use super::autoregression::{
    Autoregression, MedianOfThree, PREFILTER_FROM, RESIDUAL_LIMIT, fit_autoregression,
};
use super::baseline::{Baseline, FittedBaseline};
use super::calibrate::{Calibration, calibrate_prepared};
use super::clock::SampleClock;
use super::exceed::exceed_runs;
use super::history::{GaugeHistory, Moment, Prepared, on_scale};
use super::level::Season;
use super::parameters::{ExceedLevel, GaugeParameters};
use super::run_length::RunLengthExceed;
use super::shift::{GaugeShift, GaugeShiftParameters};
use crate::stats::error::{StatsError, finite, log_threshold, within};
use crate::stats::exact;
use crate::stats::numerics::log_add_exp;

/// The share of the evidence that the shift test has; the run lengths share the rest.
const SHIFT_WEIGHT: f64 = 0.5;

/// The running detector. A few hundred numbers; an update allocates nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct GaugeDetector {
    parameters: GaugeParameters,
    baseline: Baseline,
    clock: SampleClock,
    /// Against isolated spikes; only for strongly correlated gauges.
    filter: Option<MedianOfThree>,
    shift: GaugeShift,
    /// One for each of the parameters' levels.
    runs: Vec<RunLengthExceed>,
    log_e: f64,
    max_log_e: f64,
    threshold_log_e: f64,
    calibration: Option<Calibration>,
}

impl GaugeDetector {
    /// Fits baseline, noise and thresholds to what came before the deployment, and calibrates on pseudo-deployments.
    ///
    /// # Errors
    /// When the last six hours hold less than half an hour, fewer than 30 samples or fewer than 15 neighbouring pairs,
    /// or a parameter or a sample is outside the range its documentation names.
    pub fn fit(history: &GaugeHistory, parameters: GaugeParameters) -> Result<Self, StatsError> {
        parameters.admit()?;
        let prepared = Prepared::new(history, parameters.scale)?;
        let mut detector = Self::fit_moment(&prepared.moment(None), &parameters)?;
        detector.calibration = calibrate_prepared(&prepared, &parameters)?;
        if let Some(calibration) = detector.calibration {
            detector.threshold_log_e = calibration.threshold_log_e;
        }
        Ok(detector)
    }

    /// The detector as it would have been fitted at a moment, not calibrated.
    pub(super) fn fit_moment(moment: &Moment<'_>, parameters: &GaugeParameters) -> Result<Self, StatsError> {
        let GaugeParameters { scale, quantum, horizon_seconds, margin, .. } = *parameters;
        let fitted = FittedBaseline::at(moment, scale, quantum, horizon_seconds)?;
        let (noise, mut filter) = fit_noise(&fitted)?;
        let baseline = &fitted.baseline;
        let margin = margin.in_spreads(scale, baseline.level_at(0.0), quantum, baseline.spread);
        let Autoregression { phi, innovation_scale } = noise;
        let standard = GaugeShiftParameters::standard(phi, innovation_scale, margin, horizon_seconds);
        let onset_sample = u64::from(filter.is_some());
        let mut shift = GaugeShift::new(GaugeShiftParameters { onset_sample, ..standard })?;
        let mut predecessor = None;
        for value in fitted.standardised(moment.values) {
            predecessor = filter.as_mut().map_or(value, |filter| filter.push(value));
        }
        if let Some(predecessor) = predecessor {
            shift.precede(predecessor)?;
        }
        let runs = parameters
            .exceed
            .iter()
            .map(|&level| {
                let past = fitted.exceedances(moment.values, level);
                RunLengthExceed::after(exceed_runs(&past)?, horizon_seconds, &past)
            })
            .collect::<Result<_, StatsError>>()?;
        Ok(Self {
            parameters: parameters.clone(),
            clock: SampleClock::new(moment.step),
            filter,
            shift,
            runs,
            log_e: 0.0,
            max_log_e: 0.0,
            threshold_log_e: log_threshold(parameters.alpha)?,
            calibration: None,
            baseline: fitted.baseline,
        })
    }

    /// Takes in a sample in the gauge's own unit, `dt_seconds` after the previous update (the first: after the
    /// deployment), and returns the new log e-value, nats. `None`, NaN and a latency of 0 are holes: time passes and the
    /// evidence stays. A sample sooner than half a step after the one before is that one seen again and adds nothing; one
    /// later than one and a half steps has no predecessor.
    ///
    /// # Errors
    /// When the value is infinite or negative on a logarithmic scale, or `dt_seconds` is not a span from 0 to 1e9; the
    /// state is unchanged.
    pub fn update(&mut self, value: Option<f64>, dt_seconds: f64) -> Result<f64, StatsError> {
        self.learn(on_scale(value, self.parameters.scale)?, dt_seconds)
    }

    /// [`GaugeDetector::update`] for a value on the scale.
    pub(super) fn learn(&mut self, value: Option<f64>, dt_seconds: f64) -> Result<f64, StatsError> {
        self.clock.advance(dt_seconds)?;
        let Some(value) = value else { return Ok(self.log_e) };
        let Some(arrival) = self.clock.arrive() else { return Ok(self.log_e) };
        let elapsed = self.clock.elapsed();
        if arrival.gap {
            self.forget()?;
        }
        let standardised = Some(self.baseline.standardise(value, elapsed));
        let filtered = self.filter.as_mut().map_or(standardised, |filter| filter.push(standardised));
        self.shift.update(filtered, arrival.dt)?;
        for (run, &level) in self.runs.iter_mut().zip(&self.parameters.exceed) {
            run.update(Some(self.baseline.exceeds(value, elapsed, level)), arrival.dt)?;
        }
        self.log_e = self.combined();
        self.max_log_e = self.max_log_e.max(self.log_e);
        Ok(self.log_e)
    }

    /// The current log e-value, nats. 0 is "no evidence either way".
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.log_e
    }

    /// The largest log e-value so far, at least 0, nats.
    #[must_use]
    pub fn max_log_e(&self) -> f64 {
        self.max_log_e
    }

    /// The log e-value of the shift test alone, nats.
    #[must_use]
    pub fn shift_log_e(&self) -> f64 {
        self.shift.log_e()
    }

    /// The log e-value of one watched level alone, nats; `None` when the parameters do not name this level.
    #[must_use]
    pub fn exceed_log_e(&self, level: ExceedLevel) -> Option<f64> {
        self.run(level).map(RunLengthExceed::log_e)
    }

    /// The largest log e-value so far of one watched level alone, nats.
    #[must_use]
    pub fn exceed_max_log_e(&self, level: ExceedLevel) -> Option<f64> {
        self.run(level).map(RunLengthExceed::max_log_e)
    }

    /// Whether the evidence has ever reached the threshold. A reason to suggest a rollback, not to start one.
    #[must_use]
    pub fn rejects(&self) -> bool {
        self.max_log_e >= self.threshold_log_e
    }

    /// The threshold, nats: `ln(1/alpha)`, or more when the calibration asks for it.
    #[must_use]
    pub fn threshold_log_e(&self) -> f64 {
        self.threshold_log_e
    }

    /// The frozen level of now, in the gauge's own unit.
    #[must_use]
    pub fn level(&self) -> f64 {
        self.baseline.scale.restore(self.baseline.level_at(self.clock.elapsed()))
    }

    /// The spread, on the scale: 0.1 is about 10 % for a latency or a queue, and 0.1 of its unit for a utilisation.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.baseline.spread
    }

    /// The tolerated rise, in spreads.
    #[must_use]
    pub fn margin(&self) -> f64 {
        self.shift.parameters().margin
    }

    /// Which season the level was read from.
    #[must_use]
    pub fn season(&self) -> Season {
        self.baseline.season
    }

    /// The fitted correlation (an upper bound) and the scale of the innovations, in spreads.
    #[must_use]
    pub fn autoregression(&self) -> Autoregression {
        let GaugeShiftParameters { phi, innovation_scale, .. } = *self.shift.parameters();
        Autoregression { phi, innovation_scale }
    }

    /// Whether a median of three stands before the shift test.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        self.filter.is_some()
    }

    /// What the pseudo-deployments showed; `None` is "not calibrated".
    #[must_use]
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// How many numbers make up the running state, the fitted baseline included.
    #[must_use]
    pub fn numbers(&self) -> usize {
        let runs: usize = self.runs.iter().map(RunLengthExceed::numbers).sum();
        // the times of the clock, two samples of the filter; log E, its maximum and its threshold
        self.baseline.numbers() + self.shift.numbers() + runs + 5 + 3
    }

    /// What was fixed before the first sample.
    #[must_use]
    pub fn parameters(&self) -> &GaugeParameters {
        &self.parameters
    }

    fn run(&self, level: ExceedLevel) -> Option<&RunLengthExceed> {
        self.parameters.exceed.iter().zip(&self.runs).find(|(named, _)| **named == level).map(|(_, run)| run)
    }

    /// Samples are missing: nothing that comes next may be compared with what was before.
    fn forget(&mut self) -> Result<(), StatsError> {
        if let Some(filter) = &mut self.filter {
            filter.push(None);
        }
        self.shift.update(None, 0.0)?;
        for run in &mut self.runs {
            run.update(None, 0.0)?;
        }
        Ok(())
    }

    fn combined(&self) -> f64 {
        if self.runs.is_empty() {
            return self.shift.log_e();
        }
        let share = ((1.0 - SHIFT_WEIGHT) / self.runs.len() as f64).ln();
        let shift = SHIFT_WEIGHT.ln() + self.shift.log_e();
        self.runs.iter().fold(shift, |sum, run| log_add_exp(sum, share + run.log_e()))
    }
}

/// The noise, and the filter that goes with it: behind a median of three when the gauge is strongly correlated.
fn fit_noise(fitted: &FittedBaseline) -> Result<(Autoregression, Option<MedianOfThree>), StatsError> {
    let plain = fit_autoregression(&fitted.noise)?;
    // Spikes hide the very correlation that makes the filter against them worth its price: decide without them.
    let calm: Vec<_> = fitted.noise.iter().map(|value| value.filter(|z| z.abs() <= RESIDUAL_LIMIT)).collect();
    let correlation = fit_autoregression(&calm).map_or(plain.phi, |calm| calm.phi.max(plain.phi));
    let (mut noise, filter) = if correlation < PREFILTER_FROM {
        (plain, None)
    } else {
        let mut filter = MedianOfThree::default();
        let smooth: Vec<_> = fitted.noise.iter().map(|&value| filter.push(value)).collect();
        // A history of short stretches has too little left behind the filter: then the plain fit has to do.
        fit_autoregression(&smooth).map_or((plain, None), |noise| (noise, Some(MedianOfThree::default())))
    };
    if fitted.baseline.floored {
        // The floor says "this much is noise"; a process of that spread has innovations of at least this scale.
        noise.innovation_scale = noise.innovation_scale.max((1.0 - noise.phi * noise.phi).sqrt());
    }
    Ok((noise, filter))
}

/// The written form.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    parameters: GaugeParameters,
    baseline: Baseline,
    clock: SampleClock,
    filter: Option<MedianOfThree>,
    shift: GaugeShift,
    runs: Vec<RunLengthExceed>,
    #[serde(with = "exact")]
    log_e: f64,
    #[serde(with = "exact")]
    max_log_e: f64,
    calibration: Option<Calibration>,
}

impl From<GaugeDetector> for Stored {
    fn from(detector: GaugeDetector) -> Self {
        let GaugeDetector { parameters, baseline, clock, filter, shift, runs, log_e, max_log_e, .. } =
            detector;
        let calibration = detector.calibration;
        Self { parameters, baseline, clock, filter, shift, runs, log_e, max_log_e, calibration }
    }
}

impl TryFrom<Stored> for GaugeDetector {
    type Error = StatsError;

    /// A state that was edited by hand or cut short is refused, not continued. The threshold follows from the rest.
    fn try_from(stored: Stored) -> Result<Self, StatsError> {
        let Stored { parameters, baseline, clock, filter, shift, runs, log_e, max_log_e, calibration } =
            stored;
        parameters.admit()?;
        clock.admit()?;
        filter.iter().try_for_each(MedianOfThree::admit)?;
        let same = baseline.scale == parameters.scale && baseline.quantum == parameters.quantum;
        let expected = "that of the stored parameters, on their scale";
        within("the quantum of the stored baseline", baseline.quantum, same, expected)?;
        let (expected, found) = (parameters.exceed.len(), runs.len());
        if expected != found {
            return Err(StatsError::Length { quantity: "the stored run-length tests", expected, found });
        }
        let horizon = shift.parameters().horizon_seconds;
        let same = horizon == parameters.horizon_seconds;
        within("the watch of the stored shift test", horizon, same, "the value in the stored parameters")?;
        runs.iter().try_for_each(|run| run.continues(parameters.horizon_seconds))?;
        finite("the stored log e-value", log_e)?;
        let expected = "zero or more, and no less than the stored log e-value";
        let consistent = max_log_e >= 0.0 && max_log_e >= log_e;
        within("the stored largest log e-value", max_log_e, consistent, expected)?;
        let plain = log_threshold(parameters.alpha)?;
        if let Some(calibration) = &calibration {
            calibration.admit(plain)?;
        }
        let threshold_log_e = calibration.map_or(plain, |calibration| calibration.threshold_log_e);
        Ok(Self {
            parameters,
            baseline,
            clock,
            filter,
            shift,
            runs,
            log_e,
            max_log_e,
            threshold_log_e,
            calibration,
        })
    }
}
