//! The templates that the cluster still remembers, and the one among them that is known to be good.
//!
//! A Deployment keeps ReplicaSets, the others keep ControllerRevisions. Neither's number is an identity: an undo gives
//! the old template a new number. What identifies a template is its hash and what runs in it.

use super::super::Context;
use super::client::{Blind, Cluster};
use super::goal::Goal;
use super::workload::{Workload, controls, images, other_image, plain, selector};
use rules::action::kubernetes::{KubernetesSpec, UndoTo, WorkloadKind};
use serde_json::Value;

/// Remembered templates that are told in a refusal; a cluster keeps ten unless told otherwise.
const MOST_TOLD: usize = 10;

/// One remembered template.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    /// Its hash, as in the labels of the pods.
    pub(super) hash: String,
    /// The template without what controllers add.
    pub(super) template: Value,
}

/// Everything that is remembered of a workload.
pub(super) async fn remembered(
    cluster: &Cluster,
    spec: &KubernetesSpec,
    workload: &Workload,
    context: &Context,
) -> Result<Vec<Remembered>, Blind> {
    let kind = match spec.kind {
        WorkloadKind::Deployment => "replicasets",
        WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => "controllerrevisions",
    };
    let path = format!("/apis/apps/v1/namespaces/{}/{kind}", spec.namespace);
    let found = cluster.list(&path, &selector(workload), context).await?;
    Ok(found.iter().filter(|object| controls(workload, object)).filter_map(one).collect())
}

/// How many pods of the template that a Deployment wants are available.
pub(super) async fn available(
    cluster: &Cluster,
    spec: &KubernetesSpec,
    workload: &Workload,
    context: &Context,
) -> Result<u64, Blind> {
    let path = format!("/apis/apps/v1/namespaces/{}/replicasets", spec.namespace);
    let found = cluster.list(&path, &selector(workload), context).await?;
    let now = plain(workload.template());
    let new =
        found.iter().filter(|object| controls(workload, object) && plain(&object["spec"]["template"]) == now);
    Ok(new.filter_map(|object| object["status"]["availableReplicas"].as_u64()).sum())
}

/// The first template of a Deployment that has pods and is neither what it wants now nor what `goal` wants, in words: a
/// rollout that is still under way, or one that somebody left half done.
pub(super) async fn third_release(
    cluster: &Cluster,
    spec: &KubernetesSpec,
    workload: &Workload,
    goal: &Goal,
    context: &Context,
) -> Result<Option<String>, Blind> {
    if spec.kind != WorkloadKind::Deployment {
        return Ok(None);
    }
    let path = format!("/apis/apps/v1/namespaces/{}/replicasets", spec.namespace);
    let found = cluster.list(&path, &selector(workload), context).await?;
    let now = plain(workload.template());
    let third = found.iter().filter(|object| controls(workload, object)).find_map(|object| {
        let pods = object["status"]["replicas"].as_u64().unwrap_or(0);
        let template = plain(&object["spec"]["template"]);
        (pods > 0 && template != now && !goal.leads_to(&template)).then(|| {
            format!(
                "{pods} pods of a third release still run ({}); wait for that rollout to end",
                images(&template)
            )
        })
    });
    Ok(third)
}

fn one(object: &Value) -> Option<Remembered> {
    let label = |name: &str| object["metadata"]["labels"][name].as_str();
    let (hash, template) = if object["kind"] == "ControllerRevision" || object["data"].is_object() {
        let hash = label("controller.kubernetes.io/hash").or(label("controller-revision-hash"));
        (hash, &object["data"]["spec"]["template"])
    } else {
        (label("pod-template-hash"), &object["spec"]["template"])
    };
    template
        .is_object()
        .then(|| Remembered { hash: hash.unwrap_or("?").to_owned(), template: plain(template) })
}

/// The one template that `to` names, or why there is none.
pub(super) fn find(all: &[Remembered], to: &UndoTo) -> Result<Value, String> {
    // The pods of a StatefulSet carry the whole name of their revision as the hash.
    let same_hash = |wanted: &str, hash: &str| wanted == hash || wanted.ends_with(&format!("-{hash}"));
    let fits = |one: &&Remembered| {
        to.template_hash.as_ref().is_none_or(|wanted| same_hash(wanted, &one.hash))
            && other_image(&one.template, &to.images).is_none()
    };
    let mut fitting: Vec<&Remembered> = all.iter().filter(fits).collect();
    fitting.dedup_by(|one, other| one.template == other.template);
    let told = |some: &[&Remembered]| {
        let lines =
            some.iter().take(MOST_TOLD).map(|one| format!("{} ({})", one.hash, images(&one.template)));
        lines.collect::<Vec<_>>().join("; ")
    };
    match fitting.as_slice() {
        [one] => Ok(one.template.clone()),
        [] => Err(format!(
            "the cluster remembers no such template (revisionHistoryLimit may have removed it); it remembers {}. \
             `set_image` needs no memory",
            told(&all.iter().collect::<Vec<_>>())
        )),
        several => Err(format!(
            "{} templates with these images are remembered and only one can be the good one; name it with \
             `template_hash`: {}",
            several.len(),
            told(several)
        )),
    }
}
