//! Requests: one, to a host from the configuration, with a declared success.
//!
//! The outcome table, and why:
//!
//! | what came back | outcome | because |
//! | --- | --- | --- |
//! | nothing: no address, refused, no TLS | failed, retryable | nothing was sent |
//! | nothing: time-out, reset, kill switch | unknown | the request may have arrived |
//! | declared status and JSON | done | |
//! | declared status, other or unreadable JSON | unknown | the target took the request and said something else |
//! | another 2xx; 302, 303 and the rest of 3xx | unknown | many servers answer a finished POST with a redirect to its result |
//! | 301, 307, 308 | failed, permanent | the request is to be sent elsewhere: nothing was done, and we do not follow |
//! | 408, 425, 429 | failed, retryable | the target says that it did not take the request |
//! | 409 to a request with a key | unknown | an earlier request with this key may be at work |
//! | another 4xx | failed, permanent | the target refuses the request |
//! | 5xx, 503 included | unknown | a gateway speaks for a target that may have acted |
//!
//! A declared status wins over this table, so that `404` can be the success of a `DELETE`.

use super::address::{self, Lookup, check_url, system_lookup};
use super::output::{Capture, line};
use super::{Action, BadAction, Context, chain, pulled};
use crate::secrets::{Redactor, Secrets};
use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, Url};
use rules::action::{EffectClass, FailureKind, HttpSpec, HttpSuccess, Inspected, StepOutcome};
use rules::rehearsal::Tried;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

/// As much of an answer as is read: what is longer is not an answer to a control request.
const LONGEST_BODY: usize = 64 * 1024;
/// A target that does not take a connection within this time will not do so.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A body that decides nothing is read only so long: it is for people, and the step waits.
const BODY_FOR_PEOPLE: Duration = Duration::from_secs(2);
const KEY_HEADER: &str = "idempotency-key";

/// A request ready to be sent.
pub(super) struct Http {
    client: Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<String>,
    success: HttpSuccess,
    redactor: Redactor,
}

/// What came of sending.
enum Answer {
    /// Certainly nothing was sent.
    NotSent { kind: FailureKind, reason: String },
    /// Something may have been sent, and no answer came.
    Lost { reason: String },
    /// There is an answer.
    Received(Received),
}

struct Received {
    status: u16,
    retry_after: Option<String>,
    body: Vec<u8>,
    /// Why the body is not whole, if it is not.
    cut: Option<String>,
}

impl Http {
    /// Resolves the secrets and makes a client. Errors: see [`BadAction`].
    pub(super) fn new(spec: &HttpSpec, secrets: &Secrets) -> Result<Self, BadAction> {
        Self::with_lookup(spec, secrets, system_lookup)
    }

    fn with_lookup(spec: &HttpSpec, secrets: &Secrets, lookup: Lookup) -> Result<Self, BadAction> {
        let bad =
            |key: &str, problem: String| BadAction::Specification { key: format!("http.{key}"), problem };
        let method = Method::from_bytes(spec.method.as_bytes())
            .map_err(|_| bad("method", format!("{:?} is not a method", spec.method)))?;
        let url: Url = spec
            .url
            .parse()
            .map_err(|error| bad("url", format!("{:?} is not an address: {error}", spec.url)))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("url", format!("has the scheme {}; use https (or http)", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("url", "holds credentials; put them into `secret_headers`".into()));
        }
        check_url(&url).map_err(|source| BadAction::Address { source })?;
        let client =
            address::client(lookup, CONNECT_WITHIN).map_err(|problem| BadAction::Client { problem })?;
        Ok(Self {
            client,
            method,
            url,
            headers: headers(spec, secrets)?,
            body: spec.body.clone(),
            success: spec.success.clone(),
            redactor: secrets.redactor(),
        })
    }

