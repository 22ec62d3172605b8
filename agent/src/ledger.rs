//! The ledger: everything that was seen, decided and done, in one append-only, hash-chained file.
//!
//! The promise: **what `append` returned is on disk, once, in order, and cannot be changed unnoticed.** Turnback
//! acts only on what is stored here, so the ledger fails closed. When it cannot store, nothing happens; when it cannot
//! be believed, it does not open.
//!
//! ```text
//!  append ──▶ one writer ──▶ BEGIN IMMEDIATE · hash · insert · COMMIT (synced) ──▶ <ledger>.head
//!  read   ──▶ few readers ─▶ row ──▶ hashed again ──▶ Record, or BrokenChain
//! ```
//!
//! * `record.rs`: what a record is, its limits. The ledger does not know what the bodies mean.
//! * `chain.rs`: the exact bytes that are hashed.
//! * `sqlite.rs`: the transaction, and why a failed one poisons the writer.
//! * `open.rs`, `place.rs`, `head.rs`: what a file must pass before it is believed; the lock; the remembered head.
//! * `verify.rs`: the walk over the whole chain.
//!
//! There is one table. That an event was seen, a permit given, a stream opened, is a column of a hashed record under
//! an index, and not a second table beside the chain that could be edited without breaking it.

mod chain;
mod error;
mod head;
mod open;
mod place;
mod record;
mod sqlite;
mod verify;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqlitePool};
use tokio::sync::{Mutex, watch};

use record::Prepared;
use sqlite::{Outcome, Writer};

pub use chain::{Hash, Head, NotAHash};
pub use error::LedgerError;
pub use record::{
    EventKey, MAX_BODY, MAX_DEPTH, MAX_KEY_PART, MAX_NAME, Mark, NewRecord, Permit, Record, Recorded,
};
pub use sqlite::BUSY_TIMEOUT;
pub use verify::{Broken, VerifyReport};

/// Most records in one transaction: sixteen times the usual batch, and still under a second to write.
pub const MAX_BATCH: usize = 4096;
/// Most records that one read returns. A watch of twelve hours at a 15 s cadence writes some 10,000.
pub const MAX_READ: u32 = 50_000;

/// A handle on the ledger; clones share it.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    readers: SqlitePool,
    /// `None` inside: opened for reading, or closed.
    writer: Mutex<Option<Writer>>,
    writable: bool,
    head: watch::Sender<Head>,
    head_file_problem: std::sync::Mutex<Option<String>>,
}

impl Ledger {
    /// Opens the ledger for writing and keeps every other daemon out until this one ends. Makes a new one, readable by
    /// its owner only, if there has never been one here.
    ///
    /// # Errors
    /// Every variant that says "do not start": see [`LedgerError`].
    pub async fn open(path: &Path) -> Result<Ledger, LedgerError> {
        let opened = open::for_writing(path).await?;
        Ok(Ledger::assemble(opened.path, opened.readers, Some(opened.writer), opened.head))
    }

    /// Opens the ledger for reading, also while a daemon writes it. Does not check it; [`Ledger::verify`] does.
    ///
    /// # Errors
    /// There is no ledger, it cannot be read, or its schema is not the one this binary knows.
    pub async fn open_read_only(path: &Path) -> Result<Ledger, LedgerError> {
        let (path, readers) = open::for_reading(path).await?;
        let ledger = Ledger::assemble(path, readers, None, Head::EMPTY);
        let head = sqlite::current_head(&mut *ledger.reader().await?, ledger.path()).await?;
        ledger.inner.head.send_replace(head);
        Ok(ledger)
    }

    fn assemble(path: PathBuf, readers: SqlitePool, writer: Option<Writer>, head: Head) -> Ledger {
        let (writable, writer) = (writer.is_some(), Mutex::new(writer));
        let (head, head_file_problem) = (watch::Sender::new(head), std::sync::Mutex::new(None));
        Ledger { inner: Arc::new(Inner { path, readers, writer, writable, head, head_file_problem }) }
    }

    /// Stores the records in this order, in one transaction, and returns them with their places and hashes. They are on
    /// disk on return. The transaction is also completed when the caller stops waiting.
    ///
    /// # Errors
    /// Nothing is stored if a record is unacceptable or the ledger is busy. After [`LedgerError::WriteFailed`] nothing
    /// may be assumed, and every later write fails.
    pub async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Record>, LedgerError> {
        check_batch(records.len())?;
        let batch = records.into_iter().map(|record| record.prepare(None)).collect::<Result<Vec<_>, _>>()?;
        let outcomes = self.write("records", batch).await?;
        Ok(outcomes.into_iter().filter_map(Outcome::into_record).collect())
    }

