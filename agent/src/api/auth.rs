//! Who may look and who may act.

use super::{Problem, Shared};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The token that people use, and whether looking needs it too.
pub struct Access {
    token: String,
    look_freely: bool,
}

/// The header in which a command line says who is sitting there. It is a claim for the record, not a proof: the proof is
/// the token.
const ACTOR: &str = "turnback-actor";
/// A name longer than this is no name.
const LONGEST_ACTOR: usize = 64;

impl Access {
    /// With this token; `look_freely` only when nobody but this machine can connect.
    pub fn new(token: String, look_freely: bool) -> Self {
        Self { token, look_freely }
    }

    /// Whether the request carries the token.
    pub fn knows(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        given.is_some_and(|given| bool::from(given.as_bytes().ct_eq(self.token.as_bytes())))
    }

    /// Whether the request may look. A browser that was led here from a foreign page says so by `Origin`, or, when the
    /// page's own name was made to point to this machine, by `Host`; a command line sends neither.
    pub(super) fn may_look(&self, headers: &HeaderMap) -> bool {
        let ours =
            !headers.contains_key(header::ORIGIN) && headers.get(header::HOST).is_none_or(is_this_machine);
        (self.look_freely && ours) || self.knows(headers)
    }
}

fn is_this_machine(host: &header::HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Who says they are asking.
pub(super) fn actor(headers: &HeaderMap) -> String {
    let claimed = headers.get(ACTOR).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let usable = |c: &char| c.is_ascii_alphanumeric() || "@._-".contains(*c);
    let name: String = claimed.chars().filter(usable).take(LONGEST_ACTOR).collect();
    if name.is_empty() { "operator".into() } else { name }
}

fn refused() -> Response {
    let words = "this needs the header `Authorization: Bearer TOKEN`; the token is in the file `token` of the state directory, or as configured under api.token";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, words).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

pub(super) async fn may_act(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if shared.access.knows(request.headers()) { next.run(request).await } else { refused() }
}

pub(super) async fn may_look(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if shared.access.may_look(request.headers()) { next.run(request).await } else { refused() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_is_free_for_this_machine_and_not_for_pages_that_point_to_it() {
        let access = Access::new("a token".into(), true);
        let with = |name: header::HeaderName, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            access.may_look(&headers)
        };
        for host in ["localhost", "LocalHost:7878", "127.0.0.1:7878", "127.0.0.1", "[::1]:7878", "[::1]"] {
            assert!(with(header::HOST, host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:7878", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1"]
        {
            assert!(!with(header::HOST, host), "{host}");
        }
        assert!(!with(header::ORIGIN, "http://localhost"));
        assert!(with(header::AUTHORIZATION, "Bearer a token"));
        assert!(!Access::new("a token".into(), false).may_look(&HeaderMap::new()));
    }
}
