//! What networks, load balancers and tired servers do: nothing is lost, nothing is told twice, health says what is wrong,
//! and nothing of it is news about a service.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tests::kubernetes::{Weather, WeatherProxy};
use tests::wait;

use super::{Ear, LONG_ENOUGH, SOON, config};
use crate::kubernetes::stage::{Stage, deployment};

/// What the documentation promises when no event comes.
const PROMISE: Duration = Duration::from_secs(90);

/// An ear behind a proxy.
async fn behind_weather(more: &str) -> Result<(Ear, WeatherProxy)> {
    let stage = Stage::new().await?;
    let proxy = WeatherProxy::start(stage.cluster.url(), stage.api.client().clone()).await?;
    let name = format!("{}-weather", stage.namespace);
    let kubeconfig = stage.cluster.kubeconfig_of(&name, proxy.url(), &stage.token)?;
    let config = config(&stage.namespace, &kubeconfig, more);
    let ear = Ear::with(stage, &config).await?;
    ear.stage.create("deployments", &deployment("checkout", "shop/checkout:v1")).await?;
    ear.until_heard(1).await?;
    Ok((ear, proxy))
}

fn reason(standing: &Value) -> String {
    standing["last_error"][1].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn with_events_dropped_completely_a_rollout_is_noticed_within_90_seconds() -> Result<()> {
    // The defaults: nothing is said about how often everything is listed.
    let (ear, proxy) = behind_weather("service: \"{{name}}\"").await?;
    proxy.turn(Weather::SilentWatches);
    wait::until("watches that see nothing", SOON, async || {
        Ok((proxy.met(Weather::SilentWatches) >= 3).then_some(()))
    })
    .await?;
    let began = Instant::now();
    ear.deploy("checkout", "shop/checkout:v2").await?;
    let waited = wait::until("the rollout to be noticed", PROMISE, async || {
        Ok((ear.words().await?.len() >= 2).then_some(()))
    });
    waited.await.with_context(|| ear.daemon.log())?;
    println!("with no event at all the rollout was noticed after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(ear.words().await?, ["deployed v1", "deployed v2 after v1"]);
    assert_eq!(ear.watched().await?, ["v1", "v2"]);
    Ok(())
}

#[tokio::test]
async fn a_watch_that_has_expired_is_begun_anew() -> Result<()> {
    // So seldom that only watches can be what tells.
    let (ear, proxy) = behind_weather("reconcile: 1h").await?;
    let mut count = 1;
    for weather in [Weather::ExpiredWatches, Weather::GoneWatches] {
        proxy.turn(weather);
        wait::until("an expired watch", SOON, async || Ok((proxy.met(weather) >= 2).then_some(()))).await?;
        count += 1;
        ear.deploy("checkout", &format!("shop/checkout:v{count}")).await?;
        // With each new list of the watch, although not one event comes.
        ear.until_heard(count).await?;
        proxy.turn(Weather::Clear);
        count += 1;
        ear.deploy("checkout", &format!("shop/checkout:v{count}")).await?;
        ear.until_heard(count).await?;
    }
    assert_eq!(ear.words().await?.len(), 5, "nothing twice: {:?}", ear.words().await?);
    assert_eq!(ear.watched().await?, ["v1", "v2", "v3", "v4", "v5"]);
    assert_eq!(ear.standing().await?["connected"], true);
    Ok(())
}

#[tokio::test]
async fn an_old_cache_says_nothing_new_and_hides_nothing_for_good() -> Result<()> {
    let (ear, proxy) = behind_weather("reconcile: 1s").await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    // The cache is from before; the rollouts are told through another server.
    proxy.turn(Weather::OldCache);
    wait::until("an old answer", SOON, async || Ok((proxy.met(Weather::OldCache) >= 3).then_some(())))
        .await?;
    ear.deploy("checkout", "shop/checkout:v2").await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(ear.words().await?, ["deployed v1"], "the cache hides it");
    proxy.turn(Weather::Clear);
    ear.until_heard(2).await?;
    ear.deploy("checkout", "shop/checkout:v1").await?;
    ear.until_heard(3).await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    // Now it lies behind everything that was told, and shows v1 before v2 or v2 before v1, as it has it.
    let met = proxy.met(Weather::OldCache);
    proxy.turn(Weather::OldCache);
    tokio::time::sleep(LONG_ENOUGH).await;
    assert!(proxy.met(Weather::OldCache) > met + 2);
    proxy.turn(Weather::Clear);
    tokio::time::sleep(LONG_ENOUGH).await;
    let all = ["deployed v1", "deployed v2 after v1", "rolled_back v1 after v2"];
    assert_eq!(ear.words().await?, all);
    assert_eq!(ear.watched().await?, ["v1", "v2"]);
    Ok(())
}

/// What each weather is called in `/readyz`, and that what happens in it is told when it is over.
async fn survives(weather: Weather, words: &str) -> Result<()> {
    let (ear, proxy) = behind_weather("reconcile: 1s").await?;
    proxy.turn(weather);
    let standing = ear.until_connected(false).await?;
    assert!(reason(&standing).contains(words), "{words:?} is missing: {standing}");
    ear.deploy("checkout", "shop/checkout:v2").await?;
    let spoiled = proxy.met(weather);
    wait::until("another attempt", SOON, async || Ok((proxy.met(weather) > spoiled).then_some(()))).await?;
    assert_eq!(ear.words().await?, ["deployed v1"], "nothing of this is news");
    proxy.turn(Weather::Clear);
    ear.until_connected(true).await?;
    assert_eq!(ear.until_heard(2).await?, ["deployed v1", "deployed v2 after v1"]);
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(ear.words().await?.len(), 2);
    assert_eq!(ear.watched().await?, ["v1", "v2"]);
    assert_eq!(ear.stage.written(), 0);
    Ok(())
}

#[tokio::test]
async fn expired_credentials_are_said_and_tried_again() -> Result<()> {
    survives(Weather::Unauthorized, "does not accept our credentials (401").await
}

#[tokio::test]
async fn garbage_is_no_news() -> Result<()> {
    survives(Weather::Garbage, "an answer that is no JSON").await
}

#[tokio::test]
async fn an_answer_that_drips_is_given_up() -> Result<()> {
    survives(Weather::Drip, "no whole answer within 10s").await
}

/// A kubeconfig with a token that the server does not know, until somebody writes a good one into it.
#[tokio::test]
async fn a_token_that_is_exchanged_is_read_without_a_restart() -> Result<()> {
    let stage = Stage::new().await?;
    stage.create("deployments", &deployment("checkout", "shop/checkout:v1")).await?;
    let name = format!("{}-exchanged", stage.namespace);
    let kubeconfig = stage.cluster.kubeconfig_of(&name, stage.cluster.url(), "expired")?;
    let config = config(&stage.namespace, &kubeconfig, "");
    let ear = Ear { daemon: tests::daemon::Daemon::start(&config).await?, stage };
    let standing = wait::until("the refusal", SOON, async || {
        Ok(Some(ear.standing().await?).filter(|standing| reason(standing).contains("401")))
    });
    assert_eq!(standing.await?["connected"], false);
    let again = ear.stage.cluster.kubeconfig_of(&name, ear.stage.cluster.url(), &ear.stage.token)?;
    assert_eq!(again, kubeconfig);
    ear.until_connected(true).await?;
    assert_eq!(ear.until_heard(1).await?, ["deployed v1"]);
    Ok(())
}

#[tokio::test]
async fn without_permission_the_missing_one_is_named() -> Result<()> {
    let stage = Stage::without_permissions().await?;
    let config = config(&stage.namespace, &stage.kubeconfig, "");
    let ear = Ear { daemon: tests::daemon::Daemon::start(&config).await?, stage };
    let standing = wait::until("the refusal", SOON, async || {
        Ok(Some(ear.standing().await?).filter(|standing| reason(standing).contains("403")))
    });
    let (standing, namespace) = (standing.await?, &ear.stage.namespace);
    let (words, path) = (reason(&standing), format!("/apis/apps/v1/namespaces/{namespace}/"));
    assert!(words.contains("no permission to see") && words.contains(&path), "{words}");
    assert_eq!(standing["connected"], false);
    // It comes to hear as soon as somebody allows it.
    ear.stage.apply(include_str!("../../../../deploy/kubernetes/namespace.yaml")).await?;
    ear.until_connected(true).await?;
    Ok(())
}
