//! The road of one event on real systems: a real Prometheus scrapes real processes, a CDEvent announces the deployment
//! over HTTP, and the agent turns it back, or does not.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::load::{Load, Target};
use tests::prometheus::{PrometheusServer, ScrapeJob, ScrapeTarget};
use tests::victim::{Release, Victim};
use tests::wait;

const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);
/// Requests a second: enough for a verdict in seconds, little enough for two cores that run other tests too.
const RATE: u32 = 150;
/// The past that the baseline is taken from.
const PAST: Duration = Duration::from_secs(25);
const PATIENCE: Duration = Duration::from_secs(150);

/// Two releases of a service behind a switch, users, and a Prometheus that sees both.
struct Shop {
    old: Victim,
    new: Victim,
    target: Target,
    load: Load,
    prometheus: PrometheusServer,
    daemon: Daemon,
}

/// The service's switch is a file that names the release that users reach; the runbook's step copies the right one over
/// it, as a symbolic link or a load balancer's file would be moved.
fn config(prometheus: &str, journal: &Path) -> String {
    let releases = journal.display();
    format!(
        r#"
signals:
  prometheus:
    main: {{ url: "{prometheus}", settle: 500ms }}
deployment_log: {{ file: "{releases}/deployments.md" }}
runbooks:
  switch:
    summary: Point the switch at the release before
    steps:
    - name: switch-back
      class: keyed
      timeout: 10s
      action: {{ command: {{ argv: [/bin/cp, --, "{releases}/{{{{to.version}}}}", "{releases}/current"] }} }}
services:
  shop:
    runbook: switch
    autonomy: {{ level: auto }}
    patience: {{ quick-fix: 0s, investigate: 0s }}
    signals:
      errors:
        source: main
        measure: {{ proportion: {{ of: 'http_requests_total{{service="shop"}}', bad: {{ code: "5.." }} }} }}
    watch:
      look_every: 1s
      watch_for: 60s
      soak: 20s
      baseline_span: 25s
      baseline_gap: 1s
      baseline_window: 1s
      blind_after: 15s
      max_sample_age: 8s
      verify_for: 40s
      verify_soak: 5s
      checkpoints:
        soon: {{ after: 10s, bounds: {{ errors: {{ below: 5% }}, queue_depth: {{ below: 50 }} }} }}
        last: {{ after: 18s, bounds: {{ errors: {{ below: 5% }} }} }}
    guards: {{ known_good_for: 10s, known_good_requests: 100 }}
    statistics: {{ healthy_below: 3%, dispersion: 1 }}
"#
    )
}

impl Shop {
    async fn open(new_error_rate: f64) -> Result<Shop> {
        let old = Victim::start(&Release::healthy("v1")).await?;
        let new = Victim::start(&Release { error_rate: new_error_rate, ..Release::healthy("v2") }).await?;
        let labels = BTreeMap::from([("service".to_owned(), "shop".to_owned())]);
        let target =
            |victim: &Victim| ScrapeTarget { address: victim.address().to_string(), labels: labels.clone() };
        let job = ScrapeJob { name: "shop".into(), targets: vec![target(&old), target(&new)] };
        let prometheus = PrometheusServer::start(&[job], SCRAPE_INTERVAL).await?;
        let target = Target::new(old.address());
        let load = Load::start(target.clone(), RATE)?;
        let mut daemon = Daemon::prepare("")?;
        let releases = daemon.folder().to_owned();
        std::fs::write(releases.join("v1"), old.address().to_string())?;
        std::fs::write(releases.join("v2"), new.address().to_string())?;
        std::fs::write(releases.join("current"), old.address().to_string())?;
        daemon.reconfigure(&config(prometheus.url(), &releases))?;
        daemon.launch(None)?;
        daemon.ready().await?;
        wait::until("Prometheus to have seen the service twice", PATIENCE, async || {
            let samples = prometheus.query("min(count_over_time(up[1m]))").await?;
            Ok(samples.iter().any(|sample| sample.value >= 2.0).then_some(()))
        })
        .await?;
        // The agent must have heard of the old release, or there is none to go back to.
        daemon.deployed("shop", "v1", None).await?;
        tokio::time::sleep(PAST).await;
        Ok(Shop { old, new, target, load, prometheus, daemon })
    }

    /// Deploys the new release and says so with a CDEvent, as a pipeline would.
    async fn deploy(&self) -> Result<()> {
        self.target.set(self.new.address());
        std::fs::write(self.daemon.folder().join("current"), self.new.address().to_string())?;
        let event = json!({
            "context": {
                "specversion": "0.5.1", "id": "deploy-1", "source": "/pipelines/shop",
                "type": "dev.cdevents.service.deployed.0.3.0", "timestamp": jiff::Timestamp::now().to_string(),
            },
            "subject": {
                "id": "shop", "source": "/pipelines/shop",
                "content": { "environment": { "id": "production" }, "artifactId": "pkg:generic/shop@v2" },
            },
        });
        let (status, answer) = self.daemon.post("/v1/events", &event).await?;
        anyhow::ensure!(status == 202, "{status}: {answer}");
        Ok(())
    }

    async fn until_closed(&self) -> Result<Value> {
        self.until("the watch is closed", |watch| watch["closed"] == true).await
    }

