//! The one kernel behind every detector: a likelihood ratio mixed over effect sizes and over the unknown start of the
//! regression.
//!
//! A regression may begin the moment the release lands or twenty minutes later, when a cache expires. A test that is
//! anchored at the release alone must first work off the good behaviour it has stored up; the kernel therefore holds
//! two mixtures over the same K alternatives:
//!
//! ```text
//! L_k += llr_k                                        anchored: "bad from the first block", weight wa
//! S_k  = ln(e^S_k + (1 - wa) dw) + llr_k              any start: weight dw = dt/H of the watch starts in this block
//! log E = ln( wa mean_k e^L_k  +  mean_k e^S_k  +  (1 - wa)(1 - spent) )
//! ```
//!
//! `S` is a weighted Shiryaev-Roberts recursion. It equals the explicit sum over all start times with weights fixed in
//! advance, so `E` is an average of e-processes and again an e-process: Ville's inequality bounds the probability that
//! it EVER reaches 1/alpha by alpha. The price is ln 2 for regressions from the start and about ln(2 H/dt) for late ones.
//!
//! Sources: J. Ville, "Etude critique de la notion de collectif" (1939); Howard, Ramdas, McAuliffe, Sekhon,
//! "Time-uniform, nonparametric, nonasymptotic confidence sequences" (Annals of Statistics 2021); Shin, Ramdas,
//! Rinaldo, "E-detectors: a nonparametric framework for sequential change detection".

use serde::{Deserialize, Serialize};

use super::error::{StatsError, finite, log_threshold, within};
use super::exact::{self, Exact};
use super::numerics::{log_add_exp, log_sum_exp};

/// Most alternatives one kernel holds: six octaves of four steps, effects from x1.19 to x64 of the null.
pub const MOST_ALTERNATIVES: usize = 24;

/// Most nats one block may bring per alternative. A block of 1e11 requests stays below it; it exists so that no
/// sequence of finite updates can overflow the running sums to infinity.
const MOST_BLOCK_EVIDENCE: f64 = 1e12;

/// Below this the mass not yet given to a start time is rounding noise of `1 - spent`.
const NEGLIGIBLE_MASS: f64 = 1e-15;

/// A change-time mixture e-process. State is O(K), allocated once: an update allocates nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct ChangeMixture {
    horizon_seconds: f64,
    anchor_weight: f64,
    /// `L`: log-likelihood ratios since the anchor, nats, one per alternative.
    anchored: Box<[f64]>,
    /// `S`: log of the weighted sum over start times, nats. `-inf` until the first positive `dt`. Empty when all weight
    /// is on the anchor.
    started: Box<[f64]>,
    /// Share of the horizon already given to start times, 0 to 1.
    spent: f64,
    /// Log e-value after the latest update, nats.
    log_e: f64,
    /// Largest log e-value ever, at least 0, nats.
    max_log_e: f64,
}

impl ChangeMixture {
    /// A fresh process with `alternatives` effect sizes under a uniform prior, a watch of `horizon_seconds`, and
    /// `anchor_weight` (0 to 1) on "bad from the first block".
    ///
    /// # Errors
    /// When `alternatives` is 0 or above [`MOST_ALTERNATIVES`], the horizon is not positive, or the weight is outside
    /// \[0, 1\].
    pub fn new(alternatives: usize, horizon_seconds: f64, anchor_weight: f64) -> Result<Self, StatsError> {
        if alternatives == 0 {
            return Err(StatsError::Empty { quantity: "alternatives" });
        }
        if alternatives > MOST_ALTERNATIVES {
            let expected = MOST_ALTERNATIVES;
            return Err(StatsError::Length {
                quantity: "the list of alternatives",
                expected,
                found: alternatives,
            });
        }
        within("the watch in seconds", horizon_seconds, horizon_seconds > 0.0, "a positive number")?;
        unit("the anchor weight", anchor_weight)?;
        let anchored = vec![0.0; alternatives].into();
        let late = if anchor_weight < 1.0 { alternatives } else { 0 };
        let started = vec![f64::NEG_INFINITY; late].into();
        let (spent, log_e, max_log_e) = (0.0, 0.0, 0.0);
        Ok(Self { horizon_seconds, anchor_weight, anchored, started, spent, log_e, max_log_e })
    }

    /// Takes in one block of `dt_seconds` and returns the new log e-value. `llr` holds one log-likelihood ratio per
    /// alternative, nats; `None` is a hole: time passed and nothing was learned, which leaves the log e-value as it was.
    ///
    /// # Errors
    /// When `llr` has the wrong length, or a number is not finite, or `dt_seconds` is negative. The state is unchanged.
    pub fn update(&mut self, llr: Option<&[f64]>, dt_seconds: f64) -> Result<f64, StatsError> {
        self.admit(llr, dt_seconds)?;
        let share = (dt_seconds / self.horizon_seconds).min(1.0 - self.spent);
        if share > 0.0 && self.anchor_weight < 1.0 {
            let fresh = ((1.0 - self.anchor_weight) * share).ln();
            for slot in &mut self.started {
                *slot = log_add_exp(*slot, fresh);
            }
            self.spent += share;
        }
        if let Some(llr) = llr {
            for (slot, gain) in self.anchored.iter_mut().zip(llr) {
                *slot += gain;
            }
            for (slot, gain) in self.started.iter_mut().zip(llr) {
                *slot += gain;
            }
            self.log_e = self.mixture();
            self.max_log_e = self.max_log_e.max(self.log_e);
        }
        Ok(self.log_e)
    }

