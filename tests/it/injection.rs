//! Five hundred hostile texts through every field of every event, against a real daemon: whatever is acknowledged reaches
//! programs, addresses, databases, caches and people as data, or not at all.
//!
//! First every field of every format gets every text: the daemon answers each with yes or with a reason, and goes on. Then
//! what is acknowledged as a version, an environment or a service is turned back for real, through a runbook with a step of
//! each family that takes it in, and what arrived is read where it arrived.

#[path = "../../rules/src/preset/tests/payloads.rs"]
mod payloads;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt as _;
use payloads::payloads;
use reqwest::StatusCode;
use rules::ids::{EnvironmentName, ServiceName, Version};
use serde_json::{Value, json};
use tests::daemon::{Daemon, TOKEN};
use tests::postgres::PostgresServer;
use tests::redis::RedisServer;
use tests::vendors::{Answer, Vendors};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(60);
/// Requests on their way at once.
const AT_ONCE: usize = 16;

/// The events, each with every field that it has, and where they are sent.
fn events() -> Vec<(&'static str, Value)> {
    let deployment = json!({
        "service": "crowd", "environment": "production", "version": "v2", "previous": "v1", "kind": "deployed",
        "id": "run-1", "at": "2026-03-20T12:00:00Z", "sequence": 1, "changes": ["code"], "security_fix": false
    });
    let report = json!({
        "service": "crowd", "environment": "production", "report": "smoke_test_failed", "state": "firing",
        "summary": "login is broken", "id": "test-1", "at": "2026-03-20T12:00:00Z"
    });
    let cdevent = json!({
        "context": {"version": "0.4.1", "id": "271069a8", "chainId": "4c8cb7dd", "source": "/event/source/123",
            "type": "dev.cdevents.service.deployed.0.2.0", "timestamp": "2026-03-20T14:27:05Z"},
        "subject": {"id": "mySubject123", "source": "/event/source/123", "type": "service",
            "content": {"environment": {"id": "test123"}, "artifactId": "pkg:oci/myapp@sha256%3A0b31"}},
        "customData": {"service": "crowd"}, "customDataContentType": "application/json"
    });
    let cloudevent = json!({
        "specversion": "1.0", "id": "e-1", "source": "/ci", "type": "dev.turnback.deployment", "subject": "crowd",
        "time": "2026-03-20T12:00:00Z", "datacontenttype": "application/json", "data": deployment
    });
    let alerts = json!({
        "version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "rollback",
        "groupLabels": {"alertname": "HighErrors"}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://am:9093",
        "alerts": [{"status": "firing", "startsAt": "2026-03-20T14:20:00Z", "endsAt": "0001-01-01T00:00:00Z",
            "labels": {"alertname": "HighErrors", "service": "crowd", "env": "production", "severity": "page"},
            "annotations": {"summary": "20% errors", "description": "too many"}, "generatorURL": "http://prom",
            "fingerprint": "c7f1a9e3b2d40516"}]
    });
    vec![
        ("/v1/events", deployment),
        ("/v1/events", report),
        ("/v1/events", cdevent),
        ("/v1/events", cloudevent),
        ("/v1/alerts", alerts),
    ]
}

/// The paths of all texts, numbers and switches in a value.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| leaves(value, &format!("{path}/{at}"), found));
        }
        _ => found.push(path.to_owned()),
    }
}

struct World {
    daemon: Daemon,
    postgres: PostgresServer,
    redis: RedisServer,
    vendors: Vendors,
    /// Where the program writes its arguments down, each ended by a zero byte, each call by two.
    arguments: PathBuf,
}

impl World {
    async fn open(services: &[ServiceName], environments: &[EnvironmentName]) -> Result<World> {
        let (postgres, redis) = (PostgresServer::start().await?, RedisServer::start(&[]).await?);
        postgres.run("shop", "CREATE TABLE turned (service text, place text, bad text, good text)").await?;
        let vendors = Vendors::start().await?;
        vendors.answers("hook", "POST", "/*", Answer::json(200, &json!({"ok": true})));
        vendors.answers("pager", "POST", "/*", Answer::empty(200));
        let mut daemon = Daemon::prepare("")?;
        let arguments = daemon.folder().join("arguments");
        std::fs::write(&arguments, "")?;
        daemon.reconfigure(&config(&vendors, &arguments.display().to_string(), services, environments))?;
        let secrets = [("SHOP_DATABASE", postgres.url("shop")), ("SHOP_REDIS", redis.url())];
        daemon.set_environment(&secrets);
        daemon.launch(None)?;
        daemon.ready().await?;
        Ok(World { daemon, postgres, redis, vendors, arguments })
    }

