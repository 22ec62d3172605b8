//! Evidence that a gauge rose to stay, from innovations of an autoregression.
//!
//! With the standardised gauge `z` (spreads above its frozen level), a margin `m` that is tolerated, and excesses
//! `d_k` beyond it, a shift by `m + d_k` gives the innovations `raw_t = z_t - phi z_{t-1}` a mean of `m + d_k` in the
//! sample it begins with and `(m + d_k)(1 - phi)` from then on. Per sample:
//!
//! ```text
//! onset:  u = clip((raw - m)/s, +-4)            lambda_k = min(d_k/s, 3)
//! after:  u = clip((raw - m (1 - phi))/s, +-4)  lambda_k = min(d_k (1 - phi)/s, 3)
//! ln LR_k = lambda_k u - lambda_k^2 v/2
//! S_k = ln( e^(S_k + after_k) + (1 - wa) dw e^(onset_k) ),  dw = dt/H
//! L_k += onset_k for the first sample, after_k for every later one
//! log E = ln( wa mean_k e^L_k + mean_k e^S_k + (1 - wa)(1 - spent) )
//! ```
//!
//! Most of the news of a correlated series lies in its jump, which the onset ratio reads; that is why the predecessor
//! of the first sample is the last one BEFORE the deployment ([`GaugeShift::precede`]).
//!
//! `E` is an e-process, and Ville's inequality holds, IF `u` is `v`-sub-Gaussian with mean at most 0 given the past
//! while the level rose by at most `m`. That is a model, not a fact about the data: see the module above.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::exact_option;
use crate::stats::error::{StatsError, finite, within};
use crate::stats::exact::{self, Exact};
use crate::stats::numerics::{log_add_exp, log_sum_exp};

/// Assumed shifts beyond the margin, in spreads. Relative to the margin: an assumed shift below it would be evidence
/// against a rise that is tolerated.
pub const MARGIN_EXCESSES: [f64; EXCESSES] = [1.0, 1.5, 2.5, 3.5, 5.5];

const EXCESSES: usize = 5;

/// Below this the mass not yet given to a start time is rounding noise of `1 - spent`.
const NEGLIGIBLE_MASS: f64 = 1e-15;

/// Everything that fixes a shift test before it sees data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaugeShiftParameters {
    /// Correlation of a sample with the one before it, 0 to 1 (1 excluded); an upper bound.
    #[serde(with = "exact")]
    pub phi: f64,
    /// Scale of the innovations, spreads, positive.
    #[serde(with = "exact")]
    pub innovation_scale: f64,
    /// Rise that is tolerated, spreads, zero or more.
    #[serde(with = "exact")]
    pub margin: f64,
    /// The watch, seconds, positive.
    #[serde(with = "exact")]
    pub horizon_seconds: f64,
    /// `v`: how much wider than a normal distribution the innovations may be, at least 1.
    #[serde(with = "exact")]
    pub variance_factor: f64,
    /// Samples are clipped to this many spreads either way.
    #[serde(with = "exact")]
    pub sample_limit: f64,
    /// Innovations are clipped to this many of their scales either way.
    #[serde(with = "exact")]
    pub innovation_limit: f64,
    /// Largest `lambda`: bounds what one sample can say.
    #[serde(with = "exact")]
    pub most_tilt: f64,
    /// Weight on "from the first sample on", 0 to 1; the rest goes to later starts.
    #[serde(with = "exact")]
    pub anchor_weight: f64,
    /// The evidence in which an immediate regression first shows: 0, or 1 behind a median of three, which passes a step
    /// one sample late. The immediate start bets nothing before it.
    pub onset_sample: u64,
}

/// The running test. State is a few dozen numbers in fixed arrays: an update allocates nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct GaugeShift {
    parameters: GaugeShiftParameters,
    /// `lambda_k` of the sample a shift begins with.
    onset_tilt: [f64; EXCESSES],
    /// `lambda_k` of every later sample.
    after_tilt: [f64; EXCESSES],
    anchored: [f64; EXCESSES],
    started: [f64; EXCESSES],
    spent: f64,
    /// The sample before, clipped; `None` after a hole.
    previous: Option<f64>,
    ticks: u64,
    log_e: f64,
    max_log_e: f64,
}

