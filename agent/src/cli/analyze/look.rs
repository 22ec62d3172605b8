//! Looking until there is an answer: first the past, then window after window.
//!
//! What happened before the first look is read at once and cut into the windows that looks would have made of it, so
//! that an analysis that begins late says the same as one that was there from the beginning.

use super::job::Job;
use super::screen::Screen;
use crate::cli::console::Console;
use crate::clock;
use crate::collector::{Collected, Collector};
use crate::signals::{SignalSource, measure};
use futures_util::future::{Either, join_all, select};
use jiff::Timestamp;
use rules::analysis::{Analysis, AnalysisReport};
use rules::ids::SignalName;
use rules::past::Past;
use rules::series::{Observer, Window};
use rules::signal::{Measurement, Observation};
use rules::units::Span;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

/// Windows that a stretch of the past is cut into at most: each costs a pass over all samples.
const MOST_WINDOWS: u64 = 500;

type Readers = BTreeMap<SignalName, (Arc<dyn SignalSource>, Observer)>;

/// Looks until there is an answer.
pub(super) async fn until_answered(job: Job, console: &Console) -> AnalysisReport {
    let Job { mut analysis, sources, samplers, readers, opened, version: _ } = job;
    let collector = Collector::new(sources);
    let mut screen = Screen::new(console, &analysis);
    let sampling = join_all(samplers.into_iter().map(|sampler| sampler.run(std::future::pending())));
    let looking = async {
        loop {
            let now = clock::now();
            let trouble = look(&mut analysis, &collector, &readers, opened, now).await;
            screen.show(&analysis, trouble.as_deref(), now);
            if analysis.outcome(now).is_some() {
                return analysis.report(now);
            }
            let rest = Span::between(clock::now(), analysis.deadline());
            let every = analysis.rules().watch.look_every;
            let spent = Span::between(now, clock::now());
            let pause = every.milliseconds().saturating_sub(spent.milliseconds()).max(SHORTEST_PAUSE);
            tokio::time::sleep(Span::from_milliseconds(pause).min(rest).duration()).await;
        }
    };
    // Sources that sample by themselves do it beside the looks. An end of theirs, or that there is none, ends no analysis.
    let report = match select(pin!(looking), pin!(sampling)).await {
        Either::Left((report, _sampling)) => report,
        Either::Right((_ended, looking)) => looking.await,
    };
    screen.clear();
    report
}

/// Milliseconds between the end of a look and the next one, however slow the source is.
const SHORTEST_PAUSE: u64 = 100;

/// One look. Says why the past is not known yet, if it is not.
async fn look(
    analysis: &mut Analysis,
    collector: &Collector,
    readers: &Readers,
    opened: Timestamp,
    now: Timestamp,
) -> Option<String> {
    if analysis.evidence().awaits_baseline() {
        let Collected::Baseline(past) = collector.baseline(analysis.rules(), &analysis.ranges()).await else {
            return None;
        };
        // A source that fails may be back in a moment, and a past that is missing stays missing. Without one, though,
        // nobody would see that it stays away.
        let patient = now < analysis.rules().watch.blind_after.after(opened) && now < analysis.deadline();
        if let Some(reason) = past.values().find_map(failed).filter(|_| patient) {
            return Some(reason.to_owned());
        }
        analysis.take_baseline(past);
    }
    let settings = &analysis.rules().watch;
    let (step, max_age) = (settings.look_every, settings.max_sample_age);
    let asked = analysis.since().into_iter().filter_map(|(name, from)| {
        let (source, observer) = readers.get(&name)?;
        let to = source.settle().before(now).min(analysis.deadline());
        // At a usual look one window, after a longer time one for each step.
        let windows = cut(Window { from, to }, step);
        Some(async move { measure(source.as_ref(), observer, &windows, max_age).await })
    });
    let measured = join_all(asked).await;
    analysis.take(measured.into_iter().flatten().collect());
    None
}

fn failed(past: &Past) -> Option<&str> {
    match past.trailing.as_slice() {
        [Measurement { observation: Observation::Failed { reason }, .. }] => Some(reason),
        _ => None,
    }
}

/// The window in pieces of about `step`; itself if it is hardly longer.
fn cut(window: Window, step: Span) -> Vec<Window> {
    let length = window.length().milliseconds();
    let step = Span::from_milliseconds(step.milliseconds().max(length.div_ceil(MOST_WINDOWS)).max(1));
    let mut windows = Vec::new();
    let mut from = window.from;
    while from < window.to {
        let end = step.after(from);
        // A rest of less than a step belongs to the piece before it.
        let to = if step.after(end) > window.to { window.to } else { end };
        windows.push(Window { from, to });
        from = to;
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_partition_a_window() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        for (length, step, pieces) in [(5, 5, 1), (9, 5, 1), (10, 5, 2), (3_600, 5, 500), (1, 5, 1)] {
            let windows = cut(Window { from: at(0), to: at(length) }, Span::from_seconds(step));
            assert!(windows.len() <= pieces && windows.len() * 2 >= pieces, "{length}: {}", windows.len());
            assert_eq!((windows[0].from, windows[windows.len() - 1].to), (at(0), at(length)));
            assert!(windows.windows(2).all(|two| two[0].to == two[1].from), "{windows:?}");
        }
        assert_eq!(cut(Window { from: at(5), to: at(5) }, Span::from_seconds(1)), []);
    }
}
