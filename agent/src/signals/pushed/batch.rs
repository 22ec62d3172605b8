//! What a request or a message holds, as the source takes it, and what became of it.

use super::super::ring::Labels;
use jiff::Timestamp;
use rules::series::{HistogramSample, Sample};
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What came, series by series; one may come in several pieces.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Each with its samples.
    pub series: Vec<PushedSeries>,
    /// The same that is told beside, such as `target_info`: where it cannot be kept, nobody is told.
    pub info: Vec<PushedSeries>,
    /// Samples that cannot be used whatever we hold, with the reason of the first of them.
    pub unusable: Unusable,
}

impl Batch {
    /// Puts what came later behind this.
    pub(super) fn add(&mut self, more: Batch) {
        self.series.extend(more.series);
        self.info.extend(more.info);
        self.unusable.add(more.unusable);
    }

    /// Makes one of what grew at the same time under the same labels. For one request, which never repeats itself: what
    /// stands in it twice was counted by two.
    pub(super) fn add_up_growth(&mut self) {
        let (mut firsts, mut doubles) = (BTreeMap::new(), Vec::new());
        for (index, one) in self.series.iter().enumerate() {
            if let [Point { value: Value::Grew(Sample { at, value }), start }] = &one.points[..] {
                match firsts.entry((&one.labels, *at)) {
                    Entry::Vacant(entry) => drop(entry.insert(index)),
                    Entry::Occupied(entry) => doubles.push((index, *entry.get(), *value, *start)),
                }
            }
        }
        for (double, first, more, began) in doubles {
            if let [Point { value: Value::Grew(sample), start }] = &mut self.series[first].points[..] {
                sample.value += more;
                *start = (*start).into_iter().chain(began).min();
            }
            self.series[double].points.clear();
        }
        self.series.retain(|one| !one.points.is_empty());
    }
}

/// Samples of one series, in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct PushedSeries {
    /// The series, `__name__` among its labels.
    pub labels: Labels,
    /// Its samples.
    pub points: Vec<Point>,
}

/// A sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// What the series was.
    pub value: Value,
    /// When what is counted began, where that is told: there it was zero.
    pub start: Option<Timestamp>,
}

impl Point {
    /// A number at a time.
    pub fn now(sample: Sample) -> Self {
        Self { value: Value::Now(sample), start: None }
    }
}

/// What a series was at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number: a gauge, or a counter since it began.
    Now(Sample),
    /// By how much a counter grew since the sample before.
    Grew(Sample),
    /// What a counter grew by then, told by several in no strict order, each of it once. It is never taken for known.
    Happened(Sample),
    /// A native histogram since it began.
    Histogram(HistogramSample),
}

impl Value {
    /// When it was taken.
    pub fn at(&self) -> Timestamp {
        match self {
            Value::Now(sample) | Value::Grew(sample) | Value::Happened(sample) => sample.at,
            Value::Histogram(histogram) => histogram.at,
        }
    }
}

/// Samples that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Unusable {
    /// Plain ones.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// In words, of the first.
    pub why: Option<String>,
}

impl Unusable {
    /// Notes plain samples.
    pub fn samples(&mut self, count: u64, why: impl FnOnce() -> String) {
        self.samples += count;
        if count > 0 {
            self.why.get_or_insert_with(why);
        }
    }

    pub(super) fn add(&mut self, more: Unusable) {
        self.samples += more.samples;
        self.histograms += more.histograms;
        self.why = self.why.take().or(more.why);
    }

    /// Notes native histograms.
    pub fn histograms(&mut self, count: u64, why: impl FnOnce() -> String) {
        self.histograms += count;
        if count > 0 {
            self.why.get_or_insert_with(why);
        }
    }
}

/// What became of samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Taken {
    /// Plain samples that are kept.
    pub kept: u64,
    /// Native histograms that are kept.
    pub histograms: u64,
    /// Of those kept: how many came when their window had been looked at already. What they count is missed.
    pub late: u64,
    /// Plain samples that are there already: sent again.
    pub known: u64,
    /// Native histograms that are there already.
    pub known_histograms: u64,
    /// Not newer than the newest of their series, and not the same as what is there; or of another sender under the same
    /// labels, that counts since an earlier time. Refused.
    pub disorder: u64,
    /// Older than what is kept. Refused.
    pub too_old: u64,
    /// Too far in the future. Refused.
    pub ahead: u64,
    /// Of new series, and there are too many. Refused.
    pub full: u64,
    /// Not to be used at all: labels, numbers or kinds. Refused.
    pub unusable: u64,
    /// Why the first that was refused was.
    pub why: Option<String>,
}

impl Taken {
    /// How many were refused.
    pub fn refused(&self) -> u64 {
        self.disorder + self.too_old + self.ahead + self.full + self.unusable
    }

    /// What was refused and why, in words; nothing if nothing was.
    pub fn words(&self) -> Option<String> {
        let parts = [
            (self.full, "of new series, of which there are too many (raise `max_series` or push fewer)"),
            (
                self.disorder,
                "not in the order of time, another value at a known time, or of another sender under the same labels",
            ),
            (self.too_old, "older than what is kept"),
            (self.ahead, "too far in the future (compare the clocks)"),
            (self.unusable, "unusable"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let first = self.why.as_ref().map(|why| format!("; the first: {why}")).unwrap_or_default();
        (!parts.is_empty()).then(|| format!("samples not kept: {}{first}", parts.join(", ")))
    }

    pub(super) fn add(&mut self, more: &Taken) {
        let Taken { kept, histograms, late, known, known_histograms, .. } = more;
        let Taken { disorder, too_old, ahead, full, unusable, why, .. } = more;
        self.kept += kept;
        self.histograms += histograms;
        self.late += late;
        self.known += known;
        self.known_histograms += known_histograms;
        self.disorder += disorder;
        self.too_old += too_old;
        self.ahead += ahead;
        self.full += full;
        self.unusable += unusable;
        if why.is_some() {
            self.why.clone_from(why);
        }
    }
}
