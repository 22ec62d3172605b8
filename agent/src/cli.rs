//! The command line: what a person or a pipeline says to Turnback, and what they are told.
//!
//! Most commands are one question to the daemon's HTTP API and one answer on the screen; `ledger` reads the file itself,
//! because a ledger must be checkable without trusting the daemon that writes it.
//!
//! ```text
//!  argv ──▶ Cli ──▶ one file a command ──▶ client.rs ──▶ the daemon
//!                        │      └────────▶ ledger.db (read only)
//!                        ▼
//!                  console.rs: answer to stdout, progress to stderr ──▶ exit.rs: the exit code
//! ```
//!
//! Three promises hold for every command. With `--output json` there is exactly one JSON document on standard output
//! (JSON lines where a stream is asked for, and the command says so). Text that came from outside is shown with control
//! characters escaped. Exit codes are those of [`Exit`], also when something goes wrong.

mod analyze;
mod approve;
mod client;
mod completions;
mod config;
mod console;
mod demo;
mod drill;
mod exit;
mod explain;
mod freeze;
mod hooks;
mod incidents;
mod ledger;
mod model;
mod place;
mod plan;
mod postmortem;
mod preset;
mod reject;
mod rollback;
mod run;
mod status;
mod stop;
mod table;
mod text;

#[cfg(test)]
mod tests;

pub use console::{Console, Format};
pub use exit::Exit;
pub use place::Surroundings;

use clap::Parser as _;
use client::Client;
use exit::Failure;
use std::path::PathBuf;
use std::process::ExitCode;

/// Turnback watches deployments, decides by honest statistics whether a release is hurting, and turns it back.
#[derive(Debug, clap::Parser)]
#[command(name = "turnback", version, propagate_version = true, after_help = exit::HELP)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub options: Options,
    /// What is asked for.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How to answer: for people, or as one JSON document; `analyze` can do JUnit and Markdown as well
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub output: Format,
    /// No colours; the variable NO_COLOR says the same
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Say on standard error what is asked of the daemon
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Where the daemon answers [default: the variable TURNBACK_URL, or http://127.0.0.1:7440]
    #[arg(long, global = true, value_name = "URL", value_parser = client::base_url)]
    pub url: Option<reqwest::Url>,
    /// The file that holds the API's token [default: `token` in the state directory; the variable TURNBACK_TOKEN holds
    /// the token itself]
    #[arg(long, global = true, value_name = "PATH")]
    pub token_file: Option<PathBuf>,
    /// Where the daemon keeps ledger and token [default: the variable TURNBACK_STATE_DIR, or $XDG_STATE_HOME/turnback, or
    /// ~/.local/state/turnback; for root /var/lib/turnback]
    #[arg(long, global = true, value_name = "PATH")]
    pub state_dir: Option<PathBuf>,
}

/// What can be asked for.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The daemon: listens to news of deployments, watches them, and turns them back as far as it may
    Run(run::Args),
    /// A bad deployment on this computer, found and turned back before your eyes
    Demo(demo::Args),
    /// What is being watched, and whether anything is stopped or frozen
    Status(status::Args),
    /// Whether a release is worse than its control, or than before, as an exit code; needs no daemon
    #[command(disable_version_flag = true, after_help = analyze::EXAMPLES)]
    Analyze(Box<analyze::Args>),
    /// The cases: what was bad, how bad, and how it ended
    Incidents,
    /// Why it was decided as it was, with the timeline
    Explain(explain::Args),
    /// A plan: every step with exactly what it runs, and why the target is believed to be good
    Plan(plan::Args),
    /// Let a plan that waits be carried out
    Approve(approve::Args),
    /// Do not let a plan that waits be carried out
    Reject(reject::Args),
    /// Turn a service back now, and follow it to the end
    Rollback(rollback::Args),
    /// Practise a rollback where that is safe, and file a report; without a service, when each was last practised
    Drill(drill::Args),
    /// The kill switch: nothing is begun until `turnback resume`
    Stop(stop::StopArgs),
    /// Release the kill switch, and acknowledge what suspended the autonomy
    Resume,
    /// Nothing is turned back alone for a time; people still can
    Freeze(freeze::FreezeArgs),
    /// Lift freezes
    Unfreeze(freeze::UnfreezeArgs),
    /// Check, export or follow the ledger; reads the file, needs no daemon
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// The draft of a post-mortem, as Markdown
    Postmortem(postmortem::Args),
    /// Everything that is wrong with a configuration, at once; exit code 78 if anything is
    Check(config::Files),
    /// The configuration as it is in force
    #[command(subcommand)]
    Config(config::Command),
    /// Operations of vendors that a step can name instead of spelling them out
    #[command(subcommand)]
    Preset(preset::Command),
    /// Webhooks of others: whose are understood, and what a recorded message would say
    #[command(subcommand)]
    Hooks(hooks::Command),
    /// A completion script for a shell
    Completions(completions::Args),
    /// The service of the demo
    #[command(hide = true)]
    DemoService(crate::demo::service::Arguments),
    /// The way to the deployment system of the demo
    #[command(hide = true)]
    DemoDeploy(crate::demo::deploy::Arguments),
}

