//! Texts in the formats that configuration may have, to trees.
//!
//! JSON is read by the YAML parser too, once `serde_json` has said that it is JSON: that gives every value its line.
//! TOML values have no places; problems in them name the key path.

use super::report::Finding;
use super::tree::{Entry, Node, Place, Value};
use super::yaml;
use figment::providers::{Format as _, Toml};
use figment::value::{Num, Value as Loose};

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Toml,
    Json,
}

impl Format {
    /// By the ending of a file's name. `None` if it is not the name of a configuration.
    pub fn of(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "yaml" | "yml" => Some(Format::Yaml),
            "toml" => Some(Format::Toml),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// Reads a text. Findings that leave the rest readable go to `findings`; the error is the one that does not.
pub(super) fn parse(
    format: Format,
    text: &str,
    source: usize,
    findings: &mut Vec<Finding>,
) -> Result<Node, Box<Finding>> {
    match format {
        Format::Yaml => yaml::parse(text, source, findings),
        Format::Json => json(text, source, findings),
        Format::Toml => toml(text, source),
    }
}

fn json(text: &str, source: usize, findings: &mut Vec<Finding>) -> Result<Node, Box<Finding>> {
    let loose: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        let place = Place { source, line: error.line(), column: error.column().max(1), width: 1 };
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or_default();
        let finding = Finding::new(place, &[], format!("not JSON: {words}"));
        Box::new(finding.advice("check the commas, quotes and brackets here and before"))
    })?;
    // A few texts are JSON and not YAML (surrogate pairs, tabs in odd places): then without places.
    let mut in_yaml = Vec::new();
    match yaml::parse(text, source, &mut in_yaml) {
        Ok(node) => {
            findings.append(&mut in_yaml);
            Ok(node)
        }
        Err(_) => match Loose::serialize(&loose) {
            Ok(loose) => Ok(from_loose(&loose, source)),
            Err(error) => {
                let text = format!("not usable JSON: {error}");
                Err(Box::new(Finding::new(Place::whole(source), &[], text)))
            }
        },
    }
}

fn toml(text: &str, source: usize) -> Result<Node, Box<Finding>> {
    let loose: Loose = Toml::from_str(text).map_err(|error| {
        let place = match error.span() {
            Some(span) => place_of(text, span.start, source),
            None => Place::whole(source),
        };
        Box::new(Finding::new(place, &[], format!("not TOML: {}", error.message().trim())))
    })?;
    Ok(from_loose(&loose, source))
}

fn place_of(text: &str, offset: usize, source: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Place { source, line, column, width: 1 }
}

/// The key under which the TOML reader hands over dates.
const TOML_DATE: &str = "$__toml_private_datetime";

fn from_loose(loose: &Loose, source: usize) -> Node {
    let at = Place::whole(source);
    let plain = |text: String| Value::Scalar { text, plain: true };
    let value = match loose {
        Loose::String(_, text) => Value::Scalar { text: text.clone(), plain: false },
        Loose::Char(_, c) => Value::Scalar { text: c.to_string(), plain: false },
        Loose::Bool(_, value) => plain(value.to_string()),
        Loose::Num(_, number) => plain(number_text(*number)),
        Loose::Empty(..) => Value::Null,
        Loose::Array(_, items) => {
            Value::List(items.iter().map(|item| from_loose(item, source)).enumerate().collect())
        }
        Loose::Dict(_, entries) => match entries.get(TOML_DATE) {
            Some(Loose::String(_, date)) => plain(date.clone()),
            _ => Value::Map(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), Entry { key_at: at, value: from_loose(value, source) }))
                    .collect(),
            ),
        },
    };
    Node { at, value }
}

fn number_text(number: Num) -> String {
    match (number.to_u128(), number.to_i128(), number.to_f64()) {
        (Some(whole), ..) => whole.to_string(),
        (None, Some(whole), _) => whole.to_string(),
        // `{:?}` keeps the `.0`, so that a fraction does not become a whole number.
        (None, None, Some(fraction)) => format!("{fraction:?}"),
        (None, None, None) => "0".into(),
    }
}
