//! The samples that scrapes, probes and pushes gathered: bounded in time, series and samples.
//!
//! A limit that is reached must not read as "there is nothing". So the ring remembers which metrics lost series, and
//! reading one of those is an error until the loss is as old as what is kept.

use super::SourceError;
use super::selector::ParsedSelector;
use jiff::Timestamp;
use rules::series::{HistogramSample, RawSeries, Sample, Window};
use rules::units::Span;
use std::collections::{BTreeMap, VecDeque};

/// The labels of a series, `__name__` among them.
pub type Labels = BTreeMap<String, String>;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RingLimits {
    /// How long a sample is kept.
    pub retention: Span,
    /// The most series; further ones are refused and counted.
    pub series: usize,
    /// The most samples over all series; beyond it the oldest go, whatever their age.
    pub samples: usize,
}

impl Default for RingLimits {
    /// Three hours cover an hour before a release, a watch of an hour and another for what follows. 5,000 series are
    /// what some dozen pods show. 2,000,000 samples are 48 MB: three hours of 900 series each 5 s, or half an hour of
    /// 5,000.
    fn default() -> Self {
        Self { retention: Span::from_minutes(180), series: 5_000, samples: 2_000_000 }
    }
}

/// The most metric names that are remembered as having lost series; with more, every metric counts as such.
const MOST_LOST: usize = 1_000;

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Appended {
    /// It is kept.
    Kept,
    /// It is there already: a service that gives its own times and has nothing new, or a sender that sends again.
    Known,
    /// It is older than the newest one, or differs from it at the same time. Refused.
    Disorder,
    /// Its series is new, and there are too many. Refused.
    Full,
}

/// The samples.
#[derive(Debug, Default)]
pub(super) struct Ring {
    limits: RingLimits,
    /// By metric, so that a look at one metric does not go through the series of all others.
    metrics: BTreeMap<String, BTreeMap<Labels, Stored>>,
    series: usize,
    /// Samples, each bucket of a native histogram counted as one.
    samples: usize,
    /// Metric → when a series of it was last refused.
    lost: BTreeMap<String, Timestamp>,
}

/// What is kept of one series. It may have both: its type can change.
#[derive(Debug, Default)]
struct Stored {
    samples: VecDeque<Sample>,
    histograms: VecDeque<HistogramSample>,
    /// When what it counts began, the latest that was told.
    began: Option<Timestamp>,
}

impl Stored {
    fn weight(&self) -> usize {
        self.samples.len() + self.histograms.iter().map(weight).sum::<usize>()
    }

    fn newest(&self) -> Option<Timestamp> {
        let sample = self.samples.back().map(|sample| sample.at);
        sample.max(self.histograms.back().map(|histogram| histogram.at))
    }

    fn oldest(&self) -> Option<Timestamp> {
        let sample = self.samples.front().map(|sample| sample.at);
        sample.into_iter().chain(self.histograms.front().map(|histogram| histogram.at)).min()
    }
}

fn weight(histogram: &HistogramSample) -> usize {
    1 + histogram.buckets.len()
}

fn metric(labels: &Labels) -> &str {
    labels.get("__name__").map_or("", String::as_str)
}

/// Whether a sample goes behind what is there. One that is there already is known, whatever came after it: a sender that
/// got no answer sends everything again.
fn place<T>(
    kept: &VecDeque<T>,
    at: Timestamp,
    time: impl Fn(&T) -> Timestamp,
    same: impl Fn(&T) -> bool,
) -> Appended {
    if kept.back().is_none_or(|newest| time(newest) < at) {
        return Appended::Kept;
    }
    match kept.binary_search_by_key(&at, time).ok().and_then(|found| kept.get(found)) {
        Some(found) if same(found) => Appended::Known,
        _ => Appended::Disorder,
    }
}

fn between<T>(kept: &VecDeque<T>, range: Window, time: impl Fn(&T) -> Timestamp) -> std::ops::Range<usize> {
    let from = kept.partition_point(|one| time(one) <= range.from);
    from..kept.partition_point(|one| time(one) <= range.to).max(from)
}

impl Ring {
    pub(super) fn new(limits: RingLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// How many series are kept.
    pub(super) fn len(&self) -> usize {
        self.series
    }

    /// How many samples, each bucket of a native histogram counted as one.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    pub(super) fn append(&mut self, labels: &Labels, sample: Sample) -> Appended {
        let Some(stored) = self.stored(labels, sample.at) else { return Appended::Full };
        let same = |known: &Sample| known.value.to_bits() == sample.value.to_bits();
        let place = place(&stored.samples, sample.at, |known| known.at, same);
        if place == Appended::Kept {
            stored.samples.push_back(sample);
            self.samples += 1;
        }
        place
    }

