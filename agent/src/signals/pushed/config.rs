//! What can be told about a source that is pushed to, and who may push.

use super::super::prometheus::BasicConfig;
use super::stream::{KafkaSamplesConfig, NatsSamplesConfig};
use crate::secrets::Secret;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use rules::action::SecretRef;
use rules::units::Span;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A source that is pushed to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushedConfig {
    /// How long samples are kept, in memory only.
    pub retention: Span,
    /// The most series that are kept.
    pub max_series: usize,
    /// How far behind now its data are complete: the samples of one moment come in several requests.
    pub settle: Span,
    /// What whoever pushes over HTTP must show. Without it nobody may: then a stream feeds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<PushCredential>,
    /// Topics of Kafka that hold samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSamplesConfig>,
    /// Subjects or a stream of NATS that hold samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSamplesConfig>,
}

/// What whoever pushes must show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum PushCredential {
    /// `Authorization: Bearer TOKEN`.
    Bearer(SecretRef),
    /// User and password.
    Basic(BasicConfig),
}

impl Default for PushedConfig {
    /// Three hours are an hour before a release, a watch of an hour and another. 10,000 series are what some dozen pods
    /// show. Half a second is what Prometheus takes to send what it scraped when it is told not to wait for more
    /// (`batch_send_deadline`), and what the second of several pods of a Collector takes.
    fn default() -> Self {
        Self {
            retention: Span::from_minutes(180),
            max_series: 10_000,
            settle: Span::from_milliseconds(500),
            credential: None,
            kafka: None,
            nats: None,
        }
    }
}

impl PushedConfig {
    /// What is wrong with it, as key and message.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |key: &str, message: String| problems.push((key.to_owned(), message));
        if !(Span::from_minutes(10)..=Span::from_minutes(24 * 60)).contains(&self.retention) {
            add("retention", format!("{} is not between 10m and 1d", self.retention));
        }
        // 100,000 series fill the ring's samples in twenty rounds; that is what a Prometheus server is for.
        if !(1..=100_000).contains(&self.max_series) {
            add("max_series", format!("{} is not between 1 and 100000", self.max_series));
        }
        if !(Span::from_milliseconds(10)..=Span::from_seconds(60)).contains(&self.settle) {
            add("settle", format!("{} is not between 10ms and 1m", self.settle));
        }
        if let Some(PushCredential::Basic(basic)) = &self.credential
            && (basic.user.is_empty() || basic.user.contains(':') || basic.user.chars().any(char::is_control))
        {
            add("credential.basic.user", format!("{:?} is not the name of a user", basic.user));
        }
        let below = |kind: &str, found: Vec<(String, String)>| {
            found.into_iter().map(|(key, words)| (format!("{kind}.{key}"), words)).collect::<Vec<_>>()
        };
        problems.extend(self.kafka.iter().flat_map(|stream| below("kafka", stream.problems())));
        problems.extend(self.nats.iter().flat_map(|stream| below("nats", stream.problems())));
        problems
    }
}

/// A credential, resolved: the digest of the one header that is right.
#[derive(Clone)]
pub struct PushKey([u8; 32]);

impl PushKey {
    /// For a bearer token.
    pub fn bearer(token: &Secret) -> Self {
        Self::of(&format!("Bearer {}", token.expose()))
    }

    /// For a user and a password.
    pub fn basic(user: &str, password: &Secret) -> Self {
        let pair = format!("{user}:{}", password.expose());
        Self::of(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
    }

    fn of(header: &str) -> Self {
        Self(Sha256::digest(header).into())
    }

    /// Whether the request shows it. The comparison takes as long whatever is wrong.
    pub fn opens(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(one), None) = (given.next().and_then(|value| value.to_str().ok()), given.next()) else {
            return false;
        };
        // The name of a scheme may be written in any case; what follows may not.
        let Some((scheme, rest)) = one.split_once(' ') else { return false };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => "Bearer",
            "basic" => "Basic",
            _ => return false,
        };
        let shown: [u8; 32] = Sha256::digest(format!("{scheme} {}", rest.trim())).into();
        shown.ct_eq(&self.0).into()
    }
}

impl std::fmt::Debug for PushKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PushKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_header_opens() {
        let bearer = PushKey::bearer(&Secret::from("abc".to_owned()));
        let basic = PushKey::basic("ada", &Secret::from("pass".to_owned()));
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        for good in ["Bearer abc", "bearer abc", "BEARER  abc"] {
            assert!(bearer.opens(&headers(&[good])), "{good}");
        }
        assert!(basic.opens(&headers(&["Basic YWRhOnBhc3M="])));
        for bad in [
            &[][..],
            &["Bearer ab"],
            &["Bearer ABC"],
            &["abc"],
            &["Basic abc"],
            &["Bearer abc", "Bearer abc"],
        ] {
            assert!(!bearer.opens(&headers(bad)), "{bad:?}");
        }
        assert_eq!(format!("{bearer:?}"), "PushKey(secret)");
    }

    #[test]
    fn problems_name_their_keys() {
        let bad: PushedConfig = serde_saphyr::from_str(
            "{retention: 1s, max_series: 0, settle: 2m, credential: {basic: {user: 'a:b', password: {env: P}}}}",
        )
        .unwrap();
        let keys: Vec<String> = bad.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["retention", "max_series", "settle", "credential.basic.user"]);
        assert_eq!(PushedConfig::default().problems(), vec![]);
        for unknown in ["{ttl: 1s}", "{credential: {token: x}}", "{credential: {bearer: inline}}"] {
            assert!(serde_saphyr::from_str::<PushedConfig>(unknown).is_err(), "{unknown}");
        }
    }
}
