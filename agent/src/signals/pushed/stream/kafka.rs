//! The loop that hears samples from Kafka.
//!
//! All partitions of the topics, without a group: the client needs a name of one, and never joins it. New partitions are
//! looked for each minute; with them the client is made anew, and goes on where it was.

use super::config::KafkaSamplesConfig;
use super::{Feed, Letter, MOST_AT_ONCE, MOST_BYTES, unusable};
use crate::brokers::kafka::hearing::{Hearer, Membership, following, hearer, judge, place};
use crate::clock;
use crate::events::listener::{Ended, Hearing, Listener, asked_to_end, keep_hearing};
use crate::inlet::{Inlet, Reporter};
use crate::secrets::Secrets;
use crate::signals::SourceError;
use crate::signals::pushed::PushedSource;
use async_trait::async_trait;
use jiff::Timestamp;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use rules::ids::SourceName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::watch;

/// How long one question to the cluster may take.
const ASK_WITHIN: Duration = Duration::from_secs(8);
/// How often new partitions are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The past is there when its end was reached, or when nothing more has come for so long: what a transaction leaves behind
/// takes places at the end that hold no message.
const QUIET: Duration = Duration::from_secs(2);
/// After an error of the broker that the client library mends by itself.
const AFTER_ERROR: Duration = Duration::from_millis(500);

/// A partition of a topic.
type Place = (String, i32);

/// Hears samples from topics of Kafka.
pub struct KafkaSamples {
    feed: Arc<Feed>,
    config: KafkaSamplesConfig,
    secrets: Arc<Secrets>,
    /// What is next of each partition.
    known: BTreeMap<Place, i64>,
}

type Opened = (Arc<Hearer>, Vec<Place>, BTreeMap<Place, i64>);

/// Until when the partitions of one assignment were heard.
enum Heard {
    /// There are other partitions than before.
    Changed,
    /// That is all.
    Ended(Ended),
}

/// The partitions of the topics as they are now.
fn partitions(consumer: &Hearer, topics: &[String]) -> Result<Vec<Place>, String> {
    let mut all = Vec::new();
    for topic in topics {
        let bad = |problem: String| format!("the topic {topic} cannot be heard: {problem}");
        let metadata =
            consumer.fetch_metadata(Some(topic), ASK_WITHIN).map_err(|error| bad(error.to_string()))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or_else(|| bad("the brokers do not know it".into()))?;
        if let Some(error) = found.error() {
            return Err(bad(RDKafkaErrorCode::from(error).to_string()));
        }
        if found.partitions().is_empty() {
            return Err(bad("it has no partitions yet".into()));
        }
        all.extend(found.partitions().iter().map(|partition| (topic.clone(), partition.id())));
    }
    Ok(all)
}

/// Begins to hear all partitions: where we were, else at `since`. Gives them, and their ends if those
/// are not reached yet.
fn begin(
    consumer: &Hearer,
    topics: &[String],
    known: &BTreeMap<Place, i64>,
    since: Timestamp,
) -> Result<(Vec<Place>, BTreeMap<Place, i64>), String> {
    let bad = |error: KafkaError| format!("the partitions cannot be had: {error}");
    let places = partitions(consumer, topics)?;
    let mut ends = BTreeMap::new();
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in &places {
        let (_, end) = consumer.fetch_watermarks(topic, *partition, ASK_WITHIN).map_err(bad)?;
        ends.insert((topic.clone(), *partition), end);
        let since = Offset::Offset(since.as_millisecond());
        asked.add_partition_offset(topic, *partition, since).map_err(bad)?;
    }
    let found = consumer.offsets_for_times(asked, ASK_WITHIN).map_err(bad)?;
    let mut assigned = TopicPartitionList::new();
    for (place, end) in &ends {
        let then = found.find_partition(&place.0, place.1).and_then(|found| match found.offset() {
            Offset::Offset(offset) => Some(offset),
            // Nothing is younger: what comes from now on is next.
            _ => None,
        });
        let next = known.get(place).copied().or(then).unwrap_or(*end);
        assigned.add_partition_offset(&place.0, place.1, Offset::Offset(next)).map_err(bad)?;
    }
    consumer.assign(&assigned).map_err(bad)?;
    // What is reached already is not waited for.
    ends.retain(|place, end| {
        let begun = assigned.find_partition(&place.0, place.1).map(|found| found.offset());
        !matches!(begun, Some(Offset::Offset(next)) if next >= *end)
    });
    Ok((places, ends))
}

impl KafkaSamples {
    /// Prepares a stream; connects to nothing.
    ///
    /// # Errors
    /// If the configuration cannot work or a secret is not there.
    pub fn new(
        source: &Arc<PushedSource>,
        config: &KafkaSamplesConfig,
        secrets: &Arc<Secrets>,
    ) -> Result<Self, SourceError> {
        let bad = |problem| unusable(source, "kafka", problem);
        if let Some((key, problem)) = config.problems().into_iter().next() {
            return Err(bad(format!("{key}: {problem}")));
        }
        // Secrets that are not there are found at the start, not at night.
        config.connection.client(secrets).map_err(|error| bad(error.to_string()))?;
        let feed = Feed::new(source, "kafka", config.form, &config.mapping, true)?;
        Ok(Self { feed, config: config.clone(), secrets: Arc::clone(secrets), known: BTreeMap::new() })
    }

