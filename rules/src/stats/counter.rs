//! From a counter's readings to increments. A counter starts over when its process restarts, and the sample after a
//! restart is the first thing that process counted, not a negative increment and not zero.
//!
//! Deltas are taken per series and summed afterwards: the sum over pods of a counter goes down when a pod is replaced,
//! and a delta of that sum would read the whole history of the survivors as new requests.

/// The increment from `previous` to `current`, in the counter's unit. The `created` values are the start times the
/// exporter gives (any unit, compared only for equality); without both of them a restart is recognised by the fall.
///
/// `None` says "nothing is known": the first sample of a series, a missing or stale value, or something that is not a
/// counter reading at all (NaN, infinite, negative). It must not be read as zero.
///
/// Above 2^53 a float counter no longer holds every integer, and increments are rounded to what it can hold.
#[must_use]
pub fn counter_delta(
    previous: Option<f64>,
    current: Option<f64>,
    created_previous: Option<f64>,
    created_current: Option<f64>,
) -> Option<f64> {
    let previous = reading(previous)?;
    let current = reading(current)?;
    let restarted = match (created_previous, created_current) {
        (Some(before), Some(now)) => before != now,
        _ => false,
    };
    Some(if restarted || current < previous { current } else { current - previous })
}

fn reading(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value >= 0.0)
}
