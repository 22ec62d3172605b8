//! Reports that fire while nobody watches their service, for the deployment that they turn out to be about.
//!
//! An alert may be faster than the news of the deployment that caused it: a rollout that no event told of is found by the
//! next list of the cluster, up to a minute later. What has fired since the deployment is then told to its watch. What
//! fired before it is not: the release did not begin that.
//!
//! Kept in memory, and read back from the newest events of the ledger at the start: a sender that says it once more says
//! what is known already.

use super::DispatchError;
use super::events::{EVENT_STREAM, StoredEvent};
use super::startup::{NEWS_AT_ONCE, body};
use crate::ledger::Ledger;
use jiff::Timestamp;
use rules::deployment::{DeployEvent, Report, ReportState};
use rules::ids::{EnvironmentName, ServiceName, SourceName};
use std::collections::BTreeMap;

/// Reports that are kept; of more the oldest are forgotten first. A storm of alerts is about hundreds of services.
const MOST: usize = 2_000;

/// So many records of the ledger are read back at the start.
const READ_BACK: i64 = 4_000;

/// Whose identity: it is unique for its source only together with what it is about.
type Key = (SourceName, ServiceName, Option<EnvironmentName>, String, String);

fn key(report: &Report) -> Key {
    let Report { source, service, environment, what, id, .. } = report.clone();
    (source, service, environment, what, id)
}

/// What was said last of each condition.
#[derive(Debug, Default)]
pub(super) struct Firing {
    reports: BTreeMap<Key, Report>,
}

impl Firing {
    /// What was heard up to this record.
    pub(super) async fn read_back(ledger: &Ledger, through: i64) -> Result<Firing, DispatchError> {
        let mut firing = Firing::default();
        let mut after = through.saturating_sub(READ_BACK).max(0);
        loop {
            let records = ledger.read_stream_after(EVENT_STREAM, after, NEWS_AT_ONCE).await?;
            let known = records.iter().take_while(|record| record.sequence <= through);
            let Some(last) = known.clone().last() else { return Ok(firing) };
            after = last.sequence;
            for record in known {
                if let StoredEvent::Report { report, .. } = body(record)? {
                    firing.hear(&report);
                }
            }
        }
    }

    /// Takes note of a report, or of its end. What is older than what is known says nothing, and neither does a beginning
    /// that comes after its own end.
    pub(super) fn hear(&mut self, report: &Report) {
        let key = key(report);
        let until = report.over_until().unwrap_or(report.at);
        let is_old =
            |known: &Report| known.at > until || known.over_until().is_some_and(|over| over >= report.at);
        if !self.reports.get(&key).is_some_and(is_old) {
            self.reports.insert(key, report.clone());
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
            let fires = report.state == ReportState::Firing && report.at >= event.occurred_at;
            report.service == event.service && there && fires
        };
        let mut found: Vec<Report> = self.reports.values().filter(about).cloned().collect();
        found.sort_by_key(|report: &Report| -> Timestamp { report.at });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::deployment::{DeployKind, Release};
    use rules::ids::Version;
    use rules::units::Span;

    #[test]
    fn a_suite_that_passes_for_one_service_says_nothing_about_another() {
        let at: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let environment = EnvironmentName::new("production").unwrap();
        let report = |service: &str, state| Report {
            source: SourceName::new("ci").unwrap(),
            id: "smoke".into(),
            service: ServiceName::new(service).unwrap(),
            environment: None,
            what: "smoke_test_failed".into(),
            state,
            summary: String::new(),
            at,
            ended: None,
        };
        let mut firing = Firing::default();
        firing.hear(&report("checkout", ReportState::Firing));
        firing.hear(&report("cart", ReportState::Resolved));
        let since = |firing: &Firing, service: &str| {
            let event = DeployEvent {
                source: SourceName::new("ci").unwrap(),
                id: "1".into(),
                kind: DeployKind::Deployed,
                service: ServiceName::new(service).unwrap(),
                environment: environment.clone(),
                release: Release { version: Version::new("v2").unwrap() },
                previous: None,
                occurred_at: at,
                sequence: None,
                changes: None,
                security_fix: false,
            };
            firing.since(&event).len()
        };
        assert_eq!((since(&firing, "checkout"), since(&firing, "cart")), (1, 0));
        // Its end, and from a second messenger a beginning before that end.
        let second = Span::from_seconds(1);
        let over = Report { ended: Some(second.after(at)), ..report("checkout", ReportState::Resolved) };
        for (told, fires) in [
            (Report { at: second.after(at), ..report("checkout", ReportState::Firing) }, 1),
            (over, 0),
            (Report { at: second.after(at), ..report("checkout", ReportState::Firing) }, 0),
            (Report { at: Span::from_seconds(2).after(at), ..report("checkout", ReportState::Firing) }, 1),
        ] {
            firing.hear(&told);
            assert_eq!(since(&firing, "checkout"), fires, "{told:?}");
        }
    }
}
