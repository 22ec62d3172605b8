//! From raw samples to an observation.
//!
//! Sources hand over what they stored, sample by sample; the arithmetic happens here, so that every source is judged
//! by the same rules and the rules can be tested without one. Three things follow from that choice:
//!
//! - Counters are differenced per series before anything is summed. A pod that restarts is seen as a reset of its own
//!   series; summed first, it would look like negative traffic of the whole service.
//! - An increment belongs to the window in which its later sample lies. Windows that partition time therefore neither
//!   count an event twice nor miss one, whatever the scrape interval is.
//! - Whatever cannot be read without guessing (NaN, time that runs backwards, half a histogram) makes the observation
//!   `Failed` with words. It never becomes a number.
//!
//! Latency is read from classic buckets (`histogram`, one series per bucket) or from native histograms (`native`, all
//! buckets in one sample); which of them it is shows in the data.
//!
//! Counter values above 2^53 lose single events, because they arrive as `f64`. At 10,000 events per second a counter
//! gets there after 28,000 years.

mod arms;
mod counter;
mod coverage;
mod histogram;
#[cfg(test)]
mod malformed;
mod native;
#[cfg(test)]
mod tests;

pub use native::{HistogramSample, NativeBucket};

use crate::compare::Compare;
use crate::signal::{Measure, Measurement, Observation, Reading, Signal};
use crate::units::Span;
use arms::Split;
use jiff::Timestamp;
use regex::{Regex, RegexBuilder};
use std::collections::{BTreeMap, BTreeSet};

/// How far before a window the samples must reach back, so that the window's first increment has its predecessor.
/// Two samples further apart than this are not differenced: what happened in such a hole is not known. Five minutes
/// is what Prometheus, too, takes for the age at which a series is over.
pub const LOOKBACK: Span = Span::from_minutes(5);

/// The bits of the NaN with which Prometheus says "this series has ended".
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The largest compiled regular expression, in bytes: hundreds of alternatives fit, a bomb does not.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// One stored value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When it was taken.
    pub at: Timestamp,
    /// The value as it was stored: NaN, infinities and the stale marker included.
    pub value: f64,
}

impl Sample {
    /// The sample that says "the series ended here".
    pub fn stale(at: Timestamp) -> Self {
        Self { at, value: f64::from_bits(STALE_BITS) }
    }
    /// Whether this is the stale marker (and not any other NaN).
    pub fn is_stale(&self) -> bool {
        self.value.to_bits() == STALE_BITS
    }
}

/// A series as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct RawSeries {
    /// Its labels, `__name__` included where the source tells it. No two series of one answer have the same.
    pub labels: BTreeMap<String, String>,
    /// Its samples, ascending in time.
    pub samples: Vec<Sample>,
    /// Its samples that are native histograms, ascending in time. A series may have both: its type can change.
    pub histograms: Vec<HistogramSample>,
}

impl RawSeries {
    /// A series of plain values.
    pub fn new(labels: BTreeMap<String, String>, samples: Vec<Sample>) -> Self {
        Self { labels, samples, histograms: Vec::new() }
    }
    /// A series of native histograms.
    pub fn native(labels: BTreeMap<String, String>, histograms: Vec<HistogramSample>) -> Self {
        Self { labels, samples: Vec::new(), histograms }
    }
}

/// A window of time, `(from, to]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The beginning; a sample at this very time is outside.
    pub from: Timestamp,
    /// The end; a sample at this very time is inside.
    pub to: Timestamp,
}

impl Window {
    /// Whether a time lies inside.
    pub fn contains(&self, at: Timestamp) -> bool {
        at > self.from && at <= self.to
    }
    /// What must be read to observe this window: the same, begun `LOOKBACK` (and a millisecond) earlier.
    pub fn with_lookback(&self) -> Self {
        let reach = Span::from_milliseconds(LOOKBACK.milliseconds() + 1);
        Self { from: reach.before(self.from), to: self.to }
    }
    /// How long it is.
    pub fn length(&self) -> Span {
        Span::between(self.from, self.to)
    }
}