    /// The arguments of each call, as the program had them.
    fn calls(&self) -> Result<Vec<Vec<String>>> {
        let text = std::fs::read_to_string(&self.arguments)?;
        let calls = text.split("\0\0").filter(|call| !call.is_empty());
        Ok(calls.map(|call| call.split('\0').map(str::to_owned).collect()).collect())
    }

    async fn tell(&self, path: &str, body: &Value) -> Result<(StatusCode, String)> {
        let request = self.daemon.client().post(self.daemon.url(path)).bearer_auth(TOKEN).json(body);
        let answer = request.send().await.with_context(|| format!("telling {body}"))?;
        Ok((answer.status(), answer.text().await?))
    }

    /// Tells of a deployment and turns it back by a person's word; what each target got.
    async fn turn_back(&self, case: &Case) -> Result<()> {
        let Case { service, environment, bad, good } = case;
        let before = self.calls()?.len();
        let news = json!({ "service": service, "environment": environment, "version": bad, "previous": good,
            "id": format!("{before}") });
        let (status, answer) = self.tell("/v1/events", &news).await?;
        ensure!(status == StatusCode::ACCEPTED, "{case:?}: {status}: {answer}");
        let wish = json!({ "service": service, "environment": environment, "to": good });
        let (status, answer) = self.tell("/v1/rollbacks", &wish).await?;
        ensure!(status == StatusCode::OK, "{case:?}: {status}: {answer}");
        wait::until("the last step", PATIENCE, async || {
            let key = format!("turned:{}", bad);
            let done: Option<String> =
                ::redis::cmd("GET").arg(&key).query_async(&mut self.redis.connect().await?).await?;
            Ok((done.as_deref() == Some(good.as_str()) && self.calls()?.len() == before + 1).then_some(()))
        })
        .await
        .with_context(|| format!("{case:?}\n{}", self.daemon.log()))
    }
}

/// One rollback, with a hostile text in one of its places.
#[derive(Debug, Clone, PartialEq)]
struct Case {
    service: String,
    environment: String,
    bad: String,
    good: String,
}

fn config(
    vendors: &Vendors,
    arguments: &str,
    services: &[ServiceName],
    environments: &[EnvironmentName],
) -> String {
    let places: Vec<String> = environments.iter().map(|place| json!(place).to_string()).collect();
    let places = places.join(", ");
    let services: String = services
        .iter()
        .map(|service| {
            format!(
                "  {}: {{ runbook: all, environments: [production, {places}], guards: {{ at_once: 1000 }} }}\n",
                json!(service)
            )
        })
        .collect();
    format!(
        r#"
notify:
  webhook:
    pager: {{ url: "{pager}/page" }}
runbooks:
  all:
    steps:
    - name: program
      class: keyed
      undo: not_needed
      action: {{ command: {{ argv: [/bin/sh, -c, 'printf "%s\0" "$@" >> "$OUT"; printf "\0" >> "$OUT"', sh,
        "{{{{service}}}}", "{{{{environment}}}}", "{{{{from.version}}}}", "--to={{{{to.version}}}}"], env: {{ OUT: "{arguments}" }} }} }}
    - name: request
      class: keyed
      undo: not_needed
      action:
        http:
          method: POST
          url: "{hook}/turn/{{{{service}}}}/{{{{from.version}}}}?to={{{{to.version}}}}&place={{{{environment}}}}"
          headers: {{ x-version: "{{{{to.version}}}}", content-type: application/json }}
          body: '{{"service": "{{{{service}}}}", "place": "{{{{environment}}}}", "bad": "{{{{from.version}}}}", "good": "{{{{to.version}}}}"}}'
          success: {{ status: [200] }}
    - name: statement
      class: lookup
      undo: not_needed
      action:
        sql:
          url: {{ env: SHOP_DATABASE }}
          operation:
            statement:
              statements:
              - {{ sql: 'INSERT INTO turned VALUES ($1, $2, $3, $4)', rows: 1,
                  parameters: ["{{{{service}}}}", "{{{{environment}}}}", "{{{{from.version}}}}", "{{{{to.version}}}}"] }}
    - name: key
      class: lookup
      undo: not_needed
      action: {{ redis: {{ url: {{ env: SHOP_REDIS }}, operation: {{ set: {{ key: "turned:{{{{from.version}}}}", value: "{{{{to.version}}}}" }} }} }} }}
services:
  told: {{ autonomy: {{ level: observe }} }}
{services}"#,
        pager = vendors.url("pager"),
        hook = vendors.url("hook"),
    )
}

