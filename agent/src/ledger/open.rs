//! Opening a ledger: making a new one, or making sure that an old one may be believed.
//!
//! The one thing that must not happen is that a damaged, emptied or older file is quietly taken for a ledger and the
//! daemon starts to act as if nothing had happened before. So:
//!
//! * A new ledger is built under another name and renamed into place when it is complete. An empty or half-made file at
//!   the ledger's path is therefore never ours, and is refused.
//! * A missing file next to a head that remembers records is a lost ledger, not a new one.
//! * An old file has to pass, in this order: SQLite's own check, the schema (compared with the one this binary would
//!   create), the hashes of its last records, and the remembered head. Nothing is written before the first two pass.
//!
//! The whole chain is not walked here, as that takes longer each year: every record is hashed again when it is
//! read, and `verify` walks everything.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row};

use super::chain::Head;
use super::error::{LedgerError, behind_in_words, diverged_in_words};
use super::head::{HeadFile, sync_directory_of, with_suffix};
use super::place::{self, Lock};
use super::sqlite::{BUSY_TIMEOUT, Writer, read_after, record_at};

/// "TBLG" in the file's header: tells a Turnback ledger from any other SQLite file.
const APPLICATION_ID: i32 = 0x5442_4C47;
/// Records at the end whose hashes are checked at start: the ones a crash or a lost page would hit, in a few milliseconds.
const TAIL: i64 = 256;
/// Readers beside the writer: the machine has few cores, and reads are short.
const READERS: u32 = 4;
/// How long a read waits for one of them.
const READER_WAIT: Duration = Duration::from_secs(5);

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// What opening for writing gives.
pub(super) struct Opened {
    pub path: PathBuf,
    pub writer: Writer,
    pub readers: SqlitePool,
    pub head: Head,
}

pub(super) async fn for_writing(path: &Path) -> Result<Opened, LedgerError> {
    let path = place::prepare(path)?;
    let lock = Lock::take(&path)?;
    let head_file = HeadFile::beside(&path);
    let remembered = head_file.read()?;
    if !place::exists(&path)? {
        refuse_lost_ledger(&path, &head_file, remembered)?;
        create(&path).await?;
    }
    refuse_empty_file(&path)?;
    let mut connection = connect_for_writing(&path).await?;
    check_file(&mut connection, &path).await?;
    let found = schema_version(&mut connection, &path).await?;
    if found > newest_schema() {
        return Err(LedgerError::FromTheFuture { found, known: newest_schema() });
    }
    migrate(&mut connection, &path).await?;
    check_schema(&mut connection, &path).await?;
    let head = check_tail(&mut connection, &path).await?;
    check_remembered(&mut connection, &path, &head_file, remembered, &head).await?;
    head_file.write(&head, true)?;
    let readers = connect_readers(&path).await?;
    Ok(Opened { writer: Writer::new(connection, head, head_file, lock), path, readers, head })
}

/// Opens the ledger of a running or stopped daemon. Checks only that it can be read: `verify` must be able to look at a
/// damaged ledger, and says everything that `for_writing` would refuse.
pub(super) async fn for_reading(path: &Path) -> Result<(PathBuf, SqlitePool), LedgerError> {
    if !path.exists() {
        return Err(LedgerError::Missing { path: path.to_owned() });
    }
    let path = fs::canonicalize(path).map_err(LedgerError::io("resolve", path))?;
    refuse_empty_file(&path)?;
    let readers = connect_readers(&path).await?;
    let mut connection = readers.acquire().await.map_err(LedgerError::reading("open the ledger", &path))?;
    check_application(&mut connection, &path).await?;
    let (found, known) = (schema_version(&mut connection, &path).await?, newest_schema());
    match found.cmp(&known) {
        std::cmp::Ordering::Greater => Err(LedgerError::FromTheFuture { found, known }),
        std::cmp::Ordering::Less => Err(LedgerError::NotMigrated { found, known }),
        std::cmp::Ordering::Equal => Ok((path, readers)),
    }
}

fn refuse_lost_ledger(
    path: &Path,
    head_file: &HeadFile,
    remembered: Option<Head>,
) -> Result<(), LedgerError> {
    if let Some(remembered) = remembered.filter(|head| head.sequence > 0) {
        return Err(LedgerError::Regressed {
            path: path.to_owned(),
            head_file: head_file.path().to_owned(),
            found: format!(
                "the file is gone, but record {} ({}) was once stored",
                remembered.sequence, remembered.hash
            ),
        });
    }
    let log = with_suffix(path, "-wal");
    if place::exists(&log)? {
        return Err(LedgerError::Corrupt {
            path: path.to_owned(),
            found: format!("the file is gone, but its write-ahead log {} is still there", log.display()),
        });
    }
    Ok(())
}

