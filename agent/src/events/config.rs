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
use super::auth::{EventSourceKey, ServiceScope};
use super::credential::CredentialConfig;
use rules::action::SecretRef;
use rules::ids::SourceName;
use serde::{Deserialize, Serialize};

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

/// An event source cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event source `{name}` cannot be used: {problem}")]
pub struct BadSource {
    name: SourceName,
    problem: String,
}

impl BadSource {
    /// What is wrong with this source.
    pub(crate) fn new(name: SourceName, problem: String) -> Self {
        Self { name, problem }
    }
}

impl AlertLabels {
    /// What is wrong, one line each, beginning with the key.
    pub(super) fn problems(&self) -> Vec<String> {
        let lists = [("service", &self.service), ("environment", &self.environment)];
        // A label is a short word for Prometheus; an empty one would never be found.
        lists
            .into_iter()
            .filter(|(_, names)| names.iter().any(String::is_empty))
            .map(|(key, _)| format!("alert_labels.{key}: holds an empty name; write names of labels"))
            .collect()
    }
}

impl EventSourceConfig {
    /// All that is wrong and can be seen without reading secrets: one line each, beginning with the key.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = ServiceScope::parse(&self.services).err().unwrap_or_default();
        problems.extend(self.alert_labels.problems());
        // Sources are told apart by their proofs alone: one that proves nothing would be everybody.
        if matches!(self.credential, CredentialConfig::Nobody(_)) {
            problems.push("credential.nobody: is for hooks only, which have an address of their own".into());
        }
        problems.extend(self.credential.problems("credential"));
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
        let credential = self.credential.credential("credential", &read).map_err(bad)?;
        Ok(EventSourceKey { name, credential, services })
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