impl GaugeShiftParameters {
    /// Production values: `v` 1.2, samples clipped at the margin plus 7.5 spreads, innovations at 4 scales, `lambda` at
    /// most 3, half of the weight on an immediate start.
    #[must_use]
    pub fn standard(phi: f64, innovation_scale: f64, margin: f64, horizon_seconds: f64) -> Self {
        Self {
            phi,
            innovation_scale,
            margin,
            horizon_seconds,
            variance_factor: 1.2,
            sample_limit: margin + 7.5,
            innovation_limit: 4.0,
            most_tilt: 3.0,
            anchor_weight: 0.5,
            onset_sample: 0,
        }
    }

    fn admit(&self) -> Result<(), StatsError> {
        let Self { phi, innovation_scale: s, margin, horizon_seconds, variance_factor, .. } = *self;
        within("the correlation of a gauge", phi, (0.0..1.0).contains(&phi), "0 or more and below 1")?;
        within("the scale of a gauge's innovations", s, s > 0.0, "a positive number")?;
        within("the tolerated rise in spreads", margin, margin >= 0.0, "zero or more")?;
        within("the watch in seconds", horizon_seconds, horizon_seconds > 0.0, "a positive number")?;
        within("the variance factor", variance_factor, variance_factor >= 1.0, "1 or more")?;
        let positive = [
            ("the limit of a sample", self.sample_limit),
            ("the limit of an innovation", self.innovation_limit),
            ("the largest tilt", self.most_tilt),
        ];
        for (quantity, value) in positive {
            // The upper end keeps sums of clipped terms finite for as long as a process can run.
            within(quantity, value, value > 0.0 && value <= 1e6, "a positive number up to 1e6")?;
        }
        let anchor = self.anchor_weight;
        within("the anchor weight", anchor, (0.0..=1.0).contains(&anchor), "a number from 0 to 1")?;
        Ok(())
    }
}

impl GaugeShift {
    /// A fresh test.
    ///
    /// # Errors
    /// When a parameter is outside the range its documentation names.
    pub fn new(parameters: GaugeShiftParameters) -> Result<Self, StatsError> {
        parameters.admit()?;
        let GaugeShiftParameters { phi, innovation_scale, most_tilt, .. } = parameters;
        Ok(Self {
            parameters,
            onset_tilt: MARGIN_EXCESSES.map(|excess| (excess / innovation_scale).min(most_tilt)),
            after_tilt: MARGIN_EXCESSES
                .map(|excess| (excess * (1.0 - phi) / innovation_scale).min(most_tilt)),
            anchored: [0.0; EXCESSES],
            started: [f64::NEG_INFINITY; EXCESSES],
            spent: 0.0,
            previous: None,
            ticks: 0,
            log_e: 0.0,
            max_log_e: 0.0,
        })
    }

    /// How many numbers make up the running state.
    #[must_use]
    pub fn numbers(&self) -> usize {
        // spent, the sample before, ticks, log E and its maximum
        self.anchored.len() + self.started.len() + 5
    }

    /// Sets the predecessor of the next sample, spreads: the last sample before the deployment. It is not evidence.
    ///
    /// # Errors
    /// When the value is not finite; the state is unchanged.
    pub fn precede(&mut self, standardised: f64) -> Result<(), StatsError> {
        self.previous = Some(self.clip(finite("a gauge's standardised value", standardised)?));
        Ok(())
    }

    /// Takes in one sample, in spreads above the level, `dt_seconds` after the one before, and returns the new log
    /// e-value, nats. `None` or NaN is a hole: the predecessor is forgotten, the evidence stays. A sample without a
    /// predecessor only becomes one.
    ///
    /// # Errors
    /// When the sample is infinite or `dt_seconds` is negative or not finite; the state is unchanged.
    #[inline]
    pub fn update(&mut self, standardised: Option<f64>, dt_seconds: f64) -> Result<f64, StatsError> {
        within("the time between samples in seconds", dt_seconds, dt_seconds >= 0.0, "zero or more")?;
        let Some(value) = standardised.filter(|value| !value.is_nan()) else {
            self.previous = None;
            return Ok(self.log_e);
        };
        let value = self.clip(finite("a gauge's standardised value", value)?);
        let Some(previous) = self.previous.replace(value) else {
            return Ok(self.log_e);
        };
        self.learn(value - self.parameters.phi * previous, dt_seconds);
        Ok(self.log_e)
    }

