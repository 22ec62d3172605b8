//! What can be wrong with a service although each of its values is well formed.

use super::super::report::Findings;
use super::super::tree::Node;
use super::super::types::{Service, SignalConfig};
use super::{Subject, bounds, runbooks};
use crate::signals::check_selector;
use rules::decision::AutonomyLevel;
use rules::series::whole_value;
use rules::signal::{Measure, Role};
use std::collections::BTreeSet;

/// Adds everything that is wrong with the services.
pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let matrices = subject.matrix_names();
    let sources = subject.source_names();
    for (name, service) in &subject.config.services {
        let start = ["services", name.as_str()];
        let own = |part: &str| subject.written_keys(&start).contains(part);
        if let Some(matrix) = service.matrix.as_ref().filter(|_| own("matrix")) {
            subject.unknown_name(
                findings,
                (&start, "matrix"),
                ("matrix", "the name of a matrix"),
                matrix,
                &matrices,
            );
        }
        if let Some(used) = &service.runbook {
            runbooks::check(subject, findings, name.as_str(), used);
        }
        // Mistakes in the defaults are told there.
        if own("watch") {
            subject.add_all(findings, &["services", name.as_str(), "watch"], service.watch.problems());
        }
        if own("guards") {
            subject.add_all(findings, &["services", name.as_str(), "guards"], service.guards.problems());
        }
        if own("contacts") {
            let start = ["services", name.as_str(), "contacts"];
            subject.add_all(findings, &start, super::contact_problems(&service.contacts));
        }
        checkpoints(subject, findings, name.as_str(), service);
        if own("statistics") {
            subject.add_all(
                findings,
                &["services", name.as_str(), "statistics"],
                service.statistics.problems(),
            );
        }
        if let Some(compare) = &service.compare {
            subject.add_all(findings, &["services", name.as_str(), "compare"], compare.problems());
        }
        autonomy(subject, findings, name.as_str(), service);
        patience(subject, findings, name.as_str(), service);
        for (signal, config) in &service.signals {
            let start = ["services", name.as_str(), "signals", signal.as_str()];
            let what = ("signal source", "the name of a source under `signals`");
            subject.unknown_name(findings, (&start, "source"), what, &config.source, &sources);
            measure(subject, findings, &start, config);
        }
        bounds::check(subject, findings, name.as_str(), service);
    }
}

fn autonomy(subject: &Subject<'_>, findings: &mut Findings, name: &str, service: &Service) {
    let level = service.autonomy.level;
    let start = ["services", name];
    let own_level = subject
        .written
        .get("services")
        .and_then(|all| all.get(name)?.get("autonomy")?.get("level"))
        .is_some();
    // With a level from the defaults it is the service that lacks something.
    let key = if own_level { "autonomy.level" } else { "" };
    let gone = |part: &str| subject.removed.contains(&["services", name, part].map(str::to_owned).to_vec());
    if level > AutonomyLevel::Observe && service.runbook.is_none() && !gone("runbook") {
        let text = format!(
            "the service `{name}` has autonomy `{level}` and no runbook, so nothing could be turned back"
        );
        if let Some(finding) = add_here(subject, findings, &start, key, text) {
            finding.expected = Some("a runbook, or `level: observe`".into());
            finding.advice = Some("add `runbook: NAME` to the service".into());
        }
    }
    for environment in service.safe_to_drill.iter().filter(|one| !service.environments.contains(one)) {
        let text =
            format!("`safe_to_drill` names {environment}, which is none of the service's environments");
        if let Some(finding) = add_here(subject, findings, &start, "safe_to_drill", text) {
            finding.advice = Some("add it to `environments`, or take it out here".into());
        }
    }
    let critical = service.signals.values().any(|signal| signal.role() == Role::Critical);
    let signals_in_doubt = subject.in_doubt(&["services", name, "signals"].map(str::to_owned));
    if level == AutonomyLevel::Auto && !critical && !signals_in_doubt {
        let text = format!(
            "the service `{name}` has autonomy `auto` and no critical signal, so it would act without proof"
        );
        if let Some(finding) = add_here(subject, findings, &start, key, text) {
            finding.expected = Some("at least one signal with `role: critical`".into());
            finding.advice =
                Some("add a signal of errors or availability, or lower the level to `approve`".into());
        }
    }
}