    /// Stores the events that were not seen before, in one transaction, and says for each what became of it, in order.
    /// An event is known by its key alone; also twice in one batch is a duplicate.
    ///
    /// # Errors
    /// As for [`Ledger::append`].
    pub async fn append_events(
        &self,
        events: Vec<(EventKey, NewRecord)>,
    ) -> Result<Vec<Recorded>, LedgerError> {
        check_batch(events.len())?;
        let batch: Vec<Prepared> = events
            .into_iter()
            .map(|(key, record)| record.prepare(Some(key.unique_key()?)))
            .collect::<Result<_, _>>()?;
        Ok(self.write("events", batch).await?.iter().map(Outcome::recorded).collect())
    }

    /// Gives leave to perform this attempt of this step, to the first who asks and to nobody after, also across
    /// restarts. The permit is on disk on return.
    ///
    /// # Errors
    /// [`LedgerError::PermitTaken`] for everyone but the first; else as for [`Ledger::append`].
    pub async fn permit(
        &self,
        plan: &str,
        step: &str,
        attempt: u32,
        at: Timestamp,
    ) -> Result<Permit, LedgerError> {
        let batch = vec![Permit::record(plan, step, attempt, at)?];
        let outcomes = self.write("a permit", batch).await?;
        let (plan, step) = (plan.to_owned(), step.to_owned());
        match outcomes.first().map(Outcome::recorded) {
            Some(Recorded::New(sequence)) => Ok(Permit { sequence, plan, step, attempt }),
            Some(Recorded::Duplicate { first_seen }) => {
                Err(LedgerError::PermitTaken { plan, step, attempt, first_seen })
            }
            None => {
                Err(LedgerError::Poisoned { reason: "the writer gave no answer about a permit".to_owned() })
            }
        }
    }

    /// All records of one stream, in order.
    ///
    /// # Errors
    /// [`LedgerError::Unacceptable`] when there are more than [`MAX_READ`]: read those in parts with
    /// [`Ledger::read_stream_after`]. [`LedgerError::BrokenChain`] when one of them was changed.
    pub async fn read_stream(&self, stream: &str) -> Result<Vec<Record>, LedgerError> {
        let records = self.read_stream_limited(stream, 0, i64::from(MAX_READ) + 1).await?;
        if records.len() > MAX_READ as usize {
            return Err(LedgerError::Unacceptable(format!(
                "reading the stream {stream} at once, which has more than {MAX_READ} records; read it in parts"
            )));
        }
        Ok(records)
    }

    /// Records of one stream after `sequence`, in order, at most `limit` (and [`MAX_READ`]) of them.
    ///
    /// # Errors
    /// [`LedgerError::BrokenChain`] when one of them was changed.
    pub async fn read_stream_after(
        &self,
        stream: &str,
        sequence: i64,
        limit: u32,
    ) -> Result<Vec<Record>, LedgerError> {
        self.read_stream_limited(stream, sequence, i64::from(limit.min(MAX_READ))).await
    }

    async fn read_stream_limited(
        &self,
        stream: &str,
        sequence: i64,
        limit: i64,
    ) -> Result<Vec<Record>, LedgerError> {
        sqlite::read_stream_after(&mut *self.reader().await?, self.path(), stream, sequence, limit).await
    }

    /// Records of all streams after `sequence`, in order, at most `limit` (and [`MAX_READ`]) of them.
    ///
    /// # Errors
    /// [`LedgerError::BrokenChain`] when one of them was changed.
    pub async fn read_after(&self, sequence: i64, limit: u32) -> Result<Vec<Record>, LedgerError> {
        let limit = i64::from(limit.min(MAX_READ));
        sqlite::read_after(&mut *self.reader().await?, self.path(), sequence, limit).await
    }

