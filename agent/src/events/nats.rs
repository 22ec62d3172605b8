//! NATS as a source of events.
//!
//! From a JetStream stream, through a durable pull consumer: each message is acknowledged when the ledger has it, and is
//! delivered again if that does not happen (a kill, a lost acknowledgement), which the ledger recognises. What cannot be
//! read is given back, to come again after a growing pause, and becomes a dead letter at its fifth delivery. The
//! server's own limit of deliveries is not used: it would drop a message without a word, also one that only had bad luck
//! with restarts; we count the deliveries that the server tells of.
//!
//! Or from a subject of core NATS: a plain hint. What is lost there is lost, so it is for where something else
//! (reconciliation with the cluster) knows the truth.

mod config;

pub use config::NatsSourceConfig;

use super::listener::{Ended, Hearing, Listener, asked_to_end, keep_hearing};
use super::stream::{Batch, Message, Reader, Said, hand_over, header};
use super::{BadSource, DeadLetter};
use crate::brokers::nats::{Hints, Refusals, following};
use crate::clock;
use crate::inlet::{Inlet, Reporter};
use crate::secrets::Secrets;
use crate::signals::words;
use async_nats::jetstream::{self, AckKind, consumer, consumer::pull};
use async_nats::{Client, HeaderMap as NatsHeaders};
use async_trait::async_trait;
use axum::http::HeaderMap;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use rules::ids::{SourceName, fingerprint};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Messages of one batch: they share one commit of the ledger.
const MOST_AT_ONCE: usize = 256;
/// Messages that are on their way to us and not acknowledged: two batches, so that one is fetched while one is written.
const MOST_UNACKNOWLEDGED: i64 = 512;
/// Bytes that are fetched at once.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// How often the server says that it is there; two missing signs are an error.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A message that was delivered so often and never got through may take the agent with it each time, or it only came along
/// with one that does, or the disk was full: of all of them one is put aside without being read in each life of the
/// agent, and the others are read.
const NEVER_THROUGH: i64 = 50;
/// How often the consumer is asked how it is doing, and the first time.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// The pause before what cannot be read comes again; it doubles with each delivery.
const COME_AGAIN: Duration = Duration::from_millis(250);

/// Hears a stream or a subject of NATS.
pub struct NatsSource {
    reader: Reader,
    config: NatsSourceConfig,
    secrets: Arc<Secrets>,
    /// Whether a message was put aside unread in this life.
    gave_up: AtomicBool,
}

impl NatsSource {
    /// Prepares a source; connects to nothing.
    pub fn new(
        name: &SourceName,
        config: &NatsSourceConfig,
        secrets: &Arc<Secrets>,
    ) -> Result<Self, BadSource> {
        let bad = |problem: String| BadSource::new(name.clone(), problem);
        if let Some((key, problem)) = config.problems().into_iter().next() {
            return Err(bad(format!("{key}: {problem}")));
        }
        let reader = Reader::new(name.clone(), &config.services, &config.mapping).map_err(|wrong| {
            bad(wrong
                .into_iter()
                .map(|(key, words)| format!("{key}: {words}"))
                .collect::<Vec<_>>()
                .join("; "))
        })?;
        let gave_up = AtomicBool::new(false);
        Ok(Self { reader, config: config.clone(), secrets: Arc::clone(secrets), gave_up })
    }

    async fn hear_stream(
        &self,
        client: &Client,
        stream: &str,
        inlet: &Inlet,
        reporter: &Reporter,
        down: &mut watch::Receiver<bool>,
    ) -> Ended {
        let consumer = tokio::select! {
            biased;
            () = asked_to_end(down) => return Ended::Down,
            consumer = self.consumer(client, stream) => match consumer {
                Ok(consumer) => consumer,
                Err(problem) => return Ended::Broken(problem),
            },
        };
        let pulled = consumer.stream().max_messages_per_batch(MOST_AT_ONCE).heartbeat(HEARTBEAT);
        let mut messages = match pulled.messages().await {
            Ok(messages) => messages,
            Err(error) => return Ended::Broken(format!("nothing can be fetched: {error}")),
        };
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.reset_after(FIRST_LOOK);
        loop {
            let first = tokio::select! {
                biased;
                () = asked_to_end(down) => return Ended::Down,
                first = messages.next() => first,
                _ = look.tick() => {
                    // A server that does not answer is found by its missing heartbeat. One that answers may still have
                    // refused what we pull with.
                    if let Ok(Ok(info)) = tokio::time::timeout(LOOK_EVERY, consumer.get_info()).await {
                        reporter.lag(info.num_pending + info.num_ack_pending as u64);
                        if info.num_waiting > 0 {
                            reporter.up();
                        }
                    }
                    continue;
                }
            };
            let batch = match following(first, &mut messages, MOST_AT_ONCE, MOST_BYTES) {
                Ok(batch) => batch,
                Err(reason) => return Ended::Broken(reason),
            };
            reporter.up();
            if self.take(client, &batch, inlet, reporter, down).await.is_err() {
                return Ended::Down;
            }
        }
    }

