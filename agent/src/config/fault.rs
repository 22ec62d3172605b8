//! What is wrong with one value, as `serde` tells it, kept in parts: which key, found what, expected what.
//!
//! The ready-made errors of `serde` are sentences. In parts they can be pointed at the right place, be followed by a
//! suggestion, and be kept from showing a secret.

use super::report::{Finding, Show};
use super::tree::{Path, Place};
use rules::preset::REFUSED;
use rules::suggest::closest;
use serde::de::{Error, Expected, Unexpected};
use std::fmt;

/// Why a value is not what a type wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// A key that the struct does not have. The path ends in it.
    UnknownKey { known: &'static [&'static str] },
    /// A required key is not there.
    Missing { key: String },
    /// Something of the wrong type.
    Invalid { found: String, expected: String },
    /// A word that is not one of the known ones.
    UnknownWord { word: String, known: &'static [&'static str] },
    /// One of several was expected, each as a key of its own.
    NotOne { found: String, known: &'static [&'static str] },
    /// A secret that stands where only a reference may.
    InlineSecret,
    /// The type's own words.
    Other(String),
}

/// Why a value is not what a type wants, and where.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub reason: Reason,
    /// From the inside out, while the fault travels up.
    steps: Vec<String>,
    pub place: Option<Place>,
    pub secret: bool,
}

impl Fault {
    /// A fault at a place to be told later.
    pub fn new(reason: Reason) -> Self {
        Self { reason, steps: Vec::new(), place: None, secret: false }
    }

    /// The fault is in this child.
    pub fn within(mut self, step: impl Into<String>) -> Self {
        self.steps.push(step.into());
        self
    }

    /// The fault is here, unless it is known to be further inside.
    pub fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    /// The fault is here, whatever was said before.
    pub fn moved_to(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The value may be a secret: neither it nor its line is shown.
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The path from the root.
    pub fn path(&self) -> Path {
        self.steps.iter().rev().cloned().collect()
    }

    /// For people.
    pub fn finding(&self, root: Place) -> Finding {
        let path = self.path();
        let place = self.place.unwrap_or(root);
        let key = path.last().cloned().unwrap_or_default();
        let mut finding = match &self.reason {
            Reason::UnknownKey { known } => unknown_key(place, &path, &key, known),
            Reason::Missing { key } => Finding::new(place, &path, format!("the key `{key}` is missing"))
                .advice(format!("add `{key}:`")),
            Reason::Invalid { found, expected } => {
                let found = if self.secret { "something else".into() } else { found.clone() };
                Finding::new(place, &path, format!("found {found}")).expected(words(expected))
            }
            Reason::UnknownWord { word, known } if !self.secret => Finding::new(
                place,
                &path,
                format!("`{}` is not known here", cut(word)),
            )
            .names("one of", word, known.iter().copied()),
            Reason::UnknownWord { known, .. } | Reason::NotOne { known, .. } if self.secret => {
                Finding::new(place, &path, "this does not say where the secret is")
                    .names("one of", "", known.iter().copied())
                    .advice("write {env: NAME} or {file: /path}")
            }
            Reason::UnknownWord { known, .. } => {
                Finding::new(place, &path, "not known here").names("one of", "", known.iter().copied())
            }
            Reason::NotOne { found, known } if found == "nothing" => {
                Finding::new(place, &path, "found nothing").names("one of", "", known.iter().copied())
            }
            Reason::NotOne { found, known } => Finding::new(place, &path, format!("found {found}"))
                .expected(format!("a map with exactly one of the keys {}", known.join(", "))),
            Reason::InlineSecret => Finding::new(
                place,
                &path,
                "a secret must not stand in the configuration",
            )
            .expected("where it is: {env: NAME} or {file: /path}")
            .advice(
                "put the value into an environment variable or a file; consider this one known to others",
            ),
            Reason::Other(text) => Finding::new(place, &path, cut(text)),
        };
        finding.show = match (&self.reason, self.secret) {
            (_, true) => Show::Before,
            (Reason::UnknownKey { .. }, false) => Show::UpToHere,
            (Reason::Other(text), false) if text.starts_with(REFUSED) => Show::Before,
            (_, false) => Show::Line,
        };
        finding
    }
}

fn unknown_key(place: Place, path: &Path, key: &str, known: &[&str]) -> Finding {
    let finding = Finding::new(place, path, format!("unknown key `{}`", cut(key)));
    let mut finding = finding.names("one of", key, known.iter().copied());
    if known.is_empty() {
        finding.expected = Some("no keys here".into());
    }
    if finding.advice.is_none() {
        finding.advice = Some("remove it, or look where it belongs".into());
    }
    finding
}

/// Long enough for any message; a value of a mebibyte must not be repeated.
const LONGEST_WORDS: usize = 400;

fn cut(text: &str) -> String {
    let clean: String =
        text.chars().take(LONGEST_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > LONGEST_WORDS { format!("{clean}…") } else { clean }
}

/// The names of Rust's types as people say them.
fn words(expected: &str) -> String {
    match expected {
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, not negative".into(),
        "i32" | "i64" => "a whole number".into(),
        "f64" | "f32" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" => "a text".into(),
        "a sequence" => "a list: [a, b], or lines that begin with `-`".into(),
        "a map" => "a map: lines such as `key: value`".into(),
        other if other.starts_with("struct ") => "a map: lines such as `key: value`".into(),
        other => other.to_owned(),
    }
}

/// What was found, as people say it.
pub(super) fn found(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => format!("`{value}`, which is true or false"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("the text {:?}", cut(text)),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a map".into(),
        other => other.to_string(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding(Place::whole(0)).message)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Reason::Other(message.to_string()))
    }
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Reason::Invalid { found: found(&unexpected), expected: expected.to_string() })
    }
    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }
    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(Reason::Invalid { found: format!("{length} of them"), expected: expected.to_string() })
    }
    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(Reason::UnknownWord { word: word.to_owned(), known })
    }
    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(Reason::UnknownKey { known })
    }
    fn missing_field(key: &'static str) -> Self {
        Self::new(Reason::Missing { key: key.to_owned() })
    }
    fn duplicate_field(key: &'static str) -> Self {
        Self::new(Reason::Other(format!("the key `{key}` is given twice")))
    }
}

/// Whether `wrong` was most likely meant to be `right`.
pub(super) fn meant(wrong: &str, right: &str, known: &[&str]) -> bool {
    closest(wrong, known.iter().copied()) == Some(right)
}
