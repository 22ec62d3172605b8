//! What is recorded beside the news: what runs and what ran before, exactly enough to find both again.
//!
//! Nothing here is needed for the news itself. What cannot be read (no permission, gone already, no answer) is recorded
//! as exactly that.

use super::client::{Cluster, Trouble};
use super::history::{Revision, Rollout};
use super::template::Template;
use super::{DigestOf, KubernetesSourceConfig, WatchedKind};
use crate::actions::kubernetes::query;
use rules::ids::fingerprint;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// For looking closer at one object, however much there is to look at: the news waits for it.
pub(super) const CLOSELY_WITHIN: Duration = Duration::from_secs(3);
/// ConfigMaps and Secrets of one template that are looked at; ordinary ones have a handful.
const MOST_REFERENCES: usize = 32;
const NO_ANSWER: &str = "no answer in time";

/// Where the object is, as it stands in every record.
pub(super) fn place(kind: WatchedKind, object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "kind": kind.kind(), "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
        "generation": metadata["generation"],
    })
}

/// The record of the rollout at this place. With `closely` the cluster is asked for what the objects at hand do not tell;
/// what it has not answered by then stays unknown.
pub(super) async fn record(
    cluster: &Cluster,
    config: &KubernetesSourceConfig,
    (kind, object): (WatchedKind, &Value),
    (rollouts, at): (&[Rollout], usize),
    writer: Option<&str>,
    closely: Option<Instant>,
) -> Value {
    let mut raw = place(kind, object);
    raw["written_by"] = json!(writer);
    let running = &rollouts[at].last;
    raw["now"] = template(running);
    raw["before"] = at.checked_sub(1).map_or(Value::Null, |before| template(&rollouts[before].last));
    let Some(until) = closely else { return raw };
    let namespace = &object["metadata"]["namespace"];
    let configuration = configuration(cluster, config, &running.template, namespace, until);
    // Of the new one there are no pods yet, or few; of the one before there still are.
    let image_ids = async {
        let before = at.checked_sub(1).map(|before| &rollouts[before].last)?;
        let asked = image_ids(cluster, kind, object, &before.pod_hash);
        Some(timeout_at(until, asked).await.unwrap_or_else(|_| json!({ "unknown": NO_ANSWER })))
    };
    let (configuration, image_ids) = tokio::join!(configuration, image_ids);
    raw["configuration"] = configuration;
    if let Some(image_ids) = image_ids {
        raw["before"]["image_ids"] = image_ids;
    }
    raw
}

fn template(revision: &Revision) -> Value {
    json!({
        "revision": revision.number, "template_hash": revision.template.hash, "pod_hash": revision.pod_hash,
        "images": revision.template.images(),
    })
}

/// The images that pods of a template run, by container, as the nodes name them.
async fn image_ids(cluster: &Cluster, kind: WatchedKind, object: &Value, pod_hash: &str) -> Value {
    let Some(past) = kind.past() else { return Value::Null };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let mut selector = query(&object["spec"]["selector"]);
    if !selector.is_empty() {
        selector.push(',');
    }
    selector.push_str(&format!("{}={pod_hash}", past.hash_label));
    let page = cluster.page(&format!("/api/v1/namespaces/{namespace}/pods"), &selector, "").await;
    let pods = match page {
        Ok((pods, _)) => pods,
        Err(trouble) => return json!({ "unknown": trouble.to_string() }),
    };
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for status in pods.iter().filter_map(|pod| pod["status"]["containerStatuses"].as_array()).flatten() {
        if let (Some(name), Some(id)) = (status["name"].as_str(), status["imageID"].as_str())
            && !id.is_empty()
        {
            found.entry(name).or_default().insert(id);
        }
    }
    json!(found)
}

/// The objects that a template refers to for its configuration, with digests of those that are to have one.
async fn configuration(
    cluster: &Cluster,
    config: &KubernetesSourceConfig,
    template: &Template,
    namespace: &Value,
    until: Instant,
) -> Value {
    let namespace = namespace.as_str().unwrap_or_default();
    let mut all = Vec::new();
    for (kind, name) in template.references().into_iter().take(MOST_REFERENCES) {
        let path = |plural: &str| format!("/api/v1/namespaces/{namespace}/{plural}/{name}");
        let digest = async {
            match kind {
                "ConfigMap" => cluster.get(&path("configmaps")).await.map(|object| contents(&object)),
                _ => cluster.metadata(&path("secrets")).await.map(|object| version(&object)),
            }
        };
        let digested = if kind == "ConfigMap" { DigestOf::ConfigMap } else { DigestOf::Secret };
        let mut one = json!({ "kind": kind, "name": name });
        if config.digests.contains(&digested) {
            // A request that could not be answered in time any more is not begun.
            let answer = match Instant::now() < until {
                true => timeout_at(until, digest).await.ok(),
                false => None,
            };
            let (key, found) = match answer {
                Some(Ok(digest)) => ("digest", digest),
                Some(Err(Trouble::Absent(_))) => ("unknown", "it does not exist".to_owned()),
                Some(Err(trouble)) => ("unknown", trouble.to_string()),
                None => ("unknown", NO_ANSWER.to_owned()),
            };
            one[key] = json!(found);
        }
        all.push(one);
    }
    Value::Array(all)
}

/// Of what a ConfigMap holds. `to_string` of a map whose keys the server sorts is the same for the same data.
fn contents(object: &Value) -> String {
    let part = |key: &str| {
        let entries: BTreeMap<String, Value> =
            serde_json::from_value(object[key].clone()).unwrap_or_default();
        json!(entries).to_string()
    };
    fingerprint(&[&part("data"), &part("binaryData")], 16)
}

/// Of a Secret, by its version alone: a digest over a short password could be guessed.
fn version(object: &Value) -> String {
    let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    fingerprint(&[part("uid"), part("resourceVersion")], 16)
}
