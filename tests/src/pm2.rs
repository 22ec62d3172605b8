//! A real pm2, which `make setup-test` fetches, with a home of its own: it keeps the processes of an ecosystem file running.
//!
//! Usually pm2 leaves a daemon behind. Here the daemon is the child itself (`--no-daemon`), so that it is gone when the handle
//! is dropped. What it keeps running must end when its channel to pm2 does (`process.on("disconnect", …)`): pm2 gives each
//! process a session of its own, where killing pm2's process group does not reach it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::Process;
use crate::{tools, wait};

/// What the setup fetches: see `deploy/setup/pm2.sh`.
const PACKAGE: &str = include_str!("../../deploy/setup/pm2/package.json");

/// From start until it takes commands; a second and a half on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running pm2, killed on drop with what it runs.
#[derive(Debug)]
pub struct Pm2 {
    process: Process,
    program: PathBuf,
    home: PathBuf,
}

impl Pm2 {
    /// Starts pm2 with `home` as its user's home, and everything that the ecosystem file names.
    ///
    /// # Errors
    /// If pm2 was not fetched (the error says how it is), or does not start, with what it printed.
    pub async fn start(home: &Path, ecosystem: &Path) -> Result<Pm2> {
        let program = program()?;
        let mut command = command(&program, home);
        command.args(["start", "--no-daemon"]).arg(ecosystem);
        let process = Process::start(command, &home.join("pm2.log"))?;
        let pm2 = Pm2 { process, program, home: home.to_owned() };
        wait::until("pm2 to take commands", START_LIMIT, async || {
            ensure!(!pm2.process.has_ended()?, "pm2 ended: {}", pm2.process.last_words());
            // Asked too early, `pm2` would start a second daemon.
            Ok(pm2.home.join(".pm2/rpc.sock").exists().then_some(()))
        })
        .await?;
        Ok(pm2)
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs pm2 with these arguments against this daemon; what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = command(&self.program, &self.home);
        command.args(arguments);
        let words = arguments.join(" ");
        let output = tokio::task::spawn_blocking(move || command.output()).await?.context("starting pm2")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "pm2 {words}: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }

    /// The state of a process (`online`, `stopped`) and how often pm2 started it again.
    ///
    /// # Errors
    /// If pm2 does not know it.
    pub async fn state(&self, name: &str) -> Result<(String, u64)> {
        let listed = self.run(&["jlist", "--silent"]).await?;
        let all: Value =
            serde_json::from_str(listed.trim()).with_context(|| format!("pm2 jlist: {listed}"))?;
        let found = all.as_array().into_iter().flatten().find(|process| process["name"] == name);
        let state = &found.with_context(|| format!("pm2 does not know {name}: {listed}"))?["pm2_env"];
        let status = state["status"].as_str().context("a process has a state")?;
        Ok((status.to_owned(), state["restart_time"].as_u64().context("restarts are counted")?))
    }

    /// The end of what it and its processes have printed.
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }
}

fn program() -> Result<PathBuf> {
    let package: Value = serde_json::from_str(PACKAGE).context("reading deploy/setup/pm2/package.json")?;
    let version = package["dependencies"]["pm2"].as_str().context("package.json pins pm2")?;
    let path = tools::folder()?.join(format!("pm2-{version}/bin/pm2"));
    ensure!(
        path.is_file(),
        "pm2 {version} is missing, looked for at {}: `make setup-test` fetches it",
        path.display()
    );
    Ok(path)
}

fn command(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(home)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home)
        .env("NO_COLOR", "1")
        // It would ask its makers whether there is a newer one.
        .env("PM2_DISABLE_VERSION_CHECK", "true");
    command
}
