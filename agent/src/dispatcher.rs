//! The one loop that owns the state.
//!
//! ```text
//!  API, timers ──▶ Message ─┐                       ┌─▶ Record   → ledger (durable, then on)
//!  collector ───▶ Collected ─┼─▶ Watch::on(input) ──┼─▶ Measure  → collector
//!  executor ────▶ outcome ───┘        (pure)        ├─▶ RunStep  → executor
//!                                                   └─▶ Notify   → notifiers
//! ```
//!
//! Ledger first, then think, then act: an event is acknowledged when it is on disk, thought about after, and what the
//! thinking wants done is on disk before it is begun. When the ledger fails, the loop ends, and with it the process.

mod events;
mod firing;
mod held;
mod people;
mod perform;
mod samples;
mod startup;
mod view;
mod weather;

#[cfg(test)]
mod aftercare_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod went_back_tests;

pub(crate) use events::DEAD_LETTER_STREAM;
pub use events::EventAnswer;
pub use people::{Person, PersonAsk};
pub use startup::read_watch;
pub use view::{IncidentSummary, PlanSummary, StepSummary, View, WatchSummary};

use crate::clock;
use crate::collector::{Collected, Collector};
use crate::executor::Executor;
use crate::inlet::News;
use crate::ledger::{Ledger, LedgerError};
use crate::notify::Notifiers;
use jiff::Timestamp;
use rules::action::StepOutcome;
use rules::fleet::{Fleet, Freeze, Situation};
use rules::ids::{EnvironmentName, PlanId, ServiceName, SourceName, WatchId};
use rules::rehearsal::Rehearsal;
use rules::ruleset::RuleSet;
use rules::storm::Weather;
use rules::watch::{BrokenLedger, Effect, Input, Watch};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Where the rules of a service come from.
pub type Rules = Arc<dyn Fn(&ServiceName, &EnvironmentName) -> RuleSet + Send + Sync>;

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// Nothing may happen that cannot be written.
    #[error("the ledger failed, and nothing may happen that cannot be written")]
    Ledger(#[from] LedgerError),
    /// A record could not be turned into its stored form, or back.
    #[error("cannot read or write the records of {what}")]
    Record {
        /// Of what.
        what: String,
        /// How.
        #[source]
        source: serde_json::Error,
    },
    /// A record of a form that this version does not know.
    #[error(
        "{what} has records of version {version}, this Turnback knows {known}: it was written by a newer one"
    )]
    FromTheFuture {
        /// Of what.
        what: String,
        /// Found.
        version: u16,
        /// Known.
        known: u16,
    },
    /// A stream with a name that no watch has.
    #[error("the ledger has a stream {stream:?} that is no watch's")]
    Name {
        /// The stream.
        stream: String,
        /// What is wrong with its name.
        #[source]
        source: rules::ids::BadName,
    },
    /// Records that do not add up.
    #[error(transparent)]
    Broken(#[from] BrokenLedger),
}

