//! The deployment log: one entry in Markdown for every action that was taken, with the commands that ran and what came of
//! them. Procedures ask for it by name; whoever reads it later needs neither the agent nor its ledger.
//!
//! It is a projection of the ledger and knows nothing else: the same records give the same text.

use super::postmortem::plain;
use crate::action::{ActionSpec, StepOutcome, Undo};
use crate::execution::{Direction, ExecutionEnd};
use crate::plan::RollbackPlan;
use crate::units::Span;
use crate::watch::{Entry, VerificationResult};
use jiff::Timestamp;

/// Letters of an output that an entry shows: its beginning; the ledger has what was kept of it.
const MOST_OUTPUT: usize = 2_000;

/// What is known of one watch while its entries are written.
#[derive(Debug, Clone, Default)]
pub struct LogBook {
    plan: Option<RollbackPlan>,
    asked_by: Option<String>,
    begun: bool,
    intended: Option<(Timestamp, Direction, u32)>,
}

impl LogBook {
    /// Whether this kind of record, by its name in the ledger, ever becomes an entry.
    pub fn tells(kind: &str) -> bool {
        [
            "execution_began",
            "step_ended",
            "execution_ended",
            "verification_ended",
            "checkpoint_taken",
            "closed",
        ]
        .contains(&kind)
    }

    /// Takes the next record of the watch in. What comes back is an entry, a heading first.
    pub fn take(&mut self, at: Timestamp, entry: &Entry) -> Option<String> {
        match entry {
            Entry::PlanDrawn { plan, .. } => self.plan = Some((**plan).clone()),
            Entry::ApprovalGiven { by, .. } | Entry::RollbackAsked { by, .. } => {
                self.asked_by = Some(by.clone())
            }
            Entry::StepIntended { direction, attempt, .. } => {
                self.intended = Some((at, *direction, *attempt))
            }
            Entry::ExecutionBegan { by_person } => {
                self.begun = true;
                return self.beginning(at, *by_person);
            }
            // What never began is no action.
            Entry::StepEnded { outcome: StepOutcome::NotBegun { .. }, .. } => self.intended = None,
            Entry::StepEnded { step, outcome } => return self.action(at, *step, outcome),
            Entry::ExecutionEnded { end } => {
                let what = match end {
                    ExecutionEnd::Applied => "every step is done".to_owned(),
                    ExecutionEnd::Unwound(why) => format!("failed and undone: {why}"),
                    ExecutionEnd::Stuck(why) => format!("stuck, a person is needed: {why}"),
                };
                return self.line(at, &what);
            }
            Entry::VerificationEnded { result } => {
                let what = match result {
                    VerificationResult::Recovered => "the service is shown to be well again".to_owned(),
                    VerificationResult::NotRecovered(why) => format!("it did not help: {why}"),
                    VerificationResult::Unverified(why) => format!("whether it helped is not known: {why}"),
                };
                return self.line(at, &what);
            }
            Entry::CheckpointTaken { taken, .. } => {
                let mut text = self.line(at, &taken.words())?;
                for line in taken.lines() {
                    text.push_str(&format!("- {}\n", plain(&line)));
                }
                return Some(text);
            }
            Entry::Closed { outcome } if self.begun => return self.line(at, &format!("closed: {outcome}")),
            _ => {}
        }
        None
    }

    fn heading(&self, at: Timestamp, what: &str) -> Option<String> {
        let plan = self.plan.as_ref()?;
        let place = format!("{} in {}", plan.service, plan.environment);
        Some(format!("{at:.0} {}: {}\n", plain(&place), plain(what)))
    }

    fn line(&self, at: Timestamp, what: &str) -> Option<String> {
        self.heading(at, what).map(|heading| format!("### {heading}\n"))
    }

    fn beginning(&self, at: Timestamp, by_person: bool) -> Option<String> {
        let plan = self.plan.as_ref()?;
        let what = format!("rollback from {} to {}", plan.from.version, plan.to.version);
        let who = match (by_person, &self.asked_by) {
            (true, Some(by)) => format!("by the word of {by}"),
            (true, None) => "by a person's word".into(),
            (false, _) => "by Turnback alone".into(),
        };
        let mut text = format!("## {}\n", self.heading(at, &what)?);
        text.push_str(&format!("- started {}\n- reason: {}\n", plain(&who), plain(&plan.reason)));
        text.push_str(&format!("- returns to: {}\n", plain(&plan.proof)));
        text.push_str(&format!("- plan {}, digest {}, watch {}\n", plan.id, plan.digest(), plan.watch));
        Some(text)
    }

    fn action(&mut self, at: Timestamp, index: usize, outcome: &StepOutcome) -> Option<String> {
        let plan = self.plan.as_ref()?;
        let step = plan.steps.get(index)?;
        let (began, direction, attempt) = self.intended.take().unwrap_or((at, Direction::Apply, 1));
        let undoing = if direction == Direction::Undo { "undoing " } else { "" };
        let what = format!("step {} of {}, {undoing}{}", index + 1, plan.steps.len(), step.title());
        let action: Option<&ActionSpec> = match (direction, &step.undo) {
            (Direction::Apply, _) => Some(&step.action),
            (Direction::Undo, Undo::Action(action)) => Some(action),
            (Direction::Undo, Undo::NotNeeded | Undo::Impossible) => None,
        };
        let mut text = format!("### {}\n", self.heading(at, &what)?);
        let took = Span::between(began, at);
        let (said, output) = outcome_words(outcome);
        text.push_str(&format!("- outcome: {}\n- attempt {attempt}, took {took}\n", plain(&said)));
        text.push_str("- ran:\n\n");
        text.push_str(&code(&action.map_or_else(|| "nothing".into(), ActionSpec::words)));
        if !output.trim().is_empty() {
            text.push_str("\n- it said:\n\n");
            text.push_str(&code(output));
        }
        Some(text)
    }
}

fn outcome_words(outcome: &StepOutcome) -> (String, &str) {
    match outcome {
        StepOutcome::Done { changed: true, output } => ("done".into(), output),
        StepOutcome::Done { changed: false, output } => ("was so already".into(), output),
        StepOutcome::Failed { reason, output, .. } => (format!("failed: {reason}"), output),
        StepOutcome::Unknown { reason, output } => (format!("not known: {reason}"), output),
        StepOutcome::NotBegun { reason } => (format!("not begun: {reason}"), ""),
    }
}

/// Indented below its point, so that nothing in it is read as Markdown; control characters taken out.
fn code(text: &str) -> String {
    let mut letters = text.chars();
    let shown: String = letters.by_ref().take(MOST_OUTPUT).collect();
    let more = if letters.next().is_some() { "\n… (the ledger has the rest)" } else { "" };
    let whole = format!("{}{more}", shown.trim_end());
    whole
        .lines()
        .map(|line| {
            let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            format!("      {line}").trim_end().to_owned() + "\n"
        })
        .collect()
}