    async fn exchange(&self, context: &Context, with_key: bool) -> Answer {
        let deadline = Instant::now() + context.timeout.duration();
        let mut headers = self.headers.clone();
        if with_key && !headers.contains_key(KEY_HEADER) {
            match HeaderValue::from_str(&context.key) {
                Ok(key) => headers.insert(KEY_HEADER, key),
                Err(_) => {
                    let reason = "the idempotency key cannot stand in a header".to_owned();
                    return Answer::NotSent { kind: FailureKind::Permanent, reason };
                }
            };
        }
        let mut request = self.client.request(self.method.clone(), self.url.clone()).headers(headers);
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let response = tokio::select! {
            response = request.send() => response,
            () = sleep_until(deadline) => {
                return Answer::Lost { reason: format!("no answer came within {}", context.timeout) };
            }
            () = pulled(&context.cancel) => {
                return Answer::Lost { reason: "the kill switch was pulled before an answer came".into() };
            }
        };
        match response {
            Ok(response) => Answer::Received(self.receive(response, context, deadline).await),
            Err(error) => self.no_answer(&error.without_url()),
        }
    }

    fn no_answer(&self, error: &reqwest::Error) -> Answer {
        if let Some(refused) = address::refusal(error) {
            return Answer::NotSent { kind: FailureKind::Permanent, reason: refused.to_string() };
        }
        let reason = line(&chain(error), &self.redactor);
        if error.is_builder() {
            Answer::NotSent { kind: FailureKind::Permanent, reason }
        } else if error.is_connect() || error.is_dns() {
            Answer::NotSent { kind: FailureKind::Retryable, reason }
        } else {
            Answer::Lost { reason }
        }
    }

    async fn receive(&self, mut response: Response, context: &Context, deadline: Instant) -> Received {
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .map(|value| line(&String::from_utf8_lossy(value.as_bytes()), &self.redactor));
        let decides = self.success.status.contains(&status) && !self.success.json.is_empty();
        let until = if decides { deadline } else { deadline.min(Instant::now() + BODY_FOR_PEOPLE) };
        let mut body = Vec::new();
        let cut = loop {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk,
                () = sleep_until(until) => break Some("the rest did not come in time".to_owned()),
                () = pulled(&context.cancel) => break Some("the kill switch was pulled".to_owned()),
            };
            match chunk {
                Ok(None) => break None,
                Ok(Some(chunk)) => {
                    let room = LONGEST_BODY - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if chunk.len() > room {
                        break Some("it is longer than 64 KiB".to_owned());
                    }
                }
                Err(error) => break Some(line(&chain(&error.without_url()), &self.redactor)),
            }
        };
        Received { status, retry_after, body, cut }
    }

    /// Holds the answer against the declared JSON.
    fn judge_json(&self, received: &Received) -> Json {
        if self.success.json.is_empty() {
            return Json::AsDeclared;
        }
        if let Some(cut) = &received.cut {
            return Json::Unreadable(format!("the answer is not whole: {cut}"));
        }
        let value: serde_json::Value = match serde_json::from_slice(&received.body) {
            Ok(value) => value,
            Err(error) => return Json::Unreadable(format!("the answer is not JSON: {error}")),
        };
        for (pointer, expected) in &self.success.json {
            match value.pointer(pointer) {
                Some(found) if found == expected => {}
                Some(found) => {
                    let found = line(&found.to_string(), &self.redactor);
                    return Json::Other(format!(
                        "{pointer} is {found} in the answer and should be {expected}"
                    ));
                }
                None => {
                    return Json::Other(format!("{pointer} is not in the answer and should be {expected}"));
                }
            }
        }
        Json::AsDeclared
    }

    fn shown(&self, received: &Received) -> String {
        let mut capture = Capture::default();
        capture.push(&received.body);
        let text = capture.text(&self.redactor);
        match &received.cut {
            Some(cut) => format!("HTTP {}\n{text}\n(cut: {cut})", received.status),
            None => format!("HTTP {}\n{text}", received.status),
        }
    }
}

enum Json {
    AsDeclared,
    Other(String),
    Unreadable(String),
}

