//! Who is speaking: bearer tokens, HMAC signatures and Standard Webhooks, over the raw bytes of the body.
//!
//! * Secrets and signatures are compared in constant time, and every configured source is tried to the end, so the time
//!   of the answer does not tell which source or which byte was nearly right.
//! * The caller is told one sentence whatever went wrong; [`Unauthenticated::for_the_log`] has the reasons.
//! * A timestamp counts only if it is signed. With [`Credential::Hmac`] and a timestamp header the signature covers
//!   `timestamp:body` (as Grafana signs), without it the body alone (as GitHub and Gitea sign), and then only
//!   de-duplication stops a replay.
//! * The signature is compared as text, in the one spelling that the sender must use (lower-case hexadecimal, padded
//!   base64), so that no second spelling of a valid signature exists.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderName};
use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use rules::ids::{ServiceName, SourceName};
use rules::units::Span;
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq as _;

/// How far a Standard Webhooks timestamp may be from our clock, both ways; its specification advises five minutes.
pub const STANDARD_TOLERANCE: Span = Span::from_seconds(300);

/// The most signatures of one request that are tried: enough for two keys in rotation, each in two versions.
const MAX_SIGNATURES: usize = 8;

/// Unix seconds have 10 digits until the year 2286; 12 keep them far from overflow in milliseconds.
const MAX_TIMESTAMP_DIGITS: usize = 12;

/// How a source proves that it is the one.
#[derive(Clone)]
pub enum Credential {
    /// `Authorization: Bearer TOKEN`.
    Bearer {
        /// The token.
        token: String,
    },
    /// HMAC-SHA256 in a header, as lower-case hexadecimal digits.
    Hmac {
        /// The key.
        secret: Vec<u8>,
        /// The header with the signature, such as `x-hub-signature-256`.
        header: String,
        /// What stands before the digits, such as `sha256=`; may be empty.
        prefix: String,
        /// The header with the time in Unix seconds; with it, `timestamp:body` is signed, else the body.
        timestamp_header: Option<String>,
        /// How far that time may be from our clock, both ways.
        tolerance: Span,
    },
    /// `webhook-id`, `webhook-timestamp` and `webhook-signature` of the Standard Webhooks specification, symmetric.
    StandardWebhooks {
        /// The key, decoded.
        secret: Vec<u8>,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Bearer { .. } => "Bearer(secret)",
            Credential::Hmac { .. } => "Hmac(secret)",
            Credential::StandardWebhooks { .. } => "StandardWebhooks(secret)",
        })
    }
}

/// A source of events, ready to be recognised.
#[derive(Debug, Clone)]
pub struct EventSourceKey {
    /// Its name in the configuration.
    pub name: SourceName,
    /// How it proves itself.
    pub credential: Credential,
    /// What it may speak about.
    pub services: ServiceScope,
}

/// The services that a source may speak about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceScope {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    All,
    Name(String),
    Prefix(String),
}

/// The request proves no known source. Always the same words, so that nothing can be learnt from them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not authenticated: send the credential of a configured event source")]
pub struct Unauthenticated {
    reasons: Vec<String>,
}

impl Unauthenticated {
    /// The HTTP status, 401.
    pub const STATUS: u16 = 401;

    /// Why each source did not match. For the operator's log only; holds no secret and nothing from the request.
    pub fn for_the_log(&self) -> String {
        match self.reasons.is_empty() {
            true => "no event source is configured".into(),
            false => self.reasons.join("; "),
        }
    }
}

impl ServiceScope {
    /// Every service.
    pub fn all() -> Self {
        Self { patterns: vec![Pattern::All] }
    }

    /// Reads names (`checkout`), prefixes that end in a separator (`shop/*`) and `*` for all. Errors: one line for
    /// each entry that is neither.
    pub fn parse(entries: &[String]) -> Result<Self, Vec<String>> {
        let mut patterns = Vec::new();
        let mut problems = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            match pattern(entry) {
                Ok(pattern) => patterns.push(pattern),
                Err(problem) => problems.push(format!("services[{index}]: {problem}")),
            }
        }
        if entries.is_empty() {
            problems
                .push("services: is empty; name services, prefixes such as shop/*, or \"*\" for all".into());
        }
        if problems.is_empty() { Ok(Self { patterns }) } else { Err(problems) }
    }

    /// May the source speak about this service?
    pub fn allows(&self, service: &ServiceName) -> bool {
        let service = service.as_str();
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::All => true,
            Pattern::Name(name) => name == service,
            Pattern::Prefix(prefix) => service.len() > prefix.len() && service.starts_with(prefix),
        })
    }
}

