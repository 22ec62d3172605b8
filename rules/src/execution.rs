//! The life of a plan as told by the log: a fold, and the one question "what next?".
//!
//! Intent is written before an effect, the outcome after it; what stands here is never ahead of what was written. An
//! illegal transition is an error, not a surprise later.

use crate::action::{EffectClass, FailureKind, StepOutcome, Undo};
use crate::plan::{RollbackPlan, Step};
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether a step is done or undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Forward.
    Apply,
    /// Back, because a later step failed.
    Undo,
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// The intent is written, the outcome is not.
    InFlight {
        /// Doing or undoing.
        direction: Direction,
        /// From 1.
        attempt: u32,
    },
    /// A passing failure, or an unknown outcome of a step that may be repeated: there will be another attempt.
    Again {
        /// Doing or undoing.
        direction: Direction,
        /// Attempts so far.
        attempts: u32,
        /// Not before.
        not_before: Timestamp,
        /// Whether the effect may be there already.
        unknown: bool,
    },
    /// The effect is there.
    Done,
    /// The effect is certainly not there, and there will be no other attempt.
    Failed,
    /// The effect was there and is not any more.
    Undone,
    /// Nobody can tell, or it cannot be undone: a person is needed.
    Stuck(String),
}

/// How a plan ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionEnd {
    /// Every step is done. Whether it helped is for the verification to say.
    Applied,
    /// A step failed, and everything done before was undone (or nothing had been done).
    Unwound(String),
    /// It stands half-way, or nobody knows where: a person is needed.
    Stuck(String),
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Run this step, for the `attempt`-th time. `unknown`: an earlier attempt may have worked.
    Run {
        /// Index of the step.
        step: usize,
        /// Doing or undoing.
        direction: Direction,
        /// From 1.
        attempt: u32,
        /// Whether an earlier attempt may have worked.
        unknown: bool,
    },
    /// A step is in flight.
    Wait,
    /// Nothing before this time.
    WaitUntil(Timestamp),
    /// It is over.
    Finished(ExecutionEnd),
}

/// A transition that the log must not contain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log does not add up: step {step} of plan {plan} is {state:?} and cannot {what}")]
pub struct IllegalTransition {
    plan: String,
    step: String,
    state: Box<StepState>,
    what: &'static str,
}

/// A plan being carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// The plan.
    pub plan: RollbackPlan,
    /// When it began.
    pub began: Timestamp,
    /// Whether a person's word started it.
    pub by_person: bool,
    states: Vec<StepState>,
    /// Why it is going back, once it is.
    unwinding: Option<String>,
    /// What the last outcome said, for people.
    pub last_words: String,
    /// Whether the last attempt never began, because a guard stood in the way.
    pub held: bool,
    /// By step: whether an attempt whose outcome nobody knows may have left its effect.
    maybe_there: Vec<bool>,
}

/// Attempts at one step, those cut short by a crash included: a step that takes the agent down three times is stuck.
pub const MOST_ATTEMPTS: u32 = 3;

/// The pause before attempt 2, 3, …: short, because users are waiting; growing, because the target may be busy.
fn pause_before(attempt: u32) -> Span {
    Span::from_seconds(1 << attempt.min(5))
}

impl Execution {
    /// Nothing done yet.
    pub fn new(plan: RollbackPlan, by_person: bool, began: Timestamp) -> Self {
        let states = vec![StepState::Pending; plan.steps.len()];
        let maybe_there = vec![false; states.len()];
        Self {
            plan,
            began,
            by_person,
            states,
            unwinding: None,
            last_words: String::new(),
            held: false,
            maybe_there,
        }
    }

    /// Where each step stands.
    pub fn states(&self) -> impl Iterator<Item = (&Step, &StepState)> {
        self.plan.steps.iter().zip(&self.states)
    }

    /// The step that is in flight, if one is.
    pub fn in_flight(&self) -> Option<(usize, Direction, u32)> {
        self.states.iter().enumerate().find_map(|(step, state)| match state {
            StepState::InFlight { direction, attempt } => Some((step, *direction, *attempt)),
            _ => None,
        })
    }

