//! News: authenticated, read, on disk, and only then acknowledged.
//!
//! What is refused is told to the sender, whose people seldom see it. So it is told here too: in the log, in the figures, and
//! on the board under the name of the source, where that is known.

use super::{Problem, QUEUE_PATIENCE, Shared, State, door};
use crate::clock;
use crate::dispatcher::EventAnswer;
use crate::events::auth::{Credential, EventSourceKey, Unauthenticated, authenticate};
use crate::events::hooks::Heard;
use crate::events::limits::{MAX_ALERTS_BYTES, MAX_BODY_BYTES};
use crate::events::{
    Alerts, Incoming, LeftOut, Refused, check_scope, parse_alerts_with, parse_events, single_header,
    within_scope,
};
use crate::inlet::{News, NotTaken};
use axum::Json;
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rules::ids::SourceName;
use serde::Serialize;
use std::collections::BTreeSet;

/// The most warnings of a kind in one answer: a group of thousands of alerts may have one for each.
const MOST_NOTES: usize = 50;

/// The answer to news: what became of each, and warnings.
#[derive(Debug, Serialize)]
pub(super) struct Receipt {
    results: Vec<EventAnswer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// What whoever tells news without showing who they are is told. The same words for every failure, so that nothing can be
/// learnt from them, and enough for somebody who has configured nothing.
const WHO_MAY_TELL: &str = "not authenticated: send the header `Authorization: Bearer TOKEN`; the token is in the file \
    `token` of the state directory, or as configured under api.token; or send the credential of a configured event source";

pub(super) type Receipted = Result<(StatusCode, Json<Receipt>), Problem>;

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
        Problem::new(status, refused.reason)
    }
}

impl From<NotTaken> for Problem {
    fn from(not_taken: NotTaken) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, not_taken.to_string())
    }
}

/// A request that was not taken.
pub(super) struct Rejected {
    /// Under whose name it came, as far as that is known. It need not be theirs.
    source: Option<SourceName>,
    /// What the sender is told.
    problem: Problem,
    /// Why, for our own people. Holds no secret.
    why: String,
}

impl Rejected {
    /// Nobody is proved.
    pub(super) fn stranger(source: Option<SourceName>, why: &Unauthenticated, words: &str) -> Self {
        let status = StatusCode::from_u16(Unauthenticated::STATUS).unwrap_or(StatusCode::UNAUTHORIZED);
        Self { source, problem: Problem::new(status, words), why: why.for_the_log() }
    }

    /// The sender is told why.
    pub(super) fn told(source: Option<&SourceName>, problem: impl Into<Problem>) -> Self {
        let problem = problem.into();
        Self { source: source.cloned(), why: problem.words.clone(), problem }
    }
}

/// `POST /v1/events`
pub(super) async fn events(shared: State, request: Request) -> Receipted {
    let outcome = take(&shared, request, MAX_BODY_BYTES, |key, headers, body, now| {
        let accepted = parse_events(&key.name, &*key.credential.proved(headers, body)?, body, now)?;
        check_scope(key, &accepted)?;
        Ok(Heard { accepted, ..Heard::default() })
    });
    answer(&shared, "event", outcome.await)
}

/// `POST /v1/alerts`
pub(super) async fn alerts(shared: State, request: Request) -> Receipted {
    let outcome = take(&shared, request, MAX_ALERTS_BYTES, |key, _, body, now| {
        let alerts = parse_alerts_with(&key.name, shared.sources.alert_labels(&key.name), body, now)?;
        let Alerts { accepted, mut left_out } = alerts;
        let (accepted, foreign) = within_scope(key, accepted)?;
        left_out.foreign = foreign;
        Ok(Heard { accepted, left_out, ..Heard::default() })
    });
    answer(&shared, "alert", outcome.await)
}

/// The answer to a request, counted, logged and put on the board.
pub(super) fn answer(
    shared: &Shared,
    kind: &'static str,
    outcome: Result<(SourceName, Receipt), Rejected>,
) -> Receipted {
    let Rejected { source, problem, why } = match outcome {
        Ok((source, receipt)) => {
            shared.inlet.board().accepted(&source);
            shared.metrics.event(kind, "accepted");
            return Ok((StatusCode::ACCEPTED, Json(receipt)));
        }
        Err(rejected) => rejected,
    };
    let too_large = problem.status == StatusCode::PAYLOAD_TOO_LARGE;
    shared.metrics.event(kind, if too_large { "too_large" } else { "refused" });
    let name = source.as_ref().map_or("unknown", SourceName::as_str);
    tracing::warn!(source = name, status = problem.status.as_u16(), %why, "a request with news ({kind}) was refused");
    // What we had no room for comes again: that says nothing about the source.
    if let Some(source) = source.filter(|_| problem.status.is_client_error()) {
        shared.inlet.board().refused(&source, &format!("{}: {why}", problem.status.as_u16()));
    }
    Err(problem)
}

