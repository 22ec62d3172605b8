//! Kayenta's `NetflixACAJudge`: a Mann–Whitney interval, a tolerance, and effect-size gates, judged anew every minute.
//!
//! Original: spinnaker/spinnaker, `kayenta/kayenta-judge` (`NetflixACAJudge.scala`, `MannWhitneyClassifier.scala`,
//! `EffectSizes.scala`; read at f8b98eba). Per metric: points that are not numbers are removed (`nanStrategy: remove`);
//! without points in either arm there is no data; equal samples pass; two constant samples get a little noise, so that
//! they can be ranked. Then the canary is High if the lower end of the 98 % interval of the shift lies above a quarter
//! of the absolute Hodges–Lehmann estimate, and the ratio of means is at least `allowedIncrease` (1.0 by default, and
//! ignored where a mean is 0). Outlier removal is off by default.
//!
//! Points are minutes, and all minutes since the deployment are judged again at each one, as a canary analysis with a
//! growing window does. Error shares are given in percent and durations in milliseconds, because the search for the
//! interval ends within 0.0001 of whatever the unit is. Three choices favour the original. The direction is `increase`:
//! the default, `either`, would also roll back releases that got better. The ratio of means needs no more than 1. And
//! it is not asked while there are so few points that an interval of 98 % does not exist (three or four in both arms):
//! the original's search then stops at its end, and says High whenever the samples happen not to overlap, which three
//! points do by chance in one healthy release of twenty.

use super::Minute;
use super::mann_whitney::shift;
use crate::Dice;
use crate::judge::{Alarm, Judge};
use crate::traffic::Look;

/// The 99 % point of the normal distribution: confidence 0.98, two-sided.
const QUANTILE: f64 = 2.326_347_874_040_841;

/// Share of the estimate that is tolerated.
const TOLERANCE: f64 = 0.25;

/// Lowest ratio of means that counts as an increase.
const ALLOWED_INCREASE: f64 = 1.0;

/// Points of the canary before it is judged at all.
const FEWEST_POINTS: usize = 3;

/// Standard deviation of the noise on constant samples, as a share of their value.
const NOISE: f64 = 1e-5;

/// What the judge says of a metric. What would be Low is Pass: the direction is `increase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classification {
    /// No reason for concern.
    Pass,
    /// The canary is higher than the control.
    High,
    /// No point in one of the arms.
    Nodata,
    /// The interval could not be computed.
    Error,
}

/// Which points are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    ErrorPercent,
    P95,
    /// Against the gauge of the hour before the deployment, because there is no control. Kayenta is not made for it.
    Gauge,
}

/// Kayenta with one metric.
#[derive(Debug, Clone)]
pub struct Kayenta {
    metric: Metric,
    minute: Minute,
    control: Vec<f64>,
    experiment: Vec<f64>,
    dice: Dice,
}

impl Kayenta {
    /// Percent of failed requests.
    #[must_use]
    pub fn error_percent() -> Self {
        Self::with(Metric::ErrorPercent)
    }

    /// p95 in milliseconds.
    #[must_use]
    pub fn p95() -> Self {
        Self::with(Metric::P95)
    }

    /// A gauge, after against before.
    #[must_use]
    pub fn gauge() -> Self {
        Self::with(Metric::Gauge)
    }

    fn with(metric: Metric) -> Self {
        Self {
            metric,
            minute: Minute::default(),
            control: Vec::new(),
            experiment: Vec::new(),
            // The noise is tiny; which one it is does not matter, only that it is the same again.
            dice: Dice::new(0),
        }
    }
}

impl Judge for Kayenta {
    fn before(&mut self, block: &Look) {
        if self.metric == Metric::Gauge
            && block.at > -3_600.0
            && let Some(minute) = self.minute.add(block)
        {
            self.control.extend(minute.gauge());
        }
    }

    fn look(&mut self, block: &Look) -> Option<Alarm> {
        let minute = self.minute.add(block)?;
        let (experiment, control) = match self.metric {
            Metric::ErrorPercent => (minute.canary.error_percent(), minute.control.error_percent()),
            Metric::P95 => (minute.canary.milliseconds(0.95), minute.control.milliseconds(0.95)),
            Metric::Gauge => (minute.gauge(), None),
        };
        self.experiment.extend(experiment);
        self.control.extend(control);
        let ready = self.experiment.len() >= FEWEST_POINTS
            && interval_exists(self.experiment.len() as f64, self.control.len() as f64);
        let high = ready && classify(&self.control, &self.experiment, &mut self.dice) == Classification::High;
        high.then_some(Alarm { because: "classified as High" })
    }
}

