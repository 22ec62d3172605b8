//! Asks the signal sources what a watch wants to know, bounded and with deadlines, and hands back measurements. It judges
//! nothing: what cannot be had becomes an observation that says so.

use crate::clock;
use crate::signals::{Bell, SignalSource, measure, words};
use futures_util::future::join_all;
use jiff::Timestamp;
use rules::ids::{SignalName, WatchId};
use rules::past::{Levels, Past, Ranges, Windows};
use rules::ruleset::RuleSet;
use rules::series::{Observer, RawSeries, Window};
use rules::signal::{Measure, Measurement, Observation, Reading, Signal};
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
    /// The past, by signal.
    Baseline(BTreeMap<SignalName, Past>),
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
    /// Rung by sources that samples are pushed to.
    bell: Bell,
}

impl Collector {
    /// A collector over these sources. Starts nothing.
    pub fn new(sources: BTreeMap<String, Arc<dyn SignalSource>>) -> Self {
        let turns = sources.keys().map(|name| (name.clone(), Semaphore::new(MOST_QUESTIONS))).collect();
        let bell = Bell::default();
        sources.values().for_each(|source| source.give_bell(bell.clone()));
        Self { sources: Arc::new(sources), turns: Arc::new(turns), heard: Arc::default(), bell }
    }

    /// Rung when samples came by themselves.
    pub fn bell(&self) -> &Bell {
        &self.bell
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
        let (source, observer) = match self.prepare(signal, rules) {
            Ok(prepared) => prepared,
            Err(reason) => return Some(failed(signal, Window { from, to: now }, reason)),
        };
        let to = source.settle().before(now);
        let from = from.max(LONGEST_WINDOW.before(to));
        if to <= from {
            return None;
        }
        let _turn = self.turns.get(&signal.source)?.acquire().await.ok()?;
        let window = [Window { from, to }];
        let measured = measure(source.as_ref(), &observer, &window, rules.watch.max_sample_age).await;
        let measurement = measured.into_iter().next()?;
        tracing::debug!(%watch, signal = %signal.name, observation = ?measurement.observation, "measured");
        if !matches!(measurement.observation, Observation::Failed { .. }) {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(signal.source.clone());
        }
        Some(measurement)
    }

    /// Measures the past of every signal.
    pub async fn baseline(&self, rules: &RuleSet, ranges: &Ranges) -> Collected {
        let asked: Vec<_> = rules
            .signals
            .values()
            .map(|signal| async move { (signal.name.clone(), self.past(signal, ranges, rules).await) })
            .collect();
        Collected::Baseline(join_all(asked).await.into_iter().collect())
    }

    async fn past(&self, signal: &Signal, ranges: &Ranges, rules: &RuleSet) -> Past {
        let nothing = |reason| Past::trailing(vec![failed(signal, ranges.trailing.whole(), reason)]);
        let (source, observer) = match self.prepare(signal, rules) {
            Ok(prepared) => prepared,
            Err(reason) => return nothing(reason),
        };
        // A source that is there has its turns, and they are never closed.
        let Some(turns) = self.turns.get(&signal.source) else { return Past::default() };
        let Ok(_turn) = turns.acquire().await else { return Past::default() };
        let most = MOST_BASELINE_NUMBERS / rules.signals.len().max(1);
        let asked =
            Asked { source: source.as_ref(), observer: &observer, oldest: rules.watch.max_sample_age };
        let past = match signal.measure {
            Measure::Gauge { .. } => asked.levels(ranges, most).await,
            Measure::Proportion { .. } | Measure::Latency { .. } | Measure::Availability { .. } => {
                asked.windows(ranges, most).await
            }
        };
        past.unwrap_or_else(nothing)
    }

    fn prepare(
        &self,
        signal: &Signal,
        rules: &RuleSet,
    ) -> Result<(&Arc<dyn SignalSource>, Observer), String> {
        let source = self.sources.get(&signal.source);
        let source = source.ok_or_else(|| format!("there is no signal source called {}", signal.source))?;
        let (compare, instance) = (rules.compare.as_ref(), rules.watch.instance.as_deref());
        let observer = Observer::comparing(signal, compare, instance);
        Ok((source, observer.map_err(|problem| problem.to_string())?))
    }
}

/// The past of one signal, being asked for.
struct Asked<'a> {
    source: &'a dyn SignalSource,
    observer: &'a Observer,
    /// How old the newest sample of a short window may be.
    oldest: Span,
}

