//! `turnback hooks`: which senders of webhooks are known, what to set at them, and what a recorded message would say.
//!
//! Nothing here reaches a sender or a daemon, and no secret is read: a message is tried with its proof left aside.

use super::config::Files;
use super::exit::Failure;
use super::table::{self, Field};
use super::text::{safe, safe_lines};
use super::{Context, Exit};
use crate::clock;
use crate::config::{Config, Loaded};
use crate::events::hooks::{Heard, HookPreset, preset, preset_names, presets};
use crate::events::limits::MAX_ALERTS_BYTES;
use crate::events::{Incoming, Refused};
use anyhow::Context as _;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rules::ids::SourceName;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::PathBuf;

/// What is asked about hooks.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// All presets: whose webhooks are understood
    List,
    /// One preset: what to set at the sender, how it proves itself, what its messages mean
    Show(ShowArgs),
    /// What a message would say to a configured hook; nothing is told to anybody
    Test(TestArgs),
}

/// Which preset.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The preset, as `turnback hooks list` names it
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Which hook, and what it is told.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// The hook, as the configuration names it
    #[arg(value_name = "HOOK", value_parser = name)]
    pub hook: SourceName,
    /// The file with the body of the message
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// A header that comes with it
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which configuration.
    #[command(flatten)]
    pub files: Files,
}

