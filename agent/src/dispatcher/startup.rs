//! Starting: everything is read back from the ledger. Replay restores, it never decides again.

use super::events::{EVENT_STREAM, StoredEvent, THOUGHT_STREAM, Thought, thought};
use super::firing::Firing;
use super::perform::{FLEET_STREAM, RECORD_VERSION, watch_stream};
use super::{DispatchError, Dispatcher, Parts};
use crate::clock;
use crate::events::Incoming;
use crate::ledger::{Ledger, Mark, Record};
use jiff::Timestamp;
use rules::fleet::{Fleet, FleetEntry};
use rules::ids::WatchId;
use rules::storm::Weather;
use rules::watch::{Effect, Entry, Input, Outcome, Phase, Watch};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::mpsc;

/// Results of our own helpers on their way back: as many as helpers can be at work.
const MOST_RETURNED: usize = 1_024;
/// News read at once when it is thought about again: each may have 256 KiB.
pub(super) const NEWS_AT_ONCE: u32 = 256;

impl Dispatcher {
    /// Reads the state back. Starts nothing, decides nothing.
    pub async fn restore(parts: Parts) -> Result<Dispatcher, DispatchError> {
        let mut fleet = Fleet::default();
        for record in read_all(&parts.ledger, FLEET_STREAM).await? {
            fleet.apply(&body::<FleetEntry>(&record)?);
        }
        for freeze in &parts.freezes {
            fleet.apply(&FleetEntry::Frozen(freeze.clone()));
        }
        parts.stopped.send_replace(fleet.stopped().is_some());
        let mut watches = BTreeMap::new();
        for stream in parts.ledger.open_streams("watch/").await? {
            let watch = restore_watch(&parts.ledger, &stream).await?;
            watches.insert(watch.id.clone(), watch);
        }
        let closed = recently_closed(&parts.ledger).await?;
        let (returning, returned) = mpsc::channel(MOST_RETURNED);
        let mut dispatcher = Dispatcher {
            parts,
            fleet,
            watches,
            closed,
            wakes: BTreeMap::new(),
            looks: Default::default(),
            returned,
            returning,
            helpers: tokio::task::JoinSet::new(),
            steps: 0,
            ending: false,
            timers_seen: clock::now(),
            weather: Weather::default(),
            firing: Firing::default(),
            held: None,
            unwatched: 0,
        };
        // Of all at once, before the first of them says something: a storm is not over because the agent was.
        dispatcher.see_all_weather(clock::now());
        dispatcher.publish();
        Ok(dispatcher)
    }

    /// Goes on where the last run ended.
    pub(super) async fn resume(&mut self) -> Result<(), DispatchError> {
        let watches: Vec<(WatchId, Phase)> =
            self.watches.iter().map(|(id, watch)| (id.clone(), watch.phase.clone())).collect();
        for (watch, phase) in watches {
            tracing::info!(%watch, ?phase, "restored");
            match phase {
                Phase::Closed(outcome) => self.close_broken(&watch, outcome).await?,
                _ => self.tell(&watch, Input::Restarted).await.map(drop)?,
            }
        }
        self.hear_again().await
    }

    /// A watch whose records do not add up ends as stuck, with a page; nothing is done alone until a person has looked.
    async fn close_broken(&mut self, id: &WatchId, outcome: Outcome) -> Result<(), DispatchError> {
        let now = clock::now();
        let Some(watch) = self.watches.get(id) else { return Ok(()) };
        let why = outcome.to_string();
        let mut fleet = vec![FleetEntry::AutoSuspended { reason: format!("watch {id}: {why}"), at: now }];
        fleet.extend(watch.plan.as_ref().map(|(plan, _)| FleetEntry::RollbackEnded {
            service: plan.service.clone(),
            environment: plan.environment.clone(),
            plan: plan.id.clone(),
            running: None,
            at: now,
        }));
        let page = rules::report::needs_person(watch, &why);
        let record = Effect::Record { entry: Entry::Closed { outcome }, fleet };
        self.perform(id, vec![record, page, Effect::Close], now).await.map(drop)
    }

    /// News may have been acknowledged and not thought about when the last run ended. The last round may have been thought
    /// about in part; doing that again changes nothing, since nothing else was heard in between.
    async fn hear_again(&mut self) -> Result<(), DispatchError> {
        let mut through = thought_through(&self.parts.ledger).await?;
        let before = through;
        self.firing = Firing::read_back(&self.parts.ledger, through).await?;
        loop {
            let records = self.parts.ledger.read_stream_after(EVENT_STREAM, through, NEWS_AT_ONCE).await?;
            let Some(last) = records.last() else { break };
            through = last.sequence;
            self.hold();
            for record in records {
                self.think_again(body::<StoredEvent>(&record)?).await?;
                self.release_if_many().await?;
            }
            let more = if through > before { vec![thought(through)?] } else { Vec::new() };
            self.release(more).await?;
        }
        Ok(())
    }

