//! The past of a workload as the cluster keeps it, read as a row of rollouts.
//!
//! A controller gives every change of the template a revision: the highest is the template that it works for. Going back
//! to an old template gives the old record the next number, so that numbers order rollouts and not templates. Records
//! that differ only by a restart are one rollout, which is known by the lowest of its numbers; a restart does not move
//! that one.

use super::kind::Past;
use super::template::Template;
use jiff::Timestamp;
use rules::ids::Version;
use serde_json::Value;
use std::collections::BTreeMap;

/// Among low bits of a counter for seconds: more changes of one template than a cluster counts in its life.
const REVISION_BITS: u32 = 24;

/// One remembered template.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    /// Its number.
    pub(super) number: u64,
    /// Older templates have smaller ones, whatever their numbers are by now.
    age: u64,
    /// Whether it was returned to, as far as the record itself tells.
    returned_to: bool,
    /// When the template was first seen by its controller.
    pub(super) created: Timestamp,
    /// The controller's name for it, as in the labels of pods.
    pub(super) pod_hash: String,
    /// The template.
    pub(super) template: Template,
}

/// One rollout: a template from the moment at which it became the wanted one.
#[derive(Debug, Clone)]
pub(super) struct Rollout {
    /// The record that began it.
    pub(super) first: Revision,
    /// The record that runs; another one after a restart.
    pub(super) last: Revision,
    /// When it began.
    pub(super) at: Timestamp,
    /// What it is called.
    pub(super) version: Version,
    /// Whether it went back to a template that is older than the one before it.
    pub(super) went_back: bool,
}

impl Rollout {
    /// The same whoever tells it and however often.
    pub(super) fn identity(&self, uid: &str) -> String {
        format!("{uid}/{}/{}", self.first.number, self.first.template.hash)
    }

    /// Orders rollouts by time, and those of one object within a second by number.
    pub(super) fn sequence(&self) -> u64 {
        sequence(self.at, self.first.number)
    }
}

/// What a release is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Naming<'a> {
    /// The label of a template that is its version.
    pub(super) label: &'a str,
    /// The container whose image names the version; the first one if none is named.
    pub(super) container: Option<&'a str>,
    /// Names that templates have, by their hashes. They stay: which template had a tag first is not to be seen any more
    /// when the cluster has forgotten it. After a restart of the agent they begin anew with what is still listed.
    pub(super) given: &'a BTreeMap<String, Version>,
}

/// Seconds, then the number.
pub(super) fn sequence(at: Timestamp, number: u64) -> u64 {
    let seconds = u64::try_from(at.as_second()).unwrap_or(0);
    (seconds << REVISION_BITS) | (number & ((1 << REVISION_BITS) - 1))
}

/// The rollouts of a workload, oldest first. `items` is what was listed; `written` is when the workload's template was last
/// written, if the server tells.
pub(super) fn rollouts(
    past: Past,
    uid: &str,
    items: &[Value],
    written: Option<Timestamp>,
    naming: Naming<'_>,
) -> Vec<Rollout> {
    let mut revisions: Vec<Revision> = items
        .iter()
        .filter(|item| is_controlled(item, uid))
        .filter_map(|item| revision(past, item))
        .collect();
    revisions.sort_by_key(|revision| revision.number);
    let names = names(&revisions, naming);
    let mut rollouts: Vec<Rollout> = Vec::new();
    let mut newest = Timestamp::MIN;
    for revision in revisions {
        // A record that was returned to is older than what it was returned from; the rollout is not.
        newest = newest.max(revision.created);
        match rollouts.last_mut() {
            Some(before) if before.first.template.hash == revision.template.hash => before.last = revision,
            before => {
                let went_back = before.is_some_and(|before| revision.age < before.last.age);
                // Only hashes of templates that are in the list are asked for.
                let Some(version) = names.get(&revision.template.hash).cloned() else { continue };
                rollouts.push(Rollout {
                    first: revision.clone(),
                    last: revision,
                    at: newest,
                    version,
                    went_back,
                });
            }
        }
    }
    // The template as it is wanted now was written by whoever began the last rollout, or restarted it since.
    if let (Some(last), Some(written)) = (rollouts.last_mut(), written)
        && (last.first.returned_to || last.went_back)
    {
        last.at = last.at.max(written);
    }
    rollouts
}

