//! Runbooks: the templates that plans are drawn from.
//!
//! A placeholder `{{name}}` stands for one of a closed list of checked names, so that filling in is all the "template
//! language" there is: no expressions, no loops, nothing an event could smuggle in.

mod library;
mod named;
mod template;

pub use library::{SHIPPED_RUNBOOKS, shipped_runbook};
pub use template::{RunbookTemplate, RunbookUse};

use crate::action::{
    ActionSpec, CommandSpec, EffectClass, HttpSpec, HttpSuccess, InspectSpec, Reversibility, Undo,
};
use crate::deployment::Change;
use crate::ids::StepName;
use crate::units::Span;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A way to turn a service back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runbook {
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What is done, in this order.
    pub steps: Vec<RunbookStep>,
}

/// One step of a runbook: one effect on one target.
///
/// It is read by `preset/step.rs`: instead of `action:` it may name a preset, whose parts it takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunbookStep {
    /// Its name, unique within the runbook.
    pub name: StepName,
    /// Where in a written procedure it comes from: `Backend, step 2`. For people, who hold the plan against the procedure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What a deployment brought that this undoes. Empty: it belongs to every rollback.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub undoes: BTreeSet<Change>,
    /// What it does.
    pub action: ActionSpec,
    /// Whether it only asks or tells. When it fails behind a step that has turned something back, the plan stops and calls a
    /// person: an answer that is no brings no bad release back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
    /// What is known about repeating it. There is no default: somebody must have thought about it.
    pub class: EffectClass,
    /// How one looks whether it is already done. Required for `lookup` and `compare_and_set`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspect: Option<InspectSpec>,
    /// The question that must be answered with yes before it counts as done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<InspectSpec>,
    /// What undoes it.
    pub undo: Undo,
    /// How long it may take, looking and verifying included.
    pub timeout: Span,
    /// What is lost if it was a mistake.
    pub reversibility: Reversibility,
}

/// The longest time-out of a step: beyond it the time limit of the whole plan is broken anyway.
const LONGEST_STEP: Span = Span::from_minutes(15);
/// More steps than this is a program, not a runbook; a limit keeps plans readable and records small. The longest that ships,
/// `node-service` with a static front end, a down migration and everything optional, has 67.
const MOST_STEPS: usize = 96;
/// Of the words that say where a step comes from; they stand in one line of a plan.
const LONGEST_FROM: usize = 160;
/// Arguments of one command. Linux allows far more; a person who approves a plan reads them.
const MOST_ARGUMENTS: usize = 128;

/// The names that may stand between `{{` and `}}`.
///
/// `before.unix` is the second before the deployment happened, in seconds since 1970: what a restore to a point in time
/// asks for.
pub const PLACEHOLDERS: [&str; 7] =
    ["service", "environment", "from.version", "to.version", "before.unix", "plan", "key"];

/// The values of the placeholders for one plan and step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Sets one value; unknown names are ignored by construction since they are compile-time texts of
    /// [`PLACEHOLDERS`].
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        debug_assert!(PLACEHOLDERS.contains(&name), "unknown placeholder {name}");
        self.0.insert(name, value.into());
        self
    }
}

/// Why a text with placeholders was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// `{{` without `}}`.
    #[error("{text:?} opens a placeholder with {{{{ and does not close it with }}}}")]
    Unclosed {
        /// The text.
        text: String,
    },
    /// Not one of the known names.
    #[error("{{{{{name}}}}} is no placeholder; there are {}", PLACEHOLDERS.join(", "))]
    Unknown {
        /// What stood there.
        name: String,
    },
    /// Known, and without a value in this plan.
    #[error("{{{{{name}}}}} has no value here")]
    NoValue {
        /// The placeholder.
        name: String,
    },
    /// Filled in, it would not be inert where it stands.
    #[error("{text:?} cannot be used: {problem}")]
    Unfit {
        /// The filled text.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Splits `text` at its placeholders: `Err(plain text)` and `Ok(placeholder)` in turn.
fn pieces(text: &str) -> Result<Vec<Result<&str, &str>>, BadTemplate> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else {
            return Err(BadTemplate::Unclosed { text: text.into() });
        };
        let name = name.trim();
        if !PLACEHOLDERS.contains(&name) {
            return Err(BadTemplate::Unknown { name: name.chars().take(64).collect() });
        }
        found.push(Err(before));
        found.push(Ok(name));
        rest = behind;
    }
    found.push(Err(rest));
    Ok(found)
}

/// Checks a text's placeholders without values.
pub fn check_template(text: &str) -> Result<(), BadTemplate> {
    pieces(text).map(|_| ())
}

