//! Argo Rollouts and Flagger, as far as their objects go: their definitions are made in the real API server, and the test
//! writes what their controllers would.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use tests::wait;

use super::{Ear, LONG_ENOUGH, SOON};
use crate::kubernetes::stage::deployment;

fn definition(group: &str, version: &str, kind: &str, plural: &str) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
            "versions": [{"name": version, "served": true, "storage": true, "schema": schema}],
        },
    })
}

impl Ear {
    fn custom(&self, group: &str, plural: &str) -> String {
        format!("/apis/{group}/namespaces/{}/{plural}", self.stage.namespace)
    }

    async fn merge(&self, path: &str, change: &Value) -> Result<()> {
        let kind = "application/merge-patch+json";
        self.stage.api.send(Method::PATCH, path, kind, Some(change.to_string())).await?.ok()?;
        Ok(())
    }

    /// As a controller would make it; of no pods, so that nobody else has to do with it.
    async fn replica_set(&self, owner: &Value, revision: u32, hash: &str, template: &Value) -> Result<()> {
        let mut template = template.clone();
        template["metadata"]["labels"]["rollouts-pod-template-hash"] = json!(hash);
        let labels = template["metadata"]["labels"].clone();
        let object = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("front-{hash}"), "labels": labels,
                "annotations": {"rollout.argoproj.io/revision": revision.to_string()},
                "ownerReferences": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "controller": true,
                    "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}],
            },
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        });
        self.stage.create("replicasets", &object).await.map(drop)
    }
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "front"}}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

#[tokio::test]
async fn rollouts_of_argo_and_canaries_of_flagger_are_heard_once_they_exist() -> Result<()> {
    let ear = Ear::new().await?;
    ear.stage.apply(include_str!("../../../../deploy/kubernetes/progressive.yaml")).await?;
    // Without them the source hears all the rest, and says what it does not.
    let standing = wait::until("the absence to be said", SOON, async || {
        let standing = ear.standing().await?;
        let words = standing["last_error"][1].as_str().unwrap_or_default().to_owned();
        Ok(words.contains("(404").then_some(standing))
    });
    let standing = standing.await.with_context(|| ear.daemon.log())?;
    let words = standing["last_error"][1].as_str().unwrap_or_default();
    assert!(words.contains("rollouts.argoproj.io are not watched"), "{words}");
    assert!(words.contains("canaries.flagger.app are not watched"), "{words}");
    assert_eq!(standing["connected"], true);
    for (group, version, kind, plural) in
        [("argoproj.io", "v1alpha1", "Rollout", "rollouts"), ("flagger.app", "v1beta1", "Canary", "canaries")]
    {
        let object = definition(group, version, kind, plural);
        ear.stage.api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &object).await?.ok()?;
        let path = ear.custom(&format!("{group}/{version}"), plural);
        wait::until("the kind to be served", SOON, async || {
            Ok((ear.stage.api.get(&path).await?.status == 200).then_some(()))
        })
        .await?;
    }
    argo(&ear).await.with_context(|| ear.daemon.log())?;
    flagger(&ear).await.with_context(|| ear.daemon.log())
}

