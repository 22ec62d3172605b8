//! What was seen since the last checkpoint, added up.

use crate::ids::SignalName;
use crate::signal::{Measurement, Observation, Reading};
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// Levels of a gauge that are kept: what it did lately, and no more than a card shows.
const MOST_LEVELS: usize = 5;

/// What was seen of each signal since a moment. A fold of measurements: the same ones give the same tally.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// Since when.
    pub since: Timestamp,
    signals: BTreeMap<SignalName, Sum>,
}

/// One signal's sum.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Sum {
    /// End of the last window that was counted; it stays over a turn, or the next window would be counted in part.
    until: Option<Timestamp>,
    /// Counts or buckets, added up.
    pub(super) reading: Option<Reading>,
    /// The last levels, the newest last.
    pub(super) levels: VecDeque<f64>,
    /// Looks that brought something, and looks that did not.
    pub(super) looks: (u32, u32),
    /// Why the last look brought nothing.
    pub(super) hole: Option<String>,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new(since: Timestamp) -> Self {
        Self { since, signals: BTreeMap::new() }
    }

    /// Takes one measurement in, unless a part of it was counted before or is older than this tally. A hole counts as a
    /// hole.
    pub fn take(&mut self, measurement: &Measurement) {
        let Measurement { signal, from, to, observation, .. } = measurement;
        let sum = self.signals.entry(signal.clone()).or_default();
        if *from < sum.until.unwrap_or(self.since) || to <= from {
            return;
        }
        let Observation::Seen { reading, .. } = observation else {
            sum.looks.1 = sum.looks.1.saturating_add(1);
            sum.hole = observation.hole();
            return;
        };
        sum.until = Some(*to);
        sum.looks.0 = sum.looks.0.saturating_add(1);
        sum.hole = None;
        if let Reading::Level { value } = reading {
            sum.levels.push_back(*value);
            if sum.levels.len() > MOST_LEVELS {
                sum.levels.pop_front();
            }
        } else {
            // Buckets with new edges cannot be added to the old ones: what is seen from here on is what counts.
            let both = sum.reading.as_ref().and_then(|before| before.plus(reading));
            sum.reading = Some(both.unwrap_or_else(|| reading.clone()));
        }
    }

    /// Begins anew at a checkpoint.
    pub fn turn_over(&mut self, at: Timestamp) {
        self.since = at;
        for sum in self.signals.values_mut() {
            *sum = Sum { until: sum.until, hole: sum.hole.take(), ..Sum::default() };
        }
    }

    pub(super) fn of(&self, signal: &SignalName) -> Option<&Sum> {
        self.signals.get(signal)
    }
}
