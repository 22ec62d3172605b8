//! A real Prometheus server: Debian's package, our configuration, our port.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::{http, ports, wait};

/// From start to ready; 0.3 s on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Another program may take the port between our asking and the server's binding it.
const ATTEMPTS: usize = 3;

/// Something to scrape: `GET http://ADDRESS/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeTarget {
    /// `host:port`.
    pub address: String,
    /// Labels added to each of its series.
    pub labels: BTreeMap<String, String>,
}

/// Targets under one `job` label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeJob {
    /// The label `job`.
    pub name: String,
    /// What to scrape.
    pub targets: Vec<ScrapeTarget>,
}

/// Where a server sends what it scrapes, beside keeping it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteWrite {
    /// The address that takes remote writes.
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: String,
}

impl RemoteWrite {
    /// As a key of [`Settings::keys`].
    pub fn key(&self) -> (String, Value) {
        let queue = json!({"batch_send_deadline": "100ms", "max_shards": 1, "max_backoff": "1s"});
        let one =
            json!({"url": self.url, "authorization": {"credentials": self.token}, "queue_config": queue});
        ("remote_write".into(), json!([one]))
    }
}

/// What a server does besides scraping.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Further top-level keys of its configuration, such as `alerting`.
    pub keys: BTreeMap<String, Value>,
    /// Groups of rules, as they stand under `groups` in a file of rules.
    pub rules: Vec<Value>,
}

/// One series of an answer, at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels, `__name__` among them.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub time: f64,
    /// May be NaN or infinite.
    pub value: f64,
}

/// A running server, killed on drop. Its data go with it.
#[derive(Debug)]
pub struct PrometheusServer {
    process: Process,
    url: String,
    scrape_interval: Duration,
    settings: Settings,
    client: reqwest::Client,
    // Removed after the process, which writes into it.
    folder: TempDir,
}

impl PrometheusServer {
    /// Starts a server that scrapes `jobs` every `scrape_interval`, takes remote writes (native histograms, too), and is
    /// ready for queries.
    ///
    /// # Errors
    /// If the program is not installed (the error names the package), or the server does not become ready; the error
    /// holds what it printed.
    pub async fn start(jobs: &[ScrapeJob], scrape_interval: Duration) -> Result<PrometheusServer> {
        PrometheusServer::start_with(jobs, scrape_interval, &Settings::default()).await
    }

    /// As [`PrometheusServer::start`]; it also sends what it scrapes, a tenth of a second after each scrape.
    ///
    /// # Errors
    /// As [`PrometheusServer::start`].
    pub async fn start_writing(
        jobs: &[ScrapeJob],
        scrape_interval: Duration,
        to: RemoteWrite,
    ) -> Result<PrometheusServer> {
        let settings = Settings { keys: BTreeMap::from([to.key()]), ..Settings::default() };
        PrometheusServer::start_with(jobs, scrape_interval, &settings).await
    }

