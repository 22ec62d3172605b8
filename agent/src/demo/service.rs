//! The service of the demo: a small HTTP server whose badness is chosen on the command line.
//!
//! It is a process of its own, as a service in real life is: it can crash, be killed and be counted. It shows the metrics
//! that every HTTP library shows (`http_requests_total`, `http_request_duration_seconds`), and nothing in it knows the
//! agent.

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::fmt::Write as _;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// What the service is told on its command line.
#[derive(Debug, Clone, clap::Args)]
#[command(disable_version_flag = true)]
pub struct Arguments {
    /// The port on 127.0.0.1.
    #[arg(long)]
    pub port: u16,
    /// What it says it is.
    #[arg(long)]
    pub version: String,
    /// The share of requests to /work that are answered with 500, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub error_rate: f64,
    /// How long a request to /work takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub latency_ms: u64,
    /// Crashes after so many seconds; with 0 before it listens.
    #[arg(long)]
    pub crash_after_s: Option<f64>,
    /// Answers /metrics with 503 after so many seconds, and goes on working.
    #[arg(long)]
    pub metrics_fail_after_s: Option<f64>,
    /// Ends when its standard input is closed: when whoever started it is gone, however that came about.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// The exit code of a crash: EX_SOFTWARE.
const CRASHED: i32 = 70;

/// Upper bounds of the duration's buckets in seconds: the usual ones of Prometheus' client libraries.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What it counts. Both codes are there from the start with 0, as good exporters do, so that the first failure is an
/// increment and not a new series.
struct Service {
    arguments: Arguments,
    started: Instant,
    asked: AtomicU64,
    good: AtomicU64,
    bad: AtomicU64,
    /// Requests per bucket (not cumulative); the last is beyond all bounds.
    durations: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

/// Serves until it is killed, crashes as told, or its standard input closes.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        (0.0..=1.0).contains(&arguments.error_rate),
        "--error-rate is {}; expected a share from 0 to 1",
        arguments.error_rate
    );
    if arguments.until_stdin_closes {
        std::thread::spawn(end_with_parent);
    }
    if let Some(seconds) = arguments.crash_after_s {
        let after = Duration::try_from_secs_f64(seconds)
            .with_context(|| format!("--crash-after-s is {seconds}; expected seconds from 0 on"))?;
        if after.is_zero() {
            std::process::exit(CRASHED);
        }
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            std::process::exit(CRASHED);
        });
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await;
    let listener = listener.with_context(|| format!("cannot listen on 127.0.0.1:{}", arguments.port))?;
    let service = Arc::new(Service {
        arguments,
        started: Instant::now(),
        asked: AtomicU64::default(),
        good: AtomicU64::default(),
        bad: AtomicU64::default(),
        durations: Default::default(),
        nanoseconds: AtomicU64::default(),
    });
    let router = Router::new()
        .route("/work", get(work))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/version", get(|State(service): Handle| async move { service.arguments.version.clone() }))
        .route("/metrics", get(metrics))
        .with_state(service);
    axum::serve(listener, router).await.context("the service ended")
}

type Handle = State<Arc<Service>>;

/// The pipe trick: the kernel closes the pipe when the parent is gone, even after `kill -9`.
fn end_with_parent() {
    let mut nothing = [0; 64];
    loop {
        match std::io::stdin().read(&mut nothing) {
            Ok(0) | Err(_) => std::process::exit(0),
            Ok(_) => {}
        }
    }
}

async fn work(State(service): Handle) -> (StatusCode, &'static str) {
    let began = Instant::now();
    let number = service.asked.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(service.arguments.latency_ms)).await;
    let bad = share_of(number) < service.arguments.error_rate;
    service.count(bad, began.elapsed());
    if bad { (StatusCode::INTERNAL_SERVER_ERROR, "broken\n") } else { (StatusCode::OK, "done\n") }
}

async fn metrics(State(service): Handle) -> impl IntoResponse {
    let broken = service.arguments.metrics_fail_after_s;
    if broken.is_some_and(|after| service.started.elapsed().as_secs_f64() >= after) {
        return (StatusCode::SERVICE_UNAVAILABLE, "metrics are broken\n").into_response();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], service.text()).into_response()
}

/// A number from 0 to 1 that looks random and is the same in every run (SplitMix64): a demo shall show the same twice.
fn share_of(number: u64) -> f64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    // 53 bits are what a float holds exactly.
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

impl Service {
    fn count(&self, bad: bool, took: Duration) {
        let counter = if bad { &self.bad } else { &self.good };
        counter.fetch_add(1, Ordering::Relaxed);
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The Prometheus text format.
    fn text(&self) -> String {
        let version = &self.arguments.version;
        let mut text = String::from("# TYPE http_requests_total counter\n");
        for (code, counter) in [("200", &self.good), ("500", &self.bad)] {
            let count = counter.load(Ordering::Relaxed);
            // Writing into a `String` cannot fail, here and below.
            let _ = writeln!(text, "http_requests_total{{code=\"{code}\",version=\"{version}\"}} {count}");
        }
        text.push_str("# TYPE http_request_duration_seconds histogram\n");
        let mut sum = 0;
        for (place, counter) in self.durations.iter().enumerate() {
            sum += counter.load(Ordering::Relaxed);
            let bound = BUCKETS.get(place).map_or("+Inf".to_owned(), f64::to_string);
            let labels = format!("version=\"{version}\",le=\"{bound}\"");
            let _ = writeln!(text, "http_request_duration_seconds_bucket{{{labels}}} {sum}");
        }
        let seconds = self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        let _ = writeln!(text, "http_request_duration_seconds_sum{{version=\"{version}\"}} {seconds}");
        let _ = writeln!(text, "http_request_duration_seconds_count{{version=\"{version}\"}} {sum}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_errors_is_what_was_asked_for() {
        for rate in [0.005, 0.2] {
            let bad = (0..20_000).filter(|number| share_of(*number) < rate).count() as f64 / 20_000.0;
            assert!((bad - rate).abs() < 0.2 * rate, "{bad} instead of {rate}");
        }
    }
}
