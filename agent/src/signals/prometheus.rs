//! A Prometheus server, or anything that answers its query API (Thanos, Mimir, VictoriaMetrics).
//!
//! Asked is an instant query of a range selector, `requests_total{...}[300000ms]` at the window's end: that returns
//! the stored samples with their own times. A range query would return values on a grid of our choosing, filled from
//! samples up to five minutes old, and would make stale data look fresh. The API leaves stale markers out; a series
//! that ended shows only by the age of its newest sample.

mod answer;
#[cfg(test)]
mod tests;

#[cfg(feature = "fuzzing")]
pub(in crate::signals) use answer::parse as parse_answer;

use super::http::{self, NoBody, check_url, excerpt};
use super::{Clock, SignalSource, SourceError, SourceHealth, check_selector, words};
use crate::secrets::Secret;
use answer::LIMIT_SERIES;
use prometheus_http_query::Client;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use rules::action::SecretRef;
use rules::series::{RawSeries, Window};
use rules::units::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

/// How much time one request covers at most. At a scrape each 15 s an hour is 240 samples of a series, so 2,000
/// series fit into one answer.
const CHUNK: Span = Span::from_minutes(60);

/// The shortest piece that an answer that is too long is cut into.
const SHORTEST_CHUNK: Span = Span::from_minutes(1);

/// The longest range: five weeks, a season of four and a little.
const LONGEST: Span = Span::from_minutes(35 * 24 * 60);

/// The most samples of one read, over all pieces: 50 MB in memory. Each bucket of a native histogram counts as one.
const MOST_SAMPLES: usize = 2_000_000;

/// A Prometheus server in the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrometheusConfig {
    /// Its address; a path in front of `/api/v1` belongs here: `https://mimir.example/prometheus`.
    pub url: String,
    /// How long one request may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretRef>,
    /// User and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicConfig>,
    /// Further headers, such as `X-Scope-OrgID` for a tenant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Further headers that hold secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, SecretRef>,
    /// How far behind now its data are complete. More if it receives data by remote write.
    #[serde(default = "default_settle")]
    pub settle: Span,
}

/// User and password for HTTP basic authentication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicConfig {
    /// The user.
    pub user: String,
    /// The password.
    pub password: SecretRef,
}

/// The secrets of a `PrometheusConfig`, resolved.
#[derive(Clone, Default)]
pub struct Credentials {
    /// For `bearer`.
    pub bearer: Option<Secret>,
    /// For `basic.password`.
    pub password: Option<Secret>,
    /// For `secret_headers`.
    pub headers: BTreeMap<String, Secret>,
}

fn default_timeout() -> Span {
    Span::from_seconds(10)
}

fn default_settle() -> Span {
    Span::from_seconds(2)
}

impl PrometheusConfig {
    /// What is wrong with it, as key and message.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |key: &str, message: String| problems.push((key.to_string(), message));
        match check_url(&self.url) {
            Ok(url) if url.query().is_some() => add("url", "it must not contain a query (?...)".into()),
            Ok(_) => {}
            Err(message) => add("url", message),
        }
        if !(Span::from_milliseconds(100)..=Span::from_minutes(2)).contains(&self.timeout) {
            add("timeout", format!("{} is not between 100ms and 2m", self.timeout));
        }
        if self.settle > Span::from_minutes(10) {
            add("settle", format!("{} is more than 10m; nothing would be seen in time", self.settle));
        }
        if self.bearer.is_some() && self.basic.is_some() {
            add("bearer", "`bearer` and `basic` are both given; a request can carry only one".into());
        }
        for name in self.headers.keys().chain(self.secret_headers.keys()) {
            match HeaderName::try_from(name.as_str()) {
                Ok(known) if known == AUTHORIZATION => {
                    add(&format!("headers.{name}"), "use `bearer` or `basic` for this header".into());
                }
                Ok(_) => {}
                Err(_) => add(&format!("headers.{name}"), "this is not the name of a header".into()),
            }
        }
        for (name, value) in &self.headers {
            if HeaderValue::try_from(value.as_str()).is_err() {
                add(&format!("headers.{name}"), "its value holds characters that a header cannot".into());
            }
        }
        problems
    }
}

/// A Prometheus server that can be asked.
pub struct PrometheusSource {
    what: String,
    client: Client,
    timeout: Span,
    settle: Span,
    clock: Clock,
    health: Mutex<SourceHealth>,
}

impl PrometheusSource {
    /// Prepares a source; connects to nothing. `name` is the source's name in the configuration. The first of
    /// `config.problems()` is an error, and so is a secret that is missing or cannot stand in a header.
    pub fn new(
        name: &str,
        config: &PrometheusConfig,
        credentials: &Credentials,
        clock: Clock,
    ) -> Result<Self, SourceError> {
        let what = format!("prometheus {name:?} at {}", config.url);
        let setup =
            |problem: String| SourceError::Setup { what: format!("source {name:?}"), problem, cause: None };
        if let Some((key, message)) = config.problems().into_iter().next() {
            return Err(setup(format!("`{key}`: {message}")));
        }
        let headers = headers(config, credentials).map_err(setup)?;
        let http = http::client(&what, config.timeout, headers, false)?;
        // The crate joins the path with a slash of its own.
        let client =
            Client::from(http, config.url.trim_end_matches('/')).map_err(|cause| SourceError::Setup {
                what: what.clone(),
                problem: "its address cannot be used".into(),
                cause: Some(cause.into()),
            })?;
        let health = Mutex::new(SourceHealth::default());
        Ok(Self { what, client, timeout: config.timeout, settle: config.settle, clock, health })
    }

