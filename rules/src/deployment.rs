//! Releases, deployments and the news of them.

use crate::ids::{EnvironmentName, ServiceName, SourceName, Version};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A version of a service that can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// What identifies it: tag, commit, image digest or package URL.
    pub version: Version,
}

/// What an event says happened to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployKind {
    /// A release replaced another one, or was started for the first time.
    Deployed,
    /// Somebody (perhaps we) went back to an older release. It is watched by nobody: it is the cure, not a risk to
    /// be turned back again.
    RolledBack,
    /// The service was taken away.
    Removed,
}

/// What a deployment brought, as far as its source says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A program: an image, an artefact, a hosted build.
    Code,
    /// Configuration or environment variables.
    Configuration,
    /// Feature flags.
    Flags,
    /// Migrations of a database that can be taken back.
    Migrations,
    /// Migrations that cannot: a column is gone, data were rewritten. The release before may not fit the schema.
    IrreversibleMigrations,
    /// Who may read and write stored files.
    StoragePolicy,
}

impl Change {
    /// Every one.
    pub const ALL: [Change; 6] = [
        Change::Code,
        Change::Configuration,
        Change::Flags,
        Change::Migrations,
        Change::IrreversibleMigrations,
        Change::StoragePolicy,
    ];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Change::Code => "code",
            Change::Configuration => "configuration",
            Change::Flags => "flags",
            Change::Migrations => "migrations",
            Change::IrreversibleMigrations => "irreversible_migrations",
            Change::StoragePolicy => "storage_policy",
        }
    }
}

/// News of a deployment: identifiers only. Commands, addresses and targets come from the configuration, never from
/// an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployEvent {
    /// Who said it (from the configuration, not from the message).
    pub source: SourceName,
    /// The message's own identity; with `source` it makes the same news recognisable.
    pub id: String,
    /// What happened.
    pub kind: DeployKind,
    /// To which service.
    pub service: ServiceName,
    /// Where.
    pub environment: EnvironmentName,
    /// The release that runs from now on.
    pub release: Release,
    /// The release that ran before, if the source knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Release>,
    /// When it happened, by the source's clock.
    pub occurred_at: Timestamp,
    /// The source's own counter (a generation, a run number): orders events where clocks cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// What it brought, if the source knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<BTreeSet<Change>>,
    /// Whether it closes a hole, which going back opens again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub security_fix: bool,
}

impl DeployEvent {
    /// Is this news newer than `other` about the same service? By the source's counter where both have one from the
    /// same source, else by the time of the deployment; arrival order never counts.
    pub fn is_newer_than(&self, other: &Deployment) -> bool {
        match (self.sequence, other.sequence) {
            (Some(mine), Some(theirs)) if self.source == other.source => mine > theirs,
            _ => self.occurred_at > other.at,
        }
    }

    /// The act it tells of. `running` is what ran before as far as others know, for sources that do not say.
    pub fn deployment(&self, running: Option<&Release>) -> Deployment {
        Deployment {
            service: self.service.clone(),
            environment: self.environment.clone(),
            release: self.release.clone(),
            previous: self.previous.as_ref().or(running).cloned(),
            at: self.occurred_at,
            source: self.source.clone(),
            sequence: self.sequence,
            changes: self.changes.clone(),
            security_fix: self.security_fix,
        }
    }
}

/// The act of replacing one release by another in one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What runs since.
    pub release: Release,
    /// What ran before, as far as anybody knows.
    pub previous: Option<Release>,
    /// When, by the source's clock.
    pub at: Timestamp,
    /// Who told us.
    pub source: SourceName,
    /// The source's counter, if it has one.
    pub sequence: Option<u64>,
    /// What it brought, if the source knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<BTreeSet<Change>>,
    /// Whether it closes a hole, which going back opens again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub security_fix: bool,
}

impl Deployment {
    /// Whether its source says that it brought this.
    pub fn brought(&self, change: Change) -> bool {
        self.changes.as_ref().is_some_and(|changes| changes.contains(&change))
    }
}

/// What somebody reported about a service besides its signals: an alert, a test result, an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Who said it (from the configuration).
    pub source: SourceName,
    /// The report's own identity (an alert's fingerprint).
    pub id: String,
    /// The service it speaks about.
    pub service: ServiceName,
    /// The environment, if it says.
    pub environment: Option<EnvironmentName>,
    /// What matrix rows match on: `smoke_test_failed`, `data_corruption`, `security_exposure` …
    pub what: String,
    /// Whether it begins or ends.
    pub state: ReportState,
    /// One line for people. Never interpreted.
    pub summary: String,
    /// When it began.
    pub at: Timestamp,
    /// When it was over, if it is and the source knows: what began before that under the same identity is over as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl Report {
    /// Until when everything of its identity is over, if this is an end.
    pub fn over_until(&self) -> Option<Timestamp> {
        (self.state == ReportState::Resolved).then(|| self.ended.unwrap_or(self.at).max(self.at))
    }
}

/// Whether a reported condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportState {
    /// It holds now.
    Firing,
    /// It is over.
    Resolved,
}
