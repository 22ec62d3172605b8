//! A real agent as a child process: started, asked, killed and started again on the same state.

use crate::process::Process;
use crate::{binaries, http, ports, wait};
use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// From start to ready; a debug build on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A token that everybody in the tests knows.
pub const TOKEN: &str = "a-token-for-tests-long-enough";

/// A daemon with its state, killed on drop.
#[derive(Debug)]
pub struct Daemon {
    process: Option<Process>,
    folder: TempDir,
    port: u16,
    client: reqwest::Client,
    environment: Vec<(String, String)>,
    program: Option<PathBuf>,
}

impl Daemon {
    /// Writes `config` (the part after `version: 1`), starts the agent and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready; the error holds what it printed.
    pub async fn start(config: &str) -> Result<Daemon> {
        let mut daemon = Daemon::prepare(config)?;
        daemon.launch(None)?;
        daemon.ready().await?;
        Ok(daemon)
    }

    /// As [`Daemon::start`], with further environment variables.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub async fn start_with(config: &str, environment: &[(&str, &str)]) -> Result<Daemon> {
        let mut daemon = Daemon::prepare(config)?;
        daemon.environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        daemon.launch(None)?;
        daemon.ready().await?;
        Ok(daemon)
    }

    /// Everything but the start.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn prepare(config: &str) -> Result<Daemon> {
        let folder = tempfile::tempdir().context("making a folder for the agent")?;
        std::fs::write(folder.path().join("token"), TOKEN).context("writing the token")?;
        let daemon = Daemon {
            process: None,
            folder,
            port: ports::free_port()?,
            client: http::client()?,
            environment: Vec::new(),
            program: None,
        };
        daemon.reconfigure(config)?;
        Ok(daemon)
    }

    /// Writes another configuration; the next start reads it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn reconfigure(&self, config: &str) -> Result<()> {
        let token = self.folder.path().join("token");
        let text = format!("version: 1\napi:\n  token: {{ file: {} }}\n{config}\n", token.display());
        std::fs::write(self.folder.path().join("turnback.yaml"), text).context("writing the configuration")
    }

    /// Another program for the next start than the one with crash points.
    pub fn set_program(&mut self, program: &Path) {
        self.program = Some(program.to_owned());
    }

    /// Further environment variables for the next start.
    pub fn set_environment(&mut self, environment: &[(&str, String)]) {
        self.environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    }

    /// Starts the process, with the crash point `crash` armed if given: `NAME` for `kill -9` there, `NAME=ACTION` for
    /// another action of [`agent::crash::point`].
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn launch(&mut self, crash: Option<&str>) -> Result<()> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => binaries::path("turnback-under-test")?,
        };
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg("--config")
            .arg(self.folder.path().join("turnback.yaml"))
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .arg("--state-dir")
            .arg(self.state_dir());
        command.envs(self.environment.iter().cloned());
        if let Some(point) = crash {
            let armed = if point.contains('=') { point.to_owned() } else { format!("{point}=return") };
            command.env("FAILPOINTS", armed);
        }
        self.process = Some(Process::start(command, &self.folder.path().join("log"))?);
        Ok(())
    }

    /// Waits until `/readyz` says 200.
    ///
    /// # Errors
    /// If the process ends or the time is over.
    pub async fn ready(&self) -> Result<()> {
        wait::until("the agent to be ready", START_LIMIT, async || {
            if self.process.as_ref().is_none_or(|process| process.has_ended().unwrap_or(true)) {
                bail!("the agent ended at once: {}", self.log());
            }
            let answer = self.client.get(self.url("/readyz")).send().await;
            Ok(answer.is_ok_and(|answer| answer.status() == StatusCode::OK).then_some(()))
        })
        .await
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Waits until the process has ended by itself, and says what it printed.
    ///
    /// # Errors
    /// If it still runs after `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<String> {
        let Some(mut process) = self.process.take() else { bail!("the agent was not started") };
        process.end(limit).await.with_context(|| self.log())?;
        Ok(self.log())
    }

    /// Its process.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Where its ledger is.
    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A folder of the test's own, beside the state.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The end of what it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log"))
            .unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// An address of its API.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The client that the tests use.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// `GET` as JSON.
    ///
    /// # Errors
    /// If the answer is not 200 or not JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer =
            self.client.get(self.url(path)).bearer_auth(TOKEN).send().await.context("asking the agent")?;
        let status = answer.status();
        let text = answer.text().await.context("reading the agent's answer")?;
        anyhow::ensure!(status == StatusCode::OK, "GET {path}: {status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("GET {path}: {text}"))
    }

    /// `POST` of JSON with the token: status and answer.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        let request = self.client.post(self.url(path)).bearer_auth(TOKEN).json(body);
        let answer = request.send().await.context("telling the agent")?;
        let status = answer.status();
        Ok((status, answer.json().await.context("reading the agent's answer")?))
    }

    /// Tells of a deployment in our own form.
    ///
    /// # Errors
    /// If it is not acknowledged.
    pub async fn deployed(&self, service: &str, version: &str, previous: Option<&str>) -> Result<()> {
        let mut news = serde_json::json!({ "service": service, "version": version, "id": format!("{service}-{version}") });
        if let Some(previous) = previous {
            news["previous"] = previous.into();
        }
        let (status, answer) = self.post("/v1/events", &news).await?;
        anyhow::ensure!(status == StatusCode::ACCEPTED, "{status}: {answer}");
        Ok(())
    }

    /// The newest watch of a service, as `GET /v1/watches` tells it.
    ///
    /// # Errors
    /// If there is none.
    pub async fn watch(&self, service: &str) -> Result<Value> {
        let watches = self.get("/v1/watches").await?;
        let found = watches.as_array().into_iter().flatten().find(|watch| watch["service"] == service);
        found.cloned().with_context(|| format!("no watch over {service}: {watches}"))
    }

    /// Waits until the newest watch of a service says yes to `good`.
    ///
    /// # Errors
    /// If it does not in time; the error holds the watch with its why card and timeline.
    pub async fn until_watch(
        &self,
        service: &str,
        what: &str,
        limit: Duration,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let waited = wait::until(what, limit, async || {
            Ok(Some(self.watch(service).await?).filter(|watch| good(watch)))
        })
        .await;
        match waited {
            Ok(watch) => Ok(watch),
            Err(error) => Err(error.context(self.story(service).await)),
        }
    }

    /// Waits until the newest watch of a service is closed.
    ///
    /// # Errors
    /// As [`Daemon::until_watch`].
    pub async fn until_closed(&self, service: &str, limit: Duration) -> Result<Value> {
        self.until_watch(service, "the watch to close", limit, |watch| watch["closed"] == true).await
    }

    /// Everything that is known of a service, for error messages.
    pub async fn story(&self, service: &str) -> String {
        let id = match self.watch(service).await {
            Ok(watch) => watch["id"].as_str().unwrap_or_default().to_owned(),
            Err(error) => return format!("{error:#}\n{}", self.log()),
        };
        match self.get(&format!("/v1/watches/{id}")).await {
            Ok(detail) => {
                let timeline: Vec<String> =
                    detail["timeline"].as_array().into_iter().flatten().map(Value::to_string).collect();
                format!(
                    "{}\n{}\n{}",
                    detail["text"].as_str().unwrap_or_default(),
                    timeline.join("\n"),
                    self.log()
                )
            }
            Err(error) => format!("{error:#}\n{}", self.log()),
        }
    }

    /// The kinds of all records of the ledger, read from the file, after checking its chain.
    ///
    /// # Errors
    /// If the ledger does not verify.
    pub async fn verified_records(&self) -> Result<Vec<agent::ledger::Record>> {
        let ledger =
            agent::ledger::Ledger::open_read_only(&agent::app::ledger_file(&self.state_dir())).await?;
        let report = ledger.verify(|_, _| {}).await?;
        anyhow::ensure!(report.is_sound(), "the ledger is broken: {report:?}");
        let mut all: Vec<agent::ledger::Record> = Vec::new();
        loop {
            let after = all.last().map_or(0, |record| record.sequence);
            let part = ledger.read_after(after, 10_000).await?;
            if part.is_empty() {
                return Ok(all);
            }
            all.extend(part);
        }
    }
}
