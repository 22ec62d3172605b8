//! Sends a request and looks whether it is answered: availability for services that show no metrics.
//!
//! An answer with an expected status in time is up. An answer with another status, a refused or broken connection and
//! silence are down. Whatever happened on our side (no route, no name, no file descriptor, a certificate that we do not
//! trust) gives no sample: nothing is known then, and `health` says why.

use super::http::{self, Blame, blame, check_url};
use super::poll::{self, Clock, Gathered, Poll, instance, labels};
use super::ring::RingLimits;
use super::{SignalSource, SourceError, SourceHealth};
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Client, Url};
use rules::series::{RawSeries, Sample, Window};
use rules::units::Span;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::Arc;

/// Addresses that must answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// The addresses that are asked with GET: `https://checkout.example/healthz`.
    pub targets: Vec<String>,
    /// How often each is asked.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// How long an answer may take; at most the interval.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// The statuses that mean "up". Redirects are not followed; where one is right, name its status.
    #[serde(default = "default_expect_status")]
    pub expect_status: Vec<u16>,
}

fn default_interval() -> Span {
    Span::from_seconds(5)
}

fn default_timeout() -> Span {
    Span::from_seconds(3)
}

fn default_expect_status() -> Vec<u16> {
    vec![200, 204]
}

impl ProbeConfig {
    /// What is wrong with it, as key and message.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = poll::problems(&self.targets, self.interval, self.timeout);
        let mut add = |message: String| problems.push(("expect_status".into(), message));
        if self.expect_status.is_empty() {
            add("there is none, so nothing could ever be up; write for example [200]".into());
        }
        for status in self.expect_status.iter().filter(|status| !(200..=599).contains(*status)) {
            add(format!("{status} is not the status of an answer (200 to 599)"));
        }
        problems
    }
}

/// Asks addresses whether they answer. Gives `probe_success{url,job,instance}`, and the same as `up`.
pub struct ProbeSource {
    job: String,
    targets: Vec<Url>,
    interval: Span,
    timeout: Span,
    expect: Vec<u16>,
    client: Client,
    gathered: Gathered,
}

/// What one request gave.
enum Outcome {
    Up,
    Down(String),
    Unknown(String),
}

impl ProbeSource {
    /// Prepares a source; connects to nothing and starts nothing. `name` becomes the label `job`.
    pub fn new(name: &str, config: &ProbeConfig) -> Result<Self, SourceError> {
        poll::first_problem(name, config.problems())?;
        let what = format!("probe {name:?} of {} targets", config.targets.len());
        let client = http::client(&what, config.timeout, HeaderMap::new(), true)?;
        let targets: Vec<Url> = config.targets.iter().filter_map(|target| check_url(target).ok()).collect();
        let gathered = Gathered::new(what, targets.len(), RingLimits::default());
        let (interval, timeout) = (config.interval, config.timeout);
        Ok(Self {
            job: name.into(),
            targets,
            interval,
            timeout,
            expect: config.expect_status.clone(),
            client,
            gathered,
        })
    }

    /// Asks all targets in their rhythm until `shutdown` comes.
    pub async fn run(self: Arc<Self>, clock: Clock, shutdown: impl Future<Output = ()> + Send) {
        poll::run(self, clock, shutdown).await;
    }

    async fn ask(&self, target: &Url) -> Outcome {
        match self.client.get(target.clone()).send().await {
            Ok(response) if self.expect.contains(&response.status().as_u16()) => Outcome::Up,
            Ok(response) => {
                let status = response.status().as_u16();
                Outcome::Down(format!("it answered with status {status}, expected is {:?}", self.expect))
            }
            Err(cause) => match blame(cause, self.timeout) {
                Blame::Service(reason) => Outcome::Down(reason),
                Blame::Ours(reason) => Outcome::Unknown(reason),
            },
        }
    }

    fn keep(&self, target: usize, url: &Url, now: Timestamp, value: f64) -> Result<(), String> {
        let instance = instance(url);
        let series = |name: &str| {
            let labels = labels([
                ("__name__", name),
                ("job", &self.job),
                ("instance", &instance),
                ("url", url.as_str()),
            ]);
            (labels, Sample { at: now, value })
        };
        let losses = self.gathered.lock().answer(target, now, vec![series("probe_success"), series("up")]);
        losses.words().map_or(Ok(()), Err)
    }
}

#[async_trait::async_trait]
impl Poll for ProbeSource {
    fn targets(&self) -> usize {
        self.targets.len()
    }
    fn interval(&self) -> Span {
        self.interval
    }
    async fn poll(&self, target: usize, now: Timestamp) {
        let Some(url) = self.targets.get(target) else { return };
        let outcome = match self.ask(url).await {
            Outcome::Up => self.keep(target, url, now, 1.0),
            Outcome::Down(reason) => match self.keep(target, url, now, 0.0) {
                Ok(()) => Err(reason),
                Err(lost) => Err(format!("{reason}; {lost}")),
            },
            Outcome::Unknown(reason) => Err(format!("nothing is known: {reason}")),
        };
        self.gathered.note(now, outcome.map_err(|reason| format!("{}: {reason}", instance(url))));
    }
}

#[async_trait::async_trait]
impl SignalSource for ProbeSource {
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
