//! The file of the deployment log: appended to, synced, and read once to find where it ends.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Before the number of the record that an entry was made of.
const MARK: &str = "<!-- turnback: ledger record ";
const MARK_END: &str = " -->";
/// The end of the file that is searched for the last entry: an entry has a few KiB at most.
const TAIL: u64 = 256 * 1024;
/// What a new file begins with.
const TITLE: &str = "# Deployment log\n\nWritten by Turnback, one entry for each action; the ledger has the rest. Only ever appended to.\n\n";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadLog {
    /// It cannot be opened.
    #[error(
        "cannot open the deployment log {path}: its folder must exist, and the agent must be allowed to write there"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be read or written.
    #[error("cannot {what} the deployment log {path}")]
    Use {
        /// Reading or writing.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is something else.
    #[error(
        "{path} is not a deployment log: it is not empty and no entry of Turnback was found at its end; name another file"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// The end of an entry.
pub(super) fn mark(sequence: i64) -> String {
    format!("{MARK}{sequence}{MARK_END}\n")
}

/// The open file.
pub(super) struct File {
    path: PathBuf,
    file: Mutex<fs::File>,
}

impl File {
    /// Opens it, or makes it; with the number of the last record in it, 0 if there is none.
    pub(super) fn open(path: &Path) -> Result<(File, i64), BadLog> {
        // Whoever may read the machine's logs may read this one; secrets are in neither.
        let opened = fs::OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path);
        let mut file = opened.map_err(|source| BadLog::Open { path: path.into(), source })?;
        let problem = |what| move |source| BadLog::Use { what, path: path.into(), source };
        let length = file.metadata().map_err(problem("look at"))?.len();
        let mut after = 0;
        if length == 0 {
            file.write_all(TITLE.as_bytes()).map_err(problem("write"))?;
        } else {
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).map_err(problem("read"))?;
            let mut tail = Vec::new();
            (&mut file).take(TAIL).read_to_end(&mut tail).map_err(problem("read"))?;
            let (last, cut) = last_entry(&String::from_utf8_lossy(&tail));
            let untouched = length <= TITLE.len() as u64 && TITLE.as_bytes().starts_with(&tail);
            after = match last {
                Some(after) => after,
                None if untouched
                    || String::from_utf8_lossy(&tail)
                        .starts_with("# Deployment log\n\nWritten by Turnback") =>
                {
                    0
                }
                None => return Err(BadLog::Foreign { path: path.into() }),
            };
            if cut {
                let note = "\n\n*The entry above was cut short when the agent ended; it follows whole.*\n\n";
                file.write_all(note.as_bytes()).map_err(problem("write"))?;
            }
        }
        file.sync_all().map_err(problem("sync"))?;
        Ok((File { path: path.into(), file: Mutex::new(file) }, after))
    }

    /// Appends; it is on disk when this returns.
    pub(super) fn append(&self, text: &str) -> Result<(), BadLog> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = |what| move |source| BadLog::Use { what, path: self.path.clone(), source };
        file.write_all(text.as_bytes()).map_err(problem("write"))?;
        file.sync_data().map_err(problem("sync"))
    }
}

/// The number of the last whole entry, and whether something stands behind it.
fn last_entry(tail: &str) -> (Option<i64>, bool) {
    let Some(at) = tail.rfind(MARK) else { return (None, false) };
    let rest = &tail[at + MARK.len()..];
    match rest.split_once(MARK_END) {
        Some((number, behind)) => match number.parse() {
            Ok(number) => (Some(number), !behind.trim().is_empty()),
            Err(_) => (None, false),
        },
        // The mark itself was cut: the entry before it is the last whole one.
        None => (last_entry(&tail[..at]).0, true),
    }
}
