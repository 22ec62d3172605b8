//! Event sources as the configuration has them.
//!
//! ```yaml
//! ci:
//!   credential: {bearer: {token: {env: CI_TOKEN}}}
//!   services: ["shop/*", checkout]
//! github:
//!   credential: {hmac: {secret: {file: /run/secrets/github}, header: x-hub-signature-256, prefix: "sha256="}}
//!   services: ["*"]
//! grafana:
//!   credential:
//!     hmac: {secret: {env: GRAFANA_SECRET}, header: x-grafana-alerting-signature, timestamp_header: x-grafana-time}
//!   services: ["*"]
//!   alert_labels: {service: [service, app], environment: [env]}
//! gitlab:
//!   credential: {standard_webhooks: {secret: {env: GITLAB_SIGNING_TOKEN}}}
//!   services: ["*"]
//! ```
//!
//! A source is bound to services here, in the configuration, and never by what it says: a leaked token of one team
//! cannot turn back another team's service.

use super::alertmanager::AlertLabels;
use super::auth::{Credential, EventSourceKey, STANDARD_TOLERANCE, ServiceScope};
use axum::http::header::HeaderName;
use base64::Engine as _;
use rules::action::SecretRef;
use rules::ids::SourceName;
use rules::units::Span;
use serde::{Deserialize, Serialize};

/// The shortest secret in bytes: 16 random letters and digits cannot be guessed over a network.
pub const MIN_SECRET_BYTES: usize = 16;
/// What the Standard Webhooks specification demands of its keys, in bytes.
pub const STANDARD_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The longest tolerance: beyond an hour a timestamp protects from nothing.
const MAX_TOLERANCE: Span = Span::from_minutes(60);

/// One event source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSourceConfig {
    /// How it proves itself.
    pub credential: CredentialConfig,
    /// The services it may speak about: names, prefixes such as `shop/*`, or `*` for all.
    pub services: Vec<String>,
    /// Which labels of its alerts name the service and the environment.
    #[serde(default)]
    pub alert_labels: AlertLabels,
}

/// How a source proves itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CredentialConfig {
    /// A token in the `Authorization` header.
    Bearer(BearerConfig),
    /// HMAC-SHA256 over the body, as GitHub, Gitea, Sentry and Grafana sign.
    Hmac(HmacConfig),
    /// The Standard Webhooks specification, as GitLab signs.
    StandardWebhooks(StandardWebhooksConfig),
}

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BearerConfig {
    /// Where the token is; at least [`MIN_SECRET_BYTES`] visible ASCII characters.
    pub token: SecretRef,
}

/// A signature in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HmacConfig {
    /// Where the key is; its bytes are used as they are; at least [`MIN_SECRET_BYTES`].
    pub secret: SecretRef,
    /// The header with the signature in lower-case hexadecimal digits.
    pub header: String,
    /// What stands before the digits.
    #[serde(default)]
    pub prefix: String,
    /// The header with the Unix time, if the sender signs `timestamp:body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_header: Option<String>,
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
}

/// An event source cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event source `{name}` cannot be used: {problem}")]
pub struct BadSource {
    name: SourceName,
    problem: String,
}

impl BadSource {
    pub(crate) fn new(name: SourceName, problem: String) -> Self {
        Self { name, problem }
    }
}

fn tolerance() -> Span {
    STANDARD_TOLERANCE
}

impl EventSourceConfig {
    /// All that is wrong and can be seen without reading secrets: one line each, beginning with the key.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = ServiceScope::parse(&self.services).err().unwrap_or_default();
        for (key, names) in
            [("service", &self.alert_labels.service), ("environment", &self.alert_labels.environment)]
        {
            // A label is a short word for Prometheus; an empty one would never be found.
            if names.iter().any(|name| name.is_empty()) {
                problems.push(format!("alert_labels.{key}: holds an empty name; write names of labels"));
            }
        }
        match &self.credential {
            CredentialConfig::Bearer(bearer) => {
                problems.extend(secret_problem("credential.bearer.token", &bearer.token))
            }
            CredentialConfig::Hmac(hmac) => problems.extend(hmac.problems()),
            CredentialConfig::StandardWebhooks(standard) => {
                problems.extend(secret_problem("credential.standard_webhooks.secret", &standard.secret));
            }
        }
        problems
    }

    /// The key that [`super::auth::authenticate`] works with. `read` gets the secrets (environment, files), without
    /// the newline at the end. Errors name the source and the key, never the secret.
    pub fn key(
        &self,
        name: SourceName,
        read: impl Fn(&SecretRef) -> Result<String, String>,
    ) -> Result<EventSourceKey, BadSource> {
        let bad = |problem: String| BadSource { name: name.clone(), problem };
        if let Some(problem) = self.problems().into_iter().next() {
            return Err(bad(problem));
        }
        let services = ServiceScope::parse(&self.services).map_err(|problems| bad(problems.join("; ")))?;
        let credential = match &self.credential {
            CredentialConfig::Bearer(bearer) => {
                let token = long_enough("credential.bearer.token", read(&bearer.token)).map_err(bad)?;
                // A header can carry nothing else, so such a token would never match.
                if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(bad("credential.bearer.token: must be visible ASCII without spaces".into()));
                }
                Credential::Bearer { token }
            }
            CredentialConfig::Hmac(hmac) => Credential::Hmac {
                secret: long_enough("credential.hmac.secret", read(&hmac.secret)).map_err(bad)?.into_bytes(),
                header: hmac.header.clone(),
                prefix: hmac.prefix.clone(),
                timestamp_header: hmac.timestamp_header.clone(),
                tolerance: hmac.tolerance,
            },
            CredentialConfig::StandardWebhooks(standard) => {
                Credential::StandardWebhooks { secret: standard_secret(read(&standard.secret)).map_err(bad)? }
            }
        };
        Ok(EventSourceKey { name, credential, services })
    }
}

