//! Counters: increments per series, resets, and the share of them that is bad.

use super::{Cut, Hole, LOOKBACK, Sample, Window, failed, finite, show};
use crate::signal::Reading;
use crate::units::Span;
use jiff::Timestamp;
use regex::Regex;
use std::collections::BTreeMap;

/// The events of a proportion. `total` is summed from good and bad ones, so that `bad ≤ total` holds exactly.
pub(super) fn proportion(
    series: &[&Cut<'_>],
    bad: &[(String, Regex)],
    window: Window,
) -> Result<Reading, Hole> {
    for (label, _) in bad {
        // One missing label on one series is normal (it then counts as empty). On all of them it is a typing error,
        // and without this check a typing error would read as "no errors at all".
        if !series.iter().any(|cut| cut.labels.contains_key(label)) {
            return failed(format!(
                "none of {} series has the label {label:?} that `bad` names; is it spelled as the service spells it?",
                series.len()
            ));
        }
    }
    let (mut bad_events, mut good_events) = (0.0, 0.0);
    for cut in series {
        let value = |label: &String| cut.labels.get(label).map_or("", String::as_str);
        let events = increments(cut, window)?;
        if bad.iter().all(|(label, regex)| regex.is_match(value(label))) {
            bad_events += events;
        } else {
            good_events += events;
        }
    }
    let total: f64 = bad_events + good_events;
    if !total.is_finite() {
        return failed("the counters are too large to be added");
    }
    Ok(Reading::Counts { bad: bad_events, total })
}

/// What a counter grew by in the window.
fn increments(cut: &Cut<'_>, window: Window) -> Result<f64, Hole> {
    let mut sum = 0.0;
    let mut previous: Option<(Timestamp, f64)> = None;
    for sample in relevant(cut, window) {
        let value = count(cut.labels, sample)?;
        if let Some((before, base)) = previous
            && near(before, sample.at)
        {
            // A counter that is smaller than before began again at zero.
            sum += if value < base { value } else { value - base };
        }
        previous = Some((sample.at, value));
    }
    Ok(sum)
}

/// The samples that a difference over the window needs: the last value before it and all values in it. What lies
/// further back is not looked at, so that an old NaN does not spoil a window it does not touch.
fn relevant(cut: &Cut<'_>, window: Window) -> impl Iterator<Item = Sample> {
    let base = cut.values().filter(|sample| sample.at <= window.from).last();
    base.into_iter().chain(cut.values().filter(move |sample| window.contains(sample.at)))
}

/// Whether two samples are near enough to be differenced. The same for every window, or windows would not add up.
pub(super) fn near(earlier: Timestamp, later: Timestamp) -> bool {
    Span::between(earlier, later) <= LOOKBACK
}

/// A counter's value, if it can be one.
pub(super) fn count(labels: &BTreeMap<String, String>, sample: Sample) -> Result<f64, Hole> {
    let value = finite(labels, sample)?;
    if value >= 0.0 {
        // `-0.0` becomes `0.0`.
        Ok(value + 0.0)
    } else {
        failed(format!("{} is {value} at {}, but a counter is never negative", show(labels), sample.at))
    }
}
