//! The deployed service: a real process with users, errors, latency and `/metrics`, whose version can be bad.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{binaries, http, process::Process, wait};

/// From start to the first answer; a debug build on a busy machine needs a tenth of a second.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How a release of the service behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// What it calls itself, the label `version` of its metrics.
    pub version: String,
    /// The share of `GET /work` that is answered 500, from 0.0 to 1.0.
    pub error_rate: f64,
    /// How long `GET /work` takes.
    pub latency: Duration,
    /// Where it notes in the effects journal that it was started, if anywhere.
    pub journal: Option<PathBuf>,
}

impl Release {
    /// A release with one error in a hundred and 5 ms latency: as real services are, not without faults.
    pub fn healthy(version: &str) -> Release {
        Release {
            version: version.to_owned(),
            error_rate: 0.01,
            latency: Duration::from_millis(5),
            journal: None,
        }
    }
}

/// A running service, killed on drop.
#[derive(Debug)]
pub struct Victim {
    process: Process,
    address: SocketAddr,
    client: reqwest::Client,
    // Removed after the process, which writes into it.
    _folder: TempDir,
}

impl Victim {
    /// The program with its arguments, for those who start it by other means, for instance as an agent's action.
    /// It listens on 127.0.0.1 at `port` (0: any) and writes the address that it got into `address_file`, if given.
    ///
    /// # Errors
    /// If the program has not been built.
    pub fn command(release: &Release, port: u16, address_file: Option<&Path>) -> Result<Command> {
        let mut command = Command::new(binaries::path("victim")?);
        command
            .args(["--version", &release.version])
            .args(["--port", &port.to_string()])
            .args(["--error-rate", &release.error_rate.to_string()])
            .args(["--latency-ms", &release.latency.as_millis().to_string()]);
        if let Some(file) = address_file {
            command.arg("--address-file").arg(file);
        }
        if let Some(journal) = &release.journal {
            command.arg("--journal").arg(journal);
        }
        Ok(command)
    }

    /// Starts `release` on a port that the kernel chooses and returns when it answers.
    ///
    /// # Errors
    /// If it does not start; the error holds what it printed.
    pub async fn start(release: &Release) -> Result<Victim> {
        let folder = tempfile::tempdir().context("making a folder for the service")?;
        let address_file = folder.path().join("address");
        let mut command = Victim::command(release, 0, Some(&address_file))?;
        // Ends with the test, even if that is killed.
        command.arg("--until-stdin-closes");
        let process = Process::start(command, &folder.path().join("log"))?;
        let address = wait::until("the service to listen", START_LIMIT, async || {
            if process.has_ended()? {
                bail!("the service ended at once: {}", process.last_words());
            }
            // Written in one piece by renaming, so what is there is whole.
            match std::fs::read_to_string(&address_file) {
                Ok(text) => text.parse().map(Some).with_context(|| format!("not an address: {text:?}")),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error).context("reading the address of the service"),
            }
        })
        .await?;
        Ok(Victim { process, address, client: http::client()?, _folder: folder })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Makes `/metrics` answer 503 (`false`) or its figures (`true`), while the service itself goes on.
    ///
    /// # Errors
    /// If the service does not answer.
    pub async fn serve_metrics(&self, serve: bool) -> Result<()> {
        let word = if serve { "on" } else { "off" };
        let url = format!("http://{}/admin/metrics-{word}", self.address);
        let answer = self.client.post(&url).send().await.and_then(reqwest::Response::error_for_status);
        answer.with_context(|| format!("turning the metrics of the service {word}"))?;
        Ok(())
    }

    /// What `/metrics` says now.
    ///
    /// # Errors
    /// If the service does not answer 200.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("http://{}/metrics", self.address);
        let answer = self.client.get(&url).send().await.and_then(reqwest::Response::error_for_status);
        answer.context("asking for the metrics of the service")?.text().await.context("reading the metrics")
    }
}
