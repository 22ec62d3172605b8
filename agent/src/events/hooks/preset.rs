//! The senders that we know: data, one file each, in the folder `presets`.
//!
//! A preset says how its sender proves itself, what its messages mean, and what to set at the sender. There is no code
//! of a vendor's own anywhere: whoever knows another sender writes the same file into the configuration, as a hook with
//! the preset `generic` and a `mapping`.

use super::super::auth::{Algorithm, Encoding, STANDARD_TOLERANCE};
use super::super::credential::{
    BasicConfig, BearerConfig, CredentialConfig, HmacConfig, StandardWebhooksConfig, TokenConfig,
};
use super::config::Rule;
use rules::action::SecretRef;
use rules::units::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;

const FILES: [(&str, &str); 12] = [
    ("argo-rollouts", include_str!("presets/argo-rollouts.yaml")),
    ("argocd", include_str!("presets/argocd.yaml")),
    ("datadog", include_str!("presets/datadog.yaml")),
    ("flagger", include_str!("presets/flagger.yaml")),
    ("forgejo", include_str!("presets/forgejo.yaml")),
    ("generic", include_str!("presets/generic.yaml")),
    ("gitea", include_str!("presets/gitea.yaml")),
    ("github", include_str!("presets/github.yaml")),
    ("gitlab", include_str!("presets/gitlab.yaml")),
    ("grafana", include_str!("presets/grafana.yaml")),
    ("sentry", include_str!("presets/sentry.yaml")),
    ("vercel", include_str!("presets/vercel.yaml")),
];

/// A sender that we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookPreset {
    /// What `preset` in the configuration calls it.
    pub name: String,
    /// Who it is.
    pub title: String,
    /// What to set at the sender, for people.
    pub setup: String,
    /// How it proves itself, but for the secret. Without it the hook must say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Scheme>,
    /// What a hook may set.
    #[serde(default)]
    pub values: BTreeMap<String, HookValue>,
    /// What its messages mean. Empty: the hook must say so.
    #[serde(default)]
    pub mapping: Vec<Rule>,
}

/// A setting of a preset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookValue {
    /// What it is for.
    pub about: String,
    /// What it is if nothing is set.
    #[serde(default)]
    pub default: String,
}

/// How a sender proves itself, but for the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scheme {
    /// A bearer token.
    Bearer {},
    /// A password.
    Basic {
        /// The user.
        user: String,
    },
    /// A secret in a header of its own.
    Token {
        /// The header.
        header: String,
    },
    /// A signature.
    Hmac {
        /// The header.
        header: String,
        /// The hash.
        #[serde(default)]
        algorithm: Algorithm,
        /// What stands before the signature.
        #[serde(default)]
        prefix: String,
        /// How its bytes are written.
        #[serde(default)]
        encoding: Encoding,
        /// The header with the time, if it is signed along.
        #[serde(default)]
        timestamp_header: Option<String>,
        /// What is signed.
        #[serde(default)]
        signs: Option<String>,
        /// How far the time may be from ours.
        #[serde(default = "tolerance")]
        tolerance: Span,
    },
    /// The Standard Webhooks specification.
    StandardWebhooks {},
}

fn tolerance() -> Span {
    STANDARD_TOLERANCE
}

impl Scheme {
    /// With its secret, and the one before.
    pub(super) fn with(&self, secret: SecretRef, old: Option<SecretRef>) -> CredentialConfig {
        match self.clone() {
            Scheme::Bearer {} => CredentialConfig::Bearer(BearerConfig { token: secret, old_token: old }),
            Scheme::Basic { user } => {
                CredentialConfig::Basic(BasicConfig { user, password: secret, old_password: old })
            }
            Scheme::Token { header } => {
                CredentialConfig::Token(TokenConfig { header, token: secret, old_token: old })
            }
            Scheme::Hmac { header, algorithm, prefix, encoding, timestamp_header, signs, tolerance } => {
                CredentialConfig::Hmac(HmacConfig {
                    secret,
                    old_secret: old,
                    header,
                    algorithm,
                    prefix,
                    encoding,
                    timestamp_header,
                    signs,
                    tolerance,
                })
            }
            Scheme::StandardWebhooks {} => {
                CredentialConfig::StandardWebhooks(StandardWebhooksConfig { secret, old_secret: old })
            }
        }
    }
}

/// All presets, sorted by name.
pub fn presets() -> &'static [HookPreset] {
    static PRESETS: OnceLock<Vec<HookPreset>> = OnceLock::new();
    PRESETS.get_or_init(|| {
        let read = |(_, text): &(&str, &str)| {
            serde_saphyr::from_str(text).expect("the presets that ship are read by a test")
        };
        FILES.iter().map(read).collect()
    })
}

/// A preset by name.
pub fn preset(name: &str) -> Option<&'static HookPreset> {
    presets().iter().find(|preset| preset.name == name)
}

/// The names of all presets.
pub fn preset_names() -> Vec<&'static str> {
    FILES.iter().map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Mapping;
    use super::*;

    #[test]
    fn every_preset_that_ships_is_good() {
        for (name, text) in FILES {
            let preset: HookPreset =
                serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(preset.name, name);
            assert!(!preset.setup.trim().is_empty(), "{name}");
            if name == "generic" {
                assert!(preset.mapping.is_empty() && preset.credential.is_none());
                continue;
            }
            Mapping::compile(&preset.mapping).unwrap_or_else(|wrong| panic!("{name}: {wrong:#?}"));
            // Who sends what we cannot use must not be told that we are broken.
            let last = preset.mapping.last().unwrap();
            assert!(last.alerts.is_some() || last.nothing.is_some() && last.when.is_none(), "{name}");
        }
    }
}
