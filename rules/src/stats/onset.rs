//! When did it begin? The posterior over the start of a regression, from a bounded memory of the watch.
//!
//! The kernel mixes over all start times and thereby forgets which of them carried the evidence. Blame needs exactly
//! that: a degradation that began before a deployment is not its fault. So a ring keeps the counts of the watch, and on
//! demand the same prior and the same likelihood ratios are summed start by start:
//!
//! ```text
//! E(s)  = mean_k exp( sum of llr_k over the blocks from s on )
//! share(s) = w_s E(s) / sum,      w_s = (1 - wa) len_s / H,  plus wa on the beginning of the ring
//! no change yet:  (1 - wa)(1 - spent) with E = 1
//! ```
//!
//! # Why 24 blocks are enough
//!
//! A watch of an hour has hundreds of looks, and nobody asks whether something began 51 minutes ago or 51 minutes and
//! ten seconds. When the ring is full it merges the two neighbours that are shortest for their age, so resolution
//! stays proportional to age and nothing is ever dropped. With 24 blocks, an hour of 10-second looks keeps the latest
//! looks single and has steps of at most two fifths of the age further back. That is where it has to be fine: evidence
//! fires minutes after an onset, and the question is asked then. An onset half an hour old is only known to within ten
//! minutes; twice the blocks would make that five, and every signal twice as heavy.
//!
//! Counts are `f32`: a block is 20 bytes, and a datum takes part in a dozen merges, each exact to 6e-8. Evidence for a
//! decision never comes from here.
//!
//! Source: the weighted Shiryaev-Roberts mixture of the kernel, unrolled; A. N. Shiryaev, "On optimum methods in
//! quickest detection problems" (1963).

use serde::{Deserialize, Serialize};

use super::dispersion::Counts;
use super::error::{MOST_REQUESTS, StatsError, counts, finite, within};
use super::kernel::MOST_ALTERNATIVES;
use super::numerics::{log_add_exp, log_sum_exp};

/// Blocks in a ring; the module's text says why.
pub const RING_BLOCKS: usize = 24;

/// Longest time a ring holds, seconds: thirty years. It exists so that sums of `f32` stay finite.
const LONGEST: f64 = 1e9;

/// How far inside its range an end of the central interval lies: 80 %.
const TAIL: f64 = 0.1;

/// Points by which [`Onset::weights`] stands for one stretch.
const POINTS: u32 = 4;

/// What one block of the watch saw.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RingBlock {
    seconds: f32,
    canary_bad: f32,
    canary_total: f32,
    control_bad: f32,
    control_total: f32,
}

/// The watch so far in at most [`RING_BLOCKS`] blocks, oldest first. A fixed array: appending allocates nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct BlockRing {
    blocks: [RingBlock; RING_BLOCKS],
    used: usize,
}

/// The prior of the start, fixed before the watch; use the kernel's own numbers to get the kernel's own posterior.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnsetPrior {
    /// Time over which later starts are spread evenly, seconds, positive. Starts beyond it have no weight.
    pub horizon_seconds: f64,
    /// Weight on the very beginning of the ring, 0 to 1. 0 when the ring begins before the deployment.
    pub anchor_weight: f64,
}

/// How much of the posterior lies between two moments, evenly spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartShare {
    /// The older moment, seconds before the end of the ring.
    pub from_seconds: f64,
    /// The newer moment, seconds before the end of the ring; equal to `from_seconds` for the anchor.
    pub to_seconds: f64,
    /// Probability, given that there was a change.
    pub share: f64,
}

/// The posterior of the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Onset {
    /// The median start, seconds before the end of the ring.
    pub median_seconds: f64,
    /// The older end of the central 80 % interval, seconds before the end of the ring.
    pub earliest_seconds: f64,
    /// The newer end of the central 80 % interval, seconds before the end of the ring.
    pub latest_seconds: f64,
    /// Posterior probability that the change has happened, against "it comes later in the watch". The prior knows no
    /// "never": at the end of the watch this is 1 for a healthy release too. It is not evidence for a regression.
    pub probability: f64,
    /// The whole posterior given a change, oldest first; the shares sum to 1.
    pub starts: Vec<StartShare>,
}

