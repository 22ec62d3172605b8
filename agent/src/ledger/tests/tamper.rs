//! Somebody with the rights to the file changes it through SQL. Every change must be found, by the chain alone: the tests also
//! assert that SQLite itself has nothing to complain about.

use super::*;

async fn assert_found(place: &Place, what: &str, expected: i64) {
    let report = place.report().await;
    assert!(report.storage.is_empty(), "{what}: {report:?}");
    let broken = report.broken.unwrap_or_else(|| panic!("{what} was not found"));
    assert_eq!(broken.sequence, expected, "{what}: {}", broken.reason);
}

/// The value with one byte changed, for each of its bytes in turn.
fn one_byte_changes(text: &str) -> Vec<String> {
    (0..text.len())
        .filter_map(|place| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[place] ^= 1;
            String::from_utf8(bytes).ok()
        })
        .collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// SQL literals that replace the columns of this record, as (column, literal).
fn mutations_of(record: &Record) -> Vec<(&'static str, String)> {
    let mut mutations = Vec::new();
    for (column, text) in [("stream", &record.stream), ("kind", &record.kind), ("body", &record.body_text)] {
        mutations.extend(one_byte_changes(text).iter().map(|changed| (column, quoted(changed))));
        mutations.push((column, quoted(&format!("{text} "))));
        mutations.push((column, "''".to_owned()));
    }
    if let Some(key) = &record.unique_key {
        mutations.extend(one_byte_changes(key).iter().map(|changed| ("unique_key", quoted(changed))));
        mutations.push(("unique_key", "NULL".to_owned()));
    } else {
        mutations.push(("unique_key", quoted(r#"["event","ci","new"]"#)));
        mutations.push(("unique_key", "''".to_owned()));
    }
    for bit in 0..16 {
        mutations.push(("version", format!("{}", record.version ^ (1 << bit))));
    }
    let at_ns = i64::try_from(record.at.as_nanosecond()).unwrap();
    mutations.extend((0..64).step_by(5).map(|bit| ("at_ns", format!("{}", at_ns ^ (1 << bit)))));
    let mark = record.mark as i64;
    mutations.extend((-1..4).filter(|other| *other != mark).map(|other| ("mark", other.to_string())));
    for (column, hash) in [("hash", record.hash), ("previous_hash", record.previous_hash)] {
        for byte in 0..32 {
            let mut bytes = *hash.as_bytes();
            bytes[byte] ^= 0x80;
            mutations.push((column, format!("x'{}'", hex::encode(bytes))));
        }
        mutations.push((column, "zeroblob(0)".to_owned()));
        mutations.push((column, "zeroblob(33)".to_owned()));
    }
    mutations.extend([("version", "65537".to_owned()), ("version", "-1".to_owned())]);
    mutations
}

#[tokio::test]
async fn every_changed_byte_of_every_column_is_found() {
    let original = Place::with_records(6).await;
    let ledger = Ledger::open_read_only(&original.path).await.unwrap();
    let records = everything(&ledger).await;
    ledger.close().await.unwrap();
    let mut tried = 0;
    // Some are events (with a key), some open a stream, and the last has no successor to give it away.
    for record in &records {
        for (column, literal) in mutations_of(record) {
            let copy = original.copy();
            let statement =
                format!("UPDATE records SET {column} = {literal} WHERE sequence = {}", record.sequence);
            copy.tamper(&statement).await;
            assert_found(&copy, &statement, record.sequence).await;
            tried += 1;
        }
    }
    assert!(tried > 800, "only {tried} mutations were tried");
}

#[tokio::test]
async fn deleting_reordering_and_inserting_are_found() {
    let original = Place::with_records(9).await;
    let columns = "stream, kind, version, at_ns, mark, body, previous_hash, hash";
    let copy_of = |from: i64, to: i64| {
        format!(
            "INSERT INTO records (sequence, {columns}) SELECT {to}, {columns} FROM records WHERE sequence = {from}"
        )
    };
    for (statement, expected) in [
        ("DELETE FROM records WHERE sequence = 1".to_owned(), 1),
        ("DELETE FROM records WHERE sequence = 5".to_owned(), 5),
        ("DELETE FROM records WHERE sequence BETWEEN 2 AND 8".to_owned(), 2),
        ("DELETE FROM records WHERE sequence = 9".to_owned(), 9),
        ("DELETE FROM records WHERE sequence > 6".to_owned(), 7),
        ("DELETE FROM records".to_owned(), 1),
        // Close the gap after deleting, so that the numbers look right.
        ("DELETE FROM records WHERE sequence = 5; UPDATE records SET sequence = sequence - 1 WHERE sequence > 5".to_owned(), 5),
        ("UPDATE records SET sequence = 99 WHERE sequence = 4; UPDATE records SET sequence = 4 WHERE sequence = 5; \
          UPDATE records SET sequence = 5 WHERE sequence = 99".to_owned(), 4),
        (copy_of(3, 10), 10),
        (copy_of(3, 12), 10),
        (copy_of(3, 0), 1),
        (copy_of(3, -5), 1),
        (copy_of(3, i64::MIN), 1),
        (copy_of(3, i64::MAX), 10),
    ] {
        let copy = original.copy();
        copy.tamper(&statement).await;
        let report = copy.report().await;
        let broken = report.broken.unwrap_or_else(|| panic!("{statement} was not found"));
        // A record that was put in, or moved, also fails its own hash; it is named by its own number then.
        let named_itself = statement.contains(&broken.sequence.to_string());
        assert!(broken.sequence == expected || named_itself, "{statement}: {broken:?}");
        assert!(report.sound_records < 10, "{statement}: {} records called sound", report.sound_records);
    }
}

#[tokio::test]
async fn a_changed_record_is_not_read_as_a_fact() {
    let place = Place::with_records(6).await;
    place.tamper("UPDATE records SET body = replace(body, '4', '5') WHERE sequence = 5").await;
    let ledger = Ledger::open_read_only(&place.path).await.unwrap();
    let stream = "watch/w-4";
    let error = ledger.read_stream(stream).await.unwrap_err();
    assert!(matches!(error, LedgerError::BrokenChain { sequence: 5, .. }), "{error:?}");
    assert!(ledger.read_stream("watch/w-1").await.is_ok(), "other streams can still be read");
    ledger.close().await.unwrap();
    let error = Ledger::open(&place.path).await.err().unwrap();
    assert!(matches!(error, LedgerError::BrokenChain { sequence: 5, .. }), "{error:?}");
}

#[tokio::test]
async fn a_cut_off_tail_is_found_at_open_and_by_verify() {
    let place = Place::with_records(9).await;
    place.tamper("DELETE FROM records WHERE sequence > 7").await;
    let error = Ledger::open(&place.path).await.err().unwrap();
    assert!(matches!(error, LedgerError::Regressed { .. }), "{error:?}");
    assert!(error.to_string().contains("its last record is 7, but record 9"), "{error}");
    assert_found(&place, "a cut-off tail", 8).await;
}

#[tokio::test]
async fn an_older_copy_of_the_ledger_is_refused() {
    let place = Place::with_records(5).await;
    let backup = place.copy();
    let ledger = Ledger::open(&place.path).await.unwrap();
    fill(&ledger, 5).await;
    ledger.close().await.unwrap();
    std::fs::copy(&backup.path, &place.path).unwrap();
    assert!(matches!(Ledger::open(&place.path).await, Err(LedgerError::Regressed { .. })));
    // A person who accepts the loss removes the head file, as the message says.
    std::fs::remove_file(place.beside(".head")).unwrap();
    assert_eq!(Ledger::open(&place.path).await.unwrap().head().sequence, 5);
}

#[tokio::test]
async fn another_history_of_the_same_or_a_greater_length_is_refused() {
    let place = Place::with_records(5).await;
    let fork = place.copy();
    for (place, text) in [(&place, "what happened"), (&fork, "what is told")] {
        let ledger = Ledger::open(&place.path).await.unwrap();
        let record = NewRecord::new("fleet", "note", 1, at(6), json!(text));
        drop(ledger.append(vec![record]).await.unwrap());
        ledger.close().await.unwrap();
    }
    for more in [0, 3] {
        let ledger = Ledger::open(&fork.path).await.unwrap();
        fill(&ledger, more).await;
        ledger.close().await.unwrap();
        std::fs::copy(&fork.path, &place.path).unwrap();
        let error = Ledger::open(&place.path).await.err().unwrap();
        assert!(matches!(error, LedgerError::Regressed { .. }), "{error:?}");
        assert_found(&place, "a fork", 6).await;
    }
}

#[tokio::test]
async fn a_head_file_that_is_missing_or_behind_is_made_up_again() {
    let place = Place::with_records(5).await;
    let old_head = std::fs::read(place.beside(".head")).unwrap();
    let ledger = Ledger::open(&place.path).await.unwrap();
    fill(&ledger, 3).await;
    ledger.close().await.unwrap();
    let new_head = std::fs::read(place.beside(".head")).unwrap();
    assert_ne!(old_head, new_head);
    std::fs::write(place.beside(".head"), &old_head).unwrap();
    Ledger::open(&place.path).await.unwrap().close().await.unwrap();
    assert_eq!(std::fs::read(place.beside(".head")).unwrap(), new_head);
    std::fs::remove_file(place.beside(".head")).unwrap();
    assert!(!place.report().await.head_was_remembered);
    Ledger::open(&place.path).await.unwrap().close().await.unwrap();
    assert_eq!(std::fs::read(place.beside(".head")).unwrap(), new_head);
}

#[tokio::test]
async fn a_changed_schema_is_refused() {
    let original = Place::with_records(4).await;
    for statement in [
        "DROP TRIGGER records_are_never_changed",
        "DROP INDEX records_by_mark",
        "CREATE TRIGGER extra AFTER INSERT ON records BEGIN SELECT 1; END",
        "CREATE TABLE records_2 AS SELECT * FROM records; DROP TABLE records; ALTER TABLE records_2 RENAME TO records",
    ] {
        let copy = original.copy();
        let mut connection = raw(&copy.path).await;
        if statement.contains("DROP TABLE") {
            run(&mut connection, "DROP TRIGGER records_are_never_removed").await;
        }
        run(&mut connection, statement).await;
        connection.close().await.unwrap();
        assert!(matches!(Ledger::open(&copy.path).await, Err(LedgerError::Corrupt { .. })), "{statement}");
        assert!(!copy.report().await.storage.is_empty(), "{statement}");
    }
    let copy = original.copy();
    let mut connection = raw(&copy.path).await;
    run(&mut connection, "ANALYZE").await;
    connection.close().await.unwrap();
    assert_eq!(Ledger::open(&copy.path).await.unwrap().head().sequence, 4, "statistics do no harm");
}

#[tokio::test]
async fn the_triggers_stop_changes_by_mistake() {
    let place = Place::with_records(4).await;
    let mut connection = raw(&place.path).await;
    for (statement, word) in [
        ("UPDATE records SET body = '{}'", "never changed"),
        ("DELETE FROM records", "never removed"),
        (
            "INSERT INTO records SELECT 6, stream, kind, 1, 1, 0, NULL, body, hash, hash FROM records WHERE sequence = 4",
            "follow",
        ),
        (
            "INSERT INTO records SELECT 5, stream, kind, 1, 1, 0, NULL, body, zeroblob(32), hash FROM records WHERE sequence = 4",
            "follow",
        ),
    ] {
        let error = connection.execute(statement).await.unwrap_err();
        assert!(error.to_string().contains(word), "{statement}: {error}");
    }
    connection.close().await.unwrap();
    assert!(place.report().await.is_sound());
}

#[tokio::test]
async fn a_ledger_of_a_newer_version_and_another_database_are_refused() {
    let place = Place::with_records(2).await;
    let newer = place.copy();
    let mut connection = raw(&newer.path).await;
    run(
        &mut connection,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9000, 'later', 1, x'00', 1)",
    )
    .await;
    connection.close().await.unwrap();
    for result in [Ledger::open(&newer.path).await, Ledger::open_read_only(&newer.path).await] {
        let error = result.err().unwrap();
        assert!(matches!(error, LedgerError::FromTheFuture { found: 9000, .. }), "{error:?}");
    }
    let other = Place::new();
    let options = SqliteConnectOptions::new().filename(&other.path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    run(&mut connection, "CREATE TABLE users (id INTEGER)").await;
    connection.close().await.unwrap();
    let before = std::fs::read(&other.path).unwrap();
    assert!(matches!(Ledger::open(&other.path).await, Err(LedgerError::Corrupt { .. })));
    assert!(matches!(Ledger::open_read_only(&other.path).await, Err(LedgerError::Corrupt { .. })));
    assert_eq!(std::fs::read(&other.path).unwrap()[100..], before[100..], "somebody else's data was changed");
}
