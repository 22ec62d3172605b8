//! Argo Rollouts' analysis: a success condition, and a limit of failed measurements.
//!
//! Original: argoproj/argo-rollouts, `analysis/analysis.go` (read at 045c1cf0). A measurement each interval, here a
//! minute, over the last minute. It fails if the success condition does not hold; a query without a value does not meet
//! it either. The analysis fails, and the rollout is aborted, when more measurements have failed than `failureLimit`,
//! however many good ones lie between. The documentation's example has `result[0] >= 0.95` and `failureLimit: 3`.

use super::{Minute, Sums};
use crate::judge::{Alarm, Judge};
use crate::traffic::Look;

/// Failed measurements that are tolerated, as in the documentation's example (the default is 0).
const FAILURE_LIMIT: u32 = 3;

/// Most errors for success, percent: `result[0] >= 0.95`.
const MOST_ERRORS: f64 = 5.0;

/// Longest p95 for success, milliseconds.
const LONGEST_P95: f64 = 300.0;

/// What a measurement looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    SuccessRate,
    Duration,
}

/// An analysis run with one metric.
#[derive(Debug, Clone)]
pub struct Argo {
    metric: Metric,
    minute: Minute,
    failed: u32,
}

impl Argo {
    /// Succeeds while at least 95 % of a minute's requests do.
    #[must_use]
    pub fn success_rate() -> Self {
        Self { metric: Metric::SuccessRate, minute: Minute::default(), failed: 0 }
    }

    /// Succeeds while the p95 of a minute is at most 300 ms.
    #[must_use]
    pub fn duration() -> Self {
        Self { metric: Metric::Duration, ..Self::success_rate() }
    }

    fn succeeds(&self, canary: &Sums) -> bool {
        match self.metric {
            Metric::SuccessRate => canary.error_percent().is_some_and(|bad| bad <= MOST_ERRORS),
            Metric::Duration => canary.milliseconds(0.95).is_some_and(|p95| p95 <= LONGEST_P95),
        }
    }
}

impl Judge for Argo {
    fn look(&mut self, block: &Look) -> Option<Alarm> {
        let minute = self.minute.add(block)?;
        if !self.succeeds(&minute.canary) {
            self.failed += 1;
        }
        (self.failed > FAILURE_LIMIT).then_some(Alarm { because: "failed > failureLimit" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::minutes;
    use super::*;

    #[test]
    fn the_fourth_failed_measurement_aborts() {
        // 5 % is still a success.
        assert_eq!(minutes(&mut Argo::success_rate(), 1_000, &[51, 50, 51, 50, 51, 0, 51]), Some(420.0));
        assert_eq!(minutes(&mut Argo::success_rate(), 1_000, &[51, 50, 51, 50, 51, 0, 50]), None);
    }

    #[test]
    fn an_empty_answer_fails() {
        assert_eq!(minutes(&mut Argo::duration(), 0, &[0; 4]), Some(240.0));
    }
}
