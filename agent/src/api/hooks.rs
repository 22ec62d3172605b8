//! Webhooks of others, at an address each.
//!
//! The answer to whoever proves nothing is the same for every name, so that names cannot be tried out; the operator finds
//! the reason in the log. What shows no signature as any of the hooks wants it is not held, whatever the name: a stranger
//! would need nothing but the address to take the place of those who sign. Only a hook that asks nobody for a proof takes
//! every body: it answers everybody, so its name is no secret.

use super::intake::{Receipt, Receipted, Rejected, answer, keep};
use super::{Shared, State, door};
use crate::clock;
use crate::events::auth::{Credential, Unauthenticated};
use crate::events::hooks::Hook;
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
    let stranger = |why: Unauthenticated| Rejected::stranger(source.cloned(), &why, WHO_MAY_TELL);
    let known = hook.is_some_and(|hook| {
        let keys = std::slice::from_ref(hook.key());
        matches!(door::proved_by_head(keys, &headers, clock::now()), Ok(Some(_)))
    });
    let open = hook.filter(|hook| known || matches!(hook.key().credential, Credential::Nobody));
    let signed: Vec<&Hook> = match open {
        Some(_) => Vec::new(),
        // Of whatever name: that there is one of this name shall not be seen from here.
        None => shared.sources.hooks().filter(|hook| is_signed_for(hook, &headers)).collect(),
    };
    let Some(most) = open.into_iter().chain(signed.iter().copied()).map(Hook::most_bytes).max() else {
        door::refuse_unread(body).await;
        let why = hook.and_then(|hook| hook.key().recognise(&headers, b"", clock::now()).err());
        return Err(stranger(why.unwrap_or_else(|| Unauthenticated::unknown(name))));
    };
    let held = shared.door.take_in(body, most, known, shared.inlet.board()).await;
    let held = held.map_err(|problem| Rejected::told(source, problem))?;
    let now = clock::now();
    let found = match hook {
        Some(hook) => hook.key().recognise(&headers, &held.bytes, now).map(|()| hook),
        None => {
            // As much work as for a name that there is, so that the time does not tell.
            let _same_work = signed.first().map(|hook| hook.key().recognise(&headers, &held.bytes, now));
            Err(Unauthenticated::unknown(name))
        }
    };
    let hook = found.map_err(stranger)?;
    let heard = hook.read(&headers, &held.bytes, now);
    let heard = heard.map_err(|refused| Rejected::told(source, refused))?;
    keep(shared, hook.key(), heard).await
}

/// Whether the head shows what this hook's sender signs with.
fn is_signed_for(hook: &Hook, headers: &HeaderMap) -> bool {
    door::shows_signature(&hook.key().credential, headers)
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
