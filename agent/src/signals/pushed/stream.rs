//! Samples from a stream: topics of Kafka, subjects and streams of NATS.
//!
//! ```text
//!  broker ──▶ letter ──▶ form (OTLP, remote write, our JSON, any JSON by mapping) ──▶ PushedSource ──▶ bell
//! ```
//!
//! Unlike news, samples are no matter of the ledger: what is decided from them is. So nothing is committed, neither here nor
//! at the broker, and no group is shared: every agent hears everything. What is kept is kept in memory, so an agent that
//! starts begins an hour ago, where the broker has that, and has its past again. While it runs it knows
//! where it was: a broker that comes back is heard from there, so that nothing is counted twice.
//!
//! What one series tells must come in order: from one sender, by one partition. What cannot be read is counted, explained in
//! the health of the source, and passed over.

mod config;
mod json;
#[cfg(feature = "kafka")]
mod kafka;
mod mapping;
mod nats;
#[cfg(test)]
mod tests;

pub use config::{HistogramFields, KafkaSamplesConfig, NatsSamplesConfig, SampleForm, SampleRule};
#[cfg(feature = "kafka")]
pub use kafka::KafkaSamples;
pub use nats::NatsSamples;

use super::super::SourceError;
use super::{BadPush, Batch, MOST_BODY_BYTES, PushedSource, otlp, remote_write};
use crate::clock;
use crate::inlet::Reporter;
use jiff::Timestamp;
use mapping::Mapping;
use rules::ids::SourceName;
use rules::units::Span;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How far back a stream is heard at the start: what a watch of an hour, or the baseline of a release, needs.
const MOST_PAST: Span = Span::from_minutes(60);
/// Messages that are read at once, and bytes after which no further one is added: some tenths of a second of work.
const MOST_AT_ONCE: usize = 256;
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Samples and labels after which what was read is handed over, before the next message is read: some 16 MB in memory.
/// Each message has bounds of its own, but not so many of them together.
const MOST_HELD: usize = 100_000;

/// The name under which a stream of the source `source` stands on the board.
///
/// # Errors
/// If the name of the source has other letters than names of sources may have.
pub fn board_name(source: &str, kind: &str) -> Result<SourceName, String> {
    SourceName::new(format!("samples.{source}.{kind}")).map_err(|error| error.to_string())
}

/// One message of a stream.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    /// Where it stands, for people.
    pub place: String,
    /// The topic or the subject.
    pub topic: String,
    /// The content type, if a header names one.
    pub content_type: Option<String>,
    /// When the broker took it.
    pub at: Timestamp,
    /// Its body.
    pub body: Vec<u8>,
}

/// How messages are read.
#[derive(Debug)]
enum Reader {
    Otlp,
    OtlpJson,
    RemoteWrite,
    Json,
    Mapping(Mapping),
}

impl Reader {
    fn new(form: SampleForm, mapping: &[SampleRule]) -> Result<Self, Vec<(String, String)>> {
        Ok(match form {
            SampleForm::Otlp => Reader::Otlp,
            SampleForm::OtlpJson => Reader::OtlpJson,
            SampleForm::RemoteWrite => Reader::RemoteWrite,
            SampleForm::Json if mapping.is_empty() => Reader::Json,
            SampleForm::Json => Reader::Mapping(Mapping::compile(mapping)?),
        })
    }

    /// Reads a message; pure.
    fn read(&self, letter: &Letter) -> Result<Batch, BadPush> {
        if letter.body.is_empty() {
            return Err(BadPush::unreadable("the message", "it is empty"));
        }
        if letter.body.len() > MOST_BODY_BYTES {
            let words = format!("it has {} bytes, at most {MOST_BODY_BYTES} are read", letter.body.len());
            return Err(BadPush::too_much(words));
        }
        match self {
            Reader::Otlp => otlp::decode("application/x-protobuf", &letter.body),
            Reader::OtlpJson => otlp::decode("application/json", &letter.body),
            Reader::RemoteWrite => {
                let kind = letter.content_type.as_deref().unwrap_or("application/x-protobuf");
                remote_write::decode(kind, &letter.body)
            }
            Reader::Json => json::decode(&letter.body, letter.at),
            Reader::Mapping(mapping) => mapping.decode(letter),
        }
    }
}