impl RingBlock {
    /// Length, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds.into()
    }

    /// The canary, or the only arm there is.
    #[must_use]
    pub fn canary(&self) -> Counts {
        Counts { bad: self.canary_bad.into(), total: self.canary_total.into() }
    }

    /// The control; zeros when there is none.
    #[must_use]
    pub fn control(&self) -> Counts {
        Counts { bad: self.control_bad.into(), total: self.control_total.into() }
    }

    fn of(seconds: f64, canary: Counts, control: Counts) -> Result<Self, StatsError> {
        within("the length of a block in seconds", seconds, (0.0..=LONGEST).contains(&seconds), "0 to 1e9")?;
        counts(canary.bad, canary.total)?;
        counts(control.bad, control.total)?;
        // Rounding keeps order, so what was bad <= total stays so.
        Ok(Self {
            seconds: seconds as f32,
            canary_bad: canary.bad as f32,
            canary_total: canary.total as f32,
            control_bad: control.bad as f32,
            control_total: control.total as f32,
        })
    }

    fn joined(self, next: Self) -> Self {
        Self {
            seconds: self.seconds + next.seconds,
            canary_bad: self.canary_bad + next.canary_bad,
            canary_total: self.canary_total + next.canary_total,
            control_bad: self.control_bad + next.control_bad,
            control_total: self.control_total + next.control_total,
        }
    }
}

impl BlockRing {
    /// An empty ring.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The blocks, oldest first.
    #[must_use]
    pub fn blocks(&self) -> &[RingBlock] {
        &self.blocks[..self.used]
    }

    /// Time held, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.blocks().iter().map(RingBlock::seconds).sum()
    }

    /// Appends what one look saw: `seconds` of watch, and the counts of the two arms (zeros where there is no arm or
    /// no data; a hole is a block of zeros, because time passes in it).
    ///
    /// # Errors
    /// When a count is negative, not finite or has more bad requests than requests, the length is negative or not
    /// finite, or the ring would hold more than 1e15 requests per arm or 1e9 seconds. The ring is unchanged.
    pub fn append(&mut self, seconds: f64, canary: Counts, control: Counts) -> Result<(), StatsError> {
        let block = RingBlock::of(seconds, canary, control)?;
        let after = |part: fn(&RingBlock) -> f64| {
            self.blocks().iter().chain(std::iter::once(&block)).map(part).sum::<f64>()
        };
        let length = after(RingBlock::seconds);
        within("the time in the ring in seconds", length, length <= LONGEST, "at most 1e9")?;
        for total in [after(|block| block.canary().total), after(|block| block.control().total)] {
            within("the number of requests in the ring", total, total <= MOST_REQUESTS, "at most 1e15")?;
        }
        if self.used == RING_BLOCKS {
            self.merge_shortest_for_its_age(seconds);
        }
        self.blocks[self.used] = block;
        self.used += 1;
        Ok(())
    }

    /// Joins the neighbours whose common length is smallest relative to the age of their beginning, `since_end` seconds
    /// after the end of the newest; the older pair on a tie.
    fn merge_shortest_for_its_age(&mut self, since_end: f64) {
        let (mut age, mut best, mut least) = (since_end + self.seconds(), 0, f64::INFINITY);
        for (position, pair) in self.blocks().windows(2).enumerate() {
            let length = pair[0].seconds() + pair[1].seconds();
            let relative = if length > 0.0 { length / age } else { 0.0 };
            if relative < least {
                (best, least) = (position, relative);
            }
            age -= pair[0].seconds();
        }
        self.blocks[best] = self.blocks[best].joined(self.blocks[best + 1]);
        self.blocks.copy_within(best + 2..self.used, best + 1);
        self.used -= 1;
        self.blocks[self.used] = RingBlock::default();
    }
}

