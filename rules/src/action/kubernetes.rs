//! The action family `kubernetes` as data: one workload, one operation on it.
//!
//! An undo names what it returns to, by the template's hash or by the images that run in it. There is no "the one
//! before": the revision before the bad one may be another bad one, and its number moves with every undo.

use crate::runbook::{BadTemplate, Values, check_template, fill};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One operation on one workload of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSpec {
    /// The namespace. Placeholders may stand in it.
    pub namespace: String,
    /// What kind of workload it is.
    pub kind: WorkloadKind,
    /// Its name. Placeholders may stand in it.
    pub name: String,
    /// The kubeconfig, an absolute path. Without it, the usual places: `KUBECONFIG`, `~/.kube/config`, the pod's own
    /// service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// The context within the kubeconfig; its current one if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Owners whose workloads are not refused: somebody has thought about who puts the change back, and when.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub despite_owner: BTreeSet<WorkloadOwner>,
    /// What is done to it.
    pub operation: KubernetesOperation,
}

/// A kind of workload that rolls out pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
}

/// Who else writes a workload, and would write over what Turnback changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadOwner {
    /// Argo CD: puts back what git says, within seconds if it heals itself.
    ArgoCd,
    /// Flux, by kustomization or by Helm release: puts back what git says at its next reconciliation.
    Flux,
    /// Helm: its next upgrade starts from what it last wrote.
    Helm,
    /// Argo Rollouts: the pods belong to a Rollout.
    ArgoRollouts,
    /// Flagger: writes and scales the workloads of its canaries.
    Flagger,
    /// Another controller, named in the workload's owner references.
    Controller,
    /// A horizontal pod autoscaler: decides the number of replicas. Stands in the way of `scale` only.
    Autoscaler,
}

/// One operation: one write, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KubernetesOperation {
    /// Back to a pod template that the cluster still remembers.
    Undo(UndoTo),
    /// Another image for one container.
    SetImage(SetImage),
    /// Another number of replicas.
    Scale {
        /// How many.
        replicas: u32,
    },
    /// Halts the rollouts of a Deployment.
    Pause,
    /// Lets a paused Deployment roll out again.
    Resume,
    /// New pods from the same template, once per step of a plan.
    Restart,
    /// Waits until the rollout is finished; writes nothing.
    Wait(WaitFor),
}

/// The template that an undo returns to. At least one of `template_hash` and `images`; both must fit if both are given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoTo {
    /// The value of the label `pod-template-hash` (Deployment) or `controller-revision-hash` (the others).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<String>,
    /// Container names and their images. Of an image with a digest only repository and digest count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
    /// Container names and the images that must run now: anything else is somebody's later change, which is left alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub only_from: BTreeMap<String, String>,
}

/// A container and its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetImage {
    /// The container, or init container.
    pub container: String,
    /// Its image, best by digest.
    pub image: String,
    /// As in [`UndoTo::only_from`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub only_from: BTreeMap<String, String>,
}

/// Which rollout is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitFor {
    /// Container names and the images that must be rolled out; whatever is wanted if empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
    /// Not the whole rollout, but so many new pods of a Deployment that are available: the first stage of a staged one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<u32>,
}

/// Containers named in one operation. Pods have a handful.
const MOST_IMAGES: usize = 32;
/// A mistyped number of replicas should not fill a cluster.
const MOST_REPLICAS: u32 = 1_000;
/// Kubernetes' own limit for names.
const LONGEST_NAME: usize = 253;

impl WorkloadKind {
    /// As in `kubectl`: `deployment`.
    pub fn word(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "deployment",
            WorkloadKind::StatefulSet => "statefulset",
            WorkloadKind::DaemonSet => "daemonset",
        }
    }
}