/// Every text in every place that takes it.
fn cases() -> (Vec<Case>, Vec<ServiceName>, Vec<EnvironmentName>) {
    let case = |service: &str, environment: &str, bad: &str, good: &str| Case {
        service: service.into(),
        environment: environment.into(),
        bad: bad.into(),
        good: good.into(),
    };
    let (mut cases, mut services, mut environments) = (Vec::new(), Vec::new(), Vec::new());
    services.push(ServiceName::new("shop").expect("a plain word is a name"));
    for (number, text) in payloads().into_iter().enumerate() {
        if Version::new(text.as_str()).is_ok() {
            cases.push(case("shop", "production", &text, "good"));
            cases.push(case("shop", "production", &format!("bad-{number}"), &text));
        }
        if let Ok(service) = ServiceName::new(text.as_str()) {
            cases.push(case(&text, "production", &format!("service-{number}"), "good"));
            services.push(service);
        }
        if let Ok(environment) = EnvironmentName::new(text.as_str()) {
            cases.push(case("shop", &text, &format!("environment-{number}"), "good"));
            environments.push(environment);
        }
    }
    services.dedup();
    environments.dedup();
    (cases, services, environments)
}

/// Whether the daemon takes the case's names at all: what a name may hold is decided at the door.
async fn is_taken(world: &World, case: &Case) -> Result<bool> {
    let Case { service, environment, bad, good } = case;
    let news = json!({ "service": service, "environment": environment, "version": bad, "previous": good,
        "kind": "rolled_back", "id": "try" });
    let (status, answer) = world.tell("/v1/events", &news).await?;
    ensure!(status == StatusCode::ACCEPTED || status.is_client_error(), "{case:?}: {status}: {answer}");
    Ok(status == StatusCode::ACCEPTED)
}

#[tokio::test]
async fn what_is_taken_reaches_every_target_as_data() -> Result<()> {
    let (cases, services, environments) = cases();
    let world = World::open(&services, &environments).await?;
    let mut turned = Vec::new();
    for case in cases {
        if is_taken(&world, &case).await? {
            world.turn_back(&case).await?;
            turned.push(case);
        }
    }
    println!("{} of {} texts stand in a name; {} rollbacks", services.len(), payloads().len(), turned.len());
    ensure!(turned.len() > 20, "nothing was tried: {turned:?}");

    // Programs: as many arguments as the runbook has, each the text and no more, none an option.
    let calls = world.calls()?;
    let expected: Vec<Vec<String>> = turned
        .iter()
        .map(|case| {
            let good = format!("--to={}", case.good);
            vec![case.service.clone(), case.environment.clone(), case.bad.clone(), good]
        })
        .collect();
    assert_eq!(calls, expected);

    // Addresses: as many segments and parameters as the runbook has, each the text again when it is decoded.
    let asked: Vec<_> = world.vendors.asked().into_iter().filter(|asked| asked.vendor == "hook").collect();
    assert_eq!(asked.len(), turned.len());
    assert!(world.vendors.unexpected().is_empty(), "{:?}", world.vendors.unexpected());
    for (asked, case) in asked.iter().zip(&turned) {
        let url: reqwest::Url = format!("http://hook{}?{}", asked.path, asked.query).parse()?;
        let segments: Vec<String> = url.path_segments().into_iter().flatten().map(decoded).collect();
        assert_eq!(segments, ["turn".to_owned(), case.service.clone(), case.bad.clone()], "{asked:?}");
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let wanted = [("to".to_owned(), case.good.clone()), ("place".to_owned(), case.environment.clone())];
        assert_eq!(pairs, wanted, "{asked:?}");
        assert_eq!(asked.headers["x-version"], case.good);
        let body =
            json!({ "service": case.service, "place": case.environment, "bad": case.bad, "good": case.good });
        assert_eq!(asked.json(), body);
    }

    // The database: one row for each, with the texts in it, and the table is still there.
    let rows = "SELECT json_agg(json_build_array(service, place, bad, good) ORDER BY ctid)::text FROM turned";
    let rows = world.postgres.value("shop", rows).await?.context("there are rows")?;
    let wanted: Vec<Value> =
        turned.iter().map(|case| json!([case.service, case.environment, case.bad, case.good])).collect();
    assert_eq!(serde_json::from_str::<Value>(&rows)?, Value::from(wanted));
    assert_inert_messages(&world)?;
    Ok(())
}

