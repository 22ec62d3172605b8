//! All event sources that may speak, and how each names services in its alerts.

use super::alertmanager::AlertLabels;
use super::auth::EventSourceKey;
use rules::ids::SourceName;
use std::collections::BTreeMap;

/// The sources of the configuration, ready to be recognised.
#[derive(Default)]
pub struct EventSourceKeys {
    keys: Vec<EventSourceKey>,
    labels: BTreeMap<SourceName, AlertLabels>,
    default_labels: AlertLabels,
}

impl EventSourceKeys {
    /// Adds a source.
    pub fn add(&mut self, key: EventSourceKey, labels: AlertLabels) {
        self.labels.insert(key.name.clone(), labels);
        self.keys.push(key);
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