fn refuse_empty_file(path: &Path) -> Result<(), LedgerError> {
    let metadata = fs::metadata(path).map_err(LedgerError::io("look at", path))?;
    if metadata.is_file() && metadata.len() > 0 {
        return Ok(());
    }
    let found = if metadata.is_file() { "the file is empty" } else { "it is not a file" };
    Err(LedgerError::Corrupt { path: path.to_owned(), found: found.to_owned() })
}

async fn create(path: &Path) -> Result<(), LedgerError> {
    let unfinished = with_suffix(path, ".new");
    // Left over when an earlier creation was cut off; nothing was ever stored in it.
    for suffix in ["", "-journal"] {
        let leftover = with_suffix(&unfinished, suffix);
        if place::exists(&leftover)? {
            fs::remove_file(&leftover).map_err(LedgerError::io("remove", &leftover))?;
        }
    }
    // Made before SQLite does, for the mode: SQLite gives its log the mode of the database.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(|source| {
        LedgerError::NotWritable { directory: path.parent().unwrap_or(Path::new("/")).to_owned(), source }
    })?;
    let attempted = "create the ledger";
    let options = SqliteConnectOptions::new().filename(&unfinished).synchronous(SqliteSynchronous::Full);
    let mut connection = options.connect().await.map_err(LedgerError::reading(attempted, path))?;
    sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}")))
        .execute(&mut connection)
        .await
        .map_err(LedgerError::reading(attempted, path))?;
    migrate(&mut connection, path).await?;
    connection.close().await.map_err(LedgerError::reading(attempted, path))?;
    fs::rename(&unfinished, path).map_err(LedgerError::io("put the new ledger in place at", path))?;
    sync_directory_of(path)
}

async fn connect_for_writing(path: &Path) -> Result<SqliteConnection, LedgerError> {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal)
        // With NORMAL a committed transaction may be gone after a power failure.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .connect()
        .await
        .map_err(LedgerError::reading("open the ledger", path))
}

async fn connect_readers(path: &Path) -> Result<SqlitePool, LedgerError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(READER_WAIT)
        .connect_with(options)
        .await
        .map_err(LedgerError::reading("open the ledger for reading", path))
}

fn newest_schema() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), LedgerError> {
    MIGRATOR
        .run(&mut *connection)
        .await
        .map_err(|source| LedgerError::Migration { path: path.to_owned(), source })
}

async fn check_application(connection: &mut SqliteConnection, path: &Path) -> Result<(), LedgerError> {
    let found: i32 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(connection)
        .await
        .map_err(LedgerError::reading("read the header of the ledger", path))?;
    if found == APPLICATION_ID {
        return Ok(());
    }
    let found = format!("its application id is {found:#x}, a ledger has {APPLICATION_ID:#x}");
    Err(LedgerError::Corrupt { path: path.to_owned(), found })
}

/// SQLite's full check. The cheaper `quick_check` does not compare the indexes with the table, and a damaged entry in the
/// unique index would let a permit be given twice. A million records take about two seconds.
async fn check_file(connection: &mut SqliteConnection, path: &Path) -> Result<(), LedgerError> {
    check_application(connection, path).await?;
    let findings = integrity(connection, path).await?;
    if findings.is_empty() {
        return Ok(());
    }
    Err(LedgerError::Corrupt { path: path.to_owned(), found: findings.join("; ") })
}

/// What SQLite finds wrong with the structure of the file, the indexes included; empty when it is sound.
async fn integrity(connection: &mut SqliteConnection, path: &Path) -> Result<Vec<String>, LedgerError> {
    let checked = sqlx::query_scalar("PRAGMA integrity_check(10)").fetch_all(connection).await;
    let mut findings: Vec<String> = checked.map_err(LedgerError::reading("check the ledger", path))?;
    findings.retain(|finding| finding != "ok");
    Ok(findings)
}

