//! What the callers rely on: order, durability across restarts, de-duplication, permits, open streams, limits.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

#[tokio::test]
async fn records_come_back_as_they_went_in_also_after_a_restart() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    assert_eq!(ledger.head(), Head::EMPTY);
    let first = ledger.append(vec![note("fleet", 1), note("watch/a", 2).opening()]).await.unwrap();
    let second = ledger.append(vec![note("fleet", 3)]).await.unwrap();
    assert_eq!(second[0].previous_hash, first[1].hash);
    assert_eq!(second[0].at, at(3));
    assert_eq!(second[0].body, json!({ "number": 3, "text": "grüße" }));
    assert_eq!(ledger.head(), Head { sequence: 3, hash: second[0].hash });
    ledger.close().await.unwrap();

    let ledger = Ledger::open(&place.path).await.unwrap();
    let all: Vec<Record> = first.into_iter().chain(second).collect();
    assert_eq!(everything(&ledger).await, all);
    assert_eq!(ledger.read_stream("fleet").await.unwrap(), [all[0].clone(), all[2].clone()]);
    assert_eq!(ledger.read_stream_after("fleet", 1, 10).await.unwrap(), [all[2].clone()]);
    assert_eq!(ledger.read_after(1, 1).await.unwrap(), [all[1].clone()]);
    assert_eq!(ledger.read_stream("fleet/none").await.unwrap(), []);
    assert!(ledger.append(Vec::new()).await.unwrap().is_empty());
    assert_eq!(ledger.head().sequence, 3);
}

#[tokio::test]
async fn the_files_belong_to_the_owner_only() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    fill(&ledger, 3).await;
    for suffix in ["", "-wal", "-shm", ".head", ".lock"] {
        let mode = std::fs::metadata(place.beside(suffix)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "mode of ledger.db{suffix}");
    }
}

#[tokio::test]
async fn an_event_is_recorded_once_in_a_batch_and_across_restarts() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let batch = vec![event("ci", "1"), event("ci", "2"), event("ci", "1"), event("other", "1")];
    assert_eq!(
        ledger.append_events(batch.clone()).await.unwrap(),
        [Recorded::New(1), Recorded::New(2), Recorded::Duplicate { first_seen: 1 }, Recorded::New(3)]
    );
    ledger.close().await.unwrap();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let again = ledger.append_events(batch).await.unwrap();
    let first_seen: Vec<i64> = again
        .iter()
        .map(|recorded| match recorded {
            Recorded::Duplicate { first_seen } => *first_seen,
            Recorded::New(sequence) => panic!("recorded again as {sequence}"),
        })
        .collect();
    assert_eq!(first_seen, [1, 2, 1, 3]);
    assert_eq!(ledger.head().sequence, 3);
}

#[tokio::test]
async fn keys_that_look_alike_when_joined_are_different_events() {
    let ledger_place = Place::new();
    let ledger = Ledger::open(&ledger_place.path).await.unwrap();
    let batch = vec![event("a", "b\",\"c"), event("a\",\"b", "c"), event("a,b", "c"), event("a", "b,c")];
    let recorded = ledger.append_events(batch).await.unwrap();
    assert_eq!(recorded, [Recorded::New(1), Recorded::New(2), Recorded::New(3), Recorded::New(4)]);
    // Somebody who may send events must not be able to use up a permit.
    let forged = event("permit", "p");
    assert_eq!(ledger.append_events(vec![forged]).await.unwrap(), [Recorded::New(5)]);
    assert_eq!(ledger.permit("p", "s", 1, at(0)).await.unwrap().sequence(), 6);
}

#[tokio::test]
async fn ten_thousand_events_with_five_percent_duplicates_are_counted_right() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    // Every twentieth event repeats the one 19 before it, most often in the same batch.
    let ids: Vec<i64> =
        (0..10_000).map(|number| if number % 20 == 19 { number - 19 } else { number }).collect();
    let (mut new, mut duplicate) = (0, 0);
    for batch in ids.chunks(256) {
        let events = batch.iter().map(|id| event("ci", &id.to_string())).collect();
        for recorded in ledger.append_events(events).await.unwrap() {
            match recorded {
                Recorded::New(_) => new += 1,
                Recorded::Duplicate { .. } => duplicate += 1,
            }
        }
    }
    assert_eq!((new, duplicate), (9_500, 500));
    assert_eq!(ledger.head().sequence, 9_500);
    let stored: BTreeSet<String> =
        everything(&ledger).await.into_iter().filter_map(|record| record.unique_key).collect();
    assert_eq!(stored.len(), 9_500);
    assert!(ledger.verify(|_, _| ()).await.unwrap().is_sound());
}

