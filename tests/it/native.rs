//! Native histograms out of a real Prometheus: what was written is what is read.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::signals::prometheus::{Credentials, PrometheusConfig, PrometheusSource};
use agent::signals::{SignalSource, measure};
use anyhow::{Context, Result};
use jiff::Timestamp;
use rules::ids::SignalName;
use rules::series::{Observer, Sample, Window};
use rules::signal::{Measure, Measurement, Observation, Reading, Signal};
use rules::units::Span;
use tests::prometheus::PrometheusServer;
use tests::remote_write::{self, Histogram, Series};

const METRIC: &str = "http_request_duration_seconds";
const STEP: Span = Span::from_seconds(10);
/// What client libraries take.
const ZERO_THRESHOLD: f64 = 2.938735877055719e-39;

/// A pod: what it shows when it is scraped, and which durations were new at each scrape.
struct Pod {
    now: Histogram,
    shown: Vec<(Timestamp, Histogram)>,
    /// The time of a scrape, and the durations that it shows for the first time. Not of the very first scrape.
    new: Vec<(Timestamp, Vec<f64>)>,
    waiting: Vec<f64>,
}

impl Pod {
    fn start(schema: i32) -> Self {
        let now = Histogram { schema, zero_threshold: ZERO_THRESHOLD, ..Histogram::default() };
        Self { now, shown: Vec::new(), new: Vec::new(), waiting: Vec::new() }
    }
    /// Requests of these durations in seconds.
    fn serve(&mut self, durations: impl IntoIterator<Item = f64>) {
        for duration in durations {
            if duration <= ZERO_THRESHOLD {
                self.now.zero_count += 1;
            } else {
                let index = (duration.log2() * f64::from(self.now.schema).exp2()).ceil() as i32;
                *self.now.positive.entry(index).or_default() += 1;
            }
            self.now.sum += duration;
            self.waiting.push(duration);
        }
    }
    fn scrape(&mut self, at: Timestamp) {
        let new = std::mem::take(&mut self.waiting);
        if !self.shown.is_empty() {
            self.new.push((at, new));
        }
        self.shown.push((at, self.now.clone()));
    }
    /// The process is another one; what was not scraped is lost.
    fn restart(&mut self, schema: i32) {
        let next = Pod::start(schema);
        self.now = next.now;
        self.waiting.clear();
    }
    /// Too many buckets: each gets twice as wide.
    fn coarsen(&mut self) {
        let mut wider: BTreeMap<i32, u64> = BTreeMap::new();
        for (index, count) in &self.now.positive {
            *wider.entry((index + 1).div_euclid(2)).or_default() += count;
        }
        self.now = Histogram { schema: self.now.schema - 1, positive: wider, ..self.now.clone() };
    }
    fn series(&self, name: &str) -> Series {
        let labels = [("__name__", METRIC), ("pod", name)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Series { labels: BTreeMap::from(labels), histograms: self.shown.clone(), ..Series::default() }
    }
    /// How many requests of a window took longer than `edge`.
    fn slower(&self, window: Window, edge: f64) -> usize {
        let inside = self.new.iter().filter(|(at, _)| window.contains(*at));
        inside.flat_map(|(_, durations)| durations).filter(|duration| **duration > edge).count()
    }
}

/// Durations over six powers of ten, always the same ones.
fn durations(seed: u32, count: u32) -> impl Iterator<Item = f64> {
    let fraction =
        move |n: u32| f64::from((n + seed * 1_000).wrapping_mul(2_654_435_769)) / f64::from(u32::MAX);
    (0..count).map(move |n| 1e-4 * 1e6_f64.powf(fraction(n)))
}

/// Two pods: one restarts as its next generation and then runs out of buckets, the other is steady and finer.
fn two_pods(begin: Timestamp) -> (Pod, Pod) {
    let (mut first, mut second) = (Pod::start(3), Pod::start(5));
    let mut at = begin;
    for round in 0..=6 {
        match round {
            3 => first.restart(3),
            5 => first.coarsen(),
            _ => {}
        }
        // Fewer after the restart than were counted before it: else no reset could be seen.
        first.serve(durations(round, if round < 3 { 300 } else { 100 }));
        second.serve(durations(round + 10, 50).chain([0.0]));
        first.scrape(at);
        second.scrape(at);
        at = STEP.after(at);
    }
    (first, second)
}

fn observer(measure: Measure) -> Result<Observer> {
    let name = SignalName::new("latency")?;
    let signal = Signal::new(name, "main", measure);
    Ok(Observer::new(&signal)?)
}

fn latency() -> Result<Observer> {
    observer(Measure::Latency { buckets: METRIC.into(), quantile: 0.95 })
}

fn source(server: &PrometheusServer) -> Result<PrometheusSource> {
    let config: PrometheusConfig = serde_json::from_value(serde_json::json!({ "url": server.url() }))?;
    Ok(PrometheusSource::new("main", &config, &Credentials::default(), Timestamp::now)?)
}

/// The measurement of one window.
async fn measured(
    source: &dyn SignalSource,
    observer: &Observer,
    window: Window,
    max_age: Span,
) -> Result<Measurement> {
    measure(source, observer, &[window], max_age).await.pop().context("a window brings a measurement")
}

#[tokio::test]
async fn two_generations_of_a_native_histogram_are_read_as_they_were_written() -> Result<()> {
    let server = PrometheusServer::start(&[], Duration::from_secs(60)).await?;
    let begin = Timestamp::from_second(Timestamp::now().as_second() - 60)?;
    let (first, second) = two_pods(begin);
    let time = |round: u64| Span::from_seconds(10 * round).after(begin);
    remote_write::send(server.url(), &[first.series("first"), second.series("second")]).await?;
    let source = source(&server)?;
    let observer = latency()?;

    let mut edges = Vec::new();
    // Within the first generation; over the restart; over the change of resolution; between two scrapes; everything.
    for (from, to) in [(0, 2), (2, 4), (4, 6), (3, 3), (0, 6)] {
        let end = if from == to { Span::from_seconds(5).after(time(to)) } else { time(to) };
        let window = Window { from: time(from), to: end };
        let measurement = measured(&source, &observer, window, Span::from_minutes(1)).await?;
        let Some(Reading::Buckets { bounds, counts }) = measurement.observation.reading() else {
            panic!("{measurement:?}");
        };
        let all = first.slower(window, -1.0) + second.slower(window, -1.0);
        assert_eq!(counts.iter().sum::<f64>(), all as f64, "rounds {from} to {to}");
        assert_eq!(all == 0, from == to);
        for (place, edge) in bounds.iter().enumerate() {
            let seen: f64 = counts[place + 1..].iter().sum();
            let truth = first.slower(window, *edge) + second.slower(window, *edge);
            assert_eq!(seen, truth as f64, "rounds {from} to {to}, slower than {edge}");
        }
        edges.push(bounds.clone());
    }
    // The same edges in every window, until the resolution changed: then every second of them.
    assert_eq!((edges[0].len(), edges[2].len()), (153, 77));
    assert_eq!((&edges[0], &edges[0], &edges[2]), (&edges[1], &edges[3], &edges[4]));
    assert!(edges[2].iter().all(|edge| edges[0].contains(edge)));

    // Schema 3 has the very edges that the server has, to the bit.
    let raw = source.read(METRIC, Window { from: Span::from_seconds(1).before(begin), to: time(6) }).await?;
    let native = raw.iter().find(|one| one.labels["pod"] == "first").context("the first pod")?;
    assert_eq!(native.histograms.len(), 7);
    let uppers = native.histograms[0].buckets.iter().map(|bucket| bucket.upper);
    let inside: Vec<f64> = uppers.filter(|upper| (0.001..=100.0).contains(upper)).collect();
    assert!(inside.len() > 50 && inside.iter().all(|upper| edges[0].contains(upper)), "{inside:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_latency_or_has_ended_is_said() -> Result<()> {
    let server = PrometheusServer::start(&[], Duration::from_secs(60)).await?;
    let begin = Timestamp::from_second(Timestamp::now().as_second() - 60)?;
    let (first, _) = two_pods(begin);
    let end = STEP.after(first.shown[6].0);
    let mut series = first.series("first");
    series.histograms.push((end, Histogram { sum: Sample::stale(end).value, ..Histogram::default() }));
    remote_write::send(server.url(), &[series]).await?;
    let source = source(&server)?;
    let window = Window { from: begin, to: end };

    // The API leaves the marker out: the end shows by the age of the last sample.
    let seen = measured(&source, &latency()?, window, Span::from_seconds(9)).await?.observation;
    assert!(
        matches!(&seen, Observation::Absent { reason } if reason.contains("newest sample is 10s old")),
        "{seen:?}"
    );

    let bad = BTreeMap::from([("pod".to_owned(), "second".to_owned())]);
    let proportion = observer(Measure::Proportion { of: METRIC.into(), bad })?;
    let seen = measured(&source, &proportion, window, Span::from_minutes(1)).await?.observation;
    assert!(matches!(&seen, Observation::Failed { reason } if reason.contains("only latency")), "{seen:?}");

    let mut below = Pod::start(3);
    below.scrape(begin);
    below.now.negative.insert(0, 2);
    below.scrape(STEP.after(begin));
    let mut series = below.series("below");
    series.labels.insert("__name__".to_owned(), "clock_skew_seconds".to_owned());
    remote_write::send(server.url(), &[series]).await?;
    let skewed = observer(Measure::Latency { buckets: "clock_skew_seconds".into(), quantile: 0.95 })?;
    let window = Window { from: begin, to: STEP.after(begin) };
    let seen = measured(&source, &skewed, window, Span::from_minutes(1)).await?.observation;
    assert!(
        matches!(&seen, Observation::Failed { reason } if reason.contains("2 new observations below zero")),
        "{seen:?}"
    );
    Ok(())
}
