//! What the outside world says, turned into words of the rules.
//!
//! Everything here is a pure function: headers, raw bytes, the source that was authenticated and the time go in; what
//! was said comes out, or a refusal that names the field and says what to do. No clock, no IO, no state. The HTTP
//! server calls, in this order: [`auth::authenticate`] over the raw bytes, [`parse_events`] or [`parse_alerts`],
//! [`check_scope`] (alerts: what is out of scope is left out), then commits to the ledger, and only then acknowledges.
//!
//! Three rules decide what becomes of a message:
//! * **Identifiers only.** A message names a service, an environment and a version. Nothing in it is a command, an
//!   address or a target, and nothing in it is followed, opened or fetched.
//! * **All or nothing.** A malformed message refuses the whole request, so "acknowledged" means "all of it is kept" and
//!   sending it again is safe.
//! * **Nothing ignored in silence.** A message that is well-formed but of a type that says nothing here is refused
//!   (422, with the list of what is understood), because a subscription to the wrong type would otherwise look
//!   healthy while no deployment is ever watched. In a batch that also holds something usable it becomes a note instead,
//!   because refusing would lose the usable part.

pub mod alertmanager;
pub mod auth;
pub mod cdevents;
pub mod cloudevents;
pub mod config;
pub mod credential;
mod dead_letter;
#[cfg(test)]
mod fuzz;
pub mod hooks;
#[cfg(test)]
mod hostile;
pub(crate) mod json;
pub mod kafka;
mod keys;
pub mod kubernetes;
pub mod limits;
pub mod listener;
pub mod native;
pub mod nats;
#[cfg(test)]
mod samples;
pub mod stream;

pub use alertmanager::{AlertLabels, Alerts, LeftOut, parse_alerts, parse_alerts_with};
pub use config::{BadSource, EventSourceConfig};
pub use credential::CredentialConfig;
pub use dead_letter::{DeadBody, DeadLetter};
pub use keys::EventSourceKeys;

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use jiff::Timestamp;
use limits::{MAX_BATCH, shown};
use rules::deployment::{DeployEvent, Report};
use rules::ids::{ServiceName, SourceName};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A release was deployed, rolled back or removed.
    Deploy(DeployEvent),
    /// An alert, a test result or an incident.
    Report(Report),
}

impl Incoming {
    /// The service it is about.
    pub fn service(&self) -> &ServiceName {
        match self {
            Incoming::Deploy(event) => &event.service,
            Incoming::Report(report) => &report.service,
        }
    }
}

/// A message that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// With the source it recognises the same news when it comes again. At most 600 bytes, no control characters.
    /// For a deployment it is also `DeployEvent::id`; a report and its end share `Report::id` but not this one.
    pub id: String,
    /// What it says.
    pub incoming: Incoming,
    /// The message as it came (a CloudEvent in its structured form), for the ledger.
    pub raw: Value,
    /// Warnings for people: read leniently, late, something of the batch left out.
    pub notes: Vec<String>,
}

/// A request that was refused. Nothing of it was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// The HTTP status: 400, 403, 413, 415 or 422.
    pub status: u16,
    /// Which field, what was expected, what to do. Values from the message are cut and escaped.
    pub reason: String,
    /// It is well-formed and says nothing that is of interest here. Who asks us is told; what a broker has is passed over.
    pub says_nothing: bool,
}

impl Refused {
    pub(crate) fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), says_nothing: false }
    }
    /// 422: well-formed, and nothing of interest.
    pub(crate) fn silent(reason: impl Into<String>) -> Self {
        Self { says_nothing: true, ..Self::new(422, reason) }
    }
    /// 422: a field has the wrong value.
    pub(crate) fn field(field: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(422, format!("`{field}`: {problem}"))
    }
}

/// What all readers need to know besides the message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) source: &'a SourceName,
    pub(crate) now: Timestamp,
}

/// What became of one well-formed message.
#[derive(Debug)]
pub(crate) enum Outcome {
    Usable(Box<Accepted>),
    /// Well-formed, but it says nothing here; the words say why.
    Silent(String),
}

