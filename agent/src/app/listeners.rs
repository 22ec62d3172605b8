//! The sources that fetch news by themselves, from their configuration. What a build leaves out is said at the start.

use crate::config::{Config, EventsConfig};
#[cfg(feature = "kafka")]
use crate::events::kafka::KafkaSource;
#[cfg(feature = "kubernetes")]
use crate::events::kubernetes::KubernetesSource;
use crate::events::listener::Listener;
use crate::events::nats::NatsSource;
use crate::secrets::Secrets;
use crate::signals::pushed::PushedSource;
#[cfg(feature = "kafka")]
use crate::signals::pushed::stream::KafkaSamples;
use crate::signals::pushed::stream::NatsSamples;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Makes all of them. Starts nothing.
pub(super) fn make(
    config: &Config,
    pushed: &BTreeMap<String, Arc<PushedSource>>,
    secrets: &Arc<Secrets>,
) -> anyhow::Result<Vec<Box<dyn Listener>>> {
    let mut listeners = samples(config, pushed, secrets)?;
    // Destructured, so that a kind of source that is not wired does not compile. Those of `sources` and `hooks` call us.
    let EventsConfig { sources: _, hooks: _, kafka, nats, kubernetes } = &config.events;
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

/// The streams that feed sources of signals.
fn samples(
    config: &Config,
    pushed: &BTreeMap<String, Arc<PushedSource>>,
    secrets: &Arc<Secrets>,
) -> anyhow::Result<Vec<Box<dyn Listener>>> {
    let mut listeners: Vec<Box<dyn Listener>> = Vec::new();
    for (name, source) in pushed {
        let Some(config) = config.signals.pushed.get(name) else { continue };
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &config.kafka {
            listeners.push(Box::new(KafkaSamples::new(source, kafka, secrets)?));
        }
        #[cfg(not(feature = "kafka"))]
        if config.kafka.is_some() {
            anyhow::bail!("signals.pushed.{name}.kafka is not in this build: build with `--features kafka`");
        }
        if let Some(nats) = &config.nats {
            listeners.push(Box::new(NatsSamples::new(source, nats, secrets)?));
        }
    }
    Ok(listeners)
}
