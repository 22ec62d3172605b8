//! The stored form of a record: what goes in, what comes out, and what is refused.
//!
//! The ledger does not know what a verdict or a plan is. It keeps JSON text under a stream, a kind and a version, and
//! gives back exactly that text. Every record that is read is hashed again first, so a changed record is an error and
//! never a fact.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::chain::{Content, Hash, link};
use super::error::LedgerError;

/// Longest stream or kind, in bytes: they are names made by us, the longest is a prefix and an identifier.
pub const MAX_NAME: usize = 200;
/// Longest part of an event key, plan or step name, in bytes: CloudEvents sources are URIs, which are rarely over 200.
pub const MAX_KEY_PART: usize = 1024;
/// Longest body, in bytes of JSON: four times the largest webhook that is accepted (256 KiB).
pub const MAX_BODY: usize = 1024 * 1024;

/// Deepest nesting of a body. The JSON reader gives up at 128: what could not be read back must not be stored.
pub const MAX_DEPTH: u32 = 64;

/// What a record does to the set of open streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// Nothing.
    #[default]
    None,
    /// The stream is open from here on: it is loaded at start.
    Opens,
    /// The stream is closed from here on: it is history.
    Closes,
}

/// A record to be appended.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRecord {
    /// What it belongs to, such as `watch/w-abc`, `fleet` or `events`: printable ASCII without spaces, at most
    /// [`MAX_NAME`] bytes.
    pub stream: String,
    /// What it is, such as `verdict`: as for `stream`.
    pub kind: String,
    /// Version of the body's shape. The ledger keeps it; the reader of the body must refuse versions it does not know.
    pub version: u16,
    /// When it happened, by the caller's clock. Kept to the nanosecond; years 1678 to 2262.
    pub at: Timestamp,
    /// Whether it opens or closes its stream.
    pub mark: Mark,
    /// The content: at most [`MAX_BODY`] bytes as JSON, nested at most [`MAX_DEPTH`] deep.
    pub body: Value,
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Place in the ledger, from 1, without gaps.
    pub sequence: i64,
    /// What it belongs to.
    pub stream: String,
    /// What it is.
    pub kind: String,
    /// Version of the body's shape.
    pub version: u16,
    /// When it happened.
    pub at: Timestamp,
    /// Whether it opens or closes its stream.
    pub mark: Mark,
    /// What it is the only record of: JSON text of `["event", source, id]` or `["permit", plan, step, attempt]`.
    pub unique_key: Option<String>,
    /// The content.
    pub body: Value,
    /// The content as the text that is stored and hashed. Keep this one when the hash matters.
    pub body_text: String,
    /// Hash of the record before.
    pub previous_hash: Hash,
    /// Hash of this record; see `chain.rs` for the form.
    pub hash: Hash,
}

/// Names one event of the outside world, so that a second delivery is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventKey {
    /// Who sent it (CloudEvents `source`): at most [`MAX_KEY_PART`] bytes, not empty.
    pub source: String,
    /// Its identifier at the sender (CloudEvents `id`): as for `source`.
    pub id: String,
}

/// What became of one event.
#[must_use = "a duplicate must not be acted on again"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Seen for the first time and stored under this sequence number.
    New(i64),
    /// Stored before, in this batch or an earlier one. Acknowledge it and do nothing else.
    Duplicate {
        /// Sequence number of the first delivery.
        first_seen: i64,
    },
}

/// Leave to perform one attempt of one step. Only the ledger makes one, and only once for each attempt.
#[must_use = "a permit that is not used still uses up the attempt"]
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    pub(super) sequence: i64,
    pub(super) plan: String,
    pub(super) step: String,
    pub(super) attempt: u32,
}

/// A record that has been checked and turned into columns; only its place in the chain is missing.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub record: NewRecord,
    pub at_ns: i64,
    pub unique_key: Option<String>,
    pub body_text: String,
}

impl NewRecord {
    /// A record that neither opens nor closes its stream.
    pub fn new(
        stream: impl Into<String>,
        kind: impl Into<String>,
        version: u16,
        at: Timestamp,
        body: Value,
    ) -> NewRecord {
        NewRecord { stream: stream.into(), kind: kind.into(), version, at, mark: Mark::None, body }
    }

    /// The same record, opening its stream.
    #[must_use]
    pub fn opening(self) -> NewRecord {
        NewRecord { mark: Mark::Opens, ..self }
    }

    /// The same record, closing its stream.
    #[must_use]
    pub fn closing(self) -> NewRecord {
        NewRecord { mark: Mark::Closes, ..self }
    }

    pub(super) fn prepare(self, unique_key: Option<String>) -> Result<Prepared, LedgerError> {
        check_name("stream", &self.stream)?;
        check_name("kind", &self.kind)?;
        let at_ns = i64::try_from(self.at.as_nanosecond()).map_err(|_| {
            LedgerError::Unacceptable(format!(
                "the time {} of a {} record; expected a time between the years 1678 and 2262",
                self.at, self.kind
            ))
        })?;
        if is_deeper_than(&self.body, MAX_DEPTH) {
            return Err(LedgerError::Unacceptable(format!(
                "the body of a {} record for {} is nested more than {MAX_DEPTH} deep",
                self.kind, self.stream
            )));
        }
        // Printing a `Value` is infallible: it has no maps with other keys than strings.
        let body_text = self.body.to_string();
        if body_text.len() > MAX_BODY {
            return Err(LedgerError::Unacceptable(format!(
                "the body of a {} record for {} has {} bytes; at most {MAX_BODY} are stored",
                self.kind,
                self.stream,
                body_text.len()
            )));
        }
        Ok(Prepared { record: self, at_ns, unique_key, body_text })
    }
}