fn name(text: &str) -> Result<SourceName, String> {
    SourceName::new(text).map_err(|error| error.to_string())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let pair = text.split_once('=').and_then(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
    pair.ok_or_else(|| "write NAME=VALUE, such as x-github-event=deployment_status".into())
}

pub(super) fn execute(command: Command, context: &Context<'_>) -> anyhow::Result<Exit> {
    match command {
        Command::List => list(context),
        Command::Show(args) => show(&args.name, context),
        Command::Test(args) => test(args, context),
    }
}

fn list(context: &Context<'_>) -> anyhow::Result<Exit> {
    if context.console.is_json() {
        let one = |preset: &HookPreset| json!({ "name": preset.name, "title": preset.title });
        context.console.document(&presets().iter().map(one).collect())?;
        return Ok(Exit::Done);
    }
    let rows = presets().iter().map(|preset| vec![Field::plain(&preset.name), Field::plain(&preset.title)]);
    context.console.print(&table::render(context.console, &["NAME", "SENDER"], rows.collect()))?;
    Ok(Exit::Done)
}

fn show(name: &str, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Some(preset) = preset(name) else {
        let advice = match rules::suggest::closest(name, preset_names().into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "see `turnback hooks list`".into(),
        };
        return Err(Failure::usage(format!("there is no preset {name:?}; {advice}")).into());
    };
    if context.console.is_json() {
        context.console.document(&serde_json::to_value(preset)?)?;
    } else {
        let text = serde_saphyr::to_string(preset).context("cannot write the preset as YAML")?;
        context.console.print(&safe_lines(&text))?;
    }
    Ok(Exit::Done)
}

fn test(args: TestArgs, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Loaded { config, .. } = Config::load(&args.files.inputs(context.options, context.surroundings))?;
    let Some(hook) = config.events.hooks.get(&args.hook) else {
        let known: Vec<&str> = config.events.hooks.keys().map(SourceName::as_str).collect();
        let known = if known.is_empty() { "none is configured".to_owned() } else { known.join(", ") };
        return Err(Failure::usage(format!("there is no hook `{}`; there are: {known}", args.hook)).into());
    };
    let reading = || format!("cannot read {}", args.file.display());
    let mut body = Vec::new();
    let file = std::fs::File::open(&args.file).with_context(reading)?;
    // One byte more than is taken, so that what is too long is refused as the daemon would.
    file.take(MAX_ALERTS_BYTES as u64 + 1).read_to_end(&mut body).with_context(reading)?;
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.extend(args.headers);
    let heard = hook.without_secret(args.hook.clone())?.read(&headers, &body, clock::now());
    answer(heard, context)
}

fn answer(heard: Result<Heard, Refused>, context: &Context<'_>) -> anyhow::Result<Exit> {
    let exit = if heard.is_ok() { Exit::Done } else { Exit::Degraded };
    if context.console.is_json() {
        let document = match heard {
            Ok(heard) => {
                let said: Vec<Value> = heard.accepted.iter().map(|one| said(&one.incoming)).collect();
                let notes = heard.accepted.iter().flat_map(|one| &one.notes).chain(&heard.notes);
                json!({ "status": 202, "said": said, "notes": notes.collect::<Vec<_>>() })
            }
            Err(refused) => json!({ "status": refused.status, "error": refused.reason }),
        };
        context.console.document(&document)?;
        return Ok(exit);
    }
    let mut text = String::new();
    match heard {
        Ok(heard) => {
            for one in &heard.accepted {
                text += &format!("{}\n  identity {}\n", safe(&words(&one.incoming)), safe(&one.id));
                one.notes.iter().for_each(|note| text += &format!("  note     {}\n", safe(note)));
            }
            heard.notes.iter().for_each(|note| text += &format!("note: {}\n", safe(note)));
        }
        Err(refused) => text += &format!("refused ({}): {}\n", refused.status, safe(&refused.reason)),
    }
    context.console.print(&text)?;
    Ok(exit)
}

fn said(incoming: &Incoming) -> Value {
    match incoming {
        Incoming::Deploy(event) => json!({ "deployment": event }),
        Incoming::Report(report) => json!({ "report": report }),
    }
}

fn words(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Deploy(event) => format!(
            "deployment: {} in {}, {} {} at {}",
            event.service,
            event.environment,
            event.release.version,
            serde_json::to_value(event.kind)
                .ok()
                .and_then(|kind| kind.as_str().map(str::to_owned))
                .unwrap_or_default(),
            event.occurred_at
        ),
        Incoming::Report(report) => {
            let place =
                report.environment.as_ref().map_or("every environment".to_owned(), ToString::to_string);
            format!(
                "report: {} of {} in {place} is {:?} since {}: {}",
                report.what, report.service, report.state, report.at, report.summary
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::testing::turnback;

    const NOWHERE: &str = "http://127.0.0.1:9";
    const CONFIG: &str = "version: 1\nevents:\n  hooks:\n    gh: { preset: github, secret: { env: NOT_SET }, services: [checkout] }\n";

    #[tokio::test]
    async fn a_recorded_message_is_explained_without_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (config, body) = (path("c.yaml"), path("body.json"));
        std::fs::write(&config, CONFIG).unwrap();
        std::fs::write(&body, include_str!("../events/hooks/samples/github-deployment_status.json")).unwrap();
        let call = async |hook: &str, rest: &[&str]| {
            let line = [&["hooks", "test", hook, &body, "--config", &config], rest].concat();
            turnback(NOWHERE, &line).await
        };
        let (code, out, err) = call("gh", &["--header", "x-github-event=deployment_status"]).await;
        assert_eq!(code, 0, "{out}{err}");
        for words in
            ["deployment: checkout in production, f95f852b", "identity deployment_status-209916254|checkout"]
        {
            assert!(out.contains(words), "{words}: {out}");
        }
        let (code, out, _) = call("gh", &["--header", "x-github-event=push", "--output", "json"]).await;
        assert!(code == 0 && out.contains("nothing to record"), "{out}");
        let (code, out, _) = call("gh", &[]).await;
        assert!(code == 1 && out.contains("refused (422)") && out.contains("x-github-event"), "{out}");
        let (code, _, err) = call("none", &[]).await;
        assert!(code == 2 && err.contains("there are: gh"), "{err}");
    }

    #[tokio::test]
    async fn every_preset_is_shown() {
        let (code, out, _) = turnback(NOWHERE, &["hooks", "list"]).await;
        assert!(code == 0 && out.contains("github") && out.contains("GitHub"), "{out}");
        let (code, out, _) = turnback(NOWHERE, &["hooks", "show", "gitlab"]).await;
        assert!(code == 0 && out.contains("x-gitlab-token"), "{out}");
        let (code, _, err) = turnback(NOWHERE, &["hooks", "show", "gitlabb"]).await;
        assert!(code == 2 && err.contains("did you mean `gitlab`?"), "{err}");
    }
}
