//! Performing what a watch wants, in the order in which it wants it.

use super::{DispatchError, Dispatcher, MOST_CLOSED, Returned};
use crate::crash;
use crate::ledger::NewRecord;
use crate::notify::Message as Telling;
use jiff::Timestamp;
use rules::action::StepOutcome;
use rules::fleet::FleetEntry;
use rules::ids::WatchId;
use rules::plan::RollbackPlan;
use rules::watch::{Effect, Entry, Notice, Permit};
use serde::Serialize;

/// The stored form of entries. A reader refuses others; a new one needs a new number and a reader for the old.
pub(super) const RECORD_VERSION: u16 = 1;
/// The stream of the fleet.
pub(super) const FLEET_STREAM: &str = "fleet";

/// The stream of a watch.
pub(super) fn watch_stream(watch: &WatchId) -> String {
    format!("watch/{watch}")
}

/// A record of an entry or of anything else that is serialised as one.
pub(super) fn record(
    stream: &str,
    kind: &str,
    at: Timestamp,
    body: &impl Serialize,
) -> Result<NewRecord, DispatchError> {
    let body = serde_json::to_value(body)
        .map_err(|source| DispatchError::Record { what: stream.to_owned(), source })?;
    Ok(NewRecord::new(stream, kind, RECORD_VERSION, at, body))
}

/// The name of an enum's variant as it is serialised: the only key of its object, or the text itself.
fn kind_of(body: &serde_json::Value) -> &str {
    match body {
        serde_json::Value::Object(map) => map.keys().next().map_or("entry", String::as_str),
        serde_json::Value::String(text) => text,
        _ => "entry",
    }
}

impl Dispatcher {
    /// Performs effects in order. What is recorded is on disk before the next effect that is not a record begins.
    pub(super) async fn perform(
        &mut self,
        id: &WatchId,
        effects: Vec<Effect>,
        now: Timestamp,
    ) -> Result<Option<Result<String, String>>, DispatchError> {
        if let Some(mut held) = self.held.take() {
            let noted = self.hold_back(&mut held, id, effects, now);
            self.held = Some(held);
            return noted.map(|()| None);
        }
        let mut unwritten: Vec<NewRecord> = Vec::new();
        let mut facts: Vec<FleetEntry> = Vec::new();
        let mut points: Vec<&'static str> = Vec::new();
        let mut answer = None;
        for effect in effects {
            if let Effect::Record { entry, fleet } = effect {
                points.extend(crash_point_after(&entry));
                crash_before(&entry);
                unwritten.push(self.entry_record(id, &entry, now)?);
                for fact in fleet {
                    unwritten.push(fleet_record(&fact, now)?);
                    facts.push(fact);
                }
                continue;
            }
            self.write(&mut unwritten, &mut facts, &mut points).await?;
            match effect {
                Effect::Record { .. } => {}
                begun @ (Effect::MeasureBaseline { .. }
                | Effect::Measure { .. }
                | Effect::Rehearse(_)
                | Effect::RunStep(_)) => self.begin(id, begun),
                Effect::Notify(notice) => self.notify(id, notice, now),
                Effect::Answer(text) => answer = Some(text),
                Effect::WakeAt(at) => {
                    self.wakes.insert(id.clone(), at);
                }
                Effect::Close => self.close(id),
            }
        }
        self.write(&mut unwritten, &mut facts, &mut points).await?;
        Ok(answer)
    }

    /// Begins what others do for us.
    pub(super) fn begin(&mut self, id: &WatchId, effect: Effect) {
        match effect {
            Effect::MeasureBaseline { ranges } => self.measure_baseline(id, ranges),
            Effect::Measure { since } => self.measure(id, since),
            Effect::Rehearse(plan) => self.rehearse(id, *plan),
            Effect::RunStep(permit) => self.run_step(*permit),
            Effect::Record { .. }
            | Effect::Notify(_)
            | Effect::Answer(_)
            | Effect::WakeAt(_)
            | Effect::Close => {}
        }
    }

    async fn write(
        &mut self,
        unwritten: &mut Vec<NewRecord>,
        facts: &mut Vec<FleetEntry>,
        points: &mut Vec<&'static str>,
    ) -> Result<(), DispatchError> {
        if !unwritten.is_empty() {
            self.parts.ledger.append(std::mem::take(unwritten)).await?;
        }
        for fact in facts.drain(..) {
            self.fleet.apply(&fact);
        }
        self.publish();
        points.drain(..).for_each(crash::point);
        Ok(())
    }

    /// Lets the executor see the fleet as it is.
    pub(super) fn publish(&self) {
        self.parts.fleet.send_if_modified(|published| {
            let news = *published != self.fleet;
            if news {
                published.clone_from(&self.fleet);
            }
            news
        });
    }

