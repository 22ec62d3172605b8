//! Walking the whole chain: is every record what was written, and are all of them there?
//!
//! Three things are looked at, and all of them are reported: the file (SQLite's full check, with the indexes and the schema),
//! the chain (every hash computed again, every link, no gap), and the end of the chain (against the remembered head).
//! A broken ledger is a result here, not an error; an error means that verifying was not possible.

use std::path::Path;

use serde::Serialize;
use sqlx::sqlite::SqlitePool;

use super::chain::Head;
use super::error::LedgerError;
use super::head::HeadFile;
use super::open::{compare, storage_findings};
use super::record::{Record, decode};
use super::sqlite::current_head;

/// Records in memory at once: with the largest bodies 256 MiB, with usual ones under one.
const PAGE: i64 = 256;

/// What `verify` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[must_use = "a broken ledger is reported here, not as an error"]
pub struct VerifyReport {
    /// Records that fit, from the first one on.
    pub sound_records: u64,
    /// The last of them. Compare it with a head kept elsewhere: only that shows a chain rewritten as a whole.
    pub head: Head,
    /// The first record that does not fit, if there is one. Nothing is said about later ones.
    pub broken: Option<Broken>,
    /// What SQLite's own check found wrong with the file, at most a few lines; empty when it is sound.
    pub storage: Vec<String>,
    /// Whether a head was remembered beside the ledger. Without it a cut-off tail cannot be noticed.
    pub head_was_remembered: bool,
}

/// The first record that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Its place in the ledger.
    pub sequence: i64,
    /// What is wrong with it.
    pub reason: String,
}

impl VerifyReport {
    /// True when nothing was found to be wrong.
    pub fn is_sound(&self) -> bool {
        self.broken.is_none() && self.storage.is_empty()
    }
}

/// The head after `record`, or what is wrong with its link. Its own hash is checked when it is read.
pub(super) fn follow(head: &Head, record: &Record) -> Result<Head, String> {
    let expected = head.sequence + 1;
    if record.sequence != expected {
        return Err(format!("record {expected} is missing, record {} comes next", record.sequence));
    }
    if record.previous_hash != head.hash {
        return Err(format!(
            "it names {} as the hash of the record before, which is {}",
            record.previous_hash, head.hash
        ));
    }
    Ok(Head { sequence: record.sequence, hash: record.hash })
}

pub(super) async fn verify(
    readers: &SqlitePool,
    path: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<VerifyReport, LedgerError> {
    // The head file first: it is written after the ledger, so what it names must be in what is read from here on.
    let remembered = HeadFile::beside(path).read();
    let mut connection = readers.acquire().await.map_err(LedgerError::reading("open the ledger", path))?;
    let storage = storage_findings(&mut connection, path).await?;
    let mut report = VerifyReport {
        sound_records: 0,
        head: Head::EMPTY,
        broken: None,
        storage,
        head_was_remembered: matches!(remembered, Ok(Some(_))),
    };
    let last = match current_head(&mut connection, path).await {
        Ok(head) => head.sequence,
        Err(error) => return report.with(finding(error, 0)?),
    };
    loop {
        let page = match page_from(&mut connection, path, report.head.sequence, last).await {
            Ok(page) => page,
            Err(error) => {
                let sequence = report.head.sequence + 1;
                return report.with(finding(error, sequence)?);
            }
        };
        let Some(length) = page_length(&page) else { break };
        for record in page {
            match record.and_then(|record| followed(&report.head, &record)) {
                Ok(head) => report.head = head,
                Err(error) => {
                    let sequence = report.head.sequence + 1;
                    return report.with(finding(error, sequence)?);
                }
            }
        }
        report.sound_records += length;
        progress(report.sound_records, last.unsigned_abs());
    }
    check_end(&mut connection, path, remembered, report).await
}

async fn check_end(
    connection: &mut sqlx::sqlite::SqliteConnection,
    path: &Path,
    remembered: Result<Option<Head>, LedgerError>,
    report: VerifyReport,
) -> Result<VerifyReport, LedgerError> {
    let next = report.head.sequence + 1;
    let remembered = match remembered {
        Ok(Some(remembered)) => remembered,
        Ok(None) => return Ok(report),
        Err(error) => return report.with(finding(error, next)?),
    };
    match compare(connection, path, &remembered, &report.head).await? {
        None => Ok(report),
        Some(reason) => report.with(Broken { sequence: remembered.sequence.min(next), reason }),
    }
}

impl VerifyReport {
    fn with(mut self, broken: Broken) -> Result<VerifyReport, LedgerError> {
        self.sound_records = self.head.sequence.unsigned_abs();
        self.broken = Some(broken);
        Ok(self)
    }
}

fn followed(head: &Head, record: &Record) -> Result<Head, LedgerError> {
    follow(head, record).map_err(|reason| LedgerError::broken(head.sequence + 1, reason))
}

/// Turns an error that says something about the records into a finding, and hands back every other one.
fn finding(error: LedgerError, sequence: i64) -> Result<Broken, LedgerError> {
    match error {
        LedgerError::BrokenChain { sequence, reason } => Ok(Broken { sequence, reason }),
        LedgerError::Corrupt { found, .. } => Ok(Broken { sequence, reason: found }),
        other => Err(other),
    }
}

fn page_length(page: &[Result<Record, LedgerError>]) -> Option<u64> {
    (!page.is_empty()).then_some(page.len() as u64)
}

/// The first page starts below 1: a record smuggled in before the first one is found, not skipped.
async fn page_from(
    connection: &mut sqlx::sqlite::SqliteConnection,
    path: &Path,
    after: i64,
    last: i64,
) -> Result<Vec<Result<Record, LedgerError>>, LedgerError> {
    let from = if after == 0 { i64::MIN } else { after.saturating_add(1) };
    let rows = sqlx::query(
        "SELECT * FROM records WHERE sequence >= $1 AND sequence <= $2 ORDER BY sequence LIMIT $3",
    )
    .bind(from)
    .bind(last)
    .bind(PAGE)
    .fetch_all(connection)
    .await
    .map_err(LedgerError::reading("read records", path))?;
    Ok(rows.iter().map(decode).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::chain::Hash;

    #[test]
    fn an_error_about_the_disk_is_not_a_finding_about_the_records() {
        let disk = LedgerError::Database { attempted: "read records", source: sqlx::Error::PoolTimedOut };
        assert!(finding(disk, 1).is_err());
        let broken = finding(LedgerError::broken(3, "edited"), 9).unwrap();
        assert_eq!(broken, Broken { sequence: 3, reason: "edited".to_owned() });
    }

    #[test]
    fn only_the_next_record_with_the_right_link_follows() {
        let record = |sequence, previous: u8| Record {
            sequence,
            stream: "s".to_owned(),
            kind: "k".to_owned(),
            version: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            mark: Default::default(),
            unique_key: None,
            body: serde_json::Value::Null,
            body_text: "null".to_owned(),
            previous_hash: Hash::from_bytes(&[previous; 32]).unwrap(),
            hash: Hash::from_bytes(&[7; 32]).unwrap(),
        };
        let head = Head { sequence: 4, hash: Hash::from_bytes(&[1; 32]).unwrap() };
        assert_eq!(follow(&head, &record(5, 1)).unwrap().sequence, 5);
        assert!(follow(&head, &record(6, 1)).unwrap_err().contains("record 5 is missing"));
        assert!(follow(&head, &record(4, 1)).is_err());
        assert!(follow(&head, &record(5, 2)).unwrap_err().contains("hash of the record before"));
    }
}
