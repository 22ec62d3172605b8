//! The deployment log: a file in Markdown that gets one entry for every action, with the commands that ran.
//!
//! The ledger is the truth, and this file is its projection: a follower reads the ledger behind what it wrote last and
//! appends. It is never in the way of an action, it loses nothing when the agent or the disk fails (what is missing is
//! appended later), and it writes nothing twice: every entry ends with the number of its record, which is where the next
//! start goes on. Nothing is ever changed or taken away; each append is on disk before the next one begins.

mod file;

pub use file::BadLog;

use crate::ledger::{Ledger, LedgerError, Mark, Record};
use file::File;
use rules::report::LogBook;
use rules::watch::Entry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Records read at once: a record has at most 1 MiB, most have less than one KiB.
const PAGE: u32 = 256;
/// Before a failed append is tried again: a full disk is not emptied sooner.
const PAUSE: Duration = Duration::from_secs(5);
/// The streams of watches begin so.
const WATCHES: &str = "watch/";

/// Where the deployment log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentLogConfig {
    /// The file: an absolute path. It is made if it is not there, and only ever appended to.
    pub file: PathBuf,
}

impl DeploymentLogConfig {
    /// Everything wrong with it, each with the key at fault.
    pub fn problems(&self) -> Vec<(String, String)> {
        let relative = !self.file.is_absolute();
        let text = || {
            format!(
                "{:?} is not an absolute path; write for example /var/log/turnback/deployments.md",
                self.file
            )
        };
        Vec::from_iter(relative.then(|| ("file".to_owned(), text())))
    }
}

/// The ledger as entries of the log, in order.
pub struct Entries {
    ledger: Ledger,
    after: i64,
    books: BTreeMap<String, LogBook>,
}

/// What the next records say.
pub struct Page {
    /// Entries in Markdown; empty if these records are none.
    pub text: String,
}

impl Entries {
    /// Those of records after this number.
    pub fn after(ledger: Ledger, after: i64) -> Self {
        Self { ledger, after, books: BTreeMap::new() }
    }

    /// The next ones; `None` at the end of the ledger, and more may come later.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn next(&mut self) -> Result<Option<Page>, LedgerError> {
        let records = self.ledger.read_after(self.after, PAGE).await?;
        let Some(last) = records.last().map(|record| record.sequence) else { return Ok(None) };
        let mut text = String::new();
        for record in records.iter().filter(|record| record.stream.starts_with(WATCHES)) {
            if let Some(entry) = self.entry(record).await? {
                // Writing into a `String` cannot fail.
                let _infallible = writeln!(text, "{}\n{}", entry.trim_end(), file::mark(record.sequence));
            }
        }
        self.after = last;
        Ok(Some(Page { text }))
    }

    async fn entry(&mut self, record: &Record) -> Result<Option<String>, LedgerError> {
        if !self.books.contains_key(&record.stream) {
            if !LogBook::tells(&record.kind) {
                return Ok(None);
            }
            let book = self.book_before(record).await?;
            self.books.insert(record.stream.clone(), book);
        }
        let Some(book) = self.books.get_mut(&record.stream) else { return Ok(None) };
        let said = match read(record) {
            Ok(entry) => book.take(record.at, &entry),
            // A newer version wrote it: better a line about it than a log without it.
            Err(error) => Some(format!(
                "### {:.0} a record of kind {} could not be read: {error}\n",
                record.at, record.kind
            )),
        };
        if record.mark == Mark::Closes {
            self.books.remove(&record.stream);
        }
        Ok(said)
    }

    /// What was said of a watch before this record: its plan stands there.
    async fn book_before(&self, until: &Record) -> Result<LogBook, LedgerError> {
        let mut book = LogBook::default();
        let mut after = 0;
        loop {
            let part = self.ledger.read_stream_after(&until.stream, after, PAGE).await?;
            let Some(last) = part.last().map(|record| record.sequence) else { return Ok(book) };
            for record in part.iter().take_while(|record| record.sequence < until.sequence) {
                if let Ok(entry) = read(record) {
                    // Said when it happened.
                    let _said = book.take(record.at, &entry);
                }
            }
            if last >= until.sequence {
                return Ok(book);
            }
            after = last;
        }
    }
}

fn read(record: &Record) -> Result<Entry, serde_json::Error> {
    serde_json::from_value(record.body.clone())
}

/// Follows the ledger and appends to the file.
pub struct DeploymentLog {
    file: Arc<File>,
    ledger: Ledger,
    after: i64,
}

impl DeploymentLog {
    /// Opens the file, or makes it, and finds where it ends. Writes no entry.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn open(ledger: Ledger, path: &Path) -> Result<Self, BadLog> {
        let (file, mut after) = File::open(path)?;
        if after > ledger.head().sequence {
            tracing::warn!(file = %path.display(), "the deployment log knows of more than this ledger has: it is of another one, all of this one is appended");
            after = 0;
        }
        Ok(Self { file: Arc::new(file), ledger, after })
    }

    /// Appends what comes until `stop`, then what is there by then. A failure is logged and tried again.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut heads = self.ledger.watch_head();
        let mut entries = Entries::after(self.ledger.clone(), self.after);
        loop {
            // Before it is looked: what is told to stop now still writes what came before.
            let stopping = *stop.borrow();
            match entries.next().await {
                Ok(Some(page)) if page.text.is_empty() => {}
                Ok(Some(page)) => {
                    let text = Arc::<str>::from(page.text);
                    while !self.append(&text).await {
                        if stopped(&mut stop, PAUSE).await {
                            // The next start appends it.
                            return;
                        }
                    }
                }
                Ok(None) if stopping => return,
                Ok(None) => {
                    tokio::select! {
                        changed = heads.changed() => if changed.is_err() { return },
                        // Gone is told to stop as well.
                        _ = stop.changed() => if !*stop.borrow() { return },
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the deployment log cannot be written: the ledger cannot be read");
                    if stopped(&mut stop, PAUSE).await {
                        return;
                    }
                }
            }
        }
    }

    async fn append(&self, text: &Arc<str>) -> bool {
        let (file, text) = (Arc::clone(&self.file), Arc::clone(text));
        match tokio::task::spawn_blocking(move || file.append(&text)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "an entry of the deployment log is not written; it is tried again");
                false
            }
            Err(error) => {
                tracing::error!(%error, "writing the deployment log broke down; it is tried again");
                false
            }
        }
    }
}

/// Waits, and says whether it was told to stop meanwhile.
async fn stopped(stop: &mut watch::Receiver<bool>, pause: Duration) -> bool {
    // An error means that the holder is gone, which is the same as being told.
    tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok()
}

#[cfg(test)]
mod tests;
