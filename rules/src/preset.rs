//! Presets: operations of vendors as data, so that a runbook names `vercel-rollback` and not an address, a body and the
//! answer that means success.
//!
//! A preset is a template of one action with *inputs*. Whoever writes a runbook fills the inputs (`with:`); what comes
//! out is an ordinary step, before any plan is drawn. Plans, ledger and executor know nothing about presets, and a
//! library that changes with a new version of the agent changes no watch that is open.
//!
//! ```text
//!  preset (library/actions/*.yaml) ─┐
//!  with: (the runbook)             ─┴▶ expand.rs ──▶ ActionSpec with {{to.version}} … ──▶ plan
//! ```
//!
//! Three fences. Host and program come from the preset or the configuration, never from an event. A secret is a
//! reference that only `secret_headers` and `secret_env` take. And an input is encoded for the place where it stands
//! (`expand`), as the values of a plan are (`runbook`), so that nothing can end a string, a segment or an argument.

mod check;
mod example;
mod expand;
mod input;
mod library;
mod step;
#[cfg(test)]
mod tests;

pub(crate) use check::inputs_problems;
pub use example::{Answer, Example, Sent, body};
pub use expand::Expanded;
pub(crate) use expand::{Filler, inputs_in};
pub use input::{Format, Input, InputKind};
pub use library::{PRESETS, closest_preset, preset_names, shipped_preset};
pub use step::PresetUse;

use crate::action::{ActionSpec, DEFAULT_TIMEOUT, EffectClass, Reversibility, Undo};
use crate::units::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is said where the configuration holds a secret instead of its place.
const SECRET_IN_THE_OPEN: &str = "a secret must not stand in the configuration";

/// How the words begin that say why a step's inputs were refused. A report shows no line of which it says so: among the
/// inputs may be a secret that somebody wrote out.
pub const REFUSED: &str = "the preset ";

/// One operation of one vendor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Its name, which is also the name of its file.
    pub name: String,
    /// Whose operation it is, as people call them.
    pub vendor: String,
    /// One line for people.
    pub summary: String,
    /// The vendor's own documentation of it.
    pub link: String,
    /// What one should know before it runs: what it does not do, what it needs, what happens afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// What is lost if it was a mistake.
    pub danger: Danger,
    /// What is known about repeating it.
    pub class: EffectClass,
    /// Why going again is harmless. Required for `keyed`: few vendors know keys, and then it must be the operation
    /// itself that does nothing the second time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<String>,
    /// How long it may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// What a runbook fills in.
    #[serde(default)]
    pub inputs: BTreeMap<String, Input>,
    /// What is done: an action with `{{input.NAME}}` besides the placeholders of every runbook.
    pub apply: ActionSpec,
    /// How one looks whether it is done already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspect: Option<ActionSpec>,
    /// The question that must be answered with yes afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<ActionSpec>,
    /// What undoes it.
    pub undo: Undo,
    /// What it sends, to the letter, for given inputs: documentation that is tested.
    #[serde(default)]
    pub examples: Vec<Example>,
}

fn default_timeout() -> Span {
    DEFAULT_TIMEOUT
}

/// What is lost if it was a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Danger {
    /// It only asks or tells.
    None,
    /// Nothing that one more step does not bring back.
    Low,
    /// Going forward again takes work.
    High,
    /// Data.
    Destructive,
}

impl Danger {
    /// The same for the step of a plan.
    pub fn reversibility(self) -> Reversibility {
        match self {
            Danger::None | Danger::Low => Reversibility::Reversible,
            Danger::High => Reversibility::Irreversible,
            Danger::Destructive => Reversibility::Destructive,
        }
    }

    /// As one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Danger::None => "none",
            Danger::Low => "low",
            Danger::High => "high",
            Danger::Destructive => "destructive",
        }
    }
}

impl Preset {
    /// Everything wrong with the preset itself, each with the key at fault. Inputs of a runbook are checked by
    /// [`Preset::expand`].
    pub fn problems(&self) -> Vec<(String, String)> {
        check::problems(self)
    }

    /// The actions it holds, each with its key.
    pub fn actions(&self) -> Vec<(&'static str, &ActionSpec)> {
        let undo = match &self.undo {
            Undo::Action(action) => Some(action),
            Undo::NotNeeded | Undo::Impossible => None,
        };
        let all = [
            ("apply", Some(&self.apply)),
            ("inspect", self.inspect.as_ref()),
            ("verify", self.verify.as_ref()),
            ("undo", undo),
        ];
        all.into_iter().filter_map(|(key, action)| Some((key, action?))).collect()
    }
}