#[tokio::test]
async fn a_permit_is_given_once_for_each_attempt_and_survives_a_restart() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let permit = ledger.permit("plan-1", "undeploy", 1, at(0)).await.unwrap();
    assert_eq!((permit.plan(), permit.step(), permit.attempt()), ("plan-1", "undeploy", 1));
    assert_eq!(ledger.permit("plan-1", "undeploy", 2, at(1)).await.unwrap().sequence(), 2);
    ledger.close().await.unwrap();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let error = ledger.permit("plan-1", "undeploy", 1, at(9)).await.unwrap_err();
    assert!(matches!(error, LedgerError::PermitTaken { attempt: 1, first_seen: 1, .. }), "{error:?}");
    assert_eq!(ledger.read_stream("permits").await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_ask_for_one_permit_one_gets_it() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let asked: Vec<_> = (0..32)
        .map(|second| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.permit("plan", "step", 1, at(second)).await.is_ok() })
        })
        .collect();
    let mut given = 0;
    for task in asked {
        given += u32::from(task.await.unwrap());
    }
    assert_eq!(given, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appends_from_many_tasks_keep_the_chain_and_each_tasks_order() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for number in 0..10 {
                    let stream = format!("watch/w-{task}");
                    drop(ledger.append(vec![note(&stream, number), note("fleet", number)]).await.unwrap());
                    assert_eq!(ledger.read_stream(&stream).await.unwrap().len() as i64, number + 1);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(ledger.head().sequence, 640);
    let report = ledger.verify(|_, _| ()).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.sound_records, report.head), (640, ledger.head()));
    for task in 0..32 {
        let stream = ledger.read_stream(&format!("watch/w-{task}")).await.unwrap();
        assert!(stream.iter().map(|record| record.at).is_sorted());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_stops_waiting_leaves_a_sound_ledger() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    for number in 0..60 {
        let patience = Duration::from_micros(50 * (number as u64 % 20));
        let _gave_up_or_done =
            tokio::time::timeout(patience, ledger.append(vec![note("fleet", number)])).await;
    }
    let last = ledger.append(vec![note("fleet", 99)]).await.unwrap();
    assert_eq!(ledger.poisoned().await, None);
    assert_eq!(ledger.head().hash, last[0].hash);
    let report = ledger.verify(|_, _| ()).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.head, ledger.head());
}

#[tokio::test]
async fn open_streams_are_those_whose_last_mark_opens() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let records = vec![
        note("watch/b", 1).opening(),
        note("watch/a", 2).opening(),
        note("watch/b", 3),
        note("fleet", 4).opening(),
        note("watch/a", 5).closing(),
        note("watch/c", 6),
        note("watch/d", 7).opening(),
        note("watch/d", 8).closing(),
        note("watch/d", 9).opening(),
        note("watcher", 10).opening(),
    ];
    drop(ledger.append(records).await.unwrap());
    assert_eq!(ledger.open_streams("watch/").await.unwrap(), ["watch/b", "watch/d"]);
    assert_eq!(ledger.open_streams("").await.unwrap(), ["watch/b", "fleet", "watch/d", "watcher"]);
    assert_eq!(ledger.streams("watch/").await.unwrap(), ["watch/b", "watch/a", "watch/c", "watch/d"]);
    assert_eq!(ledger.streams("%").await.unwrap(), Vec::<String>::new());
    ledger.close().await.unwrap();
    let ledger = Ledger::open(&place.path).await.unwrap();
    assert_eq!(ledger.open_streams("watch/").await.unwrap(), ["watch/b", "watch/d"]);
}

#[tokio::test]
async fn finding_the_open_streams_does_not_read_history() {
    let place = Place::with_records(3).await;
    let mut connection = raw(&place.path).await;
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sqlite::OPEN_STREAMS)))
            .bind("watch/")
            .bind("watch/\u{7f}")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let over_records: Vec<&str> = steps
        .iter()
        .map(|step| step.3.as_str())
        .filter(|step| step.contains("opened") || step.contains("later"))
        .collect();
    assert_eq!(over_records.len(), 2, "{steps:?}");
    for step in over_records {
        assert!(step.contains("SEARCH") && step.contains("COVERING INDEX records_by_mark"), "{step}");
    }
}

