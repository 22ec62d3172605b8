//! The runbooks that ship: sound with sample values in each of their choices, complete against the written procedures they
//! come from, and refusing what does not fit.
//!
//! `runbooks/trace/NAME.yaml` lists what a procedure says, in our own words and in its order. Each entry is covered by a step
//! whose `from` names its place, in that order; where the coordinated order differs, the entry says why.

use jiff::Timestamp;
use rules::action::{ActionSpec, EffectClass, FailureKind, Reversibility, StepOutcome, Undo};
use rules::deployment::{Deployment, Release};
use rules::execution::{Direction, Execution, ExecutionEnd, Next, StepState};
use rules::ids::{EnvironmentName, ServiceName, SourceName, Version, WatchId};
use rules::plan::{RollbackPlan, draw_up};
use rules::runbook::{Runbook, RunbookTemplate, RunbookUse, SHIPPED_RUNBOOKS, problems, shipped_runbook};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[path = "runbooks/trace.rs"]
mod trace;

type With = BTreeMap<String, Value>;

/// By runbook and choice.
fn samples() -> BTreeMap<String, BTreeMap<String, With>> {
    let text = include_str!("runbooks/samples.yaml");
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("samples.yaml: {error}"))
}

fn template(name: &str) -> RunbookTemplate {
    let shipped = SHIPPED_RUNBOOKS.iter().find(|shipped| shipped.name == name).expect("it ships");
    serde_saphyr::from_str(shipped.text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every runbook in every choice of the samples.
fn all() -> Vec<(String, Runbook)> {
    let fill = |(name, choices): (String, BTreeMap<String, With>)| {
        let template = template(&name);
        choices.into_iter().map(move |(choice, with)| {
            let name = format!("{name}, {choice}");
            let runbook = template.fill(&with).unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
            (name, runbook)
        })
    };
    samples().into_iter().flat_map(fill).collect()
}

fn plan(runbook: &Runbook) -> RollbackPlan {
    let at: Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
    let release = |text: &str| Release { version: Version::new(text).expect("a version") };
    let (service, environment) =
        (ServiceName::new("shop").expect("a name"), EnvironmentName::new("production").expect("a name"));
    let source = SourceName::new("ci").expect("a name");
    let watch = WatchId::of(&source, "1", &service, &environment);
    let deployment = Deployment {
        service,
        environment,
        release: release("1.4.0"),
        previous: Some(release("1.3.9")),
        at,
        source,
        sequence: None,
        changes: None,
        security_fix: false,
    };
    let good = release("1.3.9");
    draw_up(1, &watch, &deployment, (&good, "ran well for 6h"), "errors", runbook, &[], at)
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test that the directory and the list in the code are the same"
)]
fn every_file_is_embedded_and_has_samples() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/library/runbooks");
    let files: BTreeSet<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".yaml").to_owned())
        .collect();
    let names: Vec<String> = SHIPPED_RUNBOOKS.iter().map(|shipped| shipped.name.to_owned()).collect();
    assert!(names.is_sorted());
    assert_eq!(files, names.iter().cloned().collect());
    assert_eq!(files, samples().into_keys().collect());
    for name in names {
        assert_eq!(shipped_runbook(&name).unwrap().name, name);
    }
}

#[test]
fn every_runbook_is_sound_in_every_choice() {
    for shipped in SHIPPED_RUNBOOKS {
        assert_eq!(template(shipped.name).problems(), Vec::new(), "{}", shipped.name);
    }
    for (name, runbook) in all() {
        assert_eq!(problems(&runbook), Vec::new(), "{name}");
        let steps = plan(&runbook).steps;
        assert!(
            steps.iter().all(|step| step.from.is_some()),
            "{name}: a step does not say where it comes from"
        );
    }
}

#[test]
fn every_step_is_drawn_up_in_some_choice() {
    let mut drawn: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, runbook) in all() {
        let name = name.split(',').next().unwrap().to_owned();
        drawn.entry(name).or_default().extend(runbook.steps.iter().map(|step| step.name.to_string()));
    }
    for shipped in SHIPPED_RUNBOOKS {
        let written: BTreeSet<String> =
            template(shipped.name).step_names().into_iter().map(str::to_owned).collect();
        assert_eq!(drawn[shipped.name], written, "{}", shipped.name);
    }
}