impl EventKey {
    pub(super) fn unique_key(&self) -> Result<String, LedgerError> {
        check_key_part("source of an event", &self.source)?;
        check_key_part("id of an event", &self.id)?;
        Ok(serde_json::json!(["event", self.source, self.id]).to_string())
    }
}

impl Permit {
    /// Sequence number of the permit's record.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// The plan it is for.
    pub fn plan(&self) -> &str {
        &self.plan
    }

    /// The step it is for.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// The attempt it is for.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(super) fn record(
        plan: &str,
        step: &str,
        attempt: u32,
        at: Timestamp,
    ) -> Result<Prepared, LedgerError> {
        check_key_part("name of a plan", plan)?;
        check_key_part("name of a step", step)?;
        let key = serde_json::json!(["permit", plan, step, attempt]).to_string();
        let body = serde_json::json!({ "plan": plan, "step": step, "attempt": attempt });
        NewRecord::new("permits", "permit", 1, at, body).prepare(Some(key))
    }
}

impl Mark {
    fn code(self) -> u8 {
        match self {
            Mark::None => 0,
            Mark::Opens => 1,
            Mark::Closes => 2,
        }
    }

    fn from_code(code: i64) -> Option<Mark> {
        match code {
            0 => Some(Mark::None),
            1 => Some(Mark::Opens),
            2 => Some(Mark::Closes),
            _ => None,
        }
    }
}

impl Prepared {
    pub(super) fn mark_code(&self) -> i64 {
        i64::from(self.record.mark.code())
    }

    pub(super) fn link(&self, previous: &Hash, sequence: i64) -> Hash {
        let content = Content {
            stream: &self.record.stream,
            kind: &self.record.kind,
            version: self.record.version,
            at_ns: self.at_ns,
            mark: self.record.mark.code(),
            key: self.unique_key.as_deref(),
            body: &self.body_text,
        };
        link(previous, sequence, &content)
    }

    pub(super) fn stored(self, sequence: i64, previous_hash: Hash, hash: Hash) -> Record {
        let NewRecord { stream, kind, version, at, mark, body } = self.record;
        let (unique_key, body_text) = (self.unique_key, self.body_text);
        Record { sequence, stream, kind, version, at, mark, unique_key, body, body_text, previous_hash, hash }
    }
}

/// Reads one row and hashes it again. The row's link to the row before it is the caller's to check.
pub(super) fn decode(row: &SqliteRow) -> Result<Record, LedgerError> {
    let sequence: i64 = row
        .try_get("sequence")
        .map_err(|error| LedgerError::broken(0, format!("a sequence number cannot be read: {error}")))?;
    decode_columns(row, sequence).map_err(|reason| LedgerError::broken(sequence, reason))
}

fn decode_columns(row: &SqliteRow, sequence: i64) -> Result<Record, String> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(|error| unreadable(column, &error));
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(|error| unreadable(column, &error));
    let hash = |column: &str| {
        let bytes: &[u8] = row.try_get(column).map_err(|error| unreadable(column, &error))?;
        Hash::from_bytes(bytes).ok_or_else(|| format!("{column} has {} bytes instead of 32", bytes.len()))
    };
    let unique_key: Option<String> =
        row.try_get("unique_key").map_err(|error| unreadable("unique_key", &error))?;
    let (stream, kind, body_text) = (text("stream")?, text("kind")?, text("body")?);
    let (previous_hash, stored_hash) = (hash("previous_hash")?, hash("hash")?);
    let version = number("version")?;
    let version = u16::try_from(version).map_err(|_| format!("version {version} is out of range"))?;
    let mark = number("mark")?;
    let mark = Mark::from_code(mark).ok_or_else(|| format!("mark {mark} is not 0, 1 or 2"))?;
    let at_ns = number("at_ns")?;
    let content = Content {
        stream: &stream,
        kind: &kind,
        version,
        at_ns,
        mark: mark.code(),
        key: unique_key.as_deref(),
        body: &body_text,
    };
    let computed = link(&previous_hash, sequence, &content);
    if computed != stored_hash {
        return Err(format!("its content hashes to {computed}, but {stored_hash} is stored"));
    }
    let at = Timestamp::from_nanosecond(at_ns.into())
        .map_err(|error| format!("at_ns {at_ns} is no time: {error}"))?;
    let body = serde_json::from_str(&body_text).map_err(|error| format!("the body is not JSON: {error}"))?;
    Ok(Record {
        sequence,
        stream,
        kind,
        version,
        at,
        mark,
        unique_key,
        body,
        body_text,
        previous_hash,
        hash: stored_hash,
    })
}

fn unreadable(column: &str, error: &sqlx::Error) -> String {
    format!("{column} cannot be read: {error}")
}

pub(super) fn check_name(what: &str, name: &str) -> Result<(), LedgerError> {
    if !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(LedgerError::Unacceptable(format!(
        "{what} {:?}; expected 1 to {MAX_NAME} printable ASCII characters without spaces",
        shortened(name)
    )))
}

fn check_key_part(what: &str, part: &str) -> Result<(), LedgerError> {
    if !part.is_empty() && part.len() <= MAX_KEY_PART {
        return Ok(());
    }
    Err(LedgerError::Unacceptable(format!(
        "{what} {:?} of {} bytes; expected 1 to {MAX_KEY_PART} bytes",
        shortened(part),
        part.len()
    )))
}

fn is_deeper_than(value: &Value, limit: u32) -> bool {
    let Some(left) = limit.checked_sub(1) else { return value.is_array() || value.is_object() };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper_than(item, left)),
        Value::Object(fields) => fields.values().any(|field| is_deeper_than(field, left)),
        _ => false,
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
