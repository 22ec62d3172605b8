//! What an operation wants of a workload: whether it is so already, and the patch that makes it so.

use super::super::Context;
use super::workload::{MARKER, Workload, containers, image, marker, other_image, plain, same_image};
use rules::action::kubernetes::SetImage;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// On the pod template: which step asked for new pods. Its value and not the time makes the restart, so that the same
/// step restarts once, however often it is tried.
const RESTARTED_BY: &str = "turnback.dev/restarted-by";

/// A state of a workload that one write reaches.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Goal {
    /// This template, without what controllers add.
    Template(Value),
    /// These images run already: an undo that names images and not a hash has nothing to do.
    Images(BTreeMap<String, String>),
    /// This image in this container.
    Image(SetImage),
    /// So many replicas.
    Replicas(u32),
    /// Rollouts are halted, or not.
    Paused(bool),
    /// Pods made for the step with this marker.
    Restarted(String),
}

impl Goal {
    /// Whether `workload` wants it already.
    pub(super) fn holds(&self, workload: &Workload) -> bool {
        match self {
            Goal::Template(template) => plain(workload.template()) == *template,
            Goal::Images(images) => workload.other_image(images).is_none(),
            Goal::Image(set) => {
                image(workload.template(), &set.container).is_some_and(|found| same_image(&set.image, found))
            }
            Goal::Replicas(replicas) => workload.replicas() == u64::from(*replicas),
            Goal::Paused(paused) => workload.is_paused() == *paused,
            Goal::Restarted(marker) => {
                workload.template()["metadata"]["annotations"][RESTARTED_BY] == marker.as_str()
            }
        }
    }

    /// Whether pods of this template are what it wants.
    pub(super) fn leads_to(&self, template: &Value) -> bool {
        match self {
            Goal::Template(wanted) => template == wanted,
            Goal::Images(images) => other_image(template, images).is_none(),
            Goal::Image(set) => {
                image(template, &set.container).is_some_and(|found| same_image(&set.image, found))
            }
            // They bring no other release.
            Goal::Replicas(_) | Goal::Paused(_) | Goal::Restarted(_) => true,
        }
    }

    /// The JSON patch from `before` to here. Its tests name the very state that was looked at: if anything was written
    /// since, the server refuses all of it. Errors: why this workload cannot be brought here.
    pub(super) fn patch(&self, before: &Workload, context: &Context) -> Result<Vec<Value>, String> {
        let mut operations = vec![
            test("/metadata/uid", before.metadata("uid")),
            test("/metadata/resourceVersion", before.metadata("resourceVersion")),
            test("/spec/template", before.template()),
        ];
        operations.extend(self.changes(before)?);
        operations.extend(annotate("/metadata", before.metadata("annotations"), MARKER, &marker(context)));
        Ok(operations)
    }

    fn changes(&self, before: &Workload) -> Result<Vec<Value>, String> {
        let add = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
        Ok(match self {
            Goal::Template(template) => {
                vec![json!({"op": "replace", "path": "/spec/template", "value": template})]
            }
            Goal::Images(_) => return Err("only a remembered template can be undone to".into()),
            Goal::Image(set) => {
                let mut all = containers(before.template());
                let found = all.find(|(_, one)| one["name"] == set.container.as_str());
                let (path, _) = found.ok_or_else(|| {
                    let names = containers(before.template()).filter_map(|(_, one)| one["name"].as_str());
                    let names = names.collect::<Vec<_>>().join(", ");
                    format!("there is no container {}; there are {names}", set.container)
                })?;
                vec![json!({"op": "replace", "path": format!("{path}/image"), "value": set.image})]
            }
            Goal::Replicas(replicas) => {
                vec![
                    test("/spec/replicas", &json!(before.replicas())),
                    add("/spec/replicas", json!(replicas)),
                ]
            }
            Goal::Paused(paused) => vec![add("/spec/paused", json!(paused))],
            Goal::Restarted(marker) => {
                let annotations = &before.template()["metadata"]["annotations"];
                annotate("/spec/template/metadata", annotations, RESTARTED_BY, marker)
            }
        })
    }
}

fn test(path: &str, value: &Value) -> Value {
    json!({"op": "test", "path": path, "value": value})
}

/// Adds an annotation, and the map for it where there is none: a JSON patch makes no parents.
fn annotate(at: &str, existing: &Value, name: &str, value: &str) -> Vec<Value> {
    let mut operations = Vec::new();
    if !existing.is_object() {
        operations.push(json!({"op": "add", "path": format!("{at}/annotations"), "value": {}}));
    }
    let pointer = format!("{at}/annotations/{}", name.replace('~', "~0").replace('/', "~1"));
    operations.push(json!({"op": "add", "path": pointer, "value": value}));
    operations
}