/// Why a signal cannot be observed as it is written. Found when the configuration is read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadSignal {
    /// `bad` names no label, so every event would be bad.
    #[error("`bad` names no label; name at least one, for example code = \"5..\"")]
    NothingIsBad,
    /// A regular expression does not compile.
    #[error("`{key}` is not a regular expression: {pattern:?}; write for example \"5..\"")]
    Pattern {
        /// The key: `bad.` or `canary.` and the label.
        key: String,
        /// As it was written.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: regex::Error,
    },
    /// The quantile is not between 0 and 1.
    #[error("`quantile` is {0}; it must lie between 0 and 1, for example 0.95")]
    Quantile(f64),
}

/// Why an observation has no reading; becomes `Absent` or `Failed`.
#[derive(Debug, PartialEq)]
enum Hole {
    Absent(String),
    Failed(String),
}

impl From<Hole> for Observation {
    fn from(hole: Hole) -> Self {
        match hole {
            Hole::Absent(reason) => Observation::Absent { reason },
            Hole::Failed(reason) => Observation::Failed { reason },
        }
    }
}

fn failed<T>(reason: impl Into<String>) -> Result<T, Hole> {
    Err(Hole::Failed(reason.into()))
}

/// A signal, checked, its regular expressions compiled once.
#[derive(Debug, Clone)]
pub struct Observer {
    signal: Signal,
    bad: Vec<(String, Regex)>,
    split: Split,
}

/// The past of which arm is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The release under watch; everything if nothing is compared.
    Canary,
    /// What it is compared with: its past is what the canary's present is measured by. Everything if nothing is compared.
    Control,
}

impl Observer {
    /// Checks a signal and prepares to observe all of its series together.
    pub fn new(signal: &Signal) -> Result<Self, BadSignal> {
        Self::comparing(signal, None, None)
    }

    /// The same, with canary and control told apart, and instances by the label `instance` (`pod` or `instance` if none
    /// is named).
    pub fn comparing(
        signal: &Signal,
        compare: Option<&Compare>,
        instance: Option<&str>,
    ) -> Result<Self, BadSignal> {
        let mut bad = Vec::new();
        match &signal.measure {
            Measure::Proportion { bad: patterns, .. } => {
                if patterns.is_empty() {
                    return Err(BadSignal::NothingIsBad);
                }
                for (label, pattern) in patterns {
                    bad.push((label.clone(), compile(&format!("bad.{label}"), pattern)?));
                }
            }
            Measure::Latency { quantile, .. } => {
                if !(*quantile > 0.0 && *quantile < 1.0) {
                    return Err(BadSignal::Quantile(*quantile));
                }
            }
            Measure::Availability { .. } | Measure::Gauge { .. } => {}
        }
        let compare = compare.filter(|_| signal.compare);
        Ok(Self { signal: signal.clone(), bad, split: Split::new(compare, instance)? })
    }

    /// The signal that is observed.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// The series to read for coverage. `None` for availability: there a target that is down *is* the data, and a
    /// service whose every pod is down must not turn into a blind spot.
    pub fn targets(&self) -> Option<&str> {
        match self.signal.measure {
            Measure::Availability { .. } => None,
            Measure::Proportion { .. } | Measure::Latency { .. } | Measure::Gauge { .. } => {
                self.signal.targets.as_deref()
            }
        }
    }

    /// What `series` (read over `window.with_lookback()`; more does no harm) say about `window`. `targets` are the
    /// series of 0 and 1 named by `Observer::targets`. Samples older than `max_age` before the window's end are not
    /// news. The order of the series does not matter; the order of a series' samples does: time that stands still or
    /// runs backwards is an error and not sorted away, because it means that two series were mixed into one.
    pub fn observe(
        &self,
        series: &[RawSeries],
        targets: Option<&[RawSeries]>,
        window: Window,
        max_age: Span,
    ) -> Observation {
        let all = match scope(series, window) {
            Ok(all) => all,
            Err(hole) => return hole.into(),
        };
        self.of(&all.iter().collect::<Vec<_>>(), targets, window, max_age)
    }

