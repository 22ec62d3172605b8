//! `turnback completions`: the script that makes a shell complete our commands.

use super::{Cli, Context, Exit};
use clap::CommandFactory as _;
use serde_json::json;

/// For which shell.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    pub shell: clap_complete::Shell,
}

pub(super) fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "turnback", &mut script);
    let script = String::from_utf8(script)?;
    if context.console.is_json() {
        context.console.document(&json!({ "shell": args.shell.to_string(), "script": script }))?;
    } else {
        context.console.print(&script)?;
    }
    Ok(Exit::Done)
}
