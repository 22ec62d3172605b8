//! A cluster as a source of events: the real daemon listens to a real API server, with the rights of the shipped manifests
//! and no others, and nobody tells it anything.

mod crds;
mod digests;
mod outage;
mod weather;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::daemon::Daemon;
use tests::wait;

use super::stage::{Stage, deployment, image, workload};

/// Longer than a rollout takes to begin, on a busy machine too, and than the source waits before it tries again.
const SOON: Duration = Duration::from_secs(90);
/// Two reconciles of these tests, and then some.
const LONG_ENOUGH: Duration = Duration::from_millis(2_500);

/// A namespace, and a daemon that listens to it.
pub struct Ear {
    stage: Stage,
    daemon: Daemon,
}

/// What the ledger keeps of one piece of news.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    kind: String,
    version: String,
    previous: Option<String>,
    body: Value,
}

/// The source `cluster`, which lists everything each second.
fn config(namespace: &str, kubeconfig: &Path, more: &str) -> String {
    format!(
        "events:\n  kubernetes:\n    cluster:\n      services: [\"*\"]\n      namespaces: [{namespace}]\n      \
         kubeconfig: {}\n      {}\n",
        kubeconfig.display(),
        if more.is_empty() { "reconcile: 1s" } else { more },
    )
}

impl Ear {
    async fn new() -> Result<Ear> {
        let stage = Stage::new().await?;
        let config = config(&stage.namespace, &stage.kubeconfig, "");
        Ear::with(stage, &config).await
    }

    async fn with(stage: Stage, config: &str) -> Result<Ear> {
        let daemon = Daemon::start(config).await?;
        let ear = Ear { stage, daemon };
        ear.until_connected(true).await?;
        Ok(ear)
    }

    /// How the source is doing, from `/readyz`.
    async fn standing(&self) -> Result<Value> {
        Ok(self.daemon.get("/readyz").await?["event_sources"]["cluster"].clone())
    }

    async fn until_connected(&self, connected: bool) -> Result<Value> {
        let what = format!("the source to say connected: {connected}");
        let waited = wait::until(&what, SOON, async || {
            Ok(Some(self.standing().await?).filter(|standing| standing["connected"] == connected))
        });
        waited.await.with_context(|| self.daemon.log())
    }

    /// Every deployment that is in the ledger, oldest first.
    async fn heard(&self) -> Result<Vec<Heard>> {
        let records = self.daemon.verified_records().await?;
        let deploys = records.iter().filter(|record| record.stream == "events" && record.kind == "deploy");
        let heard = deploys.map(|record| {
            let event = &record.body["deploy"]["event"];
            let text = |value: &Value| value.as_str().map(str::to_owned);
            Heard {
                kind: text(&event["kind"]).unwrap_or_default(),
                version: text(&event["release"]["version"]).unwrap_or_default(),
                previous: text(&event["previous"]["version"]),
                body: record.body["deploy"].clone(),
            }
        });
        Ok(heard.collect())
    }

    /// The same in short: `deployed v2 after v1`.
    async fn words(&self) -> Result<Vec<String>> {
        let one = |heard: &Heard| {
            let before = heard.previous.as_ref().map_or(String::new(), |before| format!(" after {before}"));
            format!("{} {}{before}", heard.kind, heard.version)
        };
        Ok(self.heard().await?.iter().map(one).collect())
    }

    async fn until_heard(&self, count: usize) -> Result<Vec<String>> {
        let what = format!("{count} pieces of news");
        let waited = wait::until(&what, SOON, async || {
            Ok(Some(self.words().await?).filter(|words| words.len() >= count))
        });
        waited.await.with_context(|| self.daemon.log())
    }

    /// The version of each watch that there was, in order of names.
    async fn watched(&self) -> Result<Vec<String>> {
        let watches = self.daemon.get("/v1/watches").await?;
        let versions = watches.as_array().into_iter().flatten().map(|watch| watch["version"].as_str());
        let mut versions: Vec<String> = versions.map(|version| version.unwrap_or("?").to_owned()).collect();
        versions.sort();
        Ok(versions)
    }

