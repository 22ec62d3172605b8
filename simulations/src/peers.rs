//! What users have today, re-implemented from the behaviour of the originals.
//!
//! Nothing here is advice. The peers stand beside Turnback in the same run, on the same requests, so that a figure like
//! "1 % false rollbacks" can be compared with something. Each file names its original and the version that was read.
//! Where an original leaves a choice, the choice is the one that favours it, and the file says so.

pub mod argo;
pub mod flagger;
pub mod kayenta;
pub mod mann_whitney;
mod root;
pub mod z_test;

use crate::traffic::{Look, Resolution, quantile};

/// Seconds between two looks of the peers that look once a minute.
const MINUTE: f64 = 60.0;

/// The looks of a minute, added up.
#[derive(Debug, Clone, Default)]
struct Minute {
    seconds: f64,
    canary: Sums,
    control: Sums,
    gauge_sum: f64,
    gauge_count: f64,
}

#[derive(Debug, Clone, Default)]
struct Sums {
    requests: u64,
    errors: u64,
    native: Vec<u64>,
}

impl Minute {
    /// Adds a look. Gives the minute back, and begins a new one, when it is complete.
    fn add(&mut self, look: &Look) -> Option<Self> {
        self.seconds += look.seconds;
        for (sums, arm) in [(&mut self.canary, &look.canary), (&mut self.control, &look.control)] {
            sums.requests += arm.requests();
            sums.errors += arm.errors();
            arm.add_buckets(Resolution::Native, &mut sums.native);
        }
        if let Some(gauge) = look.gauge {
            self.gauge_sum += gauge;
            self.gauge_count += 1.0;
        }
        // Half a look of rounding, not more.
        (self.seconds > MINUTE - 1e-6).then(|| std::mem::take(self))
    }

    fn gauge(&self) -> Option<f64> {
        (self.gauge_count > 0.0).then(|| self.gauge_sum / self.gauge_count)
    }
}

impl Sums {
    /// Failed requests, percent; `None` without requests.
    fn error_percent(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.errors as f64 / self.requests as f64 * 100.0)
    }

    /// The `q`-quantile of the durations, milliseconds; `None` without requests.
    fn milliseconds(&self, q: f64) -> Option<f64> {
        quantile(q, &self.native).map(|seconds| seconds * 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Judge;
    use crate::traffic::{Arm, Pod};

    /// Shows `judge` one block a minute with `requests` in each arm and so many errors in the canary, none in the
    /// control. When it alarms, seconds.
    pub(super) fn minutes(judge: &mut dyn Judge, requests: u64, errors: &[u64]) -> Option<f64> {
        let arm = |errors| Arm { pods: vec![Pod { scraped: true, requests, errors, ..Pod::default() }] };
        errors.iter().zip(1_u32..).find_map(|(errors, number)| {
            let at = f64::from(number) * MINUTE;
            let look = Look { at, seconds: MINUTE, canary: arm(*errors), control: arm(0), gauge: None };
            judge.look(&look).map(|_| at)
        })
    }

    #[test]
    fn a_minute_is_six_looks_of_ten_seconds() {
        let mut minute = Minute::default();
        let look = Look { seconds: 10.0, gauge: Some(3.0), ..Look::default() };
        assert!((0..5).all(|_| minute.add(&look).is_none()));
        let full = minute.add(&look).unwrap();
        assert_eq!((full.gauge(), full.canary.error_percent()), (Some(3.0), None));
        assert!(minute.add(&look).is_none(), "the next minute began empty");
    }
}
