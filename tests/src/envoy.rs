//! A real Envoy that splits users between the arms of a canary, as a service mesh or an ingress does.
//!
//! Each arm is a cluster with its pods; the route sends each request to one of them by chance, in the proportion of
//! their weights. The route lies in a file that Envoy watches, so weights and faults change while requests are on
//! their way, without a restart, and a change counts once Envoy says that it has it. There are no retries and no health
//! checks: what a pod does wrong, and what it does not do at all, reaches the users and the figures.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::prometheus::{ScrapeJob, ScrapeTarget};
use crate::{http, tools, wait};

/// From start to ready; 2 s on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// From a new route in the file to Envoy's using it; some milliseconds on an idle machine.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);

/// Faults are drawn per million, Envoy's finest measure.
const MILLION: f64 = 1e6;

/// What Envoy itself does to the requests of one arm. What it aborts never reaches a pod: users see it, and Envoy's
/// figures of the listener and of the fault filter, but not those of the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Fault {
    /// The share answered 503 at once, from 0.0 to 1.0.
    pub abort: f64,
    /// How much longer each request takes.
    pub delay: Duration,
}

/// One arm of the split.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// The label `envoy_cluster_name` in Envoy's figures: letters, digits and dashes.
    pub name: String,
    /// Where its pods listen; they take turns.
    pub pods: Vec<SocketAddr>,
    /// Its share of the requests is this over the sum of all weights.
    pub weight: u32,
    /// What Envoy does to its requests.
    pub fault: Fault,
}

impl Arm {
    /// An arm without faults of Envoy's own.
    pub fn new(name: &str, pods: Vec<SocketAddr>, weight: u32) -> Arm {
        Arm { name: name.to_owned(), pods, weight, fault: Fault::default() }
    }
}

/// A running Envoy, killed on drop.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
    client: reqwest::Client,
    arms: Vec<Arm>,
    version: u32,
    // Removed after the process, which reads from it.
    folder: TempDir,
}

impl Envoy {
    /// Starts an Envoy that splits requests among `arms` and returns when it takes them. Kernel-chosen ports.
    ///
    /// # Errors
    /// If there is no arm, one has no pods, a name or a fault is not as it must be, or all weights are zero; if the
    /// program was not fetched (the error says how); if Envoy does not become ready, with what it printed.
    pub async fn start(arms: &[Arm]) -> Result<Envoy> {
        check(arms)?;
        let program = tools::path("envoy")?;
        let folder = tempfile::tempdir().context("making a folder for Envoy")?;
        let version = 1;
        write_route(folder.path(), arms, version)?;
        let configuration = folder.path().join("envoy.json");
        std::fs::write(&configuration, bootstrap(folder.path(), arms).to_string())
            .with_context(|| format!("writing {}", configuration.display()))?;
        let admin_file = folder.path().join("admin");
        let mut command = Command::new(program);
        command
            .arg("--config-path")
            .arg(&configuration)
            .arg("--admin-address-path")
            .arg(&admin_file)
            // Several at once on one machine: no shared memory between them. One worker: no core is ours alone.
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]);
        let process = Process::start(command, &folder.path().join("log"))?;
        let client = http::client()?;
        let (admin, address) = ready(&process, &client, &admin_file).await?;
        Ok(Envoy { process, address, admin, client, arms: arms.to_vec(), version, folder })
    }

    /// Where users send their requests.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where Envoy's administration listens; its figures are at `/stats/prometheus`.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The scrape job `envoy` for its own figures, such as `envoy_cluster_upstream_rq` by `envoy_cluster_name` and
    /// `envoy_response_code`.
    pub fn job(&self) -> ScrapeJob {
        let labels = BTreeMap::from([("__metrics_path__".to_owned(), "/stats/prometheus".to_owned())]);
        let target = ScrapeTarget { address: self.admin.to_string(), labels };
        ScrapeJob { name: "envoy".to_owned(), targets: vec![target] }
    }

    /// Gives the named arms new weights; those that are not named keep theirs. Holds for the requests that come after
    /// this has returned.
    ///
    /// # Errors
    /// If there is no such arm, all weights would be zero, or Envoy does not take the new route.
    pub async fn set_weights(&mut self, weights: &[(&str, u32)]) -> Result<()> {
        let mut arms = self.arms.clone();
        for (name, weight) in weights {
            named(&mut arms, name)?.weight = *weight;
        }
        self.reload(arms).await
    }

    /// Changes what Envoy does to the requests of the named arm.
    ///
    /// # Errors
    /// If there is no such arm, the share is not between 0 and 1, or Envoy does not take the new route.
    pub async fn set_fault(&mut self, name: &str, fault: Fault) -> Result<()> {
        let mut arms = self.arms.clone();
        named(&mut arms, name)?.fault = fault;
        self.reload(arms).await
    }

    async fn reload(&mut self, arms: Vec<Arm>) -> Result<()> {
        check(&arms)?;
        self.version += 1;
        write_route(self.folder.path(), &arms, self.version)?;
        // Asked of the worker that routes the users: the administration, on another thread, knows a moment too early.
        let url = format!("http://{}{VERSION_PATH}", self.address);
        wait::until("Envoy to take its new route", RELOAD_LIMIT, async || {
            Ok((ask(&self.client, &url).await? == self.version).then_some(()))
        })
        .await
        .with_context(|| self.process.last_words())?;
        self.arms = arms;
        Ok(())
    }
}

fn named<'a>(arms: &'a mut [Arm], name: &str) -> Result<&'a mut Arm> {
    arms.iter_mut().find(|arm| arm.name == name).with_context(|| format!("the split has no arm {name:?}"))
}