impl HmacConfig {
    fn problems(&self) -> Vec<String> {
        let mut problems = secret_problem("credential.hmac.secret", &self.secret);
        let named = [("header", Some(&self.header)), ("timestamp_header", self.timestamp_header.as_ref())];
        for (key, header) in named {
            if let Some(header) = header.filter(|header| header.parse::<HeaderName>().is_err()) {
                problems.push(format!("credential.hmac.{key}: {header:?} is not the name of a header"));
            }
        }
        if self.tolerance.milliseconds() == 0 || self.tolerance > MAX_TOLERANCE {
            problems.push(format!(
                "credential.hmac.tolerance: {} must be from 1ms to {MAX_TOLERANCE}",
                self.tolerance
            ));
        }
        problems
    }
}

fn secret_problem(key: &str, secret: &SecretRef) -> Vec<String> {
    match secret {
        SecretRef::Env(name) if name.is_empty() || name.contains(['=', '\0']) => {
            vec![format!("{key}.env: {name:?} is not the name of an environment variable")]
        }
        SecretRef::File(path) if !path.starts_with('/') => {
            vec![format!("{key}.file: {path:?} must be an absolute path")]
        }
        SecretRef::Env(_) | SecretRef::File(_) => Vec::new(),
    }
}

fn long_enough(key: &str, secret: Result<String, String>) -> Result<String, String> {
    let secret = secret.map_err(|error| format!("{key}: {error}"))?;
    match secret.len() >= MIN_SECRET_BYTES {
        true => Ok(secret),
        false => Err(format!("{key}: has {} bytes, at least {MIN_SECRET_BYTES} are needed", secret.len())),
    }
}

fn standard_secret(secret: Result<String, String>) -> Result<Vec<u8>, String> {
    let key = "credential.standard_webhooks.secret";
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

#[cfg(test)]
mod tests {
    use super::*;

    fn source(yaml: &str) -> EventSourceConfig {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn a_good_source_becomes_a_key() {
        let bearer = source("{credential: {bearer: {token: {env: T}}}, services: [checkout, shop/*]}");
        assert_eq!(bearer.problems(), Vec::<String>::new());
        let key = bearer.key(SourceName::new("ci").unwrap(), |_| Ok("0123456789abcdef".into())).unwrap();
        assert!(key.services.allows(&rules::ids::ServiceName::new("shop/cart").unwrap()));
        assert!(!format!("{key:?}").contains("0123456789abcdef"), "a secret in Debug");
        let standard = source("{credential: {standard_webhooks: {secret: {env: T}}}, services: ['*']}");
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert!(standard.key(SourceName::new("gitlab").unwrap(), |_| Ok(secret.into())).is_ok());
    }

    #[test]
    fn problems_name_their_keys() {
        let bad = source(
            "{credential: {hmac: {secret: {file: key}, header: 'a b', timestamp_header: '', tolerance: 2h}},
              services: ['shop*', '../x', ''], alert_labels: {service: ['']}}",
        );
        let problems = bad.problems();
        for key in [
            "services[0]",
            "services[1]",
            "services[2]",
            "alert_labels.service",
            "credential.hmac.secret.file",
            "credential.hmac.header",
            "credential.hmac.timestamp_header",
            "credential.hmac.tolerance",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} in {problems:#?}");
        }
        assert!(bad.key(SourceName::new("x").unwrap(), |_| Ok("0123456789abcdef".into())).is_err());
        let nobody = source("{credential: {bearer: {token: {env: ''}}}, services: []}");
        assert_eq!(nobody.problems().len(), 2, "{:?}", nobody.problems());
    }

    #[test]
    fn weak_and_missing_secrets_are_refused_without_showing_them() {
        let table = [
            ("{bearer: {token: {env: T}}}", Ok("short"), "credential.bearer.token"),
            ("{bearer: {token: {env: T}}}", Ok("has spaces in the middle"), "credential.bearer.token"),
            ("{bearer: {token: {env: T}}}", Err("T is not set"), "T is not set"),
            ("{hmac: {secret: {env: T}, header: x-sig}}", Ok("short"), "credential.hmac.secret"),
            ("{standard_webhooks: {secret: {env: T}}}", Ok("whsec_c2hvcnQ="), "has 5 bytes"),
            ("{standard_webhooks: {secret: {env: T}}}", Ok("whsec_!!!!"), "is not base64"),
        ];
        for (credential, secret, words) in table {
            let config = source(&format!("{{credential: {credential}, services: ['*']}}"));
            let read = |_: &SecretRef| secret.map(str::to_owned).map_err(str::to_owned);
            let error = config.key(SourceName::new("ci").unwrap(), read).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("`ci`"), "{error}");
            if let Ok(secret) = secret {
                assert!(!error.contains(secret), "{error}");
            }
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        for yaml in [
            "{credential: {bearer: {token: {env: T}}}, service: [a]}",
            "{credential: {bearer: {token: {env: T}, tokn: 1}}, services: [a]}",
            "{credential: {basic: {}}, services: [a]}",
            "{credential: {bearer: {token: inline-secret}}, services: [a]}",
            "{services: [a]}",
        ] {
            assert!(serde_saphyr::from_str::<EventSourceConfig>(yaml).is_err(), "{yaml}");
        }
    }
}