/// What comes from outside.
pub enum Message {
    /// News, and where to say that it is on disk.
    Events {
        /// Who said it.
        source: SourceName,
        /// What.
        news: News,
        /// Where to say what became of each: of what was understood first, then of the dead letters.
        reply: oneshot::Sender<Vec<EventAnswer>>,
    },
    /// A person wants something.
    Person {
        /// What.
        ask: PersonAsk,
        /// Who.
        by: Person,
        /// Where to say what became of it.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// Somebody wants to look. The closure runs between two inputs, so that it sees no half-done state.
    Look(Box<dyn FnOnce(View<'_>) + Send>),
}

/// What comes back from our own helpers.
pub(crate) enum Returned {
    /// From the collector.
    Collected(WatchId, Collected),
    /// From the executor: a plan was tried.
    Rehearsed(WatchId, Rehearsal),
    /// From the executor.
    StepEnded { watch: WatchId, plan: PlanId, step: usize, attempt: u32, outcome: StepOutcome },
}

/// Messages waiting to be heard. A full queue makes the API answer 503, and senders try again.
pub const MOST_WAITING: usize = 1_024;
/// Messages taken at once: their records share one commit.
const MOST_AT_ONCE: usize = 256;
/// Closed watches kept in memory for whoever asks; older ones are in the ledger.
const MOST_CLOSED: usize = 200;

/// Why no step begins while the agent ends.
const ENDING: &str = "the agent is ending; the plan goes on after its next start";

/// The parts that a dispatcher works with.
pub struct Parts {
    /// Where everything is written.
    pub ledger: Ledger,
    /// The rules of a service.
    pub rules: Rules,
    /// Freezes of the configuration: in force as long as they stand there, and not written down.
    pub freezes: Vec<Freeze>,
    /// Sources that look at what runs, and tell it again when it comes back. All others tell what they have done.
    pub observers: BTreeSet<SourceName>,
    /// Who measures.
    pub collector: Collector,
    /// Who acts.
    pub executor: Executor,
    /// Who tells.
    pub notifiers: Notifiers,
    /// Where the fleet's state is published for the executor.
    pub fleet: watch::Sender<Fleet>,
    /// The kill switch as the executor sees it.
    pub stopped: watch::Sender<bool>,
}

/// The loop's state.
pub struct Dispatcher {
    parts: Parts,
    fleet: Fleet,
    /// How all watched services are doing at once.
    weather: Weather,
    watches: BTreeMap<WatchId, Watch>,
    closed: VecDeque<Watch>,
    wakes: BTreeMap<WatchId, Timestamp>,
    /// Who is to look between its wakes, because samples came.
    looks: samples::SampleLooks,
    returned: mpsc::Receiver<Returned>,
    returning: mpsc::Sender<Returned>,
    /// Helpers at work; when the loop ends they end.
    helpers: tokio::task::JoinSet<()>,
    /// How many of them carry out a step.
    steps: usize,
    /// Asked to end: what runs is waited for, nothing new begins.
    ending: bool,
    /// When timers were last looked at: a clock that goes back behind this was set.
    timers_seen: Timestamp,
    /// What fires, for watches that are opened later.
    firing: firing::Firing,
    /// What is written and done at the end of a batch of news, while one is thought about.
    held: Option<held::Held>,
    /// Deployments that got no watch because there were too many.
    unwatched: u64,
}

impl Dispatcher {
    /// Hears until `shutdown` and the end of the steps that run then, or until the ledger fails. How long those steps are
    /// waited for is up to the caller: dropping this future ends them.
    pub async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), DispatchError> {
        self.resume().await?;
        let mut batch = Vec::new();
        let bell = self.parts.collector.bell().clone();
        loop {
            let sleep = self.until_next_wake();
            tokio::select! {
                biased;
                () = asked_to_end(&mut shutdown) => break,
                Some(returned) = self.returned.recv() => self.hear_returned(returned).await?,
                Some(ended) = self.helpers.join_next(), if !self.helpers.is_empty() => report_helper(ended),
                () = tokio::time::sleep(sleep) => self.hear_time().await?,
                rung = bell.heard() => self.hear_bell(&rung),
                count = messages.recv_many(&mut batch, MOST_AT_ONCE) => {
                    if count == 0 {
                        break;
                    }
                    self.hear_messages(&mut batch).await?;
                }
            }
        }
        self.see_steps_off().await
    }

    /// A step that is cut off may never be tried again (a one-shot one leaves its plan stuck), so a mere restart of the
    /// agent waits for it and writes its outcome down.
    async fn see_steps_off(&mut self) -> Result<(), DispatchError> {
        self.ending = true;
        while self.steps > 0 {
            tracing::info!(steps = self.steps, "waiting for steps to end");
            tokio::select! {
                biased;
                Some(returned) = self.returned.recv() => {
                    if matches!(returned, Returned::StepEnded { .. }) {
                        self.hear_returned(returned).await?;
                    }
                }
                Some(ended) = self.helpers.join_next() => report_helper(ended),
            }
        }
        Ok(())
    }

    async fn hear_returned(&mut self, returned: Returned) -> Result<(), DispatchError> {
        match returned {
            Returned::Collected(watch, Collected::Baseline(past)) => {
                self.tell(&watch, Input::Baseline(past)).await
            }
            Returned::Collected(watch, Collected::Samples(samples)) => {
                self.looks.ended(&watch);
                self.tell(&watch, Input::Samples(samples)).await
            }
            Returned::Rehearsed(watch, rehearsal) => self.tell(&watch, Input::Rehearsed(rehearsal)).await,
            Returned::StepEnded { watch, plan, step, attempt, outcome } => {
                self.steps = self.steps.saturating_sub(1);
                self.tell(&watch, Input::StepEnded { plan, step, attempt, outcome }).await
            }
        }
        .map(drop)
    }

    async fn hear_time(&mut self) -> Result<(), DispatchError> {
        let now = clock::now();
        // After a clock was set back by an hour, every timer would be an hour late, and nobody would look meanwhile.
        let set_back = now < self.timers_seen;
        self.timers_seen = now;
        let is_due = |at: Timestamp| set_back || at <= now;
        let due: Vec<WatchId> =
            self.wakes.iter().filter(|(_, at)| is_due(**at)).map(|(watch, _)| watch.clone()).collect();
        for watch in due {
            self.wakes.remove(&watch);
            self.tell(&watch, Input::Tick).await?;
        }
        self.look_at_samples(now, set_back).await
    }

    async fn hear_messages(&mut self, batch: &mut Vec<Message>) -> Result<(), DispatchError> {
        let mut news = Vec::new();
        for message in batch.drain(..) {
            match message {
                Message::Events { source, news: more, reply } => news.push((source, more, reply)),
                Message::Person { ask, by, reply } => {
                    // What was said before is heard before.
                    self.hear_events(std::mem::take(&mut news)).await?;
                    let answer = self.hear_person(ask, by).await?;
                    // Whoever asked may have left; what they asked for stands.
                    let _gone = reply.send(answer);
                }
                Message::Look(look) => {
                    self.hear_events(std::mem::take(&mut news)).await?;
                    look(self.view());
                }
            }
        }
        self.hear_events(news).await
    }

    /// Tells a watch something and does what it wants. The answer is what it says to whoever asked.
    async fn tell(
        &mut self,
        id: &WatchId,
        input: Input,
    ) -> Result<Option<Result<String, String>>, DispatchError> {
        self.tell_of(id, input, None).await
    }

    /// The same; if it wants to look, then at the signals of these sources only.
    async fn tell_of(
        &mut self,
        id: &WatchId,
        input: Input,
        sources: Option<&BTreeSet<String>>,
    ) -> Result<Option<Result<String, String>>, DispatchError> {
        let now = clock::now();
        let Some(watch) = self.watches.get(id) else { return Ok(None) };
        let situation = self.situation(watch, now);
        let Some(watch) = self.watches.get_mut(id) else { return Ok(None) };
        let mut effects = watch.on(input, &situation, now);
        for effect in &mut effects {
            if let (Effect::Measure { since }, Some(sources)) = (effect, sources) {
                let signals = &watch.rules.signals;
                since.retain(|(name, _)| signals.get(name).is_some_and(|one| sources.contains(&one.source)));
            }
        }
        let (environment, service) = (watch.deployment.environment.clone(), watch.deployment.service.clone());
        let answer = self.perform(id, effects, now).await?;
        self.see_weather(&environment, &service, now).await?;
        Ok(answer)
    }

    /// What a watch is told about everything else. The kill switch is the executor's: also the file counts, which no
    /// record tells of.
    fn situation(&self, watch: &Watch, now: Timestamp) -> Situation {
        let deployment = &watch.deployment;
        let known = self.fleet.situation(&deployment.service, &deployment.environment, now);
        let ending = || self.ending.then(|| ENDING.to_owned());
        Situation {
            silent_sources: self.parts.collector.silent(&watch.rules.signals),
            stopped: known.stopped.clone().or_else(|| self.parts.executor.switch()).or_else(ending),
            others_seen_until: self.weather.others_seen_until(
                &deployment.environment,
                &deployment.service,
                now,
            ),
            ..known
        }
    }

    fn until_next_wake(&self) -> Duration {
        // With nothing to wait for, the loop still turns now and then; a lost timer then costs a minute, not a watch.
        let next = self.wakes.values().copied().chain(self.looks.next()).min();
        next.map_or(Duration::from_secs(60), |at| {
            Duration::try_from(at.duration_since(clock::now()))
                .unwrap_or(Duration::ZERO)
                .min(Duration::from_secs(60))
        })
    }
}

async fn asked_to_end(shutdown: &mut watch::Receiver<bool>) {
    // The sender is gone when the application is: that is an end too.
    let _either_way = shutdown.wait_for(|down| *down).await;
}

fn report_helper(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        // A helper that panics leaves its step in flight: poisoned state is not worked on, the process ends and the
        // restart settles the step by its class.
        std::panic::resume_unwind(error.into_panic());
    }
}
