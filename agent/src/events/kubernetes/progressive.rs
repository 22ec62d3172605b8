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
use super::history::{Naming, Rollout, rollouts, sequence};
use super::memory::{Known, Memory};
use super::naming::Names;
use super::news::Piece;
use super::template::Template;
use super::{KubernetesSourceConfig, WatchedKind};
use crate::actions::kubernetes::query;
use crate::events::{Accepted, Incoming};
use jiff::Timestamp;
use rules::deployment::{DeployKind, Report, ReportState};
use rules::ids::{SourceName, Version, fingerprint};
use serde_json::Value;

/// What the report on a canary is called in matrices.
const CANARY_FAILED: &str = "canary_failed";
/// After every rollout of the same second.
const LAST: u64 = u64::MAX;

/// What a Canary is seen with.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) config: &'a KubernetesSourceConfig,
    /// What the targets' templates are called.
    pub(super) memory: &'a Memory,
}

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
    view: View<'_>,
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
            ended: None,
        };
        return Ok(Some(Accepted {
            id: identity,
            incoming: Incoming::Report(report),
            raw,
            notes: Vec::new(),
        }));
    }
    let (target, primary) = versions(view, object).await?;
    let (kind, version, previous) = match phase {
        "Failed" => (DeployKind::RolledBack, primary, target),
        _ => (DeployKind::Deployed, target, primary),
    };
    let previous = Some(previous).filter(|previous| *previous != version);
    let piece = Piece { identity, kind, version, previous, at, sequence: sequence(at, LAST), changes: None };
    Ok(Some(piece.accepted(source, names, raw, now)))
}

/// What the target of a Canary and its primary are called. As in the news of the target itself: by the history that the
/// cluster keeps of it, in which a change of nothing but configuration has a name of its own.
async fn versions(view: View<'_>, object: &Value) -> Result<(Version, Version), Trouble> {
    let View { cluster, config, memory } = view;
    let target = &object["spec"]["targetRef"];
    let kind = if target["kind"] == "DaemonSet" { WatchedKind::DaemonSet } else { WatchedKind::Deployment };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let name = target["name"].as_str().unwrap_or_default();
    let read = async |name: &str| match cluster.get(&format!("{}/{name}", kind.path(Some(namespace)))).await {
        Ok(workload) => Ok(Some(workload)),
        Err(Trouble::Absent(_)) => Ok(None),
        Err(trouble) => Err(trouble),
    };
    let (target, primary) = (read(name).await?, read(&format!("{name}-primary")).await?);
    let (label, container) = (config.version_from.as_str(), config.container.as_deref());
    let rollouts = match (&target, kind.past()) {
        (Some(target), Some(past)) => {
            let uid = target["metadata"]["uid"].as_str().unwrap_or_default();
            let path = format!("/apis/apps/v1/namespaces/{namespace}/{}", past.plural);
            let items = cluster.list(&path, &query(&target["spec"]["selector"])).await?;
            let given = memory.of(uid).names;
            rollouts(past, uid, &items, None, Naming { label, container, given: &given })
        }
        _ => Vec::new(),
    };
    let template = |workload: &Value| Template::new(&workload["spec"]["template"]);
    let (target, primary) = (target.as_ref().map(template), primary.as_ref().map(template));
    let called = |template: Option<&Template>, found: Option<&Rollout>, hash: &str| {
        let own = template.and_then(|template| template.names(label, container).into_iter().next());
        match found.map(|rollout| rollout.version.clone()).or(own) {
            Some(version) => Ok(version),
            None => flaggers(object["status"][hash].as_str().unwrap_or("none")),
        }
    };
    let is =
        |rollout: &&Rollout| target.as_ref().is_some_and(|target| target.hash == rollout.first.template.hash);
    let wanted = rollouts.iter().rfind(is);
    if wanted.is_none() && !rollouts.is_empty() {
        let words = format!("the controller of its target {name} has not taken up the target's template yet");
        return Err(Trouble::NotYet(words));
    }
    let promoted = primary.as_ref().and_then(|primary| promoted(&rollouts, wanted, primary));
    Ok((
        called(target.as_ref(), wanted, "lastAppliedSpec")?,
        called(primary.as_ref(), promoted, "lastPromotedSpec")?,
    ))
}

/// The rollout of the target of which the primary is a copy. Flagger writes names of its own into a copy; where that
/// leaves no template that is the same, it is the newest one of the same images that the target is not at now.
pub(super) fn promoted<'a>(
    rollouts: &'a [Rollout],
    wanted: Option<&Rollout>,
    primary: &Template,
) -> Option<&'a Rollout> {
    let original = primary.without_names_of_primary();
    let is_copied = |rollout: &&Rollout| rollout.last.template.without_names_of_primary() == original;
    let is_wanted = |rollout: &Rollout| {
        wanted.is_some_and(|wanted| wanted.first.template.hash == rollout.first.template.hash)
    };
    let runs_the_same =
        |rollout: &&Rollout| !is_wanted(rollout) && rollout.last.template.images() == primary.images();
    rollouts.iter().rfind(is_copied).or_else(|| rollouts.iter().rfind(runs_the_same))
}

/// By Flagger's own hash of a template that is not to be seen.
fn flaggers(hash: &str) -> Result<Version, Trouble> {
    let own = format!("flagger-{}", fingerprint(&[hash], 6));
    Version::new(own).map_err(|error| Trouble::Odd(error.to_string()))
}
