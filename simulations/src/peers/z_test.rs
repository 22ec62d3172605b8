//! A z-test with peeking: what most home-made gates are.
//!
//! All requests since the deployment, canary against control, tested at each look with a one-sided 1 % test that was
//! made for a single look. For errors the pooled two-proportion z; for durations Welch's z on their logarithms; for a
//! gauge all samples since the deployment against the mean and the spread of the hour before it.

use crate::judge::{Alarm, Judge};
use crate::traffic::{Look, Resolution, bounds};

/// The 99 % point of the standard normal distribution.
const CRITICAL: f64 = 2.326_347_874_040_841;

/// Samples before a z on means is taken seriously.
const FEWEST: f64 = 2.0;

/// What is compared.
#[derive(Debug, Clone)]
enum Measure {
    Errors { canary: (f64, f64), control: (f64, f64) },
    LogDurations { canary: Moments, control: Moments, scratch: Vec<u64> },
    Gauge { after: Moments, before: Moments },
}

/// Sums that mean and variance follow from.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

/// The z-test of one measure.
#[derive(Debug, Clone)]
pub struct ZTest(Measure);

impl ZTest {
    /// Shares of failing requests.
    #[must_use]
    pub fn errors() -> Self {
        Self(Measure::Errors { canary: (0.0, 0.0), control: (0.0, 0.0) })
    }

    /// Means of log durations.
    #[must_use]
    pub fn durations() -> Self {
        let none = Moments::default();
        Self(Measure::LogDurations { canary: none, control: none, scratch: Vec::new() })
    }

    /// Means of a gauge, after against the hour before.
    #[must_use]
    pub fn gauge() -> Self {
        Self(Measure::Gauge { after: Moments::default(), before: Moments::default() })
    }
}

impl Moments {
    fn add(&mut self, value: f64, times: f64) {
        self.count += times;
        self.sum += times * value;
        self.squares += times * value * value;
    }

    /// Adds log durations. Each stands for the middle of its bucket, 1 % off at most.
    fn add_buckets(&mut self, counts: &[u64]) {
        let bounds = bounds(Resolution::Native);
        for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let upper = bounds[at.min(bounds.len() - 1)];
            let lower = if at == 0 { upper } else { bounds[at - 1] };
            self.add((upper.ln() + lower.ln()) / 2.0, *count as f64);
        }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count
    }

    fn variance(&self) -> f64 {
        (self.squares - self.sum * self.mean()) / (self.count - 1.0)
    }
}

fn welch(new: &Moments, old: &Moments) -> Option<f64> {
    let enough = new.count >= FEWEST && old.count >= FEWEST;
    let error = || (new.variance() / new.count + old.variance() / old.count).sqrt();
    enough.then(|| (new.mean() - old.mean()) / error())
}

/// A few new samples against many old ones: the old ones' spread serves both.
fn against_history(new: &Moments, old: &Moments) -> Option<f64> {
    let enough = new.count > 0.0 && old.count >= FEWEST;
    let error = || (old.variance() * (1.0 / new.count + 1.0 / old.count)).sqrt();
    enough.then(|| (new.mean() - old.mean()) / error())
}

fn pooled((bad_new, new): (f64, f64), (bad_old, old): (f64, f64)) -> Option<f64> {
    let share = (bad_new + bad_old) / (new + old);
    let spread = (share * (1.0 - share) * (1.0 / new + 1.0 / old)).sqrt();
    (new > 0.0 && old > 0.0 && spread > 0.0).then(|| (bad_new / new - bad_old / old) / spread)
}

impl Judge for ZTest {
    fn before(&mut self, block: &Look) {
        if let (Measure::Gauge { before, .. }, Some(value)) = (&mut self.0, block.gauge)
            && block.at > -3_600.0
        {
            before.add(value, 1.0);
        }
    }

    fn look(&mut self, block: &Look) -> Option<Alarm> {
        let z = match &mut self.0 {
            Measure::Errors { canary, control } => {
                for (sums, arm) in [(&mut *canary, &block.canary), (&mut *control, &block.control)] {
                    sums.0 += arm.errors() as f64;
                    sums.1 += arm.requests() as f64;
                }
                pooled(*canary, *control)
            }
            Measure::LogDurations { canary, control, scratch } => {
                for (moments, arm) in [(&mut *canary, &block.canary), (&mut *control, &block.control)] {
                    scratch.clear();
                    arm.add_buckets(Resolution::Native, scratch);
                    moments.add_buckets(scratch);
                }
                welch(canary, control)
            }
            Measure::Gauge { after, before } => {
                block.gauge.into_iter().for_each(|value| after.add(value, 1.0));
                against_history(after, before)
            }
        };
        z.filter(|z| *z > CRITICAL).map(|_| Alarm { because: "z above its 99 % point" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pooled_z_is_the_textbook_s() {
        // 20/100 against 10/100: pooled 0.15, z = 0.1 / sqrt(0.15 * 0.85 * 0.02) = 1.9803.
        let z = pooled((20.0, 100.0), (10.0, 100.0)).unwrap();
        assert!((z - 1.980_295).abs() < 1e-5, "{z}");
        assert_eq!(pooled((0.0, 100.0), (0.0, 100.0)), None);
        assert_eq!(pooled((0.0, 0.0), (1.0, 100.0)), None);
    }

    #[test]
    fn welch_s_z_is_the_textbook_s() {
        let (mut new, mut old) = (Moments::default(), Moments::default());
        [5.0, 7.0, 9.0].iter().for_each(|value| new.add(*value, 1.0));
        [1.0, 2.0, 3.0, 4.0].iter().for_each(|value| old.add(*value, 1.0));
        // Means 7 and 2.5, variances 4 and 5/3: z = 4.5 / sqrt(4/3 + 5/12) = 3.4017.
        assert!((welch(&new, &old).unwrap() - 3.401_680).abs() < 1e-5);
    }
}
