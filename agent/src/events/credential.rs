//! How senders prove themselves, as the configuration says it; shared by event sources and hooks.
//!
//! ```yaml
//! {bearer: {token: {env: CI_TOKEN}}}
//! {basic: {user: alertmanager, password: {file: /run/secrets/alertmanager}}}
//! {token: {header: x-gitlab-token, token: {env: GITLAB_TOKEN}}}
//! {hmac: {secret: {env: SECRET}, header: x-hub-signature-256, prefix: "sha256="}}
//! {hmac: {secret: {env: SECRET}, header: x-sig, algorithm: sha1, encoding: base64, timestamp_header: x-time, signs: "{timestamp}.{body}"}}
//! {standard_webhooks: {secret: {env: GITLAB_SIGNING_TOKEN}}}
//! {slack: {secret: {env: SLACK_SIGNING_SECRET}}}
//! {nobody: {}}
//! ```
//!
//! Each that holds a secret takes a second one under `old_secret` (`old_token`, `old_password`), which stays good while
//! the sender is moved to the new one.

use super::auth::{Algorithm, Credential, Encoding, HmacProof, STANDARD_TOLERANCE, Signed};
use axum::http::header::HeaderName;
use base64::Engine as _;
use rules::action::SecretRef;
use rules::units::Span;
use serde::{Deserialize, Serialize};

/// The shortest secret in bytes: 16 random letters and digits cannot be guessed over a network.
pub const MIN_SECRET_BYTES: usize = 16;
/// What the Standard Webhooks specification demands of its keys, in bytes.
pub const STANDARD_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The longest tolerance: beyond an hour a timestamp protects from nothing.
const MAX_TOLERANCE: Span = Span::from_minutes(60);

/// How a source proves itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CredentialConfig {
    /// Not at all: whoever reaches the address is believed. For hooks of an agent that listens on the loopback only.
    Nobody(NobodyConfig),
    /// A token in the `Authorization` header.
    Bearer(BearerConfig),
    /// User and password in the `Authorization` header, as Alertmanager and senders with `https://user:password@` do.
    Basic(BasicConfig),
    /// A secret as it is, in a header of its own, as GitLab sends.
    Token(TokenConfig),
    /// A signature in a header, as GitHub, Gitea, Vercel, Sentry and Grafana sign.
    Hmac(HmacConfig),
    /// The Standard Webhooks specification, as GitLab signs.
    StandardWebhooks(StandardWebhooksConfig),
    /// As Slack signs.
    Slack(SlackConfig),
}

/// No proof.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NobodyConfig {}

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BearerConfig {
    /// Where the token is; at least [`MIN_SECRET_BYTES`] visible ASCII characters.
    pub token: SecretRef,
    /// Where the token before is, while senders still use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_token: Option<SecretRef>,
}

/// User and password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicConfig {
    /// The user: visible ASCII without a colon.
    pub user: String,
    /// Where the password is; at least [`MIN_SECRET_BYTES`].
    pub password: SecretRef,
    /// Where the password before is, while senders still use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_password: Option<SecretRef>,
}

/// A token in a header of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The header.
    pub header: String,
    /// Where the token is; at least [`MIN_SECRET_BYTES`] visible ASCII characters.
    pub token: SecretRef,
    /// Where the token before is, while senders still use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_token: Option<SecretRef>,
}

/// A signature in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HmacConfig {
    /// Where the key is; its bytes are used as they are; at least [`MIN_SECRET_BYTES`].
    pub secret: SecretRef,
    /// Where the key before is, while senders still use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret: Option<SecretRef>,
    /// The header with the signature.
    pub header: String,
    /// The hash.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// What stands before the signature.
    #[serde(default)]
    pub prefix: String,
    /// How its bytes are written.
    #[serde(default)]
    pub encoding: Encoding,
    /// The header with the Unix time, if the time is signed along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_header: Option<String>,
    /// What is signed; `{body}` if not given, or `{timestamp}:{body}` with a `timestamp_header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs: Option<String>,
    /// How far that time may be from our clock, both ways.
    #[serde(default = "tolerance")]
    pub tolerance: Span,
}

/// A Standard Webhooks key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandardWebhooksConfig {
    /// Where the key is: base64, with or without `whsec_`; [`STANDARD_SECRET_BYTES`] when decoded.
    pub secret: SecretRef,
    /// Where the key before is, while senders still use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret: Option<SecretRef>,
}

