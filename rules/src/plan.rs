//! Plans: immutable lists of steps with a digest. What was approved is what runs; a plan leaves no choices.

use crate::action::{ActionSpec, EffectClass, InspectSpec, Reversibility, Undo};
use crate::deployment::{Change, Deployment, Release};
use crate::ids::{EnvironmentName, PlanDigest, PlanId, ServiceName, StepName, Version, WatchId, fingerprint};
use crate::planner::choose;
use crate::runbook::{BadTemplate, Runbook, Values, fill_action};
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One effect on one target, with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name, unique within the plan.
    pub name: StepName,
    /// Where in a written procedure it comes from, if its runbook says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What the deployment brought that this undoes; empty if it belongs to every rollback.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub undoes: BTreeSet<Change>,
    /// Whether it only asks or tells.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
    /// What it does.
    pub action: ActionSpec,
    /// What is known about repeating it.
    pub class: EffectClass,
    /// How one looks whether it is already done.
    pub inspect: Option<InspectSpec>,
    /// The question that must be answered with yes before it counts as done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<InspectSpec>,
    /// What undoes it.
    pub undo: Undo,
    /// How long it may take.
    pub timeout: Span,
    /// What is lost if it was a mistake.
    pub reversibility: Reversibility,
    /// The idempotency key: the same for every attempt at this step of this plan.
    pub key: String,
}

/// Everything that will be done to turn one service back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackPlan {
    /// Its identity.
    pub id: PlanId,
    /// The watch it belongs to.
    pub watch: WatchId,
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The release that is turned back.
    pub from: Release,
    /// The release that is returned to.
    pub to: Release,
    /// Why `to` is believed to be good.
    pub proof: String,
    /// Why the plan was drawn up.
    pub reason: String,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// When it was drawn up.
    pub drawn_at: Timestamp,
}

/// Why no plan can be drawn up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CannotPlan {
    /// The service has no runbook.
    #[error("no runbook is configured for {service}; add `runbook:` to the service")]
    NoRunbook {
        /// The service.
        service: ServiceName,
    },
    /// Nobody knows a release to return to.
    #[error("no release is known to return to; name one with `turnback rollback {service} --to VERSION`")]
    NoTarget {
        /// The service.
        service: ServiceName,
    },
    /// The release to return to is the one that runs.
    #[error("{version} is the release that runs; there is nothing to return to")]
    SameRelease {
        /// The version.
        version: String,
    },
    /// No step of the runbook undoes what the deployment brought.
    #[error(
        "the deployment brought {}, and no step of the runbook says `undoes: [{}]`; add one, or fix forward",
        change.word().replace('_', " "),
        change.word()
    )]
    NothingUndoes {
        /// What it brought.
        change: Change,
    },
    /// The schema has moved on.
    #[error(
        "{version} brought a migration that cannot be taken back, and no step of the runbook brings the old schema back \
         (`undoes: [irreversible_migrations]`): the release before may not work with it; fix forward"
    )]
    SchemaMoved {
        /// The release that moved it.
        version: String,
    },
    /// A placeholder of the runbook has no value.
    #[error("step {step} cannot be filled in: {problem}")]
    Template {
        /// The step.
        step: StepName,
        /// What is wrong.
        problem: String,
    },
}

impl Step {
    /// Its name, and where in a written procedure it comes from.
    pub fn title(&self) -> String {
        match &self.from {
            Some(from) => format!("{} ({from})", self.name),
            None => self.name.to_string(),
        }
    }
}

impl RollbackPlan {
    /// SHA-256 over the plan's canonical JSON (fields in the order of the type, maps sorted).
    pub fn digest(&self) -> PlanDigest {
        // Serialising a tree of strings and numbers into memory cannot fail; were it ever to, the digest of the error
        // text differs from every plan's digest, so that no approval could match.
        let canonical = serde_json::to_string(self).unwrap_or_else(|error| error.to_string());
        PlanDigest::of(&canonical)
    }

    /// The worst that any step risks.
    pub fn reversibility(&self) -> Reversibility {
        self.steps.iter().map(|step| step.reversibility).max().unwrap_or_default()
    }
}

/// Draws up a plan from a runbook. `moved`: see [`choose`].
#[expect(clippy::too_many_arguments, reason = "each is another thing that a plan is made of")]
pub fn draw_up(
    number: u32,
    watch: &WatchId,
    deployment: &Deployment,
    target: (&Release, &str),
    reason: &str,
    runbook: &Runbook,
    moved: &[Version],
    now: Timestamp,
) -> Result<RollbackPlan, CannotPlan> {
    let (to, proof) = target;
    if to.version == deployment.release.version {
        return Err(CannotPlan::SameRelease { version: to.version.to_string() });
    }
    let id = PlanId::of(watch, number);
    let chosen = choose(runbook, deployment, moved)?;
    let steps = chosen.into_iter().map(|template| {
        // The key names plan and step, so that every attempt at this step carries the same one and no other step does.
        let key = format!("{id}-{}", fingerprint(&[id.as_str(), template.name.as_str()], 4));
        let values = Values::default()
            .with("service", deployment.service.as_str())
            .with("environment", deployment.environment.as_str())
            .with("from.version", deployment.release.version.as_str())
            .with("to.version", to.version.as_str())
            .with("before.unix", deployment.at.as_second().saturating_sub(1).to_string())
            .with("plan", id.as_str())
            .with("key", key.clone());
        let filled = |action: &ActionSpec| {
            fill_action(action, &values).map_err(|problem: BadTemplate| CannotPlan::Template {
                step: template.name.clone(),
                problem: problem.to_string(),
            })
        };
        Ok(Step {
            name: template.name.clone(),
            from: template.from.clone(),
            undoes: template.undoes.clone(),
            asks: template.asks,
            action: filled(&template.action)?,
            class: template.class,
            inspect: match &template.inspect {
                Some(inspect) => Some(InspectSpec { action: filled(&inspect.action)? }),
                None => None,
            },
            verify: match &template.verify {
                Some(verify) => Some(InspectSpec { action: filled(&verify.action)? }),
                None => None,
            },
            undo: match &template.undo {
                Undo::Action(action) => Undo::Action(filled(action)?),
                other => other.clone(),
            },
            timeout: template.timeout,
            reversibility: template.reversibility,
            key,
        })
    });
    Ok(RollbackPlan {
        watch: watch.clone(),
        service: deployment.service.clone(),
        environment: deployment.environment.clone(),
        from: deployment.release.clone(),
        to: to.clone(),
        proof: proof.to_owned(),
        reason: reason.to_owned(),
        steps: steps.collect::<Result<_, _>>()?,
        drawn_at: now,
        id,
    })
}
