//! The file of the deployment log: appended to, synced, and read once to find where it ends.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Before the number of the record that an entry was made of. Only at the beginning of a line: what programs said is
/// indented, and cannot pretend to be one.
const MARK: &str = "\n<!-- turnback: ledger record ";
const MARK_END: &str = " -->";
/// The end of the file that is searched for the last entry: an entry has a few KiB at most.
const TAIL: u64 = 256 * 1024;
/// What a new file begins with.
const TITLE: &str = "# Deployment log\n\nWritten by Turnback, one entry for each action; the ledger has the rest. Only ever appended to.\n\n";

/// Behind an entry that the end of the agent, or a full disk, cut short.
const CUT_SHORT: &str = "\n\n*The entry above was cut short; it follows whole.*\n\n";

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
    format!("{}{sequence}{MARK_END}\n", MARK.trim_start())
}

/// The open file.
pub(super) struct File {
    path: PathBuf,
    open: Mutex<Open>,
}

struct Open {
    file: fs::File,
    /// The last append failed half-way.
    torn: bool,
}

impl File {
    /// Opens it, or makes it; with the number of the last record in it, 0 if there is none.
    pub(super) fn open(path: &Path) -> Result<(File, i64), BadLog> {
        // Whoever may read the machine's logs may read this one; secrets are in neither.
        let opened = fs::OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path);
        let mut file = opened.map_err(|source| BadLog::Open { path: path.into(), source })?;
        let problem = |what| move |source| BadLog::Use { what, path: path.into(), source };
        let length = file.metadata().map_err(problem("look at"))?.len();
        let mut end = End { after: 0, repair: TITLE };
        if length > 0 {
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).map_err(problem("read"))?;
            let mut tail = Vec::new();
            (&mut file).take(TAIL).read_to_end(&mut tail).map_err(problem("read"))?;
            end = End::of(&String::from_utf8_lossy(&tail))
                .ok_or_else(|| BadLog::Foreign { path: path.into() })?;
        }
        file.write_all(end.repair.as_bytes()).map_err(problem("write"))?;
        file.sync_all().map_err(problem("sync"))?;
        Ok((File { path: path.into(), open: Mutex::new(Open { file, torn: false }) }, end.after))
    }

    /// Appends; it is on disk when this returns.
    pub(super) fn append(&self, text: &str) -> Result<(), BadLog> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = |what| move |source| BadLog::Use { what, path: self.path.clone(), source };
        if open.torn {
            open.file.write_all(CUT_SHORT.as_bytes()).map_err(problem("write"))?;
        }
        // Until it is through, nobody knows how much of it is there.
        open.torn = true;
        open.file.write_all(text.as_bytes()).map_err(problem("write"))?;
        open.file.sync_data().map_err(problem("sync"))?;
        open.torn = false;
        Ok(())
    }
}

/// How a file ends.
struct End {
    /// The number of the last record in it.
    after: i64,
    /// What must be appended before the next entry.
    repair: &'static str,
}

impl End {
    /// Reads the end of a file; `None` if it is no deployment log.
    fn of(tail: &str) -> Option<End> {
        if let Some(repair) = TITLE.strip_prefix(tail) {
            // Nothing else is in it yet.
            return Some(End { after: 0, repair });
        }
        let begins = tail.starts_with(TITLE).then_some(TITLE.len());
        let last = last_mark(tail);
        let after = last.map_or(0, |(number, _)| number);
        let behind = &tail[last.map(|(_, end)| end).or(begins)?..];
        let repair = match (behind.trim().is_empty(), tail.ends_with('\n')) {
            (true, true) => "",
            (true, false) => "\n",
            (false, _) => CUT_SHORT,
        };
        Some(End { after, repair })
    }
}

/// The number in the last whole mark, and where the mark ends.
fn last_mark(tail: &str) -> Option<(i64, usize)> {
    let at = tail.rfind(MARK)?;
    let rest = &tail[at + MARK.len()..];
    let whole = rest.split_once(MARK_END).and_then(|(number, _)| Some((number.parse().ok()?, number.len())));
    match whole {
        Some((number, digits)) => Some((number, at + MARK.len() + digits + MARK_END.len())),
        // This one was cut: the entry before it is the last whole one.
        None => last_mark(&tail[..at]),
    }
}
