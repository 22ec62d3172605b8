//! How each source of events is doing, for `/readyz`, the metrics and whoever must be called.
//!
//! A source that is silent because nothing happens and one that is silent because it is cut off look the same from its
//! events; so every source says by itself whether it is connected.
//!
//! Of a source that is called by others (HTTP) nobody can know that: it has no value for it, neither true nor false, and is
//! never paged for. What can be known is said instead: that nothing was heard since the start, and what was refused under
//! its name since something was last taken. A secret that has expired shows itself there. Whoever reaches the address can
//! cause a refusal, so it is shown and never believed.

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
    /// Whether it hears; nothing, if it is called by others and nobody can know.
    pub connected: Option<bool>,
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
    /// When a request under its name was last taken, if it is called by others.
    pub last_accepted: Option<Timestamp>,
    /// Requests under its name that were refused since then. Anybody can cause them.
    pub refused: u64,
    /// The same since the start.
    pub refused_in_all: u64,
    /// When and why one was last refused, since one was last taken.
    pub last_refusal: Option<(Timestamp, String)>,
    /// What that comes to, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

/// The longest reason of a refusal that is kept, in characters: what is at fault, and what to do.
const LONGEST_REASON: usize = 300;

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
        let standing = Standing { source, connected: Some(false), ..Standing::new(kind) };
        self.lock().standings.insert(name.clone(), standing);
        Reporter { board: self.clone(), name: name.clone() }
    }

    /// Puts a source on the board that is called by others at `address`.
    pub fn expect(&self, name: &SourceName, address: String) {
        let standing = Standing { source: address, ..Standing::new("http") };
        self.lock().standings.insert(name.clone(), standing);
    }

    /// All sources as they are now.
    pub fn standings(&self) -> BTreeMap<SourceName, Standing> {
        let mut standings = self.lock().standings.clone();
        for standing in standings.values_mut() {
            standing.words = standing.describe();
        }
        standings
    }

    /// A request of this source was taken.
    pub fn accepted(&self, name: &SourceName) {
        if let Some(standing) = self.lock().standings.get_mut(name) {
            (standing.last_accepted, standing.last_refusal) = (Some(clock::now()), None);
            standing.refused = 0;
        }
    }

    /// A request under this name was refused. Of a name that nobody configured nothing is kept.
    pub fn refused(&self, name: &SourceName, reason: &str) {
        if let Some(standing) = self.lock().standings.get_mut(name) {
            standing.refused += 1;
            standing.refused_in_all += 1;
            standing.last_refusal = Some((clock::now(), reason.chars().take(LONGEST_REASON).collect()));
        }
    }

    /// How often news found no place, in the queue or at the door, and was sent away to be delivered again.
    pub fn overflow(&self) -> u64 {
        self.lock().overflow
    }

    /// News found no place, in the queue or at the door, and was sent away.
    pub(crate) fn overflowed(&self) {
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
            connected: None,
            since: clock::now(),
            last_event: None,
            last_error: None,
            lag: None,
            recorded: 0,
            duplicates: 0,
            dead_letters: 0,
            passed_over: 0,
            last_accepted: None,
            refused: 0,
            refused_in_all: 0,
            last_refusal: None,
            words: None,
        }
    }

    /// What can be said of a source that is called by others.
    fn describe(&self) -> Option<String> {
        if self.connected.is_some() {
            return None;
        }
        let heard = match self.last_accepted {
            Some(at) => format!("last heard at {at}"),
            None => "configured; nothing was heard since the start".to_owned(),
        };
        Some(match &self.last_refusal {
            None => heard,
            Some((at, reason)) => format!(
                "{heard}; {} requests were refused since, the last at {at}: {reason}. If these are the sender's own, it is not \
                 heard: compare its secret and settings with ours",
                self.refused
            ),
        })
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
            if standing.connected != Some(connected) {
                match &reason {
                    Some(reason) => {
                        tracing::warn!(source = %self.name, %reason, "a source of events is cut off");
                    }
                    None => tracing::info!(source = %self.name, "a source of events hears"),
                }
                (standing.connected, standing.since) = (Some(connected), now);
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
