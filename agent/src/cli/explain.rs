//! `turnback explain`: the why card of a watch, and its timeline.

use super::client::Client;
use super::console::{Console, Tone};
use super::exit::Failure;
use super::model::{Watch, WatchDetail};
use super::text::{moment, safe, safe_lines};
use super::{Context, Exit};

/// Which watch.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A watch as `turnback status` names it, or a service: then its newest watch
    #[arg(value_name = "ID|SERVICE", value_parser = name)]
    pub what: String,
}

/// The name of a watch, a plan or a service. They share the alphabet of services, the widest of them.
pub(super) fn name(text: &str) -> Result<String, String> {
    rules::ids::ServiceName::new(text).map(String::from).map_err(|bad| bad.to_string())
}

pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let id = find_watch(&client, &args.what).await?;
    if context.console.is_json() {
        context.console.document(&client.get(&["v1", "watches", &id, "explanation"]).await?)?;
        return Ok(Exit::Done);
    }
    let path = ["v1", "watches", &id];
    let detail: WatchDetail = client.understand(&path, &client.get(&path).await?)?;
    context.console.print(&render(context.console, &detail))?;
    Ok(Exit::Done)
}

/// The identity of the watch that is meant: one that has this identity, or the newest of the service of this name. What
/// the daemon does not have in memory may still be in its ledger, so it is asked for by identity.
pub(super) async fn find_watch(client: &Client<'_>, what: &str) -> anyhow::Result<String> {
    let path = ["v1", "watches"];
    let watches: Vec<Watch> = client.understand(&path, &client.get(&path).await?)?;
    let by_id = || watches.iter().find(|watch| watch.id == what);
    let newest = || watches.iter().find(|watch| watch.service == what);
    if let Some(watch) = by_id().or_else(newest) {
        return Ok(watch.id.clone());
    }
    if rules::ids::WatchId::new(what).is_ok_and(|id| id.as_str().starts_with("w-")) {
        return Ok(what.to_owned());
    }
    Err(Failure::usage(format!("there is no watch and no watched service {what}; see `turnback status`"))
        .into())
}

fn render(console: &Console, detail: &WatchDetail) -> String {
    let mut text = safe_lines(&detail.text);
    text.push_str(&format!("\n{}\n", console.paint("Timeline", Tone::Strong)));
    for (at, words) in &detail.timeline {
        text.push_str(&format!("  {}  {}\n", console.paint(&moment(*at), Tone::Quiet), safe(words)));
    }
    if let Some(plan) = detail.watch.plan.as_ref().filter(|plan| plan.awaits_approval) {
        text.push_str(&format!("\nA plan waits for a person's word: turnback plan {}\n", safe(&plan.id)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::console::Format;
    use crate::cli::tests::testing::{at, console, watch};

    #[test]
    fn the_card_is_followed_by_the_timeline() {
        let (console, _said) = console(Format::Text);
        let text = "checkout 1.4.0 in production\n  verdict   degraded (P1)\u{1b}[2J\n".to_owned();
        let timeline = vec![
            (at("2026-03-01T12:00:00Z"), "deployed".into()),
            (at("2026-03-01T12:02:00Z"), "a\nb".into()),
        ];
        insta::assert_snapshot!(render(&console, &WatchDetail { watch: watch(), text, timeline }), @r"
        checkout 1.4.0 in production
          verdict   degraded (P1)\u{1b}[2J

        Timeline
          2026-03-01T12:00:00Z  deployed
          2026-03-01T12:02:00Z  a\nb
        ");
    }
}
