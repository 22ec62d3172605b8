//! Tests of the ledger on real files, with the helpers they share.
//!
//! `append` is about what is promised to the caller, `tamper` about changes through SQL, `damage` about changes to the
//! bytes of the files, `processes` about other processes and death. `speed` only measures, and is run by hand:
//! `cargo test -p agent --lib ledger::tests::speed -- --ignored --nocapture`.

mod append;
mod damage;
mod processes;
mod speed;
mod tamper;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tempfile::TempDir;

use super::*;

/// A directory with the path of a ledger in it.
struct Place {
    directory: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        Place { directory, path }
    }

    /// A closed ledger with `count` records of mixed kinds.
    async fn with_records(count: i64) -> Place {
        let place = Place::new();
        let ledger = Ledger::open(&place.path).await.unwrap();
        fill(&ledger, count).await;
        ledger.close().await.unwrap();
        place
    }

    /// A copy of the ledger and its remembered head, as another place.
    fn copy(&self) -> Place {
        let copy = Place::new();
        for suffix in ["", "-wal", ".head"] {
            let from = head::with_suffix(&self.path, suffix);
            if from.exists() {
                std::fs::copy(from, head::with_suffix(&copy.path, suffix)).unwrap();
            }
        }
        copy
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        head::with_suffix(&self.path, suffix)
    }

    /// Runs SQL as somebody who may write the file would: without our triggers, and puts them back after.
    async fn tamper(&self, statement: &str) {
        let mut connection = raw(&self.path).await;
        let triggers: Vec<(String, String)> =
            sqlx::query_as("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        run(&mut connection, "PRAGMA ignore_check_constraints = ON").await;
        for (name, _) in &triggers {
            run(&mut connection, &format!("DROP TRIGGER {name}")).await;
        }
        run(&mut connection, statement).await;
        for (_, definition) in &triggers {
            run(&mut connection, definition).await;
        }
        connection.close().await.unwrap();
    }

    async fn report(&self) -> VerifyReport {
        let ledger = Ledger::open_read_only(&self.path).await.unwrap();
        let report = ledger.verify(|_, _| ()).await.unwrap();
        ledger.close().await.unwrap();
        report
    }
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

async fn run(connection: &mut SqliteConnection, statement: &str) {
    if let Err(error) = connection.execute(AssertSqlSafe(statement.to_owned())).await {
        panic!("{statement}: {error}");
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_700_000_000 + second, 123_456_789).unwrap()
}

fn note(stream: &str, number: i64) -> NewRecord {
    NewRecord::new(stream, "note", 1, at(number), json!({ "number": number, "text": "grüße" }))
}

fn event(source: &str, id: &str) -> (EventKey, NewRecord) {
    let key = EventKey { source: source.to_owned(), id: id.to_owned() };
    (key, NewRecord::new("events", "deployed", 1, at(0), json!({ "id": id })))
}

/// Every third record is an event, the others belong to a few watches, each opened and some closed.
async fn fill(ledger: &Ledger, count: i64) {
    for number in ledger.head().sequence..ledger.head().sequence + count {
        let stream = format!("watch/w-{}", number % 7);
        match number % 3 {
            0 => assert_eq!(
                ledger.append_events(vec![event("ci", &number.to_string())]).await.unwrap(),
                [Recorded::New(number + 1)]
            ),
            1 => drop(ledger.append(vec![note(&stream, number).opening()]).await.unwrap()),
            _ => drop(ledger.append(vec![note(&stream, number)]).await.unwrap()),
        }
    }
}

async fn everything(ledger: &Ledger) -> Vec<Record> {
    ledger.read_after(0, MAX_READ).await.unwrap()
}
