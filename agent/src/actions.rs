//! Actions: the only place where Turnback changes anything outside of itself.
//!
//! An action is one effect on one target: a program (`command`), a request (`http`), a workload (`kubernetes`). It reports in the three
//! kinds of [`StepOutcome`]: done, certainly not done, and *unknown*. Everything here leans to unknown: a reply that
//! was lost, a program that was killed, an answer that is not the declared success. Unknown costs a look or a page;
//! a wrong "it failed" costs a second rollback.
//!
//! [`run_step`] decides by the step's [`EffectClass`] whether an attempt may be made at all. Retries are not made here:
//! an attempt is one attempt, and the executor records each before it is made.

pub(crate) mod address;
mod command;
mod git;
mod http;
#[cfg(feature = "kubernetes")]
pub(crate) mod kubernetes;
mod output;
mod process;
mod program;
mod redis;
mod rehearse;
pub mod sql;
mod verify;

use crate::secrets::{BadSecret, Secrets};
use async_trait::async_trait;
use rules::action::{ActionSpec, EffectClass, FailureKind, Inspected, StepOutcome, Undo};
use rules::ids::{PlanId, StepName};
use rules::plan::Step;
use rules::rehearsal::Tried;
use rules::units::Span;
use std::time::Instant;
use tokio::sync::watch;

pub use address::Forbidden;
pub use rehearse::{rehearse, rehearse_step};

/// Turns to `true` when the kill switch is pulled.
pub type KillSwitch = watch::Receiver<bool>;

/// What an action is told besides its specification.
#[derive(Debug, Clone)]
pub struct Context {
    /// The plan it belongs to.
    pub plan: PlanId,
    /// The step it belongs to.
    pub step: StepName,
    /// The idempotency key: the same for every attempt at this step in this direction.
    pub key: String,
    /// What is known about repeating it. Keyed requests carry the key.
    pub class: EffectClass,
    /// How long it may take.
    pub timeout: Span,
    /// Ends it early. The effect is unknown then.
    pub cancel: KillSwitch,
}

/// One effect on one target, with its secrets at hand.
#[async_trait]
pub trait Action: Send + Sync {
    /// Asks the action as a question, as [`rules::action::InspectSpec`] says, and changes nothing. Whoever wrote the
    /// runbook answers for the program or request being one that only looks.
    async fn inspect(&self, context: &Context) -> Inspected;

    /// Tries it without an effect: what would come of it, as far as that can be told.
    async fn rehearse(&self, context: &Context) -> Tried;

    /// Acts: one attempt, without retries.
    async fn apply(&self, context: &Context) -> StepOutcome;
}

/// Why an action cannot even be begun. Nothing happened.
#[derive(Debug, thiserror::Error)]
pub enum BadAction {
    /// A secret is not there.
    #[error("{place} cannot be filled in")]
    Secret {
        /// Which variable or header.
        place: String,
        /// Why.
        #[source]
        source: BadSecret,
    },
    /// The specification makes no sense.
    #[error("{key} {problem}")]
    Specification {
        /// The key at fault: `command.argv`.
        key: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The request goes where no request may go.
    #[error("http.url is refused")]
    Address {
        /// Why.
        #[source]
        source: Forbidden,
    },
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client: {problem}")]
    Client {
        /// Why.
        problem: String,
    },
}

/// Makes the action that a specification describes and resolves its secrets. Starts nothing.
pub fn build(spec: &ActionSpec, secrets: &Secrets) -> Result<Box<dyn Action>, BadAction> {
    Ok(match spec {
        ActionSpec::Command(spec) => Box::new(command::Command::new(spec, secrets)?),
        ActionSpec::Http(spec) => Box::new(http::Http::new(spec, secrets)?),
        ActionSpec::Git(spec) => Box::new(git::Git::new(spec, secrets)?),
        ActionSpec::Sql(spec) => Box::new(sql::Sql::new(spec, secrets)?),
        ActionSpec::Redis(spec) => Box::new(redis::Redis::new(spec, secrets)?),
        #[cfg(feature = "kubernetes")]
        ActionSpec::Kubernetes(spec) => Box::new(kubernetes::Kubernetes::new(spec, secrets)?),
        #[cfg(not(feature = "kubernetes"))]
        ActionSpec::Kubernetes(_) => {
            let problem = "is not in this build: build with `--features kubernetes`".to_owned();
            return Err(BadAction::Specification { key: "kubernetes".into(), problem });
        }
    })
}

/// Which way a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The step's action.
    Apply,
    /// The step's undo.
    Undo,
}

/// Makes one attempt at a step, as its class allows.
///
/// `recovering` says that the outcome of an earlier attempt is unknown. Then `lookup` and `compare_and_set` look first
/// and act only if the effect is missing, `keyed` goes again with the same key, and `one_shot` is never tried again.
/// `lookup` and `compare_and_set` look before a first attempt too, since somebody else may have been there. An undo is
/// declared safe to run twice and goes again whatever the class is; it has its own key (the step's and `-undo`), since a
/// target that knows the step's key would answer with what it said the first time.
///
/// The step's time-out covers looking and acting together; looking may take half of it.
pub async fn run_step(
    plan: &PlanId,
    step: &Step,
    direction: Direction,
    recovering: bool,
    cancel: KillSwitch,
    secrets: &Secrets,
) -> StepOutcome {
    let outcome = attempt(plan, step, direction, recovering, cancel, secrets).await;
    if recovering { with_unknown_past(outcome) } else { outcome }
}

