//! How long from the first bad request until somebody knows: Alertmanager's webhook and Turnback side by side, on the same
//! services, the same Prometheus and the same scrapes.
//!
//! Several equal services break one after the other, at different moments between two scrapes, and each is one measurement of
//! every path. What is compared:
//! * **stock**: a rule as it stands in many repositories (five minutes, above 5 %, `for: 1m`), Alertmanager's default waits;
//! * **fast**: the fastest rule that is still sane (four scrapes, the least that `rate` should be given, above 5 %,
//!   `for: 0s`), no waits;
//! * **poll**: Turnback asking the same Prometheus, deciding by its own statistics with the same bound of 5 %;
//! * **push**: another Turnback, to which that Prometheus writes what it scrapes.
//!
//! A path's time ends where others learn of it: with the arrival of Alertmanager's webhook, and with the time of the record
//! by which Turnback opens the incident.

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tests::alertmanager::{Alertmanager, Route, alerting};
use tests::daemon::Daemon;
use tests::load::{Load, Target};
use tests::prometheus::{PrometheusServer, ScrapeJob, ScrapeTarget, Settings};
use tests::victim::{Release, Victim};
use tests::wait;

const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);
/// Requests a second and service.
const RATE: u32 = 200;
/// Measurements.
const SERVICES: usize = 5;
/// How bad it is while it is bad.
const ERRORS: f64 = 0.3;
/// The past that the baseline is taken from.
const PAST: Duration = Duration::from_secs(30);
/// From one service's fault to the next one's: no multiple of the scrape interval, so that each has another phase.
const APART: Duration = Duration::from_millis(2_370);
/// The slowest path takes a minute and a half by its settings.
const PATIENCE: Duration = Duration::from_secs(240);

/// What Prometheus shows when it writes.
const PUSH_TOKEN: &str = "a-token-for-those-who-push";

/// The paths in the order of the table; `seen` is the part of `poll` until Turnback holds the first sample with a bad answer in
/// it, which no judge can be faster than.
const PATHS: [&str; 5] = ["stock", "fast", "seen", "poll", "push"];

