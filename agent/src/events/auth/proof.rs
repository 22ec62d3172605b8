//! One verifier for everybody who signs, driven by a table of differences.
//!
//! Senders agree on HMAC and on nothing else: which hash, which header, hexadecimal or base64, what stands before it,
//! whether a time is signed along. [`HmacProof`] holds exactly these differences, so GitHub, Gitea, Vercel, Sentry,
//! Grafana and Slack are rows of data and not code.
//!
//! * A timestamp counts only if it is signed. Where the body alone is signed, only de-duplication stops a replay, and
//!   then what makes the message recognisable must stand in the signed body ([`Credential::signed_identity`]).
//! * The signature is compared as text, in the one spelling that the sender must use (lower-case hexadecimal, padded
//!   base64), so that no second spelling of a valid signature exists.
//! * Several secrets may be good at once, for the time in which a key is replaced. All are tried, to the end.

use crate::events::{Refused, cloudevents, digest};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use rules::units::Span;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use std::borrow::Cow;
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
    /// Nothing is proved. Only for hooks, and only where nobody else can reach them.
    Nobody,
    /// `Authorization: Bearer TOKEN`.
    Bearer {
        /// The tokens, any of which is good.
        tokens: Vec<String>,
    },
    /// `Authorization: Basic`, user and password.
    Basic {
        /// The user.
        user: String,
        /// The passwords, any of which is good.
        passwords: Vec<String>,
    },
    /// A secret as it is, in a header of its own.
    Token {
        /// The header, such as `x-gitlab-token`.
        header: String,
        /// The tokens, any of which is good.
        tokens: Vec<String>,
    },
    /// An HMAC in a header.
    Hmac(HmacProof),
    /// `webhook-id`, `webhook-timestamp` and `webhook-signature` of the Standard Webhooks specification, symmetric.
    StandardWebhooks {
        /// The keys, decoded; any of them is good.
        secrets: Vec<Vec<u8>>,
    },
    /// A broker's message: who may write there is the broker's affair, and its place, given as `webhook-id`, is its
    /// identity. No request proves this.
    Broker,
}

/// In what the signatures of senders differ.
#[derive(Clone)]
pub struct HmacProof {
    /// The keys, any of which is good.
    pub secrets: Vec<Vec<u8>>,
    /// The hash.
    pub algorithm: Algorithm,
    /// The header with the signature, such as `x-hub-signature-256`.
    pub header: String,
    /// What stands before the signature, such as `sha256=`; may be empty.
    pub prefix: String,
    /// How its bytes are written.
    pub encoding: Encoding,
    /// What is signed.
    pub signs: Signed,
    /// The header with the time in Unix seconds, if it is signed along.
    pub timestamp_header: Option<String>,
    /// How far that time may be from our clock, both ways.
    pub tolerance: Span,
}

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// SHA-1, for senders that know nothing better. Broken for certificates, not for HMAC.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How the bytes of a signature are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Lower-case hexadecimal digits.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}

/// What is signed: text, in which `{body}` stands for the raw body and `{timestamp}` for the header with the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Timestamp,
    Body,
}

impl Signed {
    /// The body and nothing else, as GitHub signs.
    pub fn body() -> Self {
        Self { parts: vec![Part::Body] }
    }

    /// Reads `{timestamp}:{body}`, `v0:{timestamp}:{body}` and the like. Errors: braces around anything else, or not
    /// exactly one `{body}` and at most one `{timestamp}`.
    pub fn parse(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(start) = rest.find(['{', '}']) {
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let from = &rest[start..];
            let known = [("{body}", Part::Body), ("{timestamp}", Part::Timestamp)];
            let Some((word, part)) = known.into_iter().find(|(word, _)| from.starts_with(word)) else {
                return Err(format!(
                    "{template:?} has a brace that begins neither {{body}} nor {{timestamp}}"
                ));
            };
            parts.push(part);
            rest = &from[word.len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let count = |wanted: &Part| parts.iter().filter(|part| *part == wanted).count();
        match (count(&Part::Body), count(&Part::Timestamp)) {
            (1, 0 | 1) => Ok(Self { parts }),
            _ => Err(format!("{template:?} must have {{body}} once and {{timestamp}} at most once")),
        }
    }

    /// Whether the time is signed along.
    pub fn has_timestamp(&self) -> bool {
        self.parts.contains(&Part::Timestamp)
    }

    fn fill<'a>(&'a self, stamp: &'a str, body: &'a [u8]) -> Vec<&'a [u8]> {
        let bytes = |part: &'a Part| match part {
            Part::Text(text) => text.as_bytes(),
            Part::Timestamp => stamp.as_bytes(),
            Part::Body => body,
        };
        self.parts.iter().map(bytes).collect()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Nobody => "Nobody",
            Credential::Broker => "Broker",
            Credential::Bearer { .. } => "Bearer(secret)",
            Credential::Basic { .. } => "Basic(secret)",
            Credential::Token { .. } => "Token(secret)",
            Credential::Hmac(_) => "Hmac(secret)",
            Credential::StandardWebhooks { .. } => "StandardWebhooks(secret)",
        })
    }
}