async fn attempt(
    plan: &PlanId,
    step: &Step,
    direction: Direction,
    recovering: bool,
    cancel: KillSwitch,
    secrets: &Secrets,
) -> StepOutcome {
    let (spec, key) = match (direction, &step.undo) {
        (Direction::Apply, _) => (&step.action, step.key.clone()),
        (Direction::Undo, Undo::Action(undo)) => (undo, format!("{}-undo", step.key)),
        (Direction::Undo, Undo::NotNeeded) => {
            return StepOutcome::Done { output: "there is nothing to undo".into(), changed: false };
        }
        (Direction::Undo, Undo::Impossible) => return permanent("this step cannot be undone".into()),
    };
    if let Some(reason) = pulled_already(&cancel) {
        return StepOutcome::NotBegun { reason };
    }
    let looks_first = match (direction, step.class) {
        // What only asks is asked once, so that its answer is kept: how long the queue was, which migration is the newest.
        _ if spec.only_asks() => false,
        (Direction::Apply, EffectClass::Lookup | EffectClass::CompareAndSet) => true,
        (Direction::Apply, EffectClass::OneShot) if recovering => {
            return permanent("a one-shot step is never tried again".into());
        }
        (Direction::Apply, EffectClass::OneShot | EffectClass::Keyed) | (Direction::Undo, _) => false,
    };
    // Before looking, so that a missing secret is found while nothing has happened yet.
    let action = match build(spec, secrets) {
        Ok(action) => action,
        Err(error) => return permanent(format!("the action cannot be begun: {}", chain(&error))),
    };
    let began = Instant::now();
    let (plan, name) = (plan.clone(), step.name.clone());
    let mut context = Context { plan, step: name, key, class: step.class, timeout: step.timeout, cancel };
    if looks_first {
        context.timeout = Span::from_milliseconds(step.timeout.milliseconds() / 2);
        if let Some(outcome) = look_first(step, &context, recovering, secrets).await {
            return verify::confirm(step, direction, outcome, &context, began, secrets).await;
        }
        let spent = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        context.timeout = Span::from_milliseconds(step.timeout.milliseconds().saturating_sub(spent));
        // Looking took time, in which the switch may have been pulled.
        if let Some(reason) = pulled_already(&context.cancel) {
            return StepOutcome::NotBegun { reason };
        }
    }
    let outcome = action.apply(&context).await;
    context.timeout = step.timeout;
    verify::confirm(step, direction, outcome, &context, began, secrets).await
}

/// `None` if the effect is missing and the action may be run; otherwise what came of it.
async fn look_first(
    step: &Step,
    context: &Context,
    recovering: bool,
    secrets: &Secrets,
) -> Option<StepOutcome> {
    let question = match &step.inspect {
        Some(inspect) => &inspect.action,
        None if step.action.looks_itself() => &step.action,
        None => {
            return Some(permanent(
                "this class is looked up before it is run, and the step has no `inspect`".into(),
            ));
        }
    };
    let looking = match build(question, secrets) {
        Ok(action) => action,
        Err(error) => return Some(permanent(format!("looking cannot be begun: {}", chain(&error)))),
    };
    match looking.inspect(context).await {
        Inspected::Present => {
            Some(StepOutcome::Done { output: "the effect was there already".into(), changed: false })
        }
        Inspected::Missing => None,
        Inspected::Unclear { reason } => match pulled_already(&context.cancel) {
            Some(pulled) => Some(StepOutcome::NotBegun { reason: pulled }),
            None if recovering => {
                let reason = format!("cannot tell whether the effect is there: {reason}");
                Some(StepOutcome::Unknown { reason, output: String::new() })
            }
            // Nothing of ours was begun; acting blindly is not what the class promises, and sight may come back.
            None => Some(StepOutcome::Failed {
                kind: FailureKind::Retryable,
                reason: format!("could not look before acting: {reason}"),
                output: String::new(),
            }),
        },
    }
}

/// After an attempt with an unknown outcome, a later attempt that fails or is not begun says nothing about the earlier
/// one: the effect may be there all the same.
fn with_unknown_past(outcome: StepOutcome) -> StepOutcome {
    let unknown = |reason: String, output| StepOutcome::Unknown {
        reason: format!("the outcome of an earlier attempt is unknown, and {reason}"),
        output,
    };
    match outcome {
        StepOutcome::Failed { reason, output, .. } => unknown(reason, output),
        StepOutcome::NotBegun { reason } => unknown(reason, String::new()),
        done @ StepOutcome::Done { .. } => done,
        already @ StepOutcome::Unknown { .. } => already,
    }
}

fn permanent(reason: String) -> StepOutcome {
    StepOutcome::Failed { kind: FailureKind::Permanent, reason, output: String::new() }
}

/// Why nothing may be begun now, if so. A kill switch that nobody holds any more counts as pulled: no effect may begin
/// that nobody could stop.
fn pulled_already(cancel: &KillSwitch) -> Option<String> {
    if *cancel.borrow() {
        Some("the kill switch is pulled".into())
    } else if cancel.has_changed().is_err() {
        Some("the agent is shutting down".into())
    } else {
        None
    }
}

/// Returns when the switch is pulled. If its holder goes away, what runs already is left to its time-out.
async fn pulled(cancel: &KillSwitch) {
    let mut cancel = cancel.clone();
    let gone = cancel.wait_for(|pulled| *pulled).await.is_err();
    if gone {
        std::future::pending::<()>().await;
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors repeat their cause in their own text.
        if !words.ends_with(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests;
