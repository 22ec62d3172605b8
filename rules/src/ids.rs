//! Names and identifiers: newtypes, so that a service can never be passed where a version is meant.
//!
//! Every name that an outsider can choose is checked here, once. The alphabet is deliberately narrow: a name that got
//! through can stand as one argument of a program, one segment of a path or one value in a message and is nothing but
//! that name there (no white space, no quotes, no control characters, no leading `-`).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {shown:?} is not usable: {problem}")]
pub struct BadName {
    what: &'static str,
    shown: String,
    problem: String,
}

fn check(what: &'static str, text: &str, longest: usize, extra: &str) -> Result<(), BadName> {
    let refuse = |problem: String| {
        let shown = text.chars().take(64).collect();
        Err(BadName { what, shown, problem })
    };
    let Some(first) = text.chars().next() else {
        return refuse("it is empty".into());
    };
    if text.len() > longest {
        return refuse(format!("it has {} bytes, at most {longest} are allowed", text.len()));
    }
    if !first.is_ascii_alphanumeric() {
        return refuse("it must begin with a letter or a digit".into());
    }
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !extra.contains(*c)) {
        Some(c) => refuse(format!("{c:?} is not allowed; use letters, digits and any of {extra}")),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $longest:literal, $extra:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a name. Errors say which character or length is at fault.
            pub fn new(text: impl Into<String>) -> Result<Self, BadName> {
                let text = text.into();
                check($what, &text, $longest, $extra)?;
                Ok(Self(text))
            }
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A service as its owners call it: `checkout`, `shop/checkout`.
    ServiceName, "service name", 128, "._/-"
);
name!(
    /// Where a release runs: `production`, `eu-west-1/prod`.
    EnvironmentName, "environment name", 128, "._/-"
);
name!(
    /// What identifies a release: a tag, a commit, an image digest, a package URL.
    Version, "version", 256, "._/:@+%~=-"
);
name!(
    /// A signal of a service: `errors`, `latency`.
    SignalName, "signal name", 64, "._-"
);
name!(
    /// Somebody who may tell us things: an event source of the configuration.
    SourceName, "source name", 64, "._-"
);
name!(
    /// A step of a runbook.
    StepName, "step name", 64, "._-"
);
name!(
    /// One deployment under observation. Made from the event's identity, so that the same news makes the same watch.
    WatchId, "watch id", 64, "-"
);
name!(
    /// One plan. Made from the watch and the number of plans drawn before.
    PlanId, "plan id", 64, "-"
);
name!(
    /// SHA-256 over everything a plan says, as 64 hexadecimal digits: what a person approves.
    PlanDigest, "plan digest", 64, ""
);

/// The first `bytes` bytes of SHA-256 over length-prefixed parts, as hexadecimal digits. Length prefixes keep
/// `("ab", "c")` and `("a", "bc")` apart.
pub fn fingerprint(parts: &[&str], bytes: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

impl WatchId {
    /// The watch that news from `source` with identity `id` about `service` in `environment` opens.
    pub fn of(source: &SourceName, id: &str, service: &ServiceName, environment: &EnvironmentName) -> Self {
        Self(format!("w-{}", fingerprint(&[source.as_str(), id, service.as_str(), environment.as_str()], 6)))
    }
}

impl PlanId {
    /// The `number`-th plan (from 1) of a watch.
    pub fn of(watch: &WatchId, number: u32) -> Self {
        Self(format!("p-{}-{number}", watch.as_str().trim_start_matches("w-")))
    }
}

impl PlanDigest {
    /// The digest of a plan's canonical text.
    pub fn of(canonical: &str) -> Self {
        Self(fingerprint(&[canonical], 32))
    }

    /// Enough of the digest for people to compare: the first 12 digits.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet() {
        for good in ["checkout", "shop/checkout", "a", "svc-1.prod"] {
            assert_eq!(ServiceName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-rf", "a b", "a\n", "a;b", "$(id)", "../etc", "ä", "a\0", &"x".repeat(129)] {
            assert!(ServiceName::new(bad).is_err(), "{bad:?} must be refused");
        }
        assert!(Version::new("pkg:oci/app@sha256%3A0b31").is_ok());
        assert!(Version::new("ghcr.io/o/app@sha256:ab").is_ok());
        assert!(Version::new("--version").is_err());
    }

    #[test]
    fn fingerprints_keep_parts_apart() {
        assert_ne!(fingerprint(&["ab", "c"], 8), fingerprint(&["a", "bc"], 8));
        assert_eq!(fingerprint(&["ab"], 8).len(), 16);
    }
}