    /// How many steps are done, and how many there are.
    pub fn progress(&self) -> (usize, usize) {
        (self.states.iter().filter(|state| **state == StepState::Done).count(), self.states.len())
    }

    fn illegal(&self, step: usize, what: &'static str) -> IllegalTransition {
        let name = self.plan.steps.get(step).map_or_else(|| step.to_string(), |step| step.name.to_string());
        let state = self.states.get(step).cloned().unwrap_or(StepState::Pending);
        IllegalTransition { plan: self.plan.id.to_string(), step: name, state: Box::new(state), what }
    }

    /// The intent of an attempt was written.
    pub fn intended(
        &mut self,
        step: usize,
        direction: Direction,
        attempt: u32,
    ) -> Result<(), IllegalTransition> {
        // What would come next if no pause had to be kept: one step at a time, in this order, back only when it failed.
        let next = self.next(Timestamp::MAX);
        let legal = matches!(next, Next::Run { step: due, direction: way, attempt: number, .. }
            if (due, way, number) == (step, direction, attempt));
        if !legal {
            return Err(self.illegal(step, "be begun"));
        }
        self.states[step] = StepState::InFlight { direction, attempt };
        Ok(())
    }

    /// The outcome of an attempt was written.
    pub fn ended(
        &mut self,
        step: usize,
        outcome: &StepOutcome,
        at: Timestamp,
    ) -> Result<(), IllegalTransition> {
        let Some(StepState::InFlight { direction, attempt }) = self.states.get(step).cloned() else {
            return Err(self.illegal(step, "end"));
        };
        let class = self.plan.steps[step].class;
        let name = self.plan.steps[step].name.clone();
        let may_repeat = class.may_repeat() || direction == Direction::Undo;
        let maybe_there = self.maybe_there[step];
        let again = |unknown| StepState::Again {
            direction,
            attempts: attempt,
            not_before: pause_before(attempt).after(at),
            unknown,
        };
        // A later attempt that certainly failed says nothing about an earlier one nobody knows of, unless the executor
        // looked for its effect first.
        let looked = matches!(class, EffectClass::CompareAndSet | EffectClass::Lookup);
        let (state, words) = match outcome {
            StepOutcome::Done { changed, .. } => {
                let state = if direction == Direction::Apply { StepState::Done } else { StepState::Undone };
                let words = if *changed { "done" } else { "it was so already" };
                (state, words.to_owned())
            }
            // It never began: the attempt does not count.
            StepOutcome::NotBegun { reason } => {
                (not_begun(direction, attempt, at, maybe_there), reason.clone())
            }
            StepOutcome::Failed { kind: FailureKind::Retryable, reason, .. }
                if may_repeat && attempt < MOST_ATTEMPTS =>
            {
                (again(maybe_there && !looked), reason.clone())
            }
            StepOutcome::Failed { reason, .. } if direction == Direction::Undo => {
                (StepState::Stuck(format!("{name} could not be undone: {reason}")), reason.clone())
            }
            StepOutcome::Failed { reason, .. } if maybe_there && !looked => {
                let why =
                    format!("an earlier attempt at {name} may have worked, the last one failed: {reason}");
                (StepState::Stuck(why), reason.clone())
            }
            // The release is back. That an answer is not the hoped-for one is a reason to call somebody, and none to bring
            // the bad release back.
            StepOutcome::Failed { reason, .. } if self.plan.steps[step].asks && self.has_turned_back() => {
                let why = format!("{name} failed when the service was turned back, which stays so: {reason}");
                (StepState::Stuck(why), reason.clone())
            }
            StepOutcome::Failed { reason, .. } => (StepState::Failed, reason.clone()),
            StepOutcome::Unknown { reason, .. } if may_repeat && attempt < MOST_ATTEMPTS => {
                (again(true), reason.clone())
            }
            StepOutcome::Unknown { reason, .. } => {
                (StepState::Stuck(format!("whether {name} happened is not known: {reason}")), reason.clone())
            }
        };
        if state == StepState::Failed {
            self.unwinding = Some(format!("{name} failed: {words}"));
        }
        self.maybe_there[step] = match &state {
            StepState::Again { unknown, .. } => *unknown,
            StepState::Done | StepState::Undone | StepState::Failed => false,
            StepState::Pending | StepState::InFlight { .. } | StepState::Stuck(_) => maybe_there,
        };
        self.held = matches!(outcome, StepOutcome::NotBegun { .. });
        self.last_words = words;
        self.states[step] = state;
        Ok(())
    }