#[tokio::test]
async fn what_could_not_be_read_back_is_refused_and_nothing_of_the_batch_is_stored() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let nested = |depth: u32| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    let with_body = |body| NewRecord { body, ..note("fleet", 1) };
    for (bad, word) in [
        (note("", 1), "stream"),
        (note("with space", 1), "stream"),
        (note("ümlaut", 1), "stream"),
        (note(&"s".repeat(MAX_NAME + 1), 1), "stream"),
        (NewRecord { kind: "\n".to_owned(), ..note("fleet", 1) }, "kind"),
        (NewRecord { at: Timestamp::MAX, ..note("fleet", 1) }, "between the years 1678 and 2262"),
        (NewRecord { at: Timestamp::MIN, ..note("fleet", 1) }, "between the years 1678 and 2262"),
        (with_body(json!("x".repeat(MAX_BODY))), "at most 1048576"),
        (with_body(nested(MAX_DEPTH + 1)), "nested"),
    ] {
        let error = ledger.append(vec![note("fleet", 0), bad]).await.unwrap_err();
        assert!(matches!(error, LedgerError::Unacceptable(_)), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(ledger.append(vec![note("fleet", 0); MAX_BATCH + 1]).await.is_err());
    for (source, id) in [("", "1"), ("ci", ""), ("ci", "x".repeat(MAX_KEY_PART + 1).as_str())] {
        assert!(ledger.append_events(vec![event(source, id)]).await.is_err(), "{source:?} {id:?}");
    }
    assert_eq!(ledger.head(), Head::EMPTY);

    let at_the_limits = vec![
        with_body(json!("x".repeat(MAX_BODY - 2))),
        with_body(nested(MAX_DEPTH)),
        with_body(json!("\u{0}\u{1f}\u{2028}\"\\\u{10ffff}")),
        with_body(json!({ "a": u64::MAX, "b": i64::MIN, "c": 1e308, "d": -0.0, "e": null, "": [] })),
    ];
    let stored = ledger.append(at_the_limits).await.unwrap();
    assert_eq!(everything(&ledger).await, stored);
}

#[tokio::test]
async fn a_ledger_opened_for_reading_follows_the_writer_and_does_not_write() {
    let place = Place::new();
    assert!(matches!(Ledger::open_read_only(&place.path).await, Err(LedgerError::Missing { .. })));
    let writer = Ledger::open(&place.path).await.unwrap();
    fill(&writer, 4).await;
    let reader = Ledger::open_read_only(&place.path).await.unwrap();
    assert_eq!(reader.head(), writer.head());
    fill(&writer, 4).await;
    assert_eq!(everything(&reader).await.len(), 8);
    let report = reader.verify(|_, _| ()).await.unwrap();
    assert!(report.is_sound() && report.head_was_remembered, "{report:?}");
    assert_eq!(report.head, writer.head());
    assert!(matches!(reader.append(vec![note("fleet", 1)]).await, Err(LedgerError::ReadOnly)));
    assert!(matches!(reader.permit("p", "s", 1, at(0)).await, Err(LedgerError::ReadOnly)));
    writer.close().await.unwrap();
    assert_eq!(everything(&Ledger::open_read_only(&place.path).await.unwrap()).await.len(), 8);
}

#[tokio::test]
async fn verifying_tells_its_progress() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    drop(ledger.append((0..600).map(|number| note("fleet", number)).collect()).await.unwrap());
    let mut told = Vec::new();
    let report = ledger.verify(|done, total| told.push((done, total))).await.unwrap();
    assert_eq!(told, [(256, 600), (512, 600), (600, 600)]);
    assert_eq!(report.sound_records, 600);
}

#[tokio::test]
async fn following_the_head_sees_every_write() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let mut follower = ledger.watch_head();
    fill(&ledger, 2).await;
    assert!(follower.has_changed().unwrap());
    assert_eq!(follower.borrow_and_update().sequence, 2);
}

#[tokio::test]
async fn numbers_come_back_to_the_last_bit() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let mut dice = super::damage::Dice(7);
    let mut numbers: Vec<f64> =
        (0..20_000).map(|_| dice.roll(1 << 31) as f64 / (1 + dice.roll(1 << 31)) as f64).collect();
    numbers.extend([0.1 + 0.2, f64::MIN_POSITIVE, 5e-324, f64::MAX, -0.0, 1.0, 1e23]);
    drop(ledger.append(vec![NewRecord { body: json!(numbers), ..note("fleet", 1) }]).await.unwrap());
    let read: Vec<f64> = serde_json::from_value(everything(&ledger).await.remove(0).body).unwrap();
    let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert!(bits(&read) == bits(&numbers), "a number was changed on its way through the ledger");
}
