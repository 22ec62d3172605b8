//! `http`: a vendor with idempotency keys and preconditions, as an HTTP server with a state of its own.

use super::family::{Family, Row, Rule, Seen};
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use rules::action::EffectClass;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tests::gate::{Gate, NetGate};
use tokio::task::JoinHandle;

#[derive(Debug, Default)]
struct Record {
    keys: BTreeSet<String>,
    seen: (usize, usize),
    refuses: bool,
    refused: usize,
    /// Somebody else has changed the object: its entity tag is another.
    changed: bool,
}

type Shared = Arc<Mutex<Record>>;

pub struct Http {
    record: Shared,
    gate: Gate,
    port: u16,
    server: JoinHandle<()>,
}

impl Http {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn answer(record: &Shared, headers: &HeaderMap, undo: bool) -> StatusCode {
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    let header =
        |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let key = header("idempotency-key");
    if record.refuses {
        record.refused += 1;
        return StatusCode::TOO_MANY_REQUESTS;
    }
    if key.is_empty() || record.keys.contains(&key) {
        return if key.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    }
    if record.changed && header("if-match") == "\"1\"" {
        return StatusCode::PRECONDITION_FAILED;
    }
    record.keys.insert(key);
    if undo {
        record.seen.1 += 1
    } else {
        record.seen.0 += 1
    }
    StatusCode::OK
}

impl Family for Http {
    const ROW: Row = Row {
        name: "http",
        class: EffectClass::Keyed,
        undo: Rule::Kept,
        late: Rule::Kept,
        third_party: Rule::Kept,
        effect: b"POST /switch",
        between: b"POST /switch",
    };

    async fn set_up() -> Result<Http> {
        let record = Shared::default();
        let state = record.clone();
        let routes = Router::new()
            .route(
                "/switch",
                post(async |State(record): State<Shared>, headers: HeaderMap| {
                    answer(&record, &headers, false)
                })
                .delete(async |State(record): State<Shared>, headers: HeaderMap| {
                    answer(&record, &headers, true)
                }),
            )
            .with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("binding a vendor")?;
        let gate = NetGate::start(listener.local_addr()?.port()).await?;
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                eprintln!("the vendor ended: {error}");
            }
        });
        Ok(Http { record, port: gate.port(), gate: Gate::Net(gate), server })
    }

    fn action(&self) -> String {
        format!(
            "http: {{ method: POST, url: 'http://127.0.0.1:{}/switch', headers: {{ If-Match: '\"1\"' }}, \
             success: {{ status: [200] }} }}",
            self.port
        )
    }

    fn undo(&self) -> Option<String> {
        Some(format!(
            "http: {{ method: DELETE, url: 'http://127.0.0.1:{}/switch', success: {{ status: [200] }} }}",
            self.port
        ))
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }

    async fn seen(&self) -> Result<Seen> {
        let (applied, undone) = self.record().seen;
        Ok(Seen { applied, undone })
    }

    async fn refuse(&self, refuse: bool) -> Result<()> {
        self.record().refuses = refuse;
        Ok(())
    }

    async fn refused(&self) -> Result<usize> {
        Ok(self.record().refused)
    }

    async fn meddle(&self) -> Result<()> {
        self.record().changed = true;
        Ok(())
    }

    async fn meddled(&self) -> Result<bool> {
        Ok(self.record().changed)
    }
}
