//! The sequential test of a proportion: is the share of bad requests above (or safely below) a fixed level?
//!
//! Null hypothesis "worse": every request, whatever happened before it, is bad with probability at most `p0`. The
//! alternatives multiply the odds by `m_k = 2^(k/4)`, so `p_k = p0 m_k / (1 - p0 + p0 m_k)`, and a block of `n`
//! requests with `x` bad ones brings
//!
//! ```text
//! llr_k = x ln(p_k/p0) + (n - x) ln((1 - p_k)/(1 - p0)) = x ln m_k - n ln(1 + p0 (m_k - 1))
//! ```
//!
//! to the change-time kernel. The second form is the one computed: it has no cancellation. It is an exact
//! supermartingale: `E[m^u] <= 1 + p (m - 1) <= 1 + p0 (m - 1)` for any `u` in \[0, 1\] of mean `p <= p0`, so `x` may
//! be a sum of \[0, 1\]-valued scores and blocks may have any size. "Better" turns every inequality around.
//!
//! Two uses. Absolute: `p0` is the level the policy names, 10 % or 5 %. Before/after: `p0` is the allowed ratio times
//! the upper bound of the old release's proportion (see [`beta_binomial_baseline`](super::beta_binomial_baseline));
//! then the guarantee is `alpha + delta` AND rests on the next hour behaving like the history, which no test can check.
//!
//! Source: the mixture method of J. Ville, "Etude critique de la notion de collectif" (1939), and Howard, Ramdas,
//! McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences" (Annals of Statistics 2021).

use serde::{Deserialize, Serialize};

use super::error::{StatsError, counts, open_unit, within};
use super::exact;
use super::kernel::{ChangeMixture, MOST_ALTERNATIVES};

/// Which way the alternatives lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Null: the proportion is at most `p0`. Evidence says "worse than the level".
    Worse,
    /// Null: the proportion is at least `p0`. Evidence says "below the level": this is what a pass rests on.
    Better,
}

/// Everything that fixes a test before it sees data. Choosing any of it afterwards voids the guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProportionParameters {
    /// The level in the null hypothesis, strictly between 0 and 1.
    #[serde(with = "exact")]
    pub p0: f64,
    /// The watch, seconds, positive.
    #[serde(with = "exact")]
    pub horizon_seconds: f64,
    /// Which way the alternatives lie.
    pub direction: Direction,
    /// How far the alternatives reach: odds times (or divided by) up to `2^octaves`.
    pub octaves: u8,
    /// Alternatives per doubling of the odds. `octaves * per_octave` is at most [`MOST_ALTERNATIVES`].
    pub per_octave: u8,
    /// Weight on "from the first block on", 0 to 1; the rest goes to later starts.
    #[serde(with = "exact")]
    pub anchor_weight: f64,
    /// Requests that fail together, at least 1: counts are divided by it. Exact when it bounds the size of every
    /// cluster; with an estimated dispersion in its place the guarantee is asymptotic.
    #[serde(with = "exact")]
    pub cluster: f64,
}

/// The log-likelihood ratios of one block, nats, one per alternative.
#[derive(Debug, Clone, Copy)]
pub struct BlockEvidence {
    alternatives: usize,
    values: [f64; MOST_ALTERNATIVES],
}

/// The running test: a change-time mixture over odds multiples, and the counts it has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct ProportionTest {
    parameters: ProportionParameters,
    mixture: ChangeMixture,
    bad: f64,
    total: f64,
    /// `ln m_k`: what a bad request brings before the toll, nats.
    gain: Box<[f64]>,
    /// `ln(1 + p0 (m_k - 1))`: what every request costs, nats.
    toll: Box<[f64]>,
}

/// The grid reaches this far at most: ratios beyond 64 times the tested one are found as soon without.
pub(super) const MOST_OCTAVES: u8 = 6;

/// Doublings from `share` up to a share of one, at least one and at most six: alternatives beyond would be shares above
/// one, and the weight on them lost.
pub(super) fn octaves_to_one(share: f64) -> u8 {
    // Saturating; not a number gives the fewest.
    (-share.log2()).ceil().clamp(1.0, f64::from(MOST_OCTAVES)) as u8
}

impl ProportionParameters {
    /// The grid used in production. Worse: two alternatives a doubling, over six doublings or up to a share of one, seven
    /// tenths of the weight on an immediate start, since most of what is wrong with a release is wrong from its first
    /// request on. Better: 6 alternatives over three octaves, all weight on the start, because a pass speaks of the whole
    /// watch. Twice as many alternatives find nothing sooner (measured: `make bench-detection`).
    #[must_use]
    pub fn standard(p0: f64, horizon_seconds: f64, direction: Direction) -> Self {
        let (octaves, anchor_weight) = match direction {
            Direction::Worse => (octaves_to_one(p0), 0.7),
            Direction::Better => (3, 1.0),
        };
        Self { p0, horizon_seconds, direction, octaves, per_octave: 2, anchor_weight, cluster: 1.0 }
    }
}

impl BlockEvidence {
    /// One log-likelihood ratio per alternative, from the smallest effect to the largest, nats.
    #[must_use]
    pub fn as_slice(&self) -> &[f64] {
        &self.values[..self.alternatives]
    }
}

