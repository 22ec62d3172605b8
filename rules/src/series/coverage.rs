//! Series of 0 and 1: who ought to report, who does, and availability.

use super::{Cut, Hole, RawSeries, Sample, Window, failed, in_scope, native, show};
use crate::signal::Reading;
use crate::units::Span;

/// The share of the targets that must report, in percent. With fewer, the missing ones could hide the very
/// difference we look for; with more demanded, a rolling restart would blind us all the time.
const ENOUGH_PERCENT: u64 = 90;

/// `(reporting, expected)` if too few targets report, `None` if enough do. A target whose series ended or is no
/// longer fresh was taken away and is not expected.
pub(super) fn coverage(
    targets: &[RawSeries],
    window: Window,
    max_age: Span,
) -> Result<Option<(u32, u32)>, Hole> {
    let (mut reporting, mut expected) = (0_u32, 0_u32);
    let cuts = in_scope(targets, window)?;
    native::refuse(&cuts.iter().collect::<Vec<_>>(), "coverage")?;
    for cut in cuts.iter().filter(|cut| !cut.gone()) {
        let Some(newest) = cut.samples.last() else { continue };
        if Span::between(newest.at, window.to) > max_age {
            continue;
        }
        expected += 1;
        if is_up(cut, *newest)? {
            reporting += 1;
        }
    }
    if expected == 0 {
        let reason = format!("none of {} target series has a sample younger than {max_age}", targets.len());
        return Err(Hole::Absent(reason));
    }
    let enough = u64::from(reporting) * 100 >= u64::from(expected) * ENOUGH_PERCENT;
    Ok((!enough).then_some((reporting, expected)))
}

/// Every sample in the window is a trial; 0 is bad.
pub(super) fn availability(series: &[&Cut<'_>], window: Window) -> Result<Reading, Hole> {
    let (mut bad, mut total) = (0_u64, 0_u64);
    for cut in series {
        for sample in cut.values().filter(|sample| window.contains(sample.at)) {
            total += 1;
            if !is_up(cut, sample)? {
                bad += 1;
            }
        }
    }
    Ok(Reading::Counts { bad: bad as f64, total: total as f64 })
}

fn is_up(cut: &Cut<'_>, sample: Sample) -> Result<bool, Hole> {
    if sample.value == 1.0 {
        Ok(true)
    } else if sample.value == 0.0 {
        Ok(false)
    } else {
        let (series, Sample { at, value }) = (show(cut.labels), sample);
        failed(format!("{series} is {value} at {at}, but up is 1 and down is 0 and nothing else"))
    }
}
