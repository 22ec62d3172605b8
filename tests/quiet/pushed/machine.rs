//! How slow the machine itself is, beside a measurement by the clock: how much later than it asked a thread is woken, and how
//! long a small file takes to sync. A decision that came late while both were slow says little about the agent.

use std::io::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rules::units::Span;

/// Between two looks: seldom enough to be no load itself.
const EVERY: Duration = Duration::from_millis(500);

/// What one look saw.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Timestamp,
    woken_late: Duration,
    synced: Duration,
}

/// Looks until it is asked.
pub struct Machine {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Result<Vec<Seen>>>,
}

impl Machine {
    pub fn look() -> Result<Machine> {
        let mut file = tempfile::tempfile().context("making a file to sync")?;
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            loop {
                let began = Instant::now();
                let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) else { return Ok(all) };
                let woken_late = began.elapsed().saturating_sub(EVERY);
                let (began, at) = (Instant::now(), Timestamp::now());
                file.write_all(b"as much as a small record of a ledger").context("writing a file")?;
                file.sync_data().context("syncing a file")?;
                all.push(Seen { at, woken_late, synced: began.elapsed() });
            }
        });
        Ok(Machine { stop, thread })
    }

    /// Ends it, and says what was worst in all and within five seconds of a moment.
    pub fn words(self, moment: Timestamp) -> Result<String> {
        drop(self.stop);
        let seen = self.thread.join().map_err(|_| anyhow::anyhow!("the look at the machine panicked"))??;
        let near =
            |one: &&Seen| Span::between(one.at.min(moment), one.at.max(moment)) <= Span::from_seconds(5);
        let (all, then) = (worst(seen.iter()), worst(seen.iter().filter(near)));
        Ok(format!("the machine: at the decision {then}; in the whole go {all}"))
    }
}

fn worst<'a>(seen: impl Iterator<Item = &'a Seen> + Clone) -> String {
    let woken = seen.clone().map(|one| one.woken_late).max().unwrap_or_default();
    let synced = seen.map(|one| one.synced).max().unwrap_or_default();
    format!("woke {woken:.0?} late and synced in {synced:.0?} at worst")
}
