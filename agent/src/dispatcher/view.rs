//! Looking at the state from outside, between two inputs.

use super::Dispatcher;
use crate::clock;
use jiff::Timestamp;
use rules::decision::AutonomyLevel;
use rules::fleet::{Fleet, Situation};
use rules::guard::Hold;
use rules::ids::{EnvironmentName, ServiceName, Version, WatchId};
use rules::plan::RollbackPlan;
use rules::units::Span;
use rules::watch::{Phase, Watch};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The state, read only.
pub struct View<'a> {
    /// Open watches.
    pub watches: &'a BTreeMap<WatchId, Watch>,
    /// Watches closed lately, oldest first.
    pub closed: &'a VecDeque<Watch>,
    /// All services.
    pub fleet: &'a Fleet,
    /// When this was looked at.
    pub now: Timestamp,
    dispatcher: &'a Dispatcher,
}

/// A watch in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchSummary {
    /// Its identity.
    pub id: String,
    /// The service.
    pub service: String,
    /// The environment.
    pub environment: String,
    /// The release under observation.
    pub version: String,
    /// What ran before.
    pub previous: Option<String>,
    /// When it was deployed.
    pub deployed_at: Timestamp,
    /// The verdict, in words.
    pub verdict: String,
    /// The row that decides.
    pub row: Option<String>,
    /// What it is doing, in words.
    pub phase: String,
    /// Whether it is over.
    pub closed: bool,
    /// The autonomy level of the service.
    pub autonomy: AutonomyLevel,
    /// What is decided, in words.
    pub decision: Option<String>,
    /// What stands against acting.
    pub holds: Vec<Hold>,
    /// The case file, if there is one.
    pub incident: Option<IncidentSummary>,
    /// The newest plan.
    pub plan: Option<PlanSummary>,
}

/// A case file in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentSummary {
    /// How bad.
    pub severity: String,
    /// The row that held.
    pub row: String,
    /// When it was detected.
    pub opened: Timestamp,
    /// When it must be over.
    pub act_by: Timestamp,
    /// Time from the deployment to the detection.
    pub time_to_detect: Span,
    /// Time from the detection to the beginning of the rollback.
    pub time_to_decide: Option<Span>,
    /// Time from the detection to the recovery.
    pub time_to_recover: Option<Span>,
}

/// A plan in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Its identity.
    pub id: String,
    /// What a person approves.
    pub digest: String,
    /// The release that is returned to.
    pub to: String,
    /// Why that one is believed to be good.
    pub proof: String,
    /// Steps: name, what is done, state.
    pub steps: Vec<StepSummary>,
    /// Whether it waits for a person's word.
    pub awaits_approval: bool,
}

/// A step in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepSummary {
    /// Its name.
    pub name: String,
    /// Exactly what is done.
    pub does: String,
    /// Where it stands.
    pub state: String,
}

impl Dispatcher {
    pub(super) fn view(&self) -> View<'_> {
        View {
            watches: &self.watches,
            closed: &self.closed,
            fleet: &self.fleet,
            now: clock::now(),
            dispatcher: self,
        }
    }
}

