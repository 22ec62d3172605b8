//! The deployed service: answers `GET /work` well or badly, as its arguments say, and counts it in `/metrics`.
//!
//! Errors are drawn from a hash of the seed and the request's number: independent like those of a real service, yet
//! the same in each run. The metrics are written by hand in the text format, the way a service in any language does.

use std::fmt::Write as _;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use clap::Parser;
use jiff::Timestamp;
use tests::journal::{self, Effect};

/// Upper bounds in seconds, those that Prometheus' client libraries start out with.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

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
    service.in_flight.fetch_add(1, Relaxed);
    tokio::time::sleep(Duration::from_millis(service.arguments.latency_ms)).await;
    let number = service.requests.fetch_add(1, Relaxed);
    let fails = draw(service.arguments.seed, number) < service.arguments.error_rate;
    if fails { &service.bad } else { &service.good }.fetch_add(1, Relaxed);
    service.observe(began.elapsed().as_secs_f64());
    service.in_flight.fetch_sub(1, Relaxed);
    if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
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
        writeln!(out, "# HELP http_requests_total Answers, by status code.")?;
        writeln!(out, "# TYPE http_requests_total counter")?;
        for (code, count) in [("200", &self.good), ("500", &self.bad)] {
            let count = count.load(Relaxed);
            writeln!(out, "http_requests_total{{code=\"{code}\",version=\"{version}\"}} {count}")?;
        }
        writeln!(out, "# HELP http_request_duration_seconds How long answers took.")?;
        writeln!(out, "# TYPE http_request_duration_seconds histogram")?;
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let bounds = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(durations.counts) {
            total += count;
            let labels = format!("version=\"{version}\",le=\"{bound}\"");
            writeln!(out, "http_request_duration_seconds_bucket{{{labels}}} {total}")?;
        }
        let sum = durations.sum_seconds;
        writeln!(out, "http_request_duration_seconds_sum{{version=\"{version}\"}} {sum}")?;
        writeln!(out, "http_request_duration_seconds_count{{version=\"{version}\"}} {total}")?;
        writeln!(out, "# HELP queue_depth Requests that wait for their answer.")?;
        writeln!(out, "# TYPE queue_depth gauge")?;
        writeln!(out, "queue_depth{{version=\"{version}\"}} {}", self.in_flight.load(Relaxed))
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
