//! How far a rollout is: what `kubectl rollout status` tells, and failures that it waits for in vain.

use super::super::Context;
use super::client::{Blind, Cluster};
use super::history;
use super::workload::{Workload, plain, selector};
use rules::action::kubernetes::{KubernetesSpec, WorkloadKind};
use serde_json::Value;

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// Every pod is new and available.
    Finished,
    /// Not yet, in words.
    Underway(String),
    /// It will not finish by itself, in words.
    Failed(String),
}

/// What the workload itself tells.
pub(super) fn progress(kind: WorkloadKind, workload: &Workload) -> Progress {
    let generation = workload.metadata("generation").as_u64().unwrap_or(0);
    if workload.status("observedGeneration") < generation {
        return Progress::Underway("its controller has not taken up the change yet".into());
    }
    match kind {
        WorkloadKind::Deployment => deployment(workload),
        WorkloadKind::StatefulSet => stateful_set(workload),
        WorkloadKind::DaemonSet => daemon_set(workload),
    }
}

fn deployment(workload: &Workload) -> Progress {
    if workload.is_paused() {
        return Progress::Failed("its rollouts are paused: resume it first".into());
    }
    let condition = |name: &str| {
        let all = workload.0["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().find(|one| one["type"] == name)
    };
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    if let Some(one) = condition("Progressing").filter(|one| one["reason"] == "ProgressDeadlineExceeded") {
        return Progress::Failed(format!("its progress deadline is over: {}", text(one, "message")));
    }
    let (wanted, updated) = (workload.replicas(), workload.status("updatedReplicas"));
    let (all, available) = (workload.status("replicas"), workload.status("availableReplicas"));
    let refused = condition("ReplicaFailure").filter(|one| one["status"] == "True");
    let refused =
        refused.map_or(String::new(), |one| format!("; pods are refused: {}", text(one, "message")));
    if updated < wanted {
        Progress::Underway(format!("{updated} of {wanted} pods are new{refused}"))
    } else if all > updated {
        Progress::Underway(format!("{} old pods are still there", all - updated))
    } else if available < updated {
        Progress::Underway(format!("{available} of {updated} new pods are available"))
    } else {
        Progress::Finished
    }
}

/// A strategy under which nothing rolls out by itself.
fn on_delete(workload: &Workload) -> Option<Progress> {
    (workload.0["spec"]["updateStrategy"]["type"] == "OnDelete").then(|| {
        Progress::Failed("its update strategy is OnDelete: pods stay old until somebody deletes them".into())
    })
}

fn stateful_set(workload: &Workload) -> Progress {
    if let Some(failed) = on_delete(workload) {
        return failed;
    }
    let (wanted, ready) = (workload.replicas(), workload.status("readyReplicas"));
    let updated = workload.status("updatedReplicas");
    let partition = workload.0["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_u64().unwrap_or(0);
    let same_revision = workload.0["status"]["updateRevision"] == workload.0["status"]["currentRevision"];
    if ready < wanted {
        Progress::Underway(format!("{ready} of {wanted} pods are ready"))
    } else if partition > 0 && updated < wanted.saturating_sub(partition) {
        Progress::Underway(format!("{updated} of {} pods are new", wanted.saturating_sub(partition)))
    } else if partition == 0 && !same_revision {
        Progress::Underway(format!("{updated} of {wanted} pods are new"))
    } else {
        Progress::Finished
    }
}

fn daemon_set(workload: &Workload) -> Progress {
    if let Some(failed) = on_delete(workload) {
        return failed;
    }
    let wanted = workload.status("desiredNumberScheduled");
    let (updated, available) =
        (workload.status("updatedNumberScheduled"), workload.status("numberAvailable"));
    if updated < wanted {
        Progress::Underway(format!("{updated} of {wanted} pods are new"))
    } else if available < wanted {
        Progress::Underway(format!("{available} of {wanted} pods are available"))
    } else {
        Progress::Finished
    }
}

/// Why the pods of the newest template can never start, if that is certain: an image that cannot be pulled.
pub(super) async fn hopeless(
    cluster: &Cluster,
    spec: &KubernetesSpec,
    workload: &Workload,
    context: &Context,
) -> Result<Option<String>, Blind> {
    let label = match spec.kind {
        WorkloadKind::Deployment => "pod-template-hash",
        WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => "controller-revision-hash",
    };
    let now = plain(workload.template());
    let newest = match spec.kind {
        WorkloadKind::StatefulSet => workload.0["status"]["updateRevision"].as_str().map(str::to_owned),
        WorkloadKind::Deployment | WorkloadKind::DaemonSet => {
            let all = history::remembered(cluster, spec, workload, context).await?;
            all.into_iter().find(|one| one.template == now).map(|one| one.hash)
        }
    };
    // Its controller has not made a revision of it yet.
    let Some(hash) = newest else { return Ok(None) };
    let path = format!("/api/v1/namespaces/{}/pods", spec.namespace);
    let selector = format!("{},{label}={hash}", selector(workload));
    let pods = cluster.list(&path, selector.trim_start_matches(','), context).await?;
    Ok(pods.iter().find_map(unpullable))
}

/// Reasons that a kubelet gives after it has tried more than once, or cannot try at all.
const UNPULLABLE: [&str; 3] = ["ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"];

fn unpullable(pod: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    ["initContainerStatuses", "containerStatuses"].into_iter().find_map(|list| {
        pod["status"][list].as_array()?.iter().find_map(|container| {
            let waiting = &container["state"]["waiting"];
            let reason = text(&waiting["reason"]);
            UNPULLABLE.contains(&reason.as_str()).then(|| {
                format!(
                    "pod {}: {reason} of {} in container {}: {}",
                    text(&pod["metadata"]["name"]),
                    text(&container["image"]),
                    text(&container["name"]),
                    text(&waiting["message"])
                )
            })
        })
    })
}
