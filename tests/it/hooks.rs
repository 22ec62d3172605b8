//! Webhooks of others at the daemon's door: what GitHub, GitLab and Vercel send opens a watch; what is forged, foreign or
//! said twice does not. The bodies are the recorded ones of the presets, at the time of now.

use anyhow::Result;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::Sha256;
use std::process::Command;
use tests::{binaries, daemon::Daemon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SECRET: &str = "a-secret-of-hooks-0123456789";

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("../../agent/src/events/hooks/samples/", $name, ".json"))
    };
}

async fn daemon() -> Result<Daemon> {
    let mut daemon = Daemon::prepare("")?;
    std::fs::write(daemon.folder().join("secret"), SECRET)?;
    let secret = format!("{{ file: {} }}", daemon.folder().join("secret").display());
    daemon.reconfigure(&format!(
        "
events:
  hooks:
    github:
      preset: github
      secret: {secret}
      services: [shop/*]
      service_names: {{ checkout: shop/checkout }}
    gitlab: {{ preset: gitlab, secret: {secret}, services: [checkout] }}
    vercel: {{ preset: vercel, secret: {secret}, services: [front-door] }}
    grafana: {{ preset: grafana, credential: {{ token: {{ header: x-grafana, token: {secret} }} }}, services: [checkout] }}
"
    ))?;
    daemon.launch(None)?;
    daemon.ready().await?;
    Ok(daemon)
}

/// A sample with other values at some places.
fn with(sample: &str, changes: &[(&str, Value)]) -> Result<String> {
    let mut body: Value = serde_json::from_str(sample)?;
    for (pointer, value) in changes {
        let place = body.pointer_mut(pointer);
        *place.ok_or_else(|| anyhow::anyhow!("the sample has no {pointer}"))? = value.clone();
    }
    Ok(body.to_string())
}

fn sha256(body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length is a key");
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

fn sha1(body: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).expect("any length is a key");
    mac.update(body.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

async fn send(daemon: &Daemon, hook: &str, headers: &[(&str, &str)], body: &str) -> Result<(u16, Value)> {
    let mut request = daemon.client().post(daemon.url(&format!("/v1/hooks/{hook}"))).body(body.to_owned());
    request = request.header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

async fn github(daemon: &Daemon, delivery: &str, signature: &str, body: &str) -> Result<(u16, Value)> {
    let headers = [
        ("x-github-event", "deployment_status"),
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", signature),
    ];
    send(daemon, "github", &headers, body).await
}

fn github_body() -> Result<String> {
    let now = json!(jiff::Timestamp::now().to_string());
    with(sample!("github-deployment_status"), &[("/deployment_status/created_at", now)])
}

#[tokio::test]
async fn a_deployment_of_github_opens_a_watch_once_and_nobody_else_can_say_it() -> Result<()> {
    let daemon = daemon().await?;
    let body = github_body()?;
    let signature = sha256(&body);
    let (status, answer) = github(&daemon, "d1", &signature, &body).await?;
    assert_eq!(status, 202, "{answer}");
    let watch = daemon.watch("shop/checkout").await?;
    assert_eq!(watch["version"], "f95f852bd8fca8fcc58a9a2d6c842781e32a215e", "{watch}");
    let first = &answer["results"][0]["recorded"]["sequence"];
    for delivery in ["d1", "replayed-under-another-name"] {
        let (status, again) = github(&daemon, delivery, &signature, &body).await?;
        assert_eq!((status, &again["results"][0]["duplicate"]["sequence"]), (202, first), "{again}");
    }
    let forged = body.replace("f95f852b", "00000000");
    for (signature, body) in
        [(&signature, &forged), (&"sha256=00".to_owned(), &body), (&String::new(), &body)]
    {
        let (status, answer) = github(&daemon, "d2", signature, body).await?;
        assert_eq!(status, 401, "{answer}");
    }
    let (status, unknown) = send(&daemon, "none-of-this-name", &[], &body).await?;
    let (_, unsigned) = send(&daemon, "github", &[], &body).await?;
    assert_eq!((status, &unknown), (401, &unsigned), "names cannot be tried out");
    let foreign = with(&body, &[("/repository/name", json!("bank")), ("/deployment_status/id", json!(7))])?;
    let (status, answer) = github(&daemon, "d3", &sha256(&foreign), &foreign).await?;
    assert_eq!(status, 403, "{answer}");
    assert!(daemon.log().contains("may not speak about the service"), "{}", daemon.log());
    let records = daemon.verified_records().await?;
    assert_eq!(records.iter().filter(|record| record.stream == "events").count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_hook_whose_secret_is_wrong_says_so_until_something_is_taken() -> Result<()> {
    let daemon = daemon().await?;
    let standing =
        async || -> Result<Value> { Ok(daemon.get("/readyz").await?["event_sources"]["github"].clone()) };
    let silent = standing().await?;
    assert!(silent["connected"].is_null() && silent["refused"] == 0, "{silent}");
    let body = github_body()?;
    for delivery in ["d1", "d2"] {
        assert_eq!(github(&daemon, delivery, &sha256("another body"), &body).await?.0, 401);
    }
    assert_eq!(send(&daemon, "nobody-has-this-name", &[], &body).await?.0, 401);
    let refused = standing().await?;
    assert_eq!(refused["refused"], 2, "{refused}");
    let words = refused["words"].to_string();
    assert!(words.contains("nothing was heard since the start; 2 requests were refused"), "{words}");
    assert!(words.contains("401: github: no signature matches"), "{words}");
    let ready = daemon.get("/readyz").await?;
    assert!(ready["event_sources"]["nobody-has-this-name"].is_null(), "{ready}");
    assert_eq!(daemon.get("/v1/fleet").await?["cut_off"], json!([]), "nobody knows whether it is cut off");
    assert_eq!(github(&daemon, "d3", &sha256(&body), &body).await?.0, 202);
    let good = standing().await?;
    assert!(good["refused"] == 0 && good["last_refusal"].is_null() && good["refused_in_all"] == 2, "{good}");
    Ok(())
}

#[tokio::test]
async fn a_large_group_of_alerts_comes_through_a_hook() -> Result<()> {
    let daemon = daemon().await?;
    let alert = |number: usize| {
        json!({
            "status": "firing", "startsAt": "2026-03-20T14:22:00Z", "fingerprint": format!("{number:016x}"),
            "labels": { "alertname": "HighErrors", "service": "checkout" },
            "annotations": { "description": "x".repeat(2_000) },
        })
    };
    let alerts: Vec<Value> = (0..300).map(alert).collect();
    let body = json!({ "version": "1", "alerts": alerts }).to_string();
    assert!(body.len() > 600 * 1024);
    let (status, answer) = send(&daemon, "grafana", &[("x-grafana", SECRET)], &body).await?;
    assert_eq!((status, answer["results"].as_array().map(Vec::len)), (202, Some(300)), "{answer}");
    let longer = " ".repeat(4 * 1024 * 1024);
    let (known, _) = send(&daemon, "grafana", &[], &longer).await?;
    let (unknown, _) = send(&daemon, "nobody-has-this-name", &[], &longer).await?;
    assert_eq!((known, unknown), (401, 401), "names cannot be tried out with long bodies");
    Ok(())
}

/// Begins a body of 4 MiB and sends all but its end. The connection must be kept.
async fn never_ending(daemon: &Daemon, hook: &str) -> Result<TcpStream> {
    const LENGTH: usize = 4 * 1024 * 1024;
    let url = reqwest::Url::parse(&daemon.url(&format!("/v1/hooks/{hook}")))?;
    let mut stream = TcpStream::connect(&*url.socket_addrs(|| None)?).await?;
    let head = format!("POST {} HTTP/1.1\r\nhost: agent\r\ncontent-length: {LENGTH}\r\n\r\n", url.path());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&vec![b' '; LENGTH - 1]).await?;
    Ok(stream)
}

#[tokio::test]
async fn strangers_with_long_bodies_do_not_silence_who_signs() -> Result<()> {
    let daemon = daemon().await?;
    let hooks = ["none-of-this-name", "github", "grafana", "none-of-this-name", "github"];
    let strangers = hooks.iter().map(|hook| never_ending(&daemon, hook));
    let strangers = futures_util::future::try_join_all(strangers).await?;
    let body = github_body()?;
    let (status, answer) = github(&daemon, "d1", &sha256(&body), &body).await?;
    assert_eq!(status, 202, "{answer}");
    for mut stranger in strangers {
        let mut line = [0; 12];
        stranger.read_exact(&mut line).await?;
        assert_eq!(&line, b"HTTP/1.1 401");
    }
    let metrics = daemon.client().get(daemon.url("/metrics")).send().await?.text().await?;
    assert!(metrics.contains("turnback_queue_overflows_total 0"), "{metrics}");
    // No hook that is signed reads groups of alerts: what shows a signature has no reason to be long.
    let longer = " ".repeat(300 * 1024);
    for hook in ["github", "grafana", "none-of-this-name"] {
        let (status, answer) = send(&daemon, hook, &[("x-hub-signature-256", "sha256=00")], &longer).await?;
        assert_eq!(status, 413, "{hook}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn a_replay_is_known_after_a_restart_too() -> Result<()> {
    let mut daemon = daemon().await?;
    let body = github_body()?;
    let signature = sha256(&body);
    assert_eq!(github(&daemon, "d1", &signature, &body).await?.0, 202);
    daemon.kill()?;
    daemon.launch(None)?;
    daemon.ready().await?;
    let (status, answer) = github(&daemon, "d9", &signature, &body).await?;
    assert_eq!(status, 202);
    assert!(!answer["results"][0]["duplicate"].is_null(), "{answer}");
    Ok(())
}

#[tokio::test]
async fn gitlab_with_its_token_and_vercel_with_sha1_open_watches_too() -> Result<()> {
    let daemon = daemon().await?;
    let now = jiff::Timestamp::now();
    let at = now.strftime("%Y-%m-%d %H:%M:%S +0000").to_string();
    let body = with(sample!("gitlab-deployment"), &[("/status_changed_at", json!(at))])?;
    let event = ("x-gitlab-event", "Deployment Hook");
    let (status, answer) = send(&daemon, "gitlab", &[event, ("x-gitlab-token", SECRET)], &body).await?;
    assert_eq!(status, 202, "{answer}");
    let watch = daemon.watch("checkout").await?;
    assert_eq!(watch["version"], "279484c09fbe69ededfced8c1bb6e6d24616b468", "{watch}");
    assert_eq!(watch["environment"], "staging", "{watch}");
    assert_eq!(send(&daemon, "gitlab", &[event, ("x-gitlab-token", "wrong")], &body).await?.0, 401);
    let body = with(sample!("vercel-succeeded"), &[("/createdAt", json!(now.as_millisecond()))])?;
    let (status, answer) = send(&daemon, "vercel", &[("x-vercel-signature", &sha1(&body))], &body).await?;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(
        daemon.watch("front-door").await?["version"],
        "dpl_5WJWYSyB7BpgTj3EuwF37WMRBXBtPQ2iTMJHJBJyRfd"
    );
    Ok(())
}

#[tokio::test]
async fn what_says_nothing_is_acknowledged_and_what_does_not_fit_is_explained() -> Result<()> {
    let daemon = daemon().await?;
    let ping = sample!("github-ping");
    let headers = [("x-github-event", "ping"), ("x-hub-signature-256", &sha256(ping))];
    let (status, answer) = send(&daemon, "github", &headers, ping).await?;
    assert_eq!((status, &answer["results"]), (202, &json!([])), "{answer}");
    assert!(answer["notes"].to_string().contains("nothing to record"), "{answer}");
    let broken = with(sample!("github-deployment_status"), &[("/deployment/sha", json!(7))])?;
    let (status, answer) = github(&daemon, "d", &sha256(&broken), &broken).await?;
    assert_eq!(status, 422, "{answer}");
    for words in ["hook `github`", "rule `deployed`", "`deployment.version`", "must give a text"] {
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(words)), "{words}: {answer}");
    }
    let ask = daemon.client().request(reqwest::Method::OPTIONS, daemon.url("/v1/hooks/github"));
    let answer = ask.header("WebHook-Request-Origin", "eventgrid.example").send().await?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["webhook-allowed-origin"], "eventgrid.example");
    Ok(())
}

#[tokio::test]
async fn a_mapping_that_does_not_compile_is_found_before_anything_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("turnback.yaml");
    let hook =
        "{ credential: { nobody: {} }, services: [a], mapping: [{ name: x, when: bdy.a == 1, nothing: y }] }";
    std::fs::write(&file, format!("version: 1\nevents:\n  hooks:\n    ours: {hook}\n"))?;
    let output = Command::new(binaries::path("turnback-under-test")?)
        .arg("check")
        .arg("--config")
        .arg(&file)
        .output()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{text}");
    for words in ["turnback.yaml:4", "events.hooks.ours.mapping.0.when", "there is no variable `bdy`"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    Ok(())
}
