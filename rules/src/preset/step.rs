//! How a step of a runbook is read: with its own action, or with a preset whose parts it takes over.
//!
//! The reading is done here and not by the derived code, so that every way to a runbook (a configuration, a runbook that
//! ships, a rule set from the ledger) goes through the same door, and behind it a step is a step.

use super::{REFUSED, closest_preset, shipped_preset};
use crate::action::{ActionSpec, DEFAULT_TIMEOUT, EffectClass, InspectSpec, Reversibility, Undo};
use crate::deployment::Change;
use crate::ids::StepName;
use crate::runbook::RunbookStep;
use crate::units::Span;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A preset with its inputs, as a runbook names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetUse {
    /// The preset.
    pub name: String,
    /// Its inputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, Value>,
}

/// A step as it is written.
#[derive(Deserialize)]
#[serde(rename = "RunbookStep", deny_unknown_fields)]
struct Written {
    name: StepName,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    undoes: BTreeSet<Change>,
    #[serde(default)]
    action: Option<ActionSpec>,
    #[serde(default, deserialize_with = "known")]
    preset: Option<Box<super::Expanded>>,
    #[serde(default)]
    asks: Option<bool>,
    #[serde(default)]
    class: Option<EffectClass>,
    #[serde(default)]
    inspect: Option<InspectSpec>,
    #[serde(default)]
    verify: Option<InspectSpec>,
    #[serde(default)]
    undo: Option<Undo>,
    #[serde(default)]
    timeout: Option<Span>,
    #[serde(default)]
    reversibility: Option<Reversibility>,
}

/// Reads `preset:` and carries it out, so that what is wrong with it is told about this key.
fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<super::Expanded>>, D::Error> {
    let used = PresetUse::deserialize(deserializer)?;
    let Some(preset) = shipped_preset(&used.name) else {
        let shown: String = used.name.chars().take(64).collect();
        let advice = match closest_preset(&used.name) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "see `turnback preset list`".into(),
        };
        return Err(D::Error::custom(format!("there is no preset `{shown}`; {advice}")));
    };
    let expanded = preset.expand(&used.with).map_err(|problems| {
        let words: Vec<String> =
            problems.into_iter().map(|(input, words)| format!("{input}: {words}")).collect();
        D::Error::custom(format!("{REFUSED}{} cannot be used: {}", preset.name, words.join("; ")))
    })?;
    Ok(Some(Box::new(expanded)))
}

impl<'de> Deserialize<'de> for RunbookStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let step = Written::deserialize(deserializer)?;
        let preset = match (step.action, step.preset) {
            (Some(action), None) => {
                return Ok(Self {
                    name: step.name,
                    from: step.from,
                    undoes: step.undoes,
                    asks: step.asks.unwrap_or_else(|| action.only_looks()),
                    action,
                    class: step.class.ok_or_else(|| D::Error::missing_field("class"))?,
                    inspect: step.inspect,
                    verify: step.verify,
                    undo: step.undo.unwrap_or_default(),
                    timeout: step.timeout.unwrap_or(DEFAULT_TIMEOUT),
                    reversibility: step.reversibility.unwrap_or_default(),
                });
            }
            (None, None) => return Err(D::Error::missing_field("action")),
            (Some(_), Some(_)) => {
                return Err(D::Error::custom(
                    "both `action` and `preset` say what is done; keep one of them",
                ));
            }
            (None, Some(preset)) => *preset,
        };
        let reversibility = match step.reversibility {
            Some(weaker) if weaker < preset.reversibility => {
                let words =
                    "`reversibility` takes the danger of the preset lightly; a step can only be stricter";
                return Err(D::Error::custom(words));
            }
            Some(own) => own,
            None => preset.reversibility,
        };
        Ok(Self {
            name: step.name,
            from: step.from,
            undoes: step.undoes,
            asks: step.asks.unwrap_or(preset.asks),
            action: preset.action,
            class: step.class.unwrap_or(preset.class),
            inspect: step.inspect.or(preset.inspect),
            verify: step.verify.or(preset.verify),
            undo: step.undo.unwrap_or(preset.undo),
            timeout: step.timeout.unwrap_or(preset.timeout),
            reversibility,
        })
    }
}
