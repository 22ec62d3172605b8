//! Reading and writing the SQLite file. One connection writes, a few read.
//!
//! A write is one transaction, synced to disk before it returns. It begins with `BEGIN IMMEDIATE`, so that waiting for
//! somebody else's lock happens before anything is written: "busy" at that point leaves the ledger as it was and may be
//! tried again. Any failure after it makes the writer *poisoned*: after a failed sync the operating system may
//! have dropped the unwritten pages and report success the next time, so a second try would only look durable. What is
//! stored is known again when the file is read afresh, at the next start.
//!
//! SQL is kept to what PostgreSQL also understands: `$1` placeholders, whole numbers for times, JSON as text.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};

use super::chain::{Hash, Head};
use super::error::{LedgerError, is_busy};
use super::head::HeadFile;
use super::place::Lock;
use super::record::{Prepared, Record, Recorded, decode};

/// How long SQLite waits for another process: longer than any backup step or shell command should hold a lock, and short
/// enough for the daemon to report that it cannot record.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The one connection that writes, and what it knows of the file.
pub(super) struct Writer {
    // Declared before the lock: the connection must go first.
    pub(super) connection: SqliteConnection,
    head: Head,
    head_file: HeadFile,
    poisoned: Option<String>,
    _lock: Lock,
}

/// What one transaction did.
pub(super) struct Written {
    /// One for each record of the batch, in order.
    pub outcomes: Vec<Outcome>,
    pub head: Head,
    /// Set when the head could not be remembered beside the ledger. The records are stored all the same.
    pub head_file_problem: Option<LedgerError>,
}

/// What became of one record. Without a unique key it is always stored.
pub(super) enum Outcome {
    /// Boxed: the other variant is a number, and batches hold thousands of either.
    Stored(Box<Record>),
    Duplicate {
        first_seen: i64,
    },
}

impl Outcome {
    pub(super) fn recorded(&self) -> Recorded {
        match self {
            Outcome::Stored(record) => Recorded::New(record.sequence),
            Outcome::Duplicate { first_seen } => Recorded::Duplicate { first_seen: *first_seen },
        }
    }

    pub(super) fn into_record(self) -> Option<Record> {
        match self {
            Outcome::Stored(record) => Some(*record),
            Outcome::Duplicate { .. } => None,
        }
    }
}

impl Writer {
    pub(super) fn new(connection: SqliteConnection, head: Head, head_file: HeadFile, lock: Lock) -> Writer {
        Writer { connection, head, head_file, poisoned: None, _lock: lock }
    }

    /// Why nothing is written any more.
    pub(super) fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Stores those records whose unique key is new, and all that have none, in one transaction.
    pub(super) async fn store(
        &mut self,
        attempted: &'static str,
        batch: Vec<Prepared>,
    ) -> Result<Written, LedgerError> {
        if let Some(reason) = &self.poisoned {
            return Err(LedgerError::Poisoned { reason: reason.clone() });
        }
        // Holds when the task is dropped or panics half-way; taken back below once the outcome is known.
        self.poisoned = Some(format!("storing {attempted} was cut off"));
        match transact(&mut self.connection, self.head, attempted, batch).await {
            Ok((outcomes, head)) => {
                self.poisoned = None;
                let head_file_problem = self.remember(head).await.err();
                self.head = head;
                Ok(Written { outcomes, head, head_file_problem })
            }
            Err(busy @ LedgerError::Busy { .. }) => {
                self.poisoned = None;
                Err(busy)
            }
            Err(error) => {
                self.poisoned = Some(in_words(&error));
                Err(error)
            }
        }
    }

    async fn remember(&self, head: Head) -> Result<(), LedgerError> {
        if head == self.head {
            return Ok(());
        }
        let head_file = self.head_file.clone();
        let written = tokio::task::spawn_blocking(move || head_file.write(&head, false)).await;
        written.unwrap_or_else(|error| {
            Err(LedgerError::io("write", self.head_file.path())(std::io::Error::other(error)))
        })
    }