fn headers(spec: &HttpSpec, secrets: &Secrets) -> Result<HeaderMap, BadAction> {
    let bad = |key: &str, name: &str, what: &str| BadAction::Specification {
        key: format!("http.{key}.{}", name.chars().take(64).collect::<String>()),
        problem: what.to_owned(),
    };
    let named = |key: &str, name: &str| {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(key, name, "is not the name of a header"))
    };
    let unfit = "has a value that cannot stand in a header (a control character?)";
    let mut map = HeaderMap::new();
    for (name, value) in &spec.headers {
        let value = HeaderValue::from_str(value).map_err(|_| bad("headers", name, unfit))?;
        map.insert(named("headers", name)?, value);
    }
    for (name, reference) in &spec.secret_headers {
        let place = format!("http.secret_headers.{name}");
        let secret = secrets.resolve(reference).map_err(|source| BadAction::Secret { place, source })?;
        let prefix = spec.secret_prefixes.get(name).map_or("", String::as_str);
        let text = Zeroizing::new(format!("{prefix}{}", secret.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| bad("secret_headers", name, unfit))?;
        value.set_sensitive(true);
        map.insert(named("secret_headers", name)?, value);
    }
    match spec.secret_prefixes.keys().find(|name| !spec.secret_headers.contains_key(*name)) {
        Some(name) => {
            Err(bad("secret_prefixes", name, "is not among `secret_headers`; write its name the same way"))
        }
        None => Ok(map),
    }
}

/// The table at the top, for answers that are not the declared success: the kind of failure, or `None` for unknown.
fn failure(status: u16, keyed: bool) -> Option<(FailureKind, &'static str)> {
    match status {
        301 | 307 | 308 => {
            Some((FailureKind::Permanent, "redirects are refused; configure the final address"))
        }
        408 | 425 | 429 => Some((FailureKind::Retryable, "the target did not take the request")),
        409 if keyed => None,
        400..=499 => Some((FailureKind::Permanent, "the target refused the request")),
        _ => None,
    }
}

#[async_trait]
impl Action for Http {
    async fn rehearse(&self, _context: &Context) -> Tried {
        Tried::Works { how: "its address is allowed and its secrets are there; no request was sent".into() }
    }

    async fn inspect(&self, context: &Context) -> Inspected {
        let received = match self.exchange(context, false).await {
            Answer::NotSent { reason, .. } | Answer::Lost { reason } => return Inspected::Unclear { reason },
            Answer::Received(received) => received,
        };
        let unclear = |reason| Inspected::Unclear { reason };
        let status = received.status;
        if self.success.status.contains(&status) {
            return match self.judge_json(&received) {
                Json::AsDeclared => Inspected::Present,
                Json::Other(_) => Inspected::Missing,
                Json::Unreadable(reason) => unclear(reason),
            };
        }
        match status {
            // These speak about the asking and not about the effect.
            300..=399 | 401 | 403 | 407 | 408 | 425 | 429 => {
                unclear(format!("HTTP {status} says nothing about the effect"))
            }
            200..=499 => Inspected::Missing,
            _ => unclear(format!("HTTP {status}")),
        }
    }

    async fn apply(&self, context: &Context) -> StepOutcome {
        let keyed = context.class == EffectClass::Keyed;
        let received = match self.exchange(context, keyed).await {
            Answer::NotSent { kind, reason } => {
                return StepOutcome::Failed {
                    kind,
                    reason: format!("nothing was sent: {reason}"),
                    output: String::new(),
                };
            }
            Answer::Lost { reason } => return StepOutcome::Unknown { reason, output: String::new() },
            Answer::Received(received) => received,
        };
        let output = self.shown(&received);
        let status = received.status;
        if self.success.status.contains(&status) {
            return match self.judge_json(&received) {
                Json::AsDeclared => StepOutcome::Done { output, changed: true },
                Json::Other(problem) | Json::Unreadable(problem) => {
                    StepOutcome::Unknown { reason: format!("HTTP {status}, and {problem}"), output }
                }
            };
        }
        let after = match &received.retry_after {
            Some(after) => format!("; it asks to be left alone for {after:?} (Retry-After)"),
            None => String::new(),
        };
        match failure(status, keyed) {
            Some((kind, words)) => {
                StepOutcome::Failed { kind, reason: format!("HTTP {status}: {words}{after}"), output }
            }
            None => {
                let reason = format!("HTTP {status} does not tell whether the request took effect{after}");
                StepOutcome::Unknown { reason, output }
            }
        }
    }
}

#[cfg(test)]
mod tests;