async fn argo(ear: &Ear) -> Result<()> {
    let path = ear.custom("argoproj.io/v1alpha1", "rollouts");
    let object = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "front"},
        "spec": {"selector": {"matchLabels": {"app": "front"}}, "template": template("shop/front:v1")},
    });
    let owner = ear.stage.api.post(&path, &object).await?.ok()?;
    let path = format!("{path}/front");
    ear.replica_set(&owner, 1, "aaa", &template("shop/front:v1")).await?;
    ear.merge(&path, &json!({"status": {"phase": "Healthy", "currentPodHash": "aaa", "stableRS": "aaa"}}))
        .await?;
    ear.until_heard(1).await?;
    ear.merge(&path, &json!({"spec": {"template": template("shop/front:v2")}})).await?;
    ear.replica_set(&owner, 2, "bbb", &template("shop/front:v2")).await?;
    ear.merge(&path, &json!({"status": {"phase": "Progressing", "currentPodHash": "bbb"}})).await?;
    assert_eq!(ear.until_heard(2).await?[1], "deployed v2 after v1");
    // Weights, pauses and analyses are no news.
    ear.merge(&path, &json!({"status": {"phase": "Paused", "currentStepIndex": 2}})).await?;
    let at = jiff::Timestamp::now().round(jiff::Unit::Second)?.to_string();
    ear.merge(&path, &json!({"status": {"phase": "Degraded", "abort": true, "abortedAt": at}})).await?;
    assert_eq!(ear.until_heard(3).await?[2], "rolled_back v1 after v2");
    tokio::time::sleep(LONG_ENOUGH).await;
    ear.merge(&path, &json!({"status": {"phase": "Progressing", "abort": false, "abortedAt": null}})).await?;
    assert_eq!(ear.until_heard(4).await?[3], "deployed v2 after v1");
    ear.merge(&path, &json!({"status": {"phase": "Healthy", "stableRS": "bbb"}})).await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(ear.words().await?.len(), 4);
    assert_eq!(ear.watched().await?, ["v1", "v2", "v2"]);
    Ok(())
}

async fn flagger(ear: &Ear) -> Result<()> {
    let path = ear.custom("flagger.app/v1beta1", "canaries");
    let object = json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "back"},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    });
    let owner = ear.stage.api.post(&path, &object).await?.ok()?;
    let path = format!("{path}/back");
    ear.stage.create("deployments", &deployment("web", "shop/web:v2")).await?;
    let mut primary = deployment("web-primary", "shop/web:v1");
    primary["metadata"]["ownerReferences"] = json!([{"apiVersion": "flagger.app/v1beta1", "kind": "Canary",
        "controller": true, "name": "back", "uid": owner["metadata"]["uid"]}]);
    ear.stage.create("deployments", &primary).await?;
    // The target is a Deployment as others are, and the primary a copy.
    ear.until_heard(5).await?;
    let phase = |phase: &str, at: &str| {
        json!({"status": {"phase": phase, "lastAppliedSpec": "6d5c", "lastPromotedSpec": "5f7b",
            "conditions": [{"type": "Promoted", "reason": phase, "lastUpdateTime": at}]}})
    };
    let now = jiff::Timestamp::now().round(jiff::Unit::Second)?;
    let at =
        |seconds: i64| jiff::Timestamp::from_second(now.as_second() - 10 + seconds).map(|at| at.to_string());
    ear.merge(&path, &phase("Progressing", &at(0)?)).await?;
    assert_eq!(ear.until_heard(6).await?[5], "deployed v2 after v1");
    ear.merge(&path, &json!({"status": {"canaryWeight": 20, "lastTransitionTime": at(1)?}})).await?;
    ear.merge(&path, &phase("Failed", &at(2)?)).await?;
    assert_eq!(ear.until_heard(7).await?[6], "rolled_back v1 after v2");
    ear.merge(&path, &phase("Progressing", &at(4)?)).await?;
    assert_eq!(ear.until_heard(8).await?[7], "deployed v2 after v1", "somebody has it try again");
    ear.merge(&path, &phase("Succeeded", &at(6)?)).await?;
    wait::until("the report", SOON, async || {
        let records = ear.daemon.verified_records().await?;
        let report = records.iter().find(|record| record.kind == "report");
        Ok(report.filter(|record| record.body["report"]["report"]["what"] == "canary_failed").map(|_| ()))
    })
    .await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    let heard = ear.heard().await?;
    let of = |service: &str| heard.iter().filter(|heard| heard.body["event"]["service"] == service).count();
    assert_eq!((of("back"), of("web"), of("web-primary"), heard.len()), (3, 1, 0, 8));
    Ok(())
}