    /// Moves the write-ahead log into the database, syncs the head and lets go of the lock.
    pub(super) async fn close(self) -> Result<(), LedgerError> {
        // A poisoned writer does not know its head; the file keeps the last one that is certain.
        let remembered = match self.poisoned {
            None => self.head_file.write(&self.head, true),
            Some(_) => Ok(()),
        };
        let closed = self.connection.close().await;
        closed.map_err(|source| LedgerError::Database { attempted: "close the ledger", source })?;
        remembered
    }
}

async fn transact(
    connection: &mut SqliteConnection,
    expected: Head,
    attempted: &'static str,
    batch: Vec<Prepared>,
) -> Result<(Vec<Outcome>, Head), LedgerError> {
    let failed = |source| LedgerError::WriteFailed { attempted, source };
    let begun = connection.begin_with("BEGIN IMMEDIATE").await;
    let mut transaction = begun.map_err(|source| match is_busy(&source) {
        true => LedgerError::Busy { attempted: "begin a transaction in the ledger", source },
        false => failed(source),
    })?;
    let mut head = head_of(&mut transaction).await.map_err(failed)?;
    if head != expected {
        return Err(LedgerError::ForeignWriter { expected, found: head });
    }
    let mut outcomes = Vec::with_capacity(batch.len());
    for prepared in batch {
        let outcome = insert(&mut transaction, &head, prepared).await.map_err(failed)?;
        if let Outcome::Stored(record) = &outcome {
            head = Head { sequence: record.sequence, hash: record.hash };
        }
        outcomes.push(outcome);
    }
    transaction.commit().await.map_err(failed)?;
    Ok((outcomes, head))
}

async fn insert(
    connection: &mut SqliteConnection,
    head: &Head,
    prepared: Prepared,
) -> Result<Outcome, sqlx::Error> {
    let sequence = head.sequence + 1;
    let hash = prepared.link(&head.hash, sequence);
    let done = sqlx::query(
        "INSERT INTO records (sequence, stream, kind, version, at_ns, mark, unique_key, body, previous_hash, hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (unique_key) DO NOTHING",
    )
    .bind(sequence)
    .bind(&prepared.record.stream)
    .bind(&prepared.record.kind)
    .bind(i64::from(prepared.record.version))
    .bind(prepared.at_ns)
    .bind(prepared.mark_code())
    .bind(&prepared.unique_key)
    .bind(&prepared.body_text)
    .bind(head.hash.as_bytes().as_slice())
    .bind(hash.as_bytes().as_slice())
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 1 {
        return Ok(Outcome::Stored(Box::new(prepared.stored(sequence, head.hash, hash))));
    }
    let first_seen = sqlx::query_scalar("SELECT sequence FROM records WHERE unique_key = $1")
        .bind(&prepared.unique_key)
        .fetch_one(connection)
        .await?;
    Ok(Outcome::Duplicate { first_seen })
}

async fn head_of(connection: &mut SqliteConnection) -> Result<Head, sqlx::Error> {
    let row = sqlx::query("SELECT sequence, hash FROM records ORDER BY sequence DESC LIMIT 1")
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(Head::EMPTY) };
    let bytes: &[u8] = row.try_get("hash")?;
    let hash = Hash::from_bytes(bytes)
        .ok_or_else(|| sqlx::Error::Decode(format!("a hash of {} bytes", bytes.len()).into()))?;
    Ok(Head { sequence: row.try_get("sequence")?, hash })
}