    /// As [`Observer::observe`], with canary, control and the canary's instances told apart. Without a comparison the
    /// whole service is the "canary", and there is no control.
    pub fn measure(
        &self,
        series: &[RawSeries],
        targets: Option<&[RawSeries]>,
        window: Window,
        max_age: Span,
    ) -> Measurement {
        self.measure_arm(Arm::Canary, series, targets, window, max_age)
    }

    /// The past of an arm: what it did, and its instances.
    pub fn past(&self, series: &[RawSeries], window: Window, max_age: Span) -> Measurement {
        let mut past = self.measure_arm(Arm::Control, series, None, window, max_age);
        past.control = None;
        past
    }

    fn measure_arm(
        &self,
        arm: Arm,
        series: &[RawSeries],
        targets: Option<&[RawSeries]>,
        window: Window,
        max_age: Span,
    ) -> Measurement {
        let measurement =
            |observation| Measurement::plain(self.signal.name.clone(), window.from, window.to, observation);
        let all = match scope(series, window) {
            Ok(all) => all,
            Err(hole) => return measurement(hole.into()),
        };
        // Whether a process is up, and how long a queue is, is often told without the release's label: then it is told of
        // the whole service.
        let whole = matches!(self.signal.measure, Measure::Availability { .. } | Measure::Gauge { .. });
        let compares = self.split.compares() && (!whole || self.split.applies(&all));
        if !compares {
            let everything: Vec<&Cut<'_>> = all.iter().collect();
            let observation = self.of(&everything, targets, window, max_age);
            let instances = self.by_instance(&everything, window, max_age);
            return Measurement { instances, ..measurement(observation) };
        }
        let arms = match self.split.arms(&all) {
            Ok(arms) => arms,
            Err(hole) => return measurement(hole.into()),
        };
        let (own, other) = match arm {
            Arm::Canary => (arms.canary, arms.control),
            Arm::Control => (arms.control, arms.canary),
        };
        let observation = self.of(&own, targets, window, max_age);
        let control = Some(self.of(&other, None, window, max_age));
        let instances = self.by_instance(&own, window, max_age);
        Measurement { control, instances, ..measurement(observation) }
    }