    /// The current log e-value, nats. 0 is "no evidence either way".
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.log_e
    }

    /// The largest log e-value so far, at least 0, nats. This is what a sequential test compares with its threshold.
    #[must_use]
    pub fn max_log_e(&self) -> f64 {
        self.max_log_e
    }

    /// The anytime-valid p-value `min(1, exp(-max log E))`; it never rises.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        (-self.max_log_e).exp().min(1.0)
    }

    /// Whether the process has ever reached `1/alpha`.
    ///
    /// # Errors
    /// When `alpha` is outside (0, 1).
    pub fn rejects(&self, alpha: f64) -> Result<bool, StatsError> {
        Ok(self.max_log_e >= log_threshold(alpha)?)
    }

    /// How many alternatives an update must bring.
    #[must_use]
    pub fn alternatives(&self) -> usize {
        self.anchored.len()
    }

    /// How many numbers make up the running state: what must be kept to go on.
    #[must_use]
    pub fn numbers(&self) -> usize {
        // spent, log E and its maximum
        self.anchored.len() + self.started.len() + 3
    }

    /// Refuses a stored mixture that was not started with the same alternatives, watch and anchor as `fresh`.
    pub(crate) fn continues(&self, fresh: &Self) -> Result<(), StatsError> {
        let (expected, found) = (fresh.alternatives(), self.alternatives());
        if expected != found {
            return Err(StatsError::Length { quantity: "the stored mixture", expected, found });
        }
        let (horizon, anchor) = (self.horizon_seconds, self.anchor_weight);
        let expected = "the value in the stored parameters";
        within(
            "the watch of the stored mixture in seconds",
            horizon,
            horizon == fresh.horizon_seconds,
            expected,
        )?;
        within("the anchor weight of the stored mixture", anchor, anchor == fresh.anchor_weight, expected)?;
        Ok(())
    }

    /// The door: everything that could poison the running sums is refused before any of them is touched.
    fn admit(&self, llr: Option<&[f64]>, dt_seconds: f64) -> Result<(), StatsError> {
        within("the length of a block in seconds", dt_seconds, dt_seconds >= 0.0, "zero or more")?;
        let Some(llr) = llr else { return Ok(()) };
        if llr.len() != self.alternatives() {
            let (expected, found) = (self.alternatives(), llr.len());
            return Err(StatsError::Length { quantity: "the likelihood ratio of a block", expected, found });
        }
        for &gain in llr {
            let quantity = "a log-likelihood ratio";
            within(quantity, gain, gain.abs() <= MOST_BLOCK_EVIDENCE, "at most 1e12 nats in one block")?;
        }
        Ok(())
    }

    fn mixture(&self) -> f64 {
        let uniform = (self.alternatives() as f64).ln();
        let mut parts = [f64::NEG_INFINITY; 3];
        if self.anchor_weight > 0.0 {
            parts[0] = self.anchor_weight.ln() + log_sum_exp(&self.anchored) - uniform;
        }
        if self.anchor_weight < 1.0 {
            parts[1] = log_sum_exp(&self.started) - uniform;
            let left = (1.0 - self.anchor_weight) * (1.0 - self.spent);
            if left > NEGLIGIBLE_MASS {
                parts[2] = left.ln();
            }
        }
        log_sum_exp(&parts)
    }
}

fn unit(quantity: &'static str, value: f64) -> Result<f64, StatsError> {
    within(quantity, value, (0.0..=1.0).contains(&value), "a number from 0 to 1")
}

/// The written form: lists as long as there are alternatives, every number exact.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(with = "exact")]
    horizon_seconds: f64,
    #[serde(with = "exact")]
    anchor_weight: f64,
    anchored: Vec<Exact>,
    started: Vec<Exact>,
    #[serde(with = "exact")]
    spent: f64,
    #[serde(with = "exact")]
    log_e: f64,
    #[serde(with = "exact")]
    max_log_e: f64,
}

impl From<ChangeMixture> for Stored {
    fn from(mixture: ChangeMixture) -> Self {
        let list = |slots: &[f64]| slots.iter().copied().map(Exact).collect();
        Self {
            horizon_seconds: mixture.horizon_seconds,
            anchor_weight: mixture.anchor_weight,
            anchored: list(&mixture.anchored),
            started: list(&mixture.started),
            spent: mixture.spent,
            log_e: mixture.log_e,
            max_log_e: mixture.max_log_e,
        }
    }
}

impl TryFrom<Stored> for ChangeMixture {
    type Error = StatsError;

    /// A state that was edited by hand or cut short is refused, not continued.
    fn try_from(stored: Stored) -> Result<Self, StatsError> {
        let mut mixture = Self::new(stored.anchored.len(), stored.horizon_seconds, stored.anchor_weight)?;
        let (expected, found) = (mixture.started.len(), stored.started.len());
        if expected != found {
            return Err(StatsError::Length { quantity: "the stored sums over start times", expected, found });
        }
        for (slot, stored) in mixture.anchored.iter_mut().zip(&stored.anchored) {
            *slot = finite("a stored log-likelihood ratio", stored.0)?;
        }
        for (slot, stored) in mixture.started.iter_mut().zip(&stored.started) {
            if stored.0 != f64::NEG_INFINITY {
                finite("a stored sum over start times", stored.0)?;
            }
            *slot = stored.0;
        }
        mixture.spent = unit("the stored share of the watch", stored.spent)?;
        mixture.log_e = finite("the stored log e-value", stored.log_e)?;
        let most = stored.max_log_e;
        let consistent = most >= 0.0 && most >= stored.log_e;
        let expected = "zero or more, and no less than the stored log e-value";
        mixture.max_log_e = within("the stored largest log e-value", most, consistent, expected)?;
        Ok(mixture)
    }
}
