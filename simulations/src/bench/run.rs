//! Plays watches on all cores.
//!
//! One simulated hour serves all judges of a scenario. Watches are numbered and each has its own dice, so that the
//! figures do not depend on how many cores there are.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::figures::Tally;
use super::scenarios::{Scenario, WINDOW_SECONDS};
use super::{LOOK_SECONDS, WATCH_SECONDS, Who, judges};
use crate::traffic::{Look, Simulator};
use crate::{Dice, Judge};

/// How many watches of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Of Turnback.
    pub watches: u32,
    /// Of the peers: the first so many.
    pub peer_watches: u32,
}

/// What came of a scenario, judge by judge.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Who judged.
    pub who: Who,
    /// What came of it.
    pub tally: Tally,
}

/// Watches taken from the pile at once: few enough that cores end together.
const HANDFUL: u32 = 8;

/// Watches `scenario` so many times, on all cores. Judges that are not plugged in are left out.
#[must_use]
pub fn run(scenario: &Scenario, size: Size, seed: u64) -> Vec<Outcome> {
    let present: Vec<Who> = judges(scenario).filter(|who| who.judge(scenario).is_some()).collect();
    let wanted = |who: &Who| match who {
        Who::Turnback(_) => size.watches,
        _ => size.peer_watches,
    };
    let most = present.iter().map(wanted).max().unwrap_or(0);
    let next = AtomicU32::new(0);
    let work = || {
        let mut tallies = vec![Tally::default(); present.len()];
        loop {
            let first = next.fetch_add(HANDFUL, Ordering::Relaxed);
            if first >= most {
                return tallies;
            }
            for number in first..most.min(first + HANDFUL) {
                let seats = present.iter().zip(&mut tallies).filter(|(who, _)| number < wanted(who));
                watch(scenario, seats, Dice::of(seed, &scenario.name, number));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut sums = vec![Tally::default(); present.len()];
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            // A panic in a worker is a bug of a judge: it goes on here.
            let tallies = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sums.iter_mut().zip(tallies).for_each(|(sum, tally)| sum.merge(tally));
        }
    });
    // Which core played which watch is chance; the figures must not show it.
    sums.iter_mut().for_each(|sum| sum.delays.sort_by(f64::total_cmp));
    present.into_iter().zip(sums).map(|(who, tally)| Outcome { who, tally }).collect()
}

/// A judge in one watch, and where its alarm is noted.
struct Seat<'tally> {
    judge: Box<dyn Judge>,
    tally: &'tally mut Tally,
}

fn watch<'a>(scenario: &Scenario, judges: impl Iterator<Item = (&'a Who, &'a mut Tally)>, dice: Dice) {
    let seat = |(who, tally): (&Who, &'a mut Tally)| {
        tally.watches += 1;
        who.judge(scenario).map(|judge| Seat { judge, tally })
    };
    let mut seats: Vec<Seat> = judges.filter_map(seat).collect();
    let history = scenario.history;
    let mut simulator = Simulator::new(&scenario.traffic, dice, -history.seconds());
    let mut look = Look::default();
    for (blocks, seconds) in [(history.windows, WINDOW_SECONDS), (history.looks, LOOK_SECONDS)] {
        for _ in 0..blocks {
            simulator.advance(seconds, &mut look);
            seats.iter_mut().for_each(|seat| seat.judge.before(&look));
        }
    }
    for _ in 0..(WATCH_SECONDS / LOOK_SECONDS).round() as u32 {
        simulator.advance(LOOK_SECONDS, &mut look);
        seats.retain_mut(|seat| {
            let alarm = seat.judge.look(&look).is_some();
            if alarm && look.at <= scenario.onset {
                seat.tally.early += 1;
            } else if alarm {
                seat.tally.delays.push(look.at - scenario.onset);
            }
            !alarm
        });
        if seats.is_empty() {
            return;
        }
    }
}
