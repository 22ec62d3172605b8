//! Samples that are sent to us: Prometheus remote write and OTLP over HTTP.
//!
//! Unlike news they are not written down: what is decided from them is. So the answer does not wait for the disk, and a
//! sender that got none sends again, which does no harm. What can never be taken is answered 4xx, so that nobody sends it
//! for ever; what may be taken later 503.

use super::Problem;
use crate::clock;
use crate::signals::pushed::{
    BadPush, Batch, MOST_BODY_BYTES, MOST_UNPACKED_BYTES, PushedSource, Taken, Unusable, otlp, remote_write,
};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::timeout::TimeoutLayer;

/// Requests at the same time, each with its body in memory: 32 MiB in all. A Prometheus has one or a few under way.
const MOST_AT_ONCE: usize = 8;
/// Bodies that are unpacked and read at the same time: that is where a request takes most memory, and it takes milliseconds.
const MOST_READ_AT_ONCE: usize = 1;
/// How long a body may take to come: 4 MiB over a slow line. Whoever drips longer gives its place up.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long one request may take, the wait for its turn included.
const REQUEST_WITHIN: Duration = Duration::from_secs(15);
/// How long one that finds no place waits before it is sent away.
const PLACE_WITHIN: Duration = Duration::from_secs(1);

/// What the handlers need.
struct Shared {
    sources: BTreeMap<String, Arc<PushedSource>>,
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

type Push = State<Arc<Shared>>;

/// The routes of the sources that are pushed to.
pub fn router(sources: BTreeMap<String, Arc<PushedSource>>) -> Router {
    let (places, turns) = (Semaphore::new(MOST_AT_ONCE), Semaphore::new(MOST_READ_AT_ONCE));
    let shared = Shared { sources, places: Arc::new(places), turns: Arc::new(turns) };
    Router::new()
        .route("/v1/push/{name}/write", post(write))
        .route("/v1/push/{name}/v1/metrics", post(metrics))
        .layer(DefaultBodyLimit::disable())
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_WITHIN))
        .with_state(Arc::new(shared))
}

/// The same words whether there is no such source or the credential is wrong: nothing can be learnt from them.
fn unauthenticated() -> Response {
    let words = "not authenticated: send the credential of signals.pushed.NAME as `Authorization: Bearer TOKEN` or `Basic ...`";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, words).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn busy(words: &str) -> Response {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, words).into_response()
}

fn refused(bad: &BadPush) -> Response {
    let status = StatusCode::from_u16(bad.status).unwrap_or(StatusCode::BAD_REQUEST);
    Problem::new(status, bad.reason.clone()).into_response()
}

/// A request that was let in, with its place and its body.
struct Admitted {
    source: Arc<PushedSource>,
    headers: HeaderMap,
    body: Bytes,
    place: OwnedSemaphorePermit,
}

impl Shared {
    /// Lets a request in: who it is comes first, so that nobody unknown makes us read or hold anything.
    async fn admit(&self, name: &str, request: Request) -> Result<Admitted, Response> {
        let (parts, body) = request.into_parts();
        let source = self.sources.get(name).filter(|source| source.opened_by(&parts.headers));
        let Some(source) = source else {
            tracing::warn!(source = %name.chars().take(80).collect::<String>(), "a push was refused: wrong name or credential");
            return Err(unauthenticated());
        };
        let place = tokio::time::timeout(PLACE_WITHIN, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            source.note_unreadable(clock::now(), "too many pushes at once; one was sent away to come again");
            return Err(busy("too many pushes at once; send this again"));
        };
        let body = match tokio::time::timeout(BODY_WITHIN, whole(body)).await {
            Ok(Ok(body)) => body,
            Ok(Err(bad)) => {
                source.note_unreadable(clock::now(), &bad.reason);
                return Err(refused(&bad));
            }
            Err(_too_slow) => {
                // A line that is slow today may be fast tomorrow: to be sent again.
                let words =
                    format!("the body did not come within {} s; send this again", BODY_WITHIN.as_secs());
                source.note_unreadable(clock::now(), &words);
                return Err(busy(&words));
            }
        };
        Ok(Admitted { source: Arc::clone(source), headers: parts.headers, body, place })
    }

