//! All faults of a tree at once, although `serde` stops at the first.
//!
//! The tree is read; the part at fault is noted and taken out; the tree is read again, until nothing is wrong any more.
//! What follows from a part that was taken out (its parent now lacks it) is not told, since it was told already.

use super::Config;
use super::decode::Decoder;
use super::fault::{Fault, Reason, meant};
use super::report::{Findings, MOST_PROBLEMS};
use super::tree::{Entry, Node, Path, Source, Value};
use rules::suggest::closest;
use serde::Deserialize as _;
use std::collections::{BTreeMap, BTreeSet};

/// Maps of things that are read one by one, so that a mistake in one costs no second reading of the others.
const ONE_BY_ONE: [&str; 3] = ["services", "runbooks", "matrices"];

/// Reads the configuration's tree to a typed value, without the parts at fault, and notes those. `removed` gets the
/// paths of what was taken out. `None` if there was too much of it.
pub(super) fn settle(
    tree: &mut Node,
    removed: &mut BTreeSet<Path>,
    findings: &mut Findings,
) -> Option<Config> {
    let at = tree.at;
    let mut sound = true;
    for (key, entry) in std::mem::take(tree.map_mut()?) {
        let mut settle_alone = |value: Node| {
            let entry = Entry { key_at: entry.key_at, value };
            let mut alone = Node { at, value: Value::Map(BTreeMap::from([(key.clone(), entry)])) };
            sound &= clean(&mut alone, removed, findings);
            alone.map_mut()?.remove(&key).map(|entry| entry.value)
        };
        let settled = match entry.value {
            Node { at, value: Value::Map(things) } if ONE_BY_ONE.contains(&key.as_str()) => {
                let mut kept = BTreeMap::new();
                for (name, thing) in things {
                    let key_at = thing.key_at;
                    let alone = Node { at, value: Value::Map(BTreeMap::from([(name.clone(), thing)])) };
                    let rest = settle_alone(alone).and_then(|mut rest| rest.map_mut()?.remove(&name));
                    kept.extend(rest.map(|rest| (name, Entry { key_at, value: rest.value })));
                }
                Some(Node { at, value: Value::Map(kept) })
            }
            value => settle_alone(value),
        };
        if let (Some(value), Some(map)) = (settled, tree.map_mut()) {
            map.insert(key, Entry { key_at: entry.key_at, value });
        }
    }
    if sound { Config::deserialize(Decoder::new(tree)).ok() } else { None }
}

/// Takes the parts at fault out. False if it gave up.
fn clean(tree: &mut Node, removed: &mut BTreeSet<Path>, findings: &mut Findings) -> bool {
    let mut mistyped: Vec<Mistyped> = Vec::new();
    // Each round takes at least one node out; a fault can travel up to the root, thus the factor.
    for _ in 0..MOST_PROBLEMS * 4 {
        if findings.list.len() > MOST_PROBLEMS {
            return false;
        }
        let fault = match Config::deserialize(Decoder::new(tree)) {
            Ok(_) => return true,
            Err(fault) => fault,
        };
        let path = fault.path();
        if !follows(&fault, &path, removed, &mistyped) {
            note(&fault, &path, tree, findings);
        }
        if !tree.remove(&path) {
            return false;
        }
        match (&fault.reason, path.split_last()) {
            // Only a key that has no meaning is gone: nothing that is said later can follow from that, but for what it
            // was meant to be.
            (Reason::UnknownKey { known }, Some((key, parent))) => {
                let meant = closest(key, known.iter().copied());
                removed.extend(meant.map(|meant| [parent, &[meant.to_owned()]].concat()));
                mistyped.push((parent.to_vec(), key.clone(), known));
            }
            _ => drop(removed.insert(path)),
        }
    }
    false
}

fn note(fault: &Fault, path: &Path, tree: &Node, findings: &mut Findings) {
    let mut finding = fault.finding(tree.at);
    let variable = matches!(findings.sources.get(finding.place.source), Some(Source::Variable(_)));
    if variable && path.len() == 1 && matches!(fault.reason, Reason::UnknownKey { .. }) {
        let text = "write two underscores between the parts of a key: TURNBACK_API__LISTEN; what is not meant for the \
                    agent must not begin with TURNBACK_";
        finding.advice = Some(text.into());
    }
    findings.add(finding);
}

/// The path of a struct, a key in it that it does not have, and those it has.
type Mistyped = (Path, String, &'static [&'static str]);

/// Whether a fault is only there because something was taken out before.
fn follows(fault: &Fault, path: &Path, removed: &BTreeSet<Path>, mistyped: &[Mistyped]) -> bool {
    let child_removed = |key: &str| {
        removed
            .iter()
            .any(|gone| gone.split_last().is_some_and(|(last, parent)| parent == path && last == key))
    };
    match &fault.reason {
        Reason::Missing { key } => {
            child_removed(key)
                // A preset stands for the action; what was wrong with it was told.
                || (key == "action" && child_removed("preset"))
                || mistyped.iter().any(|(parent, wrong, known)| parent == path && meant(wrong, key, known))
        }
        Reason::NotOne { .. } => {
            removed.iter().any(|gone| gone.len() == path.len() + 1 && gone.starts_with(path))
        }
        Reason::UnknownKey { .. }
        | Reason::Invalid { .. }
        | Reason::UnknownWord { .. }
        | Reason::InlineSecret
        | Reason::Other(_) => false,
    }
}
