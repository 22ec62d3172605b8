//! The presets that ship, embedded into the binary.

use super::Preset;
use crate::suggest::closest;

/// The names and texts of the presets that ship, by name.
pub const PRESETS: [(&str, &str); 0] = [];
/// Every name, sorted.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// Reads a preset that ships. `None` if there is none of this name. Every shipped text is read by a test.
pub fn shipped_preset(name: &str) -> Option<Preset> {
    let (_, text) = PRESETS.iter().find(|(shipped, _)| *shipped == name)?;
    serde_saphyr::from_str(text).ok()
}

/// The shipped name that a mistyped one was most likely meant to be.
pub fn closest_preset(wrong: &str) -> Option<&'static str> {
    closest(wrong, preset_names())
}
