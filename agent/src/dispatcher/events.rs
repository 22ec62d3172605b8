//! Hearing news: on disk first, acknowledged then, thought about last.

use super::perform::record;
use super::{DispatchError, Dispatcher};
use crate::clock;
use crate::crash;
use crate::events::native::NO_VERSION;
use crate::events::{Accepted, DeadLetter, Incoming};
use crate::inlet::News;
use crate::ledger::{EventKey, NewRecord, Recorded};
use rules::deployment::{DeployEvent, DeployKind, Report};
use rules::fleet::FleetEntry;
use rules::ids::{SourceName, WatchId};
use rules::ruleset::RuleSet;
use rules::units::Span;
use rules::watch::{Input, Phase, Watch};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// The stream of everything that was said.
pub(super) const EVENT_STREAM: &str = "events";
/// The stream that says how far the news was thought about.
pub(super) const THOUGHT_STREAM: &str = "thought";

/// All news up to here was thought about: a restart thinks about what came after, and about nothing else. What was
/// passed over leaves no other trace, and thought about later, in another situation, it would mean something else.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Thought {
    /// The place of the last of them in the ledger.
    pub(super) through: i64,
}

/// Open watches over services that have neither signals nor a runbook. Such a watch waits for reports and can do nothing
/// about them, anybody with an event source's token can open one with every name they think of, and a thousand services
/// that nobody configured are no fleet. Services that are configured are watched however many there are.
pub(super) const MOST_WITHOUT_RULES: usize = 1_000;

/// What became of one piece of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventAnswer {
    /// It is on disk.
    Recorded {
        /// Its place in the ledger.
        sequence: i64,
    },
    /// It was said before.
    Duplicate {
        /// The place of the first time.
        sequence: i64,
    },
}

/// News as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredEvent {
    /// A deployment.
    Deploy { event: DeployEvent, raw: serde_json::Value, notes: Vec<String> },
    /// A report.
    Report { report: Report, raw: serde_json::Value, notes: Vec<String> },
}

/// The stream of messages that could not be read.
pub(crate) const DEAD_LETTER_STREAM: &str = "dead_letters";

fn dead_record(
    source: &SourceName,
    letter: &DeadLetter,
    now: jiff::Timestamp,
) -> Result<(EventKey, NewRecord), DispatchError> {
    // No event has such an identifier: each of theirs ends with what it is about. The same place of a topic that was
    // made again holds another letter.
    let key = EventKey {
        source: source.to_string(),
        id: format!("dead letter {} {}", letter.place, letter.mark()),
    };
    let body = serde_json::json!({ "source": source, "letter": letter });
    Ok((key, record(DEAD_LETTER_STREAM, "dead_letter", now, &body)?))
}

fn has_no_rules(rules: &RuleSet) -> bool {
    rules.signals.is_empty() && rules.runbook.is_none()
}

/// The record that says how far the news was thought about.
pub(super) fn thought(through: i64) -> Result<NewRecord, DispatchError> {
    record(THOUGHT_STREAM, "through", clock::now(), &Thought { through })
}

type Waiting = (SourceName, News, oneshot::Sender<Vec<EventAnswer>>);

