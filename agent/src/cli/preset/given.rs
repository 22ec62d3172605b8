//! Inputs on a command line, which knows texts only: read as the type that the input has.

use crate::cli::exit::Failure;
use rules::preset::{Input, InputKind, Preset};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `INPUT=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("write it as INPUT=VALUE".into()),
    }
}

/// The inputs with their types. Whether they fit is the preset's to say; what cannot be read stays a text, so that it is
/// the preset that says what it expected.
pub(super) fn typed(preset: &Preset, pairs: &[(String, String)]) -> Result<BTreeMap<String, Value>, Failure> {
    let mut given = BTreeMap::new();
    for (name, text) in pairs {
        let input = preset.inputs.get(name);
        let value = input.map_or_else(|| Value::from(text.as_str()), |input| value(input, text));
        match given.get_mut(name) {
            None => drop(given.insert(name.clone(), value)),
            Some(Value::Array(items)) => items.push(text.as_str().into()),
            Some(_) => return Err(Failure::usage(format!("--with {name} is given twice, and is no list"))),
        }
    }
    Ok(given)
}

fn value(input: &Input, text: &str) -> Value {
    if input.secret {
        return match text.split_once(':') {
            Some((kind @ ("env" | "file"), place)) => json!({ kind: place }),
            _ => Value::from(text),
        };
    }
    match input.kind {
        InputKind::Array => json!([text]),
        InputKind::Integer => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        InputKind::Boolean => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        InputKind::String => Value::from(text),
    }
}
