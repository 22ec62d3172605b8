//! `turnback freeze` and `turnback unfreeze`: times in which nothing is turned back alone.

use super::{Context, Exit};
use rules::ids::ServiceName;
use rules::units::Span;
use serde_json::json;

/// What, for how long, and why.
#[derive(Debug, clap::Args)]
pub struct FreezeArgs {
    /// The service; all of them if none is named
    #[arg(value_parser = |text: &str| ServiceName::new(text))]
    pub service: Option<ServiceName>,
    /// For how long, such as 2h or 1h30m; until `turnback unfreeze` if not said
    #[arg(long = "for", value_name = "DURATION", value_parser = Span::parse)]
    pub duration: Option<Span>,
    /// Why; kept in the ledger and shown by `turnback status`
    #[arg(long)]
    pub reason: String,
}

/// What.
#[derive(Debug, clap::Args)]
pub struct UnfreezeArgs {
    /// The service whose freezes are lifted; the freezes of all services if none is named
    #[arg(value_parser = |text: &str| ServiceName::new(text))]
    pub service: Option<ServiceName>,
}

pub(super) async fn freeze(args: FreezeArgs, context: &Context<'_>) -> anyhow::Result<Exit> {
    let FreezeArgs { service, duration, reason } = args;
    let body = json!({ "service": service, "duration": duration, "reason": reason });
    let answer = context.client()?.post(&["v1", "freezes"], &body).await?;
    context.console.result(&answer)?;
    Ok(Exit::Done)
}

pub(super) async fn unfreeze(args: UnfreezeArgs, context: &Context<'_>) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let mut url = client.url(&["v1", "freezes"]);
    if let Some(service) = &args.service {
        url.query_pairs_mut().append_pair("service", service.as_str());
    }
    let answer = client.delete(url).await?;
    context.console.result(&answer)?;
    Ok(Exit::Done)
}