async fn take(
    shared: &Shared,
    request: Request,
    most: usize,
    read: impl FnOnce(&EventSourceKey, &HeaderMap, &[u8], Timestamp) -> Result<Heard, Refused>,
) -> Result<(SourceName, Receipt), Rejected> {
    let (parts, body) = request.into_parts();
    let (keys, headers) = (shared.sources.keys(), parts.headers);
    let stranger = |why: Unauthenticated| {
        let source = claimed(keys, &headers).map(|key| &key.name);
        Rejected::stranger(source.cloned(), &why, WHO_MAY_TELL)
    };
    let known = match door::proved_by_head(keys, &headers, clock::now()) {
        Ok(known) => known,
        Err(nobody) => {
            door::refuse_unread(body).await;
            return Err(stranger(nobody));
        }
    };
    let name = known.map(|key| &key.name);
    let held = shared.door.take_in(body, most, known.is_some(), shared.inlet.board()).await;
    let held = held.map_err(|problem| Rejected::told(name, problem))?;
    let now = clock::now();
    let key = authenticate(keys, &headers, &held.bytes, now).map_err(stranger)?;
    let heard = read(key, &headers, &held.bytes, now);
    let heard = heard.map_err(|refused| Rejected::told(Some(&key.name), refused))?;
    keep(shared, key, heard).await
}

/// Who a request claims to be: the user of a wrong password.
fn claimed<'a>(keys: &'a [EventSourceKey], headers: &HeaderMap) -> Option<&'a EventSourceKey> {
    let text = single_header(headers, &AUTHORIZATION).ok()??;
    let (_, encoded) = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))?;
    let pair = STANDARD.decode(encoded).ok()?;
    let claimed = pair.split(|byte| *byte == b':').next()?;
    keys.iter()
        .find(|key| matches!(&key.credential, Credential::Basic { user, .. } if user.as_bytes() == claimed))
}

/// Puts news on disk and says what became of it.
pub(super) async fn keep(
    shared: &Shared,
    key: &EventSourceKey,
    heard: Heard,
) -> Result<(SourceName, Receipt), Rejected> {
    let Heard { accepted, notes, left_out } = heard;
    let note = accepted.first().and_then(|first| first.notes.first()).cloned().unwrap_or_default();
    let unheard: BTreeSet<String> =
        accepted.iter().filter_map(|accepted| unheard(shared, &accepted.incoming)).collect();
    let of_each = accepted.iter().flat_map(|accepted| accepted.notes.clone());
    let notes = notes.into_iter().chain(few(of_each.collect())).chain(few(unheard.into_iter().collect()));
    let notes = notes.collect();
    let news = News { accepted, dead: Vec::new() };
    let results = shared.inlet.tell(&key.name, news, QUEUE_PATIENCE).await;
    let results = results.map_err(|not_taken| Rejected::told(Some(&key.name), not_taken))?;
    // What is sent again, because it found no place or as a reminder, is lost once.
    if results.iter().any(|result| matches!(result, EventAnswer::Recorded { .. })) {
        lost(shared, &key.name, &left_out, &note);
    }
    Ok((key.name.clone(), Receipt { results, notes }))
}

/// Says that alerts of a delivery were not taken, if so.
fn lost(shared: &Shared, source: &SourceName, left_out: &LeftOut, note: &str) {
    if left_out.is_none() {
        return;
    }
    let reasons = left_out.reasons().into_iter().filter(|(_, count)| *count > 0);
    let words: Vec<String> = reasons.map(|(reason, count)| format!("{count} {reason}")).collect();
    tracing::warn!(%source, lost = words.join(", "), note, "alerts are lost: nobody will say them again");
    shared.metrics.left_out(source.as_str(), left_out);
}

/// Not more warnings than somebody reads.
fn few(mut notes: Vec<String>) -> Vec<String> {
    let more = notes.len().saturating_sub(MOST_NOTES);
    notes.truncate(MOST_NOTES);
    notes.extend((more > 0).then(|| format!("and {more} more such notes")));
    notes
}