    /// One request.
    async fn ask(&self, selector: &str, range: Window) -> Result<Vec<RawSeries>, SourceError> {
        // A range of nothing is an error to the server.
        let milliseconds = range.length().milliseconds().max(1);
        let time = range.to.as_millisecond();
        let request = self
            .client
            .query(format!("{selector}[{milliseconds}ms]"))
            .query("time", format!("{}.{:03}", time.div_euclid(1_000), time.rem_euclid(1_000)))
            .query("limit", LIMIT_SERIES)
            .timeout(i64::try_from(self.timeout.milliseconds()).unwrap_or(i64::MAX));
        let what = &self.what;
        let response = request.get_raw().await.map_err(|cause| self.unsent(cause))?;
        let status = response.status();
        let bytes = http::body(response).await.map_err(|problem| match problem {
            NoBody::TooLong => SourceError::TooLarge { what: what.clone(), problem: http::too_long() },
            NoBody::Broken(cause) => http::broken(what, self.timeout, cause),
        })?;
        if !status.is_success() {
            let answer =
                answer::complaint(&bytes).unwrap_or_else(|| excerpt(&String::from_utf8_lossy(&bytes)));
            return Err(SourceError::Refused { what: what.clone(), status: status.as_u16(), answer });
        }
        answer::parse(what, status.as_u16(), &bytes, range)
    }

    fn unsent(&self, error: prometheus_http_query::Error) -> SourceError {
        if let prometheus_http_query::Error::Client(client) = &error
            && client.inner().is_some_and(reqwest::Error::is_timeout)
        {
            return SourceError::TimedOut { what: self.what.clone(), after: self.timeout };
        }
        SourceError::Unreachable { what: self.what.clone(), cause: error.into() }
    }

    /// All pieces of a range, from the oldest to the newest. An answer that is too long is asked for again in halves.
    async fn ask_in_pieces(&self, selector: &str, range: Window) -> Result<Vec<RawSeries>, SourceError> {
        let too_large = |problem: String| SourceError::TooLarge { what: self.what.clone(), problem };
        if range.length() > LONGEST {
            return Err(too_large(format!("{} are asked for, {LONGEST} is the most", range.length())));
        }
        let mut all: BTreeMap<BTreeMap<String, String>, RawSeries> = BTreeMap::new();
        let (mut from, mut chunk, mut samples) = (range.from, CHUNK, 0);
        while from < range.to {
            let piece = Window { from, to: chunk.after(from).min(range.to) };
            let series = match self.ask(selector, piece).await {
                Err(SourceError::TooLarge { .. }) if piece.length() > SHORTEST_CHUNK => {
                    let half = Span::from_milliseconds(piece.length().milliseconds() / 2);
                    chunk = half.max(SHORTEST_CHUNK);
                    continue;
                }
                answer => answer?,
            };
            for one in series {
                samples += one.samples.len();
                samples += one.histograms.iter().map(|sample| 1 + sample.buckets.len()).sum::<usize>();
                match all.entry(one.labels.clone()) {
                    Entry::Vacant(entry) => {
                        entry.insert(one);
                    }
                    Entry::Occupied(mut entry) => {
                        entry.get_mut().samples.extend(one.samples);
                        entry.get_mut().histograms.extend(one.histograms);
                    }
                }
            }
            if samples > MOST_SAMPLES {
                return Err(too_large(format!("more than {MOST_SAMPLES} samples; select fewer series")));
            }
            from = piece.to;
        }
        Ok(all.into_values().collect())
    }
}

/// The headers of every request, secrets among them, marked as such.
fn headers(config: &PrometheusConfig, credentials: &Credentials) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        let bad = |part: &str| format!("the {part} of the header {name:?} cannot be sent");
        let mut value = HeaderValue::try_from(value).map_err(|_| bad("value"))?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name).map_err(|_| bad("name"))?, value);
        Ok::<(), String>(())
    };
    for (name, value) in &config.headers {
        add(name, value)?;
    }
    for name in config.secret_headers.keys() {
        let secret = credentials.headers.get(name);
        add(name, secret.ok_or_else(|| format!("the secret of the header {name:?} is missing"))?.expose())?;
    }
    if config.bearer.is_some() {
        let token = credentials.bearer.as_ref().ok_or("the secret of `bearer` is missing")?;
        add("authorization", &format!("Bearer {}", token.expose()))?;
    }
    if let Some(basic) = &config.basic {
        let password = credentials.password.as_ref().ok_or("the secret of `basic.password` is missing")?;
        let encoded = basic_header(&basic.user, password).ok_or("`basic` cannot stand in a header")?;
        headers.insert(AUTHORIZATION, encoded);
    }
    Ok(headers)
}

/// The header for a user and a password, made by the library that sends it: from a request that is never sent.
fn basic_header(user: &str, password: &Secret) -> Option<HeaderValue> {
    let client = reqwest::Client::builder().build().ok()?;
    let request = client.get("http://localhost/").basic_auth(user, Some(password.expose())).build().ok()?;
    request.headers().get(AUTHORIZATION).cloned()
}

#[async_trait::async_trait]
impl SignalSource for PrometheusSource {
    async fn read(&self, selector: &str, range: Window) -> Result<Vec<RawSeries>, SourceError> {
        let selector = check_selector(selector)?;
        let answer = self.ask_in_pieces(selector.as_str(), range).await;
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match &answer {
            Ok(series) => {
                health.last_success = Some((self.clock)());
                health.series = series.len();
            }
            Err(error) => health.failed((self.clock)(), words(error)),
        }
        answer
    }
    fn settle(&self) -> Span {
        self.settle
    }
    fn history(&self) -> bool {
        true
    }
    fn describe(&self) -> String {
        self.what.clone()
    }
    fn health(&self) -> SourceHealth {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
