//! Classic histograms: cumulative counters per upper bound, turned into events per bucket.
//!
//! The buckets of one pod are one object and are differenced as one. Were each bucket differenced alone, a restart
//! could show as a reset in the large buckets and as growth in the small ones, and fast requests would be invented.
//! So the buckets of one moment form a snapshot, snapshots are made non-cumulative, and if *any* bucket shrank from
//! one snapshot to the next, all of them began again at zero.

use super::counter::{count, near};
use super::{Cut, Hole, Sample, Window, failed, native, show};
use crate::signal::Reading;
use jiff::Timestamp;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// An upper bound in seconds, ordered; +Inf is the largest.
#[derive(Debug, Clone, Copy)]
struct Bound(f64);

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Bound {}
impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Bound {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Upper bound → events. Cumulative as it is read, per bucket after `per_bucket`.
type Snapshot = BTreeMap<Bound, f64>;

/// The snapshots of one pod, by time, and its labels without `le`.
type Pod = BTreeMap<Timestamp, Snapshot>;

/// The events per bucket of all pods, merged down to the bounds that all of them have. Native histograms have rules of
/// their own.
pub(super) fn latency(series: &[&Cut<'_>], window: Window) -> Result<Reading, Hole> {
    if series.iter().any(|cut| !cut.histograms.is_empty()) {
        return native::latency(series, window);
    }
    let mut events = Vec::new();
    let (mut inside, mut before): (Option<BTreeSet<Bound>>, _) = (None, None);
    for (labels, mut pod) in pods(series)? {
        // The newest snapshot before the window is the base; what lies further back is not looked at, so that an old
        // NaN or bounds that a deployment has changed since do not spoil a window they do not touch.
        let base = pod.range(..=window.from).next_back().map(|(at, _)| *at);
        pod.retain(|at, _| window.contains(*at) || Some(*at) == base);
        let mut previous: Option<(Timestamp, Snapshot)> = None;
        for (at, cumulative) in pod {
            let now = per_bucket(&labels, at, cumulative)?;
            let common = if window.contains(at) { &mut inside } else { &mut before };
            let bounds: BTreeSet<Bound> = now.keys().copied().collect();
            *common = Some(common.take().map_or(bounds.clone(), |common| &common & &bounds));
            if let Some((before, base)) = &previous
                && near(*before, at)
            {
                events.extend(growth(base, &now));
            }
            previous = Some((at, now));
        }
    }
    // A window shorter than the scrape interval has no snapshot of its own: zero events, in the bounds of before.
    match inside.or(before) {
        Some(common) => merge(&common, events),
        None => Err(Hole::Absent("no bucket has a sample in the window or before it".into())),
    }
}

/// Gathers the bucket series into pods and snapshots. The values are not checked yet.
fn pods(series: &[&Cut<'_>]) -> Result<BTreeMap<BTreeMap<String, String>, Pod>, Hole> {
    let mut pods: BTreeMap<BTreeMap<String, String>, Pod> = BTreeMap::new();
    for cut in series {
        let Some(le) = cut.labels.get("le") else {
            let series = show(cut.labels);
            return failed(format!(
                "{series} has no label `le` and is no native histogram; select the series that end in _bucket"
            ));
        };
        let bound = match le.parse::<f64>() {
            // `-0.0` becomes `0.0`.
            Ok(bound) if !bound.is_nan() && bound != f64::NEG_INFINITY => Bound(bound + 0.0),
            Ok(_) | Err(_) => {
                return failed(format!("the bound le={le:?} of {} is not a number", show(cut.labels)));
            }
        };
        let mut labels = cut.labels.clone();
        labels.remove("le");
        let pod = pods.entry(labels).or_default();
        for sample in cut.values() {
            if pod.entry(sample.at).or_default().insert(bound, sample.value).is_some() {
                return failed(format!("the bound {} of {} is there twice", bound.0, show(cut.labels)));
            }
        }
    }
    Ok(pods)
}

/// From cumulative to per bucket. A snapshot that is not monotone, or has no +Inf, was torn while it was read.
fn per_bucket(
    labels: &BTreeMap<String, String>,
    at: Timestamp,
    cumulative: Snapshot,
) -> Result<Snapshot, Hole> {
    let torn = |problem: &str| failed(format!("the histogram {} at {at} {problem}", show(labels)));
    if !cumulative.contains_key(&Bound(f64::INFINITY)) {
        return torn("has no bucket le=\"+Inf\", so nobody knows how many events there were");
    }
    let mut below = 0.0;
    let mut buckets = Snapshot::new();
    for (bound, value) in cumulative {
        let value = count(labels, Sample { at, value })?;
        if value < below {
            return torn(&format!("counts fewer events up to {} than up to the bound before it", bound.0));
        }
        buckets.insert(bound, value - below);
        below = value;
    }
    Ok(buckets)
}

/// What a pod's buckets grew by. Nothing if its bounds changed: then it is a new histogram, and what it counted before
/// its first snapshot did not happen in a known window.
fn growth(base: &Snapshot, now: &Snapshot) -> Option<Snapshot> {
    if !base.keys().eq(now.keys()) {
        return None;
    }
    let pairs = || now.iter().zip(base.values());
    if pairs().any(|((_, now), base)| now < base) {
        return Some(now.clone());
    }
    Some(pairs().map(|((bound, now), base)| (*bound, now - base)).collect())
}

/// Adds the events up in the common bounds: a bucket that others do not have goes into the next larger one they have.
fn merge(common: &BTreeSet<Bound>, events: Vec<Snapshot>) -> Result<Reading, Hole> {
    let bounds: Vec<f64> = common.iter().map(|bound| bound.0).filter(|bound| bound.is_finite()).collect();
    if bounds.is_empty() {
        return failed(
            "the histograms have no finite bound in common, so fast and slow cannot be told apart",
        );
    }
    let mut counts = vec![0.0; bounds.len() + 1];
    for snapshot in events {
        for (bound, value) in snapshot {
            counts[bounds.partition_point(|upper| *upper < bound.0)] += value;
        }
    }
    if !counts.iter().sum::<f64>().is_finite() {
        return failed("the buckets are too large to be added");
    }
    Ok(Reading::Buckets { bounds, counts })
}
