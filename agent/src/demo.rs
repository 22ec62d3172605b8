//! `turnback demo`: the whole road on one computer, with nothing made up.
//!
//! ```text
//!  users (load.rs) ──▶ service v1 | v2 (service.rs, a process) ◀── runs one of them ── deployment system (supervisor.rs)
//!                          ▲ /metrics, /healthz                                              ▲ file `wanted`
//!                          │                                                                 │
//!  pipeline ── CDEvent ──▶ the agent (machine.rs: App, SQLite ledger, scrape, probe) ── runs `demo-deploy` (deploy.rs)
//!                          │ HTTP API
//!                          ▼
//!  timeline on the terminal (follow.rs, screen.rs) ── what should have happened? (outcome.rs)
//! ```
//!
//! The agent is the one that `turnback run` starts. It knows nothing of the demo: it hears of the deployment over HTTP,
//! reads the service's metrics, and acts through a program. What is shown is asked from its API.

pub mod deploy;
mod files;
mod follow;
mod load;
mod machine;
mod notices;
mod outcome;
mod play;
mod ruleset;
mod screen;
pub mod service;
mod supervisor;

use anyhow::Context as _;
use rules::decision::AutonomyLevel;
use serde::Serialize;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

/// What happens to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The new version answers every fifth request with an error.
    #[default]
    BadErrors,
    /// The new version takes eight times as long.
    Slow,
    /// The new version crashes, and crashes again whenever it is started again.
    Crash,
    /// The new version is as good as the old one.
    Healthy,
    /// The new version is good, and its metrics break.
    MetricsOutage,
}

/// What to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What happens to the service.
    pub scenario: Scenario,
    /// What the agent may do alone.
    pub autonomy: AutonomyLevel,
    /// Show no progress; print one JSON document at the end.
    pub json: bool,
    /// Whether lines may be coloured.
    pub color: bool,
}

/// The exit code of an interrupted program.
const INTERRUPTED: u8 = 130;

/// Plays the demo. Exit code 0 if what should happen happened, 6 if nobody approved, 130 if interrupted.
/// Errors: it could not be played at all.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    prepare_tls();
    let state = state_dir()?;
    log_into(&state.join("agent.log"))?;
    tokio::select! {
        played = play::play(&options, &state) => played,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("cannot listen for Ctrl-C")?;
            eprintln!("interrupted; the service and the agent are ended, {} is left", state.display());
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// The HTTP client needs a provider of cryptography once per process, even for plain HTTP. A second call finds it there.
fn prepare_tls() {
    let _there_already = rustls::crypto::ring::default_provider().install_default();
}

/// A new directory that only its owner can read. It is left there: the ledger and the post-mortem are worth a look.
fn state_dir() -> anyhow::Result<PathBuf> {
    let name = format!("turnback-demo-{}-{}", crate::clock::now().as_millisecond(), std::process::id());
    let dir = std::env::temp_dir().join(name);
    let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
    made.with_context(|| format!("cannot make the directory {}", dir.display()))?;
    dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))
}

/// The agent's log goes into a file: the terminal is for the timeline.
fn log_into(path: &Path) -> anyhow::Result<()> {
    let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let filter = tracing_subscriber::EnvFilter::new("info");
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Mutex::new(file));
    // Whoever runs the demo may have a log already; then it goes there.
    let _there_already = log.try_init();
    Ok(())
}
