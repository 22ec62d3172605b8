//! A preset and its inputs to an action: every input encoded for the place where it stands.
//!
//! | place | how an input stands there |
//! | --- | --- |
//! | address | percent-encoded, one segment or one value of the query; an empty value leaves its part of the query out |
//! | JSON body | inside of a string, escaped; numbers, booleans and lists as themselves |
//! | argument | as it is, one argument; a list as the whole argument becomes one argument each |
//! | header, variable | as it is; an empty value leaves the header or variable out |
//! | JSON of `success` | as it is, or as a number or boolean if it is the whole value |
//! | `secret_headers`, `secret_env` | the reference to a secret, and nothing else |
//!
//! What comes out still holds the placeholders of a plan, which are filled in when one is drawn. An input cannot make a
//! placeholder that is not its own: the placeholders are counted before and after.

use super::check::NOT_OF_A_PRESET;
use super::input::Given;
use super::{Danger, Format, Input, Preset};
use crate::action::{
    ActionSpec, CommandSpec, EffectClass, HttpSpec, HttpSuccess, InspectSpec, Reversibility, SecretRef, Undo,
};
use crate::runbook::{argument_problem, json_escape, percent_encode, placeholders, url_problem};
use crate::units::Span;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a preset gives to a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Expanded {
    /// What it does.
    pub action: ActionSpec,
    /// Whether it only asks or tells.
    pub asks: bool,
    /// What is known about repeating it.
    pub class: EffectClass,
    /// How one looks whether it is already done.
    pub inspect: Option<InspectSpec>,
    /// The question that must be answered with yes afterwards.
    pub verify: Option<InspectSpec>,
    /// What undoes it.
    pub undo: Undo,
    /// How long it may take.
    pub timeout: Span,
    /// What is lost if it was a mistake.
    pub reversibility: Reversibility,
}

impl Preset {
    /// Fills the inputs in. The error names each input that is unknown, missing or wrong, with what was expected; or the
    /// part of the preset that the inputs do not fit into.
    pub fn expand(&self, with: &BTreeMap<String, Value>) -> Result<Expanded, Vec<(String, String)>> {
        let filler = Filler::new(&self.inputs, with, |_| true)?;
        let one = |key: &str, action: &ActionSpec| {
            filler.action(action).map_err(|problem| vec![(key.to_owned(), problem)])
        };
        let question = |key: &str, action: &Option<ActionSpec>| {
            let filled = action.as_ref().map(|action| one(key, action)).transpose()?;
            Ok::<_, Vec<_>>(filled.map(|action| InspectSpec { action }))
        };
        Ok(Expanded {
            action: one("apply", &self.apply)?,
            asks: self.danger == Danger::None,
            class: self.class,
            inspect: question("inspect", &self.inspect)?,
            verify: question("verify", &self.verify)?,
            undo: match &self.undo {
                Undo::Action(action) => Undo::Action(one("undo", action)?),
                other => other.clone(),
            },
            timeout: self.timeout,
            reversibility: self.danger.reversibility(),
        })
    }
}

/// A text between placeholders.
pub(super) enum Piece<'a> {
    /// As it is.
    Plain(&'a str),
    /// `{{input.NAME}}`.
    Input(&'a str),
    /// A placeholder of the plan.
    Placeholder(&'a str),
}

/// Splits a template. Braces that are not closed are plain text here; `check.rs` and the runbook's own check tell them.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, name, behind)) = rest.split_once("{{").and_then(|(before, after)| {
        after.split_once("}}").map(|(name, behind)| (before, name.trim(), behind))
    }) {
        found.push(Piece::Plain(before));
        found.push(name.strip_prefix("input.").map_or(Piece::Placeholder(name), Piece::Input));
        rest = behind;
    }
    found.push(Piece::Plain(rest));
    found
}

