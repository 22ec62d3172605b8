//! What everybody has who hears Kafka: sources of events, which are members of a group, and streams of samples, which
//! are not.

use crate::inlet::Reporter;
use futures_util::FutureExt as _;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Statistics, TopicPartitionList};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Statistics come every second. A group that is joined anew is silent for a few: so many must be bad before it counts.
const BAD_IN_A_ROW: u32 = 5;

/// How partitions are come by.
#[derive(Debug)]
pub(crate) enum Membership {
    /// The group assigns them.
    Group,
    /// All of them, as soon as it is known which there are.
    Alone {
        /// Whether it is known.
        hears: AtomicBool,
    },
}

/// Hears what the client says about itself and tells the board.
pub(crate) struct Watching {
    reporter: Reporter,
    membership: Membership,
    bad: AtomicU32,
}

/// A client that hears, not subscribed to anything yet.
pub(crate) type Hearer = StreamConsumer<Watching>;

/// A client for `group`, with the settings that every hearer has. Nothing is committed by itself.
pub(crate) fn hearer(
    mut client: ClientConfig,
    group: &str,
    membership: Membership,
    reporter: Reporter,
) -> Result<Hearer, String> {
    client
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Who is new hears what is there; where we were is gone already: what is still there is next.
        .set("auto.offset.reset", "earliest")
        .set("statistics.interval.ms", "1000")
        // What waits in our memory: 8 MiB, in portions of at most 1 MiB.
        .set("queued.max.messages.kbytes", "8192")
        .set("queued.min.messages", "1000")
        .set("fetch.message.max.bytes", "1048576")
        .set("fetch.error.backoff.ms", "200");
    // Not well before the first statistics say so.
    let watching = Watching { reporter, membership, bad: AtomicU32::new(1) };
    client.create_with_context(watching).map_err(|error| format!("the Kafka client cannot be made: {error}"))
}

impl Watching {
    /// That the partitions are known by now.
    pub(crate) fn hears(&self) {
        if let Membership::Alone { hears } = &self.membership {
            hears.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there were statistics, and the last ones were good.
    pub(crate) fn is_well(&self) -> bool {
        self.bad.load(Ordering::Relaxed) == 0
    }

    /// Whether it has its partitions, and what it is if not.
    fn has_partitions(&self, statistics: &Statistics) -> Result<(), &'static str> {
        let good = match &self.membership {
            Membership::Group => statistics
                .cgrp
                .as_ref()
                .is_some_and(|group| group.state == "up" && group.join_state == "steady"),
            Membership::Alone { hears } => hears.load(Ordering::Relaxed),
        };
        match &self.membership {
            _ if good => Ok(()),
            Membership::Group => Err("the consumer group cannot be joined"),
            Membership::Alone { .. } => Err("the partitions are not known yet"),
        }
    }

    /// Messages that wait. What the library calls the lag is that of a group.
    fn lag(&self, statistics: &Statistics) -> Option<u64> {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let lags = partitions.filter_map(|partition| match self.membership {
            Membership::Group => u64::try_from(partition.consumer_lag).ok(),
            Membership::Alone { .. } if partition.app_offset < 0 => None,
            Membership::Alone { .. } => {
                u64::try_from(partition.hi_offset.checked_sub(partition.app_offset)?).ok()
            }
        });
        lags.reduce(|one, other| one + other)
    }
}

/// Whether there is a connection to the leader of every partition that is fetched: the others may be well, and it is not
/// heard.
fn has_leaders(statistics: &Statistics) -> bool {
    let up = |id: i32| statistics.brokers.values().any(|broker| broker.nodeid == id && broker.state == "UP");
    let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
    let mut fetched = partitions.filter(|partition| {
        partition.partition >= 0 && !matches!(partition.fetch_state.as_str(), "none" | "stopping" | "stopped")
    });
    fetched.all(|partition| up(partition.leader))
}

impl ClientContext for Watching {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let is_bad = (level as i32) <= (RDKafkaLogLevel::Error as i32);
        match is_bad {
            true => tracing::warn!(facility, message, "kafka"),
            false => tracing::debug!(facility, message, "kafka"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let reached = statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP");
        if let Some(lag) = self.lag(&statistics) {
            self.reporter.lag(lag);
        }
        let well = match (reached, has_leaders(&statistics)) {
            (false, _) => Err("no broker answers"),
            (true, false) => Err("the leader of a partition cannot be reached"),
            (true, true) => self.has_partitions(&statistics),
        };
        match well {
            Ok(()) => {
                self.bad.store(0, Ordering::Relaxed);
                self.reporter.up();
            }
            Err(why) => {
                if self.bad.fetch_add(1, Ordering::Relaxed) + 1 >= BAD_IN_A_ROW {
                    self.reporter.down(why);
                }
            }
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

/// Whether an error means that the client must be made anew, and why; others are noted: the library mends them.
pub(crate) fn judge(error: &KafkaError, reporter: &Reporter) -> Option<String> {
    let broken = [
        RDKafkaErrorCode::Fatal,
        RDKafkaErrorCode::Authentication,
        RDKafkaErrorCode::SaslAuthenticationFailed,
        RDKafkaErrorCode::TopicAuthorizationFailed,
        RDKafkaErrorCode::GroupAuthorizationFailed,
        RDKafkaErrorCode::UnknownTopicOrPartition,
        RDKafkaErrorCode::UnknownTopic,
    ];
    // After a fatal error (another one took our place in the group, say) the client hears nothing any more.
    let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
    if fatal || error.rdkafka_error_code().is_some_and(|code| broken.contains(&code)) {
        return Some(error.to_string());
    }
    reporter.failed(error.to_string());
    None
}

/// The message and what is there already behind it, up to so many messages and about so many bytes; and the error that
/// ended them, if one did: the library says most of them once only.
pub(crate) fn following<'a>(
    consumer: &'a Hearer,
    first: BorrowedMessage<'a>,
    most: usize,
    most_bytes: usize,
) -> (Vec<BorrowedMessage<'a>>, Option<KafkaError>) {
    let mut bytes = first.payload_len();
    let mut messages = vec![first];
    while messages.len() < most && bytes < most_bytes {
        match consumer.recv().now_or_never() {
            Some(Ok(message)) => {
                bytes += message.payload_len();
                messages.push(message);
            }
            Some(Err(error)) => return (messages, Some(error)),
            None => break,
        }
    }
    (messages, None)
}

/// Where a message stands: `topic/partition/offset`.
pub(crate) fn place(message: &BorrowedMessage<'_>) -> String {
    format!("{}/{}/{}", message.topic(), message.partition(), message.offset())
}
