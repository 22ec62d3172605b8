//! Native histograms: all buckets of a pod in one sample, turned into events per bucket.
//!
//! They obey the rules of classic histograms and counters: differenced per series before anything is summed, a reset
//! seen in any bucket is a reset of all, increments belong to the window of their later sample, holes longer than the
//! lookback are not bridged. What is new is that buckets are not the same from sample to sample:
//!
//! - Only buckets that hold something are named. They are read into one constant row of cells (`layout`), so that the
//!   bounds of a reading do not depend on what happened in the window.
//! - The resolution may change while the counters run on: a client that has too many buckets doubles their width. Two
//!   samples are compared at what both can tell apart: buckets of a coarser schema are unions of finer ones, so the
//!   finer sample is merged down before it is subtracted. Series of different schemas merge down to the coarsest.
//! - The zero bucket may widen and swallow its neighbours. The edges inside it are then given up for both samples.
//!
//! A resolution that becomes finer is, by Prometheus' data model, a reset. It is believed only if a bucket shrank, too:
//! otherwise all that the histogram ever counted would count again if a server in between did not keep to the model.
//!
//! What has no place on the row is not counted in silence. Observations below zero (a duration is none) and those in
//! no bucket (NaN) make the windows in which they were added `Failed`; bounds that are not of an exponential schema
//! make every window `Failed`.

mod layout;
#[cfg(test)]
mod tests;

use super::counter::{count, near};
use super::{Cut, Hole, STALE_BITS, Sample, Window, failed, show};
use crate::signal::Reading;
use jiff::Timestamp;
use layout::{CELLS, Layout, is_an_edge};
use std::collections::BTreeMap;

/// The rounding that is forgiven between the count of a histogram and the sum of its buckets, relatively. Recording
/// rules write histograms of floats.
const ROUNDING: f64 = 1e-9;

/// One stored native histogram of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// When it was taken.
    pub at: Timestamp,
    /// The observations since the counter began, those in no bucket (NaN) included.
    pub count: f64,
    /// Their sum, in the unit of the observations. Only the stale marker in it is looked at.
    pub sum: f64,
    /// The buckets that hold something, ascending, the negative ones and the zero bucket included.
    pub buckets: Vec<NativeBucket>,
}

impl HistogramSample {
    /// The sample that says "the series ended here".
    pub fn stale(at: Timestamp) -> Self {
        Self { at, count: 0.0, sum: f64::from_bits(STALE_BITS), buckets: Vec::new() }
    }
    /// Whether this is the stale marker.
    pub fn is_stale(&self) -> bool {
        self.sum.to_bits() == STALE_BITS
    }
}

/// A bucket as it is stored, not cumulative over buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NativeBucket {
    /// The lower bound in seconds; -z of the zero bucket, -Inf possible.
    pub lower: f64,
    /// The upper bound in seconds; z of the zero bucket, +Inf possible.
    pub upper: f64,
    /// The observations in it since the counter began.
    pub count: f64,
}

/// What a series had counted at one time, or by how much that grew.
#[derive(Debug, Clone)]
struct Row {
    /// What its buckets can tell apart.
    layout: Layout,
    /// Events per cell of the constant row.
    cells: Vec<f64>,
    /// Events below zero.
    negative: f64,
    /// Events in no bucket.
    nowhere: f64,
    /// All of them.
    count: f64,
}