    /// What these series say, and whether enough of the targets report.
    fn of(
        &self,
        series: &[&Cut<'_>],
        targets: Option<&[RawSeries]>,
        window: Window,
        max_age: Span,
    ) -> Observation {
        let (reading, newest) = match self.read(series, window, max_age) {
            Ok(seen) => seen,
            Err(hole) => return hole.into(),
        };
        let coverage = match targets {
            Some(targets) if self.targets().is_some() => coverage::coverage(targets, window, max_age),
            Some(_) | None => Ok(None),
        };
        match coverage {
            Ok(None) => Observation::Seen { reading, newest },
            Ok(Some((reporting, expected))) => Observation::Partial { reporting, expected },
            Err(hole) => hole.into(),
        }
    }

    fn read(&self, series: &[&Cut<'_>], window: Window, max_age: Span) -> Result<(Reading, Timestamp), Hole> {
        let newest = freshness(series, window, max_age)?;
        if !matches!(self.signal.measure, Measure::Latency { .. }) {
            native::refuse(series, self.signal.measure.kind())?;
        }
        Ok((self.reading(series, window, max_age)?, newest))
    }

    fn reading(&self, series: &[&Cut<'_>], window: Window, max_age: Span) -> Result<Reading, Hole> {
        Ok(match &self.signal.measure {
            Measure::Proportion { .. } => counter::proportion(series, &self.bad, window)?,
            Measure::Latency { .. } => histogram::latency(series, window)?,
            Measure::Availability { .. } => coverage::availability(series, window)?,
            Measure::Gauge { .. } => level(series, window, max_age)?,
        })
    }

    /// What each instance says, where that is of use: of counts, one bad instance can be told from a bad release. One that
    /// has ended since counts as well: what it did is in the whole.
    fn by_instance(&self, series: &[&Cut<'_>], window: Window, max_age: Span) -> arms::ByInstance {
        let most = match self.signal.measure {
            Measure::Proportion { .. } => MOST_COUNTING_INSTANCES,
            Measure::Latency { .. } => MOST_BUCKETS_BY_INSTANCE,
            Measure::Availability { .. } | Measure::Gauge { .. } => return BTreeMap::new(),
        };
        let instances = self.split.instances(series, most).into_iter();
        let read = |(name, series): (String, Vec<&Cut<'_>>)| {
            Some((name, self.reading(&series, window, max_age).ok()?))
        };
        instances.filter_map(read).filter(|(_, reading)| !reading.is_empty()).collect()
    }
}

/// Instances that are kept apart where each is two numbers …
const MOST_COUNTING_INSTANCES: usize = 32;
/// … and where each is a histogram, of which every look would be written down.
const MOST_BUCKETS_BY_INSTANCE: usize = 8;

/// Observes once, without keeping what was prepared. A signal that cannot be observed gives `Failed`.
pub fn observe(
    signal: &Signal,
    series: &[RawSeries],
    targets: Option<&[RawSeries]>,
    window: Window,
    max_age: Span,
) -> Observation {
    match Observer::new(signal) {
        Ok(observer) => observer.observe(series, targets, window, max_age),
        Err(problem) => Observation::Failed { reason: problem.to_string() },
    }
}

/// Compiles the expression of a key, or says which key it is that does not compile.
fn compile(key: &str, pattern: &str) -> Result<Regex, BadSignal> {
    whole_value(pattern).map_err(|source| BadSignal::Pattern {
        key: key.to_owned(),
        pattern: pattern.to_owned(),
        source,
    })
}

/// Compiles an expression that must match a label's whole value, as Prometheus does it.
///
/// The expression is compiled alone first: `a)|(b` is an error, although it would become valid (and unanchored) once
/// it is wrapped.
pub fn whole_value(pattern: &str) -> Result<Regex, regex::Error> {
    let compile =
        |text: &str| RegexBuilder::new(text).dot_matches_new_line(true).size_limit(REGEX_SIZE_LIMIT).build();
    compile(pattern)?;
    compile(&format!("^(?:{pattern})$"))
}

/// A series cut to the window and its lookback.
struct Cut<'a> {
    labels: &'a BTreeMap<String, String>,
    samples: Vec<Sample>,
    histograms: Vec<&'a HistogramSample>,
}

impl Cut<'_> {
    /// The time of the newest sample of either kind, and whether it is a stale marker.
    fn newest(&self) -> Option<(Timestamp, bool)> {
        let sample = self.samples.last().map(|sample| (sample.at, sample.is_stale()));
        let histogram = self.histograms.last().map(|sample| (sample.at, sample.is_stale()));
        sample.max(histogram)
    }
    /// Ended by a stale marker, nothing after it.
    fn gone(&self) -> bool {
        self.newest().is_some_and(|(_, stale)| stale)
    }
    /// The samples that carry a value.
    fn values(&self) -> impl Iterator<Item = Sample> {
        self.samples.iter().copied().filter(|sample| !sample.is_stale())
    }
}

/// The series cut to a window that has a length.
fn scope(series: &[RawSeries], window: Window) -> Result<Vec<Cut<'_>>, Hole> {
    if window.from >= window.to {
        return failed(format!("the window from {} to {} has no length", window.from, window.to));
    }
    in_scope(series, window)
}

/// Cuts the series to what can matter, refuses disorder, and puts them into one order, so that sums of `f64` do not
/// depend on the order in which a source happened to answer.
fn in_scope(series: &[RawSeries], window: Window) -> Result<Vec<Cut<'_>>, Hole> {
    let reach = window.with_lookback();
    let mut seen = BTreeSet::new();
    let mut cuts = Vec::with_capacity(series.len());
    for one in series {
        if !seen.insert(&one.labels) {
            return failed(format!("the series {} is there twice", show(&one.labels)));
        }
        let samples: Vec<Sample> = one.samples.iter().copied().filter(|s| reach.contains(s.at)).collect();
        let histograms: Vec<&HistogramSample> =
            one.histograms.iter().filter(|sample| reach.contains(sample.at)).collect();
        in_order(&one.labels, samples.iter().map(|sample| sample.at))?;
        in_order(&one.labels, histograms.iter().map(|sample| sample.at))?;
        cuts.push(Cut { labels: &one.labels, samples, histograms });
    }
    cuts.sort_by(|a, b| a.labels.cmp(b.labels));
    Ok(cuts)
}

