//! Layers of settings on each other: files in order, then the environment, then flags.
//!
//! figment decides which layer wins at each key and remembers it. It is handed the shape of the trees only, and what it
//! says about each value is used to pick that value from its tree: figment's own values know no lines, and would turn
//! texts into numbers by how they look.
//!
//! Maps are joined, lists are replaced as a whole. Where exactly one of several keys may stand (`{env: X}` or
//! `{file: X}`), the later one replaces the earlier one instead of standing beside it. A key without a value does not
//! erase an earlier value: it says nothing.

use super::tree::{Entry, Node, Place, Value};
use figment::value::{Dict, Empty, Map, Tag, Value as Loose};
use figment::{Figment, Metadata, Profile, Provider};
use std::collections::BTreeMap;

/// Keys of which exactly one may stand in a map.
const ALTERNATIVES: [&[&str]; 3] = [
    &["env", "file"],
    &["proportion", "latency", "availability", "gauge"],
    &["nobody", "bearer", "basic", "token", "hmac", "standard_webhooks", "slack"],
];

/// Joins layers; the later one wins.
pub(super) fn merge(mut layers: Vec<Node>) -> Result<Node, Box<figment::Error>> {
    for later in 1..layers.len() {
        let (before, after) = layers.split_at_mut(later);
        for earlier in before {
            give_way(earlier, &mut after[0]);
        }
    }
    let figment = layers
        .iter()
        .enumerate()
        .fold(Figment::new(), |figment, (number, tree)| figment.merge(Layer { number, tree }));
    let merged = figment.data()?.remove(&Profile::Default).unwrap_or_default();
    let at = layers.last().map_or(Place::whole(0), |layer| layer.at);
    let layers: Vec<Option<&Node>> = layers.iter().map(Some).collect();
    Ok(Node { at, value: Value::Map(rebuild(&merged, &layers, &figment)) })
}

/// Makes room in an earlier layer for a later one, and leaves out of the later one what says nothing.
fn give_way(earlier: &mut Node, later: &mut Node) {
    let (Value::Map(old), Value::Map(new)) = (&mut earlier.value, &mut later.value) else {
        return;
    };
    for family in ALTERNATIVES {
        let of_family = |map: &BTreeMap<String, Entry>| {
            map.len() == 1 && map.keys().all(|key| family.contains(&key.as_str()))
        };
        if of_family(old) && of_family(new) {
            old.retain(|key, _| new.contains_key(key));
        }
    }
    new.retain(|key, entry| !(matches!(entry.value.value, Value::Null) && old.contains_key(key)));
    for (key, entry) in new.iter_mut() {
        if let Some(old) = old.get_mut(key) {
            give_way(&mut old.value, &mut entry.value);
        }
    }
}

/// One layer as figment sees it: named by its number.
struct Layer<'a> {
    number: usize,
    tree: &'a Node,
}

impl Provider for Layer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.number.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = match shape(self.tree) {
            Loose::Dict(_, dict) => dict,
            _ => Dict::new(),
        };
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

/// A tree's maps; everything else is one value to figment.
fn shape(node: &Node) -> Loose {
    match &node.value {
        Value::Map(map) => Loose::Dict(
            Tag::Default,
            map.iter().map(|(key, entry)| (key.clone(), shape(&entry.value))).collect(),
        ),
        Value::Null | Value::Scalar { .. } | Value::List(_) => Loose::Empty(Tag::Default, Empty::Unit),
    }
}

/// Picks each value from the layer that figment says it comes from. `layers` are the nodes at this path.
fn rebuild(merged: &Dict, layers: &[Option<&Node>], figment: &Figment) -> BTreeMap<String, Entry> {
    let mut map = BTreeMap::new();
    for (key, value) in merged {
        let below: Vec<Option<&Node>> =
            layers.iter().map(|layer| layer.and_then(|node| node.get(key))).collect();
        let number =
            figment.get_metadata(value.tag()).and_then(|metadata| metadata.name.parse::<usize>().ok());
        let winner = number.filter(|number| below.get(*number).is_some_and(Option::is_some));
        // An empty map's tag is not always set; the last layer that has the key is what figment took.
        let Some(winner) = winner.or_else(|| below.iter().rposition(Option::is_some)) else {
            continue;
        };
        let Some(entry) = layers[winner].and_then(Node::map).and_then(|map| map.get(key)) else {
            continue;
        };
        let value = match value {
            Loose::Dict(_, merged) => {
                Node { at: entry.value.at, value: Value::Map(rebuild(merged, &below, figment)) }
            }
            _ => entry.value.clone(),
        };
        map.insert(key.clone(), Entry { key_at: entry.key_at, value });
    }
    map
}

/// What `above` leaves out is taken from `below`, key by key.
pub(super) fn fill_in(above: &mut Node, below: &Node) {
    match (&mut above.value, &below.value) {
        (Value::Null, _) => *above = below.clone(),
        (Value::Map(above), Value::Map(below)) => {
            for (key, entry) in below {
                match above.get_mut(key) {
                    Some(kept) => fill_in(&mut kept.value, &entry.value),
                    None => drop(above.insert(key.clone(), entry.clone())),
                }
            }
        }
        (Value::Scalar { .. } | Value::List(_) | Value::Map(_), _) => {}
    }
}