/// Fills the placeholders of a text; `encode` is applied to each value for the place where it will stand.
pub fn fill(text: &str, values: &Values, encode: impl Fn(&str) -> String) -> Result<String, BadTemplate> {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text)? {
        match piece {
            Err(plain) => filled.push_str(plain),
            Ok(name) => {
                let value = values.0.get(name).ok_or_else(|| BadTemplate::NoValue { name: name.into() })?;
                filled.push_str(&encode(value));
            }
        }
    }
    Ok(filled)
}

/// The placeholders of a text in their order.
pub(crate) fn placeholders(text: &str) -> Result<Vec<String>, BadTemplate> {
    Ok(pieces(text)?.into_iter().filter_map(Result::ok).map(str::to_owned).collect())
}

/// Why a filled argument is more than one inert argument, if it is. `begins_with_value`: what was filled in stands at
/// its beginning, where a program would take `-rf` for an option.
pub(crate) fn argument_problem(begins_with_value: bool, argument: &str) -> Option<String> {
    if begins_with_value && argument.starts_with('-') {
        return Some("it begins with `-` where a value is meant, and would be taken for an option".into());
    }
    if argument.contains('\0') {
        return Some("it holds a NUL byte".into());
    }
    let climbs = argument.contains('/') && argument.split(['/', '=', ':']).any(|part| part == "..");
    (climbs || argument == "..").then(|| "`..` in a path leads out of the directory that is meant".into())
}

/// Why a filled address leads elsewhere than its template says, if it does: `.` and `..` are taken out of paths before
/// a request is sent, also when they are percent-encoded.
pub(crate) fn url_problem(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let segments = path.split('/').skip(1).map(|segment| segment.to_ascii_lowercase().replace("%2e", "."));
    for segment in segments {
        if matches!(segment.as_str(), "." | "..") {
            return Some("`.` or `..` as a segment of the path leads elsewhere".into());
        }
    }
    path.split_once('/')
        .is_some_and(|(_, rest)| rest.contains("//") || rest.starts_with('/'))
        .then(|| "a segment of the path is empty".into())
}

fn checked(text: String, problem: Option<String>) -> Result<String, BadTemplate> {
    match problem {
        None => Ok(text),
        Some(problem) => Err(BadTemplate::Unfit { text: text.chars().take(200).collect(), problem }),
    }
}

fn fill_argument(template: &str, values: &Values) -> Result<String, BadTemplate> {
    let filled = fill(template, values, as_it_is)?;
    let problem = if template.contains("{{") {
        argument_problem(template.trim_start().starts_with("{{"), &filled)
    } else {
        None
    };
    checked(filled, problem)
}

fn fill_url(template: &str, values: &Values) -> Result<String, BadTemplate> {
    let filled = fill(template, values, percent_encode)?;
    let problem = if template.contains("{{") { url_problem(&filled) } else { None };
    checked(filled, problem)
}

/// A header or a variable: nothing that could begin another one.
fn fill_line(template: &str, values: &Values) -> Result<String, BadTemplate> {
    let filled = fill(template, values, as_it_is)?;
    let bad = template.contains("{{") && filled.chars().any(char::is_control);
    checked(filled, bad.then(|| "it holds a control character".into()))
}

fn fill_success(success: &HttpSuccess, values: &Values) -> Result<HttpSuccess, BadTemplate> {
    let filled = success.json.iter().map(|(pointer, value)| {
        let value = match value {
            serde_json::Value::String(text) => fill(text, values, as_it_is)?.into(),
            other => other.clone(),
        };
        let pointer = fill(pointer, values, |value| value.replace('~', "~0").replace('/', "~1"))?;
        Ok((pointer, value))
    });
    Ok(HttpSuccess { status: success.status.clone(), json: filled.collect::<Result<_, BadTemplate>>()? })
}

fn as_it_is(value: &str) -> String {
    value.to_owned()
}