/// Whether it may take data with it, by what it does and not by what the step says.
fn takes_data(action: &ActionSpec) -> bool {
    let words = action.words();
    match action {
        ActionSpec::Sql(_) => ["sql: take migration", "sql: restore", "sql: rename", "UPDATE"]
            .iter()
            .any(|word| words.contains(word)),
        _ => ["restore-pitr", "db-backup.ts restore", "db push", "clean-all"]
            .iter()
            .any(|word| words.contains(word)),
    }
}

#[test]
fn what_destroys_is_marked_and_never_repeated_blindly_and_never_undone_alone() {
    let mut marked = 0;
    for (name, runbook) in all() {
        for step in &runbook.steps {
            let destructive = step.reversibility == Reversibility::Destructive;
            assert_eq!(destructive, takes_data(&step.action), "{name}: {}", step.name);
            if destructive {
                marked += 1;
                assert_eq!(step.undo, Undo::Impossible, "{name}: {}", step.name);
                let fenced = matches!(step.action, ActionSpec::Sql(_)) && step.class == EffectClass::Lookup;
                let cleaned = step.name.as_str() == "failed-jobs-cleaned";
                assert!(fenced || cleaned || step.class == EffectClass::OneShot, "{name}: {}", step.name);
            }
        }
    }
    assert!(marked > 15, "{marked}");
    // Without a choice of its own nothing destroys data.
    for (name, runbook) in all().into_iter().filter(|(name, _)| name.ends_with("as-it-is")) {
        assert_ne!(plan(&runbook).reversibility(), Reversibility::Destructive, "{name}");
    }
}

#[test]
fn what_is_for_people_is_a_message_that_says_what_to_do() {
    let mut asked = 0;
    for (name, runbook) in all() {
        for step in runbook.steps.iter().filter(|step| step.name.as_str().starts_with("ask-")) {
            let ActionSpec::Http(message) = &step.action else { panic!("{name}: {}", step.name) };
            let body = message.body.as_deref().unwrap();
            assert!(
                message.url.ends_with("/api/chat.postMessage") && body.contains("By hand, please"),
                "{name}: {body}"
            );
            asked += 1;
        }
    }
    assert!(asked > 30, "{asked}");
}

