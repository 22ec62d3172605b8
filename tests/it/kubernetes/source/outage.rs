//! The API server itself is stopped, and killed and started again; and the whole cluster is watched with the rights for it.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::daemon::Daemon;
use tests::kubernetes::Cluster;
use tests::wait;

use super::{Ear, LONG_ENOUGH, SOON};
use crate::kubernetes::permissions::permissions;
use crate::kubernetes::stage::{Stage, deployment};

/// The role that the document shows to those who want the whole cluster watched.
fn rights_everywhere() -> Result<&'static str> {
    let document = include_str!("../../../../deploy/permissions.md");
    let mut blocks = document.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.find(|block| block.contains("kind: ClusterRole")).context("permissions.md shows no ClusterRole")
}

/// Ends the cluster, however the test went.
struct Alone(&'static Cluster);

impl Drop for Alone {
    fn drop(&mut self) {
        // Not a panic: this may run while another one unwinds.
        if let Err(error) = self.0.end() {
            eprintln!("{error:#}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_stopped_and_one_that_is_killed_lose_nothing() -> Result<()> {
    let alone = Alone(Cluster::alone().await?);
    let stage = Stage::on(alone.0).await?;
    stage.apply(rights_everywhere()?).await?;
    let golden: Vec<&str> =
        include_str!("../permissions-events.txt").lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(permissions(&stage).await?, golden);
    // Of the whole cluster; in `default` and `kube-system` runs nothing.
    let config = format!(
        "events: {{ kubernetes: {{ cluster: {{ services: [\"*\"], reconcile: 1s, kubeconfig: {}, \
         service: \"{{{{namespace}}}}/{{{{name}}}}\" }} }} }}",
        stage.kubeconfig.display()
    );
    let ear = Ear { daemon: Daemon::start(&config).await?, stage };
    ear.until_connected(true).await?;
    ear.stage.create("deployments", &deployment("checkout", "shop/checkout:v1")).await?;
    ear.until_heard(1).await?;
    let service = format!("{}/checkout", ear.stage.namespace);
    assert_eq!(ear.heard().await?[0].body["event"]["service"], service.as_str());

    alone.0.signal_server(Signal::SIGSTOP)?;
    let standing = ear.until_connected(false).await?;
    // Over the connection that there was, or over the next one.
    let said = standing["last_error"][1].as_str().unwrap_or_default();
    assert!(said.contains("no whole answer") || said.contains("deadline has elapsed"), "{standing}");
    alone.0.signal_server(Signal::SIGCONT)?;
    ear.deploy("checkout", "shop/checkout:v2").await?;
    ear.until_heard(2).await?;
    ear.until_connected(true).await?;

    let restarting = alone.0.restart_server(Duration::from_secs(2));
    let (restarted, noticed) = tokio::join!(restarting, ear.until_connected(false));
    restarted?;
    let standing = noticed?;
    assert!(standing["last_error"][1].as_str().is_some_and(|words| !words.is_empty()), "{standing}");
    ear.until_connected(true).await?;
    wait::until("a write", SOON, async || {
        Ok(ear.stage.deploy("deployments", "checkout", "shop/checkout:v3").await.is_ok().then_some(()))
    })
    .await?;
    ear.until_heard(3).await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    let all = ["deployed v1", "deployed v2 after v1", "deployed v3 after v2"];
    assert_eq!(ear.words().await?, all);
    assert_eq!(ear.watched().await?, ["v1", "v2", "v3"]);
    assert_eq!(ear.stage.written(), 0, "no rollback comes of any of this");
    Ok(())
}
