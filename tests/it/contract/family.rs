//! What the suite and the crash matrix have to know about a family of actions.

use anyhow::Result;
use rules::action::EffectClass;
use tests::gate::Gate;

/// Whether a family has what a case of the suite is about.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// It has, and the case is run.
    Kept,
    /// It has not, for this reason.
    NotPossible(&'static str),
}

/// A family in the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// As [`rules::action::ActionSpec::family`] says it.
    pub name: &'static str,
    /// The class of its step.
    pub class: EffectClass,
    /// Whether its step can be undone.
    pub undo: Rule,
    /// Whether an effect that arrives after the step was taken again is kept from being a second one.
    pub late: Rule,
    /// Whether it notices what somebody else does to the same object between its look and its write.
    pub third_party: Rule,
    /// What the network carries only when the step has its effect.
    pub effect: &'static [u8],
    /// What it carries between the look and the write, when a change of somebody else still counts as earlier.
    pub between: &'static [u8],
}

/// What really happened, by the target's own record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Effects of the step.
    pub applied: usize,
    /// Effects of its undo.
    pub undone: usize,
}

/// A target of one family with a gate before it, and a step that acts on it.
pub trait Family: Sized {
    /// Its row in the table.
    const ROW: Row;

    /// Sets the target up.
    async fn set_up() -> Result<Self>;

    /// The action as it stands in a runbook, on one line.
    fn action(&self) -> String;

    /// The action that undoes it, likewise.
    fn undo(&self) -> Option<String>;

    /// Environment variables of the agent that hold its secrets.
    fn secrets(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What stands between the agent and the target.
    fn gate(&self) -> &Gate;

    /// Counts effects from outside.
    async fn seen(&self) -> Result<Seen>;

    /// Makes the target refuse the effect, or take it again.
    async fn refuse(&self, refuse: bool) -> Result<()>;

    /// How often the target has refused, by its own record.
    async fn refused(&self) -> Result<usize>;

    /// Somebody else changes the same object.
    async fn meddle(&self) -> Result<()>;

    /// Whether that change still stands.
    async fn meddled(&self) -> Result<bool>;
}
