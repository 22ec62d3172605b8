//! The loops that hear samples from NATS.
//!
//! From a stream by a consumer of our own that nobody acknowledges to and that the server forgets when we are gone. Its
//! messages are numbered one after the other, so a hole is seen, and we begin anew behind the last one. Or from subjects of
//! core NATS, from now on: what is lost there is lost.

use super::config::NatsSamplesConfig;
use super::{Feed, Letter, MOST_AT_ONCE, MOST_BYTES, unusable};
use crate::brokers::nats::{Hints, Refusals, following};
use crate::clock;
use crate::events::listener::{Ended, Hearing, Listener, asked_to_end, keep_hearing};
use crate::inlet::{Inlet, Reporter};
use crate::secrets::Secrets;
use crate::signals::pushed::PushedSource;
use crate::signals::{SourceError, words};
use async_nats::jetstream::{self, consumer, consumer::DeliverPolicy, consumer::pull};
use async_nats::{Client, HeaderMap};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use rules::ids::SourceName;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the server says that it is there; two missing signs are an error.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long one question may take.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// When the server forgets a consumer that nobody asks.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// How often the consumer is asked how it is doing, and the first time.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// The past is there when the last message says that nothing is pending; or the server says so, and nothing more has come
/// for so long.
const QUIET: Duration = Duration::from_secs(2);

/// Hears samples from a stream or from subjects of NATS.
pub struct NatsSamples {
    feed: Arc<Feed>,
    config: NatsSamplesConfig,
    secrets: Arc<Secrets>,
    /// The number of the last message of the stream.
    last: u64,
}

impl NatsSamples {
    /// Prepares a stream; connects to nothing.
    ///
    /// # Errors
    /// If the configuration cannot work.
    pub fn new(
        source: &Arc<PushedSource>,
        config: &NatsSamplesConfig,
        secrets: &Arc<Secrets>,
    ) -> Result<Self, SourceError> {
        if let Some((key, problem)) = config.problems().into_iter().next() {
            return Err(unusable(source, "nats", format!("{key}: {problem}")));
        }
        let feed = Feed::new(source, "nats", config.form, &config.mapping, config.stream.is_some())?;
        Ok(Self { feed, config: config.clone(), secrets: Arc::clone(secrets), last: 0 })
    }

