//! The library, file by file; inputs, right and wrong; hostile texts through every input and placeholder.

mod hostile;
mod library;
mod payloads;
mod reading;

use super::*;
use crate::runbook::RunbookStep;
use serde_json::{Value, json};

pub(super) fn step(text: &str) -> Result<RunbookStep, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

pub(super) fn all() -> Vec<Preset> {
    preset_names()
        .map(|name| shipped_preset(name).unwrap_or_else(|| panic!("{name} cannot be read")))
        .collect()
}
