//! Environment variables and flags as layers.
//!
//! `TURNBACK_API__LISTEN` is `api.listen`. A value is text, as in a file without quotes, and it is a number where a
//! number is wanted; lists and maps are written as in YAML: `[a, b]`. A variable that sets no known key is an error, as
//! in a file: `TURNBACK_API__LISTN` would otherwise be obeyed by nobody and missed by nobody.

use super::report::{Finding, Findings};
use super::tree::{Entry, Node, Place, Source, Value};
use super::{Flag, Inputs, yaml};
use std::collections::{BTreeMap, BTreeSet};

const PREFIX: &str = "TURNBACK_";

/// Variables that mean something else: flags of the command line, and what commands of a runbook are told (such a
/// command may well call `turnback`).
const RESERVED: [&str; 7] = ["CONFIG", "URL", "TOKEN", "OUTPUT", "PLAN", "STEP", "KEY"];

/// What one variable or flag may hold, in bytes: nothing of this size is typed into an environment.
const LONGEST: usize = 64 * 1024;
/// Deeper than any key.
const MOST_SEGMENTS: usize = 16;

/// The layer of the environment. `files` are the layers below, which know how names are written and which variables are
/// secrets.
pub(super) fn environment(inputs: &Inputs, files: &[Node], findings: &mut Findings) -> Node {
    let mut secrets = BTreeSet::new();
    files.iter().for_each(|tree| secret_variables(tree, &mut secrets));
    let mut root = Node::empty_map(Place::whole(findings.sources.len()));
    for (name, value) in &inputs.environment {
        let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| !means_something_else(rest)) else {
            continue;
        };
        // An empty variable says nothing: it is how many tools leave one unset.
        if secrets.contains(name) || value.is_empty() {
            continue;
        }
        findings.sources.push(Source::Variable(name.clone()));
        let place = Place::whole(findings.sources.len() - 1);
        let segments: Vec<&str> = rest.split("__").collect();
        let path = as_written(&segments, files);
        let Some(text) = value.to_str() else {
            findings.add(Finding::new(place, &path, "the value is not UTF-8 text"));
            continue;
        };
        set(&mut root, &path, text, place, findings);
    }
    root
}

/// The layer of the flags.
pub(super) fn flags(flags: &[Flag], findings: &mut Findings) -> Node {
    let mut root = Node::empty_map(Place::whole(findings.sources.len()));
    for flag in flags {
        findings.sources.push(Source::Flag(flag.name.clone()));
        let place = Place::whole(findings.sources.len() - 1);
        let path: Vec<String> = flag.key.split('.').map(str::to_owned).collect();
        set(&mut root, &path, &flag.value, place, findings);
    }
    root
}

/// Reserved names, and what Kubernetes sets in every container when a Service is called `turnback` or `turnback-x`:
/// `TURNBACK_SERVICE_HOST`, `TURNBACK_PORT`, `TURNBACK_PORT_7440_TCP_ADDR`, `TURNBACK_X_SERVICE_PORT_HTTP`.
fn means_something_else(rest: &str) -> bool {
    let port = rest.match_indices("PORT_").any(|(at, word)| {
        (at == 0 || rest[..at].ends_with('_'))
            && rest[at + word.len()..].starts_with(|c: char| c.is_ascii_digit())
    });
    let service = rest.starts_with("SERVICE_") || rest.contains("_SERVICE_");
    RESERVED.contains(&rest)
        || rest == "PORT"
        // Our own tests.
        || rest.starts_with("TEST_")
        || (!rest.contains("__") && (port || rest.ends_with("_PORT") || (service && (rest.ends_with("_HOST") || rest.contains("_PORT") || rest.contains("SERVICE_PORT")))))
}

/// The names of variables that the files name as places of secrets.
fn secret_variables(node: &Node, found: &mut BTreeSet<String>) {
    match &node.value {
        Value::Map(map) => {
            if let (1, Some(name)) = (map.len(), map.get("env").and_then(|entry| entry.value.text())) {
                found.insert(name.to_owned());
            }
            map.values().for_each(|entry| secret_variables(&entry.value, found));
        }
        Value::List(items) => items.iter().for_each(|(_, node)| secret_variables(node, found)),
        Value::Null | Value::Scalar { .. } => {}
    }
}

/// A variable's segments as keys: as the layers below write them (`SHOP_CHECKOUT` → `shop/checkout`), else in small
/// letters.
fn as_written(segments: &[&str], files: &[Node]) -> Vec<String> {
    let mut nodes: Vec<&Node> = files.iter().collect();
    let mut path = Vec::new();
    for segment in segments {
        let keys = nodes.iter().filter_map(|node| node.map()).flat_map(BTreeMap::keys);
        let key = keys.clone().find(|key| in_capitals(key) == *segment);
        let key = key.cloned().unwrap_or_else(|| segment.to_lowercase());
        nodes = nodes.iter().filter_map(|node| node.get(&key)).collect();
        path.push(key);
    }
    path
}

fn in_capitals(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Sets one value.
fn set(root: &mut Node, path: &[String], text: &str, place: Place, findings: &mut Findings) {
    let refuse = |findings: &mut Findings, message: String| findings.add(Finding::new(place, path, message));
    if path.len() > MOST_SEGMENTS || path.iter().any(String::is_empty) {
        return refuse(findings, "this is not a key path".into());
    }
    if text.len() > LONGEST {
        return refuse(findings, format!("the value has {} bytes; at most {LONGEST} are read", text.len()));
    }
    let value = match read(text, place, findings) {
        Ok(value) => value,
        Err(message) => return refuse(findings, message),
    };
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut node = root;
    for step in parents {
        let Value::Map(map) = &mut node.value else {
            return refuse(
                findings,
                format!("a shorter key above `{last}` is set as a whole; set one of the two"),
            );
        };
        node = &mut map
            .entry(step.clone())
            .or_insert_with(|| Entry { key_at: place, value: Node::empty_map(place) })
            .value;
    }
    match node.map_mut() {
        Some(map) if !map.contains_key(last) => {
            drop(map.insert(last.clone(), Entry { key_at: place, value }))
        }
        Some(_) | None => {
            refuse(findings, format!("`{last}` is set twice here, or a key above it as a whole"))
        }
    }
}

/// A value: a list or map in YAML, else the text as it is. An empty one says nothing, as an empty key in a file.
fn read(text: &str, place: Place, findings: &mut Findings) -> Result<Node, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(Node { at: place, value: Value::Null });
    }
    if !trimmed.starts_with(['[', '{']) {
        return Ok(Node { at: place, value: Value::Scalar { text: text.to_owned(), plain: true } });
    }
    let mut found = Vec::new();
    let parsed = yaml::parse(trimmed, place.source, &mut found);
    found.into_iter().for_each(|finding| findings.add(Finding { place, ..finding }));
    let mut node = parsed.map_err(|finding| finding.message)?;
    settle_place(&mut node, place);
    Ok(node)
}

/// A variable has no lines worth naming.
fn settle_place(node: &mut Node, place: Place) {
    node.at = place;
    match &mut node.value {
        Value::Map(map) => map.values_mut().for_each(|entry| {
            entry.key_at = place;
            settle_place(&mut entry.value, place);
        }),
        Value::List(items) => items.iter_mut().for_each(|(_, node)| settle_place(node, place)),
        Value::Null | Value::Scalar { .. } => {}
    }
}
