//! The sequential test of two arms: is the canary's share of bad requests more than `rho0` times the control's?
//!
//! Null hypothesis "worse": `p_c(t) <= rho0 p_s(t)` at all times, where the control's `p_s` may be anything and change
//! at any moment. The alternatives are ratios `rho_k = rho0 2^(k/4)`. A block in which the canary had `n_c` requests,
//! `x_c` of them bad, and the control `n_s` and `x_s`, brings, with `r = n_c/n_s`,
//!
//! ```text
//! llr_k = x_c ln(rho_k/rho0) - (x_c + x_s) ln(1 + (rho_k - rho0) r / (1 + rho0 r))
//! ```
//!
//! to the change-time kernel: each bad request is the canary's with probability `rho r / (1 + rho r)`. A trend, a burst or
//! an outage that both arms share cancels out; the split of the traffic may change from block to block.
//!
//! It is an exact supermartingale for proportions too, not only for Poisson counts: with `a = p1/p0` and
//! `b = (1 - p1)/(1 - p0)` of the conditional probabilities, `E[LR] = (1 + p_c (a - 1))^n_c (1 + p_s (b - 1))^n_s <=
//! exp(n_c p_c (a - 1) + n_s p_s (b - 1)) <= 1`, because the exponent is 0 at `p_c = rho0 p_s` and rises with `p_c`.
//! The price is caution where shares are large: the evidence for 10 % against 50 % grows a quarter slower than it could.
//!
//! Source: M. Lindon and A. Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022), per block.

use serde::{Deserialize, Serialize};

use super::dispersion::Counts;
use super::error::{StatsError, counts, log_threshold, within};
use super::exact::{self, Exact};
use super::kernel::{ChangeMixture, MOST_ALTERNATIVES};
use super::numerics::log_sum_exp;
use super::proportion::{Direction, MOST_OCTAVES, octaves_to_one};

/// What both arms did in one block. Requests may be sums of scores; each arm's bad ones are at most its total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwoArms {
    /// Bad requests of the canary.
    #[serde(with = "exact")]
    pub canary_bad: f64,
    /// All requests of the canary.
    #[serde(with = "exact")]
    pub canary_total: f64,
    /// Bad requests of the control.
    #[serde(with = "exact")]
    pub control_bad: f64,
    /// All requests of the control.
    #[serde(with = "exact")]
    pub control_total: f64,
}

impl TwoArms {
    /// Both blocks as one.
    #[must_use]
    pub fn plus(&self, other: &TwoArms) -> TwoArms {
        TwoArms {
            canary_bad: self.canary_bad + other.canary_bad,
            canary_total: self.canary_total + other.canary_total,
            control_bad: self.control_bad + other.control_bad,
            control_total: self.control_total + other.control_total,
        }
    }

    /// The canary alone.
    #[must_use]
    pub fn canary(&self) -> Counts {
        Counts { bad: self.canary_bad, total: self.canary_total }
    }

    /// The control alone.
    #[must_use]
    pub fn control(&self) -> Counts {
        Counts { bad: self.control_bad, total: self.control_total }
    }

    pub(super) fn admit(&self) -> Result<(), StatsError> {
        counts(self.canary_bad, self.canary_total)?;
        counts(self.control_bad, self.control_total)
    }

    fn tells(&self) -> bool {
        self.canary_total > 0.0 && self.control_total > 0.0
    }

    /// Whether one arm has requests and the other has none.
    pub(super) fn is_one_sided(&self) -> bool {
        (self.canary_total > 0.0) != (self.control_total > 0.0)
    }
}

/// Log-likelihood ratio of the ratio `rho` against `rho0` for one block, nats. `arms` must have requests on both sides,
/// `cluster` is what the bad requests are divided by.
fn block_llr(arms: &TwoArms, rho0: f64, rho: f64, log_gain: f64, cluster: f64) -> f64 {
    let split = arms.canary_total / arms.control_total;
    let canary = arms.canary_bad / cluster;
    let both = canary + arms.control_bad / cluster;
    if both == 0.0 {
        return 0.0;
    }
    canary * log_gain - both * ((rho - rho0) * split / (1.0 + rho0 * split)).ln_1p()
}

