//! The deployed service: a real process with users, errors, latency and `/metrics`, whose version can be bad.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{binaries, http, process::Process, wait};

/// From start to the first answer; a debug build on a busy machine needs a tenth of a second.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How a release of the service behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// What it calls itself, the label `version` of its metrics.
    pub version: String,
    /// The share of `GET /work` that is answered 500, from 0.0 to 1.0.
    pub error_rate: f64,
    /// How long `GET /work` takes: whole milliseconds, 60 s at most.
    pub latency: Duration,
    /// Spreads latencies around `latency` as their median, log-normally: the standard deviation of their logarithm,
    /// from 0.0 to 3.0. With 0.5 the 95th percentile is 2.3 times the median, and the 99th 3.2 times. `None`: each
    /// request takes the same time.
    pub spread: Option<f64>,
    /// The label `pod` of its metrics, if any: letters, digits and dashes.
    pub pod: Option<String>,
    /// Its dice: which requests fail, and how latencies spread. Pods of one release must not have the same.
    pub seed: u64,
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
            spread: None,
            pod: None,
            seed: 1,
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
            .args(["--latency-ms", &release.latency.as_millis().to_string()])
            .args(["--seed", &release.seed.to_string()]);
        if let Some(spread) = release.spread {
            command.args(["--spread", &spread.to_string()]);
        }
        if let Some(pod) = &release.pod {
            command.args(["--pod", pod]);
        }
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

    /// From now on the share `rate` of `GET /work` is answered 500, from 0.0 to 1.0.
    ///
    /// # Errors
    /// If it is not a share, or the service does not answer.
    pub async fn set_errors(&self, rate: f64) -> Result<()> {
        self.administer(&format!("errors?rate={rate}")).await
    }

    /// From now on `GET /work` takes `latency`, in whole milliseconds (in the median, where there is a spread). What
    /// waits already, waits as it was told.
    ///
    /// # Errors
    /// If it is above 60 s, or the service does not answer.
    pub async fn set_latency(&self, latency: Duration) -> Result<()> {
        self.administer(&format!("latency?ms={}", latency.as_millis())).await
    }

    /// Makes `/metrics` answer 503 (`false`) or its figures (`true`), while the service itself goes on.
    ///
    /// # Errors
    /// If the service does not answer.
    pub async fn serve_metrics(&self, serve: bool) -> Result<()> {
        self.administer(if serve { "metrics-on" } else { "metrics-off" }).await
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

    async fn administer(&self, what: &str) -> Result<()> {
        let trying = || format!("telling the service at {}: {what}", self.address);
        let url = format!("http://{}/admin/{what}", self.address);
        let answer = self.client.post(&url).send().await.with_context(trying)?;
        let status = answer.status();
        let words = answer.text().await.with_context(trying)?;
        ensure!(status.is_success(), "{}: {status}: {}", trying(), words.trim_end());
        Ok(())
    }
}
