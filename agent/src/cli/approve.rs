//! `turnback approve`: a person's yes to exactly one plan.
//!
//! The digest says which plan was seen. On a terminal the plan can be shown first and the digest be typed: typing makes
//! somebody look at it, and a plan that was drawn anew meanwhile has another one.

use super::plan::{self, Shown};
use super::{Context, Exit, exit::Failure};
use rules::ids::PlanId;
use serde_json::json;

/// Digits of a digest that are enough to name it.
const SHORTEST_DIGEST: usize = 12;
/// Digits of a whole one: SHA-256 in hexadecimal.
const WHOLE_DIGEST: usize = 64;

/// Which plan.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The plan
    #[arg(value_parser = plan_id)]
    pub plan: PlanId,
    /// Its digest, or the first 12 digits of it; without it the plan is shown and the digest asked for
    #[arg(long, value_parser = digest)]
    pub digest: Option<String>,
}

pub(super) fn plan_id(text: &str) -> Result<PlanId, String> {
    PlanId::new(text).map_err(|bad| bad.to_string())
}

/// Reads a digest or the beginning of one.
pub(super) fn digest(text: &str) -> Result<String, String> {
    let digits = text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    if digits && (SHORTEST_DIGEST..=WHOLE_DIGEST).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "expected {SHORTEST_DIGEST} to {WHOLE_DIGEST} of the digits 0–9 and a–f, as `turnback plan` shows them"
    ))
}

pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    let digest = match args.digest {
        Some(digest) => digest,
        None => ask(&args.plan, context).await?,
    };
    let body = json!({ "decision": "approve", "digest": digest });
    let answer = context.client()?.post(&["v1", "plans", args.plan.as_str(), "approval"], &body).await?;
    context.console.result(&answer)?;
    Ok(Exit::Done)
}

async fn ask(plan: &PlanId, context: &Context<'_>) -> anyhow::Result<String> {
    let console = context.console;
    if !console.interactive {
        let words = format!(
            "--digest is missing, and nobody can be asked here; look at the plan with `turnback plan {plan}`, then \
             `turnback approve {plan} --digest DIGEST`"
        );
        return Err(Failure::usage(words).into());
    }
    let client = context.client()?;
    let (_, shown) = Shown::fetch(&client, plan.as_str()).await?;
    console.note(&plan::render(console, &shown));
    shown.check()?;
    let typed = console.ask("Type the first 12 digits of the digest to approve:").await?;
    let whole = shown.digest.as_str();
    if typed.len() < SHORTEST_DIGEST || !whole.starts_with(&typed) {
        let words = "that is not the digest of the plan shown; nothing was approved";
        return Err(Failure::new(Exit::Refused, words).into());
    }
    // What was seen is this whole digest: if another plan took its place meanwhile, the daemon refuses.
    Ok(whole.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_enough_digits_and_only_digits() {
        assert!(digest("0123456789ab").is_ok());
        assert!(digest(&"a".repeat(64)).is_ok());
        for bad in ["", "0123456789a", "0123456789AB", "0123456789ag", &"a".repeat(65)] {
            assert!(digest(bad).unwrap_err().contains("expected 12 to 64"), "{bad}");
        }
    }
}
