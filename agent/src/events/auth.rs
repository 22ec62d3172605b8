//! Who is speaking, and about which services they may.
//!
//! * Secrets and signatures are compared in constant time, and every configured source is tried to the end, so the time
//!   of the answer does not tell which source or which byte was nearly right.
//! * The caller is told one sentence whatever went wrong; [`Unauthenticated::for_the_log`] has the reasons.
//! * How each kind of credential is proved is in [`proof`].

pub mod proof;

pub use proof::{Algorithm, Credential, Encoding, HmacProof, STANDARD_TOLERANCE, Signed};

use axum::http::HeaderMap;
use jiff::Timestamp;
use rules::ids::{ServiceName, SourceName};

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

impl std::fmt::Display for ServiceScope {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, pattern) in self.patterns.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match pattern {
                Pattern::All => write!(f, "{comma}*")?,
                Pattern::Name(name) => write!(f, "{comma}{name}")?,
                Pattern::Prefix(prefix) => write!(f, "{comma}{prefix}*")?,
            }
        }
        Ok(())
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
        match source.credential.check(headers, body, now) {
            Ok(()) => found = found.or(Some(source)),
            Err(reason) => reasons.push(format!("{}: {reason}", source.name)),
        }
    }
    found.ok_or(Unauthenticated { reasons })
}

impl EventSourceKey {
    /// Whether the request proves this one source. `body` must be the raw bytes as received.
    pub fn recognise(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), Unauthenticated> {
        let refused = |reason| Unauthenticated { reasons: vec![format!("{}: {reason}", self.name)] };
        self.credential.check(headers, body, now).map_err(refused)
    }
}

impl Unauthenticated {
    /// For a name that no source has.
    pub fn unknown(name: &str) -> Self {
        Self { reasons: vec![format!("nothing is configured under the name {}", super::limits::shown(name))] }
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
