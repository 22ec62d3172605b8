//! A workload as the server showed it: the few things about it that matter here.

use super::super::Context;
use super::client::FIELD_MANAGER;
use rules::action::kubernetes::{KubernetesSpec, WorkloadKind};
use rules::ids::StepName;
use serde_json::Value;
use std::collections::BTreeMap;

/// The annotation that says which step of which plan wrote last.
pub(super) const MARKER: &str = "turnback.dev/plan";

/// The value of [`MARKER`]: the plan, the step and its key.
pub(super) fn marker(context: &Context) -> String {
    let step: &StepName = &context.step;
    format!("{} {step} {}", context.plan, context.key)
}

/// The path of the workload in the API.
pub(super) fn path(spec: &KubernetesSpec) -> String {
    let plural = match spec.kind {
        WorkloadKind::Deployment => "deployments",
        WorkloadKind::StatefulSet => "statefulsets",
        WorkloadKind::DaemonSet => "daemonsets",
    };
    format!("/apis/apps/v1/namespaces/{}/{plural}/{}", spec.namespace, spec.name)
}

/// One state of a workload.
#[derive(Debug, Clone)]
pub(super) struct Workload(pub(super) Value);

impl Workload {
    pub(super) fn metadata(&self, key: &str) -> &Value {
        &self.0["metadata"][key]
    }

    pub(super) fn text(&self, key: &str) -> &str {
        self.metadata(key).as_str().unwrap_or_default()
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata("annotations")[name].as_str()
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.metadata("labels")[name].as_str()
    }

    pub(super) fn template(&self) -> &Value {
        &self.0["spec"]["template"]
    }

    pub(super) fn status(&self, key: &str) -> u64 {
        self.0["status"][key].as_u64().unwrap_or(0)
    }

    /// The server sets one where none was given.
    pub(super) fn replicas(&self) -> u64 {
        self.0["spec"]["replicas"].as_u64().unwrap_or(1)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.0["spec"]["paused"] == true
    }

    /// Whether it wants the same as another state of it. The generation does not tell: of a Deployment, it counts changes
    /// of annotations, too.
    pub(super) fn wants_what(&self, other: &Workload) -> bool {
        self.metadata("uid") == other.metadata("uid") && self.0["spec"] == other.0["spec"]
    }

    /// The first of `wanted` that does not run, in words.
    pub(super) fn other_image(&self, wanted: &BTreeMap<String, String>) -> Option<String> {
        other_image(self.template(), wanted)
    }

    /// Who last changed what it wants, as far as the server kept it: `kubectl-edit at 2026-01-01T00:00:00Z`. Our own
    /// writes are left out unless there are no others.
    pub(super) fn who(&self) -> String {
        let entries = self.metadata("managedFields").as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or("unknown").to_owned();
        entries
            .iter()
            .filter(|entry| entry["fieldsV1"]["f:spec"].is_object() && entry["manager"] != FIELD_MANAGER)
            .max_by_key(|entry| text(entry, "time"))
            .map_or_else(
                || "somebody whom the server does not name".to_owned(),
                |entry| format!("{} at {}", text(entry, "manager"), text(entry, "time")),
            )
    }
}

/// Containers of a template with the JSON pointer of each.
pub(crate) fn containers(template: &Value) -> impl Iterator<Item = (String, &Value)> {
    ["containers", "initContainers"].into_iter().flat_map(move |list| {
        let containers = template["spec"][list].as_array().map(Vec::as_slice).unwrap_or_default();
        containers.iter().enumerate().map(move |(at, one)| (format!("/spec/template/spec/{list}/{at}"), one))
    })
}

/// The image of a container of a template.
pub(super) fn image<'a>(template: &'a Value, container: &str) -> Option<&'a str> {
    let mut all = containers(template);
    all.find(|(_, one)| one["name"] == container).and_then(|(_, one)| one["image"].as_str())
}

/// The first of `wanted` that `template` does not have, in words.
pub(super) fn other_image(template: &Value, wanted: &BTreeMap<String, String>) -> Option<String> {
    wanted.iter().find_map(|(container, wanted)| match image(template, container) {
        Some(found) if same_image(wanted, found) => None,
        Some(found) => Some(format!("{container} is {found} and not {wanted}")),
        None => Some(format!("there is no container {container}")),
    })
}

/// The images of a template in words.
pub(super) fn images(template: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let pairs =
        containers(template).map(|(_, one)| format!("{}={}", word(&one["name"]), word(&one["image"])));
    pairs.collect::<Vec<_>>().join(", ")
}

/// Whether two references name the same image: the same text, or the same repository and digest whatever the tag.
pub(super) fn same_image(one: &str, other: &str) -> bool {
    let parts = |image: &str| -> Option<(String, String)> {
        let (name, digest) = image.split_once('@')?;
        // A colon after the last slash begins a tag; an earlier one, a port.
        let from = name.rfind('/').map_or(0, |slash| slash + 1);
        let repository = name[from..].find(':').map_or(name, |colon| &name[..from + colon]);
        Some((repository.to_owned(), digest.to_owned()))
    };
    one == other || matches!((parts(one), parts(other)), (Some(one), Some(other)) if one == other)
}

/// A template without what the server and its controllers add, for comparing.
pub(crate) fn plain(template: &Value) -> Value {
    let mut plain = template.clone();
    if let Some(labels) = plain["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    if let Some(fields) = plain.as_object_mut() {
        fields.remove("$patch");
    }
    without_nulls(&mut plain);
    plain
}

/// `creationTimestamp: null` stands in some copies of a template and not in others.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// The label selector of a workload as a query: `app=checkout,tier in (a,b)`.
pub(super) fn selector(workload: &Workload) -> String {
    query(&workload.0["spec"]["selector"])
}

/// A label selector as a query.
pub(crate) fn query(selector: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut parts: Vec<String> = labels.map(|(key, value)| format!("{key}={}", word(value))).collect();
    for rule in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = word(&rule["key"]);
        let values: Vec<String> = rule["values"].as_array().into_iter().flatten().map(word).collect();
        parts.push(match rule["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key,
        });
    }
    parts.join(",")
}

/// Whether `object` says that `workload` controls it.
pub(super) fn controls(workload: &Workload, object: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    owners.iter().any(|owner| owner["uid"] == *workload.metadata("uid") && owner["controller"] == true)
}
