//! Webhooks of others: `POST /v1/hooks/NAME`, each with a proof, a mapping and the services it may speak about.
//!
//! A hook differs from an event source in two things. It has an address of its own, so its proof is checked and no
//! other. And its sender does not speak our language: rules in CEL say what its messages mean, those of a preset or
//! those of the configuration.
//!
//! ```text
//!  raw bytes ──▶ auth (proof) ──▶ message (JSON or form) ──▶ mapping (CEL, bounded) ──▶ our own form ──▶ limits, scope
//! ```
//!
//! Senders switch hooks off that answer with errors. What is well-formed and says nothing (a ping, a deployment that
//! has only begun) is acknowledged with a note; errors are for what should have said something and does not fit.

mod config;
pub(crate) mod expression;
mod mapping;
mod message;
mod preset;
#[cfg(test)]
mod tests;

pub use config::{AlertFields, DeploymentFields, HookConfig, ReportFields, Rule};
pub use mapping::Heard;
pub use preset::{HookPreset, HookValue, Scheme, preset, preset_names, presets};

use super::alertmanager::AlertLabels;
use super::auth::{Credential, EventSourceKey, ServiceScope};
use super::limits::{MAX_ALERTS_BYTES, MAX_BODY_BYTES};
use super::{Context, Refused, within_scope};
use axum::http::HeaderMap;
use jiff::Timestamp;
use mapping::{Mapping, Reading};
use rules::ids::{EnvironmentName, ServiceName, SourceName};
use std::collections::BTreeMap;

/// A hook, ready to be spoken to.
#[derive(Debug)]
pub struct Hook {
    key: EventSourceKey,
    mapping: Mapping,
    values: BTreeMap<String, String>,
    service_names: BTreeMap<String, ServiceName>,
    environment_names: BTreeMap<String, EnvironmentName>,
    alert_labels: AlertLabels,
}

impl Hook {
    /// The same for messages of a broker: rules, and no proof besides the broker's own. The error is everything that is
    /// wrong with the rules, each with its key below `mapping`.
    pub fn of_broker(
        name: SourceName,
        services: ServiceScope,
        rules: &[Rule],
    ) -> Result<Self, Vec<(String, String)>> {
        Ok(Self {
            key: EventSourceKey { name, credential: Credential::Broker, services },
            mapping: Mapping::compile(rules)?,
            values: BTreeMap::new(),
            service_names: BTreeMap::new(),
            environment_names: BTreeMap::new(),
            alert_labels: AlertLabels::default(),
        })
    }

    /// Who it is: its name is the source of all it says.
    pub fn key(&self) -> &EventSourceKey {
        &self.key
    }

    /// The longest body that it takes, in bytes: more, where groups of alerts may come.
    pub fn most_bytes(&self) -> usize {
        if self.mapping.reads_alerts() { MAX_ALERTS_BYTES } else { MAX_BODY_BYTES }
    }

    /// Reads a message whose proof was checked with [`EventSourceKey::recognise`]. Errors: 400 no JSON, 403 a foreign
    /// service (of several reports: all of them are about foreign services), 413 too much, 415 content type, 422 a rule that
    /// does not fit; all name what is at fault.
    pub fn read(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Heard, Refused> {
        let proved = !matches!(self.key.credential, Credential::Nobody);
        let value = message::parse(headers, body, proved, self.most_bytes())?;
        let context = Context { source: &self.key.name, now };
        let mut heard = Reading { hook: self, context, headers, raw: body, body: &value }.read()?;
        (heard.accepted, heard.left_out.foreign) = within_scope(&self.key, heard.accepted)?;
        Ok(heard)
    }
}