fn pattern(entry: &str) -> Result<Pattern, String> {
    if entry == "*" {
        return Ok(Pattern::All);
    }
    let Some(prefix) = entry.strip_suffix('*') else {
        return ServiceName::new(entry)
            .map(|name| Pattern::Name(name.into()))
            .map_err(|error| error.to_string());
    };
    ServiceName::new(prefix).map_err(|error| error.to_string())?;
    // `shop*` would also be `shopping`, which hardly anybody means.
    match prefix.ends_with(['/', '-', '.', '_']) {
        true => Ok(Pattern::Prefix(prefix.to_owned())),
        false => Err(format!("{entry:?} must have a separator before `*`; write for example {prefix}/*")),
    }
}

/// Finds the source whose credential the request carries. `body` must be the raw bytes as received. Of several sources
/// with the same credential the first counts.
pub fn authenticate<'a>(
    sources: &'a [EventSourceKey],
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<&'a EventSourceKey, Unauthenticated> {
    let mut found = None;
    let mut reasons = Vec::new();
    for source in sources {
        match check(&source.credential, headers, body, now) {
            Ok(()) => found = found.or(Some(source)),
            Err(reason) => reasons.push(format!("{}: {reason}", source.name)),
        }
    }
    found.ok_or(Unauthenticated { reasons })
}

fn check(
    credential: &Credential,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), &'static str> {
    match credential {
        Credential::Bearer { token } => bearer(token, headers),
        Credential::Hmac { secret, header, prefix, timestamp_header, tolerance } => {
            let signature = only(headers, header)?;
            let expected = match timestamp_header {
                Some(name) => {
                    let stamp = only(headers, name)?;
                    within(stamp, *tolerance, now)?;
                    sign(secret, &[stamp.as_bytes(), b":", body])?
                }
                None => sign(secret, &[body])?,
            };
            same(&format!("{prefix}{}", hex::encode(expected)), signature)
        }
        Credential::StandardWebhooks { secret } => standard(secret, headers, body, now),
    }
}

fn bearer(token: &str, headers: &HeaderMap) -> Result<(), &'static str> {
    let text = only(headers, AUTHORIZATION.as_str())?;
    let (scheme, given) = text.split_once(' ').ok_or("the authorization header has no scheme")?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err("the authorization header is not of scheme Bearer");
    }
    // An empty token in the configuration must never match an empty header.
    if token.is_empty() {
        return Err("the configured token is empty");
    }
    // Hashed first, because the comparison of unequal lengths returns at once and would tell the length.
    match Sha256::digest(token).ct_eq(&Sha256::digest(given)).into() {
        true => Ok(()),
        false => Err("the bearer token is another one"),
    }
}

fn standard(secret: &[u8], headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), &'static str> {
    let id = only(headers, "webhook-id")?;
    // The full stop separates the parts of what is signed.
    if id.is_empty() || id.contains('.') {
        return Err("the header webhook-id is empty or has a full stop");
    }
    let stamp = only(headers, "webhook-timestamp")?;
    within(stamp, STANDARD_TOLERANCE, now)?;
    let expected = sign(secret, &[id.as_bytes(), b".", stamp.as_bytes(), b".", body])?;
    let expected = format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(expected));
    let mut outcome = Err("no signature matches");
    for signature in only(headers, "webhook-signature")?.split(' ').take(MAX_SIGNATURES) {
        outcome = outcome.or(same(&expected, signature));
    }
    outcome
}

fn sign(secret: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, &'static str> {
    if secret.is_empty() {
        return Err("the configured secret is empty");
    }
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret).map_err(|_| "the configured secret cannot be a key")?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().to_vec())
}

fn same(expected: &str, given: &str) -> Result<(), &'static str> {
    match expected.as_bytes().ct_eq(given.as_bytes()).into() {
        true => Ok(()),
        false => Err("no signature matches"),
    }
}

fn within(stamp: &str, tolerance: Span, now: Timestamp) -> Result<(), &'static str> {
    if stamp.is_empty()
        || stamp.len() > MAX_TIMESTAMP_DIGITS
        || !stamp.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err("the timestamp is not in Unix seconds");
    }
    let seconds: i64 = stamp.parse().map_err(|_| "the timestamp is not in Unix seconds")?;
    match (seconds * 1_000).abs_diff(now.as_millisecond()) <= tolerance.milliseconds() {
        true => Ok(()),
        false => Err("the timestamp is outside the tolerance"),
    }
}

/// A header that must be there exactly once: of two, a proxy and we might read different ones.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, &'static str> {
    let name: HeaderName = name.parse().map_err(|_| "the configured header name is not one")?;
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| "a header is not visible ASCII"),
        (None, _) => Err("a header is missing"),
        (Some(_), Some(_)) => Err("a header comes twice"),
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
