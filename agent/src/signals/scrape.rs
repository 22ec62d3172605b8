//! Reads services' `/metrics` directly, for those who have no Prometheus server, or whose server asks too rarely.
//!
//! It behaves like a small Prometheus: `job` and `instance` labels, `up` per target, series that vanish end, labels of
//! the service that collide are renamed to `exported_...`. One thing differs. A failure that is ours (no route, no
//! name, too many open files, an answer longer than we take) gives no `up` at all instead of 0: a fault of the agent
//! must not look like an outage of the service.

use super::exposition::{self, Format, Shown};
use super::http::{self, Blame, NoBody, blame, check_url, too_long};
use super::poll::{self, Clock, Gathered, MOST_AHEAD, Poll, instance, labels};
use super::ring::{Labels, RingLimits};
use super::{SignalSource, SourceError, SourceHealth};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use rules::series::{RawSeries, Sample, Window};
use rules::units::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

/// What is asked for. The text format first: it is the simplest; OpenMetrics because some libraries have only that.
const ACCEPTED: &str = "text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.5";

/// Services whose `/metrics` are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrapeConfig {
    /// The addresses, path included: `http://checkout-1:8080/metrics`. Each host and port once.
    pub targets: Vec<String>,
    /// How often each is read.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// How long one reading may take; at most the interval.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How long samples are kept, in memory only.
    #[serde(default = "default_retention")]
    pub retention: Span,
    /// The most series that are kept, over all targets.
    #[serde(default = "default_max_series")]
    pub max_series: usize,
}

fn default_interval() -> Span {
    Span::from_seconds(5)
}

fn default_timeout() -> Span {
    Span::from_seconds(3)
}

fn default_retention() -> Span {
    RingLimits::default().retention
}

fn default_max_series() -> usize {
    RingLimits::default().series
}

impl ScrapeConfig {
    /// What is wrong with it, as key and message.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = poll::problems(&self.targets, self.interval, self.timeout);
        let mut seen = BTreeSet::new();
        for (index, url) in self.targets.iter().enumerate() {
            if let Ok(url) = check_url(url)
                && !seen.insert(instance(&url))
            {
                let message = format!(
                    "{} is named by another target, too; `up` could not tell them apart",
                    instance(&url)
                );
                problems.push((format!("targets[{index}]"), message));
            }
        }
        if !(Span::from_minutes(10)..=Span::from_minutes(24 * 60)).contains(&self.retention) {
            problems.push(("retention".into(), format!("{} is not between 10m and 1d", self.retention)));
        }
        // 100,000 series fill the ring's samples in twenty rounds; that is what a Prometheus server is for.
        if !(1..=100_000).contains(&self.max_series) {
            problems.push(("max_series".into(), format!("{} is not between 1 and 100000", self.max_series)));
        }
        problems
    }
}

/// Reads services' `/metrics`.
pub struct ScrapeSource {
    job: String,
    targets: Vec<Url>,
    interval: Span,
    timeout: Span,
    client: Client,
    gathered: Gathered,
}

/// What reading one target gave.
enum Outcome {
    Samples(Vec<Shown>),
    Down(String),
    Unknown(String),
}

impl ScrapeSource {
    /// Prepares a source; connects to nothing and starts nothing. `name` becomes the label `job`.
    pub fn new(name: &str, config: &ScrapeConfig) -> Result<Self, SourceError> {
        poll::first_problem(name, config.problems())?;
        let what = format!("scrape {name:?} of {} targets", config.targets.len());
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let client = http::client(&what, config.timeout, headers, true)?;
        let targets: Vec<Url> = config.targets.iter().filter_map(|target| check_url(target).ok()).collect();
        let limits =
            RingLimits { retention: config.retention, series: config.max_series, ..RingLimits::default() };
        let gathered = Gathered::new(what, targets.len(), limits);
        let (interval, timeout) = (config.interval, config.timeout);
        Ok(Self { job: name.into(), targets, interval, timeout, client, gathered })
    }

    /// Reads all targets in their rhythm until `shutdown` comes.
    pub async fn run(self: Arc<Self>, clock: Clock, shutdown: impl Future<Output = ()> + Send) {
        poll::run(self, clock, shutdown).await;
    }