impl WorkloadOwner {
    /// The word of the configuration: `argo_cd`.
    pub fn word(self) -> &'static str {
        match self {
            WorkloadOwner::ArgoCd => "argo_cd",
            WorkloadOwner::Flux => "flux",
            WorkloadOwner::Helm => "helm",
            WorkloadOwner::ArgoRollouts => "argo_rollouts",
            WorkloadOwner::Flagger => "flagger",
            WorkloadOwner::Controller => "controller",
            WorkloadOwner::Autoscaler => "autoscaler",
        }
    }
}

impl KubernetesSpec {
    /// One line that says exactly what will be done.
    pub fn words(&self) -> String {
        let what = match &self.operation {
            KubernetesOperation::Undo(to) => {
                let hash = to.template_hash.iter().map(|hash| format!("template {hash}"));
                let parts: Vec<String> = hash.chain(pairs(&to.images)).collect();
                format!("undo to {}{}", parts.join(", "), only_from(&to.only_from))
            }
            KubernetesOperation::SetImage(set) => {
                format!("set image {}={}{}", set.container, set.image, only_from(&set.only_from))
            }
            KubernetesOperation::Scale { replicas } => format!("scale to {replicas}"),
            KubernetesOperation::Pause => "pause rollouts".into(),
            KubernetesOperation::Resume => "resume rollouts".into(),
            KubernetesOperation::Restart => "restart".into(),
            KubernetesOperation::Wait(wait) => {
                let what = match wait.pods {
                    Some(pods) => format!("wait for the first {pods} new pods"),
                    None => "wait for the rollout".to_owned(),
                };
                let images: Vec<String> = pairs(&wait.images).collect();
                if images.is_empty() { what } else { format!("{what} of {}", images.join(", ")) }
            }
        };
        let context = self.context.iter().map(|context| format!(", context {context}"));
        let file = self.kubeconfig.iter().map(|path| format!(", kubeconfig {path}"));
        let owners: Vec<&str> = self.despite_owner.iter().map(|owner| owner.word()).collect();
        let despite =
            if owners.is_empty() { String::new() } else { format!(", despite {}", owners.join(", ")) };
        let rest: String = context.chain(file).chain([despite]).collect();
        format!("kubernetes {}/{} in {}: {what}{rest}", self.kind.word(), self.name, self.namespace)
    }

    /// With every placeholder filled in.
    pub(crate) fn filled(&self, values: &Values) -> Result<Self, BadTemplate> {
        let one = |text: &String| fill(text, values, str::to_owned);
        let images = |map: &BTreeMap<String, String>| -> Result<BTreeMap<String, String>, BadTemplate> {
            map.iter().map(|(name, image)| Ok((name.clone(), one(image)?))).collect()
        };
        let operation = match &self.operation {
            KubernetesOperation::Undo(to) => KubernetesOperation::Undo(UndoTo {
                template_hash: to.template_hash.as_ref().map(one).transpose()?,
                images: images(&to.images)?,
                only_from: images(&to.only_from)?,
            }),
            KubernetesOperation::SetImage(set) => KubernetesOperation::SetImage(SetImage {
                container: set.container.clone(),
                image: one(&set.image)?,
                only_from: images(&set.only_from)?,
            }),
            KubernetesOperation::Wait(wait) => {
                KubernetesOperation::Wait(WaitFor { images: images(&wait.images)?, ..wait.clone() })
            }
            KubernetesOperation::Scale { .. }
            | KubernetesOperation::Pause
            | KubernetesOperation::Resume
            | KubernetesOperation::Restart => self.operation.clone(),
        };
        Ok(Self { namespace: one(&self.namespace)?, name: one(&self.name)?, operation, ..self.clone() })
    }