    async fn consumer(
        &self,
        client: &Client,
        stream: &str,
    ) -> Result<consumer::Consumer<pull::Config>, String> {
        let context = jetstream::new(client.clone());
        let name = &self.config.consumer;
        let what = format!("the consumer {name} of the stream {stream} cannot be had");
        let stream =
            context.get_stream(stream).await.map_err(|error| format!("{what}: {}", words(&error)))?;
        let config = pull::Config {
            durable_name: Some(name.clone()),
            ack_policy: consumer::AckPolicy::Explicit,
            ack_wait: self.config.ack_wait.duration(),
            deliver_policy: consumer::DeliverPolicy::All,
            max_ack_pending: MOST_UNACKNOWLEDGED,
            filter_subjects: self.config.subjects.clone(),
            ..Default::default()
        };
        let found = stream
            .get_or_create_consumer(name, config.clone())
            .await
            .map_err(|error| format!("{what}: {}", words(&error)))?;
        if as_asked(&found.cached_info().config, &config) {
            return Ok(found);
        }
        tracing::info!(consumer = name, "the consumer was made for other settings and is changed");
        stream.create_consumer(config).await.map_err(|error| format!("{what}: {}", words(&error)))
    }

    /// One batch: read, kept, acknowledged.
    async fn take(
        &self,
        client: &Client,
        messages: &[jetstream::Message],
        inlet: &Inlet,
        reporter: &Reporter,
        down: &mut watch::Receiver<bool>,
    ) -> Result<(), crate::inlet::NotTaken> {
        let now = clock::now();
        let mut batch = Batch::default();
        let mut acks = Vec::with_capacity(messages.len());
        for message in messages {
            let (place, delivered, at) = standing(message);
            let tries = u32::try_from(delivered).unwrap_or(u32::MAX);
            let read = Message {
                place,
                stays: true,
                headers: headers(message.headers.as_ref()),
                body: &message.payload,
                at,
            };
            if delivered > NEVER_THROUGH && !self.gave_up.swap(true, Ordering::Relaxed) {
                let words =
                    "it was delivered again and again and never got through; it was not read this time";
                batch.news.dead.push(DeadLetter::new(&read.place, words, tries, read.body));
                acks.push(AckKind::Term);
                continue;
            }
            match self.reader.read(&read, now) {
                Said::Unreadable(refused) if tries < self.config.max_tries => {
                    tracing::debug!(place = %read.place, tries, reason = %refused.reason, "cannot be read, to come again");
                    acks.push(AckKind::Nak(Some(
                        COME_AGAIN.saturating_mul(1 << tries.saturating_sub(1).min(10)),
                    )));
                }
                said => {
                    let term = matches!(said, Said::Unreadable(_));
                    batch.add(&read, said, tries);
                    acks.push(if term { AckKind::Term } else { AckKind::Ack });
                }
            }
        }
        reporter.passed_over(batch.passed_over);
        hand_over(inlet, self.reader.source(), &batch, reporter, down).await?;
        self.send_on(client, messages, &acks, reporter).await;
        for (message, ack) in messages.iter().zip(acks) {
            if let Err(error) = message.ack_with(ack).await {
                reporter.failed(format!("a message was not acknowledged and will come again: {error}"));
            }
        }
        Ok(())
    }

    /// Sends dead letters to their subject, as they came.
    async fn send_on(
        &self,
        client: &Client,
        messages: &[jetstream::Message],
        acks: &[AckKind],
        reporter: &Reporter,
    ) {
        let Some(subject) = &self.config.dead_letter_subject else { return };
        for (message, _) in messages.iter().zip(acks).filter(|(_, ack)| matches!(ack, AckKind::Term)) {
            let mut headers = message.headers.clone().unwrap_or_default();
            headers.insert("turnback-place", standing(message).0.as_str());
            let sent = client.publish_with_headers(subject.clone(), headers, message.payload.clone()).await;
            if let Err(error) = sent {
                reporter.failed(format!("a dead letter did not reach {subject}: {error}; the ledger has it"));
            }
        }
    }