    async fn change(&self, kind: &str, name: &str, change: &Value) -> Result<()> {
        let path = format!("{}/{name}", self.stage.path(kind));
        self.stage.api.merge(&format!("{path}?fieldManager=petra"), change).await?.ok()?;
        Ok(())
    }

    /// Deploys an image and waits until the controller has taken it up, so that no two changes become one.
    async fn deploy(&self, name: &str, image: &str) -> Result<()> {
        self.stage.deploy("deployments", name, image).await?;
        wait::until("the controller to take it up", SOON, async || {
            let object = self.stage.get("deployments", name).await?;
            Ok((object["status"]["observedGeneration"] == object["metadata"]["generation"]).then_some(()))
        })
        .await
    }
}

#[tokio::test]
async fn a_rollout_opens_one_watch_and_nothing_else_does() -> Result<()> {
    let mut ear = Ear::new().await?;
    ear.stage.good("checkout").await?;
    ear.until_heard(1).await?;
    let began = Instant::now();
    ear.deploy("checkout", "shop/checkout:v2").await?;
    assert_eq!(ear.until_heard(2).await?, ["deployed v1", "deployed v2 after v1"]);
    println!("a rollout was in the ledger {:.2} s after it was asked for", began.elapsed().as_secs_f64());
    ear.stage.rolled_out("checkout").await?;
    ear.change("deployments", "checkout", &json!({"spec": {"replicas": 3}})).await?;
    let meta = json!({"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}});
    ear.change("deployments", "checkout", &meta).await?;
    let restart = json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"});
    let restart = json!({"spec": {"template": {"metadata": {"annotations": restart}}}});
    ear.change("deployments", "checkout", &restart).await?;
    ear.stage.rolled_out("checkout").await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(ear.words().await?.len(), 2, "{:?}", ear.words().await?);
    // A restart of the daemon forgets what was told; the ledger does not.
    ear.daemon.kill()?;
    ear.daemon.launch(None)?;
    ear.daemon.ready().await?;
    let standing = ear.until_connected(true).await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(ear.words().await?.len(), 2, "{standing}");
    assert_eq!(ear.watched().await?, ["v1", "v2"]);
    assert!(ear.standing().await?["duplicates"].as_u64() >= Some(1), "it was told again, and recognised");
    Ok(())
}

#[tokio::test]
async fn the_record_says_what_runs_and_what_ran_exactly() -> Result<()> {
    let ear = Ear::new().await?;
    let mut object = deployment("checkout", "shop/checkout:v1");
    object["metadata"]["labels"] = json!({"app.kubernetes.io/name": "shop-checkout"});
    object["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
        json!([{"configMapRef": {"name": "flags", "optional": true}}]);
    ear.stage.create("deployments", &object).await?;
    ear.until_heard(1).await?;
    let other = json!({"spec": {"template": {"metadata": {"annotations": {"checksum/config": "2"}}}}});
    ear.change("deployments", "checkout", &other).await?;
    ear.until_heard(2).await?;
    // Who wrote last is known to the second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    ear.deploy("checkout", "shop/checkout:v2").await?;
    ear.until_heard(3).await?;
    let heard = ear.heard().await?;
    let event = |at: usize| &heard[at].body["event"];
    assert_eq!(event(1)["service"], "shop-checkout");
    assert_eq!((&event(1)["changes"], &event(2)["changes"]), (&json!(["configuration"]), &json!(["code"])));
    // The same tag with another configuration is another release, and has another name.
    let configured = heard[1].version.as_str();
    assert!(configured.starts_with("v1+"), "{configured}");
    assert_eq!(heard[2].previous.as_deref(), Some(configured));
    let raw = &heard[2].body["raw"];
    assert_eq!((&raw["kind"], &raw["namespace"]), (&json!("Deployment"), &json!(ear.stage.namespace)));
    assert_eq!(raw["now"]["images"], json!({"app": "shop/checkout:v2"}));
    assert_eq!(raw["before"]["images"], json!({"app": "shop/checkout:v1"}));
    assert_eq!(raw["written_by"], "petra");
    assert_eq!(raw["configuration"], json!([{"kind": "ConfigMap", "name": "flags"}]));
    let hash = |side: &str| raw[side]["template_hash"].as_str().map(str::len);
    assert_eq!((hash("now"), hash("before")), (Some(16), Some(16)));
    // What an undo can name is in it.
    let sets = ear.stage.api.get(&ear.stage.path("replicasets")).await?.ok()?;
    let hashes: Vec<&Value> = sets["items"].as_array().into_iter().flatten().collect();
    let known =
        |hash: &Value| hashes.iter().any(|set| set["metadata"]["labels"]["pod-template-hash"] == *hash);
    assert!(known(&raw["before"]["pod_hash"]) && known(&raw["now"]["pod_hash"]), "{raw}");
    Ok(())
}

#[tokio::test]
async fn there_and_back_and_there_again_is_news_each_time() -> Result<()> {
    let ear = Ear::new().await?;
    ear.stage.create("deployments", &deployment("checkout", "shop/checkout:v1")).await?;
    ear.until_heard(1).await?;
    for (count, image) in [(2, "v2"), (3, "v1"), (4, "v2")] {
        ear.deploy("checkout", &format!("shop/checkout:{image}")).await?;
        ear.until_heard(count).await?;
    }
    let all = ["deployed v1", "deployed v2 after v1", "rolled_back v1 after v2", "deployed v2 after v1"];
    assert_eq!(ear.words().await?, all);
    // A rollback is watched by nobody, and ends the watch over what it took away.
    assert_eq!(ear.watched().await?, ["v1", "v2", "v2"]);
    Ok(())
}

#[tokio::test]
async fn what_ran_long_before_the_agent_came_is_recorded_and_not_watched() -> Result<()> {
    let stage = Stage::new().await?;
    stage.create("deployments", &deployment("checkout", "shop/checkout:v1")).await?;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let mut config = config(&stage.namespace, &stage.kubeconfig, "");
    config.push_str("services:\n  checkout: { watch: { watch_for: 10s, soak: 1s } }\n");
    let ear = Ear::with(stage, &config).await?;
    assert_eq!(ear.until_heard(1).await?, ["deployed v1"]);
    assert_eq!(ear.watched().await?, [""; 0]);
    ear.deploy("checkout", "shop/checkout:v2").await?;
    ear.until_heard(2).await?;
    assert_eq!(ear.watched().await?, ["v2"]);
    Ok(())
}

#[tokio::test]
async fn stateful_sets_and_daemon_sets_roll_out_as_well() -> Result<()> {
    let ear = Ear::new().await?;
    let stateful =
        workload("StatefulSet", "queue", "shop/queue:v1", json!({"replicas": 1, "serviceName": "queue"}));
    ear.stage.create("statefulsets", &stateful).await?;
    ear.until_heard(1).await?;
    ear.stage.create("daemonsets", &workload("DaemonSet", "log", "shop/log:v1", json!({}))).await?;
    ear.until_heard(2).await?;
    // Their past has no numbers of old, only times in seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    ear.stage.deploy("statefulsets", "queue", "shop/queue:v2").await?;
    ear.until_heard(3).await?;
    ear.stage.deploy("statefulsets", "queue", "shop/queue:v1").await?;
    ear.until_heard(4).await?;
    ear.stage.deploy("daemonsets", "log", "shop/log:v2").await?;
    let words = ear.until_heard(5).await?;
    assert_eq!(
        words[2..],
        ["deployed v2 after v1", "rolled_back v1 after v2", "deployed v2 after v1"],
        "{words:?}"
    );
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(ear.words().await?.len(), 5);
    Ok(())
}

#[tokio::test]
async fn a_paused_change_is_no_rollout_until_it_is_resumed() -> Result<()> {
    let ear = Ear::new().await?;
    ear.stage.create("deployments", &deployment("checkout", "shop/checkout:v1")).await?;
    ear.until_heard(1).await?;
    ear.change("deployments", "checkout", &json!({"spec": {"paused": true}})).await?;
    ear.deploy("checkout", "shop/checkout:v2").await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(ear.words().await?, ["deployed v1"]);
    ear.change("deployments", "checkout", &json!({"spec": {"paused": false}})).await?;
    assert_eq!(ear.until_heard(2).await?[1], "deployed v2 after v1");
    Ok(())
}

/// The way back is a rollout, too, and the cluster tells it back to us while we still look whether it helped.
#[tokio::test]
async fn our_own_rollback_is_not_watched_and_turned_back_in_turn() -> Result<()> {
    let stage = Stage::new().await?;
    let target = format!(
        "namespace: {}, kind: deployment, name: \"{{{{service}}}}\", kubeconfig: {}",
        stage.namespace,
        stage.kubeconfig.display()
    );
    let mut config = config(&stage.namespace, &stage.kubeconfig, "");
    config.push_str(&format!(
        r#"
runbooks:
  undo:
    steps:
    - name: undo
      class: compare_and_set
      undo: impossible
      action: {{ kubernetes: {{ {target}, operation: {{ undo: {{ images: {{ app: "shop/checkout:{{{{to.version}}}}" }} }} }} }} }}
  image:
    steps:
    - name: image
      class: compare_and_set
      undo: impossible
      action: {{ kubernetes: {{ {target}, operation: {{ set_image: {{ container: app, image: "shop/checkout:{{{{to.version}}}}" }} }} }} }}
services:
  by-undo: {{ runbook: undo }}
  by-image: {{ runbook: image }}
"#
    ));
    let ear = Ear::with(stage, &config).await?;
    for name in ["by-undo", "by-image"] {
        ear.stage.good(name).await?;
    }
    ear.until_heard(2).await?;
    // Something else than the image changes with it, so that the image alone makes a template that never was.
    let more = json!({"spec": {"template": {"metadata": {"annotations": {"checksum/config": "2"}}}}});
    for (count, name) in [(3, "by-undo"), (4, "by-image")] {
        let mut change = more.clone();
        change["spec"]["template"]["spec"] =
            json!({"containers": [{"name": "app", "image": "shop/checkout:v2"}]});
        ear.change("deployments", name, &change).await?;
        ear.until_heard(count).await?;
        ear.stage.rolled_out(name).await?;
    }
    // Who wrote last is known to the second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for name in ["by-undo", "by-image"] {
        let ask = json!({ "service": name, "environment": "production", "to": "v1" });
        let (status, answer) = ear.daemon.post("/v1/rollbacks", &ask).await?;
        ensure!(status.is_success(), "{status}: {answer}");
        wait::until("our write", SOON, async || {
            let object = ear.stage.get("deployments", name).await?;
            Ok((image(&object) == "shop/checkout:v1").then_some(()))
        })
        .await
        .with_context(|| ear.daemon.log())?;
        ear.stage.rolled_out(name).await?;
    }
    let words = ear.until_heard(6).await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(words[4], "rolled_back v1 after v2", "{words:?}");
    assert!(words[5].starts_with("rolled_back v1") && words[5].ends_with("after v2"), "{words:?}");
    assert_eq!(ear.heard().await?.len(), 6);
    let heard = ear.heard().await?;
    assert_eq!(heard[4].body["raw"]["written_by"], "turnback");
    // Two releases of two services, and nothing over the way back.
    assert_eq!(ear.watched().await?, ["v1", "v1", "v2", "v2"]);
    assert_eq!(ear.stage.written(), 2, "one write each, and no second one");
    Ok(())
}
