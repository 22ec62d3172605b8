//! What is said to a watch and what it says: inputs, effects, notices.

use super::entry::Entry;
use crate::action::StepOutcome;
use crate::deployment::Report;
use crate::execution::Direction;
use crate::fleet::FleetEntry;
use crate::ids::{EnvironmentName, PlanDigest, PlanId, ServiceName, SignalName, Version, WatchId};
use crate::matrix::Severity;
use crate::past::{Past, Ranges};
use crate::plan::{RollbackPlan, Step};
use crate::rehearsal::Rehearsal;
use crate::signal::Measurement;
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything the world can say to a watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// It was just opened.
    Deployed,
    /// The agent started again and restored the watch from the ledger.
    Restarted,
    /// The past of the signals, oldest window first.
    Baseline(BTreeMap<SignalName, Past>),
    /// What came of a look.
    Samples(Vec<Measurement>),
    /// An alert, a test result, an incident.
    Reported(Report),
    /// A newer deployment of the same service.
    Superseded(WatchId),
    /// A person approves the plan with this digest.
    Approved {
        /// Who.
        by: String,
        /// The digest they saw.
        digest: PlanDigest,
    },
    /// A person refuses the plan.
    Refused {
        /// Who.
        by: String,
        /// The digest they saw.
        digest: PlanDigest,
        /// Why.
        reason: String,
    },
    /// A person wants the service turned back.
    RollbackAsked {
        /// Who.
        by: String,
        /// To this release; to the best known one if not said.
        to: Option<Version>,
        /// Whether it is practised: on a target declared safe for it.
        drill: bool,
    },
    /// An attempt at a step ended.
    StepEnded {
        /// The plan.
        plan: PlanId,
        /// Index of the step.
        step: usize,
        /// The attempt.
        attempt: u32,
        /// What came of it.
        outcome: StepOutcome,
    },
    /// A plan was tried without an effect.
    Rehearsed(Rehearsal),
    /// Time has passed.
    Tick,
}

/// What the watch wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Effect {
    /// Make this durable before anything else.
    Record {
        /// What happened.
        entry: Entry,
        /// What it means for the fleet; durable together with the entry.
        fleet: Vec<FleetEntry>,
    },
    /// Measure the past of every signal.
    MeasureBaseline {
        /// Which parts of it.
        ranges: Ranges,
    },
    /// Measure now: for each signal from the end of its last window on.
    Measure {
        /// Signal, and where its window begins.
        since: Vec<(SignalName, Timestamp)>,
    },
    /// Try this plan without an effect.
    Rehearse(Box<RollbackPlan>),
    /// Attempt a step; guards are asked again right before the effect.
    RunStep(Box<Permit>),
    /// Tell people.
    Notify(Notice),
    /// The answer to whoever asked for something.
    Answer(Result<String, String>),
    /// Send a `Tick` at this time, instead of any earlier wish.
    WakeAt(Timestamp),
    /// It is over.
    Close,
}

/// Leave to attempt one step once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Permit {
    /// The watch.
    pub watch: WatchId,
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The plan.
    pub plan: PlanId,
    /// Index of the step.
    pub index: usize,
    /// The step.
    pub step: Step,
    /// Doing or undoing.
    pub direction: Direction,
    /// From 1.
    pub attempt: u32,
    /// Whether an earlier attempt may have worked.
    pub unknown: bool,
    /// When the plan began.
    pub began: Timestamp,
    /// How long it may take.
    pub limit: Span,
    /// Whether a person's word is behind it.
    pub by_person: bool,
}

/// Something for people. The words are made by [`crate::report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What kind of news.
    pub kind: NoticeKind,
    /// How bad.
    pub severity: Option<Severity>,
    /// One line.
    pub title: String,
    /// The rest.
    pub text: String,
}

/// What kind of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The telemetry is broken.
    Blind,
    /// The telemetry is back.
    SightBack,
    /// A release is hurting.
    Degraded,
    /// Nothing is done, and this is what would have been done.
    WouldRollBack,
    /// Try this first.
    Mitigation,
    /// A plan for a person to carry out.
    Recommended,
    /// A plan waits for a person's word.
    ApprovalNeeded,
    /// A clock runs out.
    Escalation,
    /// A guard holds the agent back.
    Held,
    /// No plan can be drawn up.
    CannotPlan,
    /// A plan is being carried out.
    RollbackBegan,
    /// A plan came to an end that needs a person.
    NeedsPerson,
    /// How far a plan is that takes long.
    Progress,
    /// It helped.
    Recovered,
    /// A checkpoint after a rollback was taken.
    Checkpoint,
    /// A checkpoint after a rollback was taken, and the service does not keep what it must.
    CheckpointMissed,
    /// The agent started again in the middle.
    Restarted,
    /// A release is shown to be well.
    Healthy,
    /// Many services ail at the same time.
    Storm,
    /// They are well again.
    StormOver,
}

impl NoticeKind {
    /// As one word, as it is written.
    pub fn word(self) -> String {
        let word = serde_json::to_value(self).ok().and_then(|word| word.as_str().map(str::to_owned));
        word.unwrap_or_default()
    }

    /// Whether somebody is woken up for it.
    pub fn pages(self) -> bool {
        match self {
            NoticeKind::Blind
            | NoticeKind::ApprovalNeeded
            | NoticeKind::Escalation
            | NoticeKind::Held
            | NoticeKind::CannotPlan
            | NoticeKind::RollbackBegan
            | NoticeKind::Storm
            | NoticeKind::CheckpointMissed
            | NoticeKind::NeedsPerson => true,
            NoticeKind::SightBack
            | NoticeKind::Degraded
            | NoticeKind::WouldRollBack
            | NoticeKind::Mitigation
            | NoticeKind::Recommended
            | NoticeKind::Progress
            | NoticeKind::Recovered
            | NoticeKind::Checkpoint
            | NoticeKind::Restarted
            | NoticeKind::StormOver
            | NoticeKind::Healthy => false,
        }
    }
}
