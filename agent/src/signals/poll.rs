//! What scrapes and probes share: a loop per target, and the state they fill.

use super::ring::{Appended, Labels, Ring, RingLimits};
use super::{SourceError, SourceHealth, check_selector};
use jiff::Timestamp;
use reqwest::Url;
use rules::series::{RawSeries, Sample, Window};
use rules::units::Span;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Where a source asks what time it is: `clock::now`, or a clock of a test.
pub type Clock = fn() -> Timestamp;

/// The most targets of one source: more belong to a Prometheus server.
pub(super) const MOST_TARGETS: usize = 200;

/// A service may give its samples times of its own; later than this from now they are wrong. Prometheus takes ten
/// minutes, too.
pub(super) const MOST_AHEAD: Span = Span::from_minutes(10);

/// Something that asks targets again and again.
#[async_trait::async_trait]
pub(super) trait Poll: Send + Sync + 'static {
    /// How many targets there are.
    fn targets(&self) -> usize;
    /// How often each of them is asked.
    fn interval(&self) -> Span;
    /// Asks one. Must be safe to drop at any time.
    async fn poll(&self, target: usize, now: Timestamp);
}

/// Asks all targets in their rhythm until `shutdown` comes. The targets are spread over the interval, so that they
/// are not all asked in the same instant.
pub(super) async fn run<P: Poll>(poll: Arc<P>, clock: Clock, shutdown: impl Future<Output = ()> + Send) {
    let mut loops = JoinSet::new();
    let count = u32::try_from(poll.targets().max(1)).unwrap_or(u32::MAX);
    for target in 0..poll.targets() {
        let poll = Arc::clone(&poll);
        let period = poll.interval().duration();
        let offset = period / count * u32::try_from(target).unwrap_or(0);
        loops.spawn(async move {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + offset, period);
            // After a pause one question is enough; making up for missed ones would ask them all at once.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                poll.poll(target, clock()).await;
            }
        });
    }
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(Err(error)) = loops.join_next() => {
                tracing::error!(%error, "a target is no longer asked: its loop ended in a defect of the agent");
            }
        }
    }
}

/// The samples of all targets, and how it went.
pub(super) struct Gathered {
    what: String,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) ring: Ring,
    pub(super) health: SourceHealth,
    /// Per target, the series of its last answer.
    alive: Vec<BTreeSet<Labels>>,
}

/// What could not be kept of one answer.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Losses {
    full: usize,
    disorder: usize,
}

impl Losses {
    /// In words, if there are any.
    pub(super) fn words(self) -> Option<String> {
        match (self.full, self.disorder) {
            (0, 0) => None,
            (full, 0) => {
                Some(format!("{full} samples of new series were not kept: there are too many series"))
            }
            (0, disorder) => {
                Some(format!("{disorder} samples were out of order or there twice, and not kept"))
            }
            (full, disorder) => {
                Some(format!("{full} samples of new series and {disorder} out of order were not kept"))
            }
        }
    }
}

impl Gathered {
    pub(super) fn new(what: String, targets: usize, limits: RingLimits) -> Self {
        let alive = vec![BTreeSet::new(); targets];
        let state = State { ring: Ring::new(limits), health: SourceHealth::default(), alive };
        Self { what, state: Mutex::new(state) }
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, selector: &str, range: Window) -> Result<Vec<RawSeries>, SourceError> {
        let selector = check_selector(selector)?;
        self.lock().ring.read(&self.what, &selector, range)
    }

    pub(super) fn health(&self) -> SourceHealth {
        let state = self.lock();
        SourceHealth { series: state.ring.len(), ..state.health.clone() }
    }

    /// Notes that a target gave an answer, or why it did not.
    pub(super) fn note(&self, now: Timestamp, outcome: Result<(), String>) {
        let mut state = self.lock();
        match outcome {
            Ok(()) => state.health.last_success = Some(now),
            Err(reason) => {
                tracing::warn!(source = %self.what, %reason, "a target gave no sample");
                state.health.failed(now, reason);
            }
        }
    }
}

impl State {
    /// Puts one target's answer into the ring. Series of its last answer that are missing now have ended, as
    /// Prometheus has it; without that, the last value of a pod that is gone would stay.
    pub(super) fn answer(&mut self, target: usize, now: Timestamp, samples: Vec<(Labels, Sample)>) -> Losses {
        let mut losses = Losses::default();
        let mut alive = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for (labels, sample) in samples {
            let twice = !seen.insert(labels.clone());
            match self.ring.append(&labels, sample) {
                Appended::Kept | Appended::Known if twice => losses.disorder += 1,
                Appended::Kept | Appended::Known => {}
                Appended::Full => losses.full += 1,
                Appended::Disorder => losses.disorder += 1,
            }
            // A series with times of its own may lag; it is left to age.
            if sample.at == now {
                alive.insert(labels);
            }
        }
        if let Some(before) = self.alive.get_mut(target) {
            for labels in before.difference(&alive) {
                self.ring.end(labels, now);
            }
            *before = alive;
        }
        self.ring.prune(now);
        losses
    }
}

/// `host:port`, as Prometheus fills `instance`.
pub(super) fn instance(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
}

/// Labels from pairs.
pub(super) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// What is wrong with the keys that both kinds of configuration have.
pub(super) fn problems(targets: &[String], interval: Span, timeout: Span) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut add = |key: String, message: String| problems.push((key, message));
    if targets.is_empty() {
        add("targets".into(), "there is none; name at least one address".into());
    }
    if targets.len() > MOST_TARGETS {
        add("targets".into(), format!("there are {}, at most {MOST_TARGETS} are asked", targets.len()));
    }
    let mut seen = BTreeSet::new();
    for (index, target) in targets.iter().enumerate() {
        if let Err(message) = super::http::check_url(target) {
            add(format!("targets[{index}]"), message);
        }
        if !seen.insert(target) {
            add(format!("targets[{index}]"), format!("{target:?} is there twice"));
        }
    }
    // Samples more than `LOOKBACK` apart are not differenced; two minutes leave room for a missed one.
    if !(Span::from_seconds(1)..=Span::from_minutes(2)).contains(&interval) {
        add("interval".into(), format!("{interval} is not between 1s and 2m"));
    }
    if timeout < Span::from_milliseconds(100) || timeout > interval {
        add("timeout".into(), format!("{timeout} is not between 100ms and the interval of {interval}"));
    }
    problems
}

/// The error for a configuration that has problems.
pub(super) fn first_problem(name: &str, problems: Vec<(String, String)>) -> Result<(), SourceError> {
    match problems.into_iter().next() {
        None => Ok(()),
        Some((key, message)) => Err(SourceError::Setup {
            what: format!("source {name:?}"),
            problem: format!("`{key}`: {message}"),
            cause: None,
        }),
    }
}
