//! `turnback ledger`: checks, exports and follows the ledger.
//!
//! All three read the file, beside a running daemon or without one: whether a ledger is sound must not depend on the word
//! of the process that writes it.

use super::console::Console;
use super::text::{moment, safe, safe_lines, shortened};
use super::{Context, Exit};
use crate::app::LEDGER_FILE;
use crate::deployment_log::Entries;
use crate::ledger::{Ledger, LedgerError, Record, VerifyReport};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// What is done with the ledger.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Check every record and every link; exit code 1 if the ledger is broken
    Verify(File),
    /// Every record as one line of JSON, whatever --output says; or the deployment log in Markdown
    Export(ExportArgs),
    /// The last records; with --output json one array, with --follow as well one line of JSON each
    Tail(TailArgs),
}

/// Which ledger.
#[derive(Debug, clap::Args)]
pub struct File {
    /// The ledger's file [default: `ledger.db` in the state directory]
    #[arg(long = "ledger", value_name = "PATH")]
    pub path: Option<PathBuf>,
}

/// Which records.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// Which ledger.
    #[command(flatten)]
    pub file: File,
    /// Only records after this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub after: i64,
    /// How they are written
    #[arg(long, value_enum, default_value_t = ExportFormat::Records)]
    pub format: ExportFormat,
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// One line of JSON each
    Records,
    /// One entry in Markdown for each action, with the commands that ran
    DeploymentLog,
}

/// How many, and whether to go on.
#[derive(Debug, clap::Args)]
pub struct TailArgs {
    /// Which ledger.
    #[command(flatten)]
    pub file: File,
    /// How many of the last records
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub lines: u32,
    /// Go on with new ones until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
}

/// Records read at once: a record has at most 1 MiB, most have less than one KiB.
const PAGE: u32 = 256;
/// How often a followed ledger is looked at.
const PERIOD: Duration = Duration::from_millis(500);
/// The progress bar of `verify`.
const BAR: &str = "{bar:40} {human_pos} of {human_len} records, {eta} left";
/// Characters of a record's content on its line.
const LONGEST_BODY: usize = 160;

pub(super) async fn execute(command: Command, context: &Context<'_>) -> anyhow::Result<Exit> {
    match command {
        Command::Verify(file) => verify(&file, context).await,
        Command::Export(args) => export(&args, context).await,
        Command::Tail(args) => tail(&args, context).await,
    }
}

async fn open(file: &File, context: &Context<'_>) -> Result<Ledger, LedgerError> {
    let path = file.path.clone().unwrap_or_else(|| context.state_dir().join(LEDGER_FILE));
    Ledger::open_read_only(&path).await
}

