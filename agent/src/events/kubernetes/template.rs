//! Pod templates: which are the same release, what runs in them, and what changed from one to the next.

use crate::actions::kubernetes::{containers, plain};
use rules::deployment::Change;
use rules::ids::{Version, fingerprint};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What controllers and tools write into a template without meaning another release: the hash of the template itself,
/// and the moment of a restart.
const LABELS_OF_CONTROLLERS: [&str; 3] =
    ["pod-template-hash", "rollouts-pod-template-hash", "controller-revision-hash"];
const RESTARTS: [&str; 3] =
    ["kubectl.kubernetes.io/restartedAt", "turnback.dev/restarted-by", "cattle.io/timestamp"];

/// A pod template without what says nothing about the release.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    value: Value,
    /// The same for the same release. Made by us, so that it does not move with a restart.
    pub(super) hash: String,
}

impl Template {
    /// A template as the API shows it.
    pub(super) fn new(template: &Value) -> Template {
        let mut value = plain(template);
        for (map, names) in [("labels", LABELS_OF_CONTROLLERS), ("annotations", RESTARTS)] {
            let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else { break };
            if let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) {
                entries.retain(|name, _| !names.contains(&name.as_str()));
                if entries.is_empty() {
                    metadata.remove(map);
                }
            }
        }
        let mut text = String::new();
        canonical(&value, &mut text);
        let hash = fingerprint(&[&text], 8);
        Template { value, hash }
    }

    /// The images by container, at most so many as are worth a record.
    pub(super) fn images(&self) -> BTreeMap<String, String> {
        const MOST: usize = 64;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        containers(&self.value).take(MOST).map(|(_, one)| (word(&one["name"]), word(&one["image"]))).collect()
    }

    /// What this release may be called, the best name first: its label, the tag or digest of its image.
    pub(super) fn names(&self, label: &str, container: Option<&str>) -> Vec<Version> {
        let labelled =
            ["labels", "annotations"].iter().find_map(|map| self.value["metadata"][map][label].as_str());
        let all = self.value["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let one = match container {
            Some(name) => all.iter().find(|one| one["name"] == name),
            None => all.first(),
        };
        let image = one.and_then(|one| one["image"].as_str()).map(tag_or_digest);
        [labelled, image].into_iter().flatten().filter_map(|name| Version::new(name).ok()).collect()
    }

    /// What going from `before` to here brought.
    pub(super) fn changes_since(&self, before: &Template) -> BTreeSet<Change> {
        let mut changes = BTreeSet::new();
        if self.images() != before.images() {
            changes.insert(Change::Code);
        }
        if self.without_images() != before.without_images() {
            changes.insert(Change::Configuration);
        }
        changes
    }

    /// Without what Flagger changes when it copies a template for a primary: labels, its own annotation, and `-primary`
    /// behind the names of configuration.
    pub(super) fn without_names_of_primary(&self) -> String {
        let mut annotations = self.value["metadata"]["annotations"].clone();
        if let Some(entries) = annotations.as_object_mut() {
            entries.remove("flagger-id");
            if entries.is_empty() {
                annotations = Value::Null;
            }
        }
        let mut text = String::new();
        canonical(&serde_json::json!([annotations, self.value["spec"]]), &mut text);
        text.replace("-primary\"", "\"")
    }

    /// Names of the ConfigMaps and Secrets that it refers to, each with its kind.
    pub(super) fn references(&self) -> BTreeSet<(&'static str, String)> {
        let mut found = BTreeSet::new();
        collect(&self.value["spec"], &mut found, 0);
        found
    }

    /// Labels name releases and instances; they configure nothing.
    fn without_images(&self) -> Value {
        let mut value = self.value.clone();
        let annotations = value["metadata"]["annotations"].take();
        for list in ["/containers", "/initContainers"] {
            let found = value.pointer_mut(&format!("/spec{list}")).and_then(Value::as_array_mut);
            for one in found.into_iter().flatten().filter_map(Value::as_object_mut) {
                one.remove("image");
            }
        }
        serde_json::json!({ "annotations": annotations, "spec": value["spec"].take() })
    }
}

/// `v1` of `registry:5000/shop/checkout:v1@sha256:…`, the digest without a tag, `latest` without either.
pub(super) fn tag_or_digest(image: &str) -> &str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon after the last slash begins a tag; an earlier one, a port.
    let from = name.rfind('/').map_or(0, |slash| slash + 1);
    match (name[from..].split_once(':'), digest) {
        (Some((_, tag)), _) => tag,
        (None, Some(digest)) => digest,
        (None, None) => "latest",
    }
}