/// When somebody knew, by path and service.
type Known = BTreeMap<(&'static str, String), Timestamp>;

/// Webhooks as they arrive: the first of each alert and service.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<Known>>);

impl Arrivals {
    fn note(&self, path: &'static str, body: &Value) {
        let now = Timestamp::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for alert in body["alerts"].as_array().into_iter().flatten() {
            let meant = alert["labels"]["alertname"] == path && alert["status"] == "firing";
            if let Some(service) = alert["labels"]["service"].as_str().filter(|_| meant) {
                known.entry((path, service.to_owned())).or_insert(now);
            }
        }
    }

    fn all(&self) -> Known {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Listens for webhooks at `/stock` and `/fast`.
async fn listen(arrivals: Arrivals) -> Result<String> {
    let stock =
        async |State(arrivals): State<Arrivals>, body: axum::Json<Value>| arrivals.note("stock", &body);
    let fast = async |State(arrivals): State<Arrivals>, body: axum::Json<Value>| arrivals.note("fast", &body);
    let router = Router::new().route("/stock", post(stock)).route("/fast", post(fast)).with_state(arrivals);
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    // Ends with the runtime of the test.
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(format!("http://{address}"))
}

fn rules() -> Vec<Value> {
    let share = |window: &str| {
        let of = |bad: &str| format!("sum by (service) (rate(http_requests_total{bad}[{window}]))");
        format!("{} / {} > 0.05", of("{code=~\"5..\"}"), of(""))
    };
    let rule =
        |name: &str, window: &str, hold: &str| json!({ "alert": name, "expr": share(window), "for": hold });
    vec![json!({ "name": "errors", "rules": [rule("stock", "5m", "1m"), rule("fast", "4s", "0s")] })]
}

/// An agent that reads its services from one source, `main`. Their answers are independent of each other, and it is told so;
/// what it would learn of that by itself from half a minute is that it cannot know.
fn config(source: &str, services: &[String]) -> String {
    let mut text = format!(
        "
signals:
{source}
matrices:
  bench:
    rows:
    - {{ name: errors, when: {{ signal: {{ name: errors, is: {{ above: 5% }} }} }}, severity: P1, verdict: rollback, act_within: 15m }}
services:
"
    );
    for service in services {
        text += &format!(
            "  {service}:
    matrix: bench
    autonomy: {{ level: observe }}
    signals:
      errors:
        source: main
        measure: {{ proportion: {{ of: 'http_requests_total{{service=\"{service}\"}}', bad: {{ code: \"5..\" }} }} }}
    watch: {{ look_every: 100ms, watch_for: 30m, soak: 10m, baseline_span: 25s, baseline_gap: 1s, baseline_window: 1s, max_sample_age: 3s }}
    statistics: {{ dispersion: 1 }}
"
        );
    }
    text
}

/// The two agents: one asks Prometheus, one is told by it.
struct Judges {
    poll: Daemon,
    push: Daemon,
}

impl Judges {
    /// The one that is told must be there before the one who tells it. Of a scrape on this machine all samples come in one
    /// request, so that it need not wait for a second one.
    async fn told(services: &[String]) -> Result<Daemon> {
        let source = "  pushed: { main: { credential: { bearer: { env: PUSH_TOKEN } }, settle: 10ms } }";
        Daemon::start_with(&config(source, services), &[("PUSH_TOKEN", PUSH_TOKEN)]).await
    }

    /// The samples are there as soon as they are scraped: it is the same machine.
    async fn asking(prometheus: &str, services: &[String]) -> Result<Daemon> {
        let source = format!("  prometheus: {{ main: {{ url: \"{prometheus}\", settle: 0s }} }}");
        Daemon::start(&config(&source, services)).await
    }

    async fn decided(&self) -> Result<Known> {
        let mut known = decided(&self.poll, "poll").await?;
        known.extend(decided(&self.push, "push").await?);
        Ok(known)
    }
}

/// The key `remote_write` of a Prometheus that does not wait for more before it sends.
fn remote_write(to: &Daemon) -> (String, Value) {
    let queue = json!({ "batch_send_deadline": "10ms", "max_shards": 1 });
    let url = to.url("/v1/push/main/write");
    let write = json!({ "url": url, "authorization": { "credentials": PUSH_TOKEN }, "queue_config": queue });
    ("remote_write".to_owned(), json!([write]))
}

/// A service with its users.
struct Service {
    name: String,
    victim: Victim,
    load: Load,
    /// When its first bad answer was seen.
    broken: Option<Timestamp>,
}

impl Service {
    async fn start(index: usize) -> Result<Service> {
        let release = Release { seed: index as u64 + 1, ..Release::healthy("v2") };
        let victim = Victim::start(&release).await?;
        let load = Load::start(Target::new(victim.address()), RATE)?;
        Ok(Service { name: format!("shop-{index}"), victim, load, broken: None })
    }

    /// Breaks it, and waits for the first user who sees it.
    async fn break_it(&mut self) -> Result<()> {
        let before = self.load.answers().bad;
        self.victim.set_errors(ERRORS).await?;
        while self.load.answers().bad == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.broken = Some(Timestamp::now());
        Ok(())
    }
}

/// When Turnback opened an incident, by service, as this path.
async fn decided(daemon: &Daemon, path: &'static str) -> Result<Known> {
    let records = daemon.verified_records().await?;
    let mut services = BTreeMap::new();
    let mut known = Known::new();
    for record in records.iter().filter(|record| record.stream.starts_with("watch/")) {
        match record.kind.as_str() {
            "opened" => {
                let service = record.body.pointer("/opened/deployment/service");
                let service = service
                    .and_then(Value::as_str)
                    .with_context(|| format!("no service in {}", record.body))?;
                services.insert(record.stream.clone(), service.to_owned());
            }
            "incident_opened" => {
                let service = services.get(&record.stream).context("an incident of no watch")?.clone();
                known.entry((path, service)).or_insert(record.at);
            }
            "measured" if path == "poll" => {
                let service = services.get(&record.stream).context("a look of no watch")?.clone();
                let bad = record.body.pointer("/measured/measurements/0/observation").map_or(0.0, bad_share);
                // Three times what chance alone ever shows of a healthy service here.
                if bad > 0.08 {
                    known.entry(("seen", service)).or_insert(record.at);
                }
            }
            _ => {}
        }
    }
    Ok(known)
}

/// The share of bad answers in an observation.
fn bad_share(observation: &Value) -> f64 {
    let number =
        |name: &str| observation.pointer(&format!("/seen/reading/counts/{name}")).and_then(Value::as_f64);
    match (number("bad"), number("total")) {
        (Some(bad), Some(total)) if total > 0.0 => bad / total,
        _ => 0.0,
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

fn table(services: &[Service], known: &Known) -> (String, BTreeMap<&'static str, f64>) {
    let mut text = format!("{:<10}", "service");
    let mut columns: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for path in PATHS {
        text += &format!("{path:>14}");
    }
    for service in services {
        text += &format!("\n{:<10}", service.name);
        for path in PATHS {
            let found = service.broken.zip(known.get(&(path, service.name.clone())));
            match found.map(|(broken, at)| seconds(broken, *at)) {
                Some(time) => {
                    columns.entry(path).or_default().push(time);
                    text += &format!("{time:>12.2} s");
                }
                None => text += &format!("{:>14}", "-"),
            }
        }
    }
    let medians: BTreeMap<&'static str, f64> =
        columns.into_iter().filter_map(|(path, times)| Some((path, median(times)?))).collect();
    text += &format!("\n{:<10}", "median");
    for path in PATHS {
        text +=
            &medians.get(path).map_or(format!("{:>14}", "not measured"), |time| format!("{time:>12.2} s"));
    }
    (text, medians)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of three minutes: make bench-detect-path"]
async fn turnback_knows_first() -> Result<()> {
    let mut services = Vec::new();
    for index in 0..SERVICES {
        services.push(Service::start(index).await?);
    }
    let arrivals = Arrivals::default();
    let receiver = listen(arrivals.clone()).await?;
    let stock = Alertmanager::start(&Route::stock(&format!("{receiver}/stock"), json!({})), &[]).await?;
    let at_once = Route {
        group_wait: Duration::ZERO,
        group_interval: Duration::from_millis(100),
        ..Route::stock(&format!("{receiver}/fast"), json!({}))
    };
    let fast = Alertmanager::start(&at_once, &[]).await?;
    let target = |service: &Service| ScrapeTarget {
        address: service.victim.address().to_string(),
        labels: BTreeMap::from([("service".to_owned(), service.name.clone())]),
    };
    let job = ScrapeJob { name: "shop".into(), targets: services.iter().map(target).collect() };
    let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
    let push = Judges::told(&names).await?;
    let mut keys = alerting(&[&stock, &fast]);
    keys.extend([remote_write(&push)]);
    let settings = Settings { keys, rules: rules() };
    let prometheus = PrometheusServer::start_with(&[job], SCRAPE_INTERVAL, &settings).await?;
    prometheus.tells(2).await?;
    let judges = Judges { poll: Judges::asking(prometheus.url(), &names).await?, push };
    tokio::time::sleep(PAST).await;
    for name in &names {
        judges.poll.deployed(name, "v2", None).await?;
        judges.push.deployed(name, "v2", None).await?;
    }
    // Long enough for every watch to have its baseline.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let early = judges.decided().await?.into_keys().any(|(path, _)| path != "seen");
    ensure!(arrivals.all().is_empty() && !early, "somebody knew before it was so");
    for service in &mut services {
        service.break_it().await?;
        tokio::time::sleep(APART).await;
    }
    println!(
        "{SERVICES} services broken ({:.0} % of {RATE} requests a second), waiting for the slowest path",
        ERRORS * 100.0
    );
    let all = async || -> Result<Option<Known>> {
        let known: Known = [arrivals.all(), judges.decided().await?].into_iter().flatten().collect();
        let complete = ["stock", "fast", "poll", "push"]
            .iter()
            .all(|path| names.iter().all(|name| known.contains_key(&(*path, name.clone()))));
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(complete.then_some(known))
    };
    let known = match wait::until("every path to know of every service", PATIENCE, all).await {
        Ok(known) => known,
        Err(error) => {
            let known = [arrivals.all(), judges.decided().await?].into_iter().flatten().collect();
            return Err(error.context(table(&services, &known).0));
        }
    };
    let (text, medians) = table(&services, &known);
    println!("from the first bad answer until it is known, one scrape a second:\n{text}");
    let mut behind = Vec::new();
    for ours in ["poll", "push"] {
        for theirs in ["stock", "fast"] {
            let (mine, other) = (medians[ours], medians[theirs]);
            let sooner =
                |name: &&String| known.get(&(ours, (*name).clone())) < known.get(&(theirs, (*name).clone()));
            let first = names.iter().filter(sooner).count();
            println!(
                "{ours} against {theirs}: {mine:.2} s against {other:.2} s; first {first} times of {SERVICES}"
            );
            // Both wait for the same scrape and read it from the same server: who asks a tenth of a second sooner is chance.
            let a_draw =
                (ours, theirs) == ("poll", "fast") && mine < other + SCRAPE_INTERVAL.as_secs_f64() / 2.0;
            if mine >= other && !a_draw {
                behind.push(format!("{ours} against {theirs}: {mine:.2} s, {other:.2} s"));
            }
        }
    }
    ensure!(behind.is_empty(), "Turnback is not first: {}", behind.join("; "));
    Ok(())
}