/// Judges the points of one metric: finite numbers, in any order.
pub fn classify(control: &[f64], experiment: &[f64], dice: &mut Dice) -> Classification {
    let (Some(first_control), Some(first)) = (control.first(), experiment.first()) else {
        return Classification::Nodata;
    };
    let (mut x, mut y) = (sorted(experiment.to_vec()), sorted(control.to_vec()));
    if x == y {
        return Classification::Pass;
    }
    let constant = |points: &[f64], first: f64| points.iter().all(|point| *point == first);
    if constant(&x, *first) && constant(&y, *first_control) {
        if first == first_control {
            return Classification::Pass;
        }
        x = sorted(noisy(&x, dice));
        y = sorted(noisy(&y, dice));
    }
    let Ok(shift) = shift(&x, &y, QUANTILE) else { return Classification::Error };
    let above_tolerance = shift.lower > TOLERANCE * shift.estimate.abs();
    let large_enough = mean_ratio(&x, &y).is_none_or(|ratio| ratio >= ALLOWED_INCREASE);
    if above_tolerance && large_enough { Classification::High } else { Classification::Pass }
}

/// Whether samples of these sizes can be far enough apart for an interval of 98 %.
fn interval_exists(n_x: f64, n_y: f64) -> bool {
    let farthest = n_x * n_y / 2.0 - 0.5;
    farthest / (n_x * n_y * (n_x + n_y + 1.0) / 12.0).sqrt() > QUANTILE
}

fn sorted(mut points: Vec<f64>) -> Vec<f64> {
    points.sort_by(f64::total_cmp);
    points
}

fn noisy(points: &[f64], dice: &mut Dice) -> Vec<f64> {
    points.iter().map(|point| point + NOISE * point * dice.normal()).collect()
}

/// The effect size; none where a mean is 0.
fn mean_ratio(experiment: &[f64], control: &[f64]) -> Option<f64> {
    let mean = |points: &[f64]| points.iter().sum::<f64>() / points.len() as f64;
    let (experiment, control) = (mean(experiment), mean(control));
    (experiment != 0.0 && control != 0.0).then(|| experiment / control)
}

#[cfg(test)]
mod tests {
    use super::super::tests::minutes;
    use super::*;

    fn judged(control: &[f64], experiment: &[f64]) -> Classification {
        classify(control, experiment, &mut Dice::new(1))
    }

    #[test]
    fn clear_increases_are_high_and_decreases_are_not() {
        let low = [1.0, 2.2, 1.1, 2.5, 3.0];
        let high = [20.0, 22.0, 21.0, 25.0, 30.0];
        assert_eq!(judged(&low, &high), Classification::High);
        assert_eq!(judged(&high, &low), Classification::Pass);
        assert_eq!(judged(&low, &low), Classification::Pass);
    }

    #[test]
    fn missing_data_is_nodata() {
        assert_eq!(judged(&[], &[1.0]), Classification::Nodata);
        assert_eq!(judged(&[1.0], &[]), Classification::Nodata);
    }

    #[test]
    fn constant_samples_are_told_apart_with_noise() {
        assert_eq!(judged(&[1.0; 10], &[1.0; 7]), Classification::Pass);
        assert_eq!(judged(&[1.0; 10], &[2.0; 10]), Classification::High);
        // A constant 0 gets no noise; the interval still exists while the other sample moves.
        assert_eq!(judged(&[0.0; 10], &[2.0; 10]), Classification::High);
    }

    #[test]
    fn known_misjudgements_are_reproduced() {
        // Seven in ten minutes a hundred times as bad: the rank sum cannot exclude "no shift" by a quarter of itself.
        let experiment = [100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 1.0, 1.0, 1.0];
        assert_eq!(judged(&[1.0; 10], &experiment), Classification::Pass);
        // The tolerance is a share of the difference, not of the control: any steady half percent is High.
        let control: Vec<f64> = (0..30).map(|minute| 100.0 + f64::from(minute % 3) * 0.01).collect();
        let experiment: Vec<f64> = control.iter().map(|point| point * 1.005).collect();
        assert_eq!(judged(&control, &experiment), Classification::High);
    }

    #[test]
    fn three_points_need_a_long_control() {
        assert!(!interval_exists(3.0, 3.0) && !interval_exists(4.0, 4.0) && interval_exists(5.0, 5.0));
        assert!(interval_exists(3.0, 60.0) && !interval_exists(1.0, 60.0));
    }

    #[test]
    fn the_fifth_minute_is_the_first_that_can_alarm() {
        assert_eq!(minutes(&mut Kayenta::error_percent(), 1_000, &[50, 51, 52, 53, 54, 55]), Some(300.0));
    }
}
