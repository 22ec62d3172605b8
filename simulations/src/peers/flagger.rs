//! Flagger's threshold: five failed checks, one check a minute.
//!
//! Original: fluxcd/flagger, `pkg/controller/scheduler_metrics.go` and `scheduler.go` (read at b564a2fd). A check asks
//! Prometheus for the last minute. `request-success-rate` fails below its minimum (99 % in the documentation's
//! examples), `request-duration`, a p99, above its maximum (500 ms there). No value at all is a failed check as well.
//! Failed checks are counted and never forgotten while the canary is analysed; the canary is rolled back when the count
//! has reached the threshold.
//!
//! In the original the rollback follows one interval after the check that reached it; here it counts at once.

use super::{Minute, Sums};
use crate::judge::{Alarm, Judge};
use crate::traffic::Look;

/// Failed checks after which the canary is rolled back, as in the documentation's examples (the default is 1).
const THRESHOLD: u32 = 5;

/// Lowest good success rate, percent.
const LEAST_SUCCESS: f64 = 99.0;

/// Longest good p99, milliseconds.
const LONGEST_P99: f64 = 500.0;

/// What a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    SuccessRate,
    Duration,
}

/// Flagger with one metric.
#[derive(Debug, Clone)]
pub struct Flagger {
    metric: Metric,
    minute: Minute,
    failed_checks: u32,
}

impl Flagger {
    /// `request-success-rate` with a minimum of 99 %.
    #[must_use]
    pub fn success_rate() -> Self {
        Self::with(Metric::SuccessRate)
    }

    /// `request-duration` with a maximum of 500 ms.
    #[must_use]
    pub fn duration() -> Self {
        Self::with(Metric::Duration)
    }

    fn with(metric: Metric) -> Self {
        Self { metric, minute: Minute::default(), failed_checks: 0 }
    }

    fn check_passes(&self, canary: &Sums) -> bool {
        match self.metric {
            Metric::SuccessRate => canary.error_percent().is_some_and(|bad| 100.0 - bad >= LEAST_SUCCESS),
            Metric::Duration => canary.milliseconds(0.99).is_some_and(|p99| p99 <= LONGEST_P99),
        }
    }
}

impl Judge for Flagger {
    fn look(&mut self, block: &Look) -> Option<Alarm> {
        let minute = self.minute.add(block)?;
        if !self.check_passes(&minute.canary) {
            self.failed_checks += 1;
        }
        (self.failed_checks >= THRESHOLD).then_some(Alarm { because: "failed checks threshold reached" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::minutes;
    use super::*;

    #[test]
    fn failed_checks_add_up_and_good_ones_do_not_take_away() {
        // 1 % is still good, 1.1 % is not.
        let bad_every_other = [11, 10, 11, 10, 11, 10, 11, 10, 11];
        assert_eq!(minutes(&mut Flagger::success_rate(), 1_000, &bad_every_other), Some(540.0));
        assert_eq!(minutes(&mut Flagger::success_rate(), 1_000, &bad_every_other[..8]), None);
    }

    #[test]
    fn no_traffic_is_a_failed_check() {
        assert_eq!(minutes(&mut Flagger::success_rate(), 0, &[0; 5]), Some(300.0));
        assert_eq!(minutes(&mut Flagger::duration(), 0, &[0; 5]), Some(300.0));
    }
}
