//! Looks: watches, incidents, plans, the ledger, our own health.

use super::{Problem, State};
use crate::dispatcher::DEAD_LETTER_STREAM;
use crate::dispatcher::{View, WatchSummary};
use crate::ledger::{Ledger, LedgerError, Record};
use axum::Json;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use rules::fleet::Freeze;
use rules::ids::WatchId;
use rules::report::{WhyCard, postmortem as draft, why_card};
use rules::watch::Watch;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Records of the ledger that one answer holds.
const MOST_RECORDS: u32 = 1_000;
/// Bytes of bodies that one answer holds: a record has at most 1 MiB, and a thousand of those would be all the memory.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Records read from the ledger at once.
const RECORDS_AT_ONCE: u32 = 16;

/// `GET /v1/watches`
pub(super) async fn watches(shared: State) -> Result<Json<Vec<WatchSummary>>, Problem> {
    shared.look(|view| Json(view.all().into_iter().map(WatchSummary::from).collect())).await
}

/// `GET /v1/incidents`
pub(super) async fn incidents(shared: State) -> Result<Json<Vec<WatchSummary>>, Problem> {
    let found = |watch: &&Watch| watch.incident.is_some();
    shared
        .look(move |view| Json(view.all().into_iter().filter(found).map(WatchSummary::from).collect()))
        .await
}

/// `GET /v1/plans`
pub(super) async fn plans(shared: State) -> Result<Json<Vec<WatchSummary>>, Problem> {
    let planned = |watch: &&Watch| watch.plan.is_some() && !watch.is_closed();
    shared
        .look(move |view| Json(view.all().into_iter().filter(planned).map(WatchSummary::from).collect()))
        .await
}

/// `GET /v1/plans/{id}`: the whole plan.
pub(super) async fn plan(shared: State, Path(id): Path<String>) -> Result<impl IntoResponse, Problem> {
    let found = shared.look(move |view| {
        let plan = view.all().into_iter().find_map(|watch| {
            let (plan, digest) = watch.plan.as_ref()?;
            (plan.id.as_str() == id).then(|| {
                let rehearsed = watch.rehearsal.as_ref().filter(|(last, _)| last.to == plan.to.version);
                let (rehearsal, at) = rehearsed.map(|(last, at)| (last, at)).unzip();
                json!({
                    "digest": digest, "plan": plan, "watch": WatchSummary::from(watch),
                    "rehearsal": rehearsal, "rehearsed_at": at,
                })
            })
        });
        plan.map(Json)
    });
    found.await?.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such plan in memory"))
}

/// `GET /v1/drills`: each service as `service@environment`, with its last drill if there was one.
pub(super) async fn drills(shared: State) -> Result<impl IntoResponse, Problem> {
    let last = |view: View<'_>| {
        let told = |(name, last): (&str, Option<&(jiff::Timestamp, String)>)| {
            (name.to_owned(), last.map(|(at, outcome)| json!({ "at": at, "outcome": outcome })))
        };
        view.fleet.drills().map(told).collect::<BTreeMap<_, _>>()
    };
    shared.look(last).await.map(Json)
}

/// A watch with its timeline.
#[derive(Serialize)]
struct WatchDetail {
    #[serde(rename = "watch")]
    summary: WatchSummary,
    why: WhyCard,
    text: String,
    timeline: Vec<(jiff::Timestamp, String)>,
}

/// Looks at a watch: in memory, or as the ledger tells it.
async fn with_watch<T: Send + 'static>(
    shared: &State,
    id: String,
    look: impl Fn(&Watch, jiff::Timestamp) -> T + Clone + Send + 'static,
) -> Result<T, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "there is no such watch; see `turnback status`");
    let id = WatchId::new(id).map_err(|_| missing())?;
    let (wanted, looks) = (id.clone(), look.clone());
    let found = shared.look(move |view| view.watch(&wanted).map(|watch| looks(watch, view.now))).await?;
    if let Some(found) = found {
        return Ok(found);
    }
    let restored = crate::dispatcher::read_watch(&shared.ledger, &id).await;
    let watch =
        restored.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    watch.map(|watch| look(&watch, crate::clock::now())).ok_or_else(missing)
}

/// `GET /v1/watches/{id}`
pub(super) async fn watch(shared: State, Path(id): Path<String>) -> Result<impl IntoResponse, Problem> {
    let detail = |watch: &Watch, now| {
        let why = why_card(watch, now);
        WatchDetail { summary: watch.into(), text: why.to_string(), why, timeline: watch.timeline.clone() }
    };
    with_watch(&shared, id, detail).await.map(Json)
}

/// `GET /v1/watches/{id}/explanation`
pub(super) async fn explanation(shared: State, Path(id): Path<String>) -> Result<Json<WhyCard>, Problem> {
    with_watch(&shared, id, why_card).await.map(Json)
}

/// `GET /v1/watches/{id}/postmortem`
pub(super) async fn postmortem(shared: State, Path(id): Path<String>) -> Result<impl IntoResponse, Problem> {
    let text = with_watch(&shared, id, draft).await?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text))
}