/// At the service's own key, or at the service: in the tree the level of the defaults stands filled in.
fn add_here<'f>(
    subject: &Subject<'_>,
    findings: &'f mut Findings,
    start: &[&str],
    key: &str,
    text: String,
) -> Option<&'f mut super::Finding> {
    let start: Vec<String> = start.iter().map(|step| (*step).to_owned()).collect();
    Some(findings.add_at(subject.written, &start, key, text))
}

/// Bounds of checkpoints that say nothing about a signal of this kind: they would be unknown for ever.
fn checkpoints(subject: &Subject<'_>, findings: &mut Findings, name: &str, service: &Service) {
    for (checkpoint, settings) in &service.watch.checkpoints {
        for (signal, target) in &settings.bounds {
            let config = service.signals.get(signal);
            let Some(misfit) = config.and_then(|config| target.misfit(&config.measure)) else { continue };
            let text = format!("checkpoint `{checkpoint}` wants `{signal}` {target}: {misfit}");
            let at = format!("watch.checkpoints.{checkpoint}.bounds.{signal}");
            if let Some(finding) = subject.add(findings, &["services", name], &at, text) {
                finding.advice = Some("change the bound, the kind of the signal or its name".into());
            }
        }
    }
}

fn patience(subject: &Subject<'_>, findings: &mut Findings, name: &str, service: &Service) {
    let Some(matrix) = service.matrix.as_deref().and_then(|matrix| subject.matrices.get(matrix)) else {
        return;
    };
    let matrix_name = service.matrix.as_deref().unwrap_or_default();
    if subject.in_doubt(&["matrices", matrix_name].map(str::to_owned)) {
        return;
    }
    let mitigations: BTreeSet<&str> =
        matrix.rows.iter().flat_map(|row| &row.first).map(|first| first.name.as_str()).collect();
    for mitigation in subject.written_keys(&["services", name, "patience"]) {
        if !service.patience.contains_key(mitigation) {
            continue;
        }
        let what = ("mitigation", "a mitigation of the service's matrix");
        subject.unknown_name(
            findings,
            (&["services", name, "patience"], mitigation),
            what,
            mitigation,
            &mitigations,
        );
    }
}

fn measure(subject: &Subject<'_>, findings: &mut Findings, start: &[&str], config: &SignalConfig) {
    let mut problems = Vec::new();
    let key = match &config.measure {
        Measure::Proportion { bad, .. } => {
            if bad.is_empty() {
                problems.push((
                    "measure.proportion.bad".to_owned(),
                    "is empty, so nothing would be bad; write for example {code: \"5..\"}".to_owned(),
                ));
            }
            for (label, pattern) in bad {
                let at = format!("measure.proportion.bad.{label}");
                if !is_label(label) {
                    problems.push((at.clone(), format!("{label:?} is not the name of a label")));
                }
                if let Err(error) = whole_value(pattern) {
                    let words = error.to_string();
                    let words = words.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    problems.push((at, format!("{pattern:?} is not a regular expression: {words}")));
                }
            }
            "proportion.of"
        }
        Measure::Latency { quantile, .. } => {
            if !(*quantile > 0.0 && *quantile < 1.0) {
                let text = format!("is {quantile}; expected more than 0 and less than 1, such as 0.95");
                problems.push(("measure.latency.quantile".to_owned(), text));
            }
            "latency.buckets"
        }
        Measure::Availability { .. } => "availability.up",
        Measure::Gauge { .. } => "gauge.value",
    };
    let selectors = [
        (format!("measure.{key}"), Some(config.measure.selector())),
        ("targets".to_owned(), config.targets.as_deref()),
    ];
    if let Some(weight) = config.weight.filter(|weight| !(*weight > 0.0 && weight.is_finite())) {
        problems.push(("weight".to_owned(), format!("is {weight}; expected a positive number, such as 0.5")));
    }
    for (key, selector) in selectors {
        if let Some(Err(error)) = selector.map(check_selector) {
            problems.push((key, error.to_string()));
        }
    }
    subject.add_all(findings, start, problems);
}

fn is_label(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Whether a service was written with something of its own at this path.
pub(super) fn has(node: &Node, path: &[&str]) -> bool {
    path.iter().try_fold(node, |node, step| node.get(step)).is_some()
}
