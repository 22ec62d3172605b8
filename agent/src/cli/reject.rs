//! `turnback reject`: a person's no to a plan.

use super::approve::{digest, plan_id};
use super::{Context, Exit};
use rules::ids::PlanId;
use serde_json::json;

/// Which plan, and why not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The plan
    #[arg(value_parser = plan_id)]
    pub plan: PlanId,
    /// Its digest, or the first 12 digits of it
    #[arg(long, value_parser = digest)]
    pub digest: String,
    /// Why; kept in the ledger
    #[arg(long)]
    pub reason: String,
}

pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    let body = json!({ "decision": "reject", "digest": args.digest, "reason": args.reason });
    let answer = context.client()?.post(&["v1", "plans", args.plan.as_str(), "approval"], &body).await?;
    context.console.result(&answer)?;
    Ok(Exit::Done)
}
