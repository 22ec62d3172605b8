//! Clusters as the configuration has them.
//!
//! ```yaml
//! production:
//!   services: ["*"]
//!   namespaces: [shop]
//! staging:
//!   kubeconfig: /etc/turnback/kubeconfig
//!   context: staging
//!   selector: team=shop
//!   services: ["shop/*"]
//!   service: "shop/{{name}}"
//!   environment: staging
//! ```

use crate::events::auth::ServiceScope;
use rules::units::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What may stand in the name of a service or of an environment.
const PLACEHOLDERS: [&str; 3] = ["name", "namespace", "object"];
/// Shorter, and a cluster does nothing but answer us.
const SHORTEST_RECONCILE: Span = Span::from_seconds(1);
/// Longer, and a rollout that no watch told is found when it is too late to turn it back.
const LONGEST_RECONCILE: Span = Span::from_minutes(60);
/// Each namespace has a watch of its own for each kind; a source that watches the whole cluster needs one.
const MOST_NAMESPACES: usize = 100;
/// Label selectors are a line.
const LONGEST_SELECTOR: usize = 1024;

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSourceConfig {
    /// The kubeconfig, an absolute path. Without it, the usual places: `KUBECONFIG`, `~/.kube/config`, the pod's own
    /// service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// The context within the kubeconfig; its current one if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespaces that are watched; all of the cluster if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Only workloads with these labels: `team=shop,tier!=test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// What is watched; everything that is known if not given. Of Argo Rollouts and Flagger it is no error that a cluster
    /// has none.
    #[serde(default = "every_kind")]
    pub kinds: BTreeSet<WatchedKind>,
    /// The services it may speak about: names, prefixes such as `shop/*`, or `*` for all. Other workloads are passed over.
    pub services: Vec<String>,
    /// How a service is called: text with `{{name}}`, `{{namespace}}` and `{{object}}` (the workload's own name).
    #[serde(default = "service")]
    pub service: String,
    /// The label or annotation of a workload that is its `{{name}}`; a workload without it has its own name.
    #[serde(default = "name_from")]
    pub name_from: String,
    /// The environment: text with `{{name}}`, `{{namespace}}` and `{{object}}`.
    #[serde(default = "environment")]
    pub environment: String,
    /// The label or annotation of a workload that names its environment, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_from: Option<String>,
    /// The label or annotation of the pod template that is the version; without it, the tag of the image, or its digest.
    #[serde(default = "version_from")]
    pub version_from: String,
    /// The container whose image names the version; the first one if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// How often everything is listed and compared, for what no watch told.
    #[serde(default = "reconcile")]
    pub reconcile: Span,
    /// Of which objects that a template refers to a digest is recorded. Nothing but names if empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub digests: BTreeSet<DigestOf>,
}

/// A kind of object that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchedKind {
    /// Deployments.
    Deployment,
    /// StatefulSets.
    StatefulSet,
    /// DaemonSets.
    DaemonSet,
    /// Rollouts of Argo Rollouts.
    Rollout,
    /// Canaries of Flagger.
    Canary,
}

impl WatchedKind {
    /// Every one.
    pub const ALL: [WatchedKind; 5] = [
        WatchedKind::Deployment,
        WatchedKind::StatefulSet,
        WatchedKind::DaemonSet,
        WatchedKind::Rollout,
        WatchedKind::Canary,
    ];
}

/// A kind of object that templates refer to for their configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestOf {
    /// ConfigMaps: SHA-256 over the data.
    ConfigMap,
    /// Secrets: over uid and version of the object. The data are neither asked for nor read.
    Secret,
}

fn every_kind() -> BTreeSet<WatchedKind> {
    WatchedKind::ALL.into()
}

fn service() -> String {
    "{{name}}".into()
}

fn name_from() -> String {
    "app.kubernetes.io/name".into()
}

fn environment() -> String {
    crate::events::native::DEFAULT_ENVIRONMENT.into()
}

fn version_from() -> String {
    "app.kubernetes.io/version".into()
}

fn reconcile() -> Span {
    Span::from_seconds(60)
}