    async fn think_again(&mut self, stored: StoredEvent) -> Result<(), DispatchError> {
        match stored {
            StoredEvent::Deploy { event, .. } => {
                let id = WatchId::of(&event.source, &event.id, &event.service, &event.environment);
                let known = self.parts.ledger.read_stream_after(&watch_stream(&id), 0, 1).await?;
                match known.is_empty() {
                    true => self.think_about(Incoming::Deploy(event)).await,
                    false => Ok(()),
                }
            }
            StoredEvent::Report { report, .. } => self.think_about(Incoming::Report(report)).await,
        }
    }
}

/// Up to which record the news was thought about. The mark is looked for from the end of the ledger, further and further
/// back: it is near the end unless no news came for a long time.
async fn thought_through(ledger: &Ledger) -> Result<i64, DispatchError> {
    let head = ledger.head().sequence;
    let mut back = i64::from(NEWS_AT_ONCE);
    loop {
        let after = head.saturating_sub(back).max(0);
        if let Some(mark) = read_stream(ledger, THOUGHT_STREAM, after).await?.last() {
            return Ok(body::<Thought>(mark)?.through);
        }
        if after == 0 {
            return Ok(0);
        }
        back = back.saturating_mul(4);
    }
}

/// How far back closed watches are looked for at the start, in records, and how many are kept: what people ask about
/// after a restart is what happened lately.
const CLOSED_LATELY: i64 = 10_000;
const MOST_CLOSED_AT_START: usize = 50;

async fn recently_closed(ledger: &Ledger) -> Result<VecDeque<Watch>, DispatchError> {
    let after = (ledger.head().sequence - CLOSED_LATELY).max(0);
    let mut streams: Vec<String> = Vec::new();
    for record in ledger.read_after(after, crate::ledger::MAX_READ).await? {
        if record.mark == Mark::Closes {
            streams.push(record.stream);
        }
    }
    let mut closed = VecDeque::new();
    for stream in streams.iter().rev().take(MOST_CLOSED_AT_START) {
        closed.push_front(restore_watch(ledger, stream).await?);
    }
    Ok(closed)
}

/// A watch from the ledger, for whoever asks about an old one. `None`: there are no records of it.
pub async fn read_watch(ledger: &Ledger, id: &WatchId) -> Result<Option<Watch>, DispatchError> {
    let stream = watch_stream(id);
    if ledger.read_stream_after(&stream, 0, 1).await?.is_empty() {
        return Ok(None);
    }
    restore_watch(ledger, &stream).await.map(Some)
}

/// A watch as its records tell it. Records that do not add up are nothing to act on: the watch is stuck, and says so.
pub(super) async fn restore_watch(ledger: &Ledger, stream: &str) -> Result<Watch, DispatchError> {
    let entries = entries(ledger, stream).await?;
    let name = stream.trim_start_matches("watch/");
    let id =
        WatchId::new(name).map_err(|bad| DispatchError::Name { stream: stream.to_owned(), source: bad })?;
    match Watch::restore(id.clone(), &entries) {
        Ok(watch) => Ok(watch),
        Err(broken) => {
            // The part that adds up shows what is known; the rest is for a person.
            let sound =
                (1..entries.len()).rev().find_map(|count| Watch::restore(id.clone(), &entries[..count]).ok());
            let Some(mut watch) = sound else { return Err(broken.into()) };
            tracing::error!(watch = %id, %broken, "this watch is stuck: its records do not add up");
            watch.phase = Phase::Closed(Outcome::Stuck(broken.to_string()));
            Ok(watch)
        }
    }
}

async fn entries(ledger: &Ledger, stream: &str) -> Result<Vec<(Timestamp, Entry)>, DispatchError> {
    let records = read_all(ledger, stream).await?;
    records.iter().map(|record| Ok((record.at, body(record)?))).collect()
}

async fn read_all(ledger: &Ledger, stream: &str) -> Result<Vec<Record>, DispatchError> {
    read_stream(ledger, stream, 0).await
}

async fn read_stream(ledger: &Ledger, stream: &str, after: i64) -> Result<Vec<Record>, DispatchError> {
    let mut all: Vec<Record> = Vec::new();
    loop {
        let after = all.last().map_or(after, |record| record.sequence);
        let part = ledger.read_stream_after(stream, after, crate::ledger::MAX_READ).await?;
        if part.is_empty() {
            return Ok(all);
        }
        all.extend(part);
    }
}

pub(super) fn body<T: DeserializeOwned>(record: &Record) -> Result<T, DispatchError> {
    if record.version != RECORD_VERSION {
        return Err(DispatchError::FromTheFuture {
            what: record.stream.clone(),
            version: record.version,
            known: RECORD_VERSION,
        });
    }
    serde_json::from_value(record.body.clone()).map_err(|source| DispatchError::Record {
        what: format!("{} {}", record.stream, record.sequence),
        source,
    })
}
