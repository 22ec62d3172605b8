//! Reports that fire while nobody watches their service, for the deployment that they turn out to be about.
//!
//! An alert may be faster than the news of the deployment that caused it: a rollout that no event told of is found by the
//! next list of the cluster, up to a minute later. What has fired since the deployment is then told to its watch. What
//! fired before it is not: the release did not begin that.
//!
//! In memory only: after a restart a report that still fires is repeated by its sender, and is a duplicate by then. That
//! costs one report, not a deployment.

use jiff::Timestamp;
use rules::deployment::{DeployEvent, Report, ReportState};
use rules::ids::SourceName;
use std::collections::BTreeMap;

/// Reports that are kept; of more the oldest are forgotten first. A storm of alerts is about hundreds of services.
const MOST: usize = 2_000;

/// What fires, by who said it under which identity.
#[derive(Debug, Default)]
pub(super) struct Firing {
    reports: BTreeMap<(SourceName, String), Report>,
}

impl Firing {
    /// Takes note of a report, or of its end.
    pub(super) fn hear(&mut self, report: &Report) {
        let key = (report.source.clone(), report.id.clone());
        match report.state {
            ReportState::Firing => drop(self.reports.insert(key, report.clone())),
            ReportState::Resolved => drop(self.reports.remove(&key)),
        }
        while self.reports.len() > MOST {
            let oldest = self.reports.iter().min_by_key(|(_, report)| report.at).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.reports.remove(&oldest));
        }
    }

    /// What has fired since this deployment, about its service and environment.
    pub(super) fn since(&self, event: &DeployEvent) -> Vec<Report> {
        let about = |report: &&Report| {
            let there =
                report.environment.as_ref().is_none_or(|environment| *environment == event.environment);
            report.service == event.service && there && report.at >= event.occurred_at
        };
        let mut found: Vec<Report> = self.reports.values().filter(about).cloned().collect();
        found.sort_by_key(|report: &Report| -> Timestamp { report.at });
        found
    }
}
