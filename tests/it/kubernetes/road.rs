//! The whole road on Kubernetes: a deployment's new image misbehaves, a real Prometheus sees it, and the daemon takes the
//! Deployment back to the template that ran well before, with the rights of the shipped manifests and no others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::daemon::Daemon;
use tests::load::{Load, Target};
use tests::prometheus::{PrometheusServer, ScrapeJob, ScrapeTarget};
use tests::victim::{Release, Victim};
use tests::wait;

use super::stage::{Stage, deployment, image};

const RATE: u32 = 150;
/// The past that the baseline is taken from.
const PAST: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(150);

/// A Deployment, and behind each of its images a real process that users reach while the Deployment runs that image.
struct Shop {
    stage: Stage,
    old: Victim,
    new: Victim,
    target: Target,
    load: Load,
    _prometheus: PrometheusServer,
    daemon: Daemon,
}

fn config(stage: &Stage, prometheus: &str, autonomy: &str) -> String {
    // The runbook that ships beside the manifests, with this cluster's names in it.
    let where_it_is =
        format!("namespace: {}\n            kubeconfig: {}", stage.namespace, stage.kubeconfig.display());
    let runbook = include_str!("../../../deploy/kubernetes/runbook.yaml")
        .replace("namespace: shop", &where_it_is)
        .replace("registry.example/shop/", "shop/");
    format!(
        r#"
signals:
  prometheus:
    main: {{ url: "{prometheus}", settle: 500ms }}
{runbook}
services:
  checkout:
    runbook: deployment-undo
    autonomy: {{ level: {autonomy} }}
    patience: {{ quick-fix: 0s, investigate: 0s }}
    signals:
      errors:
        source: main
        measure: {{ proportion: {{ of: 'http_requests_total{{service="checkout"}}', bad: {{ code: "5.." }} }} }}
    watch:
      {{ look_every: 1s, watch_for: 120s, soak: 10s, baseline_span: 20s, baseline_gap: 1s, baseline_window: 1s,
        seasonal_days: 0, blind_after: 15s, max_sample_age: 8s, verify_for: 60s, verify_soak: 5s, checkpoints: {{}} }}
    guards: {{ known_good_for: 10s, known_good_requests: 100 }}
    statistics: {{ healthy_below: 3%, dispersion: 1 }}
"#
    )
}

impl Shop {
    async fn open(autonomy: &str) -> Result<Shop> {
        let stage = Stage::new().await?;
        stage.good("checkout").await?;
        let old = Victim::start(&Release::healthy("v1")).await?;
        let new = Victim::start(&Release { error_rate: 0.25, ..Release::healthy("v2") }).await?;
        let scraped = |victim: &Victim| ScrapeTarget {
            address: victim.address().to_string(),
            labels: [("service".to_owned(), "checkout".to_owned())].into(),
        };
        let job = ScrapeJob { name: "checkout".into(), targets: vec![scraped(&old), scraped(&new)] };
        let prometheus = PrometheusServer::start(&[job], Duration::from_secs(1)).await?;
        let target = Target::new(old.address());
        let load = Load::start(target.clone(), RATE)?;
        let daemon = Daemon::start(&config(&stage, prometheus.url(), autonomy)).await?;
        wait::until("Prometheus to have seen the service twice", PATIENCE, async || {
            let samples = prometheus.query("min(count_over_time(up[1m]))").await?;
            Ok(samples.iter().any(|sample| sample.value >= 2.0).then_some(()))
        })
        .await?;
        // The agent must have heard of the old release, or there is none to go back to.
        daemon.deployed("checkout", "v1", None).await?;
        tokio::time::sleep(PAST).await;
        Ok(Shop { stage, old, new, target, load, _prometheus: prometheus, daemon })
    }

    /// A person's pipeline rolls the bad image out and says so.
    async fn deploy(&self) -> Result<()> {
        self.stage.deploy("deployments", "checkout", "shop/checkout:v2").await?;
        self.stage.rolled_out("checkout").await?;
        self.follow().await?;
        self.daemon.deployed("checkout", "v2", None).await
    }

    async fn image(&self) -> Result<String> {
        Ok(image(&self.stage.get("deployments", "checkout").await?).to_owned())
    }

