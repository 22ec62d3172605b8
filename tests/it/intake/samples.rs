//! Metric samples over real brokers: a bad release is decided from counters over Kafka and from histograms over NATS, an agent
//! that was killed has its past again, and garbage, and brokers that stand still, make nobody turn back.

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tests::daemon::Daemon;
use tests::kafka::Kafka;
use tests::nats::Nats;
use tests::wait;
use tokio::task::JoinHandle;

use super::SOON;

/// The past that a broker has when the agent starts.
const PAST_SECONDS: i64 = 60;
/// How often the service tells.
const EVERY: Duration = Duration::from_millis(250);
/// Requests in that time.
const REQUESTS: u64 = 25;
const TOPIC: &str = "measured";

/// Counters by mapping: not our form, and a time in milliseconds.
const COUNTERS: &str = "form: json, mapping: [{ name: http_requests_total, when: body.kind == 'requests', \
    for_each: body.codes, labels: { code: item.code, pod: body.pod }, at: unix_ms(body.ms), value: item.total }]";

fn config(stream: &str, signal: &str, row: &str) -> String {
    format!(
        r#"
signals:
  pushed:
    main:
      settle: 300ms
      {stream}
matrices:
  bench:
    rows:
    - {{ name: bad, when: {{ signal: {row} }}, severity: P1, verdict: rollback, act_within: 15m }}
services:
  shop:
    matrix: bench
    autonomy: {{ level: observe }}
    signals:
      measured: {{ source: main, measure: {signal} }}
    watch: {{ look_every: 10s, warm_up: 0s, watch_for: 10m, soak: 5m, baseline_span: 30s, baseline_gap: 1s, baseline_window: 1s,
      seasonal_days: 0, blind_after: 10s, max_sample_age: 3s }}
"#
    )
}

const ERRORS: &str = r#"{ proportion: { of: http_requests_total, bad: { code: "5.." } } }"#;
const ERRORS_ROW: &str = "{ name: measured, is: { above: 5% } }";
const LATENCY: &str = "{ latency: { buckets: http_request_duration_seconds_bucket, quantile: 0.95 } }";
const LATENCY_ROW: &str = "{ name: measured, is: { above: 400ms } }";

/// What `/readyz` says of the source and of its stream.
async fn health(daemon: &Daemon, kind: &str) -> Result<(Value, Value)> {
    let ready = daemon.get("/readyz").await?;
    let standing = ready["event_sources"][format!("samples.main.{kind}")].clone();
    Ok((ready["sources"]["main"].clone(), standing))
}

async fn until(
    daemon: &Daemon,
    kind: &str,
    what: &str,
    good: impl Fn(&Value, &Value) -> bool,
) -> Result<(Value, Value)> {
    let mut last = (Value::Null, Value::Null);
    let waited = wait::until(what, SOON, async || {
        last = health(daemon, kind).await?;
        Ok(good(&last.0, &last.1).then(|| last.clone()))
    })
    .await;
    waited.with_context(|| format!("{last:?}\n{}", daemon.log()))
}

async fn count(daemon: &Daemon, kind: &str) -> Result<usize> {
    Ok(daemon.verified_records().await?.iter().filter(|record| record.kind == kind).count())
}

async fn until_decided(daemon: &Daemon) -> Result<()> {
    let waited = wait::until("the bad release to be decided", SOON, async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok((count(daemon, "incident_opened").await? == 1).then_some(()))
    })
    .await;
    match waited {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(daemon.story("shop").await)),
    }
}

fn ticks() -> (i64, Vec<i64>) {
    let now = Timestamp::now().as_millisecond();
    let step = i64::try_from(EVERY.as_millis()).unwrap_or(250);
    (now, (0..PAST_SECONDS * 1_000 / step).rev().map(|tick| now - (tick + 1) * step).collect())
}

/// A service that tells of itself: what it said in the past, and what it says.
#[derive(Debug, Default)]
struct Shop {
    good: u64,
    bad: u64,
    number: u64,
}