    pub(super) fn entry_record(
        &self,
        id: &WatchId,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<NewRecord, DispatchError> {
        let stream = watch_stream(id);
        let record = record(&stream, "entry", now, entry)?;
        let record = NewRecord { kind: kind_of(&record.body).to_owned(), ..record };
        Ok(match entry {
            Entry::Opened { .. } => record.opening(),
            Entry::Closed { .. } => record.closing(),
            _ => record,
        })
    }

    fn measure_baseline(&mut self, id: &WatchId, ranges: rules::past::Ranges) {
        let Some(watch) = self.watches.get(id) else { return };
        let (collector, rules) = (self.parts.collector.clone(), watch.rules.clone());
        let (id, returning) = (id.clone(), self.returning.clone());
        self.helpers.spawn(async move {
            let collected = collector.baseline(&rules, &ranges).await;
            // The loop has ended: nobody wants to know.
            let _gone = returning.send(Returned::Collected(id, collected)).await;
        });
    }

    fn measure(&mut self, id: &WatchId, since: Vec<(rules::ids::SignalName, Timestamp)>) {
        let Some(watch) = self.watches.get(id) else { return };
        self.looks.begun(id);
        let (collector, rules) = (self.parts.collector.clone(), watch.rules.clone());
        let (id, returning) = (id.clone(), self.returning.clone());
        self.helpers.spawn(async move {
            let collected = collector.samples(&id, &rules, since).await;
            let _gone = returning.send(Returned::Collected(id, collected)).await;
        });
    }

    fn rehearse(&mut self, id: &WatchId, plan: RollbackPlan) {
        let (executor, returning, id) = (self.parts.executor.clone(), self.returning.clone(), id.clone());
        self.helpers.spawn(async move {
            let rehearsal = executor.rehearse(&plan).await;
            let _gone = returning.send(Returned::Rehearsed(id, rehearsal)).await;
        });
    }

    fn run_step(&mut self, permit: Permit) {
        let (executor, returning) = (self.parts.executor.clone(), self.returning.clone());
        let ending = self.ending;
        self.steps += 1;
        self.helpers.spawn(async move {
            let outcome = match ending {
                true => StepOutcome::NotBegun { reason: super::ENDING.to_owned() },
                false => executor.run(&permit).await,
            };
            let Permit { watch, plan, index, attempt, .. } = permit;
            let _gone =
                returning.send(Returned::StepEnded { watch, plan, step: index, attempt, outcome }).await;
        });
    }

    pub(super) fn notify(&self, id: &WatchId, notice: Notice, now: Timestamp) {
        self.parts.notifiers.send(self.telling(id, notice, now));
    }

    /// A notice in the words of the channels.
    pub(super) fn telling(&self, id: &WatchId, notice: Notice, now: Timestamp) -> Telling {
        let watch = self.watches.get(id);
        let kind = notice.kind.word();
        Telling {
            dedup_key: format!("{id}/{kind}"),
            kind,
            severity: notice.severity.map(|severity| severity.to_string()),
            title: notice.title,
            text: notice.text,
            service: watch.map(|watch| watch.deployment.service.to_string()),
            watch: Some(id.to_string()),
            incident: watch.is_some_and(|watch| watch.incident.is_some()),
            page: notice.kind.pages(),
            at: now,
            link: None,
        }
    }

    pub(super) fn close(&mut self, id: &WatchId) {
        self.wakes.remove(id);
        self.looks.forget(id);
        if let Some(watch) = self.watches.remove(id) {
            tracing::info!(watch = %id, phase = ?watch.phase, "closed");
            self.closed.push_back(watch);
        }
        if self.closed.len() > MOST_CLOSED {
            self.closed.pop_front();
        }
    }
}

pub(super) fn fleet_record(fact: &FleetEntry, now: Timestamp) -> Result<NewRecord, DispatchError> {
    let record = record(FLEET_STREAM, "fact", now, fact)?;
    Ok(NewRecord { kind: kind_of(&record.body).to_owned(), ..record })
}

pub(super) fn crash_before(entry: &Entry) {
    match entry {
        Entry::StepIntended { .. } => crash::point("before-intent"),
        Entry::StepEnded { .. } => crash::point("before-outcome"),
        _ => {}
    }
}

pub(super) fn crash_point_after(entry: &Entry) -> Option<&'static str> {
    match entry {
        Entry::StepIntended { .. } => Some("after-intent"),
        Entry::StepEnded { .. } => Some("after-outcome"),
        Entry::VerificationBegan { .. } => Some("in-verification"),
        _ => None,
    }
}
