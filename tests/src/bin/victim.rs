//! The deployed service: answers `GET /work` well or badly, as its arguments say, and counts it in `/metrics`.
//!
//! Errors are drawn from a hash of the seed and the request's number: independent like those of a real service, yet
//! the same in each run. `POST /admin/errors?rate=0.05` and `POST /admin/latency?ms=20` make it worse or better while it
//! runs; the dice go on where they are. The metrics are written by hand in the text format, the way a service in any
//! language does.

use std::fmt::Write as _;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use clap::Parser;
use jiff::Timestamp;
use serde::Deserialize;
use tests::journal::{self, Effect};

/// Upper bounds in seconds, those that Prometheus' client libraries start out with.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The highest latency in milliseconds: nobody waits longer for an answer.
const LATENCY_LIMIT_MS: u64 = 60_000;

/// The highest spread: beyond it one request in a hundred takes a thousand times the median.
const SPREAD_LIMIT: f64 = 3.0;

/// Latencies stay within so many standard deviations of the median; one draw in 16,000 lies beyond. Without it a
/// single request could outlast the test.
const DEVIATIONS_LIMIT: f64 = 4.0;

/// A small HTTP service that can be told to be bad.
#[derive(Debug, Parser)]
struct Arguments {
    /// Port on 127.0.0.1; 0 lets the kernel choose.
    #[arg(long)]
    port: u16,
    /// The label `version` of its metrics.
    #[arg(long)]
    version: String,
    /// The share of requests answered 500, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    error_rate: f64,
    /// How long a request takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Spread latencies around `--latency-ms` as their median, log-normally: the standard deviation of their logarithm.
    /// With 0.5 the 95th percentile is 2.3 times the median.
    #[arg(long)]
    spread: Option<f64>,
    /// The label `pod` of its metrics; none if not given.
    #[arg(long)]
    pod: Option<String>,
    /// Which requests fail.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// An effects journal that gets a line at the start.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Where to write the address once it listens.
    #[arg(long)]
    address_file: Option<PathBuf>,
    /// End as soon as standard input does: whoever started this is gone then.
    #[arg(long)]
    until_stdin_closes: bool,
}

#[derive(Debug, Default)]
struct Durations {
    /// Requests per bucket, not added up; the last one is for all that took longer.
    counts: [u64; BUCKETS.len() + 1],
    sum_seconds: f64,
}

#[derive(Debug)]
struct Service {
    arguments: Arguments,
    /// The bits of the share of requests that fail: there is no atomic float.
    error_rate: AtomicU64,
    latency_ms: AtomicU64,
    requests: AtomicU64,
    good: AtomicU64,
    bad: AtomicU64,
    in_flight: AtomicI64,
    durations: Mutex<Durations>,
    metrics_served: AtomicBool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!((0.0..=1.0).contains(&arguments.error_rate), "--error-rate must lie between 0 and 1");
    ensure!(
        arguments.latency_ms <= LATENCY_LIMIT_MS,
        "--latency-ms must lie between 0 and {LATENCY_LIMIT_MS}"
    );
    ensure!(
        arguments.spread.is_none_or(|spread| (0.0..=SPREAD_LIMIT).contains(&spread)),
        "--spread must lie between 0 and {SPREAD_LIMIT}"
    );
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port))
        .await
        .with_context(|| format!("listening on port {} of 127.0.0.1", arguments.port))?;
    announce(&arguments, listener.local_addr().context("reading the own address")?)?;
    if arguments.until_stdin_closes {
        std::thread::spawn(|| {
            // An error is an end as well.
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(0);
        });
    }
    let service = Arc::new(Service {
        error_rate: AtomicU64::new(arguments.error_rate.to_bits()),
        latency_ms: AtomicU64::new(arguments.latency_ms),
        arguments,
        requests: AtomicU64::new(0),
        good: AtomicU64::new(0),
        bad: AtomicU64::new(0),
        in_flight: AtomicI64::new(0),
        durations: Mutex::default(),
        metrics_served: AtomicBool::new(true),
    });
    let router = Router::new()
        .route("/work", get(work))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/admin/errors", post(set_errors))
        .route("/admin/latency", post(set_latency))
        .route("/admin/metrics-off", post(|state: State<Arc<Service>>| serve_metrics(state, false)))
        .route("/admin/metrics-on", post(|state: State<Arc<Service>>| serve_metrics(state, true)))
        .with_state(service);
    axum::serve(listener, router).await.context("serving")
}

/// Tells the starter where we listen, and the journal that we were started.
fn announce(arguments: &Arguments, address: SocketAddr) -> Result<()> {
    if let Some(journal) = &arguments.journal {
        let effect = Effect {
            time: Timestamp::now(),
            plan: String::new(),
            step: String::new(),
            key: arguments.version.clone(),
            name: "service started".to_owned(),
            pid: std::process::id(),
        };
        journal::append(journal, &effect)?;
    }
    if let Some(file) = &arguments.address_file {
        write_whole(file, &address.to_string())?;
    }
    Ok(())
}

/// A reader sees nothing or all of it, never half.
fn write_whole(file: &Path, text: &str) -> Result<()> {
    let unfinished = file.with_extension("part");
    std::fs::write(&unfinished, text).with_context(|| format!("writing {}", unfinished.display()))?;
    std::fs::rename(&unfinished, file).with_context(|| format!("naming {}", file.display()))
}