fn decoded(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = segment.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex.filter(|_| bytes[at] == b'%') {
            Some(byte) => (out.push(byte), at += 3).1,
            None => (out.push(bytes[at]), at += 1).1,
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What people were told: our own JSON, one line as a title, nothing that steers a terminal or turns the writing round.
fn assert_inert_messages(world: &World) -> Result<()> {
    let told: Vec<_> = world.vendors.asked().into_iter().filter(|asked| asked.vendor == "pager").collect();
    ensure!(!told.is_empty(), "nobody was told anything");
    for asked in told {
        let message = asked.json();
        let (title, text) = (message["title"].as_str(), message["text"].as_str());
        let (title, text) = (title.context("a title")?, text.context("a text")?);
        let steers = |c: char| {
            (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!title.contains('\n') && !title.contains(steers) && !text.contains(steers), "{message:#}");
    }
    Ok(())
}

#[tokio::test]
async fn every_field_of_every_event_takes_every_text_or_says_why_not() -> Result<()> {
    let world = World::open(&[], &[]).await?;
    let mut requests = Vec::new();
    for (path, event) in events() {
        let mut fields = Vec::new();
        leaves(&event, "", &mut fields);
        for field in fields {
            for text in payloads() {
                let mut hostile = event.clone();
                *hostile.pointer_mut(&field).context("a field")? = text.into();
                requests.push((path, field.clone(), hostile));
            }
        }
    }
    let all = requests.len();
    let mut answers = futures_util::stream::iter(&requests)
        .map(async |(path, field, body)| (field, body, world.tell(path, body).await))
        .buffer_unordered(AT_ONCE);
    let (mut taken, mut refused) = (0, 0);
    while let Some((field, body, answer)) = answers.next().await {
        let (status, text) = answer?;
        match status.as_u16() {
            200 | 202 => taken += 1,
            400 | 403 | 413 | 415 | 422 => refused += 1,
            other => anyhow::bail!("{field}: HTTP {other}: {text}: {body}"),
        }
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{field}: {text:?}");
    }
    drop(answers);
    println!("{all} requests: {taken} taken, {refused} refused");
    ensure!(taken > 1_000 && refused > 1_000, "{taken} taken, {refused} refused");
    // Whatever it took, it is well, and its ledger adds up.
    world.daemon.ready().await?;
    let records = world.daemon.verified_records().await?;
    ensure!(records.iter().all(|record| record.kind != "step_intended"), "something was done");
    Ok(())
}

#[tokio::test]
async fn what_somebody_reports_is_told_as_data() -> Result<()> {
    let world = World::open(&[], &[]).await?;
    world.daemon.deployed("told", "v2", Some("v1")).await?;
    for (number, text) in payloads().into_iter().enumerate() {
        let report = json!({ "service": "told", "report": "smoke_test_failed", "state": "firing", "summary": text, "id": format!("{number}") });
        let (status, answer) = world.tell("/v1/events", &report).await?;
        ensure!(status == StatusCode::ACCEPTED || status.is_client_error(), "{text:?}: {status}: {answer}");
    }
    let degraded = |watch: &Value| watch["verdict"] == "degraded (P1)";
    let watch = world.daemon.until_watch("told", "the reports to be heard", PATIENCE, degraded).await?;
    let id = watch["id"].as_str().context("an id")?;
    let detail = world.daemon.get(&format!("/v1/watches/{id}")).await?;
    let lines = detail["timeline"].as_array().context("a timeline")?;
    ensure!(lines.len() > 100, "{} lines", lines.len());
    let client = world.daemon.client();
    let draft = client
        .get(world.daemon.url(&format!("/v1/watches/{id}/postmortem")))
        .bearer_auth(TOKEN)
        .send()
        .await?;
    let draft = draft.text().await?;
    // Markdown that a browser renders: no tag, no link and no mention that was not ours.
    for part in ["<script>", "](http", "\u{202e}", "\u{1b}"] {
        assert!(!draft.contains(part), "{part:?} stands in the post-mortem");
    }
    wait::until("somebody to be told", PATIENCE, async || {
        Ok(world.vendors.asked().iter().any(|asked| asked.vendor == "pager").then_some(()))
    })
    .await?;
    assert_inert_messages(&world)
}
