//! Who else writes a workload. A change behind its owner's back is put back within seconds, or fights it for ever.

use super::super::Context;
use super::client::{Blind, Cluster};
use super::workload::Workload;
use rules::action::kubernetes::{KubernetesOperation, KubernetesSpec, WorkloadKind, WorkloadOwner};
use serde_json::Value;

/// An owner, where it shows, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) owner: WorkloadOwner,
    shows: String,
    remedy: &'static str,
}

impl Owner {
    fn new(owner: WorkloadOwner, shows: String) -> Self {
        let remedy = match owner {
            WorkloadOwner::ArgoCd => {
                "roll back in git, or switch off its automated sync and roll back through Argo CD; a change of the \
                 workload alone is put back within seconds"
            }
            WorkloadOwner::Flux => "roll back in git, or suspend the reconciliation first (flux suspend)",
            WorkloadOwner::Helm => "roll back with `helm rollback`, so that Helm knows what runs",
            WorkloadOwner::ArgoRollouts => "abort or undo the Rollout itself (kubectl argo rollouts undo)",
            WorkloadOwner::Flagger => {
                "let Flagger roll back its canary, or change the target that it copies from"
            }
            WorkloadOwner::Controller => "change the object that owns it; its controller writes the workload",
            WorkloadOwner::Autoscaler => "change minReplicas or maxReplicas of the autoscaler instead",
        };
        Self { owner, shows, remedy }
    }

    /// Why it stands in the way, and what to do.
    pub(super) fn words(&self) -> String {
        let word = self.owner.word();
        format!(
            "it is owned by {word} ({}): {}. To change it all the same, say `despite_owner: [{word}]`",
            self.shows, self.remedy
        )
    }
}

/// The owners that stand in the way of `spec`.
pub(super) async fn in_the_way(
    cluster: &Cluster,
    spec: &KubernetesSpec,
    workload: &Workload,
    context: &Context,
) -> Result<Vec<Owner>, Blind> {
    let mut owners = of(workload);
    let scales = matches!(spec.operation, KubernetesOperation::Scale { .. });
    if scales && !spec.despite_owner.contains(&WorkloadOwner::Autoscaler) {
        owners.extend(autoscaler(cluster, spec, context).await?);
    }
    owners.retain(|owner| !spec.despite_owner.contains(&owner.owner));
    Ok(owners)
}

/// What the workload itself tells about its owners.
pub(super) fn of(workload: &Workload) -> Vec<Owner> {
    let mut owners = Vec::new();
    let mut add = |owner, shows: Option<String>| {
        if let Some(shows) = shows
            && !owners.iter().any(|found: &Owner| found.owner == owner)
        {
            owners.push(Owner::new(owner, shows));
        }
    };
    let label = |name: &str| workload.label(name).map(|value| format!("label {name}={value}"));
    let annotation = |name: &str| workload.annotation(name).map(|value| format!("annotation {name}={value}"));
    let writer = |names: &[&str]| {
        let entries = workload.metadata("managedFields").as_array().map(Vec::as_slice).unwrap_or_default();
        let mut managers = entries.iter().filter_map(|entry| entry["manager"].as_str());
        managers.find(|manager| names.contains(manager)).map(|manager| format!("written by {manager}"))
    };
    add(WorkloadOwner::ArgoCd, annotation("argocd.argoproj.io/tracking-id"));
    add(WorkloadOwner::ArgoCd, label("argocd.argoproj.io/instance"));
    add(WorkloadOwner::ArgoCd, writer(&["argocd-controller", "argocd-application-controller"]));
    for name in ["kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"] {
        add(WorkloadOwner::Flux, label(name));
    }
    add(WorkloadOwner::Flux, writer(&["kustomize-controller", "helm-controller"]));
    let managed_by = workload.label("app.kubernetes.io/managed-by");
    let by_helm = managed_by.filter(|by| by.eq_ignore_ascii_case("helm"));
    add(WorkloadOwner::Helm, by_helm.map(|by| format!("label app.kubernetes.io/managed-by={by}")));
    add(WorkloadOwner::Helm, annotation("meta.helm.sh/release-name"));
    add(WorkloadOwner::Flagger, writer(&["flagger"]));
    for reference in workload.metadata("ownerReferences").as_array().into_iter().flatten() {
        let text = |key: &str| reference[key].as_str().unwrap_or_default();
        let group = text("apiVersion").split('/').next().unwrap_or_default();
        let owner = match (group, text("kind")) {
            ("argoproj.io", _) => WorkloadOwner::ArgoRollouts,
            ("flagger.app", _) => WorkloadOwner::Flagger,
            _ => WorkloadOwner::Controller,
        };
        add(owner, Some(format!("owner {} {}", text("kind"), text("name"))));
    }
    owners
}

async fn autoscaler(
    cluster: &Cluster,
    spec: &KubernetesSpec,
    context: &Context,
) -> Result<Option<Owner>, Blind> {
    let path = format!("/apis/autoscaling/v1/namespaces/{}/horizontalpodautoscalers", spec.namespace);
    let all = cluster.list(&path, "", context).await.map_err(|blind| match blind {
        Blind::ForGood(reason) => Blind::ForGood(format!(
            "cannot tell whether an autoscaler decides the number of replicas: {reason}. Allow \
             `list horizontalpodautoscalers`, or say `despite_owner: [autoscaler]`"
        )),
        passing @ Blind::ForNow(_) => passing,
    })?;
    let kind = match spec.kind {
        WorkloadKind::Deployment => "Deployment",
        WorkloadKind::StatefulSet => "StatefulSet",
        WorkloadKind::DaemonSet => "DaemonSet",
    };
    let aims = |object: &&Value| {
        let target = &object["spec"]["scaleTargetRef"];
        target["kind"] == kind && target["name"] == spec.name.as_str()
    };
    Ok(all.iter().find(aims).map(|found| {
        let name = found["metadata"]["name"].as_str().unwrap_or("?");
        Owner::new(WorkloadOwner::Autoscaler, format!("HorizontalPodAutoscaler {name}"))
    }))
}
