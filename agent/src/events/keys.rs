//! All event sources and hooks that may speak, and how each source names services in its alerts.

use super::alertmanager::AlertLabels;
use super::auth::EventSourceKey;
use super::hooks::Hook;
use crate::inlet::Board;
use rules::ids::SourceName;
use std::collections::BTreeMap;

/// The sources of the configuration, ready to be recognised.
#[derive(Default)]
pub struct EventSourceKeys {
    keys: Vec<EventSourceKey>,
    labels: BTreeMap<SourceName, AlertLabels>,
    default_labels: AlertLabels,
    hooks: BTreeMap<SourceName, Hook>,
}

impl EventSourceKeys {
    /// Adds a source.
    pub fn add(&mut self, key: EventSourceKey, labels: AlertLabels) {
        self.labels.insert(key.name.clone(), labels);
        self.keys.push(key);
    }

    /// Adds a hook.
    pub fn add_hook(&mut self, hook: Hook) {
        self.hooks.insert(hook.key().name.clone(), hook);
    }

    /// All hooks.
    pub fn hooks(&self) -> impl Iterator<Item = &Hook> {
        self.hooks.values()
    }

    /// The hook of this name.
    pub fn hook(&self, name: &str) -> Option<&Hook> {
        self.hooks.get(&SourceName::new(name).ok()?)
    }

    /// Puts everybody who may call us on the board.
    pub fn announce(&self, board: &Board) {
        for key in &self.keys {
            board.expect(&key.name, "POST /v1/events, /v1/alerts".into());
        }
        for name in self.hooks.keys() {
            board.expect(name, format!("POST /v1/hooks/{name}"));
        }
    }

    /// All keys, for [`super::auth::authenticate`].
    pub fn keys(&self) -> &[EventSourceKey] {
        &self.keys
    }

    /// Which labels of this source's alerts name the service and the environment.
    pub fn alert_labels(&self, source: &SourceName) -> &AlertLabels {
        self.labels.get(source).unwrap_or(&self.default_labels)
    }
}
