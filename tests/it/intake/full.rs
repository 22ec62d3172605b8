//! A disk that stands still while hundreds tell of alerts: whoever is not heard is told to come again, the news of a
//! deployment finds a place, and nothing that was acknowledged is lost. What happens when is told by what was answered,
//! never by a clock: on a busy machine everything comes later.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use tests::daemon::{Daemon, TOKEN};
use tests::wait;

/// As many as the agent has connections, nearly; two of them are more than its queue holds.
const WAVE: usize = 480;
/// For whatever is waited for: it is over in seconds where the disk is quick.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is answered when no place was found.
const NO_PLACE: &str = "too many messages are waiting";

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

/// Tells of a deployment until it is kept. It may wait behind many until its time is over, but not for a place.
async fn tell_of_a_deployment(daemon: &Daemon) -> Result<()> {
    let news = json!({ "service": "cart", "version": "v2", "id": "cart-v2" });
    wait::until("the deployment to be kept", PATIENCE, async || {
        let request = daemon.client().post(daemon.url("/v1/events")).bearer_auth(TOKEN).json(&news);
        let answer = request.timeout(Duration::from_secs(60)).send().await.context("telling of it")?;
        let (status, said) = (answer.status(), answer.text().await.context("reading what is answered")?);
        ensure!(!said.contains(NO_PLACE), "the deployment found no place: {said}");
        ensure!(
            [StatusCode::ACCEPTED, StatusCode::SERVICE_UNAVAILABLE].contains(&status),
            "{status}: {said}"
        );
        Ok((status == StatusCode::ACCEPTED).then_some(()))
    })
    .await
}

fn count(answers: &[(StatusCode, String)], status: StatusCode, words: &str) -> usize {
    answers.iter().filter(|(answered, said)| *answered == status && said.contains(words)).count()
}

/// One of the agent's figures: it tells them also while nothing is written.
async fn figure(daemon: &Daemon, name: &str) -> Result<usize> {
    let metrics = daemon.client().get(daemon.url("/metrics")).send().await?.text().await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name} in {metrics}"))?.parse()?)
}

/// How often the agent says that news found the queue full.
async fn overflows(daemon: &Daemon) -> Result<usize> {
    figure(daemon, "turnback_queue_overflows_total").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_place_is_told_to_come_again_and_a_deployment_finds_one() -> Result<()> {
    let mut daemon = Daemon::prepare("services: { checkout: {}, cart: {} }\n")?;
    let goes_on = daemon.folder().join("goes-on");
    daemon.launch(Some(&format!("before-news=1*return(until {})", goes_on.display())))?;
    daemon.ready().await?;
    // It is held up with one alert alone in its hands, so that the queue holds all that come after, whatever the moments.
    let alone = 2 * WAVE..2 * WAVE + 1;
    let waves = async {
        wait::until("the agent to be held up", PATIENCE, async || {
            Ok(daemon.log().contains("crash point before-news hit").then_some(()))
        })
        .await?;
        tell(&daemon, 0..WAVE).await
    };
    // They are in the queue when their time is over: what becomes of them nobody knows, and Alertmanager asks again only
    // after a status that begins with five.
    let (held, first) = tokio::join!(tell(&daemon, alone.clone()), waves);
    let (held, first) = (held?, first?);
    ensure!(count(&held, StatusCode::SERVICE_UNAVAILABLE, "") == 1, "{held:?}");
    let unheard = count(&first, StatusCode::SERVICE_UNAVAILABLE, "");
    ensure!(unheard == WAVE, "{unheard} of {WAVE}: {:?}", first[0]);
    ensure!(
        !goes_on.exists()
            && overflows(&daemon).await? == count(&first, StatusCode::SERVICE_UNAVAILABLE, NO_PLACE)
    );

    ensure!(
        figure(&daemon, "turnback_loop_answers").await? == 0,
        "nothing is written, and nothing is said of it"
    );
    let deployment = async {
        let before = count(&first, StatusCode::SERVICE_UNAVAILABLE, NO_PLACE);
        wait::until("somebody who finds no place", PATIENCE, async || {
            Ok((overflows(&daemon).await? > before).then_some(()))
        })
        .await?;
        let told = tell_of_a_deployment(&daemon);
        let release = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            std::fs::write(&goes_on, "").context("letting the agent go on")
        };
        let (told, released) = tokio::join!(told, release);
        told.context("the news of a deployment").and(released)
    };
    let (second, deployed) = tokio::join!(tell(&daemon, WAVE..2 * WAVE), deployment);
    deployed?;
    let second = second?;
    let refused = count(&second, StatusCode::SERVICE_UNAVAILABLE, NO_PLACE);
    let kept = count(&second, StatusCode::ACCEPTED, "");
    let unheard_too = count(&second, StatusCode::SERVICE_UNAVAILABLE, "") - refused;
    ensure!(
        refused > 0 && kept + refused + unheard_too == WAVE,
        "{kept} kept, {refused} refused: {second:?}"
    );
    println!("{unheard} unheard; then {kept} were kept and {refused} of {WAVE} found no place");
    let no_place = refused + count(&first, StatusCode::SERVICE_UNAVAILABLE, NO_PLACE);
    ensure!(
        overflows(&daemon).await? == no_place,
        "{} are counted, not {no_place}",
        overflows(&daemon).await?
    );

    // Whoever was sent away comes again, as often as it takes.
    for wave in [0..WAVE, WAVE..2 * WAVE, alone] {
        wait::until("all to be kept", PATIENCE, async || {
            let again = tell(&daemon, wave.clone()).await?;
            Ok((count(&again, StatusCode::ACCEPTED, "") == wave.len()).then_some(()))
        })
        .await?;
    }
    let records = daemon.verified_records().await?;
    let events = records.iter().filter(|record| record.stream == "events").count();
    ensure!(events == 2 * WAVE + 2, "{events} events of {} alerts and one deployment", 2 * WAVE + 1);
    Ok(())
}
