//! Other processes, full disks and sudden death.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// Set in a process that a test starts from its own executable: the ledger it is to write.
const CHILD: &str = "TURNBACK_TEST_LEDGER";

/// Starts this same test in another process, where it appends until it is killed and prints each number it was promised.
fn start_child(place: &Place, test: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("ledger::tests::processes::{test}"), "--nocapture"])
        .env(CHILD, &place.path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn be_the_child_if_asked() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let ledger = Ledger::open(Path::new(&path)).await.unwrap();
    // Ends by itself if the parent died before killing it.
    for number in 0..100_000 {
        let stored = ledger.append(vec![note("fleet", number)]).await.unwrap();
        println!("stored {}", stored[0].sequence);
    }
}

/// Reads the numbers the child prints until `enough` is reached or the child is gone; gives the last one.
fn last_promised(output: &mut impl BufRead, enough: i64) -> i64 {
    let mut last = 0;
    let mut line = String::new();
    while last < enough && output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, number)) = line.trim_end().split_once("stored ") {
            last = number.parse().unwrap();
        }
        line.clear();
    }
    last
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_told_who_holds_the_ledger() {
    be_the_child_if_asked().await;
    let place = Place::new();
    let mut child = start_child(&place, "a_second_daemon_is_refused_and_told_who_holds_the_ledger");
    let mut output = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(last_promised(&mut output, 1), 1);
    let error = Ledger::open(&place.path).await.err().unwrap();
    let LedgerError::Locked { holder, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*holder, Some(child.id()));
    assert!(error.to_string().contains(&format!("process {}", child.id())), "{error}");
    // Looking is allowed meanwhile.
    let reader = Ledger::open_read_only(&place.path).await.unwrap();
    assert!(reader.verify(|_, _| ()).await.unwrap().is_sound());
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel let go of the lock with the process.
    Ledger::open(&place.path).await.unwrap();
}

#[tokio::test]
async fn what_was_promised_before_a_kill_is_there_after_it() {
    be_the_child_if_asked().await;
    let place = Place::new();
    let mut before = 0;
    for round in 1..=5 {
        let mut child = start_child(&place, "what_was_promised_before_a_kill_is_there_after_it");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let enough = before + 7 * round;
        assert!(last_promised(&mut output, enough) >= enough);
        child.kill().unwrap();
        child.wait().unwrap();
        let promised = last_promised(&mut output, i64::MAX).max(enough);
        let ledger = Ledger::open(&place.path).await.unwrap();
        before = ledger.head().sequence;
        assert!(before >= promised, "{promised} were promised and {before} are there");
        assert!(ledger.verify(|_, _| ()).await.unwrap().is_sound());
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_handle_in_the_same_process_is_refused_until_the_first_is_closed() {
    let place = Place::new();
    let first = Ledger::open(&place.path).await.unwrap();
    assert!(matches!(Ledger::open(&place.path).await, Err(LedgerError::Locked { .. })));
    first.close().await.unwrap();
    let second = Ledger::open(&place.path).await.unwrap();
    let error = first.append(vec![note("fleet", 1)]).await.unwrap_err();
    assert!(
        matches!(&error, LedgerError::Poisoned { .. }) && error.to_string().contains("closed"),
        "{error}"
    );
    fill(&second, 1).await;
}

async fn pragma(ledger: &Ledger, statement: &str) {
    let mut writer = ledger.inner.writer.lock().await;
    run(&mut writer.as_mut().unwrap().connection, statement).await;
}

#[tokio::test]
async fn after_a_full_disk_nothing_is_stored_until_a_restart() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    fill(&ledger, 4).await;
    pragma(&ledger, "PRAGMA max_page_count = 20").await;
    let big = NewRecord { body: json!("x".repeat(5000)), ..note("fleet", 1) };
    let error = loop {
        if let Err(error) = ledger.append(vec![big.clone()]).await {
            break error;
        }
    };
    assert!(matches!(&error, LedgerError::WriteFailed { .. }), "{error:?}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("full"), "{error:?}");
    let head = ledger.head();
    // Also when there is room again: what the failed write left behind is not known.
    pragma(&ledger, "PRAGMA max_page_count = 100000").await;
    for _ in 0..2 {
        let error = ledger.append(vec![note("fleet", 2)]).await.unwrap_err();
        assert!(
            matches!(&error, LedgerError::Poisoned { .. }) && error.to_string().contains("full"),
            "{error}"
        );
        assert!(matches!(ledger.permit("p", "s", 1, at(0)).await, Err(LedgerError::Poisoned { .. })));
    }
    assert!(ledger.poisoned().await.is_some());
    assert_eq!(ledger.head(), head);
    assert_eq!(everything(&ledger).await.len() as i64, head.sequence, "reading goes on");
    ledger.close().await.unwrap();
    let ledger = Ledger::open(&place.path).await.unwrap();
    assert_eq!(ledger.head(), head);
    fill(&ledger, 1).await;
}

#[tokio::test]
async fn while_somebody_else_holds_the_file_nothing_is_stored_and_later_it_goes_on() {
    let place = Place::with_records(3).await;
    let ledger = Ledger::open(&place.path).await.unwrap();
    pragma(&ledger, "PRAGMA busy_timeout = 50").await;
    let mut other = raw(&place.path).await;
    run(&mut other, "BEGIN IMMEDIATE").await;
    let error = ledger.append(vec![note("fleet", 1)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::Busy { .. }), "{error:?}");
    assert_eq!(ledger.poisoned().await, None);
    run(&mut other, "ROLLBACK").await;
    assert_eq!(ledger.append(vec![note("fleet", 1)]).await.unwrap()[0].sequence, 4);
}

#[tokio::test]
async fn a_record_written_by_somebody_else_stops_the_writer() {
    let place = Place::with_records(3).await;
    let ledger = Ledger::open(&place.path).await.unwrap();
    let mut other = raw(&place.path).await;
    let forged = "INSERT INTO records SELECT 4, stream, kind, 1, 1, 0, NULL, body, hash, hash FROM records \
                  WHERE sequence = 3";
    run(&mut other, forged).await;
    let error = ledger.append(vec![note("fleet", 1)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::ForeignWriter { .. }), "{error:?}");
    assert!(matches!(ledger.append(vec![note("fleet", 1)]).await, Err(LedgerError::Poisoned { .. })));
    ledger.close().await.unwrap();
    assert!(matches!(Ledger::open(&place.path).await, Err(LedgerError::BrokenChain { sequence: 4, .. })));
}

#[tokio::test]
async fn records_are_stored_and_the_trouble_is_told_when_the_head_cannot_be_remembered() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    // A directory in the way of the temporary file.
    std::fs::create_dir(place.beside(".head.new")).unwrap();
    assert_eq!(ledger.append(vec![note("fleet", 1)]).await.unwrap()[0].sequence, 1);
    assert!(ledger.head_file_problem().unwrap().contains(".head.new"));
    std::fs::remove_dir(place.beside(".head.new")).unwrap();
    fill(&ledger, 1).await;
    assert_eq!(ledger.head_file_problem(), None);
}
