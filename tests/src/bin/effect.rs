//! Has one effect, visibly: appends a line to the journal. The agents under test run it as their action.
//!
//! The pauses before and after the append hold a door open for `kill -9`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use jiff::Timestamp;
use tests::gate::{FileGate, Mode};
use tests::journal::{self, Effect};

/// How it ends without an effect when its gate says so.
const REFUSED: u8 = 75;

/// Appends one line to an effects journal.
#[derive(Debug, Parser)]
struct Arguments {
    /// The journal, which must exist.
    #[arg(long)]
    journal: PathBuf,
    /// The plan on whose behalf.
    #[arg(long, default_value = "")]
    plan: String,
    /// The step of the plan.
    #[arg(long, default_value = "")]
    step: String,
    /// The idempotency key of the step.
    #[arg(long, default_value = "")]
    key: String,
    /// What happens.
    #[arg(long)]
    name: String,
    /// Milliseconds to wait before the effect.
    #[arg(long, default_value_t = 0)]
    sleep_before_ms: u64,
    /// Milliseconds to wait after the effect.
    #[arg(long, default_value_t = 0)]
    sleep_after_ms: u64,
    /// Do nothing if the journal has an effect with this key already: what a target that knows idempotency keys does.
    #[arg(long)]
    once_per_key: bool,
    /// A folder with a gate that is asked before the effect.
    #[arg(long)]
    gate: Option<PathBuf>,
    /// How to end, once the effect is durable.
    #[arg(long, default_value_t = 0)]
    exit: u8,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    std::thread::sleep(Duration::from_millis(arguments.sleep_before_ms));
    let gate = arguments.gate.as_deref().map(FileGate::new);
    let mode = gate.as_ref().map(FileGate::pass).transpose()?.flatten();
    match (&gate, mode) {
        (Some(gate), Some(Mode::HoldBefore)) => gate.wait(),
        (_, Some(Mode::Refuse)) => return Ok(ExitCode::from(REFUSED)),
        _ => {}
    }
    let known = || -> Result<bool> {
        Ok(journal::read(&arguments.journal)?.iter().any(|effect| effect.key == arguments.key))
    };
    if arguments.once_per_key && known()? {
        return Ok(ExitCode::from(arguments.exit));
    }
    let effect = Effect {
        time: Timestamp::now(),
        plan: arguments.plan,
        step: arguments.step,
        key: arguments.key,
        name: arguments.name,
        pid: std::process::id(),
    };
    journal::append(&arguments.journal, &effect)?;
    match (&gate, mode) {
        (Some(gate), Some(Mode::HoldAnswer)) => gate.wait(),
        (_, Some(Mode::LoseAnswer)) => std::process::abort(),
        _ => {}
    }
    std::thread::sleep(Duration::from_millis(arguments.sleep_after_ms));
    Ok(ExitCode::from(arguments.exit))
}