/// Refuses native histograms where plain values are needed. `kind` is what they were read for.
pub(super) fn refuse(series: &[&Cut<'_>], kind: &str) -> Result<(), Hole> {
    match series.iter().find(|cut| !cut.histograms.is_empty()) {
        Some(cut) => failed(format!(
            "{} is a native histogram; only latency can be read from it, {kind} needs plain values",
            show(cut.labels)
        )),
        None => Ok(()),
    }
}

/// The events per cell of all series, merged down to what all of them can tell apart.
pub(super) fn latency(series: &[&Cut<'_>], window: Window) -> Result<Reading, Hole> {
    let mut events = vec![0.0; CELLS];
    let (mut inside, mut before): (Option<Layout>, Option<Layout>) = (None, None);
    let widen = |known: &mut Option<Layout>, layout: Layout| {
        *known = Some(known.map_or(layout, |known| known.merged(layout)));
    };
    for cut in series {
        no_plain_values(cut, window)?;
        let mut previous: Option<(Timestamp, Row)> = None;
        for sample in relevant(cut, window) {
            let now = Row::read(cut.labels, sample)?;
            widen(if window.contains(sample.at) { &mut inside } else { &mut before }, now.layout);
            if let Some((earlier, base)) = &previous
                && near(*earlier, sample.at)
            {
                let growth = now.since(base);
                growth.check(cut.labels, sample.at)?;
                widen(&mut inside, growth.layout);
                events.iter_mut().zip(&growth.cells).for_each(|(sum, count)| *sum += count);
            }
            previous = Some((sample.at, now));
        }
    }
    // A window shorter than the scrape interval has no sample of its own: zero events, in the bounds of before.
    let Some(layout) = inside.or(before) else {
        return Err(Hole::Absent("no native histogram has a sample in the window or before it".into()));
    };
    let (bounds, counts) = (layout.bounds(), layout.counts(&events));
    if bounds.is_empty() {
        return failed("the zero bucket reaches beyond all bounds, so fast and slow cannot be told apart");
    }
    if !counts.iter().sum::<f64>().is_finite() {
        return failed("the buckets are too large to be added");
    }
    Ok(Reading::Buckets { bounds, counts })
}

/// The histograms that a difference over the window needs: the last one before it and all in it.
fn relevant<'a>(cut: &'a Cut<'_>, window: Window) -> impl Iterator<Item = &'a HistogramSample> {
    let values = || cut.histograms.iter().copied().filter(|sample| !sample.is_stale());
    let base = values().rfind(|sample| sample.at <= window.from);
    base.into_iter().chain(values().filter(move |sample| window.contains(sample.at)))
}

/// Plain values beside native histograms are either the same events a second time, or no durations at all.
fn no_plain_values(cut: &Cut<'_>, window: Window) -> Result<(), Hole> {
    if !cut.values().any(|sample| window.contains(sample.at)) {
        return Ok(());
    }
    let series = show(cut.labels);
    if cut.labels.contains_key("le") {
        return failed(format!(
            "{series} is a classic bucket, and other series of the selector are native histograms; select one kind, \
             or the same requests would count twice"
        ));
    }
    failed(format!("{series} has plain values, and latency is read from native histograms here"))
}

impl Row {
    fn read(labels: &BTreeMap<String, String>, sample: &HistogramSample) -> Result<Self, Hole> {
        let at = sample.at;
        let count = count(labels, Sample { at, value: sample.count })?;
        let mut row =
            Self { layout: Layout::FINEST, cells: vec![0.0; CELLS], negative: 0.0, nowhere: 0.0, count };
        let mut end = f64::NEG_INFINITY;
        // The lowest bucket above zero may be cut off by the zero bucket, wherever that ends.
        let mut lowest = true;
        for bucket in &sample.buckets {
            let problem = number_problem(bucket, end).or_else(|| row.add(bucket, lowest).err());
            if let Some(problem) = problem {
                let (NativeBucket { lower, upper, count }, series) = (bucket, show(labels));
                return failed(format!(
                    "the native histogram {series} at {at}: the bucket from {lower} to {upper} with {count} {problem}"
                ));
            }
            end = bucket.upper;
            lowest = lowest && bucket.lower <= 0.0;
        }
        let sum = row.cells.iter().sum::<f64>() + row.negative;
        row.nowhere = count - sum;
        if row.nowhere < -ROUNDING * sum {
            return failed(format!(
                "the native histogram {} at {at} counts {count} observations and {sum} in its buckets",
                show(labels)
            ));
        }
        Ok(row)
    }

    /// Adds a bucket that has passed `number_problem`.
    fn add(&mut self, bucket: &NativeBucket, lowest: bool) -> Result<(), &'static str> {
        const CUSTOM: &str = "has bounds of no exponential schema; histograms with custom bounds are read from \
                              their classic series, which end in _bucket";
        let NativeBucket { lower, upper, count } = *bucket;
        if lower == f64::NEG_INFINITY {
            return Err(CUSTOM);
        }
        if count == 0.0 {
            return Ok(());
        }
        if upper <= 0.0 && lower < 0.0 {
            self.negative += count;
            return Ok(());
        }
        let (layout, cell) = if lower <= 0.0 {
            Layout::below(upper)
        } else {
            if (upper.is_finite() && !is_an_edge(upper)) || !(lowest || is_an_edge(lower)) {
                return Err(CUSTOM);
            }
            Layout::holding(lower, upper).ok_or(CUSTOM)?
        };
        self.layout = self.layout.merged(layout);
        self.cells[cell] += count;
        Ok(())
    }

    /// What was counted since `base`, at the resolution that both have; after a reset, all there is.
    fn since(&self, base: &Self) -> Self {
        let layout = self.layout.merged(base.layout);
        let (now, before) = (layout.merge(&self.cells), layout.merge(&base.cells));
        let shrank = now.iter().zip(&before).any(|(now, before)| now < before);
        if shrank || self.count < base.count || self.negative < base.negative {
            return self.clone();
        }
        Self {
            layout,
            cells: now.iter().zip(&before).map(|(now, before)| now - before).collect(),
            negative: self.negative - base.negative,
            nowhere: self.nowhere - base.nowhere,
            // Not the difference: the rounding error is that of the totals.
            count: self.count,
        }
    }

    /// Refuses growth that has no place on the row.
    fn check(&self, labels: &BTreeMap<String, String>, at: Timestamp) -> Result<(), Hole> {
        let found = |number: f64, what: &str| {
            failed(format!(
                "the native histogram {} at {at} has {number} new observations {what}",
                show(labels)
            ))
        };
        if self.negative > 0.0 {
            return found(self.negative, "below zero, but a duration is never negative");
        }
        if self.nowhere.abs() > 2.0 * ROUNDING * self.count {
            return found(self.nowhere, "in no bucket: they were no numbers, or the histogram was torn");
        }
        Ok(())
    }
}

/// What is wrong with a bucket's numbers. `end` is the upper bound of the bucket before it.
fn number_problem(bucket: &NativeBucket, end: f64) -> Option<&'static str> {
    let NativeBucket { lower, upper, count } = *bucket;
    if lower.is_nan() || upper.is_nan() || lower > upper || (lower == upper && lower != 0.0) {
        Some("has bounds that enclose nothing")
    } else if !count.is_finite() || count < 0.0 {
        Some("holds a number that is no count")
    } else if lower < end {
        Some("is not above the bucket before it")
    } else {
        None
    }
}
