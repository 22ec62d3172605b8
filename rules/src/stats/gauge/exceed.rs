//! How a gauge used to cross a level: the table of upper bounds that a run-length test holds against the present.
//!
//! "The queue was above 50 for ten samples" says little if it always stays there for twenty. A first-order Markov null
//! ("given above, it stays above with probability q") was tried and fired on 11 % of healthy releases at a correlation
//! of 0.98, because real runs age: the longer one lasts, the likelier it lasts. So the probability of exceeding next is
//! bounded per state AND per length of the current run.

use serde::{Deserialize, Serialize};

use crate::stats::error::{StatsError, open_unit};
use crate::stats::exact::Exact;
use crate::stats::numerics::beta_quantile;

/// Bins of the length of a run: 1, 2, 3-4, 5-8, 9-16, 17 and more samples.
pub const RUN_BINS: usize = 6;

/// Each bound holds with one minus this, from history.
const DELTA: f64 = 0.10;

/// A level that was never crossed is still crossed by chance: every 50th sample at most.
const LEAST_ENTRY: f64 = 0.02;

/// A run above is assumed to go on at least every other time.
const LEAST_STAY: f64 = 0.5;

/// What is assumed of runs that history holds too few of.
const UNKNOWN_STAY: f64 = 0.9;

/// Bounds stay below one, so that a likelihood ratio always exists.
const MOST_ENTRY: f64 = 0.95;
const MOST_STAY: f64 = 0.97;

/// Fewest observations a bound is computed from.
const FEWEST_SEEN: u32 = 5;

/// Upper bounds of the probability that the next sample exceeds the level, by state (0 below, 1 above) and
/// [`run_bin`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct ExceedTable([[f64; RUN_BINS]; 2]);

impl ExceedTable {
    /// The bound for a gauge that has been above (or not) for `run` samples.
    #[must_use]
    pub fn bound(&self, above: bool, run: u64) -> f64 {
        self.0[usize::from(above)][run_bin(run)]
    }

    /// Both rows, below first.
    #[must_use]
    pub fn rows(&self) -> &[[f64; RUN_BINS]; 2] {
        &self.0
    }
}

/// The bin of a run of `run` samples: 1, 2, 3-4, 5-8, 9-16, 17 and more become 0 to 5; a run of 0 becomes 0.
#[must_use]
pub fn run_bin(run: u64) -> usize {
    match run {
        0 | 1 => 0,
        2 => 1,
        3..=4 => 2,
        5..=8 => 3,
        9..=16 => 4,
        _ => 5,
    }
}

/// The table of a history of "exceeds the level" (`None` is a hole: no transition spans one, and the run after it
/// starts at 1).
///
/// Of `n` samples that followed a state and a run bin, `x` exceeded: the bound is the 90 % quantile of
/// Beta(x + 1, n - x), and 0.97 for x = n. Then it is forced to grow in the conservative direction: a longer gap never
/// makes an exceedance likelier (at least 0.02, at most 0.95), a longer run never makes its end likelier (at least 0.5,
/// at most 0.97; with fewer than 5 observations at least 0.9).
///
/// # Errors
/// When the history holds no sample.
pub fn exceed_runs(history: &[Option<bool>]) -> Result<ExceedTable, StatsError> {
    if history.iter().flatten().next().is_none() {
        return Err(StatsError::Empty { quantity: "samples before the deployment" });
    }
    let seen = count_transitions(history);
    let bound = |state: usize, bin: usize| -> Result<Option<f64>, StatsError> {
        let (followed, exceeded) = seen[state][bin];
        if followed < FEWEST_SEEN {
            return Ok(None);
        }
        if exceeded == followed {
            return Ok(Some(MOST_STAY));
        }
        let (up, down) = (f64::from(exceeded) + 1.0, f64::from(followed - exceeded));
        beta_quantile(up, down, 1.0 - DELTA).map(Some)
    };
    let (mut below, mut above) = ([0.0; RUN_BINS], [0.0; RUN_BINS]);
    let mut last = LEAST_ENTRY;
    for (bin, entry) in below.iter_mut().enumerate().rev() {
        last = bound(0, bin)?.unwrap_or(last).max(last);
        *entry = last.min(MOST_ENTRY);
    }
    let mut last = LEAST_STAY;
    for (bin, stay) in above.iter_mut().enumerate() {
        last = bound(1, bin)?.unwrap_or(UNKNOWN_STAY).max(last);
        *stay = last.min(MOST_STAY);
    }
    Ok(ExceedTable([below, above]))
}

/// (followed, exceeded) per state and run bin.
fn count_transitions(history: &[Option<bool>]) -> [[(u32, u32); RUN_BINS]; 2] {
    let mut seen = [[(0_u32, 0_u32); RUN_BINS]; 2];
    let mut current: Option<(bool, u64)> = None;
    for &sample in history {
        current = match (sample, current) {
            (None, _) => None,
            (Some(exceeds), None) => Some((exceeds, 1)),
            (Some(exceeds), Some((state, run))) => {
                let cell = &mut seen[usize::from(state)][run_bin(run)];
                cell.0 = cell.0.saturating_add(1);
                cell.1 = cell.1.saturating_add(u32::from(exceeds));
                Some(if exceeds == state { (state, run.saturating_add(1)) } else { (exceeds, 1) })
            }
        };
    }
    seen
}

/// The written form.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Stored([[Exact; RUN_BINS]; 2]);

impl From<ExceedTable> for Stored {
    fn from(table: ExceedTable) -> Self {
        Self(table.0.map(|row| row.map(Exact)))
    }
}

impl TryFrom<Stored> for ExceedTable {
    type Error = StatsError;

    fn try_from(stored: Stored) -> Result<Self, StatsError> {
        for bound in stored.0.iter().flatten() {
            open_unit("a stored bound of an exceedance", bound.0)?;
        }
        Ok(Self(stored.0.map(|row| row.map(|bound| bound.0))))
    }
}