/// Whether the object with this uid says that it made `item`.
fn is_controlled(item: &Value, uid: &str) -> bool {
    let owners = item["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    owners.iter().any(|owner| owner["uid"] == uid && owner["controller"] == true)
}

fn revision(past: Past, item: &Value) -> Option<Revision> {
    let metadata = &item["metadata"];
    let created: Timestamp = metadata["creationTimestamp"].as_str()?.parse().ok()?;
    let pod_hash = metadata["labels"][past.hash_label].as_str().or_else(|| metadata["name"].as_str())?;
    let (number, age, returned_to, template) = match past.revision {
        Some(annotation) => {
            let number: u64 = metadata["annotations"][annotation].as_str()?.parse().ok()?;
            let earlier =
                metadata["annotations"][format!("{annotation}-history")].as_str().unwrap_or_default();
            let first: Option<u64> = earlier.split(',').next().and_then(|number| number.trim().parse().ok());
            (number, first.unwrap_or(number), first.is_some(), &item["spec"]["template"])
        }
        // Its number moves without a trace; what stays is when it was made.
        None => {
            let age = u64::try_from(created.as_second()).unwrap_or(0);
            (item["revision"].as_u64()?, age, false, &item["data"]["spec"]["template"])
        }
    };
    template.is_object().then(|| Revision {
        number,
        age,
        returned_to,
        created,
        pod_hash: pod_hash.to_owned(),
        template: Template::new(template),
    })
}

/// What each template is called, by its hash. Two templates never share a name: rules and people take one name for one
/// release. One that has a name keeps it, and so does the older one; the other gets the next best of its own, or the name with its hash behind a `+`.
fn names(revisions: &[Revision], naming: Naming<'_>) -> BTreeMap<String, Version> {
    let mut by_age: Vec<&Revision> = revisions.iter().collect();
    by_age.sort_by_key(|revision| (revision.age, revision.number));
    let mut names = naming.given.clone();
    for revision in by_age {
        let hash = &revision.template.hash;
        if names.contains_key(hash) {
            continue;
        }
        let own = revision.template.names(naming.label, naming.container);
        let is_free = |name: &&Version| !names.values().any(|taken| taken == *name);
        let short = &hash[..8.min(hash.len())];
        let name = own.iter().find(is_free).cloned().or_else(|| {
            let base = own.first().map_or("template", Version::as_str);
            Version::new(format!("{base}+{short}")).or_else(|_| Version::new(hash.clone())).ok()
        });
        if let Some(name) = name {
            names.insert(hash.clone(), name);
        }
    }
    names
}

/// Who last wrote the pod template, and when, as far as the server keeps it. Nobody is named if two wrote it in the same
/// second.
pub(super) fn last_writer(object: &Value) -> (Option<String>, Option<Timestamp>) {
    let entries = object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let writes = |entry: &&Value| entry["fieldsV1"]["f:spec"]["f:template"].is_object();
    let time = |entry: &Value| entry["time"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let all: Vec<(&Value, Timestamp)> =
        entries.iter().filter(writes).filter_map(|entry| Some((entry, time(entry)?))).collect();
    let Some(newest) = all.iter().map(|(_, at)| *at).max() else { return (None, None) };
    let mut writers = all.iter().filter(|(_, at)| *at == newest).map(|(entry, _)| &entry["manager"]);
    let writer = writers.next().filter(|_| writers.next().is_none());
    (writer.and_then(Value::as_str).map(str::to_owned), Some(newest))
}
