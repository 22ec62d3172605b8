//! The name by which a consumer group knows this agent.
//!
//! A group gives a member with a name (static membership, KIP-345) what it had before without asking anybody, the topics
//! it subscribes to included: a member that comes back with other topics, or to topics that have grown, would stand in
//! the group, healthy, and never hear of them. So what is subscribed to is part of the name: whoever comes back to the
//! same has its partitions at once, and whoever comes back to something else is somebody else.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};
use rules::ids::fingerprint;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long the cluster may take to tell what its topics are made of.
const WITHIN: Duration = Duration::from_secs(8);
/// Of what the client has to say about a failure, so much is listened to.
const MOST_HEARD: usize = 50;
/// Bytes of the digest that are part of the name.
const MARK: usize = 4;

/// The name of the member: of the agent, of its topics and of how many partitions they have now.
pub(super) async fn name(instance: &str, topics: &[String], client: &ClientConfig) -> Result<String, String> {
    let (client, mut asked) = (client.clone(), topics.to_vec());
    asked.sort_unstable();
    let sizes = tokio::task::spawn_blocking(move || sizes(&client, asked))
        .await
        .map_err(|error| format!("asking for the topics ended: {error}"))??;
    Ok(marked(instance, &sizes))
}

/// Remembers why the client cannot do what it is asked: its answers say only that it cannot.
#[derive(Default)]
struct Reasons(Mutex<Option<String>>);

impl ClientContext for Reasons {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "kafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // That nobody can be reached comes after why.
        if kept.is_none() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *kept = Some(format!("{error}: {reason}"));
        }
    }
}

impl ConsumerContext for Reasons {}

/// Each topic with the number of its partitions.
fn sizes(client: &ClientConfig, topics: Vec<String>) -> Result<Vec<(String, usize)>, String> {
    let client: BaseConsumer<Reasons> =
        client.create_with_context(Reasons::default()).map_err(|error| error.to_string())?;
    let why = |error: KafkaError| {
        // They are heard while the client is polled, one at a time, among other things.
        for _ in 0..MOST_HEARD {
            let _no_message = client.poll(Duration::ZERO);
        }
        let heard = client.context().0.lock().unwrap_or_else(PoisonError::into_inner).take();
        heard.unwrap_or_else(|| error.to_string())
    };
    let size = |topic: String| {
        let metadata = client
            .fetch_metadata(Some(&topic), WITHIN)
            .map_err(|error| format!("the topic {topic} cannot be asked about: {}", why(error)))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(0, |found| found.partitions().len());
        Ok((topic, partitions))
    };
    topics.into_iter().map(size).collect()
}

fn marked(instance: &str, sizes: &[(String, usize)]) -> String {
    let sizes: Vec<String> =
        sizes.iter().map(|(topic, partitions)| format!("{topic} {partitions}")).collect();
    let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
    format!("{instance}.{}", fingerprint(&sizes, MARK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_topic_or_another_partition_is_another_member() {
        let of = |sizes: &[(&str, usize)]| {
            let sizes: Vec<_> = sizes.iter().map(|(topic, size)| ((*topic).to_owned(), *size)).collect();
            marked("agent-1", &sizes)
        };
        let one = of(&[("a", 2), ("b", 3)]);
        assert_eq!(one, of(&[("a", 2), ("b", 3)]));
        assert!(one.starts_with("agent-1.") && one.len() == "agent-1.".len() + 2 * MARK, "{one}");
        for other in [of(&[("a", 2)]), of(&[("a", 2), ("c", 3)]), of(&[("a", 2), ("b", 4)])] {
            assert_ne!(one, other);
        }
    }
}
