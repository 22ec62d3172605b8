//! What can go wrong with the ledger, in words that say what to do next.
//!
//! Every variant is a reason to stop acting: an effect whose intent cannot be stored does not happen. The variants differ
//! in what helps: waiting (`Busy`), another place (`NotWritable`), a restart (`Poisoned`), or a person (`Corrupt`,
//! `Regressed`, `BrokenChain`).

use std::path::PathBuf;

use super::chain::{Hash, Head};

/// Why the ledger could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Another daemon writes this ledger. Two daemons on one ledger would both act.
    #[error(
        "the ledger {} is in use by another turnback daemon ({}); stop that one first, or give this one another ledger",
        path.display(), holder_in_words(*.holder)
    )]
    Locked {
        /// The ledger's file.
        path: PathBuf,
        /// Process id of the other daemon, when its lock file names it.
        holder: Option<u32>,
    },
    /// The place where the ledger should be cannot be written.
    #[error(
        "cannot write the ledger in {}; give the daemon's user read and write access to this directory, \
         or set another path",
        directory.display()
    )]
    NotWritable {
        /// The directory that was tried.
        directory: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The directory is on a network file system, whose locks do not hold what SQLite needs.
    #[error(
        "{} is on a network file system ({file_system}), where two daemons could write one ledger; use a local disk",
        directory.display()
    )]
    NetworkFileSystem {
        /// The directory that was looked at.
        directory: PathBuf,
        /// Short name, such as `nfs`.
        file_system: &'static str,
    },
    /// There is no ledger to read.
    #[error("there is no ledger at {}; check the path, or start the daemon once to create it", path.display())]
    Missing {
        /// The path that was tried.
        path: PathBuf,
    },
    /// The file is damaged, or is not a ledger.
    #[error(
        "the ledger {} is damaged or not a ledger: {found}; nothing was changed. Keep the file (with its -wal and .head) for \
         inspection, restore a backup, and check by hand what was in flight before letting Turnback act again",
        path.display()
    )]
    Corrupt {
        /// The file that was read.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The ledger lacks records that were once durable: a restored backup, a lost tail, or a cloned machine.
    #[error(
        "the ledger {} has gone back in time: {found}. Records that were once stored are missing, so actions already taken \
         may look as if they were not. Find the newer file; if it is lost, check by hand what was in flight, and remove {} \
         to accept the loss", path.display(), head_file.display()
    )]
    Regressed {
        /// The ledger's file.
        path: PathBuf,
        /// The file that remembers the newer head.
        head_file: PathBuf,
        /// The difference, in words.
        found: String,
    },
    /// A record is not what it was when it was written.
    #[error(
        "record {sequence} of the ledger is not what was written: {reason}; run `turnback ledger verify`, restore a backup, \
         and find out who changed the file"
    )]
    BrokenChain {
        /// First record that does not fit.
        sequence: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// An earlier write failed or was cut off; what is on disk is known again only after a restart.
    #[error(
        "the ledger takes no more records since an earlier write failed ({reason}); remove the cause and restart the daemon"
    )]
    Poisoned {
        /// The earlier failure.
        reason: String,
    },
    /// This very write failed. Nothing may be assumed to be stored, and later writes get [`LedgerError::Poisoned`].
    #[error(
        "could not store {attempted} in the ledger, so nothing that depends on it may be done. \
         Check free space and the disk, then restart the daemon"
    )]
    WriteFailed {
        /// What was being written.
        attempted: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// Some other program wrote into the file although we hold the lock.
    #[error(
        "another program wrote into the ledger: its head is record {} ({}), expected record {} ({}); \
         find that program, run `turnback ledger verify`, then restart the daemon",
        found.sequence, found.hash, expected.sequence, expected.hash
    )]
    ForeignWriter {
        /// The head this process left.
        expected: Head,
        /// The head that was found.
        found: Head,
    },
    /// The file was written by a newer Turnback, or by one whose migrations differ.
    #[error(
        "the ledger has schema {found}, this binary knows up to {known}; start the newer version of Turnback, \
         or restore the ledger from before the upgrade"
    )]
    FromTheFuture {
        /// Newest migration in the file.
        found: i64,
        /// Newest migration in this binary.
        known: i64,
    },
    /// The file was written by an older Turnback and a reader may not migrate it.
    #[error(
        "the ledger has schema {found}, this binary needs {known}; start the daemon of this version once to migrate it"
    )]
    NotMigrated {
        /// Newest migration in the file.
        found: i64,
        /// Newest migration in this binary.
        known: i64,
    },
    /// Another process holds the database's own lock. Nothing was written and waiting helps.
    #[error(
        "could not {attempted}: another process kept the ledger locked for more than {} s; \
         find it with `fuser` and stop it",
        super::sqlite::BUSY_TIMEOUT.as_secs()
    )]
    Busy {
        /// What was being tried.
        attempted: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The ledger was opened for reading.
    #[error("this ledger was opened for reading only; records are written by the daemon")]
    ReadOnly,
    /// The caller gave something that the ledger does not store. Nothing was written.
    #[error("the ledger does not take this: {0}")]
    Unacceptable(String),
    /// This attempt of this step already has its permit. Whoever asks second must not act.
    #[error(
        "attempt {attempt} of step {step} of plan {plan} was already permitted (record {first_seen}); it must not run again"
    )]
    PermitTaken {
        /// The plan.
        plan: String,
        /// The step.
        step: String,
        /// The attempt.
        attempt: u32,
        /// Sequence number of the permit that was given.
        first_seen: i64,
    },
    /// Reading failed for a reason that says nothing about the records.
    #[error("could not {attempted}")]
    Database {
        /// What was being tried.
        attempted: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// Bringing the schema up to date failed.
    #[error("could not bring the schema of the ledger {} up to date", path.display())]
    Migration {
        /// The ledger's file.
        path: PathBuf,
        /// What the migration said.
        source: sqlx::migrate::MigrateError,
    },
    /// A file beside the database could not be read or written.
    #[error("could not {attempted} {}", path.display())]
    Io {
        /// What was being tried.
        attempted: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl LedgerError {
    pub(super) fn io(
        attempted: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> LedgerError {
        move |source| LedgerError::Io { attempted, path: path.to_owned(), source }
    }

    /// For reads: sorts out "busy" and "damaged", which ask for different help than the rest.
    pub(super) fn reading(
        attempted: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(sqlx::Error) -> LedgerError {
        move |source| match primary_code(&source) {
            Some(SQLITE_BUSY | SQLITE_LOCKED) => LedgerError::Busy { attempted, source },
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => LedgerError::Corrupt {
                path: path.to_owned(),
                found: format!("could not {attempted}: {source}"),
            },
            _ => LedgerError::Database { attempted, source },
        }
    }

    pub(super) fn broken(sequence: i64, reason: impl Into<String>) -> LedgerError {
        LedgerError::BrokenChain { sequence, reason: reason.into() }
    }
}

// Result codes of sqlite3.h; the extended code carries the primary one in its low byte.
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_NOTADB: i32 = 26;

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<i32>().ok().map(|extended| extended & 0xff)
}

/// True when the statement never started because someone else holds the database.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(SQLITE_BUSY | SQLITE_LOCKED))
}

fn holder_in_words(holder: Option<u32>) -> String {
    match holder {
        Some(pid) => format!("process {pid}"),
        None => "process id unknown".to_owned(),
    }
}

/// How two heads differ, for [`LedgerError::Regressed`].
pub(super) fn behind_in_words(ledger: i64, remembered: &Head) -> String {
    format!(
        "its last record is {ledger}, but record {} ({}) was once stored",
        remembered.sequence, remembered.hash
    )
}

/// How two hashes of one record differ, for [`LedgerError::Regressed`].
pub(super) fn diverged_in_words(sequence: i64, found: &Hash, remembered: &Hash) -> String {
    format!("record {sequence} has hash {found}, but {remembered} was once stored in its place")
}