    /// The same for a native histogram.
    pub(super) fn append_histogram(&mut self, labels: &Labels, histogram: HistogramSample) -> Appended {
        let Some(stored) = self.stored(labels, histogram.at) else { return Appended::Full };
        let place = place(&stored.histograms, histogram.at, |known| known.at, |known| *known == histogram);
        if place == Appended::Kept {
            let weight = weight(&histogram);
            stored.histograms.push_back(histogram);
            self.samples += weight;
        }
        place
    }

    /// The series, a new one if there is room for it.
    fn stored(&mut self, labels: &Labels, at: Timestamp) -> Option<&mut Stored> {
        let name = metric(labels);
        let known = self.metrics.get(name).is_some_and(|series| series.contains_key(labels));
        if known {
            return self.metrics.get_mut(name)?.get_mut(labels);
        }
        if self.series >= self.limits.series {
            let name = if self.lost.len() < MOST_LOST { name.to_owned() } else { String::new() };
            self.lost.insert(name, at);
            return None;
        }
        self.series += 1;
        Some(self.metrics.entry(name.to_owned()).or_default().entry(labels.clone()).or_default())
    }

    /// Gives the newest plain sample of a series another value, if it is of that time.
    pub(super) fn amend(&mut self, labels: &Labels, sample: Sample) -> Appended {
        let series = self.metrics.get_mut(metric(labels)).and_then(|series| series.get_mut(labels));
        match series.and_then(|series| series.samples.back_mut()).filter(|newest| newest.at == sample.at) {
            Some(newest) => {
                *newest = sample;
                Appended::Kept
            }
            None => Appended::Disorder,
        }
    }

    /// The time of the newest plain sample of a series.
    pub(super) fn newest(&self, labels: &Labels) -> Option<Timestamp> {
        Some(self.metrics.get(metric(labels))?.get(labels)?.samples.back()?.at)
    }

    /// Notes when what a series counts began.
    pub(super) fn begin(&mut self, labels: &Labels, began: Timestamp) {
        let series = self.metrics.get_mut(metric(labels)).and_then(|series| series.get_mut(labels));
        if let Some(stored) = series {
            stored.began = stored.began.max(Some(began));
        }
    }

    /// Whether what comes new for a series at `at` began before what is known of it.
    pub(super) fn is_overtaken(&self, labels: &Labels, at: Timestamp, began: Timestamp) -> bool {
        let series = self.metrics.get(metric(labels)).and_then(|series| series.get(labels));
        series.is_some_and(|stored| {
            stored.began.is_some_and(|known| began < known) && stored.newest() < Some(at)
        })
    }

    /// Says that a series ended, if it is there and has not ended yet.
    pub(super) fn end(&mut self, labels: &Labels, at: Timestamp) {
        let series = self.metrics.get_mut(metric(labels)).and_then(|series| series.get_mut(labels));
        if let Some(Stored { samples, .. }) = series
            && samples.back().is_some_and(|newest| newest.at < at && !newest.is_stale())
        {
            samples.push_back(Sample::stale(at));
            self.samples += 1;
        }
    }

    /// Forgets what is too old and, if there are still too many samples, the oldest tenth of the time that is kept,
    /// until they fit.
    pub(super) fn prune(&mut self, now: Timestamp) {
        self.forget_before(self.limits.retention.before(now));
        while self.is_overfull() {
            let Some(oldest) =
                self.metrics.values().flat_map(BTreeMap::values).filter_map(Stored::oldest).min()
            else {
                return;
            };
            let tenth = Span::between(oldest, now).milliseconds() / 10;
            self.forget_before(Span::from_milliseconds(tenth.max(1)).after(oldest));
        }
    }

    /// Whether there are more samples than may be kept.
    pub(super) fn is_overfull(&self) -> bool {
        self.samples > self.limits.samples
    }

    fn forget_before(&mut self, horizon: Timestamp) {
        let (mut kept, mut count) = (0, 0);
        for series in self.metrics.values_mut() {
            series.retain(|_, stored| {
                let old = stored.samples.partition_point(|sample| sample.at < horizon);
                stored.samples.drain(..old);
                let old = stored.histograms.partition_point(|histogram| histogram.at < horizon);
                stored.histograms.drain(..old);
                kept += stored.weight();
                let stays = stored.oldest().is_some();
                count += usize::from(stays);
                stays
            });
        }
        self.metrics.retain(|_, series| !series.is_empty());
        (self.samples, self.series) = (kept, count);
        self.lost.retain(|_, at| *at >= horizon);
    }