impl Credential {
    /// Whether a request carries the proof. The error is for the log and holds nothing from the request.
    pub(super) fn check(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), &'static str> {
        match self {
            Credential::Nobody => Ok(()),
            Credential::Broker => Err("it is heard from a broker and not by requests"),
            Credential::Bearer { tokens } => {
                let given = authorization(headers, "bearer")?;
                one_of(tokens, given.as_bytes(), "the bearer token is another one")
            }
            Credential::Basic { user, passwords } => basic(user, passwords, headers),
            Credential::Token { header, tokens } => {
                one_of(tokens, only(headers, header)?.as_bytes(), "the token is another one")
            }
            Credential::Hmac(proof) => proof.check(headers, body, now),
            Credential::StandardWebhooks { secrets } => standard(secrets, headers, body, now),
        }
    }

    /// The sender's name of this delivery, if it is proved along with the body: a replay with another name must not
    /// look like news.
    pub fn signed_identity<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        match self {
            Credential::StandardWebhooks { .. } | Credential::Broker => only(headers, "webhook-id").ok(),
            _ => None,
        }
    }

    /// The headers as far as they are proved, for readers that find what a message is in them. Where only the body is
    /// signed, a replay could call itself something else: there the body is its own name, and an event whose attributes
    /// are headers is refused.
    pub fn proved<'h>(&self, headers: &'h HeaderMap, body: &[u8]) -> Result<Cow<'h, HeaderMap>, Refused> {
        if !matches!(self, Credential::Hmac(_) | Credential::StandardWebhooks { .. }) {
            return Ok(Cow::Borrowed(headers));
        }
        if cloudevents::is_binary(headers) {
            let words = "the attributes of this CloudEvent are headers, which are not signed; send it whole in the body, as \
                         application/cloudevents+json";
            return Err(Refused::new(415, words));
        }
        if self.signed_identity(headers).is_some() {
            return Ok(Cow::Borrowed(headers));
        }
        let mut proved = headers.clone();
        let name = HeaderValue::try_from(format!("sha256:{}", digest(body)));
        proved.insert("webhook-id", name.map_err(|error| Refused::new(500, error.to_string()))?);
        Ok(Cow::Owned(proved))
    }
}

impl HmacProof {
    fn check(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), &'static str> {
        let signature = only(headers, &self.header)?;
        let stamp = match &self.timestamp_header {
            Some(name) => {
                let stamp = only(headers, name)?;
                within(stamp, self.tolerance, now)?;
                stamp
            }
            None => "",
        };
        let parts = self.signs.fill(stamp, body);
        any(&self.secrets, |secret| {
            let mac = sign(self.algorithm, secret, &parts)?;
            let written = match self.encoding {
                Encoding::Hex => hex::encode(mac),
                Encoding::Base64 => STANDARD.encode(mac),
            };
            same(&format!("{}{written}", self.prefix), signature)
        })
    }
}

/// Whether one of the secrets is right. All are tried, so that the time does not tell which.
fn any<S>(secrets: &[S], is_right: impl Fn(&S) -> Result<(), &'static str>) -> Result<(), &'static str> {
    let mut outcome = Err("no secret is configured");
    for secret in secrets {
        let found = is_right(secret);
        if outcome.is_err() {
            outcome = found;
        }
    }
    outcome
}

/// Hashed first, because the comparison of unequal lengths returns at once and would tell the length.
fn one_of(secrets: &[String], given: &[u8], otherwise: &'static str) -> Result<(), &'static str> {
    let given = Sha256::digest(given);
    any(secrets, |secret| {
        // An empty secret in the configuration must never match an empty header.
        if secret.is_empty() {
            return Err("the configured secret is empty");
        }
        match Sha256::digest(secret).ct_eq(&given).into() {
            true => Ok(()),
            false => Err(otherwise),
        }
    })
}

fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Result<&'a str, &'static str> {
    let text = only(headers, AUTHORIZATION.as_str())?;
    let (given, rest) = text.split_once(' ').ok_or("the authorization header has no scheme")?;
    match given.eq_ignore_ascii_case(scheme) {
        true => Ok(rest),
        false => Err("the authorization header is of another scheme"),
    }
}

fn basic(user: &str, passwords: &[String], headers: &HeaderMap) -> Result<(), &'static str> {
    let given = authorization(headers, "basic")?;
    let given = STANDARD.decode(given).map_err(|_| "the authorization header is not base64")?;
    // Compared as a whole: the password begins after the first colon, and a user has none.
    let pairs: Vec<String> = passwords
        .iter()
        .map(|password| if password.is_empty() { String::new() } else { format!("{user}:{password}") })
        .collect();
    one_of(&pairs, &given, "user or password is another one")
}

fn standard(
    secrets: &[Vec<u8>],
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), &'static str> {
    let id = only(headers, "webhook-id")?;
    // The full stop separates the parts of what is signed.
    if id.is_empty() || id.contains('.') {
        return Err("the header webhook-id is empty or has a full stop");
    }
    let stamp = only(headers, "webhook-timestamp")?;
    within(stamp, STANDARD_TOLERANCE, now)?;
    let signatures = only(headers, "webhook-signature")?;
    any(secrets, |secret| {
        let mac = sign(Algorithm::Sha256, secret, &[id.as_bytes(), b".", stamp.as_bytes(), b".", body])?;
        let expected = format!("v1,{}", STANDARD.encode(mac));
        let mut outcome = Err("no signature matches");
        for signature in signatures.split(' ').take(MAX_SIGNATURES) {
            outcome = outcome.or(same(&expected, signature));
        }
        outcome
    })
}

/// The HMAC over all parts, one after the other.
pub(crate) fn sign(algorithm: Algorithm, secret: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, &'static str> {
    if secret.is_empty() {
        return Err("the configured secret is empty");
    }
    // A macro, because the three types have no trait in common that is worth its bounds.
    macro_rules! mac {
        ($hash:ty) => {{
            let mut mac =
                Hmac::<$hash>::new_from_slice(secret).map_err(|_| "the configured secret cannot be a key")?;
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        }};
    }
    Ok(match algorithm {
        Algorithm::Sha1 => mac!(Sha1),
        Algorithm::Sha256 => mac!(Sha256),
        Algorithm::Sha512 => mac!(Sha512),
    })
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