/// Everything that fixes a ratio test before it sees data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatioParameters {
    /// The ratio in the null hypothesis, positive.
    #[serde(with = "exact")]
    pub rho0: f64,
    /// The watch, seconds, positive.
    #[serde(with = "exact")]
    pub horizon_seconds: f64,
    /// Which way the alternatives lie.
    pub direction: Direction,
    /// How far the alternatives reach: `rho0` times (or divided by) up to `2^octaves`.
    pub octaves: u8,
    /// Alternatives per doubling. `octaves * per_octave` is at most [`MOST_ALTERNATIVES`].
    pub per_octave: u8,
    /// Weight on "from the first block on", 0 to 1; the rest goes to later starts.
    #[serde(with = "exact")]
    pub anchor_weight: f64,
    /// Requests that fail together, at least 1: bad requests are divided by it.
    #[serde(with = "exact")]
    pub cluster: f64,
}

impl RatioParameters {
    /// The grid used in production; see [`ProportionParameters::standard`](super::ProportionParameters::standard).
    #[must_use]
    pub fn standard(rho0: f64, horizon_seconds: f64, direction: Direction) -> Self {
        let (octaves, anchor_weight) = match direction {
            Direction::Worse => (MOST_OCTAVES, 0.7),
            Direction::Better => (3, 1.0),
        };
        let (per_octave, cluster) = (2, 1.0);
        Self { rho0, horizon_seconds, direction, octaves, per_octave, anchor_weight, cluster }
    }

    /// The same, for a control of which about `share` is bad: no share is above one, so that no ratio is above `1/share`.
    #[must_use]
    pub fn beside(self, share: f64) -> Self {
        match self.direction {
            Direction::Worse => Self { octaves: octaves_to_one(share * self.rho0), ..self },
            Direction::Better => self,
        }
    }
}

/// The running test of two arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct RatioTest {
    parameters: RatioParameters,
    mixture: ChangeMixture,
    /// `ln(rho_k/rho0)`, nats, and `rho_k`.
    grid: Box<[(f64, f64)]>,
}

impl RatioTest {
    /// The test with the standard grid and independent requests.
    ///
    /// # Errors
    /// When `rho0` or the horizon, in seconds, is not positive.
    pub fn new(rho0: f64, horizon_seconds: f64, direction: Direction) -> Result<Self, StatsError> {
        Self::with_parameters(RatioParameters::standard(rho0, horizon_seconds, direction))
    }

    /// The test with every parameter explicit.
    ///
    /// # Errors
    /// When a parameter is outside the range its documentation names.
    pub fn with_parameters(parameters: RatioParameters) -> Result<Self, StatsError> {
        let rho0 = within("the tested ratio", parameters.rho0, parameters.rho0 > 0.0, "a positive number")?;
        within("the cluster size", parameters.cluster, parameters.cluster >= 1.0, "1 or more")?;
        let alternatives = usize::from(parameters.octaves) * usize::from(parameters.per_octave);
        let mixture = ChangeMixture::new(alternatives, parameters.horizon_seconds, parameters.anchor_weight)?;
        let sign = match parameters.direction {
            Direction::Worse => 1.0,
            Direction::Better => -1.0,
        };
        let step = sign * std::f64::consts::LN_2 / f64::from(parameters.per_octave);
        let grid =
            (1..=alternatives).map(|k| k as f64 * step).map(|gain| (gain, rho0 * gain.exp())).collect();
        Ok(Self { parameters, mixture, grid })
    }