impl ProportionTest {
    /// The test with the grid of [`ProportionParameters::standard`] and independent requests (`cluster` 1).
    ///
    /// # Errors
    /// When `p0` is outside (0, 1) or the horizon, in seconds, is not positive.
    pub fn new(p0: f64, horizon_seconds: f64, direction: Direction) -> Result<Self, StatsError> {
        Self::with_parameters(ProportionParameters::standard(p0, horizon_seconds, direction))
    }

    /// The test with every parameter explicit.
    ///
    /// # Errors
    /// When a parameter is outside the range its documentation names.
    pub fn with_parameters(parameters: ProportionParameters) -> Result<Self, StatsError> {
        let p0 = open_unit("the tested proportion p0", parameters.p0)?;
        within("the cluster size", parameters.cluster, parameters.cluster >= 1.0, "1 or more")?;
        let alternatives = usize::from(parameters.octaves) * usize::from(parameters.per_octave);
        let mixture = ChangeMixture::new(alternatives, parameters.horizon_seconds, parameters.anchor_weight)?;
        let sign = match parameters.direction {
            Direction::Worse => 1.0,
            Direction::Better => -1.0,
        };
        let step = sign * std::f64::consts::LN_2 / f64::from(parameters.per_octave);
        let gain: Box<[f64]> = (1..=alternatives).map(|k| k as f64 * step).collect();
        let toll = gain.iter().map(|gain| (p0 * gain.exp_m1()).ln_1p()).collect();
        Ok(Self { parameters, mixture, bad: 0.0, total: 0.0, gain, toll })
    }

    /// Takes in one block: `bad` of `total` requests (or a sum of `total` scores from 0 to 1) over `dt_seconds`.
    /// Returns the new log e-value, nats. `total` 0 is a hole: time passes and the evidence stays.
    ///
    /// # Errors
    /// When `bad` is negative or above `total`, a number is not finite, or `dt_seconds` is negative. The state is
    /// unchanged.
    #[inline]
    pub fn update(&mut self, bad: f64, total: f64, dt_seconds: f64) -> Result<f64, StatsError> {
        let evidence = self.block_evidence(bad, total)?;
        let llr = if total > 0.0 { Some(evidence.as_slice()) } else { None };
        let log_e = self.mixture.update(llr, dt_seconds)?;
        self.bad += bad;
        self.total += total;
        Ok(log_e)
    }

    /// What a block would bring to each alternative, without taking it in.
    ///
    /// # Errors
    /// When `bad` is negative or above `total`, or a number is not finite.
    #[inline]
    pub fn block_evidence(&self, bad: f64, total: f64) -> Result<BlockEvidence, StatsError> {
        counts(bad, total)?;
        let (bad, total) = (bad / self.parameters.cluster, total / self.parameters.cluster);
        let mut values = [0.0; MOST_ALTERNATIVES];
        for (value, (gain, toll)) in values.iter_mut().zip(self.gain.iter().zip(&self.toll)) {
            *value = bad * gain - total * toll;
        }
        Ok(BlockEvidence { alternatives: self.mixture.alternatives(), values })
    }

    /// The current log e-value, nats.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.mixture.log_e()
    }

    /// The largest log e-value so far, at least 0, nats.
    #[must_use]
    pub fn max_log_e(&self) -> f64 {
        self.mixture.max_log_e()
    }

    /// The anytime-valid p-value; it never rises.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        self.mixture.p_value()
    }

    /// Whether the evidence has ever reached `1/alpha`. Under the null this happens with probability at most `alpha`
    /// over the whole watch, however often it is asked.
    ///
    /// # Errors
    /// When `alpha` is outside (0, 1).
    pub fn rejects(&self, alpha: f64) -> Result<bool, StatsError> {
        self.mixture.rejects(alpha)
    }

    /// Bad requests taken in so far.
    #[must_use]
    pub fn bad(&self) -> f64 {
        self.bad
    }

    /// Requests taken in so far.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.total
    }

    /// How many alternatives the grid has.
    #[must_use]
    pub fn alternatives(&self) -> usize {
        self.mixture.alternatives()
    }

    /// How many numbers make up the running state.
    #[must_use]
    pub fn numbers(&self) -> usize {
        // bad and total
        self.mixture.numbers() + 2
    }

    /// What was fixed before the first block.
    #[must_use]
    pub fn parameters(&self) -> &ProportionParameters {
        &self.parameters
    }
}

/// The written form. The grid is not stored: it follows from the parameters.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    parameters: ProportionParameters,
    mixture: ChangeMixture,
    #[serde(with = "exact")]
    bad: f64,
    #[serde(with = "exact")]
    total: f64,
}

impl From<ProportionTest> for Stored {
    fn from(test: ProportionTest) -> Self {
        Self { parameters: test.parameters, mixture: test.mixture, bad: test.bad, total: test.total }
    }
}

impl TryFrom<Stored> for ProportionTest {
    type Error = StatsError;

    fn try_from(stored: Stored) -> Result<Self, StatsError> {
        let fresh = Self::with_parameters(stored.parameters)?;
        stored.mixture.continues(&fresh.mixture)?;
        counts(stored.bad, stored.total)?;
        Ok(Self { mixture: stored.mixture, bad: stored.bad, total: stored.total, ..fresh })
    }
}