/// Percent-encodes everything but unreserved characters, for one path segment or query value.
pub(crate) fn percent_encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Escapes for the inside of a JSON string.
pub(crate) fn json_escape(value: &str) -> String {
    let quoted = serde_json::Value::String(value.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// An action with every placeholder filled in.
pub fn fill_action(action: &ActionSpec, values: &Values) -> Result<ActionSpec, BadTemplate> {
    let fill_map = |map: &BTreeMap<String, String>| -> Result<BTreeMap<String, String>, BadTemplate> {
        map.iter().map(|(name, text)| Ok((name.clone(), fill_line(text, values)?))).collect()
    };
    Ok(match action {
        ActionSpec::Command(command) => ActionSpec::Command(CommandSpec {
            argv: command.argv.iter().map(|text| fill_argument(text, values)).collect::<Result<_, _>>()?,
            env: fill_map(&command.env)?,
            ..command.clone()
        }),
        ActionSpec::Http(http) => ActionSpec::Http(HttpSpec {
            url: fill_url(&http.url, values)?,
            headers: fill_map(&http.headers)?,
            body: http.body.as_ref().map(|body| fill(body, values, json_escape)).transpose()?,
            success: fill_success(&http.success, values)?,
            ..http.clone()
        }),
        ActionSpec::Git(git) => ActionSpec::Git(Box::new(git.filled(values)?)),
        ActionSpec::Sql(sql) => ActionSpec::Sql(Box::new(sql.filled(values)?)),
        ActionSpec::Redis(redis) => ActionSpec::Redis(redis.filled(values)?),
        ActionSpec::Kubernetes(kubernetes) => ActionSpec::Kubernetes(Box::new(kubernetes.filled(values)?)),
    })
}

/// Everything wrong with a runbook, each with the path of the key at fault (`steps.2.action.command.argv`).
pub fn problems(runbook: &Runbook) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    if runbook.steps.is_empty() {
        found.push(("steps".into(), "a runbook without steps turns nothing back; add a step".into()));
    }
    if runbook.steps.len() > MOST_STEPS {
        found.push((
            "steps".into(),
            format!("{} steps; at most {MOST_STEPS} are allowed", runbook.steps.len()),
        ));
    }
    for (number, step) in runbook.steps.iter().enumerate() {
        let at = format!("steps.{number}");
        if !names.insert(&step.name) {
            found.push((format!("{at}.name"), format!("another step is called {} too", step.name)));
        }
        if let Some(problem) = step.from.as_deref().and_then(template::from_problem) {
            found.push((format!("{at}.from"), problem));
        }
        if step.timeout == Span::default() || step.timeout > LONGEST_STEP {
            found.push((format!("{at}.timeout"), format!("must be more than 0s and at most {LONGEST_STEP}")));
        }
        let must_look = matches!(step.class, EffectClass::Lookup | EffectClass::CompareAndSet);
        if must_look && step.inspect.is_none() && !step.action.looks_itself() {
            let text =
                "this class is looked up before it is repeated; add `inspect`, or say `class: one_shot`";
            found.push((format!("{at}.class"), text.into()));
        }
        action_problems(&step.action, &format!("{at}.action"), &mut found);
        if let Some(inspect) = &step.inspect {
            action_problems(&inspect.action, &format!("{at}.inspect.action"), &mut found);
        }
        if let Some(verify) = &step.verify {
            action_problems(&verify.action, &format!("{at}.verify.action"), &mut found);
        }
        step_problems(&step.action, &format!("{at}.action"), step, &mut found);
        if let Undo::Action(action) = &step.undo {
            action_problems(action, &format!("{at}.undo.action"), &mut found);
            step_problems(action, &format!("{at}.undo.action"), step, &mut found);
        }
    }
    found
}

pub(crate) fn action_problems(action: &ActionSpec, at: &str, found: &mut Vec<(String, String)>) {
    match action {
        ActionSpec::Command(command) => command_problems(command, &format!("{at}.command"), found),
        ActionSpec::Http(http) => http_problems(http, &format!("{at}.http"), found),
        ActionSpec::Git(git) => found.extend(git.problems(&format!("{at}.git"))),
        ActionSpec::Sql(sql) => found.extend(sql.problems(&format!("{at}.sql"))),
        ActionSpec::Redis(redis) => found.extend(redis.problems(&format!("{at}.redis"))),
        ActionSpec::Kubernetes(kubernetes) => kubernetes.problems(&format!("{at}.kubernetes"), found),
    }
}

/// What does not go together with what the step says about itself.
fn step_problems(action: &ActionSpec, at: &str, step: &RunbookStep, found: &mut Vec<(String, String)>) {
    if let ActionSpec::Sql(sql) = action {
        found.extend(sql.step_problems(&format!("{at}.sql"), step.class, step.reversibility));
    }
}

fn template_problems<'a>(
    texts: impl Iterator<Item = &'a String>,
    at: &str,
    found: &mut Vec<(String, String)>,
) {
    found.extend(
        texts.filter_map(|text| check_template(text).err()).map(|bad| (at.to_owned(), bad.to_string())),
    );
}