    /// The samples that a selector selects; an error if any of them may have been refused.
    pub(super) fn read(
        &self,
        what: &str,
        selector: &ParsedSelector,
        range: Window,
    ) -> Result<Vec<RawSeries>, SourceError> {
        if let Some(metric) = self.lost.keys().find(|metric| metric.is_empty() || selector.may_select(metric))
        {
            let problem = format!(
                "more than {} series, so some of {metric:?} were not kept; show fewer, or raise `max_series`",
                self.limits.series
            );
            return Err(SourceError::TooLarge { what: what.into(), problem });
        }
        let metrics = self.metrics.iter().filter(|(metric, _)| selector.may_select(metric));
        let selected = metrics.flat_map(|(_, series)| series).filter(|(labels, _)| selector.matches(labels));
        let cut = |(labels, stored): (&Labels, &Stored)| {
            let samples = between(&stored.samples, range, |sample| sample.at);
            let histograms = between(&stored.histograms, range, |histogram| histogram.at);
            RawSeries {
                labels: labels.clone(),
                samples: stored.samples.range(samples).copied().collect(),
                histograms: stored.histograms.range(histograms).cloned().collect(),
            }
        };
        let is_there = |series: &RawSeries| !(series.samples.is_empty() && series.histograms.is_empty());
        Ok(selected.map(cut).filter(is_there).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_selector;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn labels(name: &str, pod: usize) -> Labels {
        BTreeMap::from([("__name__".into(), name.into()), ("pod".into(), pod.to_string())])
    }

    fn sample(second: i64) -> Sample {
        Sample { at: at(second), value: second as f64 }
    }

    fn read(ring: &Ring, selector: &str) -> Result<Vec<RawSeries>, SourceError> {
        ring.read("ring", &check_selector(selector).unwrap(), Window { from: at(-1), to: at(1_000_000) })
    }

    fn ring(series: usize, samples: usize) -> Ring {
        Ring::new(RingLimits { retention: Span::from_seconds(100), series, samples })
    }

    #[test]
    fn time_only_goes_forward() {
        let mut ring = ring(10, 100);
        assert_eq!(ring.append(&labels("a", 1), sample(10)), Appended::Kept);
        assert_eq!(ring.append(&labels("a", 1), sample(10)), Appended::Known);
        assert_eq!(ring.append(&labels("a", 1), Sample { at: at(10), value: 3.0 }), Appended::Disorder);
        assert_eq!(ring.append(&labels("a", 1), sample(9)), Appended::Disorder);
        ring.end(&labels("a", 1), at(20));
        ring.end(&labels("a", 1), at(30));
        ring.end(&labels("b", 1), at(30));
        let series = read(&ring, "a").unwrap();
        assert_eq!((series.len(), series[0].samples.len()), (1, 2));
        assert!(series[0].samples[1].is_stale());
    }

    #[test]
    fn old_samples_go_and_empty_series_with_them() {
        let mut ring = ring(10, 100);
        ring.append(&labels("a", 1), sample(10));
        ring.append(&labels("a", 2), sample(10));
        ring.append(&labels("a", 2), sample(60));
        ring.prune(at(111));
        assert_eq!((ring.len(), ring.samples), (1, 1));
    }

    #[test]
    fn a_lost_series_is_an_error_for_its_metric_only_and_for_a_time() {
        let mut ring = ring(2, 100);
        ring.append(&labels("a", 1), sample(10));
        ring.append(&labels("b", 1), sample(10));
        assert_eq!(ring.append(&labels("b", 2), sample(10)), Appended::Full);
        assert_eq!(read(&ring, "a").unwrap().len(), 1);
        for selector in ["b", "b{pod=\"1\"}", "{__name__=~\"a|b\"}", "{pod=\"1\"}"] {
            assert!(matches!(read(&ring, selector), Err(SourceError::TooLarge { .. })), "{selector}");
        }
        ring.prune(at(111));
        assert_eq!(read(&ring, "b").unwrap().len(), 0);
    }

    #[test]
    fn a_flood_of_names_is_remembered_in_bounds() {
        let mut ring = ring(1, 100);
        ring.append(&labels("a", 1), sample(10));
        for index in 0..MOST_LOST + 10 {
            ring.append(&labels(&format!("m{index}"), 1), sample(10));
        }
        assert_eq!(ring.lost.len(), MOST_LOST + 1);
        assert!(read(&ring, "a").is_err());
    }

    #[test]
    fn too_many_samples_shorten_what_is_kept() {
        let mut ring = ring(10, 50);
        for second in 1..=90 {
            ring.append(&labels("a", 1), sample(second));
            ring.append(&labels("b", 1), sample(second));
            ring.prune(at(second));
            assert!(ring.samples <= 50);
        }
        let series = read(&ring, "a").unwrap();
        assert_eq!(series[0].samples.last().unwrap().at, at(90));
        assert!(series[0].samples.len() > 15);
    }
}