    /// The current log e-value, nats.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.log_e
    }

    /// The largest log e-value so far, at least 0, nats.
    #[must_use]
    pub fn max_log_e(&self) -> f64 {
        self.max_log_e
    }

    /// What was fixed before the first sample.
    #[must_use]
    pub fn parameters(&self) -> &GaugeShiftParameters {
        &self.parameters
    }

    fn clip(&self, value: f64) -> f64 {
        value.clamp(-self.parameters.sample_limit, self.parameters.sample_limit)
    }

    fn learn(&mut self, raw: f64, dt_seconds: f64) {
        let GaugeShiftParameters { phi, innovation_scale, margin, horizon_seconds, .. } = self.parameters;
        let (limit, half_variance) =
            (self.parameters.innovation_limit, 0.5 * self.parameters.variance_factor);
        let scaled = |tolerated: f64| ((raw - tolerated) / innovation_scale).clamp(-limit, limit);
        let (at_onset, later) = (scaled(margin), scaled(margin * (1.0 - phi)));
        let late = 1.0 - self.parameters.anchor_weight;
        let share = (dt_seconds / horizon_seconds).min(1.0 - self.spent);
        let fresh = if share > 0.0 && late > 0.0 { (late * share).ln() } else { f64::NEG_INFINITY };
        for k in 0..EXCESSES {
            let (onset_tilt, after_tilt) = (self.onset_tilt[k], self.after_tilt[k]);
            let onset = onset_tilt * at_onset - half_variance * onset_tilt * onset_tilt;
            let after = after_tilt * later - half_variance * after_tilt * after_tilt;
            self.anchored[k] += match self.ticks.cmp(&self.parameters.onset_sample) {
                Ordering::Less => 0.0,
                Ordering::Equal => onset,
                Ordering::Greater => after,
            };
            self.started[k] = log_add_exp(self.started[k] + after, fresh + onset);
        }
        self.spent += share.max(0.0);
        self.ticks = self.ticks.saturating_add(1);
        self.log_e = self.mixture();
        self.max_log_e = self.max_log_e.max(self.log_e);
    }

    fn mixture(&self) -> f64 {
        let uniform = (EXCESSES as f64).ln();
        let anchor = self.parameters.anchor_weight;
        let mut parts = [f64::NEG_INFINITY; 3];
        if anchor > 0.0 {
            parts[0] = anchor.ln() + log_sum_exp(&self.anchored) - uniform;
        }
        if anchor < 1.0 {
            parts[1] = log_sum_exp(&self.started) - uniform;
            let left = (1.0 - anchor) * (1.0 - self.spent);
            if left > NEGLIGIBLE_MASS {
                parts[2] = left.ln();
            }
        }
        log_sum_exp(&parts)
    }
}

/// The written form. The tilts are not stored: they follow from the parameters.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    parameters: GaugeShiftParameters,
    anchored: [Exact; EXCESSES],
    started: [Exact; EXCESSES],
    #[serde(with = "exact")]
    spent: f64,
    #[serde(with = "exact_option")]
    previous: Option<f64>,
    ticks: u64,
    #[serde(with = "exact")]
    log_e: f64,
    #[serde(with = "exact")]
    max_log_e: f64,
}

impl From<GaugeShift> for Stored {
    fn from(test: GaugeShift) -> Self {
        Self {
            parameters: test.parameters,
            anchored: test.anchored.map(Exact),
            started: test.started.map(Exact),
            spent: test.spent,
            previous: test.previous,
            ticks: test.ticks,
            log_e: test.log_e,
            max_log_e: test.max_log_e,
        }
    }
}

impl TryFrom<Stored> for GaugeShift {
    type Error = StatsError;

    /// A state that was edited by hand or cut short is refused, not continued.
    fn try_from(stored: Stored) -> Result<Self, StatsError> {
        let mut test = Self::new(stored.parameters)?;
        for (k, (anchored, started)) in stored.anchored.iter().zip(&stored.started).enumerate() {
            test.anchored[k] = finite("a stored log-likelihood ratio", anchored.0)?;
            if started.0 != f64::NEG_INFINITY {
                finite("a stored sum over start times", started.0)?;
            }
            test.started[k] = started.0;
        }
        // Shares are sums of quotients: the last one may end a rounding step above 1.
        let inside = (0.0..=1.0 + 1e-9).contains(&stored.spent);
        test.spent = within("the stored share of the watch", stored.spent, inside, "a number from 0 to 1")?;
        if let Some(previous) = stored.previous {
            test.precede(previous)?;
        }
        test.ticks = stored.ticks;
        test.log_e = finite("the stored log e-value", stored.log_e)?;
        let most = stored.max_log_e;
        let expected = "zero or more, and no less than the stored log e-value";
        let consistent = most >= 0.0 && most >= stored.log_e;
        test.max_log_e = within("the stored largest log e-value", most, consistent, expected)?;
        Ok(test)
    }
}
