//! One step, run as the executor runs it: for tests of actions against real servers.

use agent::actions::{Direction, rehearse_step, run_step};
use agent::secrets::Secrets;
use anyhow::{Context, Result};
use rules::action::{EffectClass, Reversibility, StepOutcome, Undo};
use rules::ids::{PlanId, StepName};
use rules::plan::Step;
use rules::rehearsal::Tried;
use rules::runbook::{Runbook, RunbookStep, Values, fill_action, problems};
use rules::units::Span;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// A step with its plan, its secrets and a kill switch of its own.
pub struct Rig {
    /// Pulled with `send(true)`.
    pub switch: watch::Sender<bool>,
    /// What `{env: NAME}` finds.
    pub secrets: Secrets,
    /// The step.
    pub step: Step,
    /// The plan that it belongs to.
    pub plan: PlanId,
}

impl Rig {
    /// A step of class `lookup` from an action as it stands in a runbook, with the placeholders `from.version` 1.4.0 and
    /// `to.version` 1.3.9.
    ///
    /// # Errors
    /// If the text is no action, or one that a configuration would be refused for; the error names the key.
    pub fn new(action: &str, secrets: &[(&str, &str)]) -> Result<Rig> {
        Rig::of_class(action, EffectClass::Lookup, secrets)
    }

    /// The same for any class.
    ///
    /// # Errors
    /// As [`Rig::new`].
    pub fn of_class(action: &str, class: EffectClass, secrets: &[(&str, &str)]) -> Result<Rig> {
        let template = RunbookStep {
            name: StepName::new("turn").context("a step's name")?,
            from: None,
            undoes: Default::default(),
            asks: false,
            action: serde_saphyr::from_str(action).with_context(|| format!("reading {action}"))?,
            class,
            inspect: None,
            verify: None,
            undo: Undo::NotNeeded,
            timeout: Span::from_seconds(60),
            reversibility: Reversibility::Destructive,
        };
        Rig::of(template, secrets)
    }

    fn of(template: RunbookStep, secrets: &[(&str, &str)]) -> Result<Rig> {
        let plan = PlanId::new("p-1").context("a plan's name")?;
        let found = problems(&Runbook { summary: None, steps: vec![template.clone()] });
        anyhow::ensure!(found.is_empty(), "a configuration with it would be refused: {found:?}");
        let key = "p-1-0123abcd".to_owned();
        let values = Values::default()
            .with("service", "shop/checkout")
            .with("environment", "production")
            .with("from.version", "1.4.0")
            .with("to.version", "1.3.9")
            .with("plan", plan.as_str())
            .with("key", key.clone());
        let step = Step {
            name: template.name,
            from: None,
            undoes: Default::default(),
            asks: false,
            action: fill_action(&template.action, &values)?,
            class: template.class,
            inspect: None,
            verify: None,
            undo: Undo::NotNeeded,
            timeout: template.timeout,
            reversibility: template.reversibility,
            key,
        };
        let secrets: BTreeMap<String, String> =
            secrets.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let (switch, _) = watch::channel(false);
        Ok(Rig { switch, secrets: Secrets::from_variables(secrets), step, plan })
    }

    /// A step of a preset that ships, with these inputs as JSON.
    ///
    /// # Errors
    /// If there is no such preset, or the inputs do not fit; the error names the input.
    pub fn preset(name: &str, with: &serde_json::Value) -> Result<Rig> {
        let written = serde_json::json!({ "name": "turn", "preset": { "name": name, "with": with } });
        let template = serde_json::from_value(written).with_context(|| format!("the preset {name}"))?;
        Rig::of(template, &[])
    }

    /// Ends the step after so long.
    pub fn within(mut self, timeout: Span) -> Rig {
        self.step.timeout = timeout;
        self
    }

    /// A dry run.
    pub async fn rehearse(&self) -> Tried {
        rehearse_step(&self.plan, &self.step, self.switch.subscribe(), &self.secrets).await
    }

    /// A first attempt.
    pub async fn first(&self) -> StepOutcome {
        self.attempt(false).await
    }

    /// An attempt after one whose outcome is unknown.
    pub async fn again(&self) -> StepOutcome {
        self.attempt(true).await
    }

    async fn attempt(&self, recovering: bool) -> StepOutcome {
        let cancel = self.switch.subscribe();
        run_step(&self.plan, &self.step, Direction::Apply, recovering, cancel, &self.secrets).await
    }
}

/// An outcome in two words.
pub fn kind(outcome: &StepOutcome) -> &'static str {
    use rules::action::FailureKind;
    match outcome {
        StepOutcome::Done { changed: true, .. } => "done",
        StepOutcome::Done { changed: false, .. } => "there already",
        StepOutcome::Failed { kind: FailureKind::Retryable, .. } => "failed, retryable",
        StepOutcome::Failed { kind: FailureKind::Permanent, .. } => "failed, permanent",
        StepOutcome::Unknown { .. } => "unknown",
        StepOutcome::NotBegun { .. } => "not begun",
    }
}

/// Everything that an outcome says.
pub fn words(outcome: &StepOutcome) -> String {
    match outcome {
        StepOutcome::Done { output, .. } => output.clone(),
        StepOutcome::Failed { reason, output, .. } | StepOutcome::Unknown { reason, output } => {
            format!("{reason}\n{output}")
        }
        StepOutcome::NotBegun { reason } => reason.clone(),
    }
}