/// `GET /v1/fleet`: what is stopped, suspended, frozen.
pub(super) async fn fleet(shared: State) -> Result<impl IntoResponse, Problem> {
    let cut_off: Vec<_> = shared
        .inlet
        .board()
        .standings()
        .into_iter()
        .filter(|(_, standing)| standing.connected == Some(false))
        .map(|(name, standing)| {
            let reason = standing.last_error.map(|(_, reason)| reason);
            json!({ "name": name, "source": standing.source, "since": standing.since, "reason": reason })
        })
        .collect();
    let looked = shared.look(move |view| {
        json!({
            "cut_off": cut_off,
            "stopped": view.stopped(),
            "stop_file": view.stop_file(),
            "auto_suspended": view.fleet.auto_suspended(),
            "freezes": view.fleet.freezes(view.now),
            "open_watches": view.watches.len(),
            "unwatched": view.unwatched(),
        })
    });
    looked.await.map(Json)
}

/// `GET /v1/freezes`
pub(super) async fn freezes(shared: State) -> Result<Json<Vec<Freeze>>, Problem> {
    shared.look(|view| Json(view.fleet.freezes(view.now).into_iter().cloned().collect())).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default)]
    after: i64,
    #[serde(default = "most_records")]
    limit: u32,
}

fn most_records() -> u32 {
    MOST_RECORDS
}

/// Records up to a number and, after the first, up to a size; whoever reads on from the last one gets them all.
async fn records(ledger: &Ledger, after: i64, limit: u32) -> Result<Vec<Record>, LedgerError> {
    let mut found: Vec<Record> = Vec::new();
    let mut bytes = 0;
    loop {
        let after = found.last().map_or(after, |record| record.sequence);
        let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        let part = ledger.read_after(after, left.min(RECORDS_AT_ONCE)).await?;
        if part.is_empty() {
            return Ok(found);
        }
        for record in part {
            bytes += record.body_text.len();
            if bytes > MOST_BYTES && !found.is_empty() {
                return Ok(found);
            }
            found.push(record);
        }
    }
}

/// `GET /v1/ledger?after=&limit=`
pub(super) async fn ledger(shared: State, Query(page): Query<Page>) -> Result<impl IntoResponse, Problem> {
    let records = records(&shared.ledger, page.after, page.limit.min(MOST_RECORDS)).await;
    let records =
        records.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Json(json!({ "head": shared.ledger.head(), "records": records })))
}

/// Dead letters in one answer: each may have 16 KiB.
const MOST_LETTERS: u32 = 200;

/// `GET /v1/dead-letters?after=&limit=`: messages that could not be read, with the reason.
pub(super) async fn dead_letters(
    shared: State,
    Query(page): Query<Page>,
) -> Result<impl IntoResponse, Problem> {
    let limit = page.limit.min(MOST_LETTERS);
    let records = shared.ledger.read_stream_after(DEAD_LETTER_STREAM, page.after, limit).await;
    let records =
        records.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Json(json!({ "records": records })))
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the state is restored, the ledger takes records, and how each source is doing. A source that fails is
/// degraded operation and said; it does not make the agent unready, or an outage of Prometheus would take it away too.
pub(super) async fn readyz(shared: State, headers: HeaderMap) -> impl IntoResponse {
    let restored = *shared.ready.borrow();
    let poisoned = shared.ledger.poisoned().await;
    let sources: serde_json::Map<String, serde_json::Value> = shared
        .collector
        .sources()
        .iter()
        .map(|(name, source)| {
            let health = source.health();
            let last_error = health.last_error.map(|(at, reason)| json!({ "at": at, "reason": reason }));
            let words = json!({
                "source": source.describe(),
                "last_success": health.last_success,
                "last_error": last_error,
                "series": health.series,
                "pushed": health.pushed,
            });
            (name.clone(), words)
        })
        .collect();
    let ready = restored && poisoned.is_none();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !shared.access.may_look(&headers) {
        // Addresses and errors of the sources are for people; whoever only routes to us needs the word.
        return (status, Json(json!({ "ready": ready })));
    }
    let body = json!({
        "ready": ready,
        "restored": restored,
        "ledger": poisoned,
        "ledger_head_file": shared.ledger.head_file_problem(),
        "sources": sources,
        "event_sources": shared.inlet.board().standings(),
        "overflow": shared.inlet.board().overflow(),
    });
    (status, Json(body))
}

/// How long the loop has to say how many watches are open, before the other figures are told without that one.
const FIGURES_WITHIN: Duration = Duration::from_secs(1);

/// `GET /metrics`: also, and above all, while the disk stands still.
pub(super) async fn metrics(shared: State) -> impl IntoResponse {
    let open = tokio::time::timeout(FIGURES_WITHIN, shared.look(|view| view.watches.len())).await;
    let open = open.ok().and_then(Result::ok);
    let signals = shared.collector.sources().iter().map(|(name, source)| (name.as_str(), source.health()));
    let text = shared.metrics.render(open, shared.ledger.head().sequence, shared.inlet.board(), signals);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::NewRecord;

    #[tokio::test]
    async fn a_page_of_the_ledger_is_bounded_in_bytes_and_reading_on_gets_all() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).await.unwrap();
        let body = json!("x".repeat(900 * 1024));
        for _ in 0..10 {
            let record = NewRecord::new("other", "entry", 1, crate::clock::now(), body.clone());
            ledger.append(vec![record]).await.unwrap();
        }
        let (mut after, mut pages) = (0, Vec::new());
        while let Some(last) = {
            let page = records(&ledger, after, MOST_RECORDS).await.unwrap();
            pages.push(page.len());
            page.last().map(|record| record.sequence)
        } {
            after = last;
        }
        assert_eq!((pages, after), (vec![4, 4, 2, 0], 10));
        assert_eq!(records(&ledger, 0, 3).await.unwrap().len(), 3);
    }
}
