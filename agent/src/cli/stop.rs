//! `turnback stop` and `turnback resume`: the kill switch.

use super::{Context, Exit};
use crate::app::STOP_FILE;
use anyhow::Context as _;
use serde_json::json;

/// Why.
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    /// Why; kept in the ledger and shown by `turnback status`
    #[arg(long, default_value = "no reason given")]
    pub reason: String,
}

pub(super) async fn stop(args: StopArgs, context: &Context<'_>) -> anyhow::Result<Exit> {
    let asked = context.client()?.post(&["v1", "stop"], &json!({ "reason": args.reason })).await;
    // Whoever wants to stop must be told of the way that always works.
    let file = context.state_dir().join(STOP_FILE);
    let answer = asked.with_context(|| {
        format!(
            "not stopped; without the API, `touch {}` on the daemon's machine stops it too",
            file.display()
        )
    })?;
    context.console.result(&answer)?;
    Ok(Exit::Done)
}

pub(super) async fn resume(context: &Context<'_>) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let answer = client.delete(client.url(&["v1", "stop"])).await?;
    context.console.result(&answer)?;
    Ok(Exit::Done)
}
