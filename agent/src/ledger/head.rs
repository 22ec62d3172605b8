//! The last head, remembered in a small file beside the ledger.
//!
//! A chain that lost its tail is still a sound chain: a restored backup or a lost write-ahead log looks perfectly healthy
//! from inside. So after every commit the new head (sequence and hash) is written to `<ledger>.head`. At the next start
//! the ledger must contain that head; if it does not, it went back in time and nobody may act on it.
//!
//! The file is replaced by an atomic rename but *not* synced to disk for each commit. It needs no sync to do its
//! work: it is written after the ledger's own sync, so it can lag behind but never run ahead of a healthy ledger, and
//! lagging is harmless: it just remembers an older head, which must be in the ledger too. Syncing would double the cost of a
//! commit to guard against a power failure *together with* a lost tail. It is synced when the ledger is opened and closed.
//!
//! What it cannot see: a backup or a cloned machine that brought both files back together.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::chain::Head;
use super::error::LedgerError;

const TITLE: &str = "turnback ledger head 1";
/// The file has three short lines; anything longer is not ours and is not read into memory.
const MAX_LENGTH: u64 = 200;

/// The file that remembers the head.
#[derive(Clone, Debug)]
pub(super) struct HeadFile {
    path: PathBuf,
    temporary: PathBuf,
}

impl HeadFile {
    pub(super) fn beside(ledger: &Path) -> HeadFile {
        HeadFile { path: with_suffix(ledger, ".head"), temporary: with_suffix(ledger, ".head.new") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The remembered head; `None` when there is no file, or an empty one as a power failure may leave it.
    pub(super) fn read(&self) -> Result<Option<Head>, LedgerError> {
        let length = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LedgerError::io("read", &self.path)(error)),
        };
        if length > MAX_LENGTH {
            return Err(self.unreadable());
        }
        let bytes = fs::read(&self.path).map_err(LedgerError::io("read", &self.path))?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        parse(&bytes).map(Some).ok_or_else(|| self.unreadable())
    }

    /// Replaces the remembered head. With `sync`, it is on disk on return.
    pub(super) fn write(&self, head: &Head, sync: bool) -> Result<(), LedgerError> {
        let text = format!("{TITLE}\n{}\n{}\n", head.sequence, head.hash);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.temporary)
            .map_err(LedgerError::io("write", &self.temporary))?;
        file.write_all(text.as_bytes()).map_err(LedgerError::io("write", &self.temporary))?;
        if sync {
            file.sync_all().map_err(LedgerError::io("sync", &self.temporary))?;
        }
        drop(file);
        fs::rename(&self.temporary, &self.path).map_err(LedgerError::io("replace", &self.path))?;
        if sync {
            sync_directory_of(&self.path)?;
        }
        Ok(())
    }

    /// A crash leaves the old file, the new one or an empty one. Anything else was done by someone.
    fn unreadable(&self) -> LedgerError {
        LedgerError::Corrupt {
            path: self.path.clone(),
            found: "this is not a head file as Turnback writes it (title, sequence, hash); if `turnback ledger verify` finds \
                    the ledger sound and complete, remove this file"
                .to_owned(),
        }
    }
}

/// Makes a rename or a new file in this directory survive a power failure.
pub(super) fn sync_directory_of(path: &Path) -> Result<(), LedgerError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let opened = fs::File::open(directory).map_err(LedgerError::io("open", directory))?;
    opened.sync_all().map_err(LedgerError::io("sync", directory))
}

/// `ledger.db` and `.head` give `ledger.db.head`.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn parse(bytes: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (title, sequence, hash) = (lines.next()?, lines.next()?, lines.next()?);
    let sequence: i64 = sequence.parse().ok()?;
    let head = Head { sequence, hash: hash.parse().ok()? };
    let ours = title == TITLE && lines.next().is_none() && sequence >= 0;
    (ours && (sequence > 0 || head == Head::EMPTY)).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::chain::Hash;

    #[test]
    fn it_reads_what_it_wrote_and_takes_an_empty_file_for_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = HeadFile::beside(&directory.path().join("l.db"));
        assert_eq!(file.read().unwrap(), None);
        let head = Head { sequence: 7, hash: Hash::from_bytes(&[9; 32]).unwrap() };
        file.write(&head, true).unwrap();
        assert_eq!(file.read().unwrap(), Some(head));
        for left_by_power_failure in [&b""[..], &[0; 96][..]] {
            fs::write(file.path(), left_by_power_failure).unwrap();
            assert_eq!(file.read().unwrap(), None);
        }
    }

    #[test]
    fn it_refuses_what_no_crash_leaves() {
        let directory = tempfile::tempdir().unwrap();
        let file = HeadFile::beside(&directory.path().join("l.db"));
        let hash = "ab".repeat(32);
        let long = "x".repeat(10_000);
        for text in [
            "hello".to_owned(),
            long,
            format!("{TITLE}\n-1\n{hash}\n"),
            format!("{TITLE}\n0\n{hash}\n"),
            format!("{TITLE}\n7\n{hash}"),
            format!("{TITLE}\n7\n{hash}\nmore\n"),
            format!("{TITLE}\n7\n{}\n", &hash[1..]),
            format!("turnback ledger head 2\n7\n{hash}\n"),
        ] {
            fs::write(file.path(), &text).unwrap();
            assert!(matches!(file.read(), Err(LedgerError::Corrupt { .. })), "{text:?} was accepted");
        }
    }
}