fn command_problems(command: &CommandSpec, at: &str, found: &mut Vec<(String, String)>) {
    let argv = format!("{at}.argv");
    match command.argv.first() {
        None => found.push((argv.clone(), "is empty; name the program first".into())),
        Some(program) if !program.starts_with('/') => {
            let text = format!(
                "the program {program:?} must be an absolute path, so that PATH cannot change what runs"
            );
            found.push((argv.clone(), text));
        }
        Some(program) if program.contains("{{") => {
            found.push((argv.clone(), "the program itself may not be a placeholder".into()));
        }
        Some(_) => {}
    }
    if command.argv.len() > MOST_ARGUMENTS {
        found.push((argv.clone(), format!("{} arguments; at most {MOST_ARGUMENTS}", command.argv.len())));
    }
    if command.argv.iter().any(|argument| argument.contains('\0')) {
        found.push((argv.clone(), "an argument holds a NUL byte".into()));
    }
    template_problems(command.argv.iter(), &argv, found);
    template_problems(command.env.values(), &format!("{at}.env"), found);
    if command.success.is_empty() {
        found.push((format!("{at}.success"), "is empty, so that nothing could ever succeed".into()));
    }
}

fn http_problems(http: &HttpSpec, at: &str, found: &mut Vec<(String, String)>) {
    const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    if !METHODS.contains(&http.method.as_str()) {
        found.push((
            format!("{at}.method"),
            format!("{:?} is not one of {}", http.method, METHODS.join(", ")),
        ));
    }
    let rest = http.url.strip_prefix("https://").or_else(|| http.url.strip_prefix("http://"));
    match rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default()) {
        None => found
            .push((format!("{at}.url"), "must begin with https:// (or http:// on a trusted network)".into())),
        Some("") => found.push((format!("{at}.url"), "names no host".into())),
        Some(host) if host.contains("{{") || host.contains('@') => {
            let text =
                "the host may hold neither placeholders nor credentials; they belong in the configuration";
            found.push((format!("{at}.url"), text.into()));
        }
        Some(_) => {}
    }
    if http.success.status.is_empty() {
        found.push((format!("{at}.success.status"), "is empty, so that nothing could ever succeed".into()));
    }
    template_problems(std::iter::once(&http.url), &format!("{at}.url"), found);
    template_problems(http.headers.values(), &format!("{at}.headers"), found);
    template_problems(http.body.iter(), &format!("{at}.body"), found);
    let texts: Vec<String> =
        http.success.json.values().filter_map(|value| value.as_str().map(str::to_owned)).collect();
    template_problems(texts.iter().chain(http.success.json.keys()), &format!("{at}.success.json"), found);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values::default().with("service", "shop/checkout").with("to.version", "v1\"x")
    }

    #[test]
    fn filling_encodes_for_the_place() {
        assert_eq!(fill("a-{{service}}-b", &values(), as_it_is).unwrap(), "a-shop/checkout-b");
        assert_eq!(fill("/s/{{ service }}", &values(), percent_encode).unwrap(), "/s/shop%2Fcheckout");
        assert_eq!(
            fill("{\"v\":\"{{to.version}}\"}", &values(), json_escape).unwrap(),
            "{\"v\":\"v1\\\"x\"}"
        );
        assert!(matches!(fill("{{nope}}", &values(), as_it_is), Err(BadTemplate::Unknown { .. })));
        assert!(matches!(fill("{{plan}}", &values(), as_it_is), Err(BadTemplate::NoValue { .. })));
        assert!(matches!(fill("{{plan", &values(), as_it_is), Err(BadTemplate::Unclosed { .. })));
    }

    #[test]
    fn values_are_never_read_as_templates() {
        let sneaky = Values::default().with("service", "{{plan}}");
        assert_eq!(fill("{{service}}", &sneaky, as_it_is).unwrap(), "{{plan}}");
    }

    #[test]
    fn problems_name_the_key() {
        let text = r#"
steps:
- name: a
  class: lookup
  timeout: 0s
  action: { command: { argv: [sh, "{{nope}}"], success: [] } }
- name: a
  class: one_shot
  action: { http: { method: BREW, url: "https://{{service}}/x", success: { status: [] } } }
"#;
        let runbook: Runbook = serde_saphyr::from_str(text).unwrap();
        let keys: Vec<String> = problems(&runbook).into_iter().map(|(key, _)| key).collect();
        for key in [
            "steps.0.timeout",
            "steps.0.class",
            "steps.0.action.command.argv",
            "steps.0.action.command.success",
            "steps.1.name",
            "steps.1.action.http.method",
            "steps.1.action.http.url",
            "steps.1.action.http.success.status",
        ] {
            assert!(keys.iter().any(|found| found == key), "{key} is missing in {keys:?}");
        }
    }
}
