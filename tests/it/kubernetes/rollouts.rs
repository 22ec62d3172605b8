//! Undo and wait: back to what is known to be good, and only what is certain is called failed.

use std::time::Instant;

use anyhow::Result;
use rules::rehearsal::Tried;
use rules::units::Span;
use serde_json::json;
use tests::fault_proxy::Fault;

use super::stage::{Stage, assert_refused, deploy, image, kind, workload};

#[tokio::test]
async fn an_undo_returns_to_the_recorded_template_and_not_to_the_one_before() -> Result<()> {
    let stage = Stage::new().await?;
    stage.good("web").await?;
    // v2 was bad, too: the revision before the last one is no way back.
    stage.deploy("deployments", "web", "shop/checkout:v2").await?;
    stage.rolled_out("web").await?;
    stage.deploy("deployments", "web", "shop/checkout:bad").await?;

    let undo = stage.step(
        "web",
        json!({"undo": {"images": {"app": "shop/checkout:v1"}, "only_from": {"app": "shop/checkout:bad"}}}),
    );
    let wait = stage.step("web", json!({"wait": {"images": {"app": "shop/checkout:v1"}}}));
    let before = stage.get("deployments", "web").await?;
    let outcome = stage.run(&undo).await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    let outcome = stage.run(&wait).await;
    assert!(matches!(kind(&outcome), "there already"), "{outcome:?}");
    let after = stage.get("deployments", "web").await?;
    assert_eq!(image(&after), "shop/checkout:v1");
    assert_eq!(after["status"]["availableReplicas"], 2);
    let generation = |object: &serde_json::Value| object["metadata"]["generation"].as_u64();
    assert_eq!(generation(&after), generation(&before).map(|before| before + 1));
    let marker = after["metadata"]["annotations"]["turnback.dev/plan"].as_str().unwrap_or_default();
    assert!(marker.contains("p-1 turn") && marker.contains(&undo.key), "{marker}");

    // The old ReplicaSet itself is used again: it is the very template that ran before.
    let sets = stage.api.get(&stage.path("replicasets")).await?.ok()?;
    let sets = sets["items"].as_array().map(Vec::len);
    assert_eq!(sets, Some(3), "v1, v2 and bad, and nothing new");
    let outcome = stage.run(&undo).await;
    assert_eq!(kind(&outcome), "there already", "{outcome:?}");
    assert_eq!(stage.written(), 1);
    Ok(())
}

#[tokio::test]
async fn a_template_is_named_by_its_hash_where_images_do_not_tell() -> Result<()> {
    let stage = Stage::new().await?;
    stage.good("web").await?;
    let sets = stage.api.get(&stage.path("replicasets")).await?.ok()?;
    let hash = sets["items"][0]["metadata"]["labels"]["pod-template-hash"].clone();
    let variable = |value: &str| {
        let app = json!({"name": "app", "env": [{"name": "MODE", "value": value}]});
        json!({"spec": {"template": {"spec": {"containers": [app]}}}})
    };
    let path = format!("{}/web", stage.path("deployments"));
    stage.api.merge(&path, &variable("x")).await?.ok()?;
    stage.rolled_out("web").await?;
    stage.deploy("deployments", "web", "shop/checkout:bad").await?;

    let by_images = stage.step("web", json!({"undo": {"images": {"app": "shop/checkout:v1"}}}));
    assert_refused(&stage.run(&by_images).await, &["2 templates", "template_hash", hash.as_str().unwrap()]);
    let nothing = stage.step("web", json!({"undo": {"images": {"app": "shop/checkout:v0"}}}));
    assert_refused(&stage.run(&nothing).await, &["remembers no such template", "app=shop/checkout:v1"]);
    assert_eq!(stage.answered(), [0; 0]);

    let by_hash = stage.step("web", json!({"undo": {"template_hash": hash}}));
    let outcome = stage.run(&by_hash).await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    let after = stage.get("deployments", "web").await?;
    assert_eq!(image(&after), "shop/checkout:v1");
    assert!(after["spec"]["template"]["spec"]["containers"][0].get("env").is_none(), "{after}");
    assert!(after["spec"]["template"]["metadata"]["labels"].get("pod-template-hash").is_none(), "{after}");
    assert_eq!(stage.written(), 1);
    Ok(())
}

