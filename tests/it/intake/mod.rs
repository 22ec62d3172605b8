//! News over the channels that teams already run: nothing that was acknowledged is lost, nothing is heard twice.

mod chaos;
mod full;
mod kafka;
#[cfg(feature = "kafka-tls")]
mod kafka_tls;
mod nats;
mod samples;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::daemon::Daemon;
use tests::wait;

/// For what takes a few seconds when nothing else runs.
const SOON: Duration = Duration::from_secs(60);

/// Waits until `/readyz` says of the source `bus` what it should, and gives that.
async fn until_standing(daemon: &Daemon, what: &str, good: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    let waited = wait::until(what, SOON, async || {
        last = daemon.get("/readyz").await?["event_sources"]["bus"].clone();
        Ok(good(&last).then_some(last.clone()))
    })
    .await;
    waited.with_context(|| format!("{last}\n{}", daemon.log()))
}

/// One piece of news was kept, and the source is heard.
fn first(standing: &Value) -> bool {
    standing["recorded"] == 1 && standing["connected"] == true
}

/// A deployment in our own form.
fn deployment(service: &str, version: &str) -> String {
    json!({ "service": service, "version": version, "id": format!("{service}-{version}") }).to_string()
}

/// No source's trouble is ever a reason to act.
async fn nothing_was_done(daemon: &Daemon) -> Result<()> {
    let plans = daemon.get("/v1/plans").await?;
    ensure!(plans.as_array().is_some_and(Vec::is_empty), "a rollback was planned: {plans}");
    Ok(())
}
