//! Inputs of a preset: a small part of JSON Schema, and the check of one value against it.
//!
//! Texts may hold the placeholders of a plan (`{{to.version}}`), so that a step can speak about the release it returns
//! to. Everything that decides *where* an action goes (`format: uri`, `format: path`), numbers and secrets may not: what
//! an event says must never choose them.

use super::SECRET_IN_THE_OPEN;
use crate::action::SecretRef;
use crate::runbook::check_template;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What it is for, with an example.
    pub description: String,
    /// The type of its value.
    #[serde(rename = "type")]
    pub kind: InputKind,
    /// What a text must be besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// A regular expression that the whole text, or each of a list, must match. Not held against texts with
    /// placeholders, whose values have an alphabet of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The values it may have.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Value>,
    /// The value if none is given; without one the input is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The configuration's alone: no placeholders. For what is a language of its own where it stands, such as SQL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed: bool,
    /// Where a secret is and not what it is: `{env: NAME}` or `{file: /path}`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// The type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// A text.
    String,
    /// A whole number, not negative.
    Integer,
    /// True or false.
    Boolean,
    /// A list of texts.
    Array,
}

/// What a text must be besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The beginning of addresses, `https://flags.example.com`: scheme, host and path, without credentials and query.
    Uri,
    /// An absolute path of a program, a file or a directory.
    Path,
}

/// A value that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// A text that may hold placeholders.
    Text(String),
    /// A whole number.
    Integer(u64),
    /// True or false.
    Boolean(bool),
    /// Texts that may hold placeholders.
    List(Vec<String>),
    /// Where a secret is.
    Secret(SecretRef),
}

/// Longer texts are documents, and belong into the system that the preset speaks to.
const LONGEST_TEXT: usize = 4096;
/// Vendors take 30 to 256 of a kind in one request; a person who approves a plan reads them.
const LONGEST_LIST: usize = 100;

impl Input {
    /// Whether a runbook must fill it in.
    pub fn required(&self) -> bool {
        self.default.is_none()
    }

    /// Whether a value may hold placeholders of the plan.
    pub fn takes_placeholders(&self) -> bool {
        !self.secret
            && !self.fixed
            && self.format.is_none()
            && matches!(self.kind, InputKind::String | InputKind::Array)
    }

    /// What a value has to be, in words.
    pub fn expected(&self) -> String {
        if self.secret {
            return "{env: NAME} or {file: /path}".into();
        }
        let mut words = match (self.kind, self.format) {
            (InputKind::String, None) if self.fixed => "a text without placeholders".to_owned(),
            (InputKind::String, None) => "a text".to_owned(),
            (InputKind::String, Some(Format::Uri)) => {
                "an address such as https://host or https://host/path, without placeholders, credentials, `?` and `#`"
                    .into()
            }
            (InputKind::String, Some(Format::Path)) => "an absolute path without placeholders and `..`".into(),
            (InputKind::Integer, _) => "a whole number, not negative".into(),
            (InputKind::Boolean, _) => "true or false".into(),
            (InputKind::Array, _) => format!("a list of at most {LONGEST_LIST} texts"),
        };
        if !self.choices.is_empty() {
            let choices: Vec<String> = self.choices.iter().map(plain).collect();
            words = format!("one of {}", choices.join(", "));
        }
        if let Some(pattern) = &self.pattern {
            words.push_str(&format!(" like {pattern}"));
        }
        words
    }

    /// Checks a value. The error says what was expected; it repeats no value that may be a secret.
    pub(super) fn check(&self, value: &Value) -> Result<Given, String> {
        let expected = |found: &str| format!("{found}; expected {}", self.expected());
        if self.secret {
            let inline = || format!("{SECRET_IN_THE_OPEN}; expected {}", self.expected());
            return serde_json::from_value(value.clone()).map(Given::Secret).map_err(|_| inline());
        }
        let given = match (self.kind, value) {
            (InputKind::String, Value::String(text)) => Given::Text(text.clone()),
            (InputKind::String, Value::Number(number)) => {
                return Err(expected(&format!("found the number {number}, which is a text only in quotes")));
            }
            (InputKind::Integer, Value::Number(number)) => match number.as_u64() {
                Some(number) => Given::Integer(number),
                None => return Err(expected(&format!("found {number}"))),
            },
            (InputKind::Boolean, Value::Bool(boolean)) => Given::Boolean(*boolean),
            (InputKind::Array, Value::Array(items)) if items.len() <= LONGEST_LIST => {
                let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
                match texts.collect::<Option<Vec<_>>>() {
                    Some(texts) => Given::List(texts),
                    None => return Err(expected("found a list that holds something else than texts")),
                }
            }
            (InputKind::Array, Value::Array(items)) => {
                return Err(expected(&format!("found {} of them", items.len())));
            }
            (_, other) => return Err(expected(&format!("found {}", shown(other)))),
        };
        if !self.choices.is_empty() && !self.choices.contains(value) {
            return Err(expected(&format!("found {}", shown(value))));
        }
        match &given {
            Given::Text(text) => self.check_text(text)?,
            Given::List(texts) => texts.iter().try_for_each(|text| self.check_text(text))?,
            Given::Integer(_) | Given::Boolean(_) | Given::Secret(_) => {}
        }
        Ok(given)
    }

    fn check_text(&self, text: &str) -> Result<(), String> {
        let found = |what: &str| Err(format!("{what}; expected {}", self.expected()));
        if text.len() > LONGEST_TEXT {
            return found(&format!("it has {} bytes, at most {LONGEST_TEXT} are allowed", text.len()));
        }
        // A new line is a letter of messages; nothing else that steers a terminal or a protocol is.
        if text.chars().any(|c| c.is_control() && c != '\n') {
            return found("it holds a control character");
        }
        if let Err(bad) = check_template(text) {
            return found(&bad.to_string());
        }
        let templated = text.contains("{{");
        if templated && !self.takes_placeholders() {
            return found("it holds a placeholder, and nothing that an event says may choose this");
        }
        match self.format {
            Some(Format::Uri) if !is_base(text) && self.default != Some(Value::from(text)) => {
                return found(&format!("found {text:?}"));
            }
            // An empty default leaves an optional path out.
            Some(Format::Path) if !is_path(text) && self.default != Some(Value::from(text)) => {
                return found(&format!("found {text:?}"));
            }
            _ => {}
        }
        let Some(pattern) = self.pattern.as_ref().filter(|_| !templated) else {
            return Ok(());
        };
        match whole(pattern) {
            Ok(pattern) if pattern.is_match(text) => Ok(()),
            Ok(_) => found(&format!("found {:?}", cut(text))),
            Err(error) => Err(format!("its pattern is broken: {error}")),
        }
    }
}

/// The pattern, held against the whole text.
pub(super) fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:{pattern})$"))
}

/// Scheme, host and an optional path; nothing that a URL could be ended or redirected with.
fn is_base(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some((host, path)) = rest.map(|rest| rest.split_once('/').unwrap_or((rest, ""))) else {
        return false;
    };
    let good_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
    let good_path = |c: char| c.is_ascii_alphanumeric() || "-._~/%+:,=".contains(c);
    !host.is_empty()
        && host.chars().all(good_host)
        && path.chars().all(good_path)
        && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.split('/').any(|part| part == "..")
}

/// A value as people write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a map".into(),
        Value::String(text) => format!("{:?}", cut(text)),
        other => other.to_string(),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