    /// Whether something of the release is undone: a step that says so is done, or, where none says what it undoes, any that
    /// could be undone again.
    fn has_turned_back(&self) -> bool {
        let says = self.plan.steps.iter().any(|step| !step.undoes.is_empty());
        let turns = |step: &Step| {
            if says { !step.undoes.is_empty() } else { !step.asks && step.undo != Undo::NotNeeded }
        };
        self.states().any(|(step, state)| *state == StepState::Done && turns(step))
    }

    /// What is next.
    pub fn next(&self, now: Timestamp) -> Next {
        if let Some(why) = self
            .states
            .iter()
            .find_map(|state| if let StepState::Stuck(why) = state { Some(why) } else { None })
        {
            return Next::Finished(ExecutionEnd::Stuck(why.clone()));
        }
        if self.in_flight().is_some() {
            return Next::Wait;
        }
        for (step, state) in self.states.iter().enumerate() {
            if let StepState::Again { direction, attempts, not_before, unknown } = state {
                if *not_before > now {
                    return Next::WaitUntil(*not_before);
                }
                return Next::Run { step, direction: *direction, attempt: attempts + 1, unknown: *unknown };
            }
        }
        match &self.unwinding {
            Some(why) => self.next_back(why),
            None => match self.states.iter().position(|state| *state == StepState::Pending) {
                Some(step) => Next::Run { step, direction: Direction::Apply, attempt: 1, unknown: false },
                None => Next::Finished(ExecutionEnd::Applied),
            },
        }
    }

    fn next_back(&self, why: &str) -> Next {
        // Who cannot go back all the way does not go back half way: the later steps fit what cannot be undone, and a person
        // finds the service as the plan left it and not between two releases.
        let fixed = self
            .states
            .iter()
            .zip(&self.plan.steps)
            .rfind(|(state, step)| **state == StepState::Done && step.undo == Undo::Impossible);
        if let Some((_, step)) = fixed {
            let name = &step.name;
            return Next::Finished(ExecutionEnd::Stuck(format!(
                "{why}; {name} is done and cannot be undone"
            )));
        }
        for (step, state) in self.states.iter().enumerate().rev() {
            if *state != StepState::Done {
                continue;
            }
            match &self.plan.steps[step].undo {
                Undo::NotNeeded | Undo::Impossible => {}
                Undo::Action(_) => {
                    return Next::Run { step, direction: Direction::Undo, attempt: 1, unknown: false };
                }
            }
        }
        Next::Finished(ExecutionEnd::Unwound(why.to_owned()))
    }

    /// The end of a plan that must not go on: at the boundary where it stands.
    pub fn stopped_here(&self, why: &str) -> ExecutionEnd {
        let touched = self.states.iter().any(|state| match state {
            StepState::Pending | StepState::Undone | StepState::Failed => false,
            // Held back before it began, or certainly failed so far: nothing is there.
            StepState::Again { direction: Direction::Apply, unknown, .. } => *unknown,
            StepState::Again { direction: Direction::Undo, .. }
            | StepState::InFlight { .. }
            | StepState::Done
            | StepState::Stuck(_) => true,
        });
        if touched { ExecutionEnd::Stuck(why.to_owned()) } else { ExecutionEnd::Unwound(why.to_owned()) }
    }
}

/// How long to wait before a step that a guard held back is asked for again.
const HELD_PAUSE: Span = Span::from_seconds(2);

fn not_begun(direction: Direction, attempt: u32, at: Timestamp, unknown: bool) -> StepState {
    // `attempt - 1`: the next attempt carries the same number, since this one was none.
    StepState::Again { direction, attempts: attempt - 1, not_before: HELD_PAUSE.after(at), unknown }
}