impl View<'_> {
    /// An open or lately closed watch.
    pub fn watch(&self, id: &WatchId) -> Option<&Watch> {
        self.watches.get(id).or_else(|| self.closed.iter().find(|watch| watch.id == *id))
    }

    /// All watches in memory, the newest deployment first.
    pub fn all(&self) -> Vec<&Watch> {
        let mut all: Vec<&Watch> = self.watches.values().chain(self.closed).collect();
        all.sort_by_key(|watch| std::cmp::Reverse(watch.deployment.at));
        all
    }

    /// Deployments that got no watch since the start, because too many services without rules were watched.
    pub fn unwatched(&self) -> u64 {
        self.dispatcher.unwatched
    }

    /// Why nothing is begun, if so: what was said through the API, and the file, which no record tells of.
    pub fn stopped(&self) -> Option<String> {
        let executor = &self.dispatcher.parts.executor;
        match (self.fleet.stopped(), executor.stop_file()) {
            (Some(said), Some(file)) => Some(format!("{said}; {file}")),
            (Some(said), None) => Some(said.to_owned()),
            (None, _) => executor.switch(),
        }
    }

    /// Why the file counts as a pulled kill switch, if so: only removing it helps.
    pub fn stop_file(&self) -> Option<String> {
        self.dispatcher.parts.executor.stop_file()
    }

    /// The plan that would be drawn up for a service now, and the watch it is for. In words why there is none.
    pub fn draft(
        &self,
        service: &ServiceName,
        environment: &EnvironmentName,
        to: Option<&Version>,
    ) -> Result<(RollbackPlan, WatchSummary), String> {
        let same = |watch: &&Watch| {
            watch.deployment.service == *service && watch.deployment.environment == *environment
        };
        let watch = self.all().into_iter().find(same).ok_or_else(|| {
            format!("no deployment of {service} in {environment} is known; tell one with POST /v1/events")
        })?;
        let plan = watch.draft(to, &self.situation(watch), self.now).map_err(|reason| reason.to_string())?;
        Ok((plan, watch.into()))
    }

    /// What a watch is told about everything else.
    pub fn situation(&self, watch: &Watch) -> Situation {
        self.dispatcher.situation(watch, self.now)
    }
}

impl From<&Watch> for WatchSummary {
    fn from(watch: &Watch) -> Self {
        let deployment = &watch.deployment;
        let (verdict, row) = match &watch.verdict {
            Some((verdict, row)) => (verdict.to_string(), row.clone()),
            None => ("inconclusive".to_owned(), None),
        };
        Self {
            id: watch.id.to_string(),
            service: deployment.service.to_string(),
            environment: deployment.environment.to_string(),
            version: deployment.release.version.to_string(),
            previous: deployment.previous.as_ref().map(|release| release.version.to_string()),
            deployed_at: deployment.at,
            verdict,
            row,
            phase: phase_words(&watch.phase),
            closed: watch.is_closed(),
            autonomy: watch.rules.autonomy.level,
            decision: watch.decision.as_ref().map(|decided| rules::report::decision_words(&decided.decision)),
            holds: watch.decision.as_ref().map_or_else(Vec::new, |decided| decided.holds.clone()),
            incident: watch.incident.as_ref().map(|incident| IncidentSummary {
                severity: incident.severity.to_string(),
                row: incident.row.clone(),
                opened: incident.opened,
                act_by: incident.act_by,
                time_to_detect: Span::between(deployment.at, incident.opened),
                time_to_decide: incident.acted.map(|acted| Span::between(incident.opened, acted)),
                time_to_recover: incident
                    .recovered
                    .map(|recovered| Span::between(incident.opened, recovered)),
            }),
            plan: plan_summary(watch),
        }
    }
}

fn plan_summary(watch: &Watch) -> Option<PlanSummary> {
    let (plan, digest) = watch.plan.as_ref()?;
    let execution = watch.execution.as_ref().filter(|execution| execution.plan.id == plan.id);
    let states: Vec<String> = match execution {
        Some(execution) => execution.states().map(|(_, state)| rules::report::state_words(state)).collect(),
        None => vec!["not begun".to_owned(); plan.steps.len()],
    };
    Some(PlanSummary {
        id: plan.id.to_string(),
        digest: digest.to_string(),
        to: plan.to.version.to_string(),
        proof: plan.proof.clone(),
        awaits_approval: matches!(watch.phase, Phase::AwaitingApproval { .. }),
        steps: plan
            .steps
            .iter()
            .zip(states)
            .map(|(step, state)| StepSummary {
                name: step.name.to_string(),
                does: step.action.words(),
                state,
            })
            .collect(),
    })
}

/// A phase in words.
pub(crate) fn phase_words(phase: &Phase) -> String {
    match phase {
        Phase::Watching => "watching".into(),
        Phase::Mitigating { name, .. } => format!("people try {name} first"),
        Phase::AwaitingApproval { expires, .. } => format!("waits for approval until {expires:.0}"),
        Phase::Executing => "turning back".into(),
        Phase::Verifying { .. } => "verifying".into(),
        Phase::Aftercare { next } => rules::report::aftercare_words(next),
        Phase::HandedOver => "with people".into(),
        Phase::Closed(outcome) => format!("closed: {outcome}"),
    }
}