/// Fields by name, whatever the order in which they came.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            out.push('{');
            for (name, value) in sorted {
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// Where a pod names configuration: `configMapRef`, `configMapKeyRef`, `configMap` of a volume or of a projection, and
/// the same of Secrets.
fn collect(value: &Value, found: &mut BTreeSet<(&'static str, String)>, depth: u32) {
    // A pod has a dozen levels.
    if depth > 32 {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                let (kind, name) = match key.as_str() {
                    "configMapRef" | "configMapKeyRef" | "configMap" => ("ConfigMap", &inner["name"]),
                    "secretRef" | "secretKeyRef" => ("Secret", &inner["name"]),
                    "secret" if inner["secretName"].is_string() => ("Secret", &inner["secretName"]),
                    "secret" => ("Secret", &inner["name"]),
                    _ => ("", &Value::Null),
                };
                if let Some(name) = name.as_str() {
                    found.insert((kind, name.to_owned()));
                }
                collect(inner, found, depth + 1);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found, depth + 1)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(image: &str, more: &Value) -> Value {
        let mut value = json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": image}]},
        });
        for (key, inner) in more.as_object().unwrap() {
            value["metadata"][key] = inner.clone();
        }
        value
    }

    #[test]
    fn a_restart_and_the_hash_of_a_controller_are_the_same_release() {
        let plain = Template::new(&template("shop:v1", &json!({})));
        let hashed =
            json!({"labels": {"app": "web", "pod-template-hash": "5f6c"}, "creationTimestamp": null});
        assert_eq!(Template::new(&template("shop:v1", &hashed)).hash, plain.hash);
        let restarted = json!({"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}});
        assert_eq!(Template::new(&template("shop:v1", &restarted)).hash, plain.hash);
        let other = json!({"annotations": {"checksum/config": "1"}});
        assert_ne!(Template::new(&template("shop:v1", &other)).hash, plain.hash);
        assert_ne!(Template::new(&template("shop:v2", &json!({}))).hash, plain.hash);
    }

    #[test]
    fn tags_and_digests_are_told_from_ports() {
        for (image, version) in [
            ("shop:v1", "v1"),
            ("registry:5000/shop/checkout:v1.2.3", "v1.2.3"),
            ("registry:5000/shop/checkout", "latest"),
            ("registry:5000/shop@sha256:abc", "sha256:abc"),
            ("shop:v1@sha256:abc", "v1"),
        ] {
            assert_eq!(tag_or_digest(image), version, "{image}");
        }
    }

    #[test]
    fn what_changed_is_code_or_configuration_or_both() {
        let one = Template::new(&template("shop:v1", &json!({})));
        let labelled = json!({"labels": {"app": "web", "app.kubernetes.io/version": "2"}});
        let image = Template::new(&template("shop:v2", &labelled));
        assert_eq!(image.changes_since(&one), [Change::Code].into());
        let config = Template::new(&template("shop:v1", &json!({"annotations": {"checksum/config": "1"}})));
        assert_eq!(config.changes_since(&one), [Change::Configuration].into());
        assert_eq!(config.changes_since(&image), [Change::Code, Change::Configuration].into());
    }

    #[test]
    fn references_are_found_wherever_a_pod_can_have_them() {
        let value = json!({"spec": {
            "containers": [{"name": "app", "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
                "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "x"}}},
                        {"name": "Y", "valueFrom": {"secretKeyRef": {"name": "d", "key": "y"}}}]}],
            "volumes": [{"configMap": {"name": "e"}}, {"secret": {"secretName": "f"}},
                {"projected": {"sources": [{"configMap": {"name": "g"}}, {"secret": {"name": "h"}}]}}]}});
        let found = Template::new(&value).references();
        let of = |kind: &str| -> String {
            found.iter().filter(|(of, _)| *of == kind).map(|(_, name)| name.as_str()).collect()
        };
        assert_eq!((of("ConfigMap").as_str(), of("Secret").as_str()), ("aceg", "bdfh"));
    }

    #[test]
    fn the_label_is_the_better_name_and_the_image_the_other_one() {
        let label = "app.kubernetes.io/version";
        let labelled = json!({"labels": {label: "1.4.2"}});
        let names = |template: &Template, container| -> Vec<String> {
            template.names(label, container).iter().map(Version::to_string).collect()
        };
        assert_eq!(names(&Template::new(&template("shop:v1", &labelled)), None), ["1.4.2", "v1"]);
        assert_eq!(names(&Template::new(&template("shop:v1", &json!({}))), None), ["v1"]);
        assert_eq!(names(&Template::new(&template("shop:v1", &json!({}))), Some("sidecar")), [""; 0]);
        assert_eq!(names(&Template::new(&template("shop:_odd", &json!({}))), None), [""; 0]);
    }
}