/// Refuses time that stands still or runs backwards.
fn in_order(labels: &BTreeMap<String, String>, times: impl Iterator<Item = Timestamp>) -> Result<(), Hole> {
    let mut previous: Option<Timestamp> = None;
    for at in times {
        if let Some(previous) = previous.filter(|previous| at <= *previous) {
            let series = show(labels);
            return failed(format!(
                "the samples of {series} are not in order of time: {at} after {previous}"
            ));
        }
        previous = Some(at);
    }
    Ok(())
}

/// The time of the newest sample of all series that have not ended, if it is fresh.
fn freshness(series: &[&Cut<'_>], window: Window, max_age: Span) -> Result<Timestamp, Hole> {
    if series.is_empty() {
        return Err(Hole::Absent("no series matches the selector".into()));
    }
    let newest =
        series.iter().filter_map(|cut| cut.newest()).filter(|(_, stale)| !stale).map(|(at, _)| at).max();
    let Some(newest) = newest else {
        let count = series.len();
        let reason = if series.iter().any(|cut| cut.gone()) {
            format!("all {count} series have ended")
        } else {
            format!("none of {count} series has a sample in the window or the {LOOKBACK} before it")
        };
        return Err(Hole::Absent(reason));
    };
    let age = Span::between(newest, window.to);
    if age > max_age {
        return Err(Hole::Absent(format!("newest sample is {age} old, at most {max_age} is fresh")));
    }
    Ok(newest)
}

/// The largest of the newest values. A series whose newest sample is old no longer says anything about now.
fn level(series: &[&Cut<'_>], window: Window, max_age: Span) -> Result<Reading, Hole> {
    let mut largest: Option<f64> = None;
    for cut in series.iter().filter(|cut| !cut.gone()) {
        for sample in cut.values().filter(|sample| window.contains(sample.at)) {
            finite(cut.labels, sample)?;
        }
        let Some(sample) = cut.samples.last() else { continue };
        if window.contains(sample.at) && Span::between(sample.at, window.to) <= max_age {
            largest = Some(largest.map_or(sample.value, |value| value.max(sample.value)));
        }
    }
    match largest {
        Some(value) => Ok(Reading::Level { value }),
        None => Err(Hole::Absent("no sample lies in the window".into())),
    }
}

/// The value of a sample, if it is a number.
fn finite(labels: &BTreeMap<String, String>, sample: Sample) -> Result<f64, Hole> {
    if sample.value.is_finite() {
        Ok(sample.value)
    } else {
        failed(format!("{} is {} at {}", show(labels), sample.value, sample.at))
    }
}

/// A series for people: `name{label="value"}`, cut to a length that fits a line.
fn show(labels: &BTreeMap<String, String>) -> String {
    const LONGEST: usize = 200;
    let name = labels.get("__name__").map_or("", String::as_str);
    let rest: Vec<String> = labels
        .iter()
        .filter(|(key, _)| *key != "__name__")
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let text = format!("{name}{{{}}}", rest.join(","));
    if text.chars().count() <= LONGEST {
        return text;
    }
    let mut cut: String = text.chars().take(LONGEST).collect();
    cut.push('…');
    cut
}
