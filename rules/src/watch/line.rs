//! Entries as lines of a timeline, for people.

use super::Decided;
use super::entry::{Entry, VerificationResult};
use crate::action::StepOutcome;
use crate::decision::Decision;
use crate::deployment::ReportState;
use crate::execution::{Direction, ExecutionEnd};

/// Letters of a foreign summary that a line of the timeline shows.
const MOST_SUMMARY: usize = 300;

impl Entry {
    /// One line for the timeline; nothing for what happens at every look.
    pub fn words(&self) -> Option<String> {
        Some(match self {
            Entry::Measured { .. } => return None,
            Entry::Opened { deployment, .. } => {
                format!("{} {} deployed, watching", deployment.service, deployment.release.version)
            }
            Entry::BaselineTaken { past, windows } => {
                format!("baseline taken of {} signals", past.len() + windows.len())
            }
            Entry::Reported { report } => {
                let state = if report.state == ReportState::Firing { "reported" } else { "resolved" };
                let summary: String = report.summary.chars().take(MOST_SUMMARY).collect();
                format!("{} {state} by {}: {summary}", report.what, report.source)
            }
            Entry::Judged { verdict, row } => match row {
                Some(row) => format!("verdict: {verdict} ({row})"),
                None => format!("verdict: {verdict}"),
            },
            Entry::IncidentOpened { severity, row, .. } => format!("incident opened: {severity}, {row}"),
            Entry::Decided(decided) => decided_words(decided),
            Entry::MitigationBegan { name, until } => format!("trying first: {name}, until {until:.0}"),
            Entry::MitigationEnded { name, fixed: true } => format!("{name} is shown to have helped"),
            Entry::MitigationEnded { name, fixed: false } => format!("{name} is not shown to have helped"),
            Entry::PlanDrawn { plan, digest } => {
                format!(
                    "plan {} drawn up: back to {} in {} steps, digest {}",
                    plan.id,
                    plan.to.version,
                    plan.steps.len(),
                    digest.short()
                )
            }
            Entry::Rehearsed { rehearsal } => rehearsal.words(),
            Entry::CannotPlan { reason } => format!("no plan: {reason}"),
            Entry::ApprovalAsked { digest, expires } => {
                format!("waiting for approval of {} until {expires:.0}", digest.short())
            }
            Entry::ApprovalGiven { by, digest } => format!("{by} approved {}", digest.short()),
            Entry::ApprovalRefused { by, reason } => format!("{by} refused: {reason}"),
            Entry::ApprovalWithdrawn { verdict } => format!("no approval is needed any more: {verdict}"),
            Entry::ApprovalExpired => "nobody approved in time; nothing is done".into(),
            Entry::RollbackAsked { by, drill: false } => format!("{by} asked for a rollback"),
            Entry::RollbackAsked { by, drill: true } => format!("{by} began a drill"),
            Entry::HandedOver => "handed over to people".into(),
            Entry::ExecutionBegan { .. } => "rollback begins".into(),
            Entry::StepIntended { step, direction: Direction::Apply, attempt } => {
                format!("step {}: attempt {attempt}", step + 1)
            }
            Entry::StepIntended { step, direction: Direction::Undo, attempt } => {
                format!("step {}: undoing, attempt {attempt}", step + 1)
            }
            Entry::StepEnded { step, outcome } => format!("step {}: {}", step + 1, outcome_words(outcome)),
            Entry::ExecutionEnded { end } => match end {
                ExecutionEnd::Applied => "every step is done".into(),
                ExecutionEnd::Unwound(why) => format!("failed and undone: {why}"),
                ExecutionEnd::Stuck(why) => format!("stuck: {why}"),
            },
            Entry::VerificationBegan { until } => format!("verifying until {until:.0} at the latest"),
            Entry::VerificationEnded { result } => match result {
                VerificationResult::Recovered => "recovered".into(),
                VerificationResult::NotRecovered(why) => format!("not recovered: {why}"),
                VerificationResult::Unverified(why) => format!("unverified: {why}"),
            },
            Entry::ProgressTold { done, of, .. } => format!("told people: {done} of {of} steps are done"),
            Entry::AftercareBegan { next } => {
                format!("looking after it: checkpoint {} at {:.0}", next.checkpoint, next.at)
            }
            Entry::CheckpointTaken { taken, .. } => taken.words(),
            Entry::BlindBegan { signals } => {
                let signals: Vec<String> =
                    signals.iter().map(|(name, why)| format!("{name}: {why}")).collect();
                format!("blind: {}", signals.join("; "))
            }
            Entry::BlindEnded => "sight is back".into(),
            Entry::Escalated { clock } => format!("escalated: {clock}"),
            Entry::Superseded { by } => format!("superseded by {by}"),
            Entry::Closed { outcome } => format!("closed: {outcome}"),
        })
    }
}

fn decided_words(decided: &Decided) -> String {
    let what = match &decided.decision {
        Decision::Clear => "clear".to_owned(),
        Decision::KeepWatching => "keep watching".into(),
        Decision::Notify => "tell people".into(),
        Decision::Mitigate { name } => format!("try {name} first"),
        Decision::Propose { approval: true } => "propose a rollback and wait for a person's word".into(),
        Decision::Propose { approval: false } => "recommend a rollback".into(),
        Decision::RollBack => "roll back".into(),
        Decision::Hold => "hold".into(),
    };
    let why: Vec<&str> = decided.holds.iter().map(|hold| hold.words.as_str()).collect();
    if why.is_empty() {
        format!("decision: {what}")
    } else {
        format!("decision: {what} ({})", why.join("; "))
    }
}

fn outcome_words(outcome: &StepOutcome) -> String {
    match outcome {
        StepOutcome::Done { changed: true, .. } => "done".into(),
        StepOutcome::Done { changed: false, .. } => "was so already".into(),
        StepOutcome::Failed { reason, .. } => format!("failed: {reason}"),
        StepOutcome::Unknown { reason, .. } => format!("outcome unknown: {reason}"),
        StepOutcome::NotBegun { reason } => format!("not begun: {reason}"),
    }
}