#[test]
fn every_procedure_is_covered_step_by_step_in_its_order() {
    let mut faults = Vec::new();
    for (name, _) in trace::TRACES {
        let said = trace::said(name);
        assert!(said.iter().all(|one| one.fact.len() > 8), "{name}: {said:#?}");
        let from = |step: &Value| trace::places(step["from"].as_str().unwrap());
        let steps: Vec<Vec<String>> = template(name).steps.iter().map(from).collect();
        faults.extend(trace::faults(&said, &steps, &[]).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn plans_drawn_up_with_samples() {
    for (name, runbook) in all() {
        let plan = plan(&runbook);
        let mut text = format!("{} steps\n", plan.steps.len());
        for (number, step) in plan.steps.iter().enumerate() {
            // Programs that are handed over to an interpreter are shown by their first words.
            let words: String = step.action.words().chars().take(200).collect();
            let said = match &step.action {
                ActionSpec::Http(http) => http.body.clone().unwrap_or_default(),
                _ => String::new(),
            };
            text.push_str(&format!("{}. {}\n   {words}\n", number + 1, step.title()));
            if !said.is_empty() {
                text.push_str(&format!("   {said}\n"));
            }
        }
        insta::assert_snapshot!(name.replace(", ", "__"), text);
    }
}

/// A check that fails at the end must not leave the service between two releases, closed for writes.
/// How the plan of `kubernetes-workers` with a down migration ends when this step says no, and that nothing was undone.
fn ends_when_it_says_no(failing: &str) -> String {
    let at: Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
    let runbook = all().into_iter().find(|(name, _)| name == "kubernetes-workers, down");
    let (_, runbook) = runbook.expect("it ships");
    let mut execution = Execution::new(plan(&runbook), true, at);
    let end = loop {
        let (step, attempt) = match execution.next(at) {
            Next::Run { step, direction: Direction::Apply, attempt, .. } => (step, attempt),
            other => break other,
        };
        execution.intended(step, Direction::Apply, attempt).expect("what is next may begin");
        let outcome = if execution.plan.steps[step].name.as_str() == failing {
            let reason = "it says no".to_owned();
            StepOutcome::Failed { kind: FailureKind::Permanent, reason, output: String::new() }
        } else {
            StepOutcome::Done { output: String::new(), changed: true }
        };
        execution.ended(step, &outcome, at).expect("what began may end");
    };
    let Next::Finished(ExecutionEnd::Stuck(why)) = end else { panic!("{end:?}") };
    assert!(execution.states().all(|(_, state)| *state != StepState::Undone), "{failing}");
    why
}

#[test]
fn a_plan_that_cannot_go_back_all_the_way_does_not_go_back_half_way() {
    let why = ends_when_it_says_no("web-image");
    assert!(why.contains("it says no") && why.contains("schema-down is done and cannot be undone"), "{why}");
}

#[test]
fn a_check_behind_the_rollback_that_says_no_brings_no_bad_release_back() {
    for check in ["row-level-security", "smoke-tests", "api-rollout"] {
        let why = ends_when_it_says_no(check);
        assert!(why.contains(check) && why.contains("which stays so: it says no"), "{why}");
    }
}

#[test]
fn values_that_do_not_fit_are_named_one_by_one() {
    let wrong = |name: &str, with: Value| {
        let with: With = serde_json::from_value(with).unwrap();
        let mut found = template(name).fill(&with).unwrap_err();
        found.sort();
        found.into_iter().map(|(at, words)| format!("{at} {words}")).collect::<Vec<_>>()
    };
    let found = wrong("systemd", json!({ "unit": "a b", "helth": "x", "seconds": "ten" }));
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("input `health` is missing; expected an address such as"), "{found:#?}");
    assert!(found[1].starts_with("input `helth` is not known; there are current, health"), "{found:#?}");
    assert!(found[2].starts_with("input `seconds` found \"ten\"; expected a whole number"), "{found:#?}");
    assert!(found[3].starts_with("input `unit` found \"a b\"; expected a text like"), "{found:#?}");
    let found = wrong("gitops", json!({ "git_repository": "/srv/a.git", "git_token": "ghp_secret" }));
    assert!(
        found[0].contains("must not stand in the configuration") && !found[0].contains("ghp_"),
        "{found:#?}"
    );
    // What belongs to a choice that is not made is not asked for.
    assert!(wrong("node-service", json!({})).iter().all(
        |words| words.starts_with("input `channel`") || words.starts_with("input `stakeholders_channel`")
    ));
    let found = wrong(
        "node-service",
        json!({ "channel": "#a", "stakeholders_channel": "#b", "database": "restore" }),
    );
    assert!(found[0].starts_with("input `backup_file` is missing") && found.len() == 2, "{found:#?}");
}

#[test]
fn an_input_stays_in_its_place() {
    let with = |image: &str, health: &str| {
        let with = json!({ "image": image, "deployment": health });
        template("kubernetes").fill(&serde_json::from_value(with).unwrap())
    };
    assert!(with("shop/checkout", "{{to.version}}").is_ok());
    for hostile in ["{{input.namespace}}", "{{", "}}", "a{{plan}}b{{", "x\u{1b}[2J"] {
        assert!(with(hostile, "checkout").is_err(), "{hostile}");
    }
    let message = json!({ "channel": "#a\",\"as_user\":true,\"x\":\"", "stakeholders_channel": "#b" });
    let runbook = template("node-service").fill(&serde_json::from_value(message).unwrap()).unwrap();
    let ActionSpec::Http(http) = &runbook.steps[1].action else { panic!("a message") };
    let body: Value = serde_json::from_str(http.body.as_deref().unwrap()).unwrap();
    assert_eq!(
        (body["as_user"].clone(), body["channel"].as_str().unwrap().starts_with("#a\"")),
        (Value::Null, true)
    );
}

#[test]
fn a_service_names_a_runbook_shortly_or_with_values() {
    let short: RunbookUse = serde_json::from_value(json!("systemd")).unwrap();
    assert_eq!((short.name.as_str(), serde_json::to_value(&short).unwrap()), ("systemd", json!("systemd")));
    let long = json!({ "name": "systemd", "with": { "unit": "a.service" } });
    let used: RunbookUse = serde_json::from_value(long.clone()).unwrap();
    assert_eq!(serde_json::to_value(&used).unwrap(), long);
    assert!(serde_json::from_value::<RunbookUse>(json!({ "nme": "a" })).is_err());
}
