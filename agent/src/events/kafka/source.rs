//! The loop that hears Kafka.

use super::KafkaSourceConfig;
use super::{client, member};
use crate::brokers::kafka::hearing::{Hearer, following, judge, place};
use crate::clock;
use crate::events::listener::{Ended, Hearing, Listener, asked_to_end, keep_hearing};
use crate::events::stream::{Batch, Message, Reader, Said, hand_over, header};
use crate::events::{BadSource, DeadLetter};
use crate::inlet::{Inlet, Reporter};
use crate::secrets::Secrets;
use async_trait::async_trait;
use axum::http::HeaderMap;
use jiff::Timestamp;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};
use rules::ids::SourceName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Messages of one batch: they share one commit of the ledger.
const MOST_AT_ONCE: usize = 256;
/// Bytes of one batch, after which no further message is added: sixteen times what the largest may have.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// The pause before what cannot be read is tried again; it doubles. Short, because the partition waits meanwhile, and a
/// reader hardly ever thinks otherwise about the same bytes.
const TRY_AGAIN: Duration = Duration::from_millis(2);
/// After an error of the broker that the client library mends by itself.
const AFTER_ERROR: Duration = Duration::from_millis(500);
/// How long a dead letter may take to its topic. It is in the ledger in any case.
const DEAD_WITHIN: Duration = Duration::from_secs(10);

/// Hears topics of Kafka.
pub struct KafkaSource {
    reader: Reader,
    config: KafkaSourceConfig,
    secrets: Arc<Secrets>,
}

impl KafkaSource {
    /// Prepares a source; connects to nothing.
    pub fn new(
        name: &SourceName,
        config: &KafkaSourceConfig,
        secrets: &Arc<Secrets>,
    ) -> Result<Self, BadSource> {
        let bad = |problem: String| BadSource::new(name.clone(), problem);
        if let Some((key, problem)) = config.problems().into_iter().next() {
            return Err(bad(format!("{key}: {problem}")));
        }
        // Secrets that are not there are found at the start, not at night.
        config.connection.client(secrets).map_err(|error| bad(error.to_string()))?;
        let reader = Reader::new(name.clone(), &config.services, &config.mapping).map_err(|wrong| {
            bad(wrong
                .into_iter()
                .map(|(key, words)| format!("{key}: {words}"))
                .collect::<Vec<_>>()
                .join("; "))
        })?;
        Ok(Self { reader, config: config.clone(), secrets: Arc::clone(secrets) })
    }

    async fn clients(&self, reporter: &Reporter) -> Result<(Hearer, Option<FutureProducer>), String> {
        let config = self.config.connection.client(&self.secrets).map_err(|error| error.to_string())?;
        let member = match &self.config.instance {
            Some(instance) => Some(member::name(instance, &self.config.topics, &config).await?),
            None => None,
        };
        let consumer = client::consumer(config.clone(), &self.config, member, reporter.clone())?;
        let topics: Vec<&str> = self.config.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(|error| format!("cannot subscribe: {error}"))?;
        let dead = match &self.config.dead_letter_topic {
            Some(_) => Some(client::producer(config)?),
            None => None,
        };
        Ok((consumer, dead))
    }

