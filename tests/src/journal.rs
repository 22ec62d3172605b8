//! The effects journal: what really happened, written by those who did it and kept outside the agent.
//!
//! An agent that is killed in the middle of a step cannot be asked how often it acted. The journal can: each effect
//! appends one line in one write, durable before the effect's program goes on.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One thing that happened, once. Its line in the journal is this as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// When, by the clock of the process that had the effect.
    pub time: Timestamp,
    /// The plan on whose behalf; empty if it was none.
    pub plan: String,
    /// The step of that plan.
    pub step: String,
    /// The idempotency key that the program was given; empty if none.
    pub key: String,
    /// What happened, in the words of the test.
    pub name: String,
    /// The process that did it.
    pub pid: u32,
}

/// Makes an empty journal, so that reading it can tell "no effect" from "wrong path".
///
/// # Errors
/// If there is a file already or the folder cannot be written.
pub fn create(path: &Path) -> Result<()> {
    File::create_new(path).with_context(|| format!("creating the journal {}", path.display()))?;
    Ok(())
}

/// Appends one effect; durable when this returns.
///
/// # Errors
/// If the journal does not exist or cannot be written.
pub fn append(path: &Path, effect: &Effect) -> Result<()> {
    let mut line = serde_json::to_string(effect).context("writing an effect as JSON")?;
    line.push('\n');
    let mut file = File::options()
        .append(true)
        .open(path)
        .with_context(|| format!("opening the journal {}", path.display()))?;
    // One write on a file opened for appending: lines of several processes do not mix.
    file.write_all(line.as_bytes())
        .with_context(|| format!("appending to the journal {}", path.display()))?;
    file.sync_all().with_context(|| format!("making the journal {} durable", path.display()))
}

/// Everything that happened, in the order in which it was written.
///
/// # Errors
/// If there is no such file, or a line is torn or is not an effect; the error names the line.
pub fn read(path: &Path) -> Result<Vec<Effect>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading the journal {}", path.display()))?;
    if !text.is_empty() && !text.ends_with('\n') {
        bail!("{}: the last line is torn: the writer was killed in the middle of it", path.display());
    }
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}:{}: not an effect: {line}", path.display(), index + 1))
        })
        .collect()
}