impl Onset {
    /// Posterior probability, given a change, that it began earlier than `seconds_before_end` (seconds before the end
    /// of the ring). With the age of a deployment: how much speaks for "it was broken before". The anchor's mass counts as
    /// earlier only when the moment is strictly newer.
    #[must_use]
    pub fn mass_before(&self, seconds_before_end: f64) -> f64 {
        let earlier = |start: &StartShare| {
            let length = start.from_seconds - start.to_seconds;
            let part = start.from_seconds - seconds_before_end;
            if part <= 0.0 {
                0.0
            } else if part >= length {
                start.share
            } else {
                start.share * part / length
            }
        };
        self.starts.iter().map(earlier).sum::<f64>().min(1.0)
    }

    /// The posterior as (time, weight) points on the caller's clock, on which the ring ends at `end_seconds`; the
    /// weights sum to 1. This is what [`attribution`](crate::attribution) takes.
    #[must_use]
    pub fn weights(&self, end_seconds: f64) -> Vec<(f64, f64)> {
        let points = |start: &StartShare| {
            let start = *start;
            let length = start.from_seconds - start.to_seconds;
            let points = if length > 0.0 { POINTS } else { 1 };
            (0..points).map(move |point| {
                let inside = length * (f64::from(point) + 0.5) / f64::from(points);
                (end_seconds - start.from_seconds + inside, start.share / f64::from(points))
            })
        };
        self.starts.iter().flat_map(points).collect()
    }

    fn of(starts: Vec<StartShare>, probability: f64) -> Self {
        let at = |level: f64| quantile(&starts, level);
        let (earliest_seconds, median_seconds, latest_seconds) = (at(TAIL), at(0.5), at(1.0 - TAIL));
        Self { median_seconds, earliest_seconds, latest_seconds, probability, starts }
    }
}

/// The posterior of the start under `prior`, with `alternatives` effect sizes of equal weight. `llr` gives the log
/// likelihood ratios of one block, nats, one per alternative, exactly as the running test would, or `None` for a block
/// that carries no information (an arm without requests). `None` when no block is informative or no start has weight:
/// nothing is known about the onset, which is not the same as "no onset".
///
/// # Errors
/// When the horizon is not positive, the weight is outside \[0, 1\], `alternatives` is 0 or above
/// [`MOST_ALTERNATIVES`], or `llr` refuses, returns another number of entries or one that is not finite.
pub fn onset<V: AsRef<[f64]>>(
    ring: &BlockRing,
    prior: OnsetPrior,
    alternatives: usize,
    llr: impl Fn(&RingBlock) -> Result<Option<V>, StatsError>,
) -> Result<Option<Onset>, StatsError> {
    let OnsetPrior { horizon_seconds: horizon, anchor_weight: anchor } = prior;
    within("the watch in seconds", horizon, horizon > 0.0, "a positive number")?;
    within("the anchor weight", anchor, (0.0..=1.0).contains(&anchor), "a number from 0 to 1")?;
    if alternatives == 0 || alternatives > MOST_ALTERNATIVES {
        let quantity = "the list of alternatives (at least one)";
        return Err(StatsError::Length { quantity, expected: MOST_ALTERNATIVES, found: alternatives });
    }
    let Some(evidence) = evidence_by_start(ring, alternatives, llr)? else { return Ok(None) };

    let (mut stretches, mut spent, mut age) = (Vec::with_capacity(ring.used + 1), 0.0, ring.seconds());
    if anchor > 0.0 {
        stretches.push((age, age, anchor.ln() + evidence[0]));
    }
    for (block, log_e) in ring.blocks().iter().zip(evidence) {
        let newer = (age - block.seconds()).max(0.0);
        let weight = (block.seconds() / horizon).min(1.0 - spent);
        spent += weight;
        stretches.push((age, newer, ((1.0 - anchor) * weight).ln() + log_e));
        age = newer;
    }
    let masses: Vec<f64> = stretches.iter().map(|stretch| stretch.2).collect();
    let changed = log_sum_exp(&masses);
    if changed == f64::NEG_INFINITY {
        return Ok(None);
    }
    let not_yet = ((1.0 - anchor) * (1.0 - spent)).max(0.0).ln();
    let probability = (changed - log_add_exp(changed, not_yet)).exp();
    let share = |(from_seconds, to_seconds, mass): (f64, f64, f64)| StartShare {
        from_seconds,
        to_seconds,
        share: (mass - changed).exp(),
    };
    Ok(Some(Onset::of(stretches.into_iter().map(share).collect(), probability)))
}