#[tokio::test]
async fn stateful_sets_and_daemon_sets_are_undone_by_their_revisions() -> Result<()> {
    let stage = Stage::new().await?;
    // A DaemonSet has a pod for each node; nobody runs there.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": stage.namespace}});
    stage.api.post("/api/v1/nodes", &node).await?.ok()?;
    let cases = [
        ("stateful_set", "StatefulSet", "statefulsets", json!({"replicas": 2, "serviceName": "s"})),
        ("daemon_set", "DaemonSet", "daemonsets", json!({})),
    ];
    for (word, object, plural, more) in cases {
        let wait = |image: &str| {
            stage.step_on(word, word_name(word), json!({"wait": {"images": {"app": image}}}), &[])
        };
        stage.create(plural, &workload(object, word_name(word), "shop/cart:v1", more)).await?;
        let outcome = stage.run(&wait("shop/cart:v1")).await;
        assert_eq!(kind(&outcome), "there already", "{word}: {outcome:?}");
        stage.deploy(plural, word_name(word), "shop/cart:v2").await?;
        let outcome = stage.run(&wait("shop/cart:v2")).await;
        assert_eq!(kind(&outcome), "there already", "{word}: {outcome:?}");

        let undo = json!({"undo": {"images": {"app": "shop/cart:v1"}}});
        let undo = stage.step_on(word, word_name(word), undo, &[]);
        let outcome = stage.run(&undo).await;
        assert_eq!(kind(&outcome), "done", "{word}: {outcome:?}");
        let outcome = stage.run(&wait("shop/cart:v1")).await;
        assert_eq!(kind(&outcome), "there already", "{word}: {outcome:?}");
        let after = stage.get(plural, word_name(word)).await?;
        assert_eq!(image(&after), "shop/cart:v1", "{word}");
        assert!(after["spec"]["template"].get("$patch").is_none(), "{after}");
    }
    assert_eq!(stage.written(), 2);
    stage
        .api
        .send(
            reqwest::Method::DELETE,
            &format!("/api/v1/nodes/{}", stage.namespace),
            "application/json",
            None,
        )
        .await?
        .ok()?;
    Ok(())
}

fn word_name(word: &str) -> &'static str {
    if word == "stateful_set" { "cart" } else { "probe" }
}

#[tokio::test]
async fn a_change_between_look_and_write_is_left_alone() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.good("web").await?;
    stage.deploy("deployments", "web", "shop/checkout:bad").await?;
    stage.settled("web").await?;
    let proxy = stage.through_proxy().await?;
    let (api, path) = (stage.api.clone(), format!("{}/web", stage.path("deployments")));
    proxy.inject(
        "PATCH",
        Fault::Meanwhile(Box::new(move || {
            Box::pin(async move { deploy(&api, &path, "shop/checkout:v3").await.map(|_| ()) })
        })),
    );
    let undo = stage.step("web", json!({"undo": {"images": {"app": "shop/checkout:v1"}}}));
    let outcome = stage.run(&undo).await;
    assert_refused(&outcome, &["petra at 2", "between look and write", "app=shop/checkout:v3"]);
    assert_eq!(proxy.injected(), ["PATCH Meanwhile"]);
    assert_eq!(proxy.troubles(), [""; 0]);
    assert_eq!(image(&stage.get("deployments", "web").await?), "shop/checkout:v3");
    // The server itself refused it, and there was no second attempt.
    assert_eq!(stage.answered(), [422]);

    // And a change that came before the look, but after the plan.
    let only_from = json!({"app": "shop/checkout:bad"});
    let undo = json!({"undo": {"images": {"app": "shop/checkout:v1"}, "only_from": only_from}});
    let outcome = stage.run(&stage.step("web", undo)).await;
    assert_refused(&outcome, &["app is shop/checkout:v3 and not shop/checkout:bad", "petra"]);
    assert_eq!(stage.written(), 0);
    Ok(())
}

