//! One running test, of one arm against a level or of two arms against a ratio: to the rest of the engine the same thing.

use crate::stats::{
    Direction, ProportionParameters, ProportionTest, RatioParameters, RatioTest, StatsError, TwoArms,
};
use serde::{Deserialize, Serialize};

/// One running test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Running {
    /// The release's share against a fixed level.
    Share(ProportionTest),
    /// The canary's share against a multiple of the control's.
    Ratio(RatioTest),
}

/// The average of several tests' evidence, nats: evidence itself, however they depend on each other.
pub(super) fn together<'t>(tests: impl IntoIterator<Item = &'t Running>) -> f64 {
    let (mut largest, mut sum, mut count) = (f64::NEG_INFINITY, 0.0, 0.0);
    for log_e in tests.into_iter().map(Running::log_e) {
        // Scaled by the largest so far, so that no exponent overflows.
        if log_e > largest {
            sum = sum * (largest - log_e).exp() + 1.0;
            largest = log_e;
        } else {
            sum += (log_e - largest).exp();
        }
        count += 1.0;
    }
    if count > 0.0 { largest + (sum / count).ln() } else { 0.0 }
}

impl Running {
    /// A test of the release alone. `None` when `p0` cannot be tested.
    pub fn share(p0: f64, horizon_seconds: f64, direction: Direction, cluster: f64) -> Option<Self> {
        let standard = ProportionParameters::standard(p0, horizon_seconds, direction);
        ProportionTest::with_parameters(ProportionParameters { cluster, ..standard }).ok().map(Running::Share)
    }

    /// A test of canary against control. `None` when `rho0` cannot be tested.
    pub fn ratio(rho0: f64, horizon_seconds: f64, direction: Direction, cluster: f64) -> Option<Self> {
        let standard = RatioParameters::standard(rho0, horizon_seconds, direction);
        RatioTest::with_parameters(RatioParameters { cluster, ..standard }).ok().map(Running::Ratio)
    }

    /// The same with whole doublings as alternatives, for bounds that are doublings themselves: half the state.
    pub fn coarse_ratio(rho0: f64, horizon_seconds: f64, direction: Direction, cluster: f64) -> Option<Self> {
        let standard = RatioParameters::standard(rho0, horizon_seconds, direction);
        let coarse = RatioParameters { cluster, per_octave: 1, ..standard };
        RatioTest::with_parameters(coarse).ok().map(Running::Ratio)
    }

    /// Takes one window in. A two-arm test without a control learns nothing: requests of the canary do not wait for a
    /// control that cannot be seen.
    pub fn update(&mut self, arms: &TwoArms, has_control: bool, seconds: f64) -> Result<f64, StatsError> {
        match self {
            Running::Share(test) => test.update(arms.canary_bad, arms.canary_total, seconds),
            Running::Ratio(test) if has_control => test.update(arms, seconds),
            Running::Ratio(test) => test.update(&TwoArms::default(), seconds),
        }
    }

    /// Evidence now, nats.
    pub fn log_e(&self) -> f64 {
        match self {
            Running::Share(test) => test.log_e(),
            Running::Ratio(test) => test.log_e(),
        }
    }

    /// The most evidence there ever was, nats.
    pub fn max_log_e(&self) -> f64 {
        match self {
            Running::Share(test) => test.max_log_e(),
            Running::Ratio(test) => test.max_log_e(),
        }
    }

    /// How many events are counted as one.
    pub fn cluster(&self) -> f64 {
        match self {
            Running::Share(test) => test.parameters().cluster,
            Running::Ratio(test) => test.parameters().cluster,
        }
    }

    /// Which way it looks.
    pub fn direction(&self) -> Direction {
        match self {
            Running::Share(test) => test.parameters().direction,
            Running::Ratio(test) => test.parameters().direction,
        }
    }

    /// The level in the null hypothesis: a share, or a ratio.
    pub fn level(&self) -> f64 {
        match self {
            Running::Share(test) => test.parameters().p0,
            Running::Ratio(test) => test.parameters().rho0,
        }
    }

    /// Log-likelihood ratios of one block, nats, one per alternative; `None` if it says nothing.
    pub fn block_evidence(&self, arms: &TwoArms) -> Result<Option<Vec<f64>>, StatsError> {
        let told = match self {
            Running::Share(_) => arms.canary_total > 0.0,
            Running::Ratio(_) => arms.canary_total > 0.0 && arms.control_total > 0.0,
        };
        let values = match self {
            Running::Share(test) => {
                test.block_evidence(arms.canary_bad, arms.canary_total)?.as_slice().to_vec()
            }
            Running::Ratio(test) => test.block_evidence(arms)?[..test.alternatives()].to_vec(),
        };
        Ok(told.then_some(values))
    }

    /// How many alternatives there are.
    pub fn alternatives(&self) -> usize {
        match self {
            Running::Share(test) => test.alternatives(),
            Running::Ratio(test) => test.alternatives(),
        }
    }

    /// The watch in seconds, and the weight on its beginning.
    pub fn prior(&self) -> (f64, f64) {
        match self {
            Running::Share(test) => (test.parameters().horizon_seconds, test.parameters().anchor_weight),
            Running::Ratio(test) => (test.parameters().horizon_seconds, test.parameters().anchor_weight),
        }
    }

    /// How many numbers make up the running state.
    pub fn numbers(&self) -> usize {
        match self {
            Running::Share(test) => test.numbers(),
            Running::Ratio(test) => test.numbers(),
        }
    }
}