/// `ln E(s)` for a start at the beginning of every block; `None` when no block is informative. Slots beyond the ring's
/// blocks stay 0.
fn evidence_by_start<V: AsRef<[f64]>>(
    ring: &BlockRing,
    alternatives: usize,
    llr: impl Fn(&RingBlock) -> Result<Option<V>, StatsError>,
) -> Result<Option<[f64; RING_BLOCKS]>, StatsError> {
    let (mut sums, mut evidence, mut informed) = ([0.0; MOST_ALTERNATIVES], [0.0; RING_BLOCKS], false);
    for (block, log_e) in ring.blocks().iter().zip(&mut evidence).rev() {
        if let Some(values) = llr(block)? {
            let values = values.as_ref();
            if values.len() != alternatives {
                let quantity = "the log-likelihood ratios of a block";
                return Err(StatsError::Length { quantity, expected: alternatives, found: values.len() });
            }
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += finite("a log-likelihood ratio", value)?;
            }
            informed = true;
        }
        *log_e = log_sum_exp(&sums[..alternatives]) - (alternatives as f64).ln();
    }
    Ok(informed.then_some(evidence))
}

/// The moment, seconds before the end, before which `level` of the mass lies.
fn quantile(starts: &[StartShare], level: f64) -> f64 {
    let mut before = 0.0;
    for start in starts {
        if start.share > 0.0 && before + start.share >= level {
            let inside = ((level - before) / start.share).clamp(0.0, 1.0);
            return start.from_seconds - inside * (start.from_seconds - start.to_seconds);
        }
        before += start.share;
    }
    // The shares sum to one up to rounding, which can leave the last quantile just beyond the newest block.
    0.0
}

/// The written form: per block its five numbers, each as the shortest decimal that reads back to the same bits, for the
/// reason given in `exact.rs`.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Stored(Vec<[String; 5]>);

impl From<BlockRing> for Stored {
    fn from(ring: BlockRing) -> Self {
        let written = |block: &RingBlock| {
            [block.seconds, block.canary_bad, block.canary_total, block.control_bad, block.control_total]
                .map(|number| format!("{number:?}"))
        };
        Self(ring.blocks().iter().map(written).collect())
    }
}

/// Why a written ring was refused.
#[derive(Debug, thiserror::Error)]
enum BadRing {
    #[error("block {block} of a ring holds {text:?}: expected a number written as a string, like \"0.25\"")]
    Number { block: usize, text: String },
    #[error("block {block} of a ring: {source}")]
    Block { block: usize, source: StatsError },
    #[error("a ring of {found} blocks: expected at most {RING_BLOCKS}")]
    Length { found: usize },
}

impl TryFrom<Stored> for BlockRing {
    type Error = BadRing;

    fn try_from(Stored(stored): Stored) -> Result<Self, BadRing> {
        if stored.len() > RING_BLOCKS {
            return Err(BadRing::Length { found: stored.len() });
        }
        let mut ring = Self::new();
        for (block, texts) in stored.into_iter().enumerate() {
            let mut numbers = [0.0_f32; 5];
            for (number, text) in numbers.iter_mut().zip(texts) {
                *number = text.parse().map_err(|_| BadRing::Number { block, text })?;
            }
            let [seconds, canary_bad, canary_total, control_bad, control_total] = numbers.map(f64::from);
            let canary = Counts { bad: canary_bad, total: canary_total };
            let control = Counts { bad: control_bad, total: control_total };
            ring.append(seconds, canary, control).map_err(|source| BadRing::Block { block, source })?;
        }
        Ok(ring)
    }
}
