//! NATS, seen from a daemon: a durable stream, hints, what cannot be read, and a server that is stopped, killed, garbled, or
//! changes its token.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::{HeaderMap, jetstream};
use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::bad_network::{BadNetwork, Weather};
use tests::daemon::Daemon;
use tests::nats::Nats;

use super::{SOON, deployment, first, nothing_was_done, until_standing};

fn config(port: u16, connection: &str, more: &str) -> String {
    format!(
        "events:\n  nats:\n    bus:\n      connection: {{ servers: [\"nats://127.0.0.1:{port}\"]{connection} }}\n      \
         {more}\n      services: [checkout, cart]\nservices: {{ checkout: {{}}, cart: {{}} }}\n"
    )
}

const STREAM: &str = "stream: DEPLOY\n      ack_wait: 2s\n      dead_letter_subject: dead.letters";

async fn publish(client: &async_nats::Client, subject: &str, headers: HeaderMap, body: &str) -> Result<()> {
    let context = jetstream::new(client.clone());
    context.publish_with_headers(subject.to_owned(), headers, body.to_owned().into()).await?.await?;
    Ok(())
}

async fn tell(server: &Nats, service: &str, version: &str) -> Result<()> {
    publish(&server.connect().await?, "deploy.x", HeaderMap::new(), &deployment(service, version)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_heard_and_what_cannot_be_read_comes_five_times() -> Result<()> {
    let server = Nats::start().await?;
    server.stream("DEPLOY", &["deploy.>"]).await?;
    let client = server.connect().await?;
    let mut dead = client.subscribe("dead.letters").await?;
    let mut daemon = Daemon::start(&config(server.port(), "", STREAM)).await?;
    let mut binary = HeaderMap::new();
    for (key, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "binary%201"),
        ("ce-source", "/ci"),
        ("ce-type", "dev.turnback.deployment.v1"),
        ("ce-datacontenttype", "application/json"),
    ] {
        binary.insert(key, value);
    }
    binary.insert("ce-id", "binary-1");
    publish(&client, "deploy.a", HeaderMap::new(), &deployment("checkout", "v1")).await?;
    publish(&client, "deploy.a", HeaderMap::new(), &deployment("checkout", "v1")).await?;
    publish(&client, "deploy.b", binary, r#"{"service":"cart","version":"v1"}"#).await?;
    publish(&client, "deploy.c", HeaderMap::new(), "{\"service\":").await?;
    let settled = |standing: &Value| {
        standing["recorded"] == 2
            // Or more: what is not answered for within two seconds comes again.
            && standing["duplicates"].as_u64() >= Some(1)
            && standing["dead_letters"] == 1
            && standing["lag"] == 0
            && standing["connected"] == true
    };
    until_standing(&daemon, "all of it to be kept", settled).await?;
    let letters = daemon.get("/v1/dead-letters").await?;
    let letter = &letters["records"][0]["body"]["letter"];
    ensure!(letter["tries"] == 5 && letter["place"] == "DEPLOY/4", "{letters}");
    let sent_on = tokio::time::timeout(SOON, dead.next()).await?.context("a dead letter is sent on")?;
    ensure!(sent_on.payload.as_ref() == b"{\"service\":", "{sent_on:?}");

    daemon.kill()?;
    publish(&client, "deploy.a", HeaderMap::new(), &deployment("cart", "v2")).await?;
    daemon.launch(None)?;
    daemon.ready().await?;
    until_standing(&daemon, "the news of the meantime", |standing| standing["recorded"] == 1).await?;
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_there_already_hears_the_subjects_of_today() -> Result<()> {
    let server = Nats::start().await?;
    server.stream("DEPLOY", &["deploy.>"]).await?;
    let one = format!("{STREAM}\n      subjects: [deploy.one]");
    let mut daemon = Daemon::start(&config(server.port(), "", &one)).await?;
    let client = server.connect().await?;
    publish(&client, "deploy.one", HeaderMap::new(), &deployment("checkout", "v1")).await?;
    until_standing(&daemon, "the first news", first).await?;
    daemon.kill()?;
    publish(&client, "deploy.two", HeaderMap::new(), &deployment("cart", "v1")).await?;
    let both = one.replace("[deploy.one]", "[deploy.one, deploy.two]");
    daemon.reconfigure(&config(server.port(), "", &both))?;
    daemon.launch(None)?;
    daemon.ready().await?;
    until_standing(&daemon, "the news of the other subject", first).await?;
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_is_heard_without_a_stream() -> Result<()> {
    let mut server = Nats::start().await?;
    let daemon = Daemon::start(&config(server.port(), "", "subjects: [\"deploy.>\"]")).await?;
    until_standing(&daemon, "the subscription", |standing| standing["connected"] == true).await?;
    let client = server.connect().await?;
    client.publish("deploy.x", deployment("checkout", "v1").into()).await?;
    client.publish("deploy.x", "{".into()).await?;
    client.flush().await?;
    until_standing(&daemon, "the hint", |standing| {
        standing["recorded"] == 1 && standing["dead_letters"] == 1
    })
    .await?;
    server.kill()?;
    until_standing(&daemon, "the death to be noticed", |standing| standing["connected"] == false).await?;
    server.restart().await?;
    until_standing(&daemon, "the return", |standing| standing["connected"] == true).await?;
    let client = server.connect().await?;
    client.publish("deploy.x", deployment("checkout", "v2").into()).await?;
    client.flush().await?;
    until_standing(&daemon, "the hint after the return", |standing| standing["recorded"] == 2).await?;
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_is_not_heard_and_never_said_to_be() -> Result<()> {
    // The agent may connect and ask, and neither subscribe to what it wants nor pull.
    let refuses = "authorization { users: [{ user: agent, password: secret, permissions: { subscribe: { allow: [\"_INBOX.>\"] }, \
                   publish: { deny: [\"$JS.API.CONSUMER.MSG.NEXT.>\"] } } }, { user: admin, password: secret }] }";
    let server = Nats::start_with(refuses).await?;
    let admin = async_nats::ConnectOptions::with_user_and_password("admin".into(), "secret".into());
    let admin = admin.connect(server.url()).await?;
    let stream = jetstream::stream::Config {
        name: "DEPLOY".into(),
        subjects: vec!["deploy.>".into()],
        ..Default::default()
    };
    jetstream::new(admin).create_stream(stream).await?;
    let password = tempfile::NamedTempFile::new()?;
    std::fs::write(password.path(), "secret")?;
    let credential = format!(
        ", credential: {{ password: {{ user: agent, password: {{ file: {} }} }} }}",
        password.path().display()
    );
    for hears in ["subjects: [\"deploy.>\"]", STREAM] {
        let daemon = Daemon::start(&config(server.port(), &credential, hears)).await?;
        let refused = |standing: &Value| {
            standing["connected"] == false && standing["last_error"].to_string().contains("ermissions")
        };
        until_standing(&daemon, "the refusal to be said", refused).await?;
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            let standing = daemon.get("/readyz").await?["event_sources"]["bus"].clone();
            ensure!(standing["connected"] == false, "{hears}: {standing}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_dies_or_talks_nonsense_is_missed_and_nothing_is_lost() -> Result<()> {
    let network = BadNetwork::start().await?;
    let mut server = Nats::start().await?;
    network.lead_to(server.port());
    server.stream("DEPLOY", &["deploy.>"]).await?;
    let daemon = Daemon::start(&config(network.port(), "", STREAM)).await?;
    let down = |standing: &Value| standing["connected"] == false;
    let up =
        |count: usize| move |standing: &Value| standing["recorded"] == count && standing["connected"] == true;
    tell(&server, "checkout", "v1").await?;
    until_standing(&daemon, "the first news", up(1)).await?;

    server.signal(Signal::SIGSTOP)?;
    until_standing(&daemon, "the silence to be noticed", down).await?;
    server.signal(Signal::SIGCONT)?;
    tell(&server, "checkout", "v2").await?;
    until_standing(&daemon, "the news after the silence", up(2)).await?;

    server.kill()?;
    until_standing(&daemon, "the death to be noticed", down).await?;
    server.restart().await?;
    tell(&server, "checkout", "v3").await?;
    until_standing(&daemon, "the news after the restart", up(3)).await?;

    for (number, weather) in [Weather::Nonsense, Weather::Silent, Weather::Cut].into_iter().enumerate() {
        network.turn(weather);
        until_standing(&daemon, &format!("{weather:?} to be noticed"), down).await?;
        network.turn(Weather::Clear);
        tell(&server, "cart", &format!("v{number}")).await?;
        until_standing(&daemon, &format!("the news after {weather:?}"), up(4 + number)).await?;
    }
    network.turn(Weather::Drip(50));
    tell(&server, "cart", "v9").await?;
    until_standing(&daemon, "the news through the drip", |standing| standing["recorded"] == 7).await?;
    ensure!(until_standing(&daemon, "no letters", |_| true).await?["dead_letters"] == 0);
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expired_is_said_and_its_successor_is_read() -> Result<()> {
    let mut server = Nats::start_with("authorization { token: first-token }").await?;
    let secret = tempfile::NamedTempFile::new()?;
    std::fs::write(secret.path(), "first-token")?;
    let options = async_nats::ConnectOptions::with_token("first-token".into());
    let client = options.connect(server.url()).await?;
    let stream = jetstream::stream::Config {
        name: "DEPLOY".into(),
        subjects: vec!["deploy.>".into()],
        ..Default::default()
    };
    jetstream::new(client.clone()).create_stream(stream).await?;
    let credential = format!(", credential: {{ token: {{ file: {} }} }}", secret.path().display());
    let daemon = Daemon::start(&config(server.port(), &credential, STREAM)).await?;
    publish(&client, "deploy.a", HeaderMap::new(), &deployment("checkout", "v1")).await?;
    until_standing(&daemon, "the first news", |standing| standing["recorded"] == 1).await?;
    drop(client);
    server.restart_with("authorization { token: second-token }").await?;
    let down = until_standing(&daemon, "the refusal to be noticed", |standing| {
        standing["connected"] == false
            && standing["last_error"].to_string().to_lowercase().contains("authorization")
    })
    .await?;
    ensure!(!down.to_string().contains("first-token"), "{down}");
    let client = async_nats::ConnectOptions::with_token("second-token".into()).connect(server.url()).await?;
    publish(&client, "deploy.a", HeaderMap::new(), &deployment("checkout", "v2")).await?;
    std::fs::write(secret.path(), "second-token")?;
    until_standing(&daemon, "the news after the rotation", |standing| {
        standing["recorded"] == 2 && standing["connected"] == true
    })
    .await?;
    nothing_was_done(&daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decided_is_published() -> Result<()> {
    let server = Nats::start().await?;
    server.stream("DECISIONS", &["decisions.kept"]).await?;
    let mut heard = server.connect().await?.subscribe("decisions.*").await?;
    let config = format!(
        "notify:\n  nats:\n    told: {{ connection: {{ servers: [\"{0}\"] }}, subject: decisions.told }}\n    \
         kept: {{ connection: {{ servers: [\"{0}\"] }}, subject: decisions.kept, stream: true }}\n\
         services: {{ checkout: {{ signals: {{}} }} }}\n",
        server.url()
    );
    let daemon = Daemon::start(&config).await?;
    daemon.deployed("checkout", "v1", None).await?;
    let report =
        json!({ "service": "checkout", "report": "smoke_test_failed", "state": "firing", "id": "s-1" });
    let (status, answer) = daemon.post("/v1/events", &report).await?;
    ensure!(status == 202, "{answer}");
    let mut subjects = std::collections::BTreeSet::new();
    while subjects.len() < 2 {
        let message = tokio::time::timeout(SOON, heard.next()).await?.context("decisions are published")?;
        let event: Value = serde_json::from_slice(&message.payload)?;
        ensure!(event["specversion"] == "1.0" && event["data"]["service"] == "checkout", "{event}");
        subjects.insert(message.subject.to_string());
    }
    Ok(())
}