#[tokio::test]
async fn a_wait_fails_with_the_reason() -> Result<()> {
    let stage = Stage::new().await?;
    let mut wait = stage.step("web", json!({"wait": {}}));
    stage.good("web").await?;
    stage.deploy("deployments", "web", "shop/checkout:missing").await?;
    let began = Instant::now();
    let outcome = stage.run(&wait).await;
    assert_refused(&outcome, &["ImagePullBackOff of shop/checkout:missing in container app", "pod web-"]);
    assert!(began.elapsed().as_secs() < 60, "long before the progress deadline: {:?}", began.elapsed());

    let path = format!("{}/web", stage.path("deployments"));
    let deadline = |seconds: u32| json!({"spec": {"progressDeadlineSeconds": seconds}});
    stage.api.merge(&path, &deadline(4)).await?.ok()?;
    stage.deploy("deployments", "web", "shop/checkout:bad").await?;
    assert_refused(&stage.run(&wait).await, &["progress deadline", "has timed out progressing"]);

    stage.api.merge(&path, &deadline(600)).await?.ok()?;
    stage.deploy("deployments", "web", "shop/checkout:stuck").await?;
    wait.timeout = Span::from_seconds(15);
    assert_refused(&stage.run(&wait).await, &["not finished after", " pods are "]);

    let other = stage.step("web", json!({"wait": {"images": {"app": "shop/checkout:v1"}}}));
    assert_refused(&stage.run(&other).await, &["another rollout took its place", "petra"]);
    assert_eq!(stage.answered(), [0; 0]);
    Ok(())
}

/// A rollout that was left half done: the dry run says whose pods run there beside those of the two releases.
#[tokio::test]
async fn a_dry_run_tells_of_pods_of_a_third_release() -> Result<()> {
    let stage = Stage::new().await?;
    stage.good("web").await?;
    // Its pods never come up, so that the good ones stay.
    stage.deploy("deployments", "web", "shop/checkout:bad").await?;
    stage.settled("web").await?;
    let back = |to: &str| stage.step("web", json!({"set_image": {"container": "app", "image": to}}));
    let tried = stage.rehearse(&back("shop/checkout:v0")).await;
    assert!(matches!(&tried, Tried::Unclear { reason } if reason.contains("third release")), "{tried:?}");
    let tried = stage.rehearse(&back("shop/checkout:v1")).await;
    assert!(matches!(tried, Tried::Works { .. }), "{tried:?}");
    assert_eq!(stage.written(), 0);
    assert_eq!(kind(&stage.run(&back("shop/checkout:v1")).await), "done");
    assert_eq!(stage.rehearse(&back("shop/checkout:v1")).await, Tried::AlreadyThere);
    assert_eq!(stage.written(), 1);
    Ok(())
}

/// The first new pod is looked at while the others still are what they were; then the rest follows.
#[tokio::test]
async fn a_rollout_goes_in_stages() -> Result<()> {
    let stage = Stage::new().await?;
    stage.good("web").await?;
    // One after the other, so that there is a first one.
    let slowly =
        json!({"spec": {"replicas": 8, "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}});
    stage.api.merge(&format!("{}/web", stage.path("deployments")), &slowly).await?.ok()?;
    stage.rolled_out("web").await?;
    stage.deploy("deployments", "web", "shop/checkout:v2").await?;
    stage.rolled_out("web").await?;

    let images = json!({"app": "shop/checkout:v1"});
    let step = |operation| stage.step("web", operation);
    assert_eq!(kind(&stage.run(&step(json!({"undo": {"images": images}}))).await), "done");
    let outcome = stage.run(&step(json!({"wait": {"images": images, "pods": 1}}))).await;
    assert_eq!(kind(&outcome), "there already", "{outcome:?}");
    assert_eq!(kind(&stage.run(&step(json!("pause"))).await), "done");
    stage.settled("web").await?;
    let status = stage.get("deployments", "web").await?["status"].clone();
    let new = status["updatedReplicas"].as_u64().unwrap_or_default();
    println!("{new} of 8 pods are new in the first stage");
    assert!((1..8).contains(&new), "{status}");
    assert_eq!(kind(&stage.run(&step(json!("resume"))).await), "done");
    let outcome = stage.run(&step(json!({"wait": {"images": images}}))).await;
    assert_eq!(kind(&outcome), "there already", "{outcome:?}");
    assert_eq!(stage.get("deployments", "web").await?["status"]["updatedReplicas"], 8);
    Ok(())
}
