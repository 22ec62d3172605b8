//! One running test, of one arm against a level or of two arms against a ratio: to the rest of the engine the same thing.
//! And several of them that take the same windows in.

use crate::stats::{
    Direction, Pairs, ProportionParameters, ProportionTest, RatioParameters, RatioTest, StatsError, TwoArms,
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

/// Tests of one signal, each at a cut of its own, as one: requests of one arm wait for the other arm once for all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Tests {
    first: Running,
    more: Vec<Running>,
    /// What waits for requests of the other arm; only where there is a test of two arms.
    pairs: Option<Pairs>,
}

/// A latency is compared at its own quantile and at four more; a past is one test more.
pub(super) const MOST_TESTS: usize = 6;

impl Tests {
    /// These tests, in this order; `None` without any. Beyond [`MOST_TESTS`] they are dropped.
    pub fn new(tests: impl IntoIterator<Item = Running>) -> Option<Self> {
        let mut tests = tests.into_iter().take(MOST_TESTS);
        let tests = Self { first: tests.next()?, more: tests.collect(), pairs: None };
        let two_arms = tests.iter().filter(|test| test.has_two_arms()).count();
        let pairs = (two_arms > 0).then(|| Pairs::new(two_arms));
        Some(Self { pairs, ..tests })
    }

    /// Takes one window in: for each test what was counted at its cut. Says the block that came of it for the first test,
    /// and its length in seconds; `None` if that waits, or if numbers came that the door has refused already.
    pub fn take(
        &mut self,
        window: impl IntoIterator<Item = TwoArms>,
        has_control: bool,
        seconds: f64,
    ) -> Option<(TwoArms, f64)> {
        let (mut alone, mut paired) = ([TwoArms::default(); MOST_TESTS], [TwoArms::default(); MOST_TESTS]);
        let (mut ones, mut pairs) = (0, 0);
        for (test, arms) in self.iter().zip(window) {
            let (list, count) = match test.has_two_arms() {
                true => (&mut paired, &mut pairs),
                false => (&mut alone, &mut ones),
            };
            list[*count] = arms;
            *count += 1;
        }
        self.update(false, &alone[..ones], seconds);
        let paired = &mut paired[..pairs];
        let waited = match &mut self.pairs {
            Some(pairs) => {
                if !has_control {
                    // Requests of the canary do not wait for a control that cannot be seen.
                    paired.fill(TwoArms::default());
                }
                pairs.take(paired, seconds).ok()?
            }
            None => None,
        };
        if let Some(length) = waited {
            self.update(true, paired, length);
        }
        match self.first.has_two_arms() {
            true => Some((*paired.first()?, waited?)),
            false => Some((alone[0], seconds)),
        }
    }

    /// `counted` holds what the tests of this kind want to know, in their order.
    fn update(&mut self, two_arms: bool, counted: &[TwoArms], seconds: f64) {
        let tests = std::iter::once(&mut self.first).chain(&mut self.more);
        for (test, arms) in tests.filter(|test| test.has_two_arms() == two_arms).zip(counted) {
            // An error here means numbers that the door has already refused; the test keeps its state either way.
            let _unchanged_on_error = test.update(arms, seconds);
        }
    }

    /// The first test.
    pub fn first(&self) -> &Running {
        &self.first
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Running> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The average of their evidence, nats: evidence itself, however they depend on each other.
    pub fn log_e(&self) -> f64 {
        let (mut largest, mut sum, mut count) = (f64::NEG_INFINITY, 0.0, 0.0);
        for log_e in self.iter().map(Running::log_e) {
            // Scaled by the largest so far, so that no exponent overflows.
            if log_e > largest {
                sum = sum * (largest - log_e).exp() + 1.0;
                largest = log_e;
            } else {
                sum += (log_e - largest).exp();
            }
            count += 1.0;
        }
        largest + (sum / count).ln()
    }

    /// How many numbers make up the running state.
    pub fn numbers(&self) -> usize {
        let tests: usize = self.iter().map(Running::numbers).sum();
        tests + self.pairs.as_ref().map_or(0, Pairs::numbers)
    }
}

impl Running {
    /// A test of the release alone. `None` when `p0` cannot be tested.
    pub fn share(p0: f64, horizon_seconds: f64, direction: Direction, cluster: f64) -> Option<Self> {
        let standard = ProportionParameters::standard(p0, horizon_seconds, direction);
        ProportionTest::with_parameters(ProportionParameters { cluster, ..standard }).ok().map(Running::Share)
    }

    /// A test of canary against control, of which about `share` is bad, if that is known. `None` when `rho0` cannot be
    /// tested.
    pub fn ratio(
        rho0: f64,
        horizon_seconds: f64,
        direction: Direction,
        cluster: f64,
        share: Option<f64>,
    ) -> Option<Self> {
        let standard = RatioParameters::standard(rho0, horizon_seconds, direction);
        let reaching = share.map_or(standard, |share| standard.beside(share));
        RatioTest::with_parameters(RatioParameters { cluster, ..reaching }).ok().map(Running::Ratio)
    }

    /// The same with whole doublings as alternatives: half the state. `None` when that cannot be tested.
    pub fn coarse(self) -> Option<Self> {
        match self {
            Running::Share(test) => {
                let coarse = ProportionParameters { per_octave: 1, ..*test.parameters() };
                ProportionTest::with_parameters(coarse).ok().map(Running::Share)
            }
            Running::Ratio(test) => {
                let coarse = RatioParameters { per_octave: 1, ..*test.parameters() };
                RatioTest::with_parameters(coarse).ok().map(Running::Ratio)
            }
        }
    }

    fn has_two_arms(&self) -> bool {
        matches!(self, Running::Ratio(_))
    }

    fn update(&mut self, arms: &TwoArms, seconds: f64) -> Result<f64, StatsError> {
        match self {
            Running::Share(test) => test.update(arms.canary_bad, arms.canary_total, seconds),
            Running::Ratio(test) => test.update(arms, seconds),
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
