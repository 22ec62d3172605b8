//! What is known of a gauge: a detector of its own, which may suggest and never act. See [`crate::stats::gauge`] for
//! what it assumes; it is fitted to the levels before the deployment and to nothing later.

use super::finding::{Finding, LevelFinding};
use crate::matrix::{Bound, Truth};
use crate::past::Levels;
use crate::signal::{GaugeScale, Reading};
use crate::stats::gauge::{ExceedLevel, ExceedTest, GaugeDetector, GaugeHistory, GaugeParameters, Scale};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Levels in a row at or below a bound after which it is taken to be kept: there is no test for "well" of a gauge.
const CALM: u32 = 5;

/// A gauge's tests, fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct GaugeEvidence {
    detector: GaugeDetector,
    bounds: Vec<Exceeding>,
    now: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Exceeding {
    bound: Bound,
    test: ExceedTest,
    /// Levels in a row that keep the bound.
    calm: u32,
}

impl From<GaugeScale> for Scale {
    fn from(scale: GaugeScale) -> Self {
        match scale {
            GaugeScale::Backlog => Scale::Log1p,
            GaugeScale::Duration => Scale::Log,
            GaugeScale::Level => Scale::Identity,
        }
    }
}

impl GaugeEvidence {
    /// Fits the tests to the levels before the deployment.
    ///
    /// # Errors
    /// In words, when they are too few.
    pub fn fit(
        scale: GaugeScale,
        levels: Option<&Levels>,
        deployed_at: Timestamp,
        bounds: impl Iterator<Item = Bound>,
        alpha: f64,
        horizon_seconds: f64,
    ) -> Result<Self, String> {
        let levels = levels.ok_or("nothing was measured before the deployment")?;
        let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1_000.0;
        let history = GaugeHistory {
            samples: levels.values.clone(),
            step_seconds: levels.step.seconds(),
            seasonal: levels.seasonal.iter().map(|(at, value)| (seconds(*at), *value)).collect(),
            deployed_at_seconds: seconds(deployed_at),
        };
        let parameters = GaugeParameters::standard(alpha, horizon_seconds, scale.into());
        let detector = GaugeDetector::fit(&history, parameters).map_err(|error| error.to_string())?;
        let exceeding = |bound: Bound| {
            let level = match bound {
                Bound::Above(level) => ExceedLevel::Absolute(level.value),
                Bound::TimesBaseline(times) => ExceedLevel::Multiple(times),
                Bound::Below(_) | Bound::Worse | Bound::Starved => return None,
            };
            let test = ExceedTest::fit(&history, level, horizon_seconds, scale.into());
            Some(test.map(|test| Exceeding { bound, test, calm: 0 }).map_err(|error| error.to_string()))
        };
        let bounds = bounds.filter_map(exceeding).collect::<Result<Vec<Exceeding>, String>>()?;
        Ok(Self { detector, bounds, now: None })
    }

    /// Takes one window in.
    pub fn take(&mut self, reading: &Reading, seconds: f64) {
        let Reading::Level { value } = reading else { return };
        self.now = Some(*value);
        // A level that the scale cannot express (a negative queue) changes nothing.
        let _unchanged_on_error = self.detector.update(Some(*value), seconds);
        for one in &mut self.bounds {
            let _unchanged_on_error = one.test.update(Some(*value), seconds);
            one.calm = if *value <= one.test.bound() { one.calm + 1 } else { 0 };
        }
    }

    /// How many numbers make up the running state.
    pub fn numbers(&self) -> usize {
        // the level now; of each bound the calm looks
        let bounds: usize = self.bounds.iter().map(|one| one.test.numbers() + 1).sum();
        self.detector.numbers() + bounds + 1
    }

    /// Evidence that it is higher than its past explains, nats.
    pub fn log_e(&self) -> f64 {
        self.detector.log_e()
    }

    /// Evidence against each bound, nats.
    pub fn bound_log_es(&self) -> impl Iterator<Item = f64> {
        self.bounds.iter().map(|one| one.test.log_e())
    }

    /// What is known about one bound.
    pub fn fill(&self, finding: &mut Finding, alpha: f64) {
        let level = |bound: Option<f64>| LevelFinding {
            now: self.now,
            usual: self.detector.level(),
            bound,
            season: format!("{:?}", self.detector.season()).to_lowercase(),
            rehearsed: self.detector.calibration().map(|calibration| (calibration.fired, calibration.runs)),
        };
        if finding.bound == Bound::Worse {
            finding.what = "the level, against its past".into();
            finding.level = Some(level(None));
            finding.log_e = Some(self.detector.log_e());
            finding.log_e_needed = self.detector.threshold_log_e();
            finding.truth = if self.detector.rejects() { Truth::Holds } else { Truth::Unknown };
            return;
        }
        let Some(one) = self.bounds.iter().find(|one| one.bound == finding.bound) else {
            finding.missing = Some(format!("\"{}\" says nothing about a gauge", finding.bound));
            return;
        };
        finding.what = "the level, for longer than its past explains".into();
        finding.level = Some(level(Some(one.test.bound())));
        finding.log_e = Some(one.test.log_e());
        finding.truth = match one.test.rejects(alpha).unwrap_or(false) {
            true => Truth::Holds,
            false if one.calm >= CALM => Truth::Fails,
            false => Truth::Unknown,
        };
    }
}