    async fn hear_subjects(
        &self,
        client: &Client,
        refusals: Refusals,
        inlet: &Inlet,
        reporter: &Reporter,
        down: &mut watch::Receiver<bool>,
    ) -> Ended {
        let mut hints = match Hints::subscribe(client, &self.config.subjects, refusals).await {
            Ok(hints) => hints,
            Err(problem) => return Ended::Broken(problem),
        };
        loop {
            let message = tokio::select! {
                biased;
                () = asked_to_end(down) => return Ended::Down,
                message = hints.next(reporter) => message,
            };
            let message = match message {
                Ok(message) => message,
                Err(problem) => return Ended::Broken(problem),
            };
            let place =
                fingerprint(&[message.subject.as_str(), &String::from_utf8_lossy(&message.payload)], 16);
            let headers = headers(message.headers.as_ref());
            let read = Message { place, stays: false, headers, body: &message.payload, at: None };
            let mut batch = Batch::default();
            batch.add(&read, self.reader.read(&read, clock::now()), 1);
            reporter.passed_over(batch.passed_over);
            if hand_over(inlet, self.reader.source(), &batch, reporter, down).await.is_err() {
                return Ended::Down;
            }
        }
    }
}

/// Where a message stands, how often it was delivered, and when the server took it.
fn standing(message: &jetstream::Message) -> (String, i64, Option<Timestamp>) {
    match message.info() {
        Ok(info) => {
            let at = info.published.unix_timestamp_nanos();
            let place = format!("{}/{}", info.stream, info.stream_sequence);
            (place, info.delivered, Timestamp::from_nanosecond(at).ok())
        }
        // Only a message that no stream delivered has no such information.
        Err(_) => (fingerprint(&[&String::from_utf8_lossy(&message.payload)], 16), 1, None),
    }
}

/// Headers of CloudEvents are percent-encoded here, once.
fn headers(from: Option<&NatsHeaders>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in from.into_iter().flat_map(NatsHeaders::iter) {
        for value in values {
            let decoded = percent_encoding::percent_decode_str(value.as_str()).collect::<Vec<u8>>();
            let is_cloud_event = name.to_string().to_ascii_lowercase().starts_with("ce-");
            let value = if is_cloud_event { decoded } else { value.as_str().as_bytes().to_vec() };
            // Here the type of the data has no header of its own.
            let name = name.to_string();
            let name = if name.eq_ignore_ascii_case("ce-datacontenttype") { "content-type" } else { &name };
            header(&mut headers, name, &value);
        }
    }
    headers
}

/// Whether a consumer that is there hears what it should: the server gives it back as it was made, whatever is asked for.
fn as_asked(found: &consumer::Config, asked: &pull::Config) -> bool {
    let subjects = |several: &[String], one: &str| -> BTreeSet<String> {
        several
            .iter()
            .map(String::as_str)
            .chain([one])
            .filter(|one| !one.is_empty())
            .map(str::to_owned)
            .collect()
    };
    subjects(&found.filter_subjects, &found.filter_subject)
        == subjects(&asked.filter_subjects, &asked.filter_subject)
        && found.ack_wait == asked.ack_wait
        && found.ack_policy == asked.ack_policy
}

#[async_trait]
impl Hearing for NatsSource {
    async fn hear(&mut self, inlet: &Inlet, reporter: &Reporter, down: &mut watch::Receiver<bool>) -> Ended {
        let connected = self.config.connection.connect(&self.secrets, Some(reporter.clone())).await;
        let (client, refusals) = match connected {
            Ok(connected) => connected,
            Err(error) => return Ended::Broken(error.to_string()),
        };
        match &self.config.stream {
            Some(stream) => self.hear_stream(&client, stream, inlet, reporter, down).await,
            None => self.hear_subjects(&client, refusals, inlet, reporter, down).await,
        }
    }
}

#[async_trait]
impl Listener for NatsSource {
    fn name(&self) -> &SourceName {
        self.reader.source()
    }

    fn kind(&self) -> &'static str {
        "nats"
    }

    fn describe(&self) -> String {
        self.config.connection.shown_with(self.config.stream.as_deref(), &self.config.subjects)
    }

    async fn run(mut self: Box<Self>, inlet: Inlet, reporter: Reporter, mut down: watch::Receiver<bool>) {
        keep_hearing(&mut *self, &inlet, &reporter, &mut down).await;
    }
}
