//! Measurements, run by hand on the disk where the temporary directory is. They assert what was stored, and print how fast.

use std::time::Instant;

use super::*;

async fn store(ledger: &Ledger, count: i64, batch: usize) -> (f64, Vec<f64>) {
    let ids: Vec<i64> = (ledger.head().sequence..ledger.head().sequence + count).collect();
    let mut commits = Vec::new();
    let began = Instant::now();
    for batch in ids.chunks(batch) {
        let commit = Instant::now();
        let events = batch.iter().map(|id| event("ci", &id.to_string())).collect();
        assert_eq!(ledger.append_events(events).await.unwrap().len(), batch.len());
        commits.push(commit.elapsed().as_secs_f64() * 1000.0);
    }
    commits.sort_by(f64::total_cmp);
    (count as f64 / began.elapsed().as_secs_f64(), commits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn events_per_second() {
    for (count, batch) in [(2_000, 1), (20_000, 256), (20_000, 16)] {
        let place = Place::new();
        let ledger = Ledger::open(&place.path).await.unwrap();
        let (speed, commits) = store(&ledger, count, batch).await;
        assert_eq!(ledger.head().sequence, count);
        let percentile = |part: f64| commits[((commits.len() - 1) as f64 * part) as usize];
        println!(
            "batches of {batch}: {speed:.0} events/s; a commit takes {:.2} ms (median), {:.2} ms (99 %)",
            percentile(0.5),
            percentile(0.99)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn start_and_verify_with_many_records() {
    let place = Place::new();
    let ledger = Ledger::open(&place.path).await.unwrap();
    let count = 1_000_000;
    store(&ledger, count, 4096).await;
    let began = Instant::now();
    let report = ledger.verify(|_, _| ()).await.unwrap();
    assert!(report.is_sound());
    println!("verify {count} records: {:.2} s", began.elapsed().as_secs_f64());
    ledger.close().await.unwrap();
    let size = std::fs::metadata(&place.path).unwrap().len() / 1_000_000;
    let began = Instant::now();
    let ledger = Ledger::open(&place.path).await.unwrap();
    println!("open {count} records ({size} MB): {:.2} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    assert!(ledger.open_streams("").await.unwrap().is_empty());
    println!("open streams: {:.2} ms", began.elapsed().as_secs_f64() * 1000.0);
}