impl KubernetesSourceConfig {
    /// What is wrong with it, as key and message.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |key: &str, message: String| problems.push((key.to_owned(), message));
        for problem in ServiceScope::parse(&self.services).err().unwrap_or_default() {
            let (key, message) = problem.split_once(": ").unwrap_or(("services", &problem));
            add(&key.replace('[', ".").replace(']', ""), message.to_owned());
        }
        if let Some(path) = self.kubeconfig.as_ref().filter(|path| !path.starts_with('/')) {
            add(
                "kubeconfig",
                format!("{path:?} must be an absolute path: the daemon may start in any directory"),
            );
        }
        if self.namespaces.len() > MOST_NAMESPACES {
            let count = self.namespaces.len();
            add(
                "namespaces",
                format!("names {count}, at most {MOST_NAMESPACES} are watched; leave it out for all"),
            );
        }
        for (at, namespace) in self.namespaces.iter().enumerate() {
            if !rules::action::kubernetes::is_name(namespace) {
                let words = "is no name in Kubernetes: lower-case letters, digits, '-' and '.'";
                add(&format!("namespaces.{at}"), format!("{namespace:?} {words}"));
            }
        }
        if self.kinds.is_empty() {
            add("kinds", "is empty, so nothing could ever be seen; leave it out for every kind".into());
        }
        for (key, text) in [("service", &self.service), ("environment", &self.environment)] {
            if let Some(problem) = template_problem(text) {
                add(key, problem);
            }
        }
        let from = [
            ("name_from", Some(&self.name_from)),
            ("environment_from", self.environment_from.as_ref()),
            ("version_from", Some(&self.version_from)),
        ];
        for (key, label) in from {
            if let Some(label) = label.filter(|label| label.is_empty() || label.contains(char::is_whitespace))
            {
                add(key, format!("{label:?} is not the name of a label or an annotation"));
            }
        }
        if let Some(selector) = &self.selector
            && (selector.trim().is_empty()
                || selector.len() > LONGEST_SELECTOR
                || selector.contains(char::is_control))
        {
            let words =
                "must be a label selector such as team=shop,tier!=test; leave it out for every workload";
            add("selector", words.into());
        }
        if self.reconcile < SHORTEST_RECONCILE || self.reconcile > LONGEST_RECONCILE {
            let found = self.reconcile;
            add("reconcile", format!("{found} must be from {SHORTEST_RECONCILE} to {LONGEST_RECONCILE}"));
        }
        problems
    }
}

/// What is wrong with a text with placeholders.
fn template_problem(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("is empty; write a name, or {{name}}".into());
    }
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once("{{") {
        let Some((placeholder, after)) = behind.split_once("}}") else {
            return Some(format!("{text:?} opens {{{{ and does not close it with }}}}"));
        };
        if !PLACEHOLDERS.contains(&placeholder.trim()) {
            let known = PLACEHOLDERS.map(|name| format!("{{{{{name}}}}}")).join(", ");
            return Some(format!(
                "there is no placeholder {{{{{}}}}}; there are {known}",
                placeholder.trim()
            ));
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> KubernetesSourceConfig {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn services_are_all_that_must_be_said() {
        let config = read("services: ['*']");
        assert_eq!(config.problems(), []);
        assert_eq!((config.kinds.len(), config.reconcile), (5, Span::from_seconds(60)));
        assert!(serde_saphyr::from_str::<KubernetesSourceConfig>("namespaces: [a]").is_err(), "no services");
        assert!(serde_saphyr::from_str::<KubernetesSourceConfig>("{services: [a], kind: [pod]}").is_err());
    }

    #[test]
    fn problems_name_their_keys() {
        let bad = read(
            "{services: ['shop*'], kubeconfig: config, namespaces: [Shop, ok], kinds: [], service: '{{nam}}',
              environment: '{{name', environment_from: '', selector: ' ', reconcile: 100ms, version_from: 'a b'}",
        );
        let problems = bad.problems();
        for (key, words) in [
            ("services.0", "separator"),
            ("kubeconfig", "absolute"),
            ("namespaces.0", "no name in Kubernetes"),
            ("kinds", "empty"),
            ("service", "no placeholder {{nam}}; there are {{name}}, {{namespace}}, {{object}}"),
            ("environment", "does not close"),
            ("environment_from", "label"),
            ("version_from", "label"),
            ("selector", "label selector"),
            ("reconcile", "100ms must be from 1s to 1h"),
        ] {
            let found = problems.iter().any(|(at, message)| at == key && message.contains(words));
            assert!(found, "{key}: {words} in {problems:#?}");
        }
        assert_eq!(problems.len(), 10, "{problems:#?}");
    }
}