async fn verify(file: &File, context: &Context<'_>) -> anyhow::Result<Exit> {
    let console = context.console;
    let ledger = open(file, context).await?;
    let bar = progress_bar(console);
    let report = ledger.verify(|done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    let report = report.await;
    bar.finish_and_clear();
    let report = report?;
    if console.is_json() {
        let mut document = serde_json::to_value(&report)?;
        if let Value::Object(fields) = &mut document {
            fields.insert("sound".into(), report.is_sound().into());
            fields.insert("ledger".into(), ledger.path().display().to_string().into());
        }
        console.document(&document)?;
    } else {
        console.print(&verdict(&ledger.path().display().to_string(), &report))?;
    }
    Ok(if report.is_sound() { Exit::Done } else { Exit::Degraded })
}

fn progress_bar(console: &Console) -> ProgressBar {
    if !console.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(BAR) {
        Ok(style) => bar.with_style(style),
        // The bar's own style is as good; a test keeps the template correct.
        Err(_) => bar,
    }
}

fn verdict(path: &str, report: &VerifyReport) -> String {
    let mut text = String::new();
    // Writing into a `String` cannot fail.
    let _infallible = write_verdict(&mut text, path, report);
    text
}

fn write_verdict(text: &mut String, path: &str, report: &VerifyReport) -> std::fmt::Result {
    let words = if report.is_sound() { "sound" } else { "BROKEN" };
    writeln!(text, "{words}: {}", safe(path))?;
    writeln!(text, "  records  {} that fit, from the first on", report.sound_records)?;
    writeln!(text, "  head     {} {}", report.head.sequence, report.head.hash)?;
    if let Some(broken) = &report.broken {
        writeln!(text, "  broken   record {}: {}", broken.sequence, safe(&broken.reason))?;
        writeln!(
            text,
            "           nothing is said about later ones; keep the file and find out who changed it"
        )?;
    }
    for problem in &report.storage {
        writeln!(text, "  storage  {}", safe(problem))?;
    }
    if !report.head_was_remembered {
        writeln!(
            text,
            "  note     no head was remembered beside the ledger: a cut-off tail would not be noticed"
        )?;
    }
    Ok(())
}

async fn export(args: &ExportArgs, context: &Context<'_>) -> anyhow::Result<Exit> {
    let ledger = open(&args.file, context).await?;
    if args.format == ExportFormat::DeploymentLog {
        let mut entries = Entries::after(ledger, args.after);
        while let Some(page) = entries.next().await?
            && !context.console.reader_left()
        {
            context.console.print(&safe_lines(&page.text))?;
        }
        return Ok(Exit::Done);
    }
    let mut after = args.after;
    loop {
        let page = ledger.read_after(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(Exit::Done) };
        after = last.sequence;
        for record in &page {
            context.console.json_line(&serde_json::to_value(record)?)?;
        }
        if context.console.reader_left() {
            return Ok(Exit::Done);
        }
    }
}

async fn tail(args: &TailArgs, context: &Context<'_>) -> anyhow::Result<Exit> {
    let console = context.console;
    let ledger = open(&args.file, context).await?;
    let mut after = ledger.head().sequence.saturating_sub(i64::from(args.lines)).max(0);
    if console.is_json() && !args.follow {
        let records = ledger.read_after(after, args.lines).await?;
        console.document(&serde_json::to_value(records)?)?;
        return Ok(Exit::Done);
    }
    loop {
        let page = ledger.read_after(after, PAGE).await?;
        for record in &page {
            if console.is_json() {
                console.json_line(&serde_json::to_value(record)?)?;
            } else {
                console.print(&line(record))?;
            }
        }
        if console.reader_left() {
            return Ok(Exit::Done);
        }
        match page.last() {
            Some(last) => after = last.sequence,
            None if args.follow => tokio::time::sleep(PERIOD).await,
            None => return Ok(Exit::Done),
        }
    }
}

fn line(record: &Record) -> String {
    let body = shortened(&record.body_text, LONGEST_BODY);
    let (stream, kind) = (safe(&record.stream), safe(&record.kind));
    format!("{:>6}  {}  {stream:<20}  {kind:<16}  {}\n", record.sequence, moment(record.at), safe(&body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Broken, Head};

    #[test]
    fn the_template_of_the_bar_is_one() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }

    #[test]
    fn a_broken_ledger_is_called_broken_first() {
        let mut report = VerifyReport {
            sound_records: 2,
            head: Head::EMPTY,
            broken: Some(Broken { sequence: 3, reason: "its hash is another\u{1b}[2J".into() }),
            storage: vec!["row 4 missing from index".into()],
            head_was_remembered: false,
        };
        insta::assert_snapshot!(verdict("/state/ledger.db", &report), @r"
        BROKEN: /state/ledger.db
          records  2 that fit, from the first on
          head     0 0000000000000000000000000000000000000000000000000000000000000000
          broken   record 3: its hash is another\u{1b}[2J
                   nothing is said about later ones; keep the file and find out who changed it
          storage  row 4 missing from index
          note     no head was remembered beside the ledger: a cut-off tail would not be noticed
        ");
        (report.broken, report.storage) = (None, Vec::new());
        assert!(verdict("/state/ledger.db", &report).starts_with("sound: /state/ledger.db\n"));
    }
}
