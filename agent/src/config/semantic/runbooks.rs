//! Runbooks as services name them: whether there is one of the name, and whether the values fit its parameters.

use super::super::report::{Findings, Show};
use super::{Subject, secret_problem, sentence};
use rules::action::{ActionSpec, SecretRef};
use rules::runbook::{Runbook, RunbookStep, RunbookUse, SHIPPED_RUNBOOKS, shipped_runbook};
use std::collections::{BTreeMap, BTreeSet};

/// Adds what is wrong with the runbook that a service names.
pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings, service: &str, used: &RunbookUse) {
    let start = ["services", service];
    let own = subject.written_keys(&["runbooks"]);
    let long = subject.written_keys(&["services", service, "runbook"]).contains("name");
    let key = if long { "runbook.name" } else { "runbook" };
    if own.contains(used.name.as_str()) {
        if !used.with.is_empty() {
            let text = format!("the runbook `{}` of this configuration has no parameters", used.name);
            if let Some(finding) = subject.add(findings, &start, "runbook.with", text) {
                finding.advice = Some("leave `with` out, or give your runbook another name: it stands before the one that ships".into());
            }
        }
        return;
    }
    let Some(template) = shipped_runbook(&used.name) else {
        let names: BTreeSet<&str> =
            own.iter().copied().chain(SHIPPED_RUNBOOKS.iter().map(|shipped| shipped.name)).collect();
        let what = ("runbook", "the name of a runbook");
        subject.unknown_name(findings, (&start, key), what, &used.name, &names);
        return;
    };
    match template.fill(&used.with) {
        Ok(runbook) => filled(subject, findings, service, used, &runbook),
        Err(problems) => {
            for (at, words) in problems {
                misfit(subject, findings, service, used, (&at, &words));
            }
        }
    }
}

/// One parameter, or one step that the values do not fit into.
fn misfit(
    subject: &Subject<'_>,
    findings: &mut Findings,
    service: &str,
    used: &RunbookUse,
    (at, words): (&str, &str),
) {
    let parameter = at.strip_prefix("input `").and_then(|name| name.strip_suffix('`'));
    let given = parameter.filter(|name| used.with.contains_key(*name));
    let (what, expected) = words.split_once("; expected ").unwrap_or((words, ""));
    let text = match parameter {
        Some(name) => format!("the parameter `{name}` of the runbook `{}`: {what}", used.name),
        None => format!("the runbook `{}` cannot be filled in at its {at}: {what}", used.name),
    };
    let key = given.map_or("runbook".to_owned(), |name| format!("runbook.with.{name}"));
    if let Some(finding) = subject.add(findings, &["services", service], &key, text) {
        // It may be a secret that somebody wrote out.
        finding.show = Show::UpToHere;
        if !expected.is_empty() {
            finding.expected = Some(expected.to_owned());
        }
        if let (Some(name), None) = (parameter, given) {
            finding.advice = Some(format!("write runbook: {{ name: {}, with: {{ {name}: … }} }}", used.name));
        }
    }
}

/// What is wrong with the runbook that came out.
fn filled(
    subject: &Subject<'_>,
    findings: &mut Findings,
    service: &str,
    used: &RunbookUse,
    runbook: &Runbook,
) {
    let mut tell = |key: String, words: &str| {
        let last = key.rsplit('.').next().unwrap_or_default().to_owned();
        let step = key.strip_prefix("steps.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        let step = step.and_then(|number| runbook.steps.get(number)).map(|step| step.name.to_string());
        let at = step.map_or(key, |name| format!("step `{name}`"));
        let text =
            format!("the runbook `{}` with these values, at its {at}: {}", used.name, sentence(&last, words));
        if let Some(finding) = subject.add(findings, &["services", service], "runbook", text) {
            finding.show = Show::UpToHere;
        }
    };
    for (key, words) in rules::runbook::problems(runbook) {
        tell(key, &words);
    }
    for (key, secret) in secrets(runbook) {
        if let Some(words) = secret_problem(secret) {
            tell(key, words);
        }
    }
}

/// Every reference to a secret in a runbook, each with the path of its key.
pub(super) fn secrets<'a>(runbook: &'a Runbook) -> Vec<(String, &'a SecretRef)> {
    let mut found = Vec::new();
    for (number, RunbookStep { action, inspect, verify, undo, .. }) in runbook.steps.iter().enumerate() {
        let undo = match undo {
            rules::action::Undo::Action(action) => Some(action),
            rules::action::Undo::NotNeeded | rules::action::Undo::Impossible => None,
        };
        let inspect = inspect.as_ref().map(|inspect| &inspect.action);
        let verify = verify.as_ref().map(|verify| &verify.action);
        let all = [
            ("action", Some(action)),
            ("inspect.action", inspect),
            ("verify.action", verify),
            ("undo.action", undo),
        ];
        for (key, action) in all {
            let named = |secrets: &'a BTreeMap<String, SecretRef>| -> Vec<(String, &'a SecretRef)> {
                secrets.iter().map(|(name, secret)| (name.clone(), secret)).collect()
            };
            let (kind, secrets) = match action {
                None | Some(ActionSpec::Kubernetes(_)) => continue,
                Some(ActionSpec::Command(command)) => ("command.secret_env", named(&command.secret_env)),
                Some(ActionSpec::Http(http)) => ("http.secret_headers", named(&http.secret_headers)),
                Some(ActionSpec::Git(git)) => ("git", git.secrets()),
                Some(ActionSpec::Sql(sql)) => ("sql", sql.secrets()),
                Some(ActionSpec::Redis(redis)) => ("redis", redis.secrets()),
            };
            let place = |(name, secret)| (format!("steps.{number}.{key}.{kind}.{name}"), secret);
            found.extend(secrets.into_iter().map(place));
        }
    }
    found
}