impl Dispatcher {
    /// Records a batch in one commit, acknowledges, and then thinks about what was new.
    pub(super) async fn hear_events(&mut self, news: Vec<Waiting>) -> Result<(), DispatchError> {
        if news.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        let mut rows = Vec::new();
        let mut thoughts = Vec::new();
        let mut replies = Vec::new();
        for (source, news, reply) in news {
            replies.push((news.len(), reply));
            for Accepted { id, incoming, raw, notes } in news.accepted {
                let key = EventKey { source: source.to_string(), id };
                let (kind, stored) = match incoming.clone() {
                    Incoming::Deploy(event) => ("deploy", StoredEvent::Deploy { event, raw, notes }),
                    Incoming::Report(report) => ("report", StoredEvent::Report { report, raw, notes }),
                };
                rows.push((key, record(EVENT_STREAM, kind, now, &stored)?));
                thoughts.push(Some(incoming));
            }
            for letter in news.dead {
                tracing::warn!(%source, letter = %letter.words(), "a message cannot be read and was put aside");
                rows.push(dead_record(&source, &letter, now)?);
                thoughts.push(None);
            }
        }
        crash::point("before-news");
        let mut answers = Vec::with_capacity(rows.len());
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let part: Vec<_> = rows.by_ref().take(crate::ledger::MAX_BATCH).collect();
            answers.extend(self.parts.ledger.append_events(part).await?);
        }
        let newest = answers.iter().filter_map(|answer| match answer {
            Recorded::New(sequence) => Some(*sequence),
            Recorded::Duplicate { .. } => None,
        });
        let newest = newest.max();
        let fresh: Vec<bool> = answers.iter().map(|answer| matches!(answer, Recorded::New(_))).collect();
        let mut answers = answers.into_iter().map(|answer| match answer {
            Recorded::New(sequence) => EventAnswer::Recorded { sequence },
            Recorded::Duplicate { first_seen } => EventAnswer::Duplicate { sequence: first_seen },
        });
        for (count, reply) in replies {
            // Whoever sent it may have hung up; what they said stands.
            let _gone = reply.send(answers.by_ref().take(count).collect());
        }
        self.hold();
        for incoming in
            thoughts.into_iter().zip(fresh).filter_map(|(incoming, fresh)| incoming.filter(|_| fresh))
        {
            self.think_about(incoming).await?;
            self.release_if_many().await?;
        }
        let more = newest.map(thought).transpose()?;
        self.release(more.into_iter().collect()).await
    }

    /// What news means. Doing this twice for the same news changes nothing: a restart may do it again.
    pub(super) async fn think_about(&mut self, incoming: Incoming) -> Result<(), DispatchError> {
        match incoming {
            Incoming::Deploy(event) => self.deployed(event).await,
            Incoming::Report(report) => self.reported(report).await,
        }
    }

    async fn deployed(&mut self, event: DeployEvent) -> Result<(), DispatchError> {
        let now = clock::now();
        let id = WatchId::of(&event.source, &event.id, &event.service, &event.environment);
        let old = self.is_late(&event) || self.is_another_that_was_removed(&event);
        let open = self
            .open_watch(&event)
            .map(|watch| (watch.id.clone(), watch.deployment.release.clone(), watch.phase.clone()));
        if old || self.watches.contains_key(&id) {
            tracing::info!(service = %event.service, version = %event.release.version, "late or known news: recorded only");
            return Ok(());
        }
        let acting = matches!(
            open,
            Some((_, _, Phase::Executing | Phase::Verifying { .. } | Phase::Aftercare { .. }))
        );
        let turned_back = matches!(open, Some((_, _, Phase::Aftercare { .. })));
        match (event.kind, open) {
            // Our own rollback, told back to us by the pipeline, or somebody else's while ours runs: the plan's guards
            // and its verification see what is there.
            (DeployKind::RolledBack, Some(_)) if acting => Ok(()),
            (DeployKind::RolledBack | DeployKind::Removed, open) => {
                self.unwatched(event, id, open.map(|(open, _, _)| open)).await
            }
            // The same release announced by a second source.
            (DeployKind::Deployed, Some((_, release, _))) if release == event.release && !turned_back => {
                Ok(())
            }
            (DeployKind::Deployed, open) => self.open(event, id, open.map(|(open, _, _)| open), now).await,
        }
    }

    /// Whether something newer is known. By the clock, the end of a slow pipeline is newer than the release that was rolled
    /// out meanwhile: what a cluster has left already is late, too. Were it to come back, the cluster would tell.
    fn is_late(&self, event: &DeployEvent) -> bool {
        let (service, environment) = (&event.service, &event.environment);
        let Some(newest) = self.fleet.newest(service, environment) else { return false };
        let observers = &self.parts.observers;
        let only_told = observers.contains(&newest.source) && !observers.contains(&event.source);
        let left = || self.fleet.was_left(service, environment, &event.release.version);
        !event.is_newer_than(newest) || (only_told && event.kind == DeployKind::Deployed && left())
    }

    /// Whether something was taken away that does not run any more: the colour before this one is tidied up.
    fn is_another_that_was_removed(&self, event: &DeployEvent) -> bool {
        let running = self.fleet.running(&event.service, &event.environment);
        event.kind == DeployKind::Removed
            && event.release.version.as_str() != NO_VERSION
            && running.is_some_and(|running| *running != event.release)
    }

    /// Takes in what nobody shall watch, so that what comes next is known to come after it.
    async fn unwatched(
        &mut self,
        event: DeployEvent,
        id: WatchId,
        older: Option<WatchId>,
    ) -> Result<(), DispatchError> {
        if let Some(older) = older {
            self.tell(&older, Input::Superseded(id)).await?;
        }
        let (service, environment) = (&event.service, &event.environment);
        // A cluster tells of thousands at first, most of which nobody has configured.
        if self.fleet.newest(service, environment).is_none()
            && has_no_rules(&(self.parts.rules)(service, environment))
        {
            return Ok(());
        }
        let deployment = event.deployment(self.fleet.running(service, environment));
        self.fact(FleetEntry::Unwatched { deployment, kind: event.kind }).await
    }

    async fn open(
        &mut self,
        event: DeployEvent,
        id: WatchId,
        older: Option<WatchId>,
        now: jiff::Timestamp,
    ) -> Result<(), DispatchError> {
        let rules = (self.parts.rules)(&event.service, &event.environment);
        if Span::between(event.occurred_at, now) >= rules.watch.watch_for {
            tracing::info!(service = %event.service, version = %event.release.version, "too old to watch: recorded only");
            return self.unwatched(event, id, older).await;
        }
        if has_no_rules(&rules)
            && self.watches.values().filter(|watch| has_no_rules(&watch.rules)).count() >= MOST_WITHOUT_RULES
        {
            self.unwatched += 1;
            tracing::warn!(service = %event.service, refused = self.unwatched, "too many services without rules are watched: recorded only; configure this service to have it watched");
            return Ok(());
        }
        let situation = self.fleet.situation(&event.service, &event.environment, now);
        let (watch, effects) = Watch::open(&event, rules, &situation, now);
        tracing::info!(watch = %id, service = %event.service, version = %event.release.version, "watching");
        self.watches.insert(id.clone(), watch);
        self.perform(&id, effects, now).await?;
        if let Some(older) = older {
            self.tell(&older, Input::Superseded(id.clone())).await?;
        }
        for report in self.firing.since(&event) {
            self.tell(&id, Input::Reported(report)).await?;
        }
        Ok(())
    }

    fn open_watch(&self, event: &DeployEvent) -> Option<&Watch> {
        let same = |watch: &&Watch| {
            watch.deployment.service == event.service && watch.deployment.environment == event.environment
        };
        self.watches.values().filter(same).max_by_key(|watch| watch.deployment.at)
    }

    async fn reported(&mut self, report: Report) -> Result<(), DispatchError> {
        self.firing.hear(&report);
        let about = |watch: &&Watch| {
            watch.deployment.service == report.service
                && report
                    .environment
                    .as_ref()
                    .is_none_or(|environment| *environment == watch.deployment.environment)
        };
        let watches: Vec<WatchId> =
            self.watches.values().filter(about).map(|watch| watch.id.clone()).collect();
        if watches.is_empty() {
            tracing::info!(service = %report.service, what = %report.what, "no deployment of this service is watched: recorded only");
        }
        for watch in watches {
            self.tell(&watch, Input::Reported(report.clone())).await?;
        }
        Ok(())
    }
}
