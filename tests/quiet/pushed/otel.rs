//! A service that is instrumented with the OpenTelemetry SDK, which exports to the agent four times a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use serde_json::Value;
use tests::wait;

use super::machine::Machine;
use super::{GOES, PAST, PATIENCE, PUSH_TOKEN, daemon, decided_at_once, health};

const EXPORT_INTERVAL: Duration = Duration::from_millis(250);
/// The service answers one request in so long: 200 a second.
const PAUSE: Duration = Duration::from_millis(5);

/// A service with a thread of its own.
struct Service {
    /// One request in so many fails.
    fails_one_in: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Service {
    fn start(endpoint: String, temporality: Temporality) -> Self {
        let (fails_one_in, stop) = (Arc::new(AtomicU32::new(100)), Arc::new(AtomicBool::new(false)));
        let (rate, end) = (Arc::clone(&fails_one_in), Arc::clone(&stop));
        let thread = std::thread::spawn(move || serve(&endpoint, temporality, &rate, &end));
        Self { fails_one_in, stop, thread: Some(thread) }
    }

    /// Lets it end, with a last export.
    fn end(mut self) -> Result<()> {
        self.stop.store(true, Relaxed);
        let thread = self.thread.take().context("it runs")?;
        thread.join().map_err(|_| anyhow::anyhow!("the service panicked"))?
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

fn serve(endpoint: &str, temporality: Temporality, fails_one_in: &AtomicU32, end: &AtomicBool) -> Result<()> {
    // Once a process; an error means that somebody else was first.
    let _ = rustls_provider();
    let headers = HashMap::from([("authorization".to_owned(), format!("Bearer {PUSH_TOKEN}"))]);
    let exporter = MetricExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .with_headers(headers)
        .with_timeout(Duration::from_secs(3))
        .with_temporality(temporality)
        .build()
        .context("making the exporter")?;
    let reader = PeriodicReader::builder(exporter).with_interval(EXPORT_INTERVAL).build();
    let instance = KeyValue::new("service.instance.id", "shop-1");
    let resource = Resource::builder_empty().with_service_name("shop").with_attribute(instance).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
    let meter = provider.meter("shop");
    let requests = meter.u64_counter("http.requests").with_unit("{request}").build();
    let durations = meter.f64_histogram("http.duration").with_unit("s").build();
    let mut number = 0_u32;
    while !end.load(Relaxed) {
        number = number.wrapping_add(1);
        let bad = number.is_multiple_of(fails_one_in.load(Relaxed));
        requests.add(1, &[KeyValue::new("code", if bad { "500" } else { "200" })]);
        durations.record(f64::from(number % 100) / 1_000.0, &[]);
        std::thread::sleep(PAUSE);
    }
    provider.shutdown().context("the last export")
}

fn rustls_provider() -> Result<()> {
    // The client of the tests installs it; ours would find none otherwise.
    tests::http::client().map(drop)
}

/// Whether a bad release was decided at once.
async fn go() -> Result<bool> {
    let machine = Machine::look()?;
    let mut daemon = daemon("http_requests_total{job=\"shop\"}")?;
    daemon.launch(None)?;
    daemon.ready().await?;
    let service = Service::start(daemon.url("/v1/push/main/v1/metrics"), Temporality::Cumulative);
    wait::until("samples to come", PATIENCE, async || {
        Ok(health(&daemon).await?["pushed"]["samples"]["kept"].as_u64().filter(|kept| *kept > 50))
    })
    .await?;
    daemon.deployed("shop", "v1", None).await?;
    tokio::time::sleep(PAST).await;
    service.fails_one_in.store(5, Relaxed);
    daemon.deployed("shop", "v2", Some("v1")).await?;
    let at_once = decided_at_once(&daemon, "OpenTelemetry", machine).await?;
    service.end()?;
    Ok(at_once)
}

#[tokio::test]
async fn a_bad_release_is_turned_back_at_once_when_the_sdk_tells_of_it() -> Result<()> {
    for _ in 0..GOES {
        if go().await? {
            return Ok(());
        }
    }
    bail!("never at once in {GOES} goes");
}

#[tokio::test]
async fn growth_that_the_sdk_tells_becomes_counters() -> Result<()> {
    let mut daemon = daemon("http_requests_total{job=\"shop\"}")?;
    daemon.launch(None)?;
    daemon.ready().await?;
    let service = Service::start(daemon.url("/v1/push/main/v1/metrics"), Temporality::Delta);
    wait::until("samples to come", PATIENCE, async || {
        Ok(health(&daemon).await?["pushed"]["samples"]["kept"].as_u64().filter(|kept| *kept > 50))
    })
    .await?;
    daemon.deployed("shop", "v1", None).await?;
    // What is measured of it: some 200 requests a second, one in a hundred bad.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let records = daemon.verified_records().await?;
    let readings = records.iter().filter_map(|record| record.body.pointer("/measured/measurements/0"));
    let counts = readings.filter_map(|one| {
        let counts = one.pointer("/observation/seen/reading/counts")?;
        Some((counts["bad"].as_f64()?, counts["total"].as_f64()?))
    });
    let (bad, total) = counts.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("told as growth: {bad} bad of {total} requests");
    assert!(total > 500.0 && (0.005..0.02).contains(&(bad / total)), "{bad} of {total}");
    let shown: Value = health(&daemon).await?;
    assert!(shown["last_error"].is_null(), "{shown}");
    service.end()
}
