//! `turnback analyze`: is this release worse than its control, or than before? One answer, one exit code, no daemon.
//!
//! ```text
//!  args.rs ──▶ job.rs ──▶ Job ──▶ look.rs ⇄ Prometheus       text.rs · junit.rs · markdown.rs ──▶ stdout, files
//!  flags       + configuration     │  ▲                       ▲
//!                                  ▼  │ until there is an     │
//!                       rules::analysis └─ answer ──▶ report ─┴──▶ github.rs: job summary, annotation
//! ```
//!
//! The answer is the exit code. A report that cannot be written changes nothing about it, because a pipeline must not
//! take a full disk for a bad release; where files are wanted, they are opened before anything is measured.

mod args;
mod github;
mod job;
mod junit;
mod look;
mod markdown;
mod screen;
#[cfg(test)]
mod tests;
mod text;

pub use args::Args;

pub(super) use args::EXAMPLES;

use super::console::{Console, Format};
use super::exit::Failure;
use super::{Context, Exit};
use rules::analysis::AnalysisReport;
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// An answer with what the formats need beside it.
struct Answer {
    report: AnalysisReport,
    version: Option<String>,
    exit: Exit,
}

pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    let console = context.console;
    let job = job::prepare(&args, context)?;
    let files = open(&args.report)?;
    let version = job.version.as_ref().map(ToString::to_string);
    let report = look::until_answered(job, console).await;
    let exit = exit_of(&report);
    let answer = Answer { report, version, exit };
    console.print(&written(&answer, console.format, Some(console))?)?;
    for (path, file) in files {
        let format = format_of(&path).unwrap_or(console.format);
        write(&path, file, &written(&answer, format, None)?, console);
    }
    github::tell(&answer, context);
    Ok(exit)
}

fn exit_of(report: &AnalysisReport) -> Exit {
    match report.verdict {
        "healthy" => Exit::Done,
        "degraded" => Exit::Degraded,
        "blind" => Exit::Blind,
        _ => Exit::Inconclusive,
    }
}

/// The answer in a format. Colours and the width of a terminal only for the console.
fn written(answer: &Answer, format: Format, console: Option<&Console>) -> serde_json::Result<String> {
    Ok(match format {
        Format::Text => text::text(answer, console),
        Format::Json => super::text::json(&document(answer)?) + "\n",
        Format::Junit => junit::junit(answer),
        Format::Markdown => markdown::markdown(answer),
    })
}

fn document(answer: &Answer) -> serde_json::Result<serde_json::Value> {
    let mut document = serde_json::to_value(&answer.report)?;
    if let Some(fields) = document.as_object_mut() {
        fields.insert("version".into(), json!(answer.version));
        fields.insert("exit_code".into(), answer.exit.code().into());
    }
    Ok(document)
}

fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "json" => Some(Format::Json),
        "xml" => Some(Format::Junit),
        "md" => Some(Format::Markdown),
        "txt" => Some(Format::Text),
        _ => None,
    }
}

fn open(paths: &[PathBuf]) -> anyhow::Result<Vec<(PathBuf, File)>> {
    let open = |path: &PathBuf| {
        let file = File::create(path).map_err(|error| {
            Failure::usage(format!("cannot write the report {}: {error}", path.display()))
        })?;
        Ok((path.clone(), file))
    };
    paths.iter().map(open).collect()
}

fn write(path: &Path, mut file: File, text: &str, console: &Console) {
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        let path = super::text::safe(&path.display().to_string());
        console.note(&format!("warning: cannot write the report {path}: {error}"));
    }
}