    /// Takes in one block over `dt_seconds` and returns the new log e-value, nats. A block without traffic on both arms is
    /// a hole: arms that are seldom seen in the same moment are paired first ([`Pairs`](super::Pairs)).
    ///
    /// # Errors
    /// When a count is out of range or not finite, or `dt_seconds` is negative. The state is unchanged.
    #[inline]
    pub fn update(&mut self, arms: &TwoArms, dt_seconds: f64) -> Result<f64, StatsError> {
        let values = self.block_evidence(arms)?;
        let llr = arms.tells().then(|| &values[..self.grid.len()]);
        self.mixture.update(llr, dt_seconds)
    }

    /// What a block would bring to each alternative, nats, without taking it in; zeros if an arm has no requests. The
    /// first `octaves * per_octave` values count.
    ///
    /// # Errors
    /// When a count is out of range or not finite.
    #[inline]
    pub fn block_evidence(&self, arms: &TwoArms) -> Result<[f64; MOST_ALTERNATIVES], StatsError> {
        arms.admit()?;
        let mut values = [0.0; MOST_ALTERNATIVES];
        if arms.tells() {
            let RatioParameters { rho0, cluster, .. } = self.parameters;
            for (value, (gain, rho)) in values.iter_mut().zip(&self.grid) {
                *value = block_llr(arms, rho0, *rho, *gain, cluster);
            }
        }
        Ok(values)
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

    /// Whether the evidence has ever reached `1/alpha`; see [`ProportionTest::rejects`](super::ProportionTest::rejects).
    ///
    /// # Errors
    /// When `alpha` is outside (0, 1).
    pub fn rejects(&self, alpha: f64) -> Result<bool, StatsError> {
        self.mixture.rejects(alpha)
    }

    /// What was fixed before the first block.
    #[must_use]
    pub fn parameters(&self) -> &RatioParameters {
        &self.parameters
    }

    /// How many alternatives the grid has.
    #[must_use]
    pub fn alternatives(&self) -> usize {
        self.grid.len()
    }

    /// How many numbers make up the running state.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.mixture.numbers()
    }
}

/// The written form; the grid follows from the parameters.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    parameters: RatioParameters,
    mixture: ChangeMixture,
}

impl From<RatioTest> for Stored {
    fn from(test: RatioTest) -> Self {
        let RatioTest { parameters, mixture, .. } = test;
        Self { parameters, mixture }
    }
}

impl TryFrom<Stored> for RatioTest {
    type Error = StatsError;

    fn try_from(stored: Stored) -> Result<Self, StatsError> {
        let fresh = Self::with_parameters(stored.parameters)?;
        stored.mixture.continues(&fresh.mixture)?;
        Ok(Self { mixture: stored.mixture, ..fresh })
    }
}

/// Bounds of a ratio of shares. `upper` is `None` when the data do not bound it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatioInterval {
    /// Lower bound; 0 when the data do not bound it.
    pub lower: f64,
    /// Upper bound.
    pub upper: Option<f64>,
}

/// A confidence sequence for the ratio of two shares, valid at every look and for any split of the traffic: the ratios
/// on a fixed grid against which a uniform mixture over the grid has no e-value of `1/alpha`, rounded outward by one step.
/// It covers a constant ratio, whatever the control does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredSequence", into = "StoredSequence")]
pub struct RatioSequence {
    /// The exponents of the first and of the last grid point: `2^lowest ... 2^highest`.
    lowest: i8,
    highest: i8,
    per_octave: u8,
    cluster: f64,
    /// Log-likelihood of each grid point against the ratio 1, nats.
    log_likelihoods: Box<[f64]>,
}

/// The widest grid: sixteen octaves of eight steps.
const MOST_GRID_POINTS: usize = 129;

impl RatioSequence {
    /// Ratios from 1/4 to 32 in quarter octaves: 29 numbers of state. Beyond them the data bound nothing.
    ///
    /// # Errors
    /// When `cluster` is below 1.
    pub fn new(cluster: f64) -> Result<Self, StatsError> {
        Self::with_grid(-2, 5, 4, cluster)
    }

