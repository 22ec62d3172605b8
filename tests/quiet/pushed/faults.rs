//! Senders that hang, stammer, drip or are somebody else: nothing is turned back, the health says what is going on, and
//! what comes from the others is not disturbed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reqwest::StatusCode;
use serde_json::Value;
use tests::daemon::Daemon;
use tests::wait;

use super::prometheus::Shop;
use super::{PATIENCE, PUSH_TOKEN, health};

async fn push(daemon: &Daemon, path: &str, token: &str, body: &'static [u8]) -> Result<(StatusCode, String)> {
    let request = daemon.client().post(daemon.url(path)).bearer_auth(token).body(body);
    let request =
        request.header("content-type", "application/x-protobuf").header("content-encoding", "snappy");
    let answer = request.send().await.context("pushing")?;
    Ok((answer.status(), answer.text().await.context("reading what the agent answers")?))
}

/// Sends a head, and then a byte of the body now and then; says the status line and how long it was listened to.
fn drip(address: &str) -> Result<(String, Duration)> {
    let began = Instant::now();
    let mut line = TcpStream::connect(address).context("connecting to the agent")?;
    line.set_read_timeout(Some(Duration::from_millis(500)))?;
    let head = format!(
        "POST /v1/push/main/write HTTP/1.1\r\nHost: agent\r\nAuthorization: Bearer {PUSH_TOKEN}\r\n\
         Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nContent-Length: 100000\r\n\r\n"
    );
    line.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    while began.elapsed() < PATIENCE && answer.is_empty() {
        // When the agent has closed the line, its answer is still there to be read.
        let _closed = line.write_all(b"x");
        let mut part = [0; 1_024];
        if let Ok(count) = line.read(&mut part) {
            answer.extend_from_slice(&part[..count]);
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok((text.lines().next().unwrap_or_default().to_owned(), began.elapsed()))
}

fn count(records: &[agent::ledger::Record], kind: &str) -> usize {
    records.iter().filter(|record| record.kind == kind).count()
}

#[tokio::test]
async fn senders_that_fail_make_nothing_happen_and_are_told_and_shown() -> Result<()> {
    let shop = Shop::open(0.01).await?;
    let daemon = &shop.daemon;
    shop.deploy().await?;
    let wrong = push(daemon, "/v1/push/main/write", "wrong", b"garbage").await?;
    let nobody = push(daemon, "/v1/push/nobody/write", PUSH_TOKEN, b"garbage").await?;
    assert_eq!((wrong.0, &wrong.1), (StatusCode::UNAUTHORIZED, &nobody.1));
    for path in ["/v1/push/main/write", "/v1/push/main/v1/metrics"] {
        let (status, words) = push(daemon, path, PUSH_TOKEN, b"garbage").await?;
        assert!(status.is_client_error() && status != StatusCode::UNAUTHORIZED, "{status}: {words}");
    }
    let address = daemon.url("").trim_start_matches("http://").to_owned();
    let (answer, listened) = tokio::task::spawn_blocking(move || drip(&address)).await??;
    assert!(answer.contains("503"), "{answer}");
    assert!(listened < Duration::from_secs(30), "{listened:?}");
    // Prometheus goes on being heard, perhaps a little late on a busy machine.
    wait::until("no silence to be told", PATIENCE, async || {
        let shown = health(daemon).await?;
        assert_eq!(shown["pushed"]["unreadable"], 3, "{shown}");
        Ok(shown["pushed"]["silence"].is_null().then_some(()))
    })
    .await?;
    // The sender hangs.
    shop.prometheus.pause()?;
    let silent = wait::until("the silence to be told", PATIENCE, async || {
        let silence = health(daemon).await?["pushed"]["silence"].as_str().map(str::to_owned);
        let page = daemon.log().contains("shop v2 cannot see: telemetry is broken");
        Ok(silence.filter(|_| page))
    })
    .await?;
    println!("while the sender hangs: {silent}");
    shop.prometheus.resume()?;
    wait::until("it to be heard again", PATIENCE, async || {
        let heard = health(daemon).await?["pushed"]["silence"].is_null();
        Ok((heard && daemon.log().contains("shop v2 sees again")).then_some(()))
    })
    .await?;
    let watch: Value = daemon.watch("shop").await?;
    let story = daemon.story("shop").await;
    assert!(watch["incident"].is_null(), "{story}");
    let records = daemon.verified_records().await?;
    assert_eq!(count(&records, "incident_opened") + count(&records, "execution_began"), 0, "{story}");
    assert_eq!((count(&records, "blind_began"), count(&records, "blind_ended")), (1, 1), "{story}");
    println!("in all: {}", health(daemon).await?["pushed"]);
    Ok(())
}
