//! The clients of a source.

use super::KafkaSourceConfig;
use crate::brokers::kafka::hearing::{Hearer, Membership, hearer};
use crate::inlet::Reporter;
use rdkafka::ClientConfig;
use rdkafka::producer::FutureProducer;

/// A member of the group, under the name `member` if it has one. Only what the ledger has is committed, by us.
pub(super) fn consumer(
    mut client: ClientConfig,
    config: &KafkaSourceConfig,
    member: Option<String>,
    reporter: Reporter,
) -> Result<Hearer, String> {
    // A member that stands still gives its partitions up soon.
    client.set("session.timeout.ms", "10000").set("heartbeat.interval.ms", "2000");
    if let Some(member) = member {
        client.set("group.instance.id", member);
    }
    hearer(client, &config.group, Membership::Group, reporter)
}

pub(super) fn producer(mut client: ClientConfig) -> Result<FutureProducer, String> {
    client.set("acks", "all").set("message.timeout.ms", "8000").set("queue.buffering.max.kbytes", "4096");
    client.create().map_err(|error| format!("the Kafka client for dead letters cannot be made: {error}"))
}