    /// Ratios from `2^lowest` to `2^highest` in `per_octave` steps a doubling.
    ///
    /// # Errors
    /// When the grid is empty or has more than 129 points, or `cluster` is below 1.
    pub fn with_grid(lowest: i8, highest: i8, per_octave: u8, cluster: f64) -> Result<Self, StatsError> {
        within("the cluster size", cluster, cluster >= 1.0, "1 or more")?;
        let steps = (i32::from(highest) - i32::from(lowest)) * i32::from(per_octave);
        let points = usize::try_from(steps + 1).unwrap_or(0);
        if steps < 1 || points > MOST_GRID_POINTS {
            let expected = MOST_GRID_POINTS;
            return Err(StatsError::Length { quantity: "the grid of ratios", expected, found: points });
        }
        let log_likelihoods = vec![0.0; points].into();
        Ok(Self { lowest, highest, per_octave, cluster, log_likelihoods })
    }

    /// Takes in one block. Without requests on both arms nothing is learned.
    ///
    /// # Errors
    /// When a count is out of range or not finite. The state is unchanged.
    pub fn update(&mut self, arms: &TwoArms) -> Result<(), StatsError> {
        arms.admit()?;
        if arms.tells() {
            for place in 0..self.log_likelihoods.len() {
                let log_rho = self.log_rho(place);
                self.log_likelihoods[place] += block_llr(arms, 1.0, log_rho.exp(), log_rho, self.cluster);
            }
        }
        Ok(())
    }

    /// The ratios that the data do not exclude at level `alpha`.
    ///
    /// # Errors
    /// When `alpha` is outside (0, 1).
    pub fn interval(&self, alpha: f64) -> Result<RatioInterval, StatsError> {
        let threshold = log_threshold(alpha)?;
        let points = self.log_likelihoods.len();
        let mixture = log_sum_exp(&self.log_likelihoods) - (points as f64).ln();
        let stands = |place: &usize| mixture - self.log_likelihoods[*place] < threshold;
        // The best point always stands: a mean is no larger than the largest.
        let first = (0..points).find(stands).unwrap_or(0);
        let last = (0..points).rev().find(stands).unwrap_or(points - 1);
        let lower = if first == 0 { 0.0 } else { self.log_rho(first - 1).exp() };
        let upper = (last + 1 < points).then(|| self.log_rho(last + 1).exp());
        Ok(RatioInterval { lower, upper })
    }

    /// How many numbers make up the running state.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.log_likelihoods.len()
    }

    fn log_rho(&self, place: usize) -> f64 {
        let octaves = f64::from(self.lowest) + place as f64 / f64::from(self.per_octave);
        octaves * std::f64::consts::LN_2
    }
}

/// The written form of a [`RatioSequence`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSequence {
    lowest: i8,
    highest: i8,
    per_octave: u8,
    #[serde(with = "exact")]
    cluster: f64,
    log_likelihoods: Vec<Exact>,
}

impl From<RatioSequence> for StoredSequence {
    fn from(sequence: RatioSequence) -> Self {
        let RatioSequence { lowest, highest, per_octave, cluster, log_likelihoods } = sequence;
        let log_likelihoods = log_likelihoods.iter().copied().map(Exact).collect();
        Self { lowest, highest, per_octave, cluster, log_likelihoods }
    }
}

impl TryFrom<StoredSequence> for RatioSequence {
    type Error = StatsError;

    fn try_from(stored: StoredSequence) -> Result<Self, StatsError> {
        let StoredSequence { lowest, highest, per_octave, cluster, log_likelihoods } = stored;
        let mut sequence = Self::with_grid(lowest, highest, per_octave, cluster)?;
        let (expected, found) = (sequence.log_likelihoods.len(), log_likelihoods.len());
        if expected != found {
            return Err(StatsError::Length { quantity: "the stored grid of ratios", expected, found });
        }
        for (slot, stored) in sequence.log_likelihoods.iter_mut().zip(log_likelihoods) {
            *slot = super::error::finite("a stored log-likelihood", stored.0)?;
        }
        Ok(sequence)
    }
}
