//! How often the sequential proportion test accuses a release that is no worse than allowed, and how soon one that is.

use crate::Dice;
use rules::stats::{Direction, ProportionTest, StatsError};

/// One kind of release, watched again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// For the table.
    pub name: &'static str,
    /// The share of bad requests that is allowed: the null hypothesis.
    pub allowed: f64,
    /// The true share.
    pub truth: f64,
    /// Requests in the time between two looks.
    pub requests_per_look: u32,
}

/// Seconds between two looks, and looks in a watch of one hour.
const LOOK_SECONDS: f64 = 10.0;
const LOOKS: u32 = 360;

/// What came of many watches.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Watches.
    pub watches: u32,
    /// Watches in which the test rejected at any of its looks.
    pub alarms: u32,
    /// The median time to the alarm in seconds, if more than half of the watches alarmed.
    pub median_seconds: Option<f64>,
}

/// The kinds of release that are rehearsed: at the bound (every alarm is false), and beyond it.
pub const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "at the bound, 10 %, 10 requests a look",
        allowed: 0.10,
        truth: 0.10,
        requests_per_look: 10,
    },
    Scenario {
        name: "at the bound, 10 %, 100 requests a look",
        allowed: 0.10,
        truth: 0.10,
        requests_per_look: 100,
    },
    Scenario {
        name: "at the bound, 5 %, 100 requests a look",
        allowed: 0.05,
        truth: 0.05,
        requests_per_look: 100,
    },
    Scenario {
        name: "at the bound, 1 %, 1,000 requests a look",
        allowed: 0.01,
        truth: 0.01,
        requests_per_look: 1_000,
    },
    Scenario {
        name: "twice the bound, 100 requests a look",
        allowed: 0.10,
        truth: 0.20,
        requests_per_look: 100,
    },
    Scenario {
        name: "five times the bound, 10 requests a look",
        allowed: 0.10,
        truth: 0.50,
        requests_per_look: 10,
    },
];

/// Watches `scenario` `watches` times for an hour with a look every ten seconds, at the level `alpha`.
///
/// # Errors
/// If the scenario is not one that the test accepts (a share outside 0 to 1).
pub fn rehearse(scenario: &Scenario, watches: u32, alpha: f64, seed: u64) -> Result<Figures, StatsError> {
    let mut delays: Vec<f64> = Vec::new();
    for watch in 0..watches {
        let mut dice = Dice::new(seed ^ (u64::from(watch) << 20));
        let mut test =
            ProportionTest::new(scenario.allowed, f64::from(LOOKS) * LOOK_SECONDS, Direction::Worse)?;
        for look in 1..=LOOKS {
            let bad = dice.failures(scenario.requests_per_look, scenario.truth);
            test.update(f64::from(bad), f64::from(scenario.requests_per_look), LOOK_SECONDS)?;
            if test.rejects(alpha)? {
                delays.push(f64::from(look) * LOOK_SECONDS);
                break;
            }
        }
    }
    delays.sort_by(f64::total_cmp);
    let alarms = u32::try_from(delays.len()).unwrap_or(u32::MAX);
    let middle = watches as usize / 2;
    Ok(Figures { watches, alarms, median_seconds: delays.get(middle).copied() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn false_alarms_stay_below_alpha_at_every_look_and_true_ones_come_soon() {
        for scenario in SCENARIOS {
            let figures = rehearse(&scenario, 300, 0.01, 1).unwrap();
            if scenario.truth <= scenario.allowed {
                // 300 watches at 1 %: three expected at the very most; nine would be four standard deviations above.
                assert!(figures.alarms <= 9, "{scenario:?}: {figures:?}");
            } else {
                assert_eq!(figures.alarms, 300, "{scenario:?}");
                assert!(figures.median_seconds.is_some_and(|seconds| seconds <= 60.0), "{figures:?}");
            }
        }
    }
}
