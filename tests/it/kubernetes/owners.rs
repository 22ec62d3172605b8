//! A workload that somebody else owns is not written behind its owner's back.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::stage::{Stage, assert_refused, deploy, deployment, image, kind};

#[tokio::test]
async fn every_owner_is_found_and_named_with_what_to_do() -> Result<()> {
    let stage = Stage::new().await?;
    let owner = |api: &str, kind: &str| json!({"ownerReferences": [{"apiVersion": api, "kind": kind, "name": "shop", "uid": "5c7d2f6e-0000-4000-8000-000000000000"}]});
    let label = |name: &str, value: &str| json!({"labels": {name: value}});
    let annotation = |name: &str, value: &str| json!({"annotations": {name: value}});
    let tracking = "shop:apps/Deployment:shop/web";
    let cases: [(&str, &str, Value, &str, &str); 11] = [
        (
            "argo_cd",
            "",
            annotation("argocd.argoproj.io/tracking-id", tracking),
            "tracking-id",
            "roll back in git",
        ),
        ("argo_cd", "", label("argocd.argoproj.io/instance", "shop"), "instance=shop", "automated sync"),
        ("argo_cd", "argocd-controller", json!({}), "written by argocd-controller", "automated sync"),
        ("flux", "", label("kustomize.toolkit.fluxcd.io/name", "apps"), "name=apps", "flux suspend"),
        ("flux", "", label("helm.toolkit.fluxcd.io/name", "shop"), "name=shop", "flux suspend"),
        ("flux", "kustomize-controller", json!({}), "written by kustomize-controller", "flux suspend"),
        ("helm", "", label("app.kubernetes.io/managed-by", "Helm"), "managed-by=Helm", "helm rollback"),
        ("helm", "", annotation("meta.helm.sh/release-name", "shop"), "release-name=shop", "helm rollback"),
        (
            "argo_rollouts",
            "",
            owner("argoproj.io/v1alpha1", "Rollout"),
            "owner Rollout shop",
            "argo rollouts undo",
        ),
        ("flagger", "", owner("flagger.app/v1beta1", "Canary"), "owner Canary shop", "let Flagger"),
        (
            "controller",
            "",
            owner("example.com/v1", "Shop"),
            "owner Shop shop",
            "change the object that owns it",
        ),
    ];
    for (number, (word, manager, metadata, shows, remedy)) in cases.into_iter().enumerate() {
        let name = format!("web-{number}");
        let mut object = deployment(&name, "shop/checkout:v2");
        for (key, value) in metadata.as_object().into_iter().flatten() {
            object["metadata"][key] = value.clone();
        }
        let manager = if manager.is_empty() { "petra" } else { manager };
        let path = format!("{}?fieldManager={manager}", stage.path("deployments"));
        stage.api.post(&path, &object).await?.ok()?;
        let set = json!({"set_image": {"container": "app", "image": "shop/checkout:v1"}});
        let outcome = stage.run(&stage.step(&name, set.clone())).await;
        let consent = format!("despite_owner: [{word}]");
        assert_refused(&outcome, &[&format!("owned by {word} ("), shows, remedy, &consent]);
        assert_eq!(image(&stage.get("deployments", &name).await?), "shop/checkout:v2");
        assert_eq!(stage.written(), number, "{word}: nothing was written");

        // Another owner's consent is no consent.
        let other = if word == "helm" { "flux" } else { "helm" };
        let outcome = stage.run(&stage.step_on("deployment", &name, set.clone(), &[other])).await;
        assert_refused(&outcome, &[&consent]);
        let outcome = stage.run(&stage.step_on("deployment", &name, set, &[word])).await;
        assert_eq!(kind(&outcome), "done", "{word}: {outcome:?}");
        assert_eq!(stage.written(), number + 1, "{word}");
    }
    Ok(())
}

#[tokio::test]
async fn an_autoscaler_decides_the_number_of_replicas() -> Result<()> {
    let stage = Stage::new().await?;
    stage.apply(include_str!("../../../deploy/kubernetes/scale.yaml")).await?;
    stage.create("deployments", &deployment("web", "shop/checkout:v1")).await?;
    stage.create("deployments", &deployment("free", "shop/checkout:v1")).await?;
    let autoscaler = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "by-load"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    });
    let path = format!("/apis/autoscaling/v1/namespaces/{}/horizontalpodautoscalers", stage.namespace);
    stage.api.post(&path, &autoscaler).await?.ok()?;
    let scale = json!({"scale": {"replicas": 4}});
    let outcome = stage.run(&stage.step("web", scale.clone())).await;
    assert_refused(
        &outcome,
        &["HorizontalPodAutoscaler by-load", "maxReplicas", "despite_owner: [autoscaler]"],
    );
    assert_eq!(stage.answered(), [0; 0]);
    for (name, despite) in [("free", &[][..]), ("web", &["autoscaler"][..])] {
        let outcome = stage.run(&stage.step_on("deployment", name, scale.clone(), despite)).await;
        assert_eq!(kind(&outcome), "done", "{name}: {outcome:?}");
    }
    // It does not stand in the way of what it does not decide.
    let outcome = stage.run(&stage.step("web", json!("restart"))).await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn an_owner_that_puts_its_own_back_is_noticed_and_not_fought() -> Result<()> {
    let stage = Stage::new().await?;
    stage.good("web").await?;
    stage.deploy("deployments", "web", "shop/checkout:v2").await?;
    let (api, path) = (stage.api.clone(), format!("{}/web", stage.path("deployments")));
    // An owner that no label tells about: it looks every 200 ms and puts back what git says.
    let healer = tokio::spawn(async move {
        loop {
            let now = api.get(&path).await?.ok()?;
            if image(&now) != "shop/checkout:v2" {
                deploy(&api, &path, "shop/checkout:v2").await?;
                return Ok::<(), anyhow::Error>(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let good = json!({"app": "shop/checkout:v1"});
    let undo = stage.step("web", json!({"undo": {"images": good}}));
    assert_eq!(kind(&stage.run(&undo).await), "done");
    healer.await??;
    let wait = stage.run(&stage.step("web", json!({"wait": {"images": good}}))).await;
    assert_refused(&wait, &["another rollout took its place", "petra"]);
    for _ in 0..2 {
        assert_refused(&stage.run(&undo).await, &["this step has written it before", "petra"]);
    }
    assert_eq!(stage.written(), 1, "one write, and no second one against the owner");
    Ok(())
}
