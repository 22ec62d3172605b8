//! `demo-deploy`: how one asks the demo's deployment system for another version. In real life this is `systemctl`,
//! `docker compose up` or `kubectl set image`: a program that the agent runs as a step, and that knows nothing of it.

use super::files::Files;
use anyhow::Context as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the command is told.
#[derive(Debug, Clone, clap::Args)]
#[command(disable_version_flag = true)]
pub struct Arguments {
    /// The deployment system's directory.
    #[arg(long)]
    pub dir: PathBuf,
    /// The version that is wanted.
    #[arg(long)]
    pub version: String,
    /// Only look: exit code 0 if it is so already, 1 if not.
    #[arg(long)]
    pub check: bool,
    /// Do not deploy; write this name and the version to the list of announcements, once.
    #[arg(long, value_name = "NAME")]
    pub announce: Option<String>,
}

/// How long a version has to come up; ten times what it takes on a busy machine.
const UP_WITHIN: Duration = Duration::from_secs(10);
/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the command. Exit code 0: done, or so already; 1: not so (with `--check`), or it did not work.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    super::prepare_tls();
    let Arguments { dir, version, check, announce } = arguments;
    let files = Files::new(dir);
    let so = match (&announce, check) {
        (Some(name), true) => files.announced(name)?,
        (Some(name), false) => {
            files.announce(name, &version)?;
            println!("announced");
            true
        }
        (None, true) => files.wanted()?.as_deref() == Some(&version) && serves(&files, &version).await?,
        (None, false) => {
            deploy(&files, &version).await?;
            println!("{version} serves at {}", files.address()?);
            true
        }
    };
    Ok(if so { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Wants this version and waits until it serves. Errors: the directory cannot be used, or it does not serve in time.
pub(super) async fn deploy(files: &Files, version: &str) -> anyhow::Result<()> {
    files.want(version)?;
    let deadline = Instant::now() + UP_WITHIN;
    while !serves(files, version).await? {
        anyhow::ensure!(Instant::now() < deadline, "{version} does not serve within {UP_WITHIN:?}");
        sleep(PAUSE).await;
    }
    Ok(())
}

async fn serves(files: &Files, version: &str) -> anyhow::Result<bool> {
    Ok(serving(files).await?.as_deref() == Some(version))
}

/// The version that answers, if one does. Errors: the deployment system's address cannot be read.
pub(super) async fn serving(files: &Files) -> anyhow::Result<Option<String>> {
    let address = files.address()?;
    // A connection of its own: a kept one may belong to the process that is being replaced.
    let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).pool_max_idle_per_host(0).no_proxy();
    let client = client.build().context("cannot make an HTTP client")?;
    let answer = match client.get(format!("http://{address}/version")).send().await {
        Ok(answer) if answer.status().is_success() => answer.text().await,
        // Nobody there, or not yet well: that is what is asked here.
        Ok(_) | Err(_) => return Ok(None),
    };
    Ok(answer.ok().map(|version| version.trim().to_owned()))
}
