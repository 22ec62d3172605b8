//! News: authenticated, read, on disk, and only then acknowledged.

use super::{Problem, QUEUE_PATIENCE, Shared, State};
use crate::clock;
use crate::dispatcher::EventAnswer;
use crate::events::auth::{EventSourceKey, Unauthenticated, authenticate};
use crate::events::{Accepted, Incoming, Refused, check_scope, parse_alerts_with, parse_events};
use crate::inlet::{News, NotTaken};
use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

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

/// `POST /v1/events`
pub(super) async fn events(shared: State, headers: HeaderMap, body: Bytes) -> Receipted {
    take(&shared, &headers, &body, "event", |key, now| {
        parse_events(&key.name, &*key.credential.proved(&headers, &body)?, &body, now)
    })
    .await
}

/// `POST /v1/alerts`
pub(super) async fn alerts(shared: State, headers: HeaderMap, body: Bytes) -> Receipted {
    take(&shared, &headers, &body, "alert", |key, now| {
        parse_alerts_with(&key.name, shared.sources.alert_labels(&key.name), &body, now)
    })
    .await
}

async fn take(
    shared: &Shared,
    headers: &HeaderMap,
    body: &Bytes,
    kind: &'static str,
    parse: impl FnOnce(&EventSourceKey, Timestamp) -> Result<Vec<Accepted>, Refused>,
) -> Receipted {
    let result = read(shared, headers, body, parse).await;
    shared.metrics.event(kind, if result.is_ok() { "accepted" } else { "refused" });
    result
}

async fn read(
    shared: &Shared,
    headers: &HeaderMap,
    body: &Bytes,
    parse: impl FnOnce(&EventSourceKey, Timestamp) -> Result<Vec<Accepted>, Refused>,
) -> Receipted {
    let now = clock::now();
    let key = authenticate(shared.sources.keys(), headers, body, now).map_err(|unknown| {
        tracing::warn!(why = %unknown.for_the_log(), "news refused");
        Problem::new(
            StatusCode::from_u16(Unauthenticated::STATUS).unwrap_or(StatusCode::UNAUTHORIZED),
            WHO_MAY_TELL,
        )
    })?;
    let accepted = parse(key, now)?;
    check_scope(key, &accepted)?;
    keep(shared, key, accepted, Vec::new()).await
}

/// Puts news on disk and says what became of it.
pub(super) async fn keep(
    shared: &Shared,
    key: &EventSourceKey,
    accepted: Vec<Accepted>,
    mut notes: Vec<String>,
) -> Receipted {
    let unheard = accepted.iter().filter_map(|accepted| unheard(shared, &accepted.incoming));
    notes.extend(accepted.iter().flat_map(|accepted| accepted.notes.clone()).chain(unheard));
    let news = News { accepted, dead: Vec::new() };
    let results = shared.inlet.tell(&key.name, news, QUEUE_PATIENCE).await?;
    Ok((StatusCode::ACCEPTED, Json(Receipt { results, notes })))
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

    #[tokio::test]
    async fn every_401_has_the_same_words_and_says_where_the_token_is() {
        let dir = tempfile::tempdir().unwrap();
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
        let messages = mpsc::channel(1).0;
        let shared = Shared {
            inlet: Inlet::new(messages.clone(), Board::default()),
            messages,
            ledger,
            executor,
            access: Access::new("secret".into(), true),
            sources,
            collector: Collector::new(BTreeMap::new()),
            rules: Arc::new(|service, environment| {
                let matrix = rules::ruleset::shipped_matrix("standard").unwrap();
                rules::ruleset::RuleSet::unconfigured(service.clone(), environment.clone(), matrix)
            }),
            metrics: Metrics::default(),
            stopped: watch::channel(false).0,
            ready: watch::channel(true).1,
        };
        for given in [None, Some("Bearer wrong"), Some("Basic c2VjcmV0")] {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert("authorization", given.parse().unwrap());
            }
            let refused = read(&shared, &headers, &Bytes::new(), |_, _| Ok(Vec::new())).await.unwrap_err();
            assert_eq!((refused.status, refused.words.as_str()), (StatusCode::UNAUTHORIZED, WHO_MAY_TELL));
        }
        for part in ["`Authorization: Bearer TOKEN`", "the file `token`", "a configured event source"] {
            assert!(WHO_MAY_TELL.contains(part), "{part}");
        }
    }
}