async fn work(State(service): State<Arc<Service>>) -> StatusCode {
    let began = Instant::now();
    let number = service.requests.fetch_add(1, Relaxed);
    let waiting = Waiting::begin(&service.in_flight);
    tokio::time::sleep(service.latency(number)).await;
    let fails = draw(service.arguments.seed, number) < f64::from_bits(service.error_rate.load(Relaxed));
    if fails { &service.bad } else { &service.good }.fetch_add(1, Relaxed);
    service.observe(began.elapsed().as_secs_f64());
    drop(waiting);
    if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
}

/// A request that waits for its answer. It also ends when its user goes away, which drops the handler half way.
struct Waiting<'a>(&'a AtomicI64);

impl<'a> Waiting<'a> {
    fn begin(in_flight: &'a AtomicI64) -> Waiting<'a> {
        in_flight.fetch_add(1, Relaxed);
        Waiting(in_flight)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Errors {
    rate: f64,
}

async fn set_errors(State(service): State<Arc<Service>>, Query(wanted): Query<Errors>) -> impl IntoResponse {
    if !(0.0..=1.0).contains(&wanted.rate) {
        return (StatusCode::BAD_REQUEST, "rate must lie between 0 and 1\n".to_owned());
    }
    service.error_rate.store(wanted.rate.to_bits(), Relaxed);
    (StatusCode::OK, String::new())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    ms: u64,
}

async fn set_latency(
    State(service): State<Arc<Service>>,
    Query(wanted): Query<Latency>,
) -> impl IntoResponse {
    if wanted.ms > LATENCY_LIMIT_MS {
        return (StatusCode::BAD_REQUEST, format!("ms must lie between 0 and {LATENCY_LIMIT_MS}\n"));
    }
    service.latency_ms.store(wanted.ms, Relaxed);
    (StatusCode::OK, String::new())
}

async fn serve_metrics(State(service): State<Arc<Service>>, serve: bool) -> StatusCode {
    service.metrics_served.store(serve, Relaxed);
    StatusCode::NO_CONTENT
}

async fn metrics(State(service): State<Arc<Service>>) -> impl IntoResponse {
    if service.metrics_served.load(Relaxed) {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], service.exposition()).into_response()
    } else {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

impl Service {
    /// How long the request `number` takes.
    fn latency(&self, number: u64) -> Duration {
        let median = Duration::from_millis(self.latency_ms.load(Relaxed));
        match self.arguments.spread {
            // Another series of dice than that of the errors: slow requests fail no more often than others.
            Some(spread) => median.mul_f64((spread * draw_normal(!self.arguments.seed, number)).exp()),
            None => median,
        }
    }

    fn observe(&self, seconds: f64) {
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        durations.counts[bucket] += 1;
        durations.sum_seconds += seconds;
    }

    fn exposition(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_exposition(&mut text);
        text
    }

    fn write_exposition(&self, out: &mut String) -> std::fmt::Result {
        let version = &self.arguments.version;
        let pod = self.arguments.pod.as_ref().map(|pod| format!(",pod=\"{pod}\""));
        let labels = format!("version=\"{version}\"{}", pod.unwrap_or_default());
        writeln!(out, "# HELP http_requests_total Answers, by status code.")?;
        writeln!(out, "# TYPE http_requests_total counter")?;
        for (code, count) in [("200", &self.good), ("500", &self.bad)] {
            let count = count.load(Relaxed);
            writeln!(out, "http_requests_total{{code=\"{code}\",{labels}}} {count}")?;
        }
        writeln!(out, "# HELP http_request_duration_seconds How long answers took.")?;
        writeln!(out, "# TYPE http_request_duration_seconds histogram")?;
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let bounds = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(durations.counts) {
            total += count;
            writeln!(out, "http_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {total}")?;
        }
        let sum = durations.sum_seconds;
        writeln!(out, "http_request_duration_seconds_sum{{{labels}}} {sum}")?;
        writeln!(out, "http_request_duration_seconds_count{{{labels}}} {total}")?;
        writeln!(out, "# HELP queue_depth Requests that wait for their answer.")?;
        writeln!(out, "# TYPE queue_depth gauge")?;
        writeln!(out, "queue_depth{{{labels}}} {}", self.in_flight.load(Relaxed))
    }
}

/// A number in [0, 1) for request `number`: splitmix64, whose top 53 bits fill a float's mantissa.
fn draw(seed: u64, number: u64) -> f64 {
    let mut bits = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// A standard normal number for request `number` (Box and Muller), cut off at `DEVIATIONS_LIMIT`.
fn draw_normal(seed: u64, number: u64) -> f64 {
    let pair = number.wrapping_mul(2);
    // 1 - draw lies in (0, 1], where the logarithm is finite.
    let radius = (-2.0 * (1.0 - draw(seed, pair)).ln()).sqrt();
    let angle = std::f64::consts::TAU * draw(seed, pair.wrapping_add(1));
    (radius * angle.cos()).clamp(-DEVIATIONS_LIMIT, DEVIATIONS_LIMIT)
}
