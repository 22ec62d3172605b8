//! A plan's dry run: every step tried as far as that goes without an effect.
//!
//! | family | how far |
//! | --- | --- |
//! | kubernetes | the API server checks the very write and drops it (`dryRun=All`) |
//! | git | the reverts are made in a scratch clone and not pushed |
//! | sql | a down migration or a switch in a transaction that is rolled back; a statement is only understood; a question is asked |
//! | redis | keys are counted, and none is touched |
//! | command, http | the program is there, its secrets are there; `inspect` is asked, nothing is run or sent |
//!
//! What is missing on our side (a secret, a program, a permission) fails. What does not answer is unclear: a service that is
//! down is no reason not to turn it back.

use super::{Action, BadAction, Context, KillSwitch, build, chain};
use crate::secrets::Secrets;
use rules::action::{ActionSpec, Inspected, Undo};
use rules::ids::PlanId;
use rules::plan::{RollbackPlan, Step};
use rules::rehearsal::{Rehearsal, Tried};
use rules::units::Span;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Of one step: a clone or a transaction is through by then.
const LONGEST_STEP: Span = Span::from_seconds(10);
/// Of all of them: whoever waits for a rollback does not wait longer.
const LONGEST: Duration = Duration::from_secs(12);
/// Steps tried at the same time.
const AT_ONCE: usize = 8;

/// Tries every step of a plan and changes nothing.
pub async fn rehearse(plan: &RollbackPlan, cancel: &KillSwitch, secrets: &Arc<Secrets>) -> Rehearsal {
    let (turns, mut trials) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for (number, step) in plan.steps.iter().cloned().enumerate() {
        let (id, cancel, secrets, turns) =
            (plan.id.clone(), cancel.clone(), Arc::clone(secrets), Arc::clone(&turns));
        trials.spawn(async move {
            // The semaphore is never closed; were it ever, all would be tried at once.
            let _turn = turns.acquire().await;
            (number, rehearse_step(&id, &step, cancel, &secrets).await)
        });
    }
    let mut found: Vec<Option<Tried>> = vec![None; plan.steps.len()];
    let deadline = tokio::time::Instant::now() + LONGEST;
    while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, trials.join_next()).await {
        match ended {
            Ok((number, tried)) => found[number] = Some(tried),
            Err(error) => tracing::error!(%error, "a rehearsal broke down"),
        }
    }
    let steps = plan.steps.iter().zip(found).enumerate().map(|(number, (step, tried))| {
        let tried =
            tried.unwrap_or_else(|| Tried::Unclear { reason: "there was no time left to try it".into() });
        (step.name.clone(), after_others(&plan.steps[..number], step, tried))
    });
    Rehearsal { to: plan.to.version.clone(), steps: steps.collect() }
}

/// Tries one step and changes nothing.
pub async fn rehearse_step(plan: &PlanId, step: &Step, cancel: KillSwitch, secrets: &Secrets) -> Tried {
    let context = Context {
        plan: plan.clone(),
        step: step.name.clone(),
        key: step.key.clone(),
        class: step.class,
        timeout: step.timeout.min(LONGEST_STEP),
        cancel,
    };
    let tried = tokio::time::timeout(context.timeout.duration(), try_step(step, &context, secrets)).await;
    tried.unwrap_or_else(|_| Tried::Unclear { reason: format!("no answer within {}", context.timeout) })
}

/// A step that builds on an earlier one at the same target cannot be tried before that has happened: its failure says
/// nothing.
fn after_others(earlier: &[Step], step: &Step, tried: Tried) -> Tried {
    let same =
        |other: &&Step| other.action.target().is_some() && other.action.target() == step.action.target();
    match (tried, earlier.iter().rev().find(same)) {
        (Tried::Fails { reason }, Some(before)) => {
            Tried::Unclear { reason: format!("{reason} (step {} comes before it)", before.name) }
        }
        (tried, _) => tried,
    }
}

async fn try_step(step: &Step, context: &Context, secrets: &Secrets) -> Tried {
    let action = match build_all(step, secrets) {
        Ok(action) => action,
        Err(reason) => return Tried::Fails { reason },
    };
    let question = step.inspect.as_ref().map(|inspect| build(&inspect.action, secrets));
    let mut unclear = None;
    if let Some(Ok(question)) = question {
        match question.inspect(context).await {
            Inspected::Present => return Tried::AlreadyThere,
            Inspected::Missing => {}
            Inspected::Unclear { reason } => unclear = Some(reason),
        }
    }
    match (action.rehearse(context).await, unclear) {
        (Tried::Works { .. }, Some(reason)) => {
            Tried::Unclear { reason: format!("it cannot be looked at: {reason}") }
        }
        (tried, _) => tried,
    }
}

