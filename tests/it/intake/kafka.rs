//! Kafka, seen from a daemon: every form of event, what cannot be read, and a broker that is stopped, killed, garbled,
//! slow, or changes its password.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use serde_json::{Value, json};
use tests::bad_network::{BadNetwork, Weather};
use tests::daemon::Daemon;
use tests::kafka::{Kafka, Setup};
use tests::wait;

use super::{SOON, deployment, first, nothing_was_done, until_standing};

const TOPIC: &str = "deployments";

fn config(address: &str, more: &str) -> String {
    format!(
        "events:\n  kafka:\n    bus:\n      connection: {{ brokers: [\"{address}\"]{more} }}\n      topics: [{TOPIC}]\n      \
         instance: agent-1\n      dead_letter_topic: dead\n      services: [checkout, cart]\n\
         services: {{ checkout: {{}}, cart: {{}} }}\n"
    )
}

async fn standing(daemon: &Daemon) -> Result<Value> {
    Ok(daemon.get("/readyz").await?["event_sources"]["bus"].clone())
}

async fn tell(broker: &Kafka, service: &str, version: &str) -> Result<()> {
    broker.send(TOPIC, &[(service.to_owned(), deployment(service, version).into_bytes())]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_is_heard_and_what_cannot_be_read_is_put_aside() -> Result<()> {
    let broker = Kafka::start().await?;
    broker.topic(TOPIC, 2).await?;
    broker.topic("dead", 1).await?;
    let mut daemon = Daemon::start(&config(&broker.address(), "")).await?;
    let producer = broker.producer()?;
    let send = async |headers: &[(&str, &str)], body: &[u8]| -> Result<()> {
        let mut all = OwnedHeaders::new();
        for (key, value) in headers {
            all = all.insert(Header { key, value: Some(*value) });
        }
        let record = FutureRecord::to(TOPIC).key("a").payload(body).headers(all);
        producer.send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
        Ok(())
    };
    let binary = [
        ("ce_specversion", "1.0"),
        ("ce_id", "binary-1"),
        ("ce_source", "/ci"),
        ("ce_type", "dev.turnback.deployment.v1"),
        ("content-type", "application/json"),
    ];
    let cdevent = json!({
        "context": { "specversion": "0.5.1", "id": "cd-1", "source": "/cd", "type": "dev.cdevents.service.deployed.0.3.0",
            "timestamp": jiff::Timestamp::now().to_string() },
        "subject": { "id": "checkout", "source": "/cd", "content": { "environment": { "id": "staging" },
            "artifactId": "pkg:oci/checkout@sha256%3A0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427" } }
    });
    let structured = json!({ "specversion": "1.0", "id": "structured-1", "source": "/ci",
        "type": "dev.turnback.deployment.v1", "data": { "service": "cart", "version": "v2" } });
    let about_something_else =
        json!({ "specversion": "1.0", "id": "o", "source": "/shop", "type": "order.placed", "data": {} });
    send(&[], deployment("checkout", "v1").as_bytes()).await?;
    send(&[], deployment("checkout", "v1").as_bytes()).await?;
    send(&binary, br#"{"service":"cart","version":"v1"}"#).await?;
    send(&[("content-type", "application/cloudevents+json")], structured.to_string().as_bytes()).await?;
    send(&[], cdevent.to_string().as_bytes()).await?;
    send(&[("content-type", "application/cloudevents+json")], about_something_else.to_string().as_bytes())
        .await?;
    send(&[], b"").await?;
    send(&[], b"{\"service\":").await?;
    send(&[], deployment("somebody-elses", "v1").as_bytes()).await?;
    let expected = |standing: &Value| {
        standing["recorded"] == 4
            && standing["duplicates"] == 1
            && standing["dead_letters"] == 2
            && standing["passed_over"] == 2
            && standing["lag"] == 0
            && standing["connected"] == true
    };
    until_standing(&daemon, "all of it to be kept", expected).await?;

    let dead = daemon.get("/v1/dead-letters").await?;
    let letters: Vec<&Value> =
        dead["records"].as_array().into_iter().flatten().map(|one| &one["body"]["letter"]).collect();
    ensure!(letters.len() == 2 && letters.iter().all(|letter| letter["tries"] == 5), "{dead}");
    ensure!(
        letters[1]["reason"].to_string().contains("may not speak about the service `somebody-elses`"),
        "{dead}"
    );
    let on = broker.read("dead", 2, SOON).await?;
    let reason =
        on[0].headers().and_then(|headers| headers.iter().find(|header| header.key == "turnback-reason"));
    ensure!(on[0].payload() == Some(b"{\"service\":") && reason.is_some(), "{:?}", on[0]);

    let watches = daemon.get("/v1/watches").await?;
    let open: Vec<_> =
        watches.as_array().into_iter().flatten().filter(|watch| watch["closed"] == false).collect();
    ensure!(open.len() == 3, "checkout and cart in production, checkout in staging: {watches}");
    let metrics = daemon.client().get(daemon.url("/metrics")).send().await?.text().await?;
    ensure!(metrics.contains("turnback_source_connected{source=\"bus\",kind=\"kafka\"} 1"), "{metrics}");
    wait::until("the offsets to be committed", SOON, async || {
        Ok((broker.committed("turnback", TOPIC, 2).await? == 9).then_some(()))
    })
    .await?;

    // What was committed does not come again, and nothing is lost between two lives.
    daemon.kill()?;
    tell(&broker, "cart", "v3").await?;
    daemon.launch(None)?;
    daemon.ready().await?;
    until_standing(&daemon, "the news of the meantime", |standing| standing["recorded"] == 1).await?;
    ensure!(standing(&daemon).await?["duplicates"] == 0, "{}", standing(&daemon).await?);
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_back_with_other_topics_hears_them() -> Result<()> {
    let broker = Kafka::start().await?;
    broker.topic(TOPIC, 2).await?;
    broker.topic("dead", 1).await?;
    broker.topic("others", 2).await?;
    let mut daemon = Daemon::start(&config(&broker.address(), "")).await?;
    tell(&broker, "checkout", "v1").await?;
    until_standing(&daemon, "the first news", first).await?;
    // The group remembers what a member with a name had, and gives it the same again, whatever it asks for now.
    daemon.kill()?;
    broker.send("others", &[("cart".to_owned(), deployment("cart", "v1").into_bytes())]).await?;
    daemon.reconfigure(&config(&broker.address(), "").replace(TOPIC, "others"))?;
    daemon.launch(None)?;
    daemon.ready().await?;
    until_standing(&daemon, "the news of the other topic", first).await?;
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_back_to_a_topic_that_has_grown_hears_all_of_it() -> Result<()> {
    let broker = Kafka::start().await?;
    broker.topic(TOPIC, 2).await?;
    broker.topic("dead", 1).await?;
    let mut daemon = Daemon::start(&config(&broker.address(), "")).await?;
    tell(&broker, "checkout", "v1").await?;
    until_standing(&daemon, "the first news", first).await?;
    daemon.kill()?;
    broker.grow(TOPIC, 3).await?;
    let news = deployment("cart", "v1");
    let record = FutureRecord::to(TOPIC).partition(2).key("cart").payload(&news);
    let sent = broker.producer()?.send(record, SOON).await.map_err(|(error, _)| error)?;
    ensure!(sent.partition == 2, "{sent:?}");
    daemon.launch(None)?;
    daemon.ready().await?;
    until_standing(&daemon, "the news of the new partition", first).await?;
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stands_still_or_dies_is_missed_and_nothing_is_lost() -> Result<()> {
    let mut broker = Kafka::start().await?;
    broker.topic(TOPIC, 2).await?;
    broker.topic("dead", 1).await?;
    let daemon = Daemon::start(&config(&broker.address(), "")).await?;
    tell(&broker, "checkout", "v1").await?;
    until_standing(&daemon, "the first news", first).await?;

    broker.signal(Signal::SIGSTOP)?;
    let down =
        until_standing(&daemon, "the silence to be noticed", |standing| standing["connected"] == false)
            .await?;
    ensure!(!down["last_error"].is_null(), "{down}");
    // Other ways in go on meanwhile.
    daemon.deployed("cart", "v1", None).await?;
    broker.signal(Signal::SIGCONT)?;
    tell(&broker, "checkout", "v2").await?;
    until_standing(&daemon, "the news after the silence", |standing| {
        standing["recorded"] == 2 && standing["connected"] == true
    })
    .await?;

    broker.kill()?;
    until_standing(&daemon, "the death to be noticed", |standing| standing["connected"] == false).await?;
    broker.restart().await?;
    tell(&broker, "checkout", "v3").await?;
    until_standing(&daemon, "the news after the restart", |standing| {
        standing["recorded"] == 3 && standing["connected"] == true
    })
    .await?;
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_silence_and_a_slow_drip_are_not_news() -> Result<()> {
    let network = BadNetwork::start().await?;
    let broker = Kafka::start_with(&Setup { advertised: Some(network.port()), ..Setup::default() }).await?;
    network.lead_to(broker.port());
    broker.topic(TOPIC, 1).await?;
    broker.topic("dead", 1).await?;
    let daemon = Daemon::start(&config(&format!("127.0.0.1:{}", network.port()), "")).await?;
    tell(&broker, "checkout", "v1").await?;
    until_standing(&daemon, "the first news", first).await?;
    for (number, weather) in [Weather::Nonsense, Weather::Silent, Weather::Cut].into_iter().enumerate() {
        network.turn(weather);
        until_standing(&daemon, &format!("{weather:?} to be noticed"), |standing| {
            standing["connected"] == false
        })
        .await?;
        network.turn(Weather::Clear);
        tell(&broker, "checkout", &format!("v{}", number + 2)).await?;
        until_standing(&daemon, &format!("the news after {weather:?}"), |standing| {
            standing["recorded"] == number + 2 && standing["connected"] == true
        })
        .await?;
    }
    // Slow is not broken: it takes its time.
    network.turn(Weather::Drip(200));
    tell(&broker, "cart", "v1")
        .await
        .or_else(|error| if error.to_string().contains("sending") { Ok(()) } else { Err(error) })?;
    network.turn(Weather::Clear);
    tell(&broker, "cart", "v2").await?;
    until_standing(&daemon, "the news after the drip", |standing| standing["recorded"].as_u64() >= Some(5))
        .await?;
    ensure!(standing(&daemon).await?["dead_letters"] == 0, "{}", standing(&daemon).await?);
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_expired_is_said_and_its_successor_is_read() -> Result<()> {
    let setup = Setup { password: Some("first-password".into()), ..Setup::default() };
    let mut broker = Kafka::start_with(&setup).await?;
    broker.topic(TOPIC, 1).await?;
    broker.topic("dead", 1).await?;
    let secret = tempfile::NamedTempFile::new()?;
    std::fs::write(secret.path(), "first-password")?;
    let sasl = format!(
        ", sasl: {{ mechanism: plain, username: turnback, password: {{ file: {} }} }}",
        secret.path().display()
    );
    let daemon = Daemon::start(&config(&broker.address(), &sasl)).await?;
    tell(&broker, "checkout", "v1").await?;
    until_standing(&daemon, "the first news", first).await?;
    broker.restart_with_password("second-password").await?;
    tell(&broker, "checkout", "v2").await?;
    let down = until_standing(&daemon, "the refusal to be noticed", |standing| {
        standing["connected"] == false
            && standing["last_error"].to_string().to_lowercase().contains("authentication")
    })
    .await?;
    ensure!(!down.to_string().contains("first-password"), "{down}");
    std::fs::write(secret.path(), "second-password")?;
    until_standing(&daemon, "the news after the rotation", |standing| {
        standing["recorded"] == 2 && standing["connected"] == true
    })
    .await?;
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decided_is_produced() -> Result<()> {
    let broker = Kafka::start().await?;
    broker.topic("decisions", 1).await?;
    let config = format!(
        "notify:\n  kafka:\n    decisions: {{ connection: {{ brokers: [\"{}\"] }}, topic: decisions }}\n\
         services: {{ checkout: {{ signals: {{}} }} }}\n",
        broker.address()
    );
    let daemon = Daemon::start(&config).await?;
    daemon.deployed("checkout", "v1", None).await?;
    let report =
        json!({ "service": "checkout", "report": "smoke_test_failed", "state": "firing", "id": "s-1" });
    let (status, answer) = daemon.post("/v1/events", &report).await?;
    ensure!(status == 202, "{answer}");
    let told = broker.read("decisions", 1, SOON).await?;
    let event: Value = serde_json::from_slice(told[0].payload().unwrap_or_default())?;
    ensure!(event["specversion"] == "1.0" && event["subject"] == "checkout", "{event}");
    ensure!(
        event["type"].as_str().is_some_and(|kind| kind.starts_with("dev.turnback.") && kind.ends_with(".v1")),
        "{event}"
    );
    ensure!(event["data"]["service"] == "checkout" && told[0].key() == Some(b"checkout"), "{event}");
    Ok(())
}