/// A mistyped name is recorded and never decides anything: whoever sends it should know.
fn unheard(shared: &Shared, incoming: &Incoming) -> Option<String> {
    let Incoming::Report(report) = incoming else { return None };
    let environment = report.environment.clone().unwrap_or_else(super::people::production);
    let rules = (shared.rules)(&report.service, &environment);
    let heard = rules.matrix.rows.iter().any(|row| row.when.mentions(&report.what));
    (!heard).then(|| {
        format!(
            "no row of the matrix of {} speaks of `{}`: it is recorded and decides nothing",
            report.service, report.what
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Access;
    use crate::collector::Collector;
    use crate::dispatcher::Message;
    use crate::events::EventSourceKeys;
    use crate::events::auth::{Credential, ServiceScope};
    use crate::executor::Executor;
    use crate::inlet::{Board, Inlet};
    use crate::ledger::Ledger;
    use crate::secrets::Secrets;
    use crate::telemetry::Metrics;
    use rules::ids::SourceName;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use tokio::sync::{mpsc, watch};

    async fn shared(dir: &tempfile::TempDir, messages: mpsc::Sender<Message>) -> Arc<Shared> {
        let mut sources = EventSourceKeys::default();
        let credential = Credential::Bearer { tokens: vec!["secret".into()] };
        let name = SourceName::new("local").unwrap();
        sources.add(EventSourceKey { name, credential, services: ServiceScope::all() }, Default::default());
        let ledger = Ledger::open(&dir.path().join("ledger.db")).await.unwrap();
        let executor = Executor::new(
            ledger.clone(),
            Arc::new(Secrets::from_variables(BTreeMap::new())),
            watch::channel(Default::default()).1,
            watch::channel(false).1,
            watch::channel(false).1,
            dir.path().join("STOP"),
        );
        Arc::new(Shared {
            inlet: Inlet::new(messages.clone(), Board::default()),
            messages,
            ledger,
            executor,
            access: Access::new("secret".into(), true),
            sources,
            door: door::Door::default(),
            collector: Collector::new(BTreeMap::new()),
            rules: Arc::new(|service, environment| {
                let matrix = rules::ruleset::shipped_matrix("standard").unwrap();
                rules::ruleset::RuleSet::unconfigured(service.clone(), environment.clone(), matrix)
            }),
            metrics: Metrics::default(),
            stopped: watch::channel(false).0,
            ready: watch::channel(true).1,
        })
    }

    /// One alert; the sender left three out.
    async fn tell_of_a_cut_group(shared: &Arc<Shared>) -> StatusCode {
        let body = serde_json::json!({ "version": "4", "truncatedAlerts": 3, "alerts": [{
            "status": "firing", "fingerprint": "00000000000000a1", "startsAt": "2026-03-01T12:00:00Z",
            "labels": { "alertname": "Errors", "service": "checkout" } }] });
        let request = Request::builder().header("authorization", "Bearer secret");
        let request = request.header("content-type", "application/json");
        let request = request.body(axum::body::Body::from(body.to_string())).unwrap();
        match alerts(axum::extract::State(Arc::clone(shared)), request).await {
            Ok((status, _)) => status,
            Err(problem) => problem.status,
        }
    }

    /// The line of the figure of alerts that the sender left out, if there is one.
    fn truncated(shared: &Shared) -> Option<String> {
        let text = shared.metrics.render(None, 0, shared.inlet.board(), []);
        let mut lines = text.lines().filter(|line| line.starts_with("turnback_alerts_left_out_total"));
        lines.find(|line| line.contains("truncated")).map(str::to_owned)
    }

    #[tokio::test]
    async fn alerts_that_are_lost_are_counted_once_however_often_the_rest_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let ending = shared(&dir, mpsc::channel(1).0).await;
        assert_eq!(tell_of_a_cut_group(&ending).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(truncated(&ending), None, "it will be sent again");
        let dir = tempfile::tempdir().unwrap();
        let (messages, mut received) = mpsc::channel(8);
        let shared = shared(&dir, messages).await;
        let keeping = tokio::spawn(async move {
            let mut known = false;
            while let Some(message) = received.recv().await {
                let Message::Events { reply, .. } = message else { continue };
                let answer = match std::mem::replace(&mut known, true) {
                    false => EventAnswer::Recorded { sequence: 1 },
                    true => EventAnswer::Duplicate { sequence: 1 },
                };
                reply.send(vec![answer]).unwrap();
            }
        });
        for _ in 0..3 {
            assert_eq!(tell_of_a_cut_group(&shared).await, StatusCode::ACCEPTED);
            let figure = truncated(&shared).unwrap();
            assert!(figure.ends_with(" 3"), "{figure}");
        }
        keeping.abort();
    }

    #[tokio::test]
    async fn every_401_has_the_same_words_and_says_where_the_token_is() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(&dir, mpsc::channel(1).0).await;
        for given in [None, Some("Bearer wrong"), Some("Basic c2VjcmV0")] {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert("authorization", given.parse().unwrap());
            }
            let mut request = Request::new(axum::body::Body::from("{}"));
            *request.headers_mut() = headers;
            let refused = alerts(axum::extract::State(Arc::clone(&shared)), request).await.unwrap_err();
            assert_eq!((refused.status, refused.words.as_str()), (StatusCode::UNAUTHORIZED, WHO_MAY_TELL));
        }
        for part in ["`Authorization: Bearer TOKEN`", "the file `token`", "a configured event source"] {
            assert!(WHO_MAY_TELL.contains(part), "{part}");
        }
    }
}