/// Everything that the step may need: a secret of its undo is missed now, and not when it is needed.
fn build_all(step: &Step, secrets: &Secrets) -> Result<Box<dyn Action>, String> {
    let words = |what: &str, error: &BadAction| format!("{what} cannot be begun: {}", chain(error));
    let check =
        |what: &str, spec: &ActionSpec| build(spec, secrets).map(drop).map_err(|error| words(what, &error));
    if let Undo::Action(undo) = &step.undo {
        check("its undo", undo)?;
    }
    for (what, question) in [("its `inspect`", &step.inspect), ("its `verify`", &step.verify)] {
        if let Some(question) = question {
            check(what, &question.action)?;
        }
    }
    build(&step.action, secrets).map_err(|error| words("it", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use rules::deployment::{Deployment, Release};
    use rules::ids::{EnvironmentName, ServiceName, SourceName, Version, WatchId};
    use rules::plan::draw_up;
    use std::collections::BTreeMap;

    fn plan(steps: &str) -> RollbackPlan {
        let release = |version: &str| Release { version: Version::new(version).unwrap() };
        let (service, environment) =
            (ServiceName::new("shop").unwrap(), EnvironmentName::new("test").unwrap());
        let source = SourceName::new("ci").unwrap();
        let watch = WatchId::of(&source, "1", &service, &environment);
        let deployment = Deployment {
            service,
            environment,
            release: release("v2"),
            previous: Some(release("v1")),
            at: Timestamp::UNIX_EPOCH,
            source,
            sequence: None,
            changes: None,
            security_fix: false,
        };
        let runbook = serde_saphyr::from_str(&format!("steps:\n{steps}")).unwrap();
        let target = (&release("v1"), "it ran well");
        draw_up(1, &watch, &deployment, target, "test", &runbook, &[], Timestamp::UNIX_EPOCH).unwrap()
    }

    async fn tried(steps: &str) -> Vec<Tried> {
        let (_pull, cancel) = tokio::sync::watch::channel(false);
        let secrets = Arc::new(Secrets::from_variables(BTreeMap::new()));
        let rehearsal = rehearse(&plan(steps), &cancel, &secrets).await;
        rehearsal.steps.into_iter().map(|(_, tried)| tried).collect()
    }

    #[tokio::test]
    async fn what_is_missing_on_our_side_fails_and_nothing_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let all = tried(&format!(
            r#"
- {{ name: there, class: one_shot, action: {{ command: {{ argv: [/bin/touch, "{mark}"] }} }} }}
- {{ name: gone, class: one_shot, action: {{ command: {{ argv: [/nowhere/at/all] }} }} }}
- {{ name: folder, class: one_shot, action: {{ command: {{ argv: [/bin/true], directory: /nowhere }} }} }}
- {{ name: secret, class: one_shot,
    action: {{ command: {{ argv: [/bin/true], secret_env: {{ TOKEN: {{ env: TURNBACK_TEST_NOT_SET }} }} }} }} }}
"#,
            mark = mark.display()
        ))
        .await;
        assert!(matches!(&all[0], Tried::Works { .. }), "{all:?}");
        for (tried, part) in all[1..].iter().zip(["/nowhere/at/all", "/nowhere", "TURNBACK_TEST_NOT_SET"]) {
            assert!(matches!(tried, Tried::Fails { reason } if reason.contains(part)), "{tried:?}");
        }
        assert!(!mark.exists());
    }

    #[tokio::test]
    async fn what_can_be_looked_at_is_looked_at() {
        let step = |name: &str, exit: u8| {
            format!(
                "- {{ name: {name}, class: lookup, action: {{ command: {{ argv: [/bin/true] }} }},\n    \
                 inspect: {{ action: {{ command: {{ argv: [/bin/sh, -c, 'exit {exit}'] }} }} }} }}\n"
            )
        };
        let all = tried(&(step("present", 0) + &step("missing", 1) + &step("unclear", 7))).await;
        assert_eq!(all[0], Tried::AlreadyThere);
        assert!(matches!(all[1], Tried::Works { .. }), "{all:?}");
        assert!(matches!(all[2], Tried::Unclear { .. }), "{all:?}");
    }

    #[tokio::test]
    async fn a_failure_behind_another_step_at_the_same_target_says_nothing() {
        let step = |name: &str| {
            format!(
                "- {{ name: {name}, class: lookup, action: {{ redis: {{ url: {{ env: NOT_SET }}, operation: rq_resume }} }} }}\n"
            )
        };
        let all = tried(&(step("first") + &step("second"))).await;
        assert!(matches!(&all[0], Tried::Fails { .. }), "{all:?}");
        assert!(matches!(&all[1], Tried::Unclear { reason } if reason.contains("first")), "{all:?}");
    }
}
