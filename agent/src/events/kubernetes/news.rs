//! From the past of a workload to news: what of it was not told yet, and in which words.

use super::history::Rollout;
use super::memory::{Known, Told};
use super::naming::Names;
use crate::events::{Accepted, Incoming};
use jiff::Timestamp;
use rules::deployment::{DeployEvent, DeployKind, Release};
use rules::ids::{SourceName, Version};
use serde_json::Value;

/// The rollouts that are news, as places in `rollouts`.
///
/// Of a workload that was never told of, only what it is at now: what was before that was over before we came. Of the
/// others, everything that is newer than what was told last. Old news, from a cache that lies behind, is not newer.
pub(super) fn fresh(rollouts: &[Rollout], uid: &str, known: &Known) -> Vec<usize> {
    let Some(told) = &known.told else { return rollouts.len().checked_sub(1).into_iter().collect() };
    let is_news = |at: usize| {
        let rollout = &rollouts[at];
        // The cluster forgets its oldest records, and with them how far a row of restarts goes back.
        let same_as_told = at == 0 && rollout.first.template.hash == told.hash;
        rollout.sequence() > told.sequence && rollout.identity(uid) != told.identity && !same_as_told
    };
    (0..rollouts.len()).filter(|at| is_news(*at)).collect()
}

impl Told {
    /// What is remembered of a rollout that is told.
    pub(super) fn of(rollout: &Rollout, uid: &str) -> Told {
        Told {
            identity: rollout.identity(uid),
            hash: rollout.first.template.hash.clone(),
            sequence: rollout.sequence(),
        }
    }
}

/// Whether the rollout at this place is a way back; `ours` says that we were the last to write the workload's template.
pub(super) fn kind(rollouts: &[Rollout], at: usize, ours: bool) -> DeployKind {
    let images = rollouts[at].first.template.images();
    let is_last = at + 1 == rollouts.len();
    let older = &rollouts[..at.saturating_sub(1)];
    let replaced = at.checked_sub(1).map(|before| rollouts[before].first.template.images());
    let ran_before = replaced != Some(images.clone())
        && older.iter().any(|rollout| rollout.first.template.images() == images);
    match rollouts[at].went_back || (ours && is_last && ran_before) {
        true => DeployKind::RolledBack,
        false => DeployKind::Deployed,
    }
}

/// Everything that a piece of news is made of.
pub(super) struct Piece {
    pub(super) identity: String,
    pub(super) kind: DeployKind,
    pub(super) version: Version,
    pub(super) previous: Option<Version>,
    pub(super) at: Timestamp,
    pub(super) sequence: u64,
    pub(super) changes: Option<std::collections::BTreeSet<rules::deployment::Change>>,
}

impl Piece {
    /// The rollout at this place.
    pub(super) fn rollout(rollouts: &[Rollout], at: usize, uid: &str, ours: bool) -> Piece {
        let rollout = &rollouts[at];
        let before = at.checked_sub(1).map(|before| &rollouts[before]);
        Piece {
            identity: rollout.identity(uid),
            kind: kind(rollouts, at, ours),
            version: rollout.version.clone(),
            previous: before.map(|before| before.version.clone()),
            at: rollout.at,
            sequence: rollout.sequence(),
            changes: before.map(|before| rollout.first.template.changes_since(&before.last.template)),
        }
    }

    /// As the ledger takes it. The server's clock may be ahead of ours; nothing has happened in the future.
    pub(super) fn accepted(self, source: &SourceName, names: &Names, raw: Value, now: Timestamp) -> Accepted {
        let mut notes = Vec::new();
        if self.at > now {
            notes.push(format!("the cluster's clock is ahead of ours: it says {}", self.at));
        }
        let event = DeployEvent {
            source: source.clone(),
            id: self.identity.clone(),
            kind: self.kind,
            service: names.service.clone(),
            environment: names.environment.clone(),
            release: Release { version: self.version },
            previous: self.previous.map(|version| Release { version }),
            occurred_at: self.at.min(now),
            sequence: Some(self.sequence),
            changes: self.changes,
            security_fix: false,
        };
        Accepted { id: self.identity, incoming: Incoming::Deploy(event), raw, notes }
    }
}