/// Everything that is wrong with the file or the schema, as findings and not as errors, for `verify`.
pub(super) async fn storage_findings(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<Vec<String>, LedgerError> {
    let mut findings = match integrity(connection, path).await {
        Ok(findings) => findings,
        Err(LedgerError::Corrupt { found, .. }) => vec![found],
        Err(error) => return Err(error),
    };
    match check_schema(connection, path).await {
        Ok(()) => Ok(findings),
        Err(LedgerError::Corrupt { found, .. }) => {
            findings.push(found);
            Ok(findings)
        }
        Err(error) => Err(error),
    }
}

async fn schema_version(connection: &mut SqliteConnection, path: &Path) -> Result<i64, LedgerError> {
    let newest: Result<Option<i64>, _> =
        sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(connection).await;
    match newest {
        Ok(Some(version)) => Ok(version),
        Ok(None) => Err(LedgerError::Corrupt { path: path.to_owned(), found: "it has no schema".to_owned() }),
        Err(error)
            if error.as_database_error().is_some_and(|error| error.message().contains("no such table")) =>
        {
            Err(LedgerError::Corrupt {
                path: path.to_owned(),
                found: "it has no list of migrations".to_owned(),
            })
        }
        Err(error) => Err(LedgerError::reading("read the schema of the ledger", path)(error)),
    }
}

/// The UNIQUE index stands between us and a doubled rollback, so that it is still there is checked, not assumed.
async fn check_schema(connection: &mut SqliteConnection, path: &Path) -> Result<(), LedgerError> {
    let attempted = "read the schema of the ledger";
    let options = SqliteConnectOptions::new().in_memory(true);
    let mut fresh = options.connect().await.map_err(LedgerError::reading(attempted, path))?;
    migrate(&mut fresh, path).await?;
    let expected = schema(&mut fresh).await.map_err(LedgerError::reading(attempted, path))?;
    let found = schema(connection).await.map_err(LedgerError::reading(attempted, path))?;
    if found == expected {
        return Ok(());
    }
    let odd = expected
        .iter()
        .find(|object| !found.contains(object))
        .or_else(|| found.iter().find(|object| !expected.contains(object)));
    let name = odd.map_or("unknown", |(name, _)| name.as_str());
    let found = format!("its schema is not the one Turnback creates; the first difference is {name:?}");
    Err(LedgerError::Corrupt { path: path.to_owned(), found })
}

/// Name and definition of everything in the schema. Statistics (`ANALYZE`) are harmless and left out.
async fn schema(connection: &mut SqliteConnection) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT type || ' ' || name || ' on ' || tbl_name AS name, COALESCE(sql, '') AS definition FROM sqlite_schema \
         WHERE name NOT LIKE 'sqlite_stat%' ORDER BY 1",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("definition")?))).collect()
}

/// Checks the hashes and the links of the last records and returns the head.
async fn check_tail(connection: &mut SqliteConnection, path: &Path) -> Result<Head, LedgerError> {
    let last: Option<i64> = sqlx::query_scalar("SELECT MAX(sequence) FROM records")
        .fetch_one(&mut *connection)
        .await
        .map_err(LedgerError::reading("find the head of the ledger", path))?;
    let Some(last) = last else { return Ok(Head::EMPTY) };
    let before = (last - TAIL).max(0);
    let mut head = match before {
        0 => Head::EMPTY,
        _ => record_at(connection, path, before)
            .await?
            .map(|record| Head { sequence: before, hash: record.hash })
            .ok_or_else(|| LedgerError::broken(before, "it is missing"))?,
    };
    for record in read_after(connection, path, before, TAIL).await? {
        head = super::verify::follow(&head, &record)
            .map_err(|reason| LedgerError::broken(head.sequence + 1, reason))?;
    }
    Ok(head)
}

async fn check_remembered(
    connection: &mut SqliteConnection,
    path: &Path,
    head_file: &HeadFile,
    remembered: Option<Head>,
    head: &Head,
) -> Result<(), LedgerError> {
    let Some(remembered) = remembered else {
        if head.sequence > 0 {
            tracing::warn!(file = %head_file.path().display(), "no head is remembered beside the ledger, so a lost tail \
                cannot be noticed at this start; the file is made now");
        }
        return Ok(());
    };
    match compare(connection, path, &remembered, head).await? {
        None => Ok(()),
        Some(found) => Err(LedgerError::Regressed {
            path: path.to_owned(),
            head_file: head_file.path().to_owned(),
            found,
        }),
    }
}

/// `None` when the ledger contains the remembered head, else the difference in words.
pub(super) async fn compare(
    connection: &mut SqliteConnection,
    path: &Path,
    remembered: &Head,
    head: &Head,
) -> Result<Option<String>, LedgerError> {
    if remembered.sequence > head.sequence {
        return Ok(Some(behind_in_words(head.sequence, remembered)));
    }
    if remembered.sequence == 0 {
        return Ok(None);
    }
    let record = record_at(connection, path, remembered.sequence)
        .await?
        .ok_or_else(|| LedgerError::broken(remembered.sequence, "it is missing"))?;
    let same = record.hash == remembered.hash;
    Ok((!same).then(|| diverged_in_words(record.sequence, &record.hash, &remembered.hash)))
}
