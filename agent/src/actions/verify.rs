//! The question after the action: "done" is what the action said, and a vendor that took a request has not carried it out.
//!
//! A step with `verify` counts as done when its question is answered with yes within the step's time. It is asked again
//! and again until then, because most effects take a while to show. When time is up the outcome is *unknown*, whatever the
//! last answer was: "not yet" is no proof that it will not be. Nothing is asked after an action that failed.

use super::{Context, Direction, build, chain, pulled, pulled_already};
use crate::secrets::Secrets;
use rules::action::{Inspected, StepOutcome};
use rules::plan::Step;
use rules::units::Span;
use std::time::{Duration, Instant};

/// Between two questions: soon enough for a purge that takes a second, seldom enough for any vendor's limits.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// One question may not take the time of all others.
const LONGEST_QUESTION: Span = Span::from_seconds(60);

/// Holds the outcome of an action against the step's question, within what is left of the step's time.
pub(super) async fn confirm(
    step: &Step,
    direction: Direction,
    outcome: StepOutcome,
    context: &Context,
    began: Instant,
    secrets: &Secrets,
) -> StepOutcome {
    let (StepOutcome::Done { output, changed }, Direction::Apply, Some(verify)) =
        (&outcome, direction, &step.verify)
    else {
        return outcome;
    };
    let unknown = |reason: String| StepOutcome::Unknown {
        reason: format!("the action says that it is done, and the verification does not: {reason}"),
        output: output.clone(),
    };
    let question = match build(&verify.action, secrets) {
        Ok(question) => question,
        Err(error) => return unknown(format!("asking cannot be begun: {}", chain(&error))),
    };
    let mut last = "there was no time left to ask".to_owned();
    loop {
        let left = step.timeout.duration().saturating_sub(began.elapsed());
        if left.is_zero() {
            return unknown(format!("{last} (asked for as long as the step may take, {})", step.timeout));
        }
        if let Some(reason) = pulled_already(&context.cancel) {
            return unknown(reason);
        }
        let left = Span::from_milliseconds(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1));
        let one = Context { timeout: left.min(LONGEST_QUESTION), ..context.clone() };
        last = match question.inspect(&one).await {
            Inspected::Present => return StepOutcome::Done { output: output.clone(), changed: *changed },
            Inspected::Missing => "the answer is no".into(),
            Inspected::Unclear { reason } => reason,
        };
        let pause = ASK_EVERY.min(step.timeout.duration().saturating_sub(began.elapsed()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = pulled(&context.cancel) => {}
        }
    }
}
