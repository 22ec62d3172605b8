//! The sources that fetch news by themselves, from their configuration. What a build leaves out is said at the start.

use crate::config::EventsConfig;
#[cfg(feature = "kafka")]
use crate::events::kafka::KafkaSource;
#[cfg(feature = "kubernetes")]
use crate::events::kubernetes::KubernetesSource;
use crate::events::listener::Listener;
use crate::events::nats::NatsSource;
use crate::secrets::Secrets;
use std::sync::Arc;

/// Makes all of them. Starts nothing.
pub(super) fn make(config: &EventsConfig, secrets: &Arc<Secrets>) -> anyhow::Result<Vec<Box<dyn Listener>>> {
    let mut listeners: Vec<Box<dyn Listener>> = Vec::new();
    // Destructured, so that a kind of source that is not wired does not compile. Those of `sources` and `hooks` call us.
    let EventsConfig { sources: _, hooks: _, kafka, nats, kubernetes } = config;
    #[cfg(feature = "kafka")]
    for (name, config) in kafka {
        listeners.push(Box::new(KafkaSource::new(name, config, secrets)?));
    }
    #[cfg(not(feature = "kafka"))]
    if let Some(name) = kafka.keys().next() {
        anyhow::bail!("events.kafka.{name} is not in this build: build with `--features kafka`");
    }
    for (name, config) in nats {
        listeners.push(Box::new(NatsSource::new(name, config, secrets)?));
    }
    #[cfg(feature = "kubernetes")]
    for (name, config) in kubernetes {
        listeners.push(Box::new(KubernetesSource::new(name.clone(), config)?));
    }
    #[cfg(not(feature = "kubernetes"))]
    if let Some(name) = kubernetes.keys().next() {
        anyhow::bail!("events.kubernetes.{name} is not in this build: build with `--features kubernetes`");
    }
    Ok(listeners)
}
