//! Asks the signal sources what a watch wants to know, bounded and with deadlines, and hands back measurements. It judges
//! nothing: what cannot be had becomes an observation that says so.

use crate::clock;
use crate::signals::{SignalSource, measure, words};
use futures_util::future::join_all;
use jiff::Timestamp;
use rules::ids::{SignalName, WatchId};
use rules::ruleset::RuleSet;
use rules::series::{Observer, Window};
use rules::signal::{Measurement, Observation, Signal};
use rules::units::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Questions to one source at the same time: enough for a hundred services looked at every ten seconds, and below what a
/// Prometheus takes at once (20 by default). Each source has its own: one that hangs must not take the turns of others.
const MOST_QUESTIONS: usize = 16;

/// A window never reaches further back than this: a counter's increment over a longer hole says nothing about now.
const LONGEST_WINDOW: Span = Span::from_minutes(10);

/// What the collector brings.
#[derive(Debug)]
pub enum Collected {
    /// Windows of the past, oldest first.
    Baseline(BTreeMap<SignalName, Vec<Measurement>>),
    /// One window for each signal that had news.
    Samples(Vec<Measurement>),
}

/// The sources, and what is known of them.
#[derive(Clone)]
pub struct Collector {
    sources: Arc<BTreeMap<String, Arc<dyn SignalSource>>>,
    turns: Arc<BTreeMap<String, Semaphore>>,
    /// Sources that have answered since the agent started.
    heard: Arc<Mutex<BTreeSet<String>>>,
}

impl Collector {
    /// A collector over these sources. Starts nothing.
    pub fn new(sources: BTreeMap<String, Arc<dyn SignalSource>>) -> Self {
        let turns = sources.keys().map(|name| (name.clone(), Semaphore::new(MOST_QUESTIONS))).collect();
        Self { sources: Arc::new(sources), turns: Arc::new(turns), heard: Arc::default() }
    }

    /// The sources by name.
    pub fn sources(&self) -> &BTreeMap<String, Arc<dyn SignalSource>> {
        &self.sources
    }

    /// Sources of these signals that have not answered since the agent started.
    pub fn silent(&self, signals: &BTreeMap<SignalName, Signal>) -> Vec<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: BTreeSet<&String> = signals.values().map(|signal| &signal.source).collect();
        wanted.into_iter().filter(|source| !heard.contains(*source)).cloned().collect()
    }

    /// Measures now: each signal from the end of its last window to as far as its source is complete.
    pub async fn samples(
        &self,
        watch: &WatchId,
        rules: &RuleSet,
        since: Vec<(SignalName, Timestamp)>,
    ) -> Collected {
        let now = clock::now();
        let asked = since.into_iter().filter_map(|(name, from)| Some((rules.signals.get(&name)?, from)));
        let asked: Vec<_> = asked.map(|(signal, from)| self.one(watch, signal, from, now, rules)).collect();
        Collected::Samples(join_all(asked).await.into_iter().flatten().collect())
    }

    async fn one(
        &self,
        watch: &WatchId,
        signal: &Signal,
        from: Timestamp,
        now: Timestamp,
        rules: &RuleSet,
    ) -> Option<Measurement> {
        let (source, observer) = match self.prepare(signal) {
            Ok(prepared) => prepared,
            Err(reason) => return Some(failed(signal, Window { from, to: now }, reason)),
        };
        let to = source.settle().before(now);
        let from = from.max(LONGEST_WINDOW.before(to));
        if to <= from {
            return None;
        }
        let _turn = self.turns.get(&signal.source)?.acquire().await.ok()?;
        let measurement =
            measure(source.as_ref(), &observer, Window { from, to }, rules.watch.max_sample_age).await;
        tracing::debug!(%watch, signal = %signal.name, observation = ?measurement.observation, "measured");
        if !matches!(measurement.observation, Observation::Failed { .. }) {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(signal.source.clone());
        }
        Some(measurement)
    }

    /// Measures the past: windows of length `window` from `from` to `to`, from one reading of each signal.
    pub async fn baseline(&self, rules: &RuleSet, from: Timestamp, to: Timestamp, window: Span) -> Collected {
        let asked: Vec<_> =
            rules
                .signals
                .values()
                .map(|signal| async move {
                    (signal.name.clone(), self.past(signal, from, to, window, rules).await)
                })
                .collect();
        Collected::Baseline(join_all(asked).await.into_iter().collect())
    }

    async fn past(
        &self,
        signal: &Signal,
        from: Timestamp,
        to: Timestamp,
        window: Span,
        rules: &RuleSet,
    ) -> Vec<Measurement> {
        let whole = Window { from, to };
        let (source, observer) = match self.prepare(signal) {
            Ok(prepared) => prepared,
            Err(reason) => return vec![failed(signal, whole, reason)],
        };
        // A source that is there has its turns, and they are never closed.
        let Some(turns) = self.turns.get(&signal.source) else { return Vec::new() };
        let Ok(_turn) = turns.acquire().await else { return Vec::new() };
        let range = whole.with_lookback();
        let series = match source.read(signal.measure.selector(), range).await {
            Ok(series) => series,
            Err(error) => return vec![failed(signal, whole, words(&error))],
        };
        // How many targets ought to have reported in the past is not asked: pods come and go, and a window that a target
        // missed is still a window of the others.
        let mut windows = Vec::new();
        let mut begin = from;
        while begin < to {
            let end = window.after(begin).min(to);
            let part = Window { from: begin, to: end };
            let observation = observer.observe(&series, None, part, rules.watch.max_sample_age.max(window));
            windows.push(Measurement { signal: signal.name.clone(), from: begin, to: end, observation });
            begin = end;
        }
        // Windows before the first data are not holes in anything: nothing was recorded yet.
        let first = windows.iter().position(|window| window.observation.reading().is_some());
        windows.split_off(first.unwrap_or(windows.len().saturating_sub(1)))
    }

    fn prepare(&self, signal: &Signal) -> Result<(&Arc<dyn SignalSource>, Observer), String> {
        let source = self.sources.get(&signal.source);
        let source = source.ok_or_else(|| format!("there is no signal source called {}", signal.source))?;
        let observer = Observer::new(signal).map_err(|problem| problem.to_string())?;
        Ok((source, observer))
    }
}

fn failed(signal: &Signal, window: Window, reason: String) -> Measurement {
    let observation = Observation::Failed { reason };
    Measurement { signal: signal.name.clone(), from: window.from, to: window.to, observation }
}
