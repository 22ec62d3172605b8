//! What we decide, published to a subject of NATS: for dashboards, chat bots and other agents.

use super::envelope::{CONTENT_TYPE, cloud_event};
use super::{BadNotifier, Message, Notifier, NotifyError};
use crate::brokers::nats::{NatsConnection, is_subject};
use crate::secrets::Secrets;
use async_nats::{Client, HeaderMap, jetstream};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// For one message: the caller cuts off after ten seconds.
const WITHIN: Duration = Duration::from_secs(8);

/// A subject that is told what we decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsSubjectConfig {
    /// The servers.
    pub connection: NatsConnection,
    /// The subject.
    pub subject: String,
    /// Whether a JetStream stream takes the subject: it then has to acknowledge. Without one a message is gone if nobody
    /// listens.
    #[serde(default)]
    pub stream: bool,
}

impl NatsSubjectConfig {
    /// Everything wrong with it, each with the key at fault.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = self.connection.problems();
        if !is_subject(&self.subject, false) {
            problems.push(("subject".into(), format!("{:?} is no subject without wildcards", self.subject)));
        }
        problems
    }
}

/// Publishes messages as CloudEvents.
pub struct NatsSubject {
    name: String,
    config: NatsSubjectConfig,
    secrets: Arc<Secrets>,
    client: OnceCell<Client>,
}

impl NatsSubject {
    /// Prepares; connects at the first message. Errors: see [`BadNotifier`].
    pub fn new(name: &str, config: &NatsSubjectConfig, secrets: &Arc<Secrets>) -> Result<Self, BadNotifier> {
        if let Some((key, problem)) = config.problems().into_iter().next() {
            return Err(BadNotifier::Configuration { key: format!("nats.{name}.{key}"), problem });
        }
        let (config, secrets) = (config.clone(), Arc::clone(secrets));
        Ok(Self { name: name.to_owned(), config, secrets, client: OnceCell::new() })
    }

    async fn publish(&self, body: Vec<u8>) -> Result<(), String> {
        let connect = || async {
            self.config.connection.connect(&self.secrets, None).await.map(|(client, _refusals)| client)
        };
        let client = self.client.get_or_try_init(connect).await.map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert("content-type", CONTENT_TYPE);
        let subject = self.config.subject.clone();
        if self.config.stream {
            let context = jetstream::new(client.clone());
            let sent = context.publish_with_headers(subject, headers, body.into()).await;
            let acknowledged = sent.map_err(|error| error.to_string())?.await;
            return acknowledged.map(drop).map_err(|error| error.to_string());
        }
        // What is not connected would wait in memory, and look as if it were told.
        if client.connection_state() != async_nats::connection::State::Connected {
            client.flush().await.map_err(|error| error.to_string())?;
        }
        client
            .publish_with_headers(subject, headers, body.into())
            .await
            .map_err(|error| error.to_string())?;
        client.flush().await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Notifier for NatsSubject {
    async fn send(&self, message: &Message) -> Result<(), NotifyError> {
        let body = cloud_event(&self.name, message)?;
        let passing = |reason: String| NotifyError::Passing { name: self.name.clone(), reason };
        match tokio::time::timeout(WITHIN, self.publish(body)).await {
            Ok(published) => published.map_err(passing),
            Err(_too_long) => Err(passing(format!("no answer within {} s", WITHIN.as_secs()))),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}