    /// Users reach the release that the Deployment runs: that is the Service's part in a cluster.
    async fn follow(&self) -> Result<()> {
        let bad = self.image().await?.ends_with(":v2");
        self.target.set(if bad { self.new.address() } else { self.old.address() });
        Ok(())
    }

    async fn until(&self, what: &str, good: impl Fn(&Value) -> bool) -> Result<Value> {
        let waited = wait::until(what, PATIENCE, async || {
            self.follow().await?;
            Ok(Some(self.daemon.watch("checkout").await?).filter(|watch| good(watch)))
        })
        .await;
        match waited {
            Ok(watch) => Ok(watch),
            Err(error) => Err(error.context(self.daemon.story("checkout").await)),
        }
    }

    async fn until_closed(&self) -> Result<Value> {
        self.until("the watch to close", |watch| watch["closed"] == true).await
    }
}

#[tokio::test]
async fn a_bad_image_is_undone_to_the_good_template_waited_for_and_verified() -> Result<()> {
    let shop = Shop::open("auto").await?;
    shop.deploy().await?;
    let watch = shop.until_closed().await?;
    let story = shop.daemon.story("checkout").await;
    assert_eq!(watch["phase"], "closed: rolled back, recovered", "{story}");
    assert_eq!(shop.image().await?, "shop/checkout:v1", "{story}");
    shop.stage.rolled_out("checkout").await?;
    assert_eq!(shop.stage.written(), 1, "one write, by the server's own record: {story}");
    assert!(shop.load.answers().good > 1_000);
    let records = shop.daemon.verified_records().await?;
    let count = |kind: &str| records.iter().filter(|record| record.kind == kind).count();
    assert_eq!((count("step_intended"), count("step_ended")), (2, 2), "the undo, and the wait for it");
    assert_eq!(count("verification_ended"), 1);
    Ok(())
}

#[tokio::test]
async fn a_hotfix_that_somebody_rolled_out_meanwhile_is_left_alone() -> Result<()> {
    let shop = Shop::open("approve").await?;
    shop.deploy().await?;
    let asks = |watch: &Value| watch["plan"]["awaits_approval"] == true;
    let watch = shop.until("a plan that waits for an approval", asks).await?;
    let plan = &watch["plan"];
    // Nobody tells the agent.
    shop.stage.deploy("deployments", "checkout", "shop/checkout:hotfix").await?;
    let word = json!({ "decision": "approve", "digest": plan["digest"] });
    let id = plan["id"].as_str().context("a plan has an id")?;
    let (status, answer) = shop.daemon.post(&format!("/v1/plans/{id}/approval"), &word).await?;
    ensure!(status.is_success(), "{status}: {answer}");
    let watch = shop.until_closed().await?;
    let story = shop.daemon.story("checkout").await;
    let phase = watch["phase"].as_str().unwrap_or_default();
    assert!(phase.starts_with("closed: the rollback failed") || phase.contains("undone"), "{phase}: {story}");
    assert_eq!(shop.image().await?, "shop/checkout:hotfix", "{story}");
    assert_eq!(shop.stage.written(), 0, "{story}");
    assert!(story.contains("hotfix"), "people are told what was found there: {story}");
    Ok(())
}

#[tokio::test]
async fn what_git_owns_is_refused_and_a_person_is_called() -> Result<()> {
    let shop = Shop::open("auto").await?;
    let owner = json!({"metadata": {"annotations": {
        "argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/checkout",
    }}});
    let path = format!("{}/checkout", shop.stage.path("deployments"));
    shop.stage.api.merge(&path, &owner).await?.ok()?;
    shop.deploy().await?;
    // The dry run finds it, and what would fail is not begun alone.
    shop.until("a person to be asked", |watch| watch["plan"]["awaits_approval"] == true).await?;
    let story = shop.daemon.story("checkout").await;
    assert_eq!(shop.image().await?, "shop/checkout:v2", "{story}");
    assert_eq!(shop.stage.written(), 0, "{story}");
    assert!(story.contains("would fail") && story.contains("Argo CD"), "{story}");
    Ok(())
}

/// Whoever makes a deployment knows the object; what `deployment` names is what the runbook expects.
#[test]
fn the_runbook_fits_the_deployment_of_these_tests() {
    let object = deployment("checkout", "shop/checkout:v1");
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["name"], "app");
    assert_eq!(image(&object), "shop/checkout:v1");
}
