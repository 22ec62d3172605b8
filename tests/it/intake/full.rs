//! A disk that stands still while hundreds tell of alerts: whoever is not heard is told to come again, the news of a
//! deployment finds a place, and nothing that was acknowledged is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use tests::daemon::{Daemon, TOKEN};
use tests::wait;

/// How long nothing is written: longer than a request may take, and than one waits for a place.
const STANDSTILL: Duration = Duration::from_secs(28);
/// As many as the agent has connections, nearly.
const WAVE: usize = 480;

fn alerts(number: usize) -> serde_json::Value {
    json!({ "version": "4", "groupKey": "{}", "status": "firing", "receiver": "turnback", "alerts": [{
        "status": "firing", "fingerprint": format!("{number:016x}"), "startsAt": "2026-03-01T12:00:00Z",
        "labels": { "alertname": "Errors", "service": "checkout" }, "annotations": {} }] })
}

/// Tells of these alerts at once, and says what each was answered.
async fn tell(daemon: &Daemon, numbers: std::ops::Range<usize>) -> Result<Vec<(StatusCode, String)>> {
    let one = async |number| {
        let request = daemon.client().post(daemon.url("/v1/alerts")).bearer_auth(TOKEN).json(&alerts(number));
        // A connection that waits for its next request is closed after ten seconds, perhaps just when it is used again.
        let request = request.header("connection", "close");
        let answer = request.timeout(Duration::from_secs(60)).send().await.context("telling of an alert")?;
        anyhow::Ok((answer.status(), answer.text().await.context("reading what is answered")?))
    };
    join_all(numbers.map(one)).await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_place_is_told_to_come_again_and_a_deployment_finds_one() -> Result<()> {
    let mut daemon = Daemon::prepare("services: { checkout: {}, cart: {} }\n")?;
    daemon.launch(Some(&format!("before-news=1*sleep({})", STANDSTILL.as_millis())))?;
    daemon.ready().await?;
    let begun = tokio::time::Instant::now();
    // They are in the queue when their time is over: what becomes of them nobody knows, and Alertmanager asks again only
    // after a status that begins with five.
    let first = tell(&daemon, 0..WAVE).await?;
    let first_took = begun.elapsed();
    let unheard = first.iter().filter(|(status, _)| *status == StatusCode::SERVICE_UNAVAILABLE).count();
    ensure!(
        unheard == WAVE && first_took < STANDSTILL,
        "{unheard} of {WAVE} after {first_took:?}: {:?}",
        first[0]
    );

    let second = tell(&daemon, WAVE..2 * WAVE);
    let deployment = async {
        tokio::time::sleep_until(begun + STANDSTILL - Duration::from_secs(3)).await;
        daemon.deployed("cart", "v2", None).await
    };
    let (second, deployed) = tokio::join!(second, deployment);
    deployed.context("the news of a deployment")?;
    let second = second?;
    let refused = second.iter().filter(|(_, words)| words.contains("too many messages are waiting")).count();
    let bad =
        |status: &StatusCode| !matches!(*status, StatusCode::ACCEPTED | StatusCode::SERVICE_UNAVAILABLE);
    ensure!(refused > 0 && !second.iter().any(|(status, _)| bad(status)), "{refused} refused: {second:?}");
    println!("{unheard} unheard after {first_took:?}; then {refused} of {WAVE} found no place");

    wait::until("what waited to be kept", Duration::from_secs(30), async || {
        let (status, _) = daemon.post("/v1/alerts", &alerts(2 * WAVE)).await?;
        Ok((status == StatusCode::ACCEPTED).then_some(()))
    })
    .await?;
    let again = tell(&daemon, 0..2 * WAVE).await?;
    ensure!(again.iter().all(|(status, _)| *status == StatusCode::ACCEPTED), "{again:?}");
    let records = daemon.verified_records().await?;
    let events = records.iter().filter(|record| record.stream == "events").count();
    ensure!(events == 2 * WAVE + 2, "{events} events of {} alerts and one deployment", 2 * WAVE + 1);
    let metrics = daemon.client().get(daemon.url("/metrics")).send().await?.text().await?;
    ensure!(metrics.contains(&format!("turnback_queue_overflows_total {refused}")), "{metrics}");
    Ok(())
}
