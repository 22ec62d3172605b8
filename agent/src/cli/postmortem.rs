//! `turnback postmortem`: the draft that the daemon makes of the ledger, as Markdown on standard output.

use super::explain::{find_watch, name};
use super::text::safe_lines;
use super::{Context, Exit};
use serde_json::json;

/// Of which watch.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A watch as `turnback incidents` names it, or a service: then its newest watch
    #[arg(value_name = "ID|SERVICE", value_parser = name)]
    pub what: String,
}

pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let id = find_watch(&client, &args.what).await?;
    let markdown = client.text(&["v1", "watches", &id, "postmortem"]).await?;
    if context.console.is_json() {
        context.console.document(&json!({ "watch": id, "markdown": markdown }))?;
    } else {
        context.console.print(&safe_lines(&markdown))?;
    }
    Ok(Exit::Done)
}