/// A signing secret of Slack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// Where the signing secret is.
    pub secret: SecretRef,
    /// Where the secret before is, while senders still use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret: Option<SecretRef>,
}

fn tolerance() -> Span {
    STANDARD_TOLERANCE
}

/// Reads a secret; the error says why it cannot be read.
pub(super) type Read<'a> = dyn Fn(&SecretRef) -> Result<String, String> + 'a;

impl CredentialConfig {
    /// All that is wrong and can be seen without reading secrets: one line each, beginning with the key, which begins
    /// with `at`.
    pub(super) fn problems(&self, at: &str) -> Vec<String> {
        let at = format!("{at}.{}", self.word());
        let mut problems = Vec::new();
        for (key, secret) in self.secrets() {
            problems.extend(secret_problem(&format!("{at}.{key}"), secret));
        }
        match self {
            CredentialConfig::Basic(basic) => problems.extend(basic.problem(&at)),
            CredentialConfig::Token(token) => problems.extend(header_problem(&at, "header", &token.header)),
            CredentialConfig::Hmac(hmac) => problems.extend(hmac.problems(&at)),
            CredentialConfig::Nobody(_)
            | CredentialConfig::Bearer(_)
            | CredentialConfig::StandardWebhooks(_)
            | CredentialConfig::Slack(_) => {}
        }
        problems
    }

    /// With its secrets, ready to check requests. Errors begin with the key and never hold a secret.
    pub(super) fn credential(&self, at: &str, read: &Read<'_>) -> Result<Credential, String> {
        let at = format!("{at}.{}", self.word());
        let secrets = self.secrets().into_iter().map(|(key, secret)| (format!("{at}.{key}"), read(secret)));
        Ok(match self {
            CredentialConfig::Nobody(_) => Credential::Nobody,
            CredentialConfig::Bearer(_) => Credential::Bearer { tokens: visible(secrets)? },
            CredentialConfig::Basic(basic) => {
                let passwords = secrets.map(|(key, secret)| long_enough(&key, secret));
                Credential::Basic {
                    user: basic.user.clone(),
                    passwords: passwords.collect::<Result<_, _>>()?,
                }
            }
            CredentialConfig::Token(token) => {
                Credential::Token { header: token.header.clone(), tokens: visible(secrets)? }
            }
            CredentialConfig::Hmac(hmac) => Credential::Hmac(HmacProof {
                secrets: keys(secrets)?,
                algorithm: hmac.algorithm,
                header: hmac.header.clone(),
                prefix: hmac.prefix.clone(),
                encoding: hmac.encoding,
                signs: hmac.signed().map_err(|problem| format!("{at}.signs: {problem}"))?,
                timestamp_header: hmac.timestamp_header.clone(),
                tolerance: hmac.tolerance,
            }),
            CredentialConfig::StandardWebhooks(_) => {
                let secrets = secrets.map(|(key, secret)| standard_secret(&key, secret));
                Credential::StandardWebhooks { secrets: secrets.collect::<Result<_, _>>()? }
            }
            CredentialConfig::Slack(_) => Credential::Hmac(HmacProof {
                secrets: keys(secrets)?,
                algorithm: Algorithm::Sha256,
                header: "x-slack-signature".into(),
                prefix: "v0=".into(),
                encoding: Encoding::Hex,
                signs: Signed::parse("v0:{timestamp}:{body}")?,
                timestamp_header: Some("x-slack-request-timestamp".into()),
                tolerance: STANDARD_TOLERANCE,
            }),
        })
    }

    fn word(&self) -> &'static str {
        match self {
            CredentialConfig::Nobody(_) => "nobody",
            CredentialConfig::Bearer(_) => "bearer",
            CredentialConfig::Basic(_) => "basic",
            CredentialConfig::Token(_) => "token",
            CredentialConfig::Hmac(_) => "hmac",
            CredentialConfig::StandardWebhooks(_) => "standard_webhooks",
            CredentialConfig::Slack(_) => "slack",
        }
    }

    fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        let (name, new, old) = match self {
            CredentialConfig::Nobody(_) => return Vec::new(),
            CredentialConfig::Bearer(one) => ("token", &one.token, &one.old_token),
            CredentialConfig::Basic(one) => ("password", &one.password, &one.old_password),
            CredentialConfig::Token(one) => ("token", &one.token, &one.old_token),
            CredentialConfig::Hmac(one) => ("secret", &one.secret, &one.old_secret),
            CredentialConfig::StandardWebhooks(one) => ("secret", &one.secret, &one.old_secret),
            CredentialConfig::Slack(one) => ("secret", &one.secret, &one.old_secret),
        };
        let old_name = match name {
            "token" => "old_token",
            "password" => "old_password",
            _ => "old_secret",
        };
        [Some((name, new)), old.as_ref().map(|old| (old_name, old))].into_iter().flatten().collect()
    }
}

