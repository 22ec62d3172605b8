//! Progressive delivery: what Argo Rollouts and Flagger say about a release that only some users have.
//!
//! A Rollout that is aborted sends its users back to the stable release, although its template still asks for the new
//! one: that is a rollback. When somebody has it try again, that is a deployment of the same release once more.
//!
//! Of a Canary the phase tells: in progress, the release of its target is deployed; failed, users are back at the one of
//! its primary; and when it has succeeded that is reported, since the new release runs everywhere then without another
//! rollout of the target. The primary itself is Flagger's copy and says nothing of its own.

use super::client::{Cluster, Trouble};
use super::details::place;
use super::history::{Rollout, sequence};
use super::memory::Known;
use super::naming::Names;
use super::news::Piece;
use super::template::Template;
use super::{KubernetesSourceConfig, WatchedKind};
use crate::events::{Accepted, Incoming};
use jiff::Timestamp;
use rules::deployment::{DeployKind, Report, ReportState};
use rules::ids::{SourceName, Version, fingerprint};
use serde_json::Value;

/// What the report on a canary is called in matrices.
const CANARY_FAILED: &str = "canary_failed";
/// After every rollout of the same second.
const LAST: u64 = u64::MAX;

/// Whether a workload is a copy that Flagger keeps.
pub(super) fn is_flaggers(object: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    owners.iter().any(|owner| {
        owner["kind"] == "Canary"
            && owner["apiVersion"].as_str().is_some_and(|api| api.starts_with("flagger.app/"))
    })
}

/// What a Rollout's being aborted, or not any more, means.
pub(super) fn aborted(
    object: &Value,
    uid: &str,
    rollouts: &[Rollout],
    known: &mut Known,
    now: Timestamp,
) -> Option<Piece> {
    let status = &object["status"];
    let last = rollouts.last()?;
    let stable = rollouts.iter().rev().find(|rollout| status["stableRS"] == rollout.last.pod_hash.as_str());
    if status["abort"] == true {
        let moment = status["abortedAt"].as_str().unwrap_or("an unknown time").to_owned();
        if known.aborted.as_ref() == Some(&moment) {
            return None;
        }
        let at = moment.parse().unwrap_or(last.at);
        let identity = format!("{}/aborted/{moment}", last.identity(uid));
        known.aborted = Some(moment);
        return Some(Piece {
            identity,
            kind: DeployKind::RolledBack,
            version: stable.map_or_else(|| last.version.clone(), |stable| stable.version.clone()),
            previous: Some(last.version.clone()),
            at,
            sequence: sequence(at, LAST),
            changes: None,
        });
    }
    let moment = known.aborted.take()?;
    let tries_again = known.told.as_ref().is_some_and(|told| told.identity == last.identity(uid))
        && stable.is_none_or(|stable| stable.first.template.hash != last.first.template.hash);
    tries_again.then(|| Piece {
        identity: format!("{}/again-after/{moment}", last.identity(uid)),
        kind: DeployKind::Deployed,
        version: last.version.clone(),
        previous: stable.map(|stable| stable.version.clone()),
        at: now,
        sequence: sequence(now, LAST),
        changes: None,
    })
}

/// What the phase of a Canary means.
pub(super) async fn canary(
    cluster: &Cluster,
    config: &KubernetesSourceConfig,
    source: &SourceName,
    names: &Names,
    object: &Value,
    now: Timestamp,
) -> Result<Option<Accepted>, Trouble> {
    let status = &object["status"];
    let phase = status["phase"].as_str().unwrap_or_default();
    if !["Progressing", "Failed", "Succeeded"].contains(&phase) {
        return Ok(None);
    }
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let promoted = conditions.iter().find(|condition| condition["type"] == "Promoted");
    // The moment at which this phase began; the other times of a Canary move with every step of it.
    let since = promoted.and_then(|condition| condition["lastUpdateTime"].as_str()).unwrap_or_default();
    let at: Timestamp = since.parse().unwrap_or(now);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (uid, applied) = (text(&object["metadata"]["uid"]), text(&status["lastAppliedSpec"]));
    let identity =
        format!("{uid}/{}/{}/{}", phase.to_lowercase(), fingerprint(&[&applied], 6), at.as_second());
    let raw = place(WatchedKind::Canary, object);
    if phase == "Succeeded" {
        let report = Report {
            source: source.clone(),
            id: format!("{uid}/canary"),
            service: names.service.clone(),
            environment: Some(names.environment.clone()),
            what: CANARY_FAILED.into(),
            state: ReportState::Resolved,
            summary: "Flagger has promoted the canary".into(),
            at: at.min(now),
        };
        return Ok(Some(Accepted {
            id: identity,
            incoming: Incoming::Report(report),
            raw,
            notes: Vec::new(),
        }));
    }
    let primary = version(cluster, config, object, "-primary", "lastPromotedSpec").await?;
    let target = version(cluster, config, object, "", "lastAppliedSpec").await?;
    let (kind, version, previous) = match phase {
        "Failed" => (DeployKind::RolledBack, primary, target),
        _ => (DeployKind::Deployed, target, primary),
    };
    let previous = Some(previous).filter(|previous| *previous != version);
    let piece = Piece { identity, kind, version, previous, at, sequence: sequence(at, LAST), changes: None };
    Ok(Some(piece.accepted(source, names, raw, now)))
}

/// What the target of a Canary, or its primary, is called: by its template, and else by Flagger's own hash of it.
async fn version(
    cluster: &Cluster,
    config: &KubernetesSourceConfig,
    object: &Value,
    suffix: &str,
    hash: &str,
) -> Result<Version, Trouble> {
    let target = &object["spec"]["targetRef"];
    let kind = if target["kind"] == "DaemonSet" { WatchedKind::DaemonSet } else { WatchedKind::Deployment };
    let name = format!("{}{suffix}", target["name"].as_str().unwrap_or_default());
    let path = format!("{}/{name}", kind.path(object["metadata"]["namespace"].as_str()));
    let template = match cluster.get(&path).await {
        Ok(workload) => Template::new(&workload["spec"]["template"])
            .names(&config.version_from, config.container.as_deref()),
        Err(Trouble::Absent(_)) => Vec::new(),
        Err(trouble) => return Err(trouble),
    };
    let own = fingerprint(&[object["status"][hash].as_str().unwrap_or("none")], 6);
    let own = Version::new(format!("flagger-{own}"));
    match (template.into_iter().next(), own) {
        (Some(version), _) | (None, Ok(version)) => Ok(version),
        (None, Err(error)) => Err(Trouble::Lost(error.to_string())),
    }
}
