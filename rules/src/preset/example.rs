//! Examples of a preset: inputs, and what is sent for them to the letter.
//!
//! They are documentation (`turnback preset show`) and tests at once: each is carried out against a recorder, and what
//! arrives must be what stands here. An example never reaches the vendor.

use super::{Expanded, Preset};
use crate::action::{ActionSpec, InspectSpec, SecretRef, Undo};
use crate::runbook::{Values, fill_action};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Inputs, and what comes of them. Placeholders have the values of [`Example::VALUES`]; the secret in the variable
/// `NAME` is `secret-of-NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The inputs.
    #[serde(default)]
    pub with: BTreeMap<String, Value>,
    /// What is sent.
    pub sends: Sent,
    /// What is asked by `inspect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks: Option<Sent>,
    /// What is asked by `verify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifies: Option<Sent>,
    /// What `undo` sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Sent>,
    /// How the vendor answers when it is done; made from `success` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Answer>,
    /// How the vendor refuses; 403 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Answer>,
}

/// A request or a run of a program, as the other side sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sent {
    /// A request.
    Request {
        /// The method.
        method: String,
        /// The whole address.
        url: String,
        /// Every header that the preset sets, names in lower case.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
        /// The body: JSON as such, anything else as a text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Value>,
    },
    /// Something that no preset does.
    Other {
        /// In words.
        words: String,
    },
    /// A run of a program.
    Command {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Every variable that the preset sets.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
        /// Where it runs, if not in `/`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        directory: Option<String>,
    },
}

/// An answer of a vendor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body: JSON as such, anything else as a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

impl Example {
    /// What the placeholders of a plan stand for in examples.
    pub const VALUES: [(&'static str, &'static str); 7] = [
        ("service", "shop/checkout"),
        ("environment", "production"),
        ("from.version", "v1.4.0"),
        ("to.version", "v1.3.9"),
        ("before.unix", "1772366399"),
        ("plan", "p-0a1b2c-1"),
        ("key", "p-0a1b2c-1-9f8e7d6c"),
    ];
}

impl Sent {
    /// What an action sends. `secret` gives the text that stands for a secret; its value is not known here.
    pub fn of(action: &ActionSpec, secret: impl Fn(&SecretRef) -> String) -> Self {
        match action {
            ActionSpec::Command(command) => {
                let secrets = command.secret_env.iter().map(|(name, place)| (name.clone(), secret(place)));
                Sent::Command {
                    argv: command.argv.clone(),
                    env: command.env.clone().into_iter().chain(secrets).collect(),
                    directory: command.directory.clone(),
                }
            }
            ActionSpec::Http(http) => {
                let headers = http.headers.iter().map(|(name, text)| (name.to_lowercase(), text.clone()));
                let secrets = http.secret_headers.iter().map(|(name, place)| {
                    let prefix = http.secret_prefixes.get(name).map_or("", String::as_str);
                    (name.to_lowercase(), format!("{prefix}{}", secret(place)))
                });
                Sent::Request {
                    method: http.method.clone(),
                    url: http.url.clone(),
                    headers: headers.chain(secrets).collect(),
                    body: http.body.as_deref().map(body),
                }
            }
            ActionSpec::Git(_) | ActionSpec::Sql(_) | ActionSpec::Redis(_) | ActionSpec::Kubernetes(_) => {
                Sent::Other { words: action.words() }
            }
        }
    }
}

/// A body as examples hold it: JSON as such, anything else as a text.
pub fn body(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

impl Preset {
    /// The step's parts for an example, every placeholder filled in. Errors: in words, with the part at fault.
    pub fn carried_out(&self, with: &BTreeMap<String, Value>) -> Result<Expanded, String> {
        let told = |problems: Vec<(String, String)>| {
            problems.into_iter().map(|(key, words)| format!("{key}: {words}")).collect::<Vec<_>>().join("; ")
        };
        let values = Example::VALUES
            .into_iter()
            .fold(Values::default(), |values, (name, value)| values.with(name, value));
        let fill = |action: &ActionSpec| fill_action(action, &values).map_err(|bad| bad.to_string());
        let question = |question: &Option<InspectSpec>| {
            question
                .as_ref()
                .map(|one| Ok::<_, String>(InspectSpec { action: fill(&one.action)? }))
                .transpose()
        };
        let expanded = self.expand(with).map_err(told)?;
        Ok(Expanded {
            action: fill(&expanded.action)?,
            inspect: question(&expanded.inspect)?,
            verify: question(&expanded.verify)?,
            undo: match &expanded.undo {
                Undo::Action(action) => Undo::Action(fill(action)?),
                other => other.clone(),
            },
            ..expanded
        })
    }
}
