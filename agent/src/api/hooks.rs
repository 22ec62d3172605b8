//! Webhooks of others, at an address each.
//!
//! The answer to whoever proves nothing is the same for every name, so that names cannot be tried out; the operator finds
//! the reason in the log.

use super::intake::{Receipt, Receipted, Rejected, answer, keep};
use super::{Shared, State, door};
use crate::clock;
use crate::events::auth::Unauthenticated;
use crate::events::hooks::Hook;
use crate::events::limits::MAX_ALERTS_BYTES;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use rules::ids::SourceName;

/// What whoever proves nothing is told.
const WHO_MAY_TELL: &str = "not authenticated: there is no such hook, or the request does not carry the proof that is \
    configured for it; the agent's log says which";

/// The longest origin that is repeated: a domain name.
const LONGEST_ORIGIN: usize = 253;

/// `POST /v1/hooks/{name}`
pub(super) async fn hook(shared: State, Path(name): Path<String>, request: Request) -> Receipted {
    answer(&shared, "hook", take(&shared, &name, request).await)
}

/// Refusals are kept under the name of the hook, though anybody can cause them: a secret that has expired looks the same.
/// Up to the proof everything is the same whether there is such a hook or not, also how much of a body is read.
async fn take(shared: &Shared, name: &str, request: Request) -> Result<(SourceName, Receipt), Rejected> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let hook = shared.sources.hook(name);
    let source = hook.map(|hook| &hook.key().name);
    let known = hook.filter(|hook| {
        let keys = std::slice::from_ref(hook.key());
        matches!(door::proved_by_head(keys, &headers, clock::now()), Ok(Some(_)))
    });
    let most = known.map_or(MAX_ALERTS_BYTES, Hook::most_bytes);
    let held = shared.door.take_in(body, most, known.is_some()).await;
    let held = held.map_err(|problem| Rejected::told(source, problem))?;
    let now = clock::now();
    let found = match hook {
        Some(hook) => hook.key().recognise(&headers, &held.bytes, now).map(|()| hook),
        None => Err(Unauthenticated::unknown(name)),
    };
    let hook = found.map_err(|why| Rejected::stranger(source.cloned(), &why, WHO_MAY_TELL))?;
    let heard = hook.read(&headers, &held.bytes, now);
    let heard = heard.map_err(|refused| Rejected::told(source, refused))?;
    keep(shared, hook.key(), heard).await
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
