//! How each source of events is doing, for `/readyz`, the metrics and whoever must be called.
//!
//! A source that is silent because nothing happens and one that is silent because it is cut off look the same from its
//! events; so every source says by itself whether it is connected.

use crate::clock;
use crate::dispatcher::EventAnswer;
use jiff::Timestamp;
use rules::ids::SourceName;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How one source is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// What kind of source it is: `kafka`, `nats`, `kubernetes`, `http`, `kafka-samples`, `nats-samples`.
    pub kind: &'static str,
    /// What it is and where, for people. Holds no secret.
    pub source: String,
    /// Whether it hears. A source that is called by others is connected as long as we listen.
    pub connected: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// When it last brought something.
    pub last_event: Option<Timestamp>,
    /// What last went wrong.
    pub last_error: Option<(Timestamp, String)>,
    /// Messages that wait at the sender, where that is known.
    pub lag: Option<u64>,
    /// Events that were new; of a stream of samples, messages that were read.
    pub recorded: u64,
    /// Events that had been said before.
    pub duplicates: u64,
    /// Messages that could not be read.
    pub dead_letters: u64,
    /// Messages that were about something else.
    pub passed_over: u64,
}

/// All sources. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Board {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    standings: BTreeMap<SourceName, Standing>,
    overflow: u64,
}

impl Board {
    /// Puts a source on the board and hands out what it reports with. It begins as not connected.
    pub fn reporter(&self, name: &SourceName, kind: &'static str, source: String) -> Reporter {
        let standing = Standing { source, connected: false, ..Standing::new(kind) };
        self.lock().standings.insert(name.clone(), standing);
        Reporter { board: self.clone(), name: name.clone() }
    }

    /// All sources as they are now.
    pub fn standings(&self) -> BTreeMap<SourceName, Standing> {
        self.lock().standings.clone()
    }

    /// How often news found the queue full and was sent away to be delivered again.
    pub fn overflow(&self) -> u64 {
        self.lock().overflow
    }

    pub(super) fn overflowed(&self) {
        self.lock().overflow += 1;
    }

    /// Counts what a source brought. One that nobody put on the board is called by others.
    pub(super) fn heard(&self, name: &SourceName, answers: &[EventAnswer], dead: usize) {
        let is_new = |answer: &&EventAnswer| matches!(answer, EventAnswer::Recorded { .. });
        let understood = &answers[..answers.len().saturating_sub(dead)];
        let recorded = understood.iter().filter(is_new).count();
        let dead = answers[understood.len()..].iter().filter(is_new).count();
        let mut inner = self.lock();
        let standing = inner.standings.entry(name.clone()).or_insert_with(|| Standing::new("http"));
        standing.last_event = Some(clock::now());
        standing.recorded += recorded as u64;
        standing.duplicates += (answers.len() - recorded - dead) as u64;
        standing.dead_letters += dead as u64;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            source: String::new(),
            connected: true,
            since: clock::now(),
            last_event: None,
            last_error: None,
            lag: None,
            recorded: 0,
            duplicates: 0,
            dead_letters: 0,
            passed_over: 0,
        }
    }
}

/// What one source reports with.
#[derive(Debug, Clone)]
pub struct Reporter {
    board: Board,
    name: SourceName,
}

impl Reporter {
    /// It hears.
    pub fn up(&self) {
        self.turn(true, None);
    }

    /// It does not hear, and why.
    pub fn down(&self, reason: impl Into<String>) {
        self.turn(false, Some(reason.into()));
    }

    /// Something went wrong that does not keep it from hearing.
    pub fn failed(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::warn!(source = %self.name, %reason, "a source of events had a failure");
        self.change(|standing| standing.last_error = Some((clock::now(), reason)));
    }

    /// So many messages wait at the sender.
    pub fn lag(&self, messages: u64) {
        self.change(|standing| standing.lag = Some(messages));
    }

    /// It brought messages that are nothing for the ledger: samples.
    pub fn brought(&self, messages: u64) {
        if messages > 0 {
            self.change(|standing| {
                standing.last_event = Some(clock::now());
                standing.recorded += messages;
            });
        }
    }

    /// So many messages were about something else.
    pub fn passed_over(&self, messages: u64) {
        if messages > 0 {
            self.change(|standing| standing.passed_over += messages);
        }
    }

    fn turn(&self, connected: bool, reason: Option<String>) {
        let now = clock::now();
        self.change(|standing| {
            if standing.connected != connected {
                match &reason {
                    Some(reason) => {
                        tracing::warn!(source = %self.name, %reason, "a source of events is cut off");
                    }
                    None => tracing::info!(source = %self.name, "a source of events hears"),
                }
                (standing.connected, standing.since) = (connected, now);
            }
            if let Some(reason) = reason {
                standing.last_error = Some((now, reason));
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Standing)) {
        if let Some(standing) = self.board.lock().standings.get_mut(&self.name) {
            change(standing);
        }
    }
}