    /// Reads a body away from the loop, and hands what it holds to the source.
    async fn take(
        &self,
        admitted: Admitted,
        decode: impl FnOnce(&HeaderMap, &[u8]) -> Result<Batch, BadPush> + Send + 'static,
    ) -> Result<(Taken, Unusable), Response> {
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
            return Err(busy("the agent is ending; send this again"));
        };
        let reading = tokio::task::spawn_blocking(move || {
            let Admitted { source, headers, body, place } = admitted;
            // Both are kept while it is read, also when whoever asked has left.
            let _held = (turn, place);
            let now = clock::now();
            match decode(&headers, &body) {
                Ok(batch) => {
                    let unusable = batch.unusable.clone();
                    Ok((source.take(now, batch), unusable))
                }
                Err(bad) => {
                    source.note_unreadable(now, &bad.reason);
                    Err(bad)
                }
            }
        });
        match reading.await {
            Ok(read) => read.map_err(|bad| refused(&bad)),
            Err(error) => {
                tracing::error!(%error, "a push could not be read: a defect of the agent");
                Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a defect of the agent").into_response())
            }
        }
    }
}

async fn whole(body: Body) -> Result<Bytes, BadPush> {
    axum::body::to_bytes(body, MOST_BODY_BYTES).await.map_err(|error| {
        let error = crate::signals::words(&error);
        match error.contains("length limit") {
            true => BadPush {
                status: 413,
                reason: format!("the body has more than {MOST_BODY_BYTES} bytes; send less at once"),
            },
            false => BadPush { status: 400, reason: format!("the body cannot be read: {error}") },
        }
    })
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// `POST /v1/push/{name}/write`: Prometheus remote write.
async fn write(State(shared): Push, Path(name): Path<String>, request: Request) -> Response {
    let admitted = match shared.admit(&name, request).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    let decode = |headers: &HeaderMap, body: &[u8]| {
        let encoding = text(headers, &CONTENT_ENCODING);
        if !encoding.eq_ignore_ascii_case("snappy") {
            return Err(BadPush {
                status: 415,
                reason: "the body must be packed: `Content-Encoding: snappy` (block format)".into(),
            });
        }
        remote_write::decode(text(headers, &CONTENT_TYPE), body)
    };
    match shared.take(admitted, decode).await {
        Ok((taken, _)) => written(&taken),
        Err(mut response) => {
            count_written(response.headers_mut(), 0, 0);
            response
        }
    }
}

/// The answer to a write: what was refused will be refused again, so that a part that is taken is a 400 too, with what
/// was written in the headers.
fn written(taken: &Taken) -> Response {
    let mut response = match taken.words() {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(words) => Problem::new(StatusCode::BAD_REQUEST, words).into_response(),
    };
    // What was there already is as good as written.
    count_written(
        response.headers_mut(),
        taken.kept + taken.known,
        taken.histograms + taken.known_histograms,
    );
    response
}

fn count_written(headers: &mut HeaderMap, samples: u64, histograms: u64) {
    let names = ["samples", "histograms", "exemplars"]
        .map(|what| format!("x-prometheus-remote-write-{what}-written"));
    for (name, count) in names.into_iter().zip([samples, histograms, 0]) {
        if let Ok(name) = HeaderName::try_from(name) {
            headers.insert(name, count.into());
        }
    }
}

/// `POST /v1/push/{name}/v1/metrics`: OTLP.
async fn metrics(State(shared): Push, Path(name): Path<String>, request: Request) -> Response {
    let admitted = match shared.admit(&name, request).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    let form = otlp::form(text(&admitted.headers, &CONTENT_TYPE));
    let decode = |headers: &HeaderMap, body: &[u8]| {
        let body = otlp::unpack(text(headers, &CONTENT_ENCODING), body, MOST_UNPACKED_BYTES)?;
        otlp::decode(text(headers, &CONTENT_TYPE), &body)
    };
    match (shared.take(admitted, decode).await, form) {
        (Ok((taken, _)), Ok(form)) => {
            let (content_type, body) = otlp::answer(form, taken.refused(), taken.words().unwrap_or_default());
            (StatusCode::OK, [(CONTENT_TYPE, content_type)], body).into_response()
        }
        (Ok(_), Err(bad)) => refused(&bad),
        (Err(mut response), _) => {
            if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
                response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity"));
            }
            response
        }
    }
}

#[cfg(test)]
mod tests;