impl BasicConfig {
    fn problem(&self, at: &str) -> Option<String> {
        let good = !self.user.is_empty() && self.user.bytes().all(|c| c.is_ascii_graphic() && c != b':');
        (!good).then(|| format!("{at}.user: {:?} must be visible ASCII without spaces and colons", self.user))
    }
}

impl HmacConfig {
    /// What is signed, given or by default.
    fn signed(&self) -> Result<Signed, String> {
        match (&self.signs, &self.timestamp_header) {
            (Some(template), _) => Signed::parse(template),
            (None, Some(_)) => Signed::parse("{timestamp}:{body}"),
            (None, None) => Ok(Signed::body()),
        }
    }

    fn problems(&self, at: &str) -> Vec<String> {
        let mut problems: Vec<String> = header_problem(at, "header", &self.header).into_iter().collect();
        let timestamp = self.timestamp_header.as_ref();
        problems.extend(timestamp.and_then(|header| header_problem(at, "timestamp_header", header)));
        if self.tolerance.milliseconds() == 0 || self.tolerance > MAX_TOLERANCE {
            problems.push(format!("{at}.tolerance: {} must be from 1ms to {MAX_TOLERANCE}", self.tolerance));
        }
        match self.signed() {
            Err(problem) => problems.push(format!("{at}.signs: {problem}")),
            Ok(signed) if signed.has_timestamp() != timestamp.is_some() => problems.push(format!(
                "{at}.signs: must have {{timestamp}} exactly when `timestamp_header` is set: a time that is not \
                 signed proves nothing"
            )),
            Ok(_) => {}
        }
        problems
    }
}

fn header_problem(at: &str, key: &str, header: &str) -> Option<String> {
    let wrong = header.parse::<HeaderName>().is_err();
    wrong.then(|| format!("{at}.{key}: {header:?} is not the name of a header"))
}

pub(super) fn secret_problem(key: &str, secret: &SecretRef) -> Option<String> {
    match secret {
        SecretRef::Env(name) if name.is_empty() || name.contains(['=', '\0']) => {
            Some(format!("{key}.env: {name:?} is not the name of an environment variable"))
        }
        SecretRef::File(path) if !path.starts_with('/') => {
            Some(format!("{key}.file: {path:?} must be an absolute path"))
        }
        SecretRef::Env(_) | SecretRef::File(_) => None,
    }
}

fn long_enough(key: &str, secret: Result<String, String>) -> Result<String, String> {
    let secret = secret.map_err(|error| format!("{key}: {error}"))?;
    match secret.len() >= MIN_SECRET_BYTES {
        true => Ok(secret),
        false => Err(format!("{key}: has {} bytes, at least {MIN_SECRET_BYTES} are needed", secret.len())),
    }
}

type Found = (String, Result<String, String>);

fn keys(secrets: impl Iterator<Item = Found>) -> Result<Vec<Vec<u8>>, String> {
    secrets.map(|(key, secret)| long_enough(&key, secret).map(String::into_bytes)).collect()
}

/// A header can carry nothing else, so such a token would never match.
fn visible(secrets: impl Iterator<Item = Found>) -> Result<Vec<String>, String> {
    let check = |(key, secret): Found| {
        let token = long_enough(&key, secret)?;
        match token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(token),
            false => Err(format!("{key}: must be visible ASCII without spaces")),
        }
    };
    secrets.map(check).collect()
}

fn standard_secret(key: &str, secret: Result<String, String>) -> Result<Vec<u8>, String> {
    let text = secret.map_err(|error| format!("{key}: {error}"))?;
    let text = text.strip_prefix("whsec_").unwrap_or(&text);
    // The decoder's own words would show a character of the secret.
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| format!("{key}: is not base64 (with or without whsec_ before it)"))?;
    match STANDARD_SECRET_BYTES.contains(&bytes.len()) {
        true => Ok(bytes),
        false => Err(format!("{key}: has {} bytes when decoded, 24 to 64 are needed", bytes.len())),
    }
}
