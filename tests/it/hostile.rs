//! Malformed and hostile requests against a real daemon: each is refused with a clear answer or recognised as said
//! before; nothing that was acknowledged is lost, and the daemon goes on.

use anyhow::{Result, ensure};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{Duration, Instant};
use tests::daemon::{Daemon, TOKEN};

const SECRET: &str = "a secret for signatures, long enough";

const CONFIG: &str = r#"
events:
  sources:
    signed:
      credential: { hmac: { secret: { env: TURNBACK_TEST_SECRET }, header: x-signature, prefix: "sha256=", timestamp_header: x-time } }
      services: [shop]
"#;

async fn daemon() -> Result<Daemon> {
    Daemon::start_with(CONFIG, &[("TURNBACK_TEST_SECRET", SECRET)]).await
}

struct Request {
    name: &'static str,
    path: &'static str,
    body: Vec<u8>,
    headers: Vec<(&'static str, String)>,
    status: u16,
    /// What the answer must name.
    says: &'static str,
}

fn json_request(name: &'static str, body: &str, status: u16, says: &'static str) -> Request {
    let headers =
        vec![("content-type", "application/json".to_owned()), ("authorization", format!("Bearer {TOKEN}"))];
    Request { name, path: "/v1/events", body: body.as_bytes().to_vec(), headers, status, says }
}

fn requests() -> Vec<Request> {
    let mut all = vec![
        json_request("not JSON", "{", 400, "JSON"),
        json_request("empty", "", 400, ""),
        json_request("a number", "17", 422, ""),
        json_request("NaN", r#"{"service":"shop","version":"v1","sequence":NaN}"#, 400, "JSON"),
        json_request("no version", r#"{"service":"shop"}"#, 422, "version"),
        json_request("wrong type", r#"{"service":17,"version":"v1"}"#, 422, "service"),
        json_request("unknown field", r#"{"service":"shop","version":"v1","verison":"v2"}"#, 422, "verison"),
        json_request("shell in a name", r#"{"service":"shop; rm -rf /","version":"v1"}"#, 422, "service"),
        json_request(
            "path in a version",
            r#"{"service":"shop","version":"../../etc/passwd"}"#,
            422,
            "version",
        ),
        json_request("option as version", r#"{"service":"shop","version":"--force"}"#, 422, "version"),
        json_request(
            "markup in a name",
            r#"{"service":"<script>alert(1)</script>","version":"v1"}"#,
            422,
            "service",
        ),
        json_request("line break", r#"{"service":"shop\r\nx","version":"v1"}"#, 422, "service"),
        json_request(
            "far future",
            r#"{"service":"shop","version":"v1","at":"2999-01-01T00:00:00Z"}"#,
            422,
            "at",
        ),
        json_request("twice the key", r#"{"service":"shop","service":"pay","version":"v1"}"#, 400, "service"),
        json_request("deep", &format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000)), 400, ""),
        json_request("oversized", &format!("{{\"service\":\"{}\"}}", "x".repeat(300_000)), 413, ""),
        json_request(
            "big batch",
            &format!("[{}]", vec![r#"{"service":"shop","version":"v1"}"#; 1_000].join(",")),
            413,
            "256",
        ),
    ];
    let mut not_text = json_request("not UTF-8", "", 400, "");
    not_text.body = vec![0xff, 0xfe, 0x00];
    let mut other_type = json_request("form", "service=shop", 415, "");
    other_type.headers[0].1 = "application/x-www-form-urlencoded".into();
    let mut nobody = json_request("no token", r#"{"service":"shop","version":"v1"}"#, 401, "credential");
    nobody.headers.truncate(1);
    let mut stranger = json_request("wrong token", r#"{"service":"shop","version":"v1"}"#, 401, "credential");
    stranger.headers[1].1 = "Bearer guess".into();
    let mut garbage = json_request("alert garbage", r#"{"version":"4","alerts":"none"}"#, 422, "alerts");
    garbage.path = "/v1/alerts";
    let mut squeezed = json_request("compressed", "xx", 415, "");
    squeezed.headers.push(("content-encoding", "gzip".into()));
    all.extend([not_text, other_type, nobody, stranger, garbage, squeezed]);
    all
}

async fn send(daemon: &Daemon, request: &Request) -> Result<(StatusCode, String)> {
    let mut builder = daemon.client().post(daemon.url(request.path)).body(request.body.clone());
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    let answer = builder.send().await?;
    Ok((answer.status(), answer.text().await?))
}

#[tokio::test]
async fn every_bad_request_is_refused_in_words() -> Result<()> {
    let daemon = daemon().await?;
    let mut wrong = Vec::new();
    for request in requests() {
        let (status, text) = send(&daemon, &request).await?;
        if status.as_u16() != request.status || !text.contains(request.says) || text.is_empty() {
            wrong.push(format!("{}: {status}, expected {}: {text}", request.name, request.status));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(daemon.get("/v1/watches").await? == json!([]), "nothing was opened");
    let records = daemon.verified_records().await?;
    ensure!(records.is_empty(), "nothing was recorded: {records:?}");
    Ok(())
}

fn signed(body: &str, time: i64, secret: &str) -> Result<Request> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(format!("{time}:{body}").as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    let mut request = json_request("signed", body, 202, "");
    request.headers[1] = ("x-signature", format!("sha256={signature}"));
    request.headers.push(("x-time", time.to_string()));
    Ok(request)
}

#[tokio::test]
async fn signatures_replays_and_scopes() -> Result<()> {
    let daemon = daemon().await?;
    let now = jiff::Timestamp::now().as_second();
    let body = r#"{"service":"shop","version":"v1","id":"signed-1"}"#;
    let (status, first) = send(&daemon, &signed(body, now, SECRET)?).await?;
    ensure!(status == 202 && first.contains("recorded"), "{status}: {first}");
    let (status, again) = send(&daemon, &signed(body, now, SECRET)?).await?;
    ensure!(status == 202 && again.contains("duplicate"), "a replay is recognised: {status}: {again}");
    for (what, request) in [
        ("old", signed(body, now - 3_600, SECRET)?),
        ("from the future", signed(body, now + 3_600, SECRET)?),
        ("signed with another secret", signed(body, now, "some other secret, long enough too")?),
    ] {
        let (status, text) = send(&daemon, &request).await?;
        ensure!(status == 401, "{what}: {status}: {text}");
    }
    let mut changed = signed(body, now, SECRET)?;
    changed.body = body.replace("v1", "v2").into_bytes();
    ensure!(send(&daemon, &changed).await?.0 == 401);
    // This source may speak about `shop` and about nothing else.
    let (status, text) = send(&daemon, &signed(r#"{"service":"pay","version":"v1"}"#, now, SECRET)?).await?;
    ensure!(status == 403 && text.contains("pay"), "{status}: {text}");
    Ok(())
}

#[tokio::test]
async fn a_name_that_nobody_listens_for_is_said_back() -> Result<()> {
    let daemon = daemon().await?;
    for (name, noted) in [("smoke_tests_failed", true), ("smoke_test_failed", false)] {
        let (status, answer) = daemon
            .post("/v1/events", &json!({ "service": "shop", "report": name, "state": "firing" }))
            .await?;
        ensure!(status == 202, "{status}: {answer}");
        let said = answer["notes"].to_string().contains("no row of the matrix");
        ensure!(said == noted, "{name}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn a_word_that_changes_something_needs_the_token() -> Result<()> {
    let daemon = daemon().await?;
    for (path, body) in [
        ("/v1/stop", json!({ "reason": "x" })),
        ("/v1/rollbacks", json!({ "service": "shop" })),
        ("/v1/freezes", json!({ "reason": "x" })),
        ("/v1/plans/p-1/approval", json!({ "decision": "approve", "digest": "0" })),
    ] {
        let answer = daemon.client().post(daemon.url(path)).json(&body).send().await?;
        ensure!(answer.status() == 401, "{path}: {}", answer.status());
    }
    let foreign = daemon
        .client()
        .get(daemon.url("/v1/watches"))
        .header("origin", "https://evil.example")
        .send()
        .await?;
    ensure!(foreign.status() == 401, "a foreign page may not even look: {}", foreign.status());
    let fleet = daemon.get("/v1/fleet").await?;
    ensure!(fleet["stopped"] == Value::Null, "{fleet}");
    Ok(())
}

#[tokio::test]
async fn ten_thousand_in_a_row_are_kept_each_once() -> Result<()> {
    const ALL: usize = 10_000;
    const SENDERS: usize = 8;
    let mut daemon = Daemon::start("").await?;
    let began = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let (client, url) = (daemon.client().clone(), daemon.url("/v1/events"));
        senders.spawn(async move {
            let mut accepted = 0;
            for number in (sender..ALL).step_by(SENDERS) {
                // One in twenty is sent twice; reports, because ten thousand watches are another test.
                for _ in 0..if number % 20 == 0 { 2 } else { 1 } {
                    let news = json!({ "service": "shop", "report": "smoke_test_failed", "state": "firing", "id": format!("n-{number}") });
                    let answer = client.post(&url).bearer_auth(TOKEN).json(&news).send().await?;
                    ensure!(answer.status() == 202, "{}", answer.status());
                    accepted += 1;
                }
            }
            Ok(accepted)
        });
    }
    let mut accepted = 0;
    while let Some(sent) = senders.join_next().await {
        accepted += sent??;
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{accepted} requests in {seconds:.1} s: {:.0} a second", f64::from(accepted) / seconds);
    // Not asked to end: what was acknowledged must be there all the same.
    daemon.kill()?;
    let records = daemon.verified_records().await?;
    let events = records.iter().filter(|record| record.stream == "events").count();
    ensure!(events == ALL, "{events} of {ALL} are on disk");
    daemon.launch(None)?;
    tokio::time::timeout(Duration::from_secs(20), daemon.ready()).await??;
    Ok(())
}
