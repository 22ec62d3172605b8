//! The shipped permissions: enough (every other test here lives on them), and not more than the golden list.

use anyhow::Result;
use serde_json::{Value, json};

use super::stage::{Stage, assert_refused};

/// What `kubectl auth can-i --list` shows, one permission a line, without what every account may do anyway.
pub async fn permissions(stage: &Stage) -> Result<Vec<String>> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": stage.namespace},
    });
    let api = stage.cluster.api_of(&stage.token)?;
    let answer = api.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review).await?.ok()?;
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let mut lines = Vec::new();
    for rule in answer["status"]["resourceRules"].as_array().into_iter().flatten() {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                let names = words(&rule["resourceNames"]).join(" ");
                let resource = if group.is_empty() { resource } else { format!("{resource}.{group}") };
                lines.push(
                    format!("{resource} {} {names}", words(&rule["verbs"]).join(",")).trim().to_owned(),
                );
            }
        }
    }
    lines.sort();
    lines.dedup();
    Ok(lines)
}

#[tokio::test]
async fn the_permissions_are_those_of_the_golden_list() -> Result<()> {
    let golden: Vec<&str> =
        include_str!("permissions.txt").lines().filter(|line| !line.starts_with('#')).collect();
    let stage = Stage::new().await?;
    assert_eq!(permissions(&stage).await?, golden);
    Ok(())
}

#[tokio::test]
async fn without_them_nothing_happens_and_the_missing_one_is_named() -> Result<()> {
    let stage = Stage::without_permissions().await?;
    let outcome = stage.run(&stage.step("web", json!("restart"))).await;
    assert_refused(&outcome, &["HTTP 403", "cannot get resource \"deployments\"", &stage.namespace]);
    assert_eq!(stage.answered(), [0; 0]);
    Ok(())
}