/// Reads `POST /v1/events`: CloudEvents 1.0 (binary, structured, batch) around CDEvents or our own form, plain
/// CDEvents, and our own JSON form or a list of it. Errors: 400 no JSON, 413 too much, 415 content type, 422 anything
/// else that is wrong; all with words.
pub fn parse_events(
    source: &SourceName,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Vec<Accepted>, Refused> {
    let context = Context { source, now };
    refuse_encoded(headers)?;
    let media = media_type(headers)?;
    match media.as_deref() {
        Some("application/cloudevents+json") => {
            let value = json::parse(body)?;
            collect([("".to_owned(), &value)], |path, value| cloudevents::structured(context, path, value))
        }
        Some("application/cloudevents-batch+json") => match json::parse(body)? {
            Value::Array(items) => {
                collect(numbered(&items)?, |path, value| cloudevents::structured(context, path, value))
            }
            other => Err(Refused::new(
                422,
                format!("a batch must be a list of events, it is {}", json::kind(&other)),
            )),
        },
        _ if cloudevents::is_binary(headers) => match media.as_deref() {
            None | Some("application/json") => {
                let event = cloudevents::binary(headers, body)?;
                collect([("".to_owned(), &event)], |path, value| {
                    cloudevents::structured(context, path, value)
                })
            }
            Some(other) => Err(unsupported(other)),
        },
        Some("application/json") => plain(context, headers, &json::parse(body)?),
        Some(other) => Err(unsupported(other)),
        None => Err(unsupported("")),
    }
}

/// 403 if one message is about a service that this source may not speak about. The whole request is refused: the
/// sender is misconfigured or lying, and either way a person should look.
pub fn check_scope(key: &auth::EventSourceKey, accepted: &[Accepted]) -> Result<(), Refused> {
    check_services(&key.name, &key.services, accepted)
}

/// The same for a source that is known by other means than a key.
pub(crate) fn check_services(
    source: &SourceName,
    services: &auth::ServiceScope,
    accepted: &[Accepted],
) -> Result<(), Refused> {
    match accepted
        .iter()
        .map(|accepted| accepted.incoming.service())
        .find(|service| !services.allows(service))
    {
        None => Ok(()),
        Some(service) => Err(Refused::new(
            403,
            format!(
                "the event source `{source}` may not speak about the service `{service}`; nothing of this request was \
                 kept; add the service to this source's `services` in the configuration if it should"
            ),
        )),
    }
}

/// The same for a delivery of reports: what is about a service that this source may not speak about is left out, with a note,
/// and the others count. Whoever sends alerts never says again what was answered 4xx, and one alert that strayed into a
/// group must not cost the rest of it. Gives how many were left out. Errors: 403 if nothing remains; and as [`check_scope`]
/// if there is a deployment among them.
pub(crate) fn within_scope(
    key: &auth::EventSourceKey,
    mut accepted: Vec<Accepted>,
) -> Result<(Vec<Accepted>, u64), Refused> {
    let is_within = |accepted: &Accepted| key.services.allows(accepted.incoming.service());
    let has_deployment = accepted.iter().any(|accepted| matches!(accepted.incoming, Incoming::Deploy(_)));
    if has_deployment || !accepted.iter().any(is_within) {
        check_scope(key, &accepted)?;
        return Ok((accepted, 0));
    }
    // What is said about the whole delivery stands in the notes of its first.
    let whole = match accepted.first_mut() {
        Some(first) if !is_within(first) => std::mem::take(&mut first.notes),
        _ => Vec::new(),
    };
    let (within, foreign): (Vec<_>, Vec<_>) = accepted.into_iter().partition(is_within);
    let mut counts: BTreeMap<&ServiceName, u64> = BTreeMap::new();
    for accepted in &foreign {
        *counts.entry(accepted.incoming.service()).or_default() += 1;
    }
    let words = counts.iter().map(|(service, count)| {
        format!(
            "{count} about the service `{service}`, about which the event source `{}` may not speak (it may about {}); add \
             it to this source's `services` in the configuration if it should",
            key.name, key.services
        )
    });
    let mut within = settle(within, words.collect())?;
    if let Some(first) = within.first_mut() {
        first.notes.extend(whole);
    }
    Ok((within, foreign.len() as u64))
}

/// The first 16 bytes of SHA-256, as hexadecimal digits: the name of a body that has no other.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// JSON without a CloudEvents content type: our own form, a CDEvent, or a CloudEvent sent as `application/json`.
fn plain(context: Context<'_>, headers: &HeaderMap, value: &Value) -> Result<Vec<Accepted>, Refused> {
    let message = single_header(headers, &HeaderName::from_static("webhook-id"))?;
    let message = message.map(|id| limits::identity("header webhook-id", id)).transpose()?;
    let read = |path: &str, value: &Value| {
        if value.get("specversion").is_some() {
            let mut outcome = cloudevents::structured(context, path, value)?;
            if let Outcome::Usable(accepted) = &mut outcome {
                accepted
                    .notes
                    .push("a CloudEvent sent as application/json; send application/cloudevents+json".into());
            }
            return Ok(outcome);
        }
        if value.get("context").is_some() {
            return cdevents::parse(context, path, value, None);
        }
        // One delivery can carry a list, so its id alone would make all items the same news.
        let identity = message.as_ref().map(|id| format!("{id}{path}"));
        native::parse(context, path, value, identity).map(|accepted| Outcome::Usable(Box::new(accepted)))
    };
    match value {
        Value::Array(items) => collect(numbered(items)?, read),
        single => collect([("".to_owned(), single)], read),
    }
}

fn numbered(items: &[Value]) -> Result<Vec<(String, &Value)>, Refused> {
    match items.len() {
        0 => Err(Refused::new(422, "the list is empty; send at least one event")),
        count if count > MAX_BATCH => Err(Refused::new(
            413,
            format!("the list has {count} events, at most {MAX_BATCH} are allowed; send smaller batches"),
        )),
        _ => Ok(items.iter().enumerate().map(|(index, item)| (format!("[{index}]"), item)).collect()),
    }
}

fn collect<'a>(
    items: impl IntoIterator<Item = (String, &'a Value)>,
    read: impl Fn(&str, &Value) -> Result<Outcome, Refused>,
) -> Result<Vec<Accepted>, Refused> {
    let mut usable = Vec::new();
    let mut silent = Vec::new();
    for (path, value) in items {
        match read(&path, value)? {
            Outcome::Usable(accepted) => usable.push(*accepted),
            Outcome::Silent(why) => silent.push(why),
        }
    }
    settle(usable, silent)
}

/// Notes about the unusable go to the first usable message; without one they are the refusal.
pub(crate) fn settle(mut usable: Vec<Accepted>, silent: Vec<String>) -> Result<Vec<Accepted>, Refused> {
    // Five examples tell the story of 256.
    let more = silent.len().saturating_sub(5);
    let mut words = silent.into_iter().take(5).collect::<Vec<_>>();
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    match usable.first_mut() {
        Some(first) => first.notes.extend(words.into_iter().map(|why| format!("left out: {why}"))),
        None => return Err(Refused::silent(format!("nothing usable: {}", words.join("; ")))),
    }
    Ok(usable)
}

fn refuse_encoded(headers: &HeaderMap) -> Result<(), Refused> {
    match single_header(headers, &CONTENT_ENCODING)? {
        None | Some("identity") => Ok(()),
        Some(other) => Err(Refused::new(
            415,
            format!("header content-encoding: {} is not accepted; send the body uncompressed", shown(other)),
        )),
    }
}

fn media_type(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let Some(text) = single_header(headers, &CONTENT_TYPE)? else { return Ok(None) };
    let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
    let media = parts.next().filter(|media| !media.is_empty());
    match parts
        .filter_map(|part| part.strip_prefix("charset=").map(str::to_owned))
        .find(|name| name.trim_matches('"') != "utf-8")
    {
        None => Ok(media),
        Some(charset) => Err(Refused::new(
            415,
            format!("header content-type: charset {} is not accepted; send utf-8", shown(&charset)),
        )),
    }
}

fn unsupported(found: &str) -> Refused {
    let found =
        if found.is_empty() { "is missing".to_owned() } else { format!("{} is not accepted", shown(found)) };
    Refused::new(
        415,
        format!(
            "header content-type: {found}; send application/cloudevents+json, \
             application/cloudevents-batch+json, or application/json (with ce- headers for a binary CloudEvent)"
        ),
    )
}

/// The value of a header that may come once. Errors: 400 if it comes twice or is not visible ASCII.
pub(crate) fn single_header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refused::new(400, format!("header {name}: it comes more than once; send it once")));
    }
    value.to_str().map(Some).map_err(|_| Refused::new(400, format!("header {name}: it is not visible ASCII")))
}
