//! Carries permits out: guards again, leave from the ledger, the action, the outcome.
//!
//! The intent is on disk before a permit reaches this place. What happens between here and the outcome's record is the
//! one stretch in which a crash leaves an effect in doubt; `EffectClass` says what may be done about it.

use crate::actions::{self, run_step};
use crate::ledger::{Ledger, LedgerError};
use crate::secrets::Secrets;
use crate::{clock, crash};
use rules::action::{FailureKind, StepOutcome};
use rules::execution::Direction;
use rules::fleet::Fleet;
use rules::guard::{EffectView, before_effect};
use rules::plan::RollbackPlan;
use rules::rehearsal::Rehearsal;
use rules::watch::Permit;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// What an executor needs.
#[derive(Clone)]
pub struct Executor {
    ledger: Ledger,
    secrets: Arc<Secrets>,
    fleet: watch::Receiver<Fleet>,
    /// Pulled through the API: counts before the ledger knows of it.
    stopped: watch::Receiver<bool>,
    /// Ends a running action early; only when the agent is torn down.
    torn_down: watch::Receiver<bool>,
    /// If this file exists, the kill switch is pulled: the way that needs no running API.
    stop_file: PathBuf,
}

impl Executor {
    /// An executor. Starts nothing.
    pub fn new(
        ledger: Ledger,
        secrets: Arc<Secrets>,
        fleet: watch::Receiver<Fleet>,
        stopped: watch::Receiver<bool>,
        torn_down: watch::Receiver<bool>,
        stop_file: PathBuf,
    ) -> Self {
        Self { ledger, secrets, fleet, stopped, torn_down, stop_file }
    }

    /// One attempt at one step.
    pub async fn run(&self, permit: &Permit) -> StepOutcome {
        if let Some(reason) = self.held(permit) {
            return StepOutcome::NotBegun { reason };
        }
        if let Err(outcome) = self.leave(permit).await {
            return outcome;
        }
        // Writing the permit took time; the switch may have been pulled in it. The attempt is used up, and nothing
        // happened: a passing failure says just that.
        if let Some(reason) = self.held(permit) {
            return StepOutcome::Failed { kind: FailureKind::Retryable, reason, output: String::new() };
        }
        crash::point("before-effect");
        let direction = match permit.direction {
            Direction::Apply => actions::Direction::Apply,
            Direction::Undo => actions::Direction::Undo,
        };
        let cancel = self.torn_down.clone();
        tracing::info!(plan = %permit.plan, step = %permit.step.name, attempt = permit.attempt, "acting");
        let outcome =
            run_step(&permit.plan, &permit.step, direction, permit.unknown, cancel, &self.secrets).await;
        crash::point(match direction {
            actions::Direction::Apply => "after-effect",
            actions::Direction::Undo => "in-compensation",
        });
        tracing::info!(plan = %permit.plan, step = %permit.step.name, attempt = permit.attempt, ?outcome, "acted");
        outcome
    }

    /// What would come of a plan: everything is tried, nothing is changed. Not even a pulled kill switch stands against it.
    pub async fn rehearse(&self, plan: &RollbackPlan) -> Rehearsal {
        actions::rehearse(plan, &self.torn_down, &self.secrets).await
    }

    /// Why the kill switch counts as pulled, if so.
    pub fn switch(&self) -> Option<String> {
        self.stop_file().or_else(|| (*self.stopped.borrow()).then(|| "the kill switch is pulled".to_owned()))
    }

    /// Why the file counts as a pulled kill switch, if so. Whether there is a file that cannot be looked for is not
    /// known, and what is not known is taken for the worse.
    pub fn stop_file(&self) -> Option<String> {
        let file = self.stop_file.display();
        match self.stop_file.try_exists() {
            Ok(true) => Some(format!("the kill switch is pulled: the file {file} exists")),
            Ok(false) => None,
            Err(error) => Some(format!("whether the file {file} exists cannot be told: {error}")),
        }
    }

    /// Why nothing may begin just now, if so.
    fn held(&self, permit: &Permit) -> Option<String> {
        if let Some(reason) = self.switch() {
            return Some(reason);
        }
        let now = clock::now();
        let situation = self.fleet.borrow().situation(&permit.service, &permit.environment, now);
        let holds = before_effect(&EffectView {
            plan: &permit.plan,
            watch: &permit.watch,
            began: permit.began,
            limit: permit.limit,
            reversibility: permit.step.reversibility,
            by_person: permit.by_person,
            situation: &situation,
            now,
        });
        let words: Vec<String> = holds.into_iter().map(|hold| hold.words).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Leave for this attempt from the ledger, which gives it once.
    async fn leave(&self, permit: &Permit) -> Result<(), StepOutcome> {
        let direction = match permit.direction {
            Direction::Apply => "apply",
            Direction::Undo => "undo",
        };
        let step = format!("{}/{direction}", permit.step.name);
        match self.ledger.permit(permit.plan.as_str(), &step, permit.attempt, clock::now()).await {
            Ok(_leave) => Ok(()),
            // Somebody was here before: whether they acted, nobody knows.
            Err(error @ LedgerError::PermitTaken { .. }) => {
                Err(StepOutcome::Unknown { reason: error.to_string(), output: String::new() })
            }
            Err(error) => {
                Err(StepOutcome::NotBegun { reason: format!("the ledger gives no leave: {error}") })
            }
        }
    }
}
