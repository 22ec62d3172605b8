//! Webhooks of others, at an address each.
//!
//! The answer to whoever proves nothing is the same for every name, so that names cannot be tried out; the operator finds
//! the reason in the log.

use super::intake::{Receipted, keep};
use super::{Problem, Shared, State};
use crate::clock;
use crate::events::auth::Unauthenticated;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};

/// What whoever proves nothing is told.
const WHO_MAY_TELL: &str = "not authenticated: there is no such hook, or the request does not carry the proof that is \
    configured for it; the agent's log says which";

/// The longest origin that is repeated: a domain name.
const LONGEST_ORIGIN: usize = 253;

/// `POST /v1/hooks/{name}`
pub(super) async fn hook(
    shared: State,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Receipted {
    let result = read(&shared, &name, &headers, &body).await;
    shared.metrics.event("hook", if result.is_ok() { "accepted" } else { "refused" });
    result
}

async fn read(shared: &Shared, name: &str, headers: &HeaderMap, body: &Bytes) -> Receipted {
    let now = clock::now();
    let found = match shared.sources.hook(name) {
        Some(hook) => hook.key().recognise(headers, body, now).map(|()| hook),
        None => Err(Unauthenticated::unknown(name)),
    };
    let hook = found.map_err(|unknown| {
        tracing::warn!(why = %unknown.for_the_log(), "a hook was refused");
        Problem::new(
            StatusCode::from_u16(Unauthenticated::STATUS).unwrap_or(StatusCode::UNAUTHORIZED),
            WHO_MAY_TELL,
        )
    })?;
    let heard = hook.read(headers, body, now).inspect_err(|refused| {
        // Senders show their users a status at most: this is where the words are found.
        tracing::warn!(hook = %hook.key().name, status = refused.status, why = %refused, "a message was refused");
    })?;
    keep(shared, hook.key(), heard.accepted, heard.notes).await
}

/// `OPTIONS`: the handshake of CloudEvents' webhooks, by which a sender asks whether it may send at all. It may try: what
/// it sends needs a proof all the same.
pub(super) async fn handshake(headers: HeaderMap) -> Response {
    let origin = headers.get("webhook-request-origin").filter(|origin| origin.len() <= LONGEST_ORIGIN);
    let allow = (HeaderName::from_static("allow"), "OPTIONS, POST".parse());
    let mut answer = StatusCode::NO_CONTENT.into_response();
    if let (name, Ok(value)) = allow {
        answer.headers_mut().insert(name, value);
    }
    if let Some(origin) = origin {
        answer.headers_mut().insert("webhook-allowed-origin", origin.clone());
        if let Some(rate) = headers.get("webhook-request-rate") {
            answer.headers_mut().insert("webhook-allowed-rate", rate.clone());
        }
        *answer.status_mut() = StatusCode::OK;
    }
    answer
}