impl Shop {
    /// Counters as they stand.
    fn counters(&mut self, ms: i64, is_bad: bool) -> String {
        self.number += 1;
        let bad = if is_bad { REQUESTS / 3 } else { u64::from(self.number.is_multiple_of(8)) };
        (self.bad, self.good) = (self.bad + bad, self.good + REQUESTS - bad);
        let codes = json!([{ "code": 200, "total": self.good }, { "code": "503", "total": self.bad }]);
        json!({ "kind": "requests", "pod": "a", "ms": ms, "codes": codes }).to_string()
    }

    /// By how much the histogram grew, in our own form.
    fn durations(&mut self, ms: i64, is_bad: bool) -> Result<String> {
        let counts = if is_bad { [2, 3, 10, 10] } else { [10, 14, 1, 0] };
        let histogram = json!({ "bounds": [0.1, 0.3, 1.0], "counts": counts, "sum": 4.5 });
        let at = Timestamp::from_millisecond(ms)?;
        Ok(json!({ "name": "http_request_duration_seconds", "labels": { "pod": "a" }, "at": at, "histogram": histogram })
            .to_string())
    }
}

/// A service that goes on telling until it is dropped.
struct Telling {
    is_bad: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Telling {
    async fn kafka(broker: &Kafka) -> Result<Telling> {
        broker.topic(TOPIC, 2).await?;
        let mut shop = Shop::default();
        let past: Vec<(String, Vec<u8>)> =
            ticks().1.into_iter().map(|ms| ("a".into(), shop.counters(ms, false).into_bytes())).collect();
        broker.send(TOPIC, &past).await?;
        let (producer, is_bad) = (broker.producer()?, Arc::new(AtomicBool::new(false)));
        let bad = Arc::clone(&is_bad);
        let task = tokio::spawn(async move {
            loop {
                let body = shop.counters(Timestamp::now().as_millisecond(), bad.load(Relaxed));
                let record = rdkafka::producer::FutureRecord::to(TOPIC).key("a").payload(&body);
                producer.send(record, SOON).await.map_err(|(error, _)| error)?;
                tokio::time::sleep(EVERY).await;
            }
        });
        Ok(Telling { is_bad, task })
    }

    async fn nats(server: &Nats) -> Result<Telling> {
        server.stream("METRICS", &["metrics.>"]).await?;
        let context = jetstream::new(server.connect().await?);
        let mut shop = Shop::default();
        // Each is synced to disk before it is acknowledged: the server syncs many of them at once, if it has them.
        for part in ticks().1.chunks(50) {
            let mut acks = Vec::new();
            for ms in part {
                acks.push(context.publish("metrics.shop", shop.durations(*ms, false)?.into()).await?);
            }
            for ack in acks {
                ack.await?;
            }
        }
        let is_bad = Arc::new(AtomicBool::new(false));
        let bad = Arc::clone(&is_bad);
        let task = tokio::spawn(async move {
            loop {
                let body = shop.durations(Timestamp::now().as_millisecond(), bad.load(Relaxed))?;
                context.publish("metrics.shop", body.into()).await?.await?;
                tokio::time::sleep(EVERY).await;
            }
        });
        Ok(Telling { is_bad, task })
    }
}

fn kafka_stream(address: &str) -> String {
    format!("kafka: {{ connection: {{ brokers: [\"{address}\"] }}, topics: [{TOPIC}], {COUNTERS} }}")
}

fn nats_stream(url: &str) -> String {
    format!("nats: {{ connection: {{ servers: [\"{url}\"] }}, stream: METRICS, subjects: [\"metrics.>\"] }}")
}

/// The number of samples that the past alone holds.
const PAST_SAMPLES: u64 = 2 * 4 * PAST_SECONDS as u64;

fn has_past(source: &Value, standing: &Value) -> bool {
    let kept = source["pushed"]["samples"]["kept"].as_u64();
    standing["connected"] == true && kept.is_some_and(|kept| kept >= PAST_SAMPLES)
}

/// The release goes bad; it is decided, once, also over a `kill -9` of the agent, which then has its past again.
async fn goes_bad(daemon: &mut Daemon, telling: &Telling, kind: &str) -> Result<()> {
    let (source, _) = until(daemon, kind, "the past", has_past).await?;
    ensure!(source["pushed"]["samples"]["disorder"] == 0 && source["pushed"]["unreadable"] == 0, "{source}");
    daemon.deployed("shop", "v1", None).await?;
    daemon.deployed("shop", "v2", Some("v1")).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(count(daemon, "incident_opened").await? == 0, "{}", daemon.story("shop").await);
    telling.is_bad.store(true, Relaxed);
    let begin = std::time::Instant::now();
    until_decided(daemon).await?;
    println!("{kind}: decided {:.1?} after it went bad", begin.elapsed());
    let kept = |source: &Value| source["pushed"]["samples"]["kept"].as_u64();
    let before = kept(&health(daemon, kind).await?.0);
    daemon.kill()?;
    daemon.launch(None)?;
    daemon.ready().await?;
    let all_again = |source: &Value, standing: &Value| has_past(source, standing) && kept(source) >= before;
    let (source, standing) = until(daemon, kind, "the past after the kill", all_again).await?;
    println!("{kind}: {standing}\n{}", source["pushed"]);
    ensure!(source["pushed"]["samples"]["too_old"] == 0, "{source}");
    ensure!(count(daemon, "incident_opened").await? == 1, "decided anew: {}", daemon.story("shop").await);
    ensure!(!telling.task.is_finished(), "the service went on telling");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_over_kafka_make_a_bad_release_be_decided() -> Result<()> {
    let broker = Kafka::start().await?;
    let telling = Telling::kafka(&broker).await?;
    let mut daemon = Daemon::start(&config(&kafka_stream(&broker.address()), ERRORS, ERRORS_ROW)).await?;
    goes_bad(&mut daemon, &telling, "kafka").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histograms_over_nats_make_a_slow_release_be_decided() -> Result<()> {
    let server = Nats::start().await?;
    let telling = Telling::nats(&server).await?;
    let mut daemon = Daemon::start(&config(&nats_stream(&server.url()), LATENCY, LATENCY_ROW)).await?;
    goes_bad(&mut daemon, &telling, "nats").await
}

/// Nobody turned back, and it is said why nothing is known.
async fn is_blind_and_quiet(daemon: &Daemon, kind: &str) -> Result<()> {
    let (source, standing) = until(daemon, kind, "the silence to be noticed", |source, standing| {
        source["pushed"]["silence"].is_string() && standing["connected"] == false
    })
    .await?;
    println!("{kind}: {}; {}", source["pushed"]["silence"], standing["last_error"]);
    ensure!(count(daemon, "incident_opened").await? == 0, "{}", daemon.story("shop").await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_a_kafka_that_stands_still_turn_nothing_back() -> Result<()> {
    let broker = Kafka::start().await?;
    let telling = Telling::kafka(&broker).await?;
    let daemon = Daemon::start(&config(&kafka_stream(&broker.address()), ERRORS, ERRORS_ROW)).await?;
    until(&daemon, "kafka", "the past", has_past).await?;
    daemon.deployed("shop", "v2", Some("v1")).await?;
    let nonsense = [
        "{",
        "",
        "\u{0}\u{1}",
        "[[]]",
        "{\"kind\":\"requests\"}",
        "{\"kind\":7}",
        "{\"kind\":\"requests\",\"codes\":7}",
    ];
    let garbage: Vec<(String, Vec<u8>)> =
        nonsense.iter().map(|text| ((*text).to_owned(), text.as_bytes().to_vec())).collect();
    broker.send(TOPIC, &garbage).await?;
    let counted = |source: &Value, _: &Value| source["pushed"]["unreadable"] == 7;
    let (source, _) = until(&daemon, "kafka", "the garbage to be counted", counted).await?;
    ensure!(source["last_error"]["reason"].as_str().is_some_and(|why| why.contains("measured/")), "{source}");

    broker.signal(Signal::SIGSTOP)?;
    is_blind_and_quiet(&daemon, "kafka").await?;
    broker.signal(Signal::SIGCONT)?;
    let back = |source: &Value, standing: &Value| {
        standing["connected"] == true && standing["lag"] == 0 && source["pushed"]["silence"].is_null()
    };
    let (source, _) = until(&daemon, "kafka", "the return", back).await?;
    ensure!(source["pushed"]["unreadable"] == 7, "nothing came twice: {source}");
    ensure!(count(&daemon, "incident_opened").await? == 0, "{}", daemon.story("shop").await);
    drop(telling);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_a_nats_that_stands_still_turn_nothing_back() -> Result<()> {
    let server = Nats::start().await?;
    let telling = Telling::nats(&server).await?;
    let daemon = Daemon::start(&config(&nats_stream(&server.url()), LATENCY, LATENCY_ROW)).await?;
    until(&daemon, "nats", "the past", has_past).await?;
    daemon.deployed("shop", "v2", Some("v1")).await?;
    let client = server.connect().await?;
    for text in ["{", "", "{\"name\":\"n\"}", "{\"name\":\"n\",\"value\":1,\"more\":2}"] {
        client.publish("metrics.garbage", text.into()).await?;
    }
    client.flush().await?;
    let counted = |source: &Value, _: &Value| source["pushed"]["unreadable"] == 4;
    let (source, _) = until(&daemon, "nats", "the garbage to be counted", counted).await?;
    ensure!(source["last_error"]["reason"].as_str().is_some_and(|why| why.contains("METRICS/")), "{source}");

    server.signal(Signal::SIGSTOP)?;
    is_blind_and_quiet(&daemon, "nats").await?;
    server.signal(Signal::SIGCONT)?;
    let back = |source: &Value, standing: &Value| {
        standing["connected"] == true && standing["lag"] == 0 && source["pushed"]["silence"].is_null()
    };
    let (source, _) = until(&daemon, "nats", "the return", back).await?;
    ensure!(source["pushed"]["unreadable"] == 4, "nothing came twice: {source}");
    ensure!(count(&daemon, "incident_opened").await? == 0, "{}", daemon.story("shop").await);
    drop(telling);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_new_is_found_and_the_others_are_not_heard_again() -> Result<()> {
    let broker = Kafka::start().await?;
    broker.topic(TOPIC, 1).await?;
    // A producer that was there before learns of new partitions minutes later.
    let tell = async |partition: i32, value: u64| -> Result<()> {
        let body = json!({ "kind": "requests", "pod": partition.to_string(), "ms": Timestamp::now().as_millisecond(),
            "codes": [{ "code": 200, "total": value }] })
        .to_string();
        let record = rdkafka::producer::FutureRecord::to(TOPIC).partition(partition).key("a").payload(&body);
        broker.producer()?.send(record, SOON).await.map(drop).map_err(|(error, _)| error.into())
    };
    let daemon = Daemon::start(&config(&kafka_stream(&broker.address()), ERRORS, ERRORS_ROW)).await?;
    tell(0, 1).await?;
    let kept = |source: &Value| source["pushed"]["samples"]["kept"].as_u64();
    until(&daemon, "kafka", "the first partition", |source, _| kept(source) == Some(1)).await?;
    broker.grow(TOPIC, 2).await?;
    tell(1, 1).await?;
    wait::until("the new partition to be found", 2 * SOON, async || {
        let (source, standing) = health(&daemon, "kafka").await?;
        Ok((kept(&source) == Some(2) && standing["connected"] == true).then_some(()))
    })
    .await
    .with_context(|| daemon.log())?;
    tell(0, 2).await?;
    let (source, _) =
        until(&daemon, "kafka", "the first partition again", |source, _| kept(source) == Some(3)).await?;
    let samples = &source["pushed"]["samples"];
    ensure!(samples["known"] == 0 && samples["disorder"] == 0, "heard twice: {samples}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn core_nats_is_heard_from_now_on() -> Result<()> {
    let server = Nats::start().await?;
    let stream =
        format!("nats: {{ connection: {{ servers: [\"{}\"] }}, subjects: [\"metrics.>\"] }}", server.url());
    let daemon = Daemon::start(&config(&stream, LATENCY, LATENCY_ROW)).await?;
    until(&daemon, "nats", "the subscription", |_, standing| standing["connected"] == true).await?;
    let client = server.connect().await?;
    for value in 0..5 {
        client
            .publish("metrics.queue", json!({ "name": "queue", "value": value }).to_string().into())
            .await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.flush().await?;
    let kept = |source: &Value, standing: &Value| {
        source["pushed"]["samples"]["kept"] == 5 && standing["recorded"] == 5
    };
    until(&daemon, "nats", "five samples", kept).await?;
    Ok(())
}