/// Adds the names of the inputs that stand anywhere in a value.
pub(crate) fn inputs_in(value: &Value, found: &mut BTreeSet<String>) {
    let mut of_text = |text: &str| {
        found.extend(pieces(text).into_iter().filter_map(|piece| match piece {
            Piece::Input(name) => Some(name.to_owned()),
            Piece::Plain(_) | Piece::Placeholder(_) => None,
        }));
    };
    match value {
        Value::String(text) => of_text(text),
        Value::Array(items) => items.iter().for_each(|item| inputs_in(item, found)),
        Value::Object(map) => {
            map.keys().for_each(|key| of_text(key));
            map.values().for_each(|value| inputs_in(value, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The input that is the whole of a text.
pub(super) fn whole_input(text: &str) -> Option<&str> {
    let name = text.strip_prefix("{{")?.strip_suffix("}}")?.trim().strip_prefix("input.")?;
    (!name.contains(['{', '}'])).then_some(name)
}

/// Checked inputs, and how they get into texts and actions. Presets and the runbooks that ship are filled by the same one.
pub(crate) struct Filler<'a> {
    inputs: &'a BTreeMap<String, Input>,
    given: BTreeMap<&'a str, Given>,
}

impl<'a> Filler<'a> {
    /// Checks what was given. Of an input without a value only those are missed that `needed` says yes to. The error names
    /// each input that is unknown, missing or wrong, with what was expected.
    pub(crate) fn new(
        inputs: &'a BTreeMap<String, Input>,
        with: &BTreeMap<String, Value>,
        needed: impl Fn(&str) -> bool,
    ) -> Result<Self, Vec<(String, String)>> {
        let mut problems = Vec::new();
        let mut given = BTreeMap::new();
        for name in with.keys().filter(|name| !inputs.contains_key(*name)) {
            let known: Vec<&str> = inputs.keys().map(String::as_str).collect();
            let shown: String = name.chars().take(64).collect();
            problems
                .push((format!("input `{shown}`"), format!("is not known; there are {}", known.join(", "))));
        }
        for (name, input) in inputs {
            let Some(value) = with.get(name).or(input.default.as_ref()) else {
                if needed(name) {
                    let words = format!("is missing; expected {} ({})", input.expected(), input.description);
                    problems.push((format!("input `{name}`"), words));
                }
                continue;
            };
            match input.check(value) {
                Ok(value) => drop(given.insert(name.as_str(), value)),
                Err(problem) => problems.push((format!("input `{name}`"), problem)),
            }
        }
        if problems.is_empty() { Ok(Self { inputs, given }) } else { Err(problems) }
    }

    /// Fills a part of a runbook: a text that is one input whole becomes its value, of whatever type it is; an action of the
    /// families that presets are made of is filled as a preset's is, each input encoded for its place.
    pub(crate) fn part(&self, part: &Value) -> Result<Value, String> {
        Ok(match part {
            Value::String(text) => match whole_input(text) {
                Some(name) => match self.value(name)? {
                    Given::Text(text) => Value::from(text.clone()),
                    Given::Integer(number) => Value::from(*number),
                    Given::Boolean(boolean) => Value::from(*boolean),
                    Given::List(texts) => Value::from(texts.clone()),
                    Given::Secret(place) => serde_json::to_value(place).map_err(|error| error.to_string())?,
                },
                None => Value::from(self.text(text, str::to_owned)?),
            },
            Value::Array(items) => items.iter().map(|item| self.part(item)).collect::<Result<_, _>>()?,
            Value::Object(map) if map.contains_key("command") || map.contains_key("http") => {
                let action = serde_json::from_value(part.clone()).map_err(|error| error.to_string())?;
                serde_json::to_value(self.action(&action)?).map_err(|error| error.to_string())?
            }
            Value::Object(map) => {
                // An empty value leaves its key out, as it does a header.
                let given = |value: &Value| !value.as_str().is_some_and(|text| self.is_empty(text));
                let filled = map
                    .iter()
                    .filter(|(_, value)| given(value))
                    .map(|(key, value)| Ok((self.text(key, str::to_owned)?, self.part(value)?)))
                    .collect::<Result<serde_json::Map<_, _>, String>>()?;
                Value::Object(filled)
            }
            other => other.clone(),
        })
    }

    fn value(&self, name: &str) -> Result<&Given, String> {
        self.given.get(name).ok_or_else(|| format!("{{{{input.{name}}}}} is no input"))
    }

    /// Fills a text; `encode` is applied to the plain parts of inputs.
    fn text(&self, text: &str, encode: fn(&str) -> String) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut expected = Vec::new();
        for piece in pieces(text) {
            match piece {
                Piece::Plain(plain) => filled.push_str(plain),
                Piece::Placeholder(name) => {
                    filled.push_str(&format!("{{{{{name}}}}}"));
                    expected.push(name.to_owned());
                }
                Piece::Input(name) => match self.value(name)? {
                    Given::Text(value) => {
                        for piece in pieces(value) {
                            match piece {
                                Piece::Plain(plain) => filled.push_str(&encode(plain)),
                                Piece::Input(other) | Piece::Placeholder(other) => {
                                    filled.push_str(&format!("{{{{{other}}}}}"));
                                    expected.push(other.to_owned());
                                }
                            }
                        }
                    }
                    Given::Integer(number) => filled.push_str(&number.to_string()),
                    Given::Boolean(boolean) => filled.push_str(&boolean.to_string()),
                    Given::List(_) => return Err(format!("the list `{name}` cannot stand inside of a text")),
                    Given::Secret(_) => return Err(format!("the secret `{name}` cannot stand in a text")),
                },
            }
        }
        match placeholders(&filled) {
            Ok(found) if found == expected => Ok(filled),
            _ => {
                Err("the braces of an input would make another placeholder; leave `{` and `}` out of it"
                    .into())
            }
        }
    }

    fn is_empty(&self, template: &str) -> bool {
        whole_input(template).is_some_and(|name| self.given.get(name) == Some(&Given::Text(String::new())))
    }

    fn map(&self, map: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
        let kept = map.iter().filter(|(_, text)| !self.is_empty(text));
        kept.map(|(name, text)| Ok((name.clone(), self.text(text, str::to_owned)?))).collect()
    }

    fn secrets(&self, map: &BTreeMap<String, SecretRef>) -> Result<BTreeMap<String, SecretRef>, String> {
        let resolve = |reference: &SecretRef| match reference {
            SecretRef::Env(template) => {
                match whole_input(template).map(|name| self.value(name)).transpose()? {
                    Some(Given::Secret(reference)) => Ok(reference.clone()),
                    _ => Err(format!(
                        "{template:?} is not a secret input; write {{env: \"{{{{input.NAME}}}}\"}}"
                    )),
                }
            }
            SecretRef::File(_) => Err("a preset holds no secret files of its own; use an input".into()),
        };
        map.iter().map(|(name, reference)| Ok((name.clone(), resolve(reference)?))).collect()
    }

    fn action(&self, action: &ActionSpec) -> Result<ActionSpec, String> {
        match action {
            ActionSpec::Command(command) => Ok(ActionSpec::Command(self.command(command)?)),
            ActionSpec::Http(http) => Ok(ActionSpec::Http(self.http(http)?)),
            ActionSpec::Git(_) | ActionSpec::Sql(_) | ActionSpec::Redis(_) | ActionSpec::Kubernetes(_) => {
                Err(NOT_OF_A_PRESET.into())
            }
        }
    }

    fn command(&self, command: &CommandSpec) -> Result<CommandSpec, String> {
        let mut argv = Vec::new();
        for template in &command.argv {
            let listed = whole_input(template).map(|name| self.value(name)).transpose()?;
            let texts = match listed {
                Some(Given::List(items)) => items.clone(),
                _ => vec![self.text(template, str::to_owned)?],
            };
            let begins_with_value = template.starts_with("{{");
            for text in texts {
                if let Some(problem) = argument_problem(begins_with_value, &text) {
                    return Err(problem);
                }
                argv.push(text);
            }
        }
        let directory = command.directory.as_ref().map(|directory| self.text(directory, str::to_owned));
        Ok(CommandSpec {
            argv,
            env: self.map(&command.env)?,
            secret_env: self.secrets(&command.secret_env)?,
            directory: directory.transpose()?,
            ..command.clone()
        })
    }

    fn http(&self, http: &HttpSpec) -> Result<HttpSpec, String> {
        let body = http
            .body
            .as_ref()
            .map(|body| if is_json(body) { self.json(body) } else { self.text(body, str::to_owned) });
        Ok(HttpSpec {
            method: http.method.clone(),
            url: self.url(&http.url)?,
            headers: self.map(&http.headers)?,
            secret_headers: self.secrets(&http.secret_headers)?,
            secret_prefixes: http.secret_prefixes.clone(),
            body: body.transpose()?,
            success: HttpSuccess {
                status: http.success.status.clone(),
                json: self.success(&http.success.json)?,
            },
        })
    }

    fn url(&self, template: &str) -> Result<String, String> {
        // An input may name scheme, host and the beginning of the path; it stands at the start and nowhere else.
        let (base, rest) = match pieces(template).as_slice() {
            [Piece::Plain(""), Piece::Input(name), ..] => {
                let format = self.inputs.get(*name).and_then(|input| input.format);
                let (Some(Format::Uri), Given::Text(base)) = (format, self.value(name)?) else {
                    return Err(format!("`{name}` stands where the host is, and is not of `format: uri`"));
                };
                let (_, rest) = template.split_once("}}").unwrap_or(("", ""));
                (base.trim_end_matches('/').to_owned(), rest)
            }
            _ => (String::new(), template),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let kept = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .filter(|pair| !pair.split_once('=').is_some_and(|(_, value)| self.is_empty(value)));
        let query: Vec<String> =
            kept.map(|pair| self.text(pair, percent_encode)).collect::<Result<_, _>>()?;
        let mut url = format!("{base}{}", self.text(path, percent_encode)?);
        if !query.is_empty() {
            url.push('?');
            url.push_str(&query.join("&"));
        }
        match url_problem(&url) {
            Some(problem) => Err(problem),
            None => Ok(url),
        }
    }

    /// A JSON body: lists are put in as JSON, texts into the strings that they stand in.
    fn json(&self, template: &str) -> Result<String, String> {
        let mut with_lists = String::new();
        for piece in pieces(template) {
            match piece {
                Piece::Plain(plain) => with_lists.push_str(plain),
                Piece::Placeholder(name) => with_lists.push_str(&format!("{{{{{name}}}}}")),
                Piece::Input(name) => match self.value(name)? {
                    Given::List(items) => {
                        let items: Vec<String> = items
                            .iter()
                            .map(|item| Ok(format!("\"{}\"", self.item(item)?)))
                            .collect::<Result<_, String>>()?;
                        with_lists.push_str(&format!("[{}]", items.join(",")));
                    }
                    _ => with_lists.push_str(&format!("{{{{input.{name}}}}}")),
                },
            }
        }
        self.text(&with_lists, json_without_braces)
    }

    fn item(&self, item: &str) -> Result<String, String> {
        let encoded = pieces(item).into_iter().map(|piece| match piece {
            Piece::Plain(plain) => json_without_braces(plain),
            Piece::Input(name) | Piece::Placeholder(name) => format!("{{{{{name}}}}}"),
        });
        Ok(encoded.collect())
    }

    fn success(&self, json: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>, String> {
        let pointer = |text: &str| text.replace('~', "~0").replace('/', "~1");
        json.iter().map(|(at, value)| Ok((self.text(at, pointer)?, self.word(value)?))).collect()
    }

    fn word(&self, value: &Value) -> Result<Value, String> {
        let Value::String(template) = value else {
            return Ok(value.clone());
        };
        Ok(match whole_input(template).map(|name| self.value(name)).transpose()? {
            Some(Given::Integer(number)) => Value::from(*number),
            Some(Given::Boolean(boolean)) => Value::from(*boolean),
            _ => Value::from(self.text(template, str::to_owned)?),
        })
    }
}

/// Whether a body is JSON, by its first letter: the braces of a placeholder are two.
pub(super) fn is_json(body: &str) -> bool {
    let body = body.trim_start();
    (body.starts_with('{') && !body.starts_with("{{")) || body.starts_with('[')
}

/// Escaped for the inside of a JSON string, braces too, so that no text can look like a placeholder.
fn json_without_braces(text: &str) -> String {
    json_escape(text).replace('{', "\\u007b").replace('}', "\\u007d")
}
