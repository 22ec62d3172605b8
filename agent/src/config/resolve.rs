//! What a service leaves out, filled in from the defaults; matrices from files of their own.

use super::layers::fill_in;
use super::report::{Finding, Findings};
use super::tree::{Entry, Node, Place, Source, Value};
use super::{Config, Inputs, files};
use rules::decision::AutonomyLevel;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reads the files of `matrix_files` and puts them among `matrices`. False if one could not be read.
pub(super) fn read_matrix_files(tree: &mut Node, findings: &mut Findings) -> bool {
    let Some(named) = tree.get("matrix_files").and_then(Node::map).cloned() else {
        return true;
    };
    let mut complete = true;
    for (name, entry) in named {
        let at = ["matrix_files".to_owned(), name.clone()];
        // What is not a text is told when the types are read.
        let Some(written) = entry.value.text() else {
            continue;
        };
        if tree.get("matrices").and_then(|matrices| matrices.get(&name)).is_some() {
            let text = format!("there is already a matrix `{name}` under `matrices`");
            findings.add(
                Finding::new(entry.key_at, &at, text)
                    .expected("each name once")
                    .advice("rename or remove one of the two"),
            );
            continue;
        }
        match files::read(&beside(entry.value.at, written, findings), findings) {
            Some(matrix) => insert(tree, name, Entry { key_at: matrix.at, value: matrix }),
            None => complete = false,
        }
    }
    complete
}

/// A path relative to the file that names it.
fn beside(at: Place, written: &str, findings: &Findings) -> PathBuf {
    match findings.sources.get(at.source) {
        Some(Source::File { path, .. }) => path.parent().unwrap_or(Path::new("")).join(written),
        Some(Source::Variable(_) | Source::Flag(_)) | None => PathBuf::from(written),
    }
}

fn insert(tree: &mut Node, name: String, entry: Entry) {
    let at = entry.key_at;
    let Some(root) = tree.map_mut() else {
        return;
    };
    let matrices =
        root.entry("matrices".into()).or_insert_with(|| Entry { key_at: at, value: Node::empty_map(at) });
    if matches!(matrices.value.value, Value::Null) {
        matrices.value.value = Value::Map(BTreeMap::new());
    }
    if let Some(map) = matrices.value.map_mut() {
        map.insert(name, entry);
    }
}

/// The parts of a service that are filled in key by key from the part of the same name in `defaults`.
const FILLED_IN: [&str; 6] = ["watch", "guards", "statistics", "patience", "contacts", "matrix"];

/// A map that a service replaces as a whole: `checkpoints: {}` means none, and not those of the defaults.
const REPLACED: &str = "checkpoints";

/// Fills in what services leave out.
pub(super) fn apply_defaults(tree: &mut Node) {
    let Some(defaults) = tree.get("defaults").cloned() else {
        return;
    };
    let Some(services) = tree.get_mut("services").and_then(Node::map_mut) else {
        return;
    };
    for service in services.values_mut() {
        if matches!(service.value.value, Value::Null) {
            service.value.value = Value::Map(BTreeMap::new());
        }
        for part in FILLED_IN {
            take_over(&mut service.value, &defaults, part);
        }
        // Only the level: limits are not replaced but made stricter, in `finish`.
        let level = defaults.get("autonomy").and_then(|autonomy| autonomy.map()?.get("level"));
        let Some((level, map)) = level.zip(service.value.map_mut()) else {
            continue;
        };
        let autonomy = map
            .entry("autonomy".into())
            .or_insert_with(|| Entry { key_at: level.key_at, value: Node::empty_map(level.value.at) });
        if matches!(autonomy.value.value, Value::Null) {
            autonomy.value.value = Value::Map(BTreeMap::new());
        }
        if let Some(autonomy) = autonomy.value.map_mut() {
            autonomy.entry("level".into()).or_insert_with(|| level.clone());
        }
    }
}

fn take_over(service: &mut Node, defaults: &Node, part: &str) {
    let Some(default) = defaults.map().and_then(|map| map.get(part)) else {
        return;
    };
    let Some(map) = service.map_mut() else {
        return;
    };
    match map.get_mut(part) {
        Some(own) => {
            let own_checkpoints =
                own.value.map().and_then(|map| map.get(REPLACED)).filter(|own| own.value.map().is_some());
            let replaced = own_checkpoints.cloned();
            fill_in(&mut own.value, &default.value);
            if let Some((replaced, map)) = replaced.zip(own.value.map_mut()) {
                map.insert(REPLACED.to_owned(), replaced);
            }
        }
        None => drop(map.insert(part.to_owned(), default.clone())),
    }
}

/// Fills in what the types know: environments, matrices, roles, limits of autonomy, the place of the state.
pub(super) fn finish(config: &mut Config, inputs: &Inputs) {
    let defaults = &config.defaults;
    for service in config.services.values_mut() {
        if service.environments.is_empty() {
            service.environments.push(defaults.environment.clone());
        }
        service.matrix.get_or_insert_with(|| defaults.matrix.clone());
        stricter(&mut service.autonomy.severity, &defaults.autonomy.severity);
        stricter(&mut service.autonomy.reversibility, &defaults.autonomy.reversibility);
        for signal in service.signals.values_mut() {
            signal.role = Some(signal.role());
        }
    }
    config.matrix_files.clear();
    if config.state_dir.is_none() {
        config.state_dir = Some(state_directory(inputs));
    }
}

fn stricter<K: Ord + Clone>(own: &mut BTreeMap<K, AutonomyLevel>, default: &BTreeMap<K, AutonomyLevel>) {
    for (key, level) in default {
        own.entry(key.clone()).and_modify(|own| *own = (*own).min(*level)).or_insert(*level);
    }
}

/// `/var/lib/turnback` for root, else below `$XDG_STATE_HOME` or `~/.local/state`. Without a home directory, the
/// directory of root, where the daemon will say that it may not write.
fn state_directory(inputs: &Inputs) -> PathBuf {
    // The specification says that relative paths in it are to be ignored.
    // One that is not UTF-8 could not be shown, nor written into a file.
    let absolute = |name: &str| {
        inputs
            .environment
            .get(name)
            .and_then(|path| path.to_str())
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let own = || absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    match own().filter(|_| !inputs.root) {
        Some(base) => base.join("turnback"),
        None => PathBuf::from("/var/lib/turnback"),
    }
}