/// The head as it is in the file now, for readers: its hash is not checked, and is [`Hash::ZERO`] when it is not even 32
/// bytes, so that a damaged ledger can still be looked at.
pub(super) async fn current_head(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<Head, LedgerError> {
    let row: Option<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT sequence, CAST(hash AS BLOB) FROM records ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(connection)
            .await
            .map_err(LedgerError::reading("find the head of the ledger", path))?;
    Ok(row.map_or(Head::EMPTY, |(sequence, hash)| Head {
        sequence,
        hash: Hash::from_bytes(&hash).unwrap_or(Hash::ZERO),
    }))
}

/// Records after `sequence`, at most `limit` of them, each hashed again.
pub(super) async fn read_after(
    connection: &mut SqliteConnection,
    path: &Path,
    sequence: i64,
    limit: i64,
) -> Result<Vec<Record>, LedgerError> {
    let rows = sqlx::query("SELECT * FROM records WHERE sequence > $1 ORDER BY sequence LIMIT $2")
        .bind(sequence)
        .bind(limit)
        .fetch_all(connection)
        .await;
    decode_all(path, rows)
}

/// Records of one stream after `sequence`, at most `limit` of them, each hashed again.
pub(super) async fn read_stream_after(
    connection: &mut SqliteConnection,
    path: &Path,
    stream: &str,
    sequence: i64,
    limit: i64,
) -> Result<Vec<Record>, LedgerError> {
    let rows =
        sqlx::query("SELECT * FROM records WHERE stream = $1 AND sequence > $2 ORDER BY sequence LIMIT $3")
            .bind(stream)
            .bind(sequence)
            .bind(limit)
            .fetch_all(connection)
            .await;
    decode_all(path, rows)
}

/// The record in this place, hashed again.
pub(super) async fn record_at(
    connection: &mut SqliteConnection,
    path: &Path,
    sequence: i64,
) -> Result<Option<Record>, LedgerError> {
    let row = sqlx::query("SELECT * FROM records WHERE sequence = $1")
        .bind(sequence)
        .fetch_optional(connection)
        .await
        .map_err(LedgerError::reading("read a record", path))?;
    row.as_ref().map(decode).transpose()
}

/// Names of streams in the range, in the order of their first records.
pub(super) async fn streams(
    connection: &mut SqliteConnection,
    path: &Path,
    prefix: &str,
) -> Result<Vec<String>, LedgerError> {
    // Names are printable ASCII, so DEL sorts after everything that can follow the prefix.
    sqlx::query_scalar(
        "SELECT stream FROM records WHERE stream >= $1 AND stream < $2 GROUP BY stream ORDER BY MIN(sequence)",
    )
    .bind(prefix)
    .bind(format!("{prefix}\u{7f}"))
    .fetch_all(connection)
    .await
    .map_err(LedgerError::reading("list the streams", path))
}

/// Reads only the index over opening and closing records. `mark <> 0` repeats the index's own condition: without it
/// SQLite does not see that the index applies.
pub(super) const OPEN_STREAMS: &str = "SELECT opened.stream FROM records AS opened \
     WHERE opened.mark <> 0 AND opened.mark = 1 AND opened.stream >= $1 AND opened.stream < $2 \
       AND NOT EXISTS (SELECT 1 FROM records AS later WHERE later.mark <> 0 \
                       AND later.stream = opened.stream AND later.sequence > opened.sequence) \
     ORDER BY opened.sequence";

/// Streams whose last mark is an opening one, in the order in which they were opened.
pub(super) async fn open_streams(
    connection: &mut SqliteConnection,
    path: &Path,
    prefix: &str,
) -> Result<Vec<String>, LedgerError> {
    sqlx::query_scalar(OPEN_STREAMS)
        .bind(prefix)
        .bind(format!("{prefix}\u{7f}"))
        .fetch_all(connection)
        .await
        .map_err(LedgerError::reading("list the open streams", path))
}

fn decode_all(path: &Path, rows: Result<Vec<SqliteRow>, sqlx::Error>) -> Result<Vec<Record>, LedgerError> {
    let rows = rows.map_err(LedgerError::reading("read records", path))?;
    rows.iter().map(decode).collect()
}

/// The error with its cause, on one line.
pub(super) fn in_words(error: &LedgerError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