    async fn fetch(&self, target: &Url) -> Outcome {
        let blamed = |cause: reqwest::Error| match blame(cause, self.timeout) {
            Blame::Service(reason) => Outcome::Down(reason),
            Blame::Ours(reason) => Outcome::Unknown(reason),
        };
        let response = match self.client.get(target.clone()).send().await {
            Ok(response) => response,
            Err(cause) => return blamed(cause),
        };
        if response.status() != StatusCode::OK {
            return Outcome::Down(format!("it answered with status {}, not 200", response.status().as_u16()));
        }
        let content_type = response.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
        let Some(format) = Format::of(content_type) else {
            let kind = http::excerpt(content_type.unwrap_or_default());
            return Outcome::Down(format!("it answered with {kind:?}, not with metrics as text"));
        };
        let bytes = match http::body(response).await {
            Ok(bytes) => bytes,
            Err(NoBody::TooLong) => return Outcome::Unknown(too_long()),
            Err(NoBody::Broken(cause)) => return blamed(cause),
        };
        let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string());
        match text.and_then(|text| exposition::parse(&text, format)) {
            Ok(samples) => Outcome::Samples(samples),
            Err(problem) => Outcome::Down(format!("its metrics cannot be read: {problem}")),
        }
    }

    /// Puts what was read into the ring; the words of the first thing that went wrong.
    fn keep(&self, target: usize, now: Timestamp, outcome: Outcome) -> Result<(), String> {
        let instance = self.targets.get(target).map(instance).unwrap_or_default();
        let up = labels([("__name__", "up"), ("job", &self.job), ("instance", &instance)]);
        let own = [("job", self.job.as_str()), ("instance", instance.as_str())];
        match outcome {
            Outcome::Samples(shown) => {
                let mut samples = vec![(up, Sample { at: now, value: 1.0 })];
                let count = shown.len();
                let usable =
                    shown.into_iter().filter(|one| one.at.is_none_or(|at| at <= MOST_AHEAD.after(now)));
                samples.extend(usable.map(|one| {
                    (relabel(one.labels, own), Sample { at: one.at.unwrap_or(now), value: one.value })
                }));
                let ahead = count + 1 - samples.len();
                let losses = self.gathered.lock().answer(target, now, samples);
                match losses.words() {
                    Some(words) => Err(words),
                    None if ahead > 0 => {
                        Err(format!("{ahead} samples lie more than {MOST_AHEAD} in the future"))
                    }
                    None => Ok(()),
                }
            }
            Outcome::Down(reason) => {
                let losses =
                    self.gathered.lock().answer(target, now, vec![(up, Sample { at: now, value: 0.0 })]);
                Err(losses.words().map_or(reason.clone(), |words| format!("{reason}; {words}")))
            }
            Outcome::Unknown(reason) => Err(format!("nothing is known: {reason}")),
        }
    }
}

/// Gives a sample the labels of its target; its own of the same name are kept as `exported_...`. An empty value is no
/// label.
fn relabel(shown: Labels, own: [(&str, &str); 2]) -> Labels {
    let mut result = Labels::new();
    let (clash, plain): (Vec<_>, Vec<_>) = shown
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .partition(|(key, _)| own.iter().any(|(name, _)| name == key));
    result.extend(plain);
    for (key, value) in clash {
        let mut key = format!("exported_{key}");
        while result.contains_key(&key) {
            key = format!("exported_{key}");
        }
        result.insert(key, value);
    }
    result.extend(own.into_iter().map(|(key, value)| (key.to_string(), value.to_string())));
    result
}

#[async_trait::async_trait]
impl Poll for ScrapeSource {
    fn targets(&self) -> usize {
        self.targets.len()
    }
    fn interval(&self) -> Span {
        self.interval
    }
    async fn poll(&self, target: usize, now: Timestamp) {
        let Some(url) = self.targets.get(target) else { return };
        let outcome = self.fetch(url).await;
        let kept = self.keep(target, now, outcome);
        self.gathered.note(now, kept.map_err(|reason| format!("{}: {reason}", instance(url))));
    }
}

#[async_trait::async_trait]
impl SignalSource for ScrapeSource {
    async fn read(&self, selector: &str, range: Window) -> Result<Vec<RawSeries>, SourceError> {
        self.gathered.read(selector, range)
    }
    /// A sample carries the time at which its request began and is there when the request ended.
    fn settle(&self) -> Span {
        self.timeout
    }
    fn history(&self) -> bool {
        false
    }
    fn describe(&self) -> String {
        self.gathered.what().into()
    }
    fn health(&self) -> SourceHealth {
        self.gathered.health()
    }
}

#[cfg(test)]
mod tests;
