//! A real Alertmanager: Debian's package, our configuration, our ports; alone or gossiping with others.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::{http, ports, wait};

/// From start to ready; a cluster of two settles in some seconds.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Another program may take a port between our asking and the server's binding it.
const ATTEMPTS: usize = 3;

/// Where notifications go, and when.
#[derive(Debug, Clone)]
pub struct Route {
    /// The address of the webhook.
    pub url: String,
    /// How it shows who it is, as `http_config` writes it: `{"authorization": …}` or `{"basic_auth": …}`.
    pub http_config: Value,
    /// How long it waits for others of a new group.
    pub group_wait: Duration,
    /// How long it waits for changes of a group.
    pub group_interval: Duration,
    /// When it says again what has not changed.
    pub repeat_interval: Duration,
}

impl Route {
    /// What an Alertmanager does if its configuration says nothing: 30 s, 5 min and 4 h.
    pub fn stock(url: &str, http_config: Value) -> Route {
        Route {
            url: url.to_owned(),
            http_config,
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_mins(5),
            repeat_interval: Duration::from_hours(4),
        }
    }
}

/// A running Alertmanager, killed on drop. Its data go with it.
#[derive(Debug)]
pub struct Alertmanager {
    process: Process,
    address: String,
    gossip: String,
    client: reqwest::Client,
    // Removed after the process, which writes into it.
    _folder: TempDir,
}

impl Alertmanager {
    /// Starts one that gossips with `peers`.
    ///
    /// # Errors
    /// If the program is not installed (the error names the package), or it does not become ready; the error holds what
    /// it printed.
    pub async fn start(route: &Route, peers: &[&Alertmanager]) -> Result<Alertmanager> {
        let mut last = anyhow!("no attempt was made");
        for _ in 0..ATTEMPTS {
            let server = Alertmanager::launch(route, peers)?;
            match server.ready().await {
                Ok(()) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// `host:port` of its API.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many peers it knows, itself among them.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn peers(&self) -> Result<usize> {
        let url = format!("http://{}/api/v2/status", self.address);
        let status: Value =
            self.client.get(url).send().await?.json().await.context("asking for its status")?;
        Ok(status.pointer("/cluster/peers").and_then(Value::as_array).map_or(0, Vec::len))
    }

    /// How many notifications it has sent to webhooks, and how many of these failed.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn notified(&self) -> Result<(u64, u64)> {
        let text = self.client.get(format!("http://{}/metrics", self.address)).send().await?.text().await?;
        let count = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix("{integration=\"webhook\"} "));
            line.and_then(|value| value.trim().parse::<f64>().ok()).map(|value| value as u64)
        };
        let missing = || format!("no figures of notifications in {text}");
        Ok((
            count("alertmanager_notifications_total").with_context(missing)?,
            count("alertmanager_notification_requests_failed_total").with_context(missing)?,
        ))
    }

    /// The end of what it has printed.
    pub fn log(&self) -> String {
        self.process.last_words()
    }

    fn launch(route: &Route, peers: &[&Alertmanager]) -> Result<Alertmanager> {
        let folder = tempfile::tempdir().context("making a folder for Alertmanager")?;
        let configuration = folder.path().join("alertmanager.yml");
        // JSON is YAML as well and needs no quoting rules.
        std::fs::write(&configuration, configuration_of(route).to_string())
            .with_context(|| format!("writing {}", configuration.display()))?;
        let address = format!("127.0.0.1:{}", ports::free_port()?);
        let gossip = format!("127.0.0.1:{}", ports::free_port()?);
        let mut command = Command::new("prometheus-alertmanager");
        command
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--cluster.listen-address={gossip}"))
            .arg(format!("--cluster.advertise-address={gossip}"))
            .args(["--cluster.peer-timeout=1s", "--cluster.gossip-interval=50ms"])
            .args(["--cluster.pushpull-interval=1s", "--cluster.settle-timeout=2s", "--log.level=debug"]);
        for peer in peers {
            command.arg(format!("--cluster.peer={}", peer.gossip));
        }
        let process = Process::start(command, &folder.path().join("log")).map_err(|error| {
            match error.downcast_ref::<std::io::Error>() {
                Some(cause) if cause.kind() == ErrorKind::NotFound => error.context(
                    "the program `prometheus-alertmanager` is missing: `make setup-test` installs it, or `apt-get \
                     install prometheus-alertmanager`",
                ),
                _ => error,
            }
        })?;
        Ok(Alertmanager { process, address, gossip, client: http::client()?, _folder: folder })
    }

    async fn ready(&self) -> Result<()> {
        let url = format!("http://{}/-/ready", self.address);
        wait::until("Alertmanager to be ready", START_LIMIT, async || {
            if self.process.has_ended()? {
                bail!("Alertmanager ended at once: {}", self.process.last_words());
            }
            // Refused connections are what a server that starts looks like.
            let ready = self.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
            Ok(ready.then_some(()))
        })
        .await
    }
}

fn configuration_of(route: &Route) -> Value {
    let ms = |duration: Duration| format!("{}ms", duration.as_millis());
    json!({
        "route": {
            "receiver": "turnback",
            "group_by": ["alertname", "service"],
            "group_wait": ms(route.group_wait),
            "group_interval": ms(route.group_interval),
            "repeat_interval": ms(route.repeat_interval),
        },
        "receivers": [{
            "name": "turnback",
            "webhook_configs": [{ "url": route.url, "send_resolved": true, "http_config": route.http_config }],
        }],
    })
}

/// The key `alerting` of a Prometheus that tells these.
pub fn alerting(told: &[&Alertmanager]) -> BTreeMap<String, Value> {
    let targets: Vec<&str> = told.iter().map(|one| one.address.as_str()).collect();
    let alerting = json!({ "alertmanagers": [{ "static_configs": [{ "targets": targets }] }] });
    BTreeMap::from([("alerting".to_owned(), alerting)])
}
