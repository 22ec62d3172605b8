//! Kubernetes: the action against a real API server, with the permissions of the shipped manifests and no others.

mod faults;
mod operations;
mod owners;
mod permissions;
mod road;
mod rollouts;
mod source;
pub mod stage;

use std::time::Duration;

use anyhow::Result;
use stage::{Stage, deployment};
use tests::wait;

#[tokio::test]
async fn the_cluster_rolls_out_what_is_good_and_keeps_what_is_bad() -> Result<()> {
    let stage = Stage::new().await?;
    stage.create("deployments", &deployment("good", "shop/checkout:v1")).await?;
    stage.rolled_out("good").await?;
    stage.create("deployments", &deployment("poor", "shop/checkout:bad")).await?;
    let pods = format!("/api/v1/namespaces/{}/pods?labelSelector=app%3Dpoor", stage.namespace);
    wait::until("a crash", Duration::from_secs(30), async || {
        let pods = stage.api.get(&pods).await?.ok()?;
        let state = &pods["items"][0]["status"]["containerStatuses"][0]["state"];
        Ok((state["waiting"]["reason"] == "CrashLoopBackOff").then_some(()))
    })
    .await
}
