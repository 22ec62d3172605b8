//! A real Prometheus server scrapes a real service and writes to the agent.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use tests::daemon::Daemon;
use tests::load::{Load, Target};
use tests::prometheus::{PrometheusServer, RemoteWrite, ScrapeJob, ScrapeTarget};
use tests::victim::{Release, Victim};
use tests::wait;

use super::machine::Machine;
use super::{GOES, PAST, PATIENCE, PUSH_TOKEN, daemon, decided_at_once, health};

const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);
/// Other targets of the same server, at moments of their own. Prometheus sends what a scrape wrote when the next scrape has
/// written (seen with 2.42): with two targets alone that may be a second later.
const NEIGHBOURS: usize = 20;
/// Requests a second.
const RATE: u32 = 150;

/// Two releases of a service behind a switch, users, and a Prometheus that tells the agent of both.
pub struct Shop {
    _old: Victim,
    new: Victim,
    target: Target,
    pub load: Load,
    pub prometheus: PrometheusServer,
    pub daemon: Daemon,
}

impl Shop {
    pub async fn open(new_error_rate: f64) -> Result<Shop> {
        let old = Victim::start(&Release::healthy("v1")).await?;
        let new = Victim::start(&Release { error_rate: new_error_rate, ..Release::healthy("v2") }).await?;
        let labels = BTreeMap::from([("service".to_owned(), "shop".to_owned())]);
        let target =
            |victim: &Victim| ScrapeTarget { address: victim.address().to_string(), labels: labels.clone() };
        let job = ScrapeJob { name: "shop".into(), targets: vec![target(&old), target(&new)] };
        let beat = |number: usize| ScrapeTarget {
            address: old.address().to_string(),
            labels: BTreeMap::from([("service".to_owned(), format!("neighbour-{number}"))]),
        };
        let neighbours =
            ScrapeJob { name: "neighbours".into(), targets: (0..NEIGHBOURS).map(beat).collect() };
        let mut daemon = daemon("http_requests_total{service=\"shop\"}")?;
        daemon.launch(None)?;
        daemon.ready().await?;
        let to = RemoteWrite { url: daemon.url("/v1/push/main/write"), token: PUSH_TOKEN.to_owned() };
        let prometheus = PrometheusServer::start_writing(&[job, neighbours], SCRAPE_INTERVAL, to).await?;
        let target = Target::new(old.address());
        let load = Load::start(target.clone(), RATE)?;
        wait::until("samples to come", PATIENCE, async || {
            Ok(health(&daemon).await?["pushed"]["samples"]["kept"].as_u64().filter(|kept| *kept > 50))
        })
        .await?;
        daemon.deployed("shop", "v1", None).await?;
        tokio::time::sleep(PAST).await;
        Ok(Shop { _old: old, new, target, load, prometheus, daemon })
    }

    /// Users are sent to the new release, and the agent is told.
    pub async fn deploy(&self) -> Result<()> {
        self.target.set(self.new.address());
        self.daemon.deployed("shop", "v2", Some("v1")).await
    }
}

#[tokio::test]
async fn a_bad_release_is_turned_back_at_once_when_prometheus_writes_of_it() -> Result<()> {
    for _ in 0..GOES {
        let machine = Machine::look()?;
        let shop = Shop::open(0.20).await?;
        shop.deploy().await?;
        let at_once = decided_at_once(&shop.daemon, "Prometheus", machine).await?;
        assert!(shop.load.answers().good > 1_000);
        if at_once {
            return Ok(());
        }
    }
    bail!("never at once in {GOES} goes");
}