impl Command {
    /// Whether it hears the signals itself, and ends in order.
    fn ends_itself(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Demo(_) | Self::DemoService(_) | Self::DemoDeploy(_))
    }

    /// Only an analysis has something to say to a test report or a page.
    fn can_answer_as(&self, format: Format) -> Result<(), Failure> {
        let name = match format {
            Format::Text | Format::Json => return Ok(()),
            Format::Junit => "junit",
            Format::Markdown => "markdown",
        };
        if matches!(self, Self::Analyze(_)) {
            return Ok(());
        }
        let words = "is for `turnback analyze` only; this command answers as text or json";
        Err(Failure::usage(format!("--output {name} {words}")))
    }
}

/// What every command works with.
pub(crate) struct Context<'a> {
    options: &'a Options,
    surroundings: &'a Surroundings,
    console: &'a Console,
}

impl Context<'_> {
    fn client(&self) -> anyhow::Result<Client<'_>> {
        Client::new(self.options, self.surroundings, self.console)
    }

    fn state_dir(&self) -> PathBuf {
        self.surroundings.state_dir(self.options)
    }
}

/// The whole program: arguments in, exit code out. Sets up what a process has once.
pub fn main() -> ExitCode {
    // Fails only when a provider is there already, and then there is one.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let _armed = crate::crash::arm();
    let (cli, surroundings) = (Cli::parse(), Surroundings::of_process());
    let console = Console::of_process(&cli.options, &surroundings);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return console.report(&anyhow::Error::from(error).context("cannot start")).into(),
    };
    let ended = runtime.block_on(execute(cli, &surroundings, &console));
    // Does not wait for a person who was asked something when Ctrl-C came.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| console.report(&error).into())
}

/// Does what the command line asks for.
///
/// # Errors
/// Whatever stood against it. [`Console::report`] shows it and tells the exit code that it stands for.
pub async fn execute(cli: Cli, surroundings: &Surroundings, console: &Console) -> anyhow::Result<ExitCode> {
    let context = Context { options: &cli.options, surroundings, console };
    cli.command.can_answer_as(cli.options.output)?;
    let ends_itself = cli.command.ends_itself();
    tokio::select! {
        ended = perform(cli.command, &context) => ended,
        () = interrupted(), if !ends_itself => Err(Failure::new(Exit::Interrupted, "interrupted").into()),
    }
}

async fn perform(command: Command, context: &Context<'_>) -> anyhow::Result<ExitCode> {
    let exit = match command {
        Command::Run(args) => run::execute(args, context).await?,
        Command::Analyze(args) => analyze::execute(*args, context).await?,
        Command::Status(args) => status::execute(args, context).await?,
        Command::Incidents => incidents::execute(context).await?,
        Command::Explain(args) => explain::execute(args, context).await?,
        Command::Plan(args) => plan::execute(args, context).await?,
        Command::Approve(args) => approve::execute(args, context).await?,
        Command::Reject(args) => reject::execute(args, context).await?,
        Command::Rollback(args) => rollback::execute(args, context).await?,
        Command::Drill(args) => drill::execute(args, context).await?,
        Command::Stop(args) => stop::stop(args, context).await?,
        Command::Resume => stop::resume(context).await?,
        Command::Freeze(args) => freeze::freeze(args, context).await?,
        Command::Unfreeze(args) => freeze::unfreeze(args, context).await?,
        Command::Ledger(command) => ledger::execute(command, context).await?,
        Command::Postmortem(args) => postmortem::execute(args, context).await?,
        Command::Check(files) => config::check(files, context)?,
        Command::Config(command) => config::execute(command, context)?,
        Command::Preset(command) => preset::execute(command, context).await?,
        Command::Hooks(command) => hooks::execute(command, context)?,
        Command::Completions(args) => completions::execute(args, context)?,
        Command::Demo(args) => return demo::execute(args, context).await,
        Command::DemoService(arguments) => {
            crate::demo::service::run(arguments).await?;
            Exit::Done
        }
        Command::DemoDeploy(arguments) => return crate::demo::deploy::run(arguments).await,
    };
    Ok(exit.into())
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a way to hear it, the signal does what it does by default: it ends the process.
        std::future::pending().await
    }
}