    /// Everything wrong with it, each with the path of the key at fault.
    pub(crate) fn problems(&self, at: &str, found: &mut Vec<(String, String)>) {
        for (key, text) in [("namespace", &self.namespace), ("name", &self.name)] {
            let key = format!("{at}.{key}");
            template(text, &key, found);
            if !text.contains("{{") && !is_name(text) {
                let problem = format!(
                    "{:?} is no name in Kubernetes: lower-case letters, digits, '-' and '.', at most {LONGEST_NAME}",
                    text.chars().take(64).collect::<String>()
                );
                found.push((key, problem));
            }
        }
        if self.kubeconfig.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains("{{")) {
            let problem = "must be an absolute path without placeholders".into();
            found.push((format!("{at}.kubeconfig"), problem));
        }
        self.operation_problems(&format!("{at}.operation"), found);
    }

    fn operation_problems(&self, at: &str, found: &mut Vec<(String, String)>) {
        match &self.operation {
            KubernetesOperation::Undo(to) => {
                if to.template_hash.is_none() && to.images.is_empty() {
                    let problem =
                        "names nothing to return to; give `images` (container: image) or `template_hash`";
                    found.push((format!("{at}.undo"), problem.into()));
                }
                to.template_hash
                    .iter()
                    .for_each(|hash| template(hash, &format!("{at}.undo.template_hash"), found));
                images(&to.images, &format!("{at}.undo.images"), found);
                images(&to.only_from, &format!("{at}.undo.only_from"), found);
            }
            KubernetesOperation::SetImage(set) => {
                let one = BTreeMap::from([(set.container.clone(), set.image.clone())]);
                images(&one, &format!("{at}.set_image"), found);
                images(&set.only_from, &format!("{at}.set_image.only_from"), found);
            }
            KubernetesOperation::Wait(wait) => {
                images(&wait.images, &format!("{at}.wait.images"), found);
                if wait.pods.is_some() && self.kind != WorkloadKind::Deployment {
                    let problem = "only of a Deployment it is known which pods are the first new ones".into();
                    found.push((format!("{at}.wait.pods"), problem));
                }
                if wait.pods.is_some_and(|pods| pods == 0 || pods > MOST_REPLICAS) {
                    found.push((format!("{at}.wait.pods"), format!("must be from 1 to {MOST_REPLICAS}")));
                }
            }
            KubernetesOperation::Scale { replicas } => {
                if *replicas > MOST_REPLICAS {
                    let problem = format!("{replicas} is more than {MOST_REPLICAS}");
                    found.push((format!("{at}.scale.replicas"), problem));
                }
                if self.kind == WorkloadKind::DaemonSet {
                    found.push((
                        at.to_owned(),
                        "a DaemonSet has a pod on every node and cannot be scaled".into(),
                    ));
                }
            }
            KubernetesOperation::Pause | KubernetesOperation::Resume => {
                if self.kind != WorkloadKind::Deployment {
                    found.push((at.to_owned(), "only the rollouts of a Deployment can be paused".into()));
                }
            }
            KubernetesOperation::Restart => {}
        }
    }
}

/// Whether Kubernetes would take it as the name of an object (RFC 1123 subdomain).
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= LONGEST_NAME
        && text.split('.').all(|part| {
            part.starts_with(plain) && part.ends_with(plain) && part.chars().all(|c| plain(c) || c == '-')
        })
}

fn pairs(images: &BTreeMap<String, String>) -> impl Iterator<Item = String> + '_ {
    images.iter().map(|(container, image)| format!("{container}={image}"))
}

fn only_from(images: &BTreeMap<String, String>) -> String {
    if images.is_empty() {
        return String::new();
    }
    format!(", only from {}", pairs(images).collect::<Vec<_>>().join(", "))
}

fn template(text: &str, at: &str, found: &mut Vec<(String, String)>) {
    if let Err(bad) = check_template(text) {
        found.push((at.to_owned(), bad.to_string()));
    }
}

fn images(map: &BTreeMap<String, String>, at: &str, found: &mut Vec<(String, String)>) {
    if map.len() > MOST_IMAGES {
        found.push((at.to_owned(), format!("{} containers; at most {MOST_IMAGES}", map.len())));
    }
    for (container, image) in map {
        template(image, at, found);
        if !is_name(container) {
            found.push((at.to_owned(), format!("{container:?} is not the name of a container")));
        }
        if image.trim().is_empty() {
            found.push((at.to_owned(), format!("the image of {container} is empty")));
        }
    }
}

#[cfg(test)]
mod tests;
