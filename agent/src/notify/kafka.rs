//! What we decide, produced to a topic of Kafka: for dashboards, data lakes and other agents.

use crate::brokers::kafka::{KafkaConnection, is_topic};
use serde::{Deserialize, Serialize};

/// A topic that is told what we decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaTopicConfig {
    /// The cluster.
    pub connection: KafkaConnection,
    /// The topic. The service is the key, so that what is said about one service stays in order.
    pub topic: String,
}

impl KafkaTopicConfig {
    /// Everything wrong with it, each with the key at fault.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = self.connection.problems();
        if !is_topic(&self.topic) {
            problems.push(("topic".into(), format!("{:?} is no topic", self.topic)));
        }
        problems
    }
}

#[cfg(feature = "kafka")]
pub use producing::KafkaTopic;

#[cfg(feature = "kafka")]
mod producing {
    use super::KafkaTopicConfig;
    use crate::notify::envelope::{CONTENT_TYPE, cloud_event};
    use crate::notify::{BadNotifier, Message, Notifier, NotifyError};
    use crate::secrets::Secrets;
    use async_trait::async_trait;
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{FutureProducer, FutureRecord};
    use rdkafka::util::Timeout;
    use std::time::Duration;

    /// For one message: the caller cuts off after ten seconds.
    const WITHIN: Duration = Duration::from_secs(8);

    /// Produces messages as CloudEvents.
    pub struct KafkaTopic {
        name: String,
        topic: String,
        producer: FutureProducer,
    }

    impl KafkaTopic {
        /// Resolves the secrets; connects in the background. Errors: see [`BadNotifier`].
        pub fn new(name: &str, config: &KafkaTopicConfig, secrets: &Secrets) -> Result<Self, BadNotifier> {
            let bad = |key: &str, problem: String| BadNotifier::Configuration {
                key: format!("kafka.{name}.{key}"),
                problem,
            };
            if let Some((key, problem)) = config.problems().into_iter().next() {
                return Err(bad(&key, problem));
            }
            let mut client =
                config.connection.client(secrets).map_err(|error| bad(&error.key, error.problem.clone()))?;
            // Retries of the client must not write twice, and what is not written in time is tried again by the caller.
            client
                .set("enable.idempotence", "true")
                .set("message.timeout.ms", "7000")
                .set("queue.buffering.max.kbytes", "4096");
            let producer = client.create().map_err(|error| bad("connection", error.to_string()))?;
            Ok(Self { name: name.to_owned(), topic: config.topic.clone(), producer })
        }
    }

    #[async_trait]
    impl Notifier for KafkaTopic {
        async fn send(&self, message: &Message) -> Result<(), NotifyError> {
            let body = cloud_event(&self.name, message)?;
            let header = Header { key: "content-type", value: Some(CONTENT_TYPE) };
            let key = message.service.clone().unwrap_or_default();
            let record = FutureRecord::to(&self.topic)
                .key(&key)
                .payload(&body)
                .headers(OwnedHeaders::new().insert(header));
            match self.producer.send(record, Timeout::After(WITHIN)).await {
                Ok(_delivered) => Ok(()),
                Err((error, _)) => {
                    Err(NotifyError::Passing { name: self.name.clone(), reason: error.to_string() })
                }
            }
        }

        fn name(&self) -> &str {
            &self.name
        }
    }
}