    /// As [`PrometheusServer::start`], with rules and whatever else it shall do.
    ///
    /// # Errors
    /// As [`PrometheusServer::start`].
    pub async fn start_with(
        jobs: &[ScrapeJob],
        scrape_interval: Duration,
        settings: &Settings,
    ) -> Result<PrometheusServer> {
        let mut last = anyhow!("no attempt was made");
        for _ in 0..ATTEMPTS {
            let server = PrometheusServer::launch(jobs, scrape_interval, settings)?;
            match server.ready().await {
                Ok(()) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The base address, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Scrapes `jobs` instead of what it scraped before; past samples stay. Prometheus takes up changed targets every
    /// five seconds: where that is too long, name all targets at the start.
    ///
    /// # Errors
    /// If the server does not take the new configuration.
    pub async fn scrape(&self, jobs: &[ScrapeJob]) -> Result<()> {
        write_configuration(self.folder.path(), jobs, self.scrape_interval, &self.settings)?;
        self.reload().await
    }

    /// Sets further keys of the configuration; what it scrapes must be named again.
    ///
    /// # Errors
    /// If the server does not take the new configuration.
    pub async fn reconfigure(&mut self, jobs: &[ScrapeJob], settings: Settings) -> Result<()> {
        self.settings = settings;
        self.scrape(jobs).await
    }

    async fn reload(&self) -> Result<()> {
        let answer = self.client.post(format!("{}/-/reload", self.url)).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        answer.with_context(|| format!("reloading Prometheus: {}", self.process.last_words()))?;
        Ok(())
    }

    /// Kills the server (`kill -9`): connections are refused from now on.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.process.kill()?;
        Ok(())
    }

    /// Freezes the server: it accepts connections and never answers.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// If it has ended.
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// The samples of an instant query, now. Empty means that there are none.
    ///
    /// # Errors
    /// If the server does not answer, refuses `promql`, or the answer is not an instant vector.
    pub async fn query(&self, promql: &str) -> Result<Vec<Sample>> {
        let trying = || format!("asking Prometheus for {promql:?}");
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/query", self.url), [("query", promql)]);
        let answer = self.client.get(url.with_context(trying)?).send().await.with_context(trying)?;
        let answer: Answer = answer.json().await.with_context(trying)?;
        let data = match answer {
            Answer::Success { data } => data,
            Answer::Error { error } => bail!("{}: {error}", trying()),
        };
        if data.result_type != "vector" {
            bail!("{}: the answer is a {}, expected a vector", trying(), data.result_type);
        }
        let series: Vec<Series> = serde_json::from_value(data.result).with_context(trying)?;
        series.into_iter().map(|one| one.sample().with_context(trying)).collect()
    }

    /// Waits until it tells exactly so many Alertmanagers. After a change of its configuration it knows none for up to five
    /// seconds, and what it would have said meanwhile it says again a minute later.
    ///
    /// # Errors
    /// If it does not come to that.
    pub async fn tells(&self, count: usize) -> Result<()> {
        wait::until("Prometheus to know its Alertmanagers", START_LIMIT, async || {
            let answer = self.client.get(format!("{}/api/v1/alertmanagers", self.url)).send().await?;
            let answer: Value = answer.json().await.context("asking Prometheus whom it tells")?;
            let active = answer.pointer("/data/activeAlertmanagers").and_then(Value::as_array);
            Ok((active.map_or(0, Vec::len) == count).then_some(()))
        })
        .await
    }

    fn launch(
        jobs: &[ScrapeJob],
        scrape_interval: Duration,
        settings: &Settings,
    ) -> Result<PrometheusServer> {
        let folder = tempfile::tempdir().context("making a folder for Prometheus")?;
        let port = ports::free_port()?;
        let configuration = write_configuration(folder.path(), jobs, scrape_interval, settings)?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={configuration}"))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-lifecycle", "--web.enable-remote-write-receiver", "--log.level=warn"])
            .arg("--enable-feature=native-histograms");
        let process = Process::start(command, &folder.path().join("log")).map_err(|error| {
            match error.downcast_ref::<std::io::Error>() {
                Some(cause) if cause.kind() == ErrorKind::NotFound => error.context(
                    "the program `prometheus` is missing: `make test` installs it, or `apt-get install prometheus`",
                ),
                _ => error,
            }
        })?;
        let url = format!("http://127.0.0.1:{port}");
        let (settings, client) = (settings.clone(), http::client()?);
        Ok(PrometheusServer { process, url, scrape_interval, settings, client, folder })
    }

    async fn ready(&self) -> Result<()> {
        let url = format!("{}/-/ready", self.url);
        wait::until("Prometheus to be ready", START_LIMIT, async || {
            if self.process.has_ended()? {
                bail!("Prometheus ended at once: {}", self.process.last_words());
            }
            // Refused connections are what a server that starts looks like.
            let ready = self.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
            Ok(ready.then_some(()))
        })
        .await
    }
}

/// Prometheus' own form of an answer.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success { data: Data },
    Error { error: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Debug, Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl Series {
    fn sample(self) -> Result<Sample> {
        let (time, text) = self.value;
        let value = text.parse().with_context(|| format!("not a number: {text:?}"))?;
        Ok(Sample { labels: self.metric, time, value })
    }
}

/// Writes the configuration and returns its path. As JSON, which is YAML as well and needs no quoting rules.
fn write_configuration(
    folder: &Path,
    jobs: &[ScrapeJob],
    scrape_interval: Duration,
    settings: &Settings,
) -> Result<String> {
    let jobs: Vec<Value> = jobs
        .iter()
        .map(|job| {
            let targets =
                job.targets.iter().map(|one| json!({"targets": [one.address], "labels": one.labels}));
            json!({"job_name": job.name, "static_configs": targets.collect::<Vec<_>>()})
        })
        .collect();
    let interval = format!("{}ms", scrape_interval.as_millis());
    let rules = folder.join("rules.yml");
    std::fs::write(&rules, json!({ "groups": settings.rules }).to_string())
        .with_context(|| format!("writing {}", rules.display()))?;
    let global = json!({"scrape_interval": interval, "evaluation_interval": interval});
    let mut configuration = json!({"global": global, "rule_files": [rules], "scrape_configs": jobs});
    for (key, value) in &settings.keys {
        configuration[key] = value.clone();
    }
    let path = folder.join("prometheus.yml");
    std::fs::write(&path, configuration.to_string())
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path.display().to_string())
}
