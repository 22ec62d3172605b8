//! The clients of librdkafka, and what they say about themselves.

use super::KafkaSourceConfig;
use crate::inlet::Reporter;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::FutureProducer;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Statistics, TopicPartitionList};
use std::sync::atomic::{AtomicU32, Ordering};

/// Statistics come every second. A group that is joined anew is silent for a few: so many must be bad before it counts.
const BAD_IN_A_ROW: u32 = 5;

/// Hears what the client says about itself and tells the board.
pub(super) struct Watching {
    reporter: Reporter,
    bad: AtomicU32,
}

impl ClientContext for Watching {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, message, "kafka");
            }
            _ => tracing::debug!(facility, message, "kafka"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let reached = statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP");
        let joined =
            statistics.cgrp.as_ref().is_some_and(|group| group.state == "up" && group.join_state == "steady");
        let lags = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let lags: Vec<u64> =
            lags.filter_map(|partition| u64::try_from(partition.consumer_lag).ok()).collect();
        if !lags.is_empty() {
            self.reporter.lag(lags.iter().sum());
        }
        if reached && joined {
            self.bad.store(0, Ordering::Relaxed);
            self.reporter.up();
        } else if self.bad.fetch_add(1, Ordering::Relaxed) + 1 >= BAD_IN_A_ROW {
            self.reporter.down(match reached {
                true => "the consumer group cannot be joined",
                false => "no broker answers",
            });
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.reporter.down("no broker can be reached"),
            _ => self.reporter.failed(format!("{error}: {reason}")),
        }
    }
}

impl ConsumerContext for Watching {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            self.reporter
                .failed(format!("offsets were not committed, their messages will come again: {error}"));
        }
    }
}

pub(super) fn consumer(
    mut client: ClientConfig,
    config: &KafkaSourceConfig,
    member: Option<String>,
    reporter: Reporter,
) -> Result<StreamConsumer<Watching>, String> {
    client
        .set("group.id", &config.group)
        // Only what the ledger has is committed.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A group that is new hears what is there: old news is recorded and starts nothing.
        .set("auto.offset.reset", "earliest")
        // A member that stands still gives its partitions up soon.
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "2000")
        .set("statistics.interval.ms", "1000")
        // What waits in our memory: 8 MiB, in portions of at most 1 MiB.
        .set("queued.max.messages.kbytes", "8192")
        .set("queued.min.messages", "1000")
        .set("fetch.message.max.bytes", "1048576")
        .set("fetch.error.backoff.ms", "200");
    if let Some(member) = member {
        client.set("group.instance.id", member);
    }
    let watching = Watching { reporter, bad: AtomicU32::new(0) };
    client.create_with_context(watching).map_err(|error| format!("the Kafka client cannot be made: {error}"))
}

pub(super) fn producer(mut client: ClientConfig) -> Result<FutureProducer, String> {
    client.set("acks", "all").set("message.timeout.ms", "8000").set("queue.buffering.max.kbytes", "4096");
    client.create().map_err(|error| format!("the Kafka client for dead letters cannot be made: {error}"))
}