    /// A client that hears everything, the partitions, and those of their ends that are not reached yet.
    async fn open(&self, reporter: &Reporter) -> Result<Opened, String> {
        let client = self.config.connection.client(&self.secrets).map_err(|error| error.to_string())?;
        // The client needs the name of a group, and never joins it.
        let alone = Membership::Alone { hears: AtomicBool::new(false) };
        let consumer = Arc::new(hearer(client, "turnback-samples", alone, reporter.clone())?);
        let (asked, topics, known) = (Arc::clone(&consumer), self.config.topics.clone(), self.known.clone());
        let since = self.feed.since();
        let begun = tokio::task::spawn_blocking(move || begin(&asked, &topics, &known, since)).await;
        let (places, ends) = begun.map_err(|error| error.to_string())??;
        Ok((consumer, places, ends))
    }

    async fn hear_these(&mut self, reporter: &Reporter, down: &mut watch::Receiver<bool>) -> Heard {
        let opened = tokio::select! {
            biased;
            () = asked_to_end(down) => return Heard::Ended(Ended::Down),
            opened = self.open(reporter) => opened,
        };
        let (consumer, places, mut ends) = match opened {
            Ok(opened) => opened,
            Err(problem) => return Heard::Ended(Ended::Broken(problem)),
        };
        consumer.context().hears();
        reporter.up();
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + LOOK_EVERY, LOOK_EVERY);
        loop {
            if ends.is_empty() {
                self.feed.tell_past();
            }
            let first = tokio::select! {
                biased;
                () = asked_to_end(down) => return Heard::Ended(Ended::Down),
                first = consumer.recv() => first,
                () = tokio::time::sleep(QUIET), if !ends.is_empty() => {
                    // Quiet because there is nothing more, and not because nobody answers.
                    if consumer.context().is_well() {
                        ends.clear();
                    }
                    continue;
                }
                _ = look.tick() => match self.look(&consumer).await {
                    Ok(now) if now == places => continue,
                    Ok(_others) => return Heard::Changed,
                    Err(problem) => {
                        reporter.failed(problem);
                        continue;
                    }
                },
            };
            let (messages, error) = match first {
                Ok(message) => following(&consumer, message, MOST_AT_ONCE, MOST_BYTES),
                Err(error) => {
                    if let Some(broken) = judge(&error, reporter) {
                        return Heard::Ended(Ended::Broken(broken));
                    }
                    tokio::time::sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            for message in &messages {
                self.known.insert((message.topic().to_owned(), message.partition()), message.offset() + 1);
            }
            ends.retain(|place, end| self.known.get(place).is_none_or(|next| next < end));
            self.feed.take(messages.iter().map(letter).collect(), reporter).await;
            if let Some(broken) = error.and_then(|error| judge(&error, reporter)) {
                return Heard::Ended(Ended::Broken(broken));
            }
        }
    }
}

impl KafkaSamples {
    /// The partitions as they are now.
    async fn look(&self, consumer: &Arc<Hearer>) -> Result<Vec<Place>, String> {
        let (consumer, topics) = (Arc::clone(consumer), self.config.topics.clone());
        let found = tokio::task::spawn_blocking(move || partitions(&consumer, &topics)).await;
        found.map_err(|error| error.to_string())?
    }
}

fn letter(message: &BorrowedMessage<'_>) -> Letter {
    // The broker's time has milliseconds. What came in the same one keeps its order, also when it is heard again.
    let at = message.timestamp().to_millis().and_then(|at| {
        let microseconds = at.checked_mul(1_000)?.checked_add(message.offset() % 1_000)?;
        Timestamp::from_microsecond(microseconds).ok()
    });
    let content_type = message.headers().into_iter().flat_map(|headers| headers.iter());
    let content_type = content_type
        .filter(|header| header.key.eq_ignore_ascii_case("content-type"))
        .find_map(|header| String::from_utf8(header.value?.to_vec()).ok());
    Letter {
        place: place(message),
        topic: message.topic().to_owned(),
        content_type,
        at: at.unwrap_or_else(clock::now),
        body: message.payload().unwrap_or_default().to_vec(),
    }
}

#[async_trait]
impl Listener for KafkaSamples {
    fn name(&self) -> &SourceName {
        &self.feed.name
    }

    fn kind(&self) -> &'static str {
        "kafka-samples"
    }

    fn describe(&self) -> String {
        format!("Kafka at {}, topics {}", self.config.connection.shown(), self.config.topics.join(", "))
    }

    /// Nothing goes through the inlet: samples are nothing for the ledger.
    async fn run(mut self: Box<Self>, inlet: Inlet, reporter: Reporter, mut down: watch::Receiver<bool>) {
        keep_hearing(&mut *self, &inlet, &reporter, &mut down).await;
    }
}

#[async_trait]
impl Hearing for KafkaSamples {
    async fn hear(&mut self, _: &Inlet, reporter: &Reporter, down: &mut watch::Receiver<bool>) -> Ended {
        loop {
            match self.hear_these(reporter, down).await {
                Heard::Changed => tracing::info!(source = %self.feed.name, "there are other partitions now"),
                Heard::Ended(ended) => return ended,
            }
        }
    }
}