/// From letters to the source.
pub(super) struct Feed {
    name: SourceName,
    source: Arc<PushedSource>,
    reader: Reader,
    /// Whether the past has been told.
    has_past: AtomicBool,
}

impl Feed {
    fn new(
        source: &Arc<PushedSource>,
        kind: &str,
        form: SampleForm,
        mapping: &[SampleRule],
        tells_past: bool,
    ) -> Result<Arc<Self>, SourceError> {
        let source = Arc::clone(source);
        let bad = |problem| unusable(&source, kind, problem);
        let name = board_name(source.name(), kind).map_err(bad)?;
        let reader = Reader::new(form, mapping).map_err(|problems| {
            let line = |(key, problem)| format!("mapping.{key}: {problem}");
            bad(problems.into_iter().map(line).collect::<Vec<_>>().join("; "))
        })?;
        if tells_past {
            source.expect_past();
        }
        Ok(Arc::new(Self { name, source, reader, has_past: AtomicBool::new(!tells_past) }))
    }

    /// From when on a stream is heard that was not heard before.
    fn since(&self) -> Timestamp {
        self.source.retention.min(MOST_PAST).before(clock::now())
    }

    fn has_past(&self) -> bool {
        self.has_past.load(Ordering::Relaxed)
    }

    /// The past has been told: from now on the source is read.
    fn tell_past(&self) {
        if !self.has_past.swap(true, Ordering::Relaxed) {
            tracing::info!(source = %self.name, "the past is there again");
            self.source.has_past();
        }
    }

    /// Reads letters away from the loop that hears, and hands over what they hold.
    async fn take(self: &Arc<Self>, letters: Vec<Letter>, reporter: &Reporter) {
        let feed = Arc::clone(self);
        match tokio::task::spawn_blocking(move || feed.read(&letters)).await {
            Ok((read, passed_over)) => {
                reporter.brought(read);
                reporter.passed_over(passed_over);
            }
            Err(error) => {
                reporter.failed(format!("reading messages failed in a defect of the agent: {error}"))
            }
        }
    }

    /// How many could be read, and how many of them said nothing.
    fn read(&self, letters: &[Letter]) -> (u64, u64) {
        let (mut held, mut read, mut passed_over) = (Held::default(), 0, 0);
        for letter in letters {
            // A reader that panics is our defect, and the message's fate: the agent goes on.
            let attempt = std::panic::AssertUnwindSafe(|| self.reader.read(letter));
            let found = std::panic::catch_unwind(attempt).unwrap_or_else(|_panic| {
                tracing::error!(place = %letter.place, "reading a message panicked: please report this");
                Err(BadPush::unreadable("the message", "a defect of the agent"))
            });
            match found {
                Ok(batch) => {
                    read += 1;
                    passed_over += u64::from(batch == Batch::default());
                    held.add(batch);
                    self.hand_over(&mut held, MOST_HELD);
                }
                Err(bad) => {
                    tracing::debug!(source = %self.name, place = %letter.place, reason = %bad.reason, "unreadable");
                    self.source.note_unreadable(clock::now(), &format!("{}: {}", letter.place, bad.reason));
                }
            }
        }
        self.hand_over(&mut held, 0);
        (read - passed_over, passed_over)
    }

    /// Hands over what was read, if it weighs so much.
    fn hand_over(&self, held: &mut Held, weight: usize) {
        if held.weight >= weight && held.batch != Batch::default() {
            self.source.take(clock::now(), std::mem::take(held).batch);
        }
    }
}

/// What was read and is not handed over yet.
#[derive(Debug, Default)]
struct Held {
    batch: Batch,
    /// Samples and labels.
    weight: usize,
}

impl Held {
    fn add(&mut self, batch: Batch) {
        let series = batch.series.iter().chain(&batch.info);
        self.weight += series.map(|one| one.labels.len() + one.points.len()).sum::<usize>();
        self.batch.add(batch);
    }
}

/// A stream that cannot be set up.
fn unusable(source: &PushedSource, kind: &str, problem: String) -> SourceError {
    SourceError::Setup { what: format!("signals.pushed.{}.{kind}", source.name()), problem, cause: None }
}