impl Asked<'_> {
    /// The hours before, the last minutes and the earlier days of something that is counted, in at most so many numbers.
    async fn windows(&self, ranges: &Ranges, most: usize) -> Result<Past, String> {
        let Ranges { trailing, recent, .. } = *ranges;
        let whole = Window { from: trailing.from.min(recent.from), to: trailing.to.max(recent.to) };
        let series = self.read(whole).await?;
        // How many targets ought to have reported in the past is not asked: pods come and go, and a window that a target
        // missed is still a window of the others.
        let trailing = self.observed(&series, trailing);
        // Windows before the first data are not holes in anything: nothing was recorded yet.
        let first = trailing.iter().position(|window| window.observation.reading().is_some());
        let trailing = trailing[first.unwrap_or(trailing.len().saturating_sub(1))..].to_vec();
        let mut seasonal = Vec::new();
        for day in self.days(ranges) {
            let series = self.read(day.whole()).await.unwrap_or_else(|reason| self.without(&reason));
            let windows = self.observed(&series, day);
            seasonal.extend(windows.into_iter().filter(|window| window.observation.reading().is_some()));
        }
        // What is nearest in time says most: of what does not fit, the oldest is left out first.
        seasonal.reverse();
        Ok(Past {
            trailing: newest_that_fit(trailing, most / 2),
            recent: newest_that_fit(self.observed(&series, recent), most / 4),
            seasonal: newest_that_fit(seasonal, most / 4),
            levels: None,
        })
    }

    /// Every level of a gauge.
    async fn levels(&self, ranges: &Ranges, most: usize) -> Result<Past, String> {
        let levels = ranges.levels;
        let series = self.read(levels.whole()).await?;
        let mut values = self.each_level(&series, levels);
        values.drain(..values.len().saturating_sub(most / 2));
        let mut seasonal = Vec::new();
        for day in self.days(ranges) {
            let day = Windows { length: ranges.seasonal_step, ..day };
            let series = self.read(day.whole()).await.unwrap_or_else(|reason| self.without(&reason));
            let values = day.each().zip(self.each_level(&series, day));
            seasonal.extend(values.filter_map(|(window, value)| Some((window.to, value?))));
        }
        // A time and a number each.
        seasonal.truncate(most / 4);
        let levels = Levels { step: levels.length, values, seasonal };
        Ok(Past { levels: Some(levels), ..Past::default() })
    }

    /// The earlier days that this source can know of.
    fn days(&self, ranges: &Ranges) -> Vec<Windows> {
        if self.source.history() { ranges.seasonal.clone() } else { Vec::new() }
    }

    async fn read(&self, whole: Window) -> Result<Vec<RawSeries>, String> {
        let selector = self.observer.signal().measure.selector();
        self.source.read(selector, whole.with_lookback()).await.map_err(|error| words(&error))
    }

    /// A day that cannot be had is a day less to compare with, and no more than that.
    fn without(&self, reason: &str) -> Vec<RawSeries> {
        tracing::warn!(signal = %self.observer.signal().name, %reason, "an earlier day is not known");
        Vec::new()
    }

    fn observed(&self, series: &[RawSeries], windows: Windows) -> Vec<Measurement> {
        let oldest = self.oldest.max(windows.length);
        windows.each().map(|window| self.observer.past(series, window, oldest)).collect()
    }

    fn each_level(&self, series: &[RawSeries], windows: Windows) -> Vec<Option<f64>> {
        let level = |measurement: Measurement| match measurement.observation.reading() {
            Some(Reading::Level { value }) => Some(*value),
            _ => None,
        };
        self.observed(series, windows).into_iter().map(level).collect()
    }
}

/// Numbers in the baseline of one watch, all signals together. It becomes one record of the ledger, which takes a MiB, and a
/// number takes at most some twenty bytes of it.
const MOST_BASELINE_NUMBERS: usize = 30_000;
/// Numbers that a window takes besides its buckets: its times and names.
const NUMBERS_OF_A_WINDOW: usize = 12;

/// The newest windows of a baseline that together have at most `most` numbers; always the newest one. A histogram with
/// hundreds of buckets then has a shorter past, instead of a record that the ledger refuses.
fn newest_that_fit(windows: Vec<Measurement>, most: usize) -> Vec<Measurement> {
    let mut left = most;
    let fit = windows.iter().rev().take_while(|window| {
        let readings = window.observation.reading().into_iter().chain(window.instances.values());
        let fits = left.checked_sub(readings.map(Reading::numbers).sum::<usize>() + NUMBERS_OF_A_WINDOW);
        left = fits.unwrap_or(0);
        fits.is_some()
    });
    let keep = fit.count().max(1).min(windows.len());
    windows[windows.len() - keep..].to_vec()
}

fn failed(signal: &Signal, window: Window, reason: String) -> Measurement {
    Measurement::plain(signal.name.clone(), window.from, window.to, Observation::Failed { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(second: i64, buckets: usize) -> Measurement {
        let at = |second| Timestamp::from_second(second).unwrap();
        let reading =
            Reading::Buckets { bounds: vec![0.1; buckets - 1], counts: vec![123_456.789_012; buckets] };
        let observation = Observation::Seen { reading, newest: at(second + 1) };
        Measurement::plain(SignalName::new("latency").unwrap(), at(second), at(second + 1), observation)
    }

    #[test]
    fn the_longest_baseline_fits_into_one_record() {
        for (signals, windows, buckets) in [(1, 288, 1_000), (40, 288, 200), (3, 24, 12), (200, 288, 20)] {
            let past: Vec<Measurement> = (0..windows).map(|second| window(second, buckets)).collect();
            let kept = newest_that_fit(past.clone(), MOST_BASELINE_NUMBERS / signals);
            assert_eq!(kept.last(), past.last(), "the newest is always there");
            let bytes = serde_json::to_string(&kept).unwrap().len() * signals;
            // Beyond some hundred signals even one window each is too much, and the ledger says so.
            assert!(bytes < crate::ledger::MAX_BODY || kept.len() == 1, "{signals} {buckets}: {bytes}");
        }
        let usual: Vec<Measurement> = (0..24).map(|second| window(second, 12)).collect();
        assert_eq!(
            newest_that_fit(usual.clone(), MOST_BASELINE_NUMBERS / 3),
            usual,
            "a usual one is kept whole"
        );
    }
}
