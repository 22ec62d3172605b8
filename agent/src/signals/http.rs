//! What the sources share about HTTP: clients, bodies with a limit, and whose fault a failure is.

use super::{Cause, SourceError, words};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::{Client, Response, Url};
use rules::units::Span;
use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

/// The longest answer, in bytes after decompression. 10,000 series of a minute, or the `/metrics` of a very talkative
/// service, are a tenth of it.
pub(super) const BODY_LIMIT: usize = 16 << 20;

/// How much of an error's body is shown, in characters.
const EXCERPT: usize = 300;

/// Builds a client. Redirects are not followed: they would send credentials elsewhere, and a page to log in is not an
/// answer. With `fresh`, each request makes its own connection, so that an old one that the service closed meanwhile
/// does not look like a service that is down, and names are looked up in a time of their own.
pub(super) fn client(
    what: &str,
    timeout: Span,
    headers: HeaderMap,
    fresh: bool,
) -> Result<Client, SourceError> {
    let builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(timeout.duration())
        .connect_timeout(timeout.duration())
        .user_agent(concat!("turnback/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers);
    let builder = if fresh {
        let names = Names { limit: timeout.duration() / 2 };
        builder.no_proxy().pool_max_idle_per_host(0).dns_resolver(names)
    } else {
        builder
    };
    builder.build().map_err(|cause| SourceError::Setup {
        what: what.into(),
        problem: "the HTTP client could not be built".into(),
        cause: Some(cause.into()),
    })
}

/// Looks names up as the system does, within half of a request's time: a name server that is silent must show as a
/// fault of the name server, and not as a service that did not answer in time.
struct Names {
    limit: Duration,
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let limit = self.limit;
        Box::pin(async move {
            // The port is filled in from the address.
            let found = tokio::time::timeout(limit, tokio::net::lookup_host((name.as_str(), 0))).await;
            let slow = |_| format!("the name {} was not resolved within {limit:?}", name.as_str());
            let addresses: Addrs = Box::new(found.map_err(slow)??.collect::<Vec<_>>().into_iter());
            Ok(addresses)
        })
    }
}

/// Checks an address of the configuration; the error says what to do.
pub(super) fn check_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|problem| format!("{text:?} is not an address: {problem}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("{text:?} must begin with http:// or https:// and name a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address must not contain a user or a password; use `basic` or `bearer`".into());
    }
    if url.fragment().is_some() {
        return Err(format!("{text:?} must not contain a fragment (#...)"));
    }
    Ok(url)
}

/// Why a body was not read to its end.
pub(super) enum NoBody {
    /// It is longer than the limit.
    TooLong,
    /// The connection broke, or time ran out.
    Broken(reqwest::Error),
}

/// `NoBody::TooLong` in words.
pub(super) fn too_long() -> String {
    format!("the answer is longer than {} MiB", BODY_LIMIT >> 20)
}

/// Reads a body up to the limit. Nothing is believed about its length before it is there.
pub(super) async fn body(mut response: Response) -> Result<Vec<u8>, NoBody> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(NoBody::Broken)? {
        if bytes.len() + chunk.len() > BODY_LIMIT {
            return Err(NoBody::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The error for a request that did not get its whole answer. The address is left out of it: `what` names the source,
/// and an address may hold a token in its query.
pub(super) fn broken(what: &str, timeout: Span, cause: reqwest::Error) -> SourceError {
    if cause.is_timeout() {
        SourceError::TimedOut { what: what.into(), after: timeout }
    } else {
        SourceError::Unreachable { what: what.into(), cause: Cause::from(cause.without_url()) }
    }
}

/// The beginning of a text from outside, in one line and without control characters.
pub(super) fn excerpt(text: &str) -> String {
    let clean: String = text.chars().take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if clean.is_empty() { "(empty)".into() } else { clean }
}

/// Who is to blame that a request got no answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Blame {
    /// The service: it is not there, or does not speak.
    Service(String),
    /// We ourselves, or what lies between us: nothing is known about the service.
    Ours(String),
}

/// Decides whose fault a failed request is. What is not clearly the service's fault is ours, because a fault of ours
/// that counted against the service would look the same for every release.
pub(super) fn blame(cause: reqwest::Error, timeout: Span) -> Blame {
    let cause = cause.without_url();
    if cause.is_builder() || cause.is_dns() {
        return Blame::Ours(words(&cause));
    }
    if cause.is_timeout() {
        return Blame::Service(format!("no complete answer within {timeout}"));
    }
    match io_kind(&cause) {
        Some(
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::TimedOut,
        ) => Blame::Service(words(&cause)),
        // Too many open files, no route, no address left, a certificate that we do not trust.
        Some(_) => Blame::Ours(words(&cause)),
        // No system call failed and a connection stood: what came over it was not HTTP, or ended in the middle.
        None if !cause.is_connect() => Blame::Service(words(&cause)),
        None => Blame::Ours(words(&cause)),
    }
}

/// The kind of the innermost system error below an error.
fn io_kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut found = None;
    let mut below = error.source();
    while let Some(cause) = below {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            found = Some(io.kind());
        }
        below = cause.source();
    }
    found
}
