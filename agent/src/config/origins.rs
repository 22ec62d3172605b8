//! Where each setting of a loaded configuration came from.

use super::Config;
use super::report::Findings;
use super::tree::{Node, Path, show_path};
use serde_json::Value;
use std::collections::BTreeMap;

/// The origin of every single value, by key path.
pub(super) fn of(config: &Config, tree: &Node, findings: &Findings) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    let values = serde_json::to_value(config)
        .expect("all maps of a configuration have texts as keys, and all its paths were read from texts");
    walk(&values, &mut Path::new(), &mut |path| {
        let origin = match tree.at_path(path) {
            Some(node) => findings.origin_words(node.at),
            None => "default".to_owned(),
        };
        origins.insert(show_path(path), origin);
    });
    origins
}

fn walk(value: &Value, path: &mut Path, leaf: &mut impl FnMut(&Path)) {
    let mut below = |step: String, value: &Value, path: &mut Path| {
        path.push(step);
        walk(value, path, leaf);
        path.pop();
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| below(key.clone(), value, path)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(number, value)| below(number.to_string(), value, path));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => leaf(path),
    }
}