    /// Names of the streams that begin with `prefix`, in the order of their first records. Looks at all history.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn streams(&self, prefix: &str) -> Result<Vec<String>, LedgerError> {
        sqlite::streams(&mut *self.reader().await?, self.path(), prefix).await
    }

    /// Names of the streams that begin with `prefix` and are open: opened by a record and not closed since. In the order
    /// in which they were opened. Does not look at history, so it is what a start uses.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn open_streams(&self, prefix: &str) -> Result<Vec<String>, LedgerError> {
        sqlite::open_streams(&mut *self.reader().await?, self.path(), prefix).await
    }

    /// Checks the file, every record and every link. `progress` is told how many records are done, and of how many.
    /// Takes about as long as reading the file; writing goes on meanwhile.
    ///
    /// # Errors
    /// Only when verifying is not possible. A broken ledger is a result: see [`VerifyReport::is_sound`].
    pub async fn verify(&self, progress: impl FnMut(u64, u64)) -> Result<VerifyReport, LedgerError> {
        verify::verify(&self.inner.readers, self.path(), progress).await
    }

    /// The last record's number and hash. Of a ledger opened for reading: as stored when it was opened, not checked, and
    /// with [`Hash::ZERO`] when the stored hash is damaged.
    pub fn head(&self) -> Head {
        *self.inner.head.borrow()
    }

    /// Follows the head: changes after each write of this process.
    pub fn watch_head(&self) -> watch::Receiver<Head> {
        self.inner.head.subscribe()
    }

    /// The ledger's file, links resolved.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Set while the head cannot be remembered beside the ledger: records are stored, but a lost tail would not be noticed
    /// at the next start. Belongs into the health report.
    pub fn head_file_problem(&self) -> Option<String> {
        self.inner.head_file_problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why no records are taken any more, if so: an earlier write failed. Belongs into the health report.
    pub async fn poisoned(&self) -> Option<String> {
        self.inner.writer.lock().await.as_ref().and_then(|writer| writer.poisoned().map(str::to_owned))
    }

    /// Finishes the write in progress, tidies up the file and lets go of the lock. Other handles fail from here on.
    ///
    /// # Errors
    /// What was appended is on disk in any case; the error says what could not be tidied up.
    pub async fn close(&self) -> Result<(), LedgerError> {
        let writer = self.inner.writer.lock().await.take();
        self.inner.readers.close().await;
        match writer {
            Some(writer) => writer.close().await,
            None => Ok(()),
        }
    }

    async fn reader(&self) -> Result<PoolConnection<Sqlite>, LedgerError> {
        let acquired = self.inner.readers.acquire().await;
        acquired.map_err(LedgerError::reading("open the ledger for reading", self.path()))
    }

    /// Runs in a task of its own: when the caller is dropped between commit and return (a time-out, a `select!`), the
    /// write still ends and the head is still known.
    async fn write(
        &self,
        attempted: &'static str,
        batch: Vec<Prepared>,
    ) -> Result<Vec<Outcome>, LedgerError> {
        let inner = Arc::clone(&self.inner);
        let task = tokio::spawn(async move { inner.write(attempted, batch).await });
        task.await.unwrap_or_else(|error| {
            Err(LedgerError::Poisoned { reason: format!("the writer ended: {error}") })
        })
    }
}

impl Inner {
    async fn write(
        &self,
        attempted: &'static str,
        batch: Vec<Prepared>,
    ) -> Result<Vec<Outcome>, LedgerError> {
        if !self.writable {
            return Err(LedgerError::ReadOnly);
        }
        let mut writer = self.writer.lock().await;
        let Some(writer) = writer.as_mut() else {
            return Err(LedgerError::Poisoned { reason: "the ledger was closed".to_owned() });
        };
        let written = writer.store(attempted, batch).await?;
        self.head.send_replace(written.head);
        self.note(written.head_file_problem);
        Ok(written.outcomes)
    }

    /// A head that cannot be remembered does not undo records that are stored, so it is reported and not returned: an
    /// error would tell the caller that nothing was stored.
    fn note(&self, problem: Option<LedgerError>) {
        let problem = problem.map(|error| sqlite::in_words(&error));
        let mut noted = self.head_file_problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_deref().filter(|_| noted.is_none()) {
            tracing::error!(
                problem,
                "the head of the ledger cannot be remembered; a lost tail would go unnoticed"
            );
        }
        *noted = problem;
    }
}

fn check_batch(length: usize) -> Result<(), LedgerError> {
    if length <= MAX_BATCH {
        return Ok(());
    }
    Err(LedgerError::Unacceptable(format!(
        "a batch of {length} records; at most {MAX_BATCH} go into one transaction"
    )))
}
