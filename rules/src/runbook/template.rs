//! A runbook with parameters: what ships is somebody's whole procedure, and only addresses, names and choices are another
//! team's own.
//!
//! Parameters are the inputs of presets, by the same schema, and are filled in by the same code (`preset/expand.rs`), once,
//! when a configuration is read. What comes out is an ordinary [`Runbook`]: plans, ledger and executor know nothing about
//! parameters. A step may be there `only:` for some choices; that is decided here too, so that a plan leaves none.

use super::{LONGEST_FROM, Runbook, RunbookStep};
use crate::preset::{Filler, Input, InputKind, inputs_in, inputs_problems};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A runbook that waits for its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunbookTemplate {
    /// Its name, which is also the name of its file.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// What one should know before it is used: what stays for people, what it needs, what it leaves out.
    pub notes: String,
    /// What a service fills in (`with:`).
    #[serde(default)]
    pub parameters: BTreeMap<String, Input>,
    /// The steps as they are written: those of a [`Runbook`], with `{{input.NAME}}` and `only: {NAME: [value]}`.
    pub steps: Vec<Value>,
}

/// A runbook as a service names it: `runbook: NAME`, or `runbook: {name: NAME, with: {…}}`.
#[derive(Debug, Clone, PartialEq)]
pub struct RunbookUse {
    /// The runbook.
    pub name: String,
    /// The values of its parameters.
    pub with: BTreeMap<String, Value>,
}

/// A step before it is filled in: what decides whether it is there, and the rest.
struct Part<'a> {
    name: &'a str,
    only: BTreeMap<&'a str, &'a Vec<Value>>,
    rest: Value,
}

impl RunbookTemplate {
    /// The runbook for these values. The error names each parameter that is unknown, missing or wrong, with what was
    /// expected (``input `NAME` ``), or the step that the values do not fit into (`step NAME`).
    ///
    /// Only what a step that is there needs must be given.
    pub fn fill(&self, with: &BTreeMap<String, Value>) -> Result<Runbook, Vec<(String, String)>> {
        let parts = self.parts()?;
        let chosen = |name: &str| with.get(name).or(self.parameters.get(name)?.default.as_ref());
        let is_there = |part: &&Part<'_>| {
            let fits = |(name, values): (&&str, &&Vec<Value>)| {
                chosen(name).is_some_and(|value| values.contains(value))
            };
            part.only.iter().all(fits)
        };
        let kept: Vec<&Part<'_>> = parts.iter().filter(is_there).collect();
        let mut needed: BTreeSet<String> =
            parts.iter().flat_map(|part| part.only.keys().map(|name| (*name).to_owned())).collect();
        kept.iter().for_each(|part| inputs_in(&part.rest, &mut needed));
        let filler = Filler::new(&self.parameters, with, |name| needed.contains(name))?;
        let steps = kept.into_iter().map(|part| {
            let wrong = |words: String| vec![(format!("step {}", part.name), words)];
            let filled = filler.part(&part.rest).map_err(wrong)?;
            serde_json::from_value::<RunbookStep>(filled).map_err(|error| wrong(error.to_string()))
        });
        Ok(Runbook { summary: Some(self.summary.clone()), steps: steps.collect::<Result<_, _>>()? })
    }

    /// Everything wrong with the template itself, each with the key at fault. What comes out of it is checked by
    /// [`problems`](super::problems) once it is filled in.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (key, text) in [("summary", &self.summary), ("notes", &self.notes)] {
            if text.trim().is_empty() {
                found.push((key.to_owned(), "is empty; people read it before they use the runbook".into()));
            }
        }
        let parts = match self.parts() {
            Ok(parts) => parts,
            Err(problems) => return problems,
        };
        let mut used = BTreeSet::new();
        for part in &parts {
            inputs_in(&part.rest, &mut used);
            for (name, values) in &part.only {
                used.insert((*name).to_owned());
                found.extend(
                    self.choice_problem(name, values).map(|words| (format!("step {}", part.name), words)),
                );
            }
        }
        for name in used.iter().filter(|name| !self.parameters.contains_key(*name)) {
            found.push(("steps".into(), format!("there is no parameter `{name}`")));
        }
        inputs_problems(&self.parameters, "parameters", &used, &mut found);
        found
    }

    /// The names of the steps in their order, with those that are there for some choices only.
    pub fn step_names(&self) -> Vec<&str> {
        self.steps.iter().filter_map(|step| step.get("name")?.as_str()).collect()
    }

    /// What keeps a choice from being one.
    fn choice_problem(&self, name: &str, values: &[Value]) -> Option<String> {
        let input = self.parameters.get(name)?;
        if input.default.is_none() {
            return Some(format!("`only` asks for `{name}`, which has no default"));
        }
        let boolean = input.kind == InputKind::Boolean;
        let known = |value: &Value| (boolean && value.is_boolean()) || input.choices.contains(value);
        let wrong = values.iter().find(|value| !known(value))?;
        Some(format!("`only` asks whether `{name}` is {wrong}, which it never is"))
    }

    fn parts(&self) -> Result<Vec<Part<'_>>, Vec<(String, String)>> {
        let parts = self.steps.iter().enumerate().map(|(number, step)| {
            let wrong = |words: &str| vec![(format!("steps.{number}"), words.to_owned())];
            let map = step.as_object().ok_or_else(|| wrong("must be a map"))?;
            let name = map.get("name").and_then(Value::as_str).ok_or_else(|| wrong("has no name"))?;
            let mut only = BTreeMap::new();
            if let Some(choices) = map.get("only") {
                let choices = choices.as_object().ok_or_else(|| wrong("`only` must be a map of lists"))?;
                for (input, values) in choices {
                    let values = values.as_array().ok_or_else(|| wrong("`only` must be a map of lists"))?;
                    only.insert(input.as_str(), values);
                }
            }
            let rest =
                map.iter().filter(|(key, _)| *key != "only").map(|(key, value)| (key.clone(), value.clone()));
            Ok(Part { name, only, rest: Value::Object(rest.collect()) })
        });
        parts.collect()
    }
}

/// What keeps the words of [`RunbookStep::from`] from being one line that a person reads.
pub(super) fn from_problem(from: &str) -> Option<String> {
    let unfit =
        from.trim().is_empty() || from.chars().count() > LONGEST_FROM || from.chars().any(char::is_control);
    unfit.then(|| format!("must be one line of at most {LONGEST_FROM} characters"))
}
