//! `turnback drill`: a rollback for practice, and the report of it.
//!
//! A procedure that nobody has run is a guess. A drill runs it for real where the configuration says that this is safe
//! (`safe_to_drill`), verifies it as any rollback, and files a report. It says nothing about the release, and counts towards
//! no limit. Without a service it tells when each was last practised.

use super::exit::Failure;
use super::rollback::{self, ask_and_follow};
use super::table::{Field, render};
use super::text::{moment, safe};
use super::{Context, Exit};
use anyhow::Context as _;
use jiff::Timestamp;
use rules::ids::{EnvironmentName, ServiceName, Version};
use rules::units::Span;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is practised, and where the report goes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service; without one, when each was last practised
    #[arg(value_parser = |text: &str| ServiceName::new(text))]
    pub service: Option<ServiceName>,
    /// The release to return to; the best one that ran well here if not said
    #[arg(long, value_name = "VERSION", requires = "service", value_parser = |text: &str| Version::new(text))]
    pub to: Option<Version>,
    /// Where it runs; it must stand under the service's `safe_to_drill`
    #[arg(long, default_value = "staging", value_parser = |text: &str| EnvironmentName::new(text))]
    pub environment: EnvironmentName,
    /// Write the report to this file instead of the standard output
    #[arg(long, value_name = "FILE", requires = "service")]
    pub report: Option<PathBuf>,
    /// How long to wait for the end; the rollback itself goes on
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = Span::parse)]
    pub timeout: Span,
}

/// When a service was last practised.
#[derive(Deserialize)]
struct Last {
    at: Timestamp,
    outcome: String,
}

pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Some(service) = args.service else { return list(context).await };
    let wish = rollback::Args {
        service,
        to: args.to,
        environment: args.environment,
        no_wait: false,
        timeout: args.timeout,
    };
    let Some(followed) = ask_and_follow(&wish, true, context).await? else { return Ok(Exit::Done) };
    let path = ["v1", "watches", &followed.watch().id, "postmortem"];
    let report = context.client()?.text(&path).await?;
    match &args.report {
        // A report of an earlier drill is not written over.
        Some(file) => {
            let opened = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
            let written = opened.and_then(|mut open| std::io::Write::write_all(&mut open, report.as_bytes()));
            written.with_context(|| format!("cannot write the report to {}", file.display()))?;
            context.console.note(&format!("the report is in {}", safe(&file.display().to_string())));
        }
        None if context.console.is_json() => {}
        None => context.console.print(&report)?,
    }
    followed.tell(context.console)
}

async fn list(context: &Context<'_>) -> anyhow::Result<Exit> {
    let (client, path) = (context.client()?, ["v1", "drills"]);
    let answer = client.get(&path).await?;
    if context.console.is_json() {
        context.console.document(&answer)?;
        return Ok(Exit::Done);
    }
    let drills: BTreeMap<String, Option<Last>> = client.understand(&path, &answer)?;
    if drills.is_empty() {
        return Err(Failure::usage("no deployment of any service is known yet").into());
    }
    let rows = drills.into_iter().map(|(place, last)| {
        let (when, how) =
            last.map_or_else(|| ("never".into(), String::new()), |last| (moment(last.at), last.outcome));
        [place, when, how].map(Field::plain).into_iter().collect()
    });
    let table = render(context.console, &["service", "last drill", "outcome"], rows.collect());
    context.console.print(&table)?;
    Ok(Exit::Done)
}
