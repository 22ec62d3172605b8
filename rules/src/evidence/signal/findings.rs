//! What a signal says about each bound that the matrix puts on it.

use super::{SignalEvidence, outlier_words};
use crate::evidence::finding::Finding;
use crate::matrix::{Bound, Truth};
use crate::ruleset::Statistics;

impl SignalEvidence {
    /// What is known about `bound`.
    pub fn finding(&self, bound: Bound, statistics: &Statistics) -> Finding {
        let alpha = statistics.alpha
            * if bound == Bound::Starved { self.traffic_share.max(f64::MIN_POSITIVE) } else { self.share };
        let hole = self.hole.as_ref().map(|(since, reason)| format!("{reason} (since {since:.0})"));
        let mut finding = Finding::unknown(self.signal.name.clone(), bound, -alpha.ln(), hole);
        if let Some(tests) = &self.gauge {
            tests[0].fill(&mut finding, alpha);
        } else if bound == Bound::Worse {
            self.fill_worse(&mut finding, alpha);
        } else if let Some(test) = self.bounds.iter().find(|test| test.bound == bound) {
            test.fill(&mut finding, &self.signal, self.baseline.known(), alpha);
            self.blame(&mut finding, statistics);
        } else if bound == Bound::Starved {
            finding.missing = Some("no control is configured to tell its share of the traffic".into());
        }
        finding
    }

    /// Beyond the bound *and* worse than the reference: a service that always fails this much is not the release's fault.
    /// Without a reference the bound stands alone, and a guard keeps the agent from acting alone.
    fn blame(&self, finding: &mut Finding, statistics: &Statistics) {
        let Some(worse) = self.worse.as_ref().filter(|_| finding.bound != Bound::Starved) else { return };
        if finding.truth != Truth::Holds || worse.rejects(statistics.alpha * self.share) {
            return;
        }
        finding.truth = Truth::Unknown;
        let outliers = self.outliers(statistics.alpha);
        finding.missing = Some(match outliers.as_slice() {
            [] if self.compares => "it is not shown to be worse than the control".into(),
            [] => "it is not shown to be worse than before the deployment".into(),
            names => outlier_words(names),
        });
    }

    fn fill_worse(&self, finding: &mut Finding, alpha: f64) {
        let Some(worse) = &self.worse else {
            finding.missing = finding.missing.take().or(Some("there is no baseline to compare with".into()));
            return;
        };
        finding.what = worse.cut().words(&self.signal.measure);
        finding.before = self.baseline.known().map(|before| before.share.mean);
        finding.beginning = worse.beginning();
        finding.log_e = Some(worse.log_e());
        finding.read(worse.test(), worse.seen(), worse.sequence(), worse.rejects(alpha), alpha);
        let outliers = worse.outliers(alpha);
        if !outliers.is_empty() {
            finding.missing = Some(outlier_words(&outliers));
        }
    }
}