    /// Reads a batch. What cannot be read is tried again after the others.
    async fn read(&self, messages: &[BorrowedMessage<'_>]) -> Batch {
        let mut batch = Batch::default();
        let mut waiting: Vec<Message<'_>> = messages.iter().map(|message| self.message(message)).collect();
        for tries in 1..=self.config.max_tries {
            let now = clock::now();
            let mut unreadable = Vec::new();
            for message in waiting {
                match self.reader.read(&message, now) {
                    Said::Unreadable(_) if tries < self.config.max_tries => unreadable.push(message),
                    said => batch.add(&message, said, tries),
                }
            }
            if unreadable.is_empty() {
                break;
            }
            waiting = unreadable;
            tokio::time::sleep(TRY_AGAIN.saturating_mul(1 << (tries - 1).min(10))).await;
        }
        batch
    }

    fn message<'a>(&self, message: &'a BorrowedMessage<'_>) -> Message<'a> {
        let mut headers = HeaderMap::new();
        for Header { key, value } in message.headers().into_iter().flat_map(|headers| headers.iter()) {
            header(&mut headers, key, value.unwrap_or_default());
        }
        let at = message.timestamp().to_millis().and_then(|at| Timestamp::from_millisecond(at).ok());
        Message {
            place: place(message),
            stays: true,
            headers,
            body: message.payload().unwrap_or_default(),
            at,
        }
    }

    /// Sends dead letters to their topic, as they came, with the reason.
    async fn send_on(
        &self,
        producer: &FutureProducer,
        letters: &[DeadLetter],
        messages: &[BorrowedMessage<'_>],
        reporter: &Reporter,
    ) {
        let Some(topic) = &self.config.dead_letter_topic else { return };
        for letter in letters {
            let Some(message) = messages.iter().find(|message| place(message) == letter.place) else {
                continue;
            };
            let tries = letter.tries.to_string();
            let mut headers = message.headers().map_or_else(OwnedHeaders::new, |headers| headers.detach());
            for (key, value) in [
                ("turnback-place", &letter.place),
                ("turnback-reason", &letter.reason),
                ("turnback-tries", &tries),
            ] {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let (key, payload) = (message.key(), message.payload());
            let record = FutureRecord {
                topic,
                partition: None,
                payload,
                key,
                timestamp: None,
                headers: Some(headers),
            };
            if let Err((error, _)) = producer.send(record, Timeout::After(DEAD_WITHIN)).await {
                reporter.failed(format!(
                    "a dead letter did not reach the topic {topic}: {error}; the ledger has it"
                ));
            }
        }
    }
}

/// What is to be committed when all of these are done: the next offset of each partition.
fn offsets(messages: &[BorrowedMessage<'_>]) -> TopicPartitionList {
    let mut next: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    for message in messages {
        let after = next.entry((message.topic(), message.partition())).or_default();
        *after = (*after).max(message.offset() + 1);
    }
    let mut list = TopicPartitionList::with_capacity(next.len());
    for ((topic, partition), after) in next {
        // Refused are negative offsets only.
        let _never = list.add_partition_offset(topic, partition, Offset::Offset(after));
    }
    list
}

#[async_trait]
impl Hearing for KafkaSource {
    async fn hear(&mut self, inlet: &Inlet, reporter: &Reporter, down: &mut watch::Receiver<bool>) -> Ended {
        let clients = tokio::select! {
            biased;
            () = asked_to_end(down) => return Ended::Down,
            clients = self.clients(reporter) => clients,
        };
        let (consumer, dead) = match clients {
            Ok(clients) => clients,
            Err(problem) => return Ended::Broken(problem),
        };
        loop {
            let first = tokio::select! {
                biased;
                () = asked_to_end(down) => return Ended::Down,
                first = consumer.recv() => first,
            };
            let (messages, error) = match first {
                Ok(message) => following(&consumer, message, MOST_AT_ONCE, MOST_BYTES),
                Err(error) => {
                    if let Some(broken) = judge(&error, reporter) {
                        return Ended::Broken(broken);
                    }
                    tokio::time::sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            let offsets = offsets(&messages);
            let batch = self.read(&messages).await;
            reporter.passed_over(batch.passed_over);
            if hand_over(inlet, self.reader.source(), &batch, reporter, down).await.is_err() {
                return Ended::Down;
            }
            if let Some(dead) = &dead {
                self.send_on(dead, &batch.news.dead, &messages, reporter).await;
            }
            if let Err(error) = consumer.commit(&offsets, CommitMode::Async) {
                // Another member has the partition by now; what was recorded is recognised there.
                reporter.failed(format!("the offsets could not be committed: {error}"));
            }
            if let Some(broken) = error.and_then(|error| judge(&error, reporter)) {
                return Ended::Broken(broken);
            }
        }
    }
}

#[async_trait]
impl Listener for KafkaSource {
    fn name(&self) -> &SourceName {
        self.reader.source()
    }

    fn kind(&self) -> &'static str {
        "kafka"
    }

    fn describe(&self) -> String {
        format!("Kafka at {}, topics {}", self.config.connection.shown(), self.config.topics.join(", "))
    }

    async fn run(mut self: Box<Self>, inlet: Inlet, reporter: Reporter, mut down: watch::Receiver<bool>) {
        keep_hearing(&mut *self, &inlet, &reporter, &mut down).await;
    }
}