    async fn hear_stream(
        &mut self,
        client: &Client,
        stream: &str,
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
        if consumer.cached_info().num_pending == 0 {
            self.feed.tell_past();
        }
        let (mut heard, mut all_sent) = (0, false);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.reset_after(FIRST_LOOK);
        loop {
            let first = tokio::select! {
                biased;
                () = asked_to_end(down) => return Ended::Down,
                first = messages.next() => first,
                _ = look.tick() => {
                    // One that answers may still have refused what we pull with.
                    if let Ok(Ok(info)) = tokio::time::timeout(ASK_WITHIN, consumer.get_info()).await {
                        all_sent = info.num_pending == 0;
                        if info.num_waiting > 0 {
                            reporter.up();
                        }
                    }
                    continue;
                }
                () = tokio::time::sleep(QUIET), if all_sent && !self.feed.has_past() => {
                    self.feed.tell_past();
                    continue;
                }
            };
            let batch = match following(first, &mut messages, MOST_AT_ONCE, MOST_BYTES) {
                Ok(batch) => batch,
                Err(reason) => return Ended::Broken(reason),
            };
            reporter.up();
            let (mut letters, mut pending, mut hole) = (Vec::with_capacity(batch.len()), 0, false);
            for message in &batch {
                let Ok(info) = message.info() else { continue };
                hole = info.consumer_sequence != heard + 1;
                if hole {
                    break;
                }
                (heard, self.last, pending) = (info.consumer_sequence, info.stream_sequence, info.pending);
                let at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos());
                let place = format!("{}/{}", info.stream, info.stream_sequence);
                letters.push(letter(message, place, at.unwrap_or_else(|_| clock::now())));
            }
            // What came before a hole is not asked for again.
            self.feed.take(letters, reporter).await;
            if hole {
                return Ended::Broken("messages were lost on the way; they are asked for again".into());
            }
            reporter.lag(pending);
            if pending == 0 {
                self.feed.tell_past();
            }
        }
    }

    /// A consumer from behind the last message on, or from where the past begins.
    async fn consumer(
        &mut self,
        client: &Client,
        stream: &str,
    ) -> Result<consumer::Consumer<pull::Config>, String> {
        let context = jetstream::new(client.clone());
        let bad = |error: String| format!("the stream {stream} cannot be heard: {error}");
        let stream = tokio::time::timeout(ASK_WITHIN, context.get_stream(stream)).await;
        let stream = stream
            .map_err(|_| bad("the server does not answer".into()))?
            .map_err(|error| bad(words(&error)))?;
        if stream.cached_info().state.last_sequence < self.last {
            // It was made anew, and its numbers begin anew.
            self.last = 0;
        }
        let policy = match self.last {
            0 => since(self.feed.since()).map_err(bad)?,
            last => DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
        };
        let config = pull::Config {
            deliver_policy: policy,
            ack_policy: consumer::AckPolicy::None,
            filter_subjects: self.config.subjects.clone(),
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..Default::default()
        };
        let made = tokio::time::timeout(ASK_WITHIN, stream.create_consumer(config)).await;
        made.map_err(|_| bad("the server does not answer".into()))?.map_err(|error| bad(words(&error)))
    }

    async fn hear_subjects(
        &self,
        client: &Client,
        refusals: Refusals,
        reporter: &Reporter,
        down: &mut watch::Receiver<bool>,
    ) -> Ended {
        let mut hints = match Hints::subscribe(client, &self.config.subjects, refusals).await {
            Ok(hints) => hints,
            Err(problem) => return Ended::Broken(problem),
        };
        loop {
            let first = tokio::select! {
                biased;
                () = asked_to_end(down) => return Ended::Down,
                first = hints.next(reporter) => first,
            };
            let batch = match first {
                Ok(first) => hints.following(first, MOST_AT_ONCE, MOST_BYTES),
                Err(problem) => return Ended::Broken(problem),
            };
            // Each has a time of its own, in the order in which they came.
            let now = clock::now();
            let times = (now.as_microsecond()..).map(|at| Timestamp::from_microsecond(at).unwrap_or(now));
            let letters = batch.iter().zip(times);
            let letters = letters.map(|(message, at)| letter(message, message.subject.to_string(), at));
            self.feed.take(letters.collect(), reporter).await;
        }
    }
}

/// From a time on. The type that the library has for times is not ours to make; what it reads is.
fn since(at: Timestamp) -> Result<DeliverPolicy, String> {
    let written = serde_json::json!({ "deliver_policy": "by_start_time", "opt_start_time": at.to_string() });
    serde_json::from_value(written).map_err(|error| error.to_string())
}

fn letter(message: &async_nats::Message, place: String, at: Timestamp) -> Letter {
    let named = |headers: &HeaderMap| {
        let mut all = headers.iter();
        let found = all.find(|(name, _)| name.to_string().eq_ignore_ascii_case("content-type"));
        found.and_then(|(_, values)| values.first().map(ToString::to_string))
    };
    Letter {
        place,
        topic: message.subject.to_string(),
        content_type: message.headers.as_ref().and_then(named),
        at,
        body: message.payload.to_vec(),
    }
}

#[async_trait]
impl Listener for NatsSamples {
    fn name(&self) -> &SourceName {
        &self.feed.name
    }

    fn kind(&self) -> &'static str {
        "nats-samples"
    }

    fn describe(&self) -> String {
        self.config.connection.shown_with(self.config.stream.as_deref(), &self.config.subjects)
    }

    /// Nothing goes through the inlet: samples are nothing for the ledger.
    async fn run(mut self: Box<Self>, inlet: Inlet, reporter: Reporter, mut down: watch::Receiver<bool>) {
        keep_hearing(&mut *self, &inlet, &reporter, &mut down).await;
    }
}

#[async_trait]
impl Hearing for NatsSamples {
    async fn hear(&mut self, _: &Inlet, reporter: &Reporter, down: &mut watch::Receiver<bool>) -> Ended {
        let connected = self.config.connection.connect(&self.secrets, Some(reporter.clone())).await;
        let (client, refusals) = match connected {
            Ok(connected) => connected,
            Err(error) => return Ended::Broken(error.to_string()),
        };
        match self.config.stream.clone() {
            Some(stream) => self.hear_stream(&client, &stream, reporter, down).await,
            None => self.hear_subjects(&client, refusals, reporter, down).await,
        }
    }
}