fn check(arms: &[Arm]) -> Result<()> {
    let names: BTreeSet<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
    ensure!(names.len() == arms.len(), "two arms of the split have the same name");
    for Arm { name, pods, fault, .. } in arms {
        let plain = |one: char| one == '-' || one.is_ascii_alphanumeric();
        ensure!(
            !name.is_empty() && name.chars().all(plain),
            "{name:?} is not made of letters, digits and dashes"
        );
        ensure!(!pods.is_empty(), "the arm {name} has no pods");
        ensure!((0.0..=1.0).contains(&fault.abort), "the arm {name} aborts {}: not from 0 to 1", fault.abort);
    }
    // Envoy adds them up in 32 bits.
    let sum = arms.iter().try_fold(0_u32, |sum, arm| sum.checked_add(arm.weight));
    ensure!(
        sum.is_some_and(|sum| sum > 0),
        "the weights of a split add up to 1 at least and {} at most",
        u32::MAX
    );
    Ok(())
}

/// Waits until Envoy takes requests: its administration's address, then the listener's.
async fn ready(
    process: &Process,
    client: &reqwest::Client,
    admin_file: &Path,
) -> Result<(SocketAddr, SocketAddr)> {
    wait::until("Envoy to be ready", START_LIMIT, async || {
        if process.has_ended()? {
            bail!("Envoy ended at once: {}", process.last_words());
        }
        // Not written in one piece: as long as it is not an address, it is not there.
        let admin = std::fs::read_to_string(admin_file).ok().and_then(|text| text.parse::<SocketAddr>().ok());
        let Some(admin) = admin else { return Ok(None) };
        let live = client.get(format!("http://{admin}/ready")).send().await;
        if !live.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(None);
        }
        let listeners = ask(client, &format!("http://{admin}/listeners?format=json")).await?;
        let place = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
        let port = place["port_value"].as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.with_context(|| format!("Envoy does not say where it listens: {listeners}"))?;
        Ok(Some((admin, SocketAddr::from(([127, 0, 0, 1], port)))))
    })
    .await
    .with_context(|| process.last_words())
}

async fn ask(client: &reqwest::Client, url: &str) -> Result<Value> {
    let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
    let text = answer.context("asking Envoy")?.text().await.with_context(|| format!("reading {url}"))?;
    serde_json::from_str(&text).with_context(|| format!("{url}: {text}"))
}

fn route_file(folder: &Path) -> PathBuf {
    folder.join("route.json")
}

/// Envoy looks when a file is renamed to the name that it watches, so it never sees half of one.
fn write_route(folder: &Path, arms: &[Arm], version: u32) -> Result<()> {
    let (unfinished, file) = (folder.join("route.part"), route_file(folder));
    std::fs::write(&unfinished, route(arms, version).to_string())
        .with_context(|| format!("writing {}", unfinished.display()))?;
    std::fs::rename(&unfinished, &file).with_context(|| format!("naming {}", file.display()))
}

fn bootstrap(folder: &Path, arms: &[Arm]) -> Value {
    let any_port = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let clusters = arms.iter().map(|arm| {
        let pods = arm.pods.iter().map(|pod| {
            let place = json!({"socket_address": {"address": pod.ip(), "port_value": pod.port()}});
            json!({"endpoint": {"address": place}})
        });
        json!({
            "name": arm.name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": arm.name,
                "endpoints": [{"lb_endpoints": pods.collect::<Vec<_>>()}],
            },
        })
    });
    let users = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "users",
        "rds": {
            "route_config_name": "split",
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {"path": route_file(folder)},
            },
        },
        "http_filters": [
            {"name": "fault", "typed_config": {"@type": FAULT}},
            {"name": "router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            }},
        ],
    });
    json!({
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": any_port},
        // How often histograms and gauges move on; counters are always up to date.
        "stats_flush_interval": "1s",
        "static_resources": {
            "listeners": [{
                "name": "users",
                "address": any_port,
                "filter_chains": [{"filters": [{"name": "users", "typed_config": users}]}],
            }],
            "clusters": clusters.collect::<Vec<_>>(),
        },
    })
}

/// Where Envoy itself answers users with the version of the route that it goes by.
const VERSION_PATH: &str = "/route-version";

const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";

fn route(arms: &[Arm], version: u32) -> Value {
    let clusters = arms.iter().map(|arm| {
        let mut cluster = json!({"name": arm.name, "weight": arm.weight});
        let mut fault = json!({"@type": FAULT});
        if arm.fault.abort > 0.0 {
            let numerator = (arm.fault.abort * MILLION).round() as u32;
            let percentage = json!({"numerator": numerator, "denominator": "MILLION"});
            fault["abort"] = json!({"http_status": 503, "percentage": percentage});
        }
        if !arm.fault.delay.is_zero() {
            let delay = format!("{:.3}s", arm.fault.delay.as_secs_f64());
            fault["delay"] = json!({"fixed_delay": delay, "percentage": {"numerator": 100}});
        }
        cluster["typed_per_filter_config"] = json!({"fault": fault});
        cluster
    });
    let version = version.to_string();
    let told = json!({"status": 200, "body": {"inline_string": version}});
    let split = json!({"weighted_clusters": {"clusters": clusters.collect::<Vec<_>>()}});
    json!({
        "version_info": version,
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": "split",
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [
                    {"match": {"path": VERSION_PATH}, "direct_response": told},
                    {"match": {"prefix": "/"}, "route": split},
                ],
            }],
        }],
    })
}
