//! What the API calls the kinds that are watched, and where each keeps its past.

use super::WatchedKind;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

/// How a kind keeps the templates that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Past {
    /// Of which objects.
    pub(super) plural: &'static str,
    /// The annotation with the revision; `None` where it is a field of its own.
    pub(super) revision: Option<&'static str>,
    /// The label of pods that says which template they are of.
    pub(super) hash_label: &'static str,
}

const OF_DEPLOYMENTS: Past = Past {
    plural: "replicasets",
    revision: Some("deployment.kubernetes.io/revision"),
    hash_label: "pod-template-hash",
};
const OF_ROLLOUTS: Past = Past {
    plural: "replicasets",
    revision: Some("rollout.argoproj.io/revision"),
    hash_label: "rollouts-pod-template-hash",
};
const OF_SETS: Past =
    Past { plural: "controllerrevisions", revision: None, hash_label: "controller-revision-hash" };

impl WatchedKind {
    fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            WatchedKind::Deployment => ("apps", "v1", "Deployment", "deployments"),
            WatchedKind::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
            WatchedKind::DaemonSet => ("apps", "v1", "DaemonSet", "daemonsets"),
            WatchedKind::Rollout => ("argoproj.io", "v1alpha1", "Rollout", "rollouts"),
            WatchedKind::Canary => ("flagger.app", "v1beta1", "Canary", "canaries"),
        }
    }

    /// For people: `deployments`, `rollouts.argoproj.io`.
    pub(super) fn words(self) -> String {
        let (group, _, _, plural) = self.names();
        if group == "apps" { plural.into() } else { format!("{plural}.{group}") }
    }

    /// As the API writes it: `Deployment`.
    pub(super) fn kind(self) -> &'static str {
        self.names().2
    }

    /// For a client that knows kinds by name.
    pub(super) fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    /// The path of all objects, or of those in a namespace.
    pub(super) fn path(self, namespace: Option<&str>) -> String {
        let (group, version, _, plural) = self.names();
        match namespace {
            Some(namespace) => format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}"),
            None => format!("/apis/{group}/{version}/{plural}"),
        }
    }

    /// Whether a cluster may do without it.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, WatchedKind::Rollout | WatchedKind::Canary)
    }

    /// Where it keeps its past, if it does.
    pub(super) fn past(self) -> Option<Past> {
        match self {
            WatchedKind::Deployment => Some(OF_DEPLOYMENTS),
            WatchedKind::StatefulSet | WatchedKind::DaemonSet => Some(OF_SETS),
            WatchedKind::Rollout => Some(OF_ROLLOUTS),
            WatchedKind::Canary => None,
        }
    }

    /// What of an object must have moved for another look to be worth while. Everything that comes of a change of the
    /// template is in it: the wish (the generation), the controller's having taken it up, its name for it.
    pub(super) fn signature(self, object: &Value) -> String {
        let (meta, status) = (&object["metadata"], &object["status"]);
        let revision = self.past().and_then(|past| past.revision).map(|name| &meta["annotations"][name]);
        let parts: [&Value; 8] = match self {
            WatchedKind::Deployment | WatchedKind::StatefulSet | WatchedKind::DaemonSet => {
                let none = &Value::Null;
                let update = &status["updateRevision"];
                [&meta["generation"], &status["observedGeneration"], update, none, none, none, none, none]
            }
            WatchedKind::Rollout | WatchedKind::Canary => [
                &meta["generation"],
                &status["observedGeneration"],
                &status["phase"],
                &status["currentPodHash"],
                &status["abort"],
                &status["abortedAt"],
                &status["lastAppliedSpec"],
                &status["conditions"],
            ],
        };
        let parts = parts.map(|part| part.to_string()).join(" ");
        format!("{parts} {}", revision.unwrap_or(&Value::Null))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_signature_moves_with_the_template_and_not_with_pods_and_labels() {
        let object = |generation: u64, observed: u64, ready: u64| {
            json!({"metadata": {"generation": generation, "labels": {"ready": ready.to_string()}},
                   "status": {"observedGeneration": observed, "readyReplicas": ready}})
        };
        let kind = WatchedKind::Deployment;
        assert_eq!(kind.signature(&object(1, 1, 0)), kind.signature(&object(1, 1, 2)));
        assert_ne!(kind.signature(&object(1, 1, 0)), kind.signature(&object(2, 1, 0)));
        assert_ne!(kind.signature(&object(2, 1, 0)), kind.signature(&object(2, 2, 0)));
        let revision = |number: &str| json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": number}}});
        assert_ne!(kind.signature(&revision("1")), kind.signature(&revision("2")));
    }

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(WatchedKind::Deployment.path(Some("shop")), "/apis/apps/v1/namespaces/shop/deployments");
        assert_eq!(WatchedKind::Rollout.path(None), "/apis/argoproj.io/v1alpha1/rollouts");
        assert_eq!(WatchedKind::Canary.words(), "canaries.flagger.app");
    }
}