    /// Lets the users follow the switch until the watch is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(what, PATIENCE, async || {
            let current = std::fs::read_to_string(self.daemon.folder().join("current")).unwrap_or_default();
            if let Ok(address) = current.parse() {
                self.target.set(address);
            }
            Ok(Some(self.daemon.watch("shop").await?).filter(&wanted))
        })
        .await
        .with_context(|| format!("waited in vain until {what}"))
    }
}

fn kinds(records: &[agent::ledger::Record], stream: &str) -> Vec<String> {
    let of = |record: &&agent::ledger::Record| record.stream.starts_with(stream);
    records.iter().filter(of).map(|record| record.kind.clone()).collect()
}

fn count(records: &[agent::ledger::Record], kind: &str) -> usize {
    records.iter().filter(|record| record.kind == kind).count()
}

#[tokio::test]
async fn a_bad_release_is_decided_p1_and_turned_back() -> Result<()> {
    let mut shop = Shop::open(0.20).await?;
    shop.deploy().await?;
    shop.until("it has recovered", |watch| phase(watch).starts_with("recovered, next checkpoint ")).await?;
    // The agent is killed while it looks after the rollback, and goes on where it was.
    shop.daemon.kill()?;
    shop.daemon.launch(None)?;
    shop.daemon.ready().await?;
    let watch = match shop.until_closed().await {
        Ok(watch) => watch,
        Err(error) => return Err(error.context(shop.daemon.story("shop").await)),
    };
    let story = shop.daemon.story("shop").await;
    assert_eq!(watch["phase"], "closed: rolled back, recovered", "{story}");
    assert_eq!(watch["incident"]["severity"], "P1", "{story}");
    assert_eq!(watch["incident"]["row"], "error-rate-above-10-percent", "{story}");
    assert_eq!(shop.target.get(), shop.old.address(), "users are back on the old release");
    assert!(shop.load.answers().good > 1_000);
    let records = shop.daemon.verified_records().await?;
    let told = kinds(&records, &format!("watch/{}", watch["id"].as_str().unwrap_or_default()));
    let order = [
        "opened",
        "baseline_taken",
        "incident_opened",
        "plan_drawn",
        "execution_began",
        "step_intended",
        "step_ended",
        "execution_ended",
        "verification_began",
        "verification_ended",
        "aftercare_began",
        "checkpoint_taken",
        "closed",
    ];
    let places: Vec<usize> =
        order.iter().map(|kind| told.iter().position(|found| found == kind).unwrap_or(usize::MAX)).collect();
    assert!(places.is_sorted() && places.last() < Some(&usize::MAX), "{told:?}");
    assert_eq!(count(&records, "step_intended"), 1);
    assert_eq!(count(&records, "checkpoint_taken"), 2, "{story}");
    let taken: Vec<&Value> =
        records.iter().filter_map(|record| record.body.pointer("/checkpoint_taken/taken")).collect();
    for (taken, name) in taken.iter().zip(["soon", "last"]) {
        assert_eq!(taken["checkpoint"], name, "{story}");
        assert_eq!(taken["bounds"][0]["standing"], "kept", "{taken}");
    }
    assert_eq!(taken[0]["without_signal"][0], "queue_depth");
    let log = std::fs::read_to_string(shop.daemon.folder().join("deployments.md"))?;
    let entries = [
        "rollback from v2 to v1",
        "step 1 of 1, switch-back",
        "/bin/cp --",
        "checkpoint soon",
        "checkpoint last",
    ];
    for entry in entries {
        assert_eq!(log.matches(entry).count(), 1, "{entry} stands once in {log}");
    }
    Ok(())
}

fn phase(watch: &Value) -> &str {
    watch["phase"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_healthy_release_ends_healthy_by_its_own_proof() -> Result<()> {
    let shop = Shop::open(0.01).await?;
    shop.deploy().await?;
    let watch = shop.until_closed().await?;
    let story = shop.daemon.story("shop").await;
    assert_eq!(watch["phase"], "closed: healthy", "{story}");
    let records = shop.daemon.verified_records().await?;
    assert_eq!(count(&records, "execution_began"), 0, "{story}");
    assert_eq!(count(&records, "proved_good"), 1, "{story}");
    Ok(())
}

async fn blind(mut shop: Shop, seen_for: Duration) -> Result<()> {
    shop.deploy().await?;
    tokio::time::sleep(seen_for).await;
    shop.prometheus.stop()?;
    let watch = shop.until_closed().await?;
    let story = shop.daemon.story("shop").await;
    assert_eq!(watch["phase"], "closed: blind", "{story}");
    let records = shop.daemon.verified_records().await?;
    assert_eq!(count(&records, "execution_began"), 0, "{story}");
    assert_eq!(count(&records, "blind_began"), 1, "{story}");
    let pages = shop
        .daemon
        .log()
        .lines()
        .filter(|line| line.contains("shop v2 cannot see: telemetry is broken"))
        .count();
    assert_eq!(pages, 1, "{story}");
    Ok(())
}

#[tokio::test]
async fn a_prometheus_that_dies_in_the_middle_gives_one_page_and_no_rollback() -> Result<()> {
    blind(Shop::open(0.01).await?, Duration::from_secs(6)).await
}

#[tokio::test]
async fn even_a_bad_release_is_not_turned_back_on_what_cannot_be_seen() -> Result<()> {
    blind(Shop::open(0.20).await?, Duration::ZERO).await
}
