//! The detection bench: how often judges roll back what is healthy, and how soon what is not.
//!
//! [`scenarios`] is the table of worlds, [`expected`] what a reference implementation measured for them, [`run`] plays
//! thousands of hours of each before all judges at once, [`report`] prints what came of it, and [`check`] says whether
//! Turnback kept its promises. Peers stand in the same table, judged on the same requests.

pub mod check;
pub mod expected;
pub mod figures;
pub mod options;
pub mod report;
pub mod run;
pub mod scenarios;

use crate::Judge;
use crate::peers::{argo::Argo, flagger::Flagger, kayenta::Kayenta, z_test::ZTest};
use crate::turnback;
use scenarios::{Method, Scenario, World};

/// False rollbacks that a release may suffer: the level of every test of ours.
pub const ALPHA: f64 = 0.01;

/// Seconds between two looks, and in a watch.
pub const LOOK_SECONDS: f64 = 10.0;
/// See [`LOOK_SECONDS`].
pub const WATCH_SECONDS: f64 = 3_600.0;

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Turnback, with one of its methods.
    Turnback(Method),
    /// Netflix's Kayenta.
    Kayenta,
    /// Flagger.
    Flagger,
    /// Argo Rollouts.
    Argo,
    /// A z-test with peeking.
    ZTest,
}

impl Who {
    /// For the table and the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Turnback(method) => method.name(),
            Self::Kayenta => "Kayenta",
            Self::Flagger => "Flagger",
            Self::Argo => "Argo",
            Self::ZTest => "z-test",
        }
    }

    /// A fresh judge for one watch, if this one can judge such a scenario.
    #[must_use]
    pub fn judge(self, scenario: &Scenario) -> Option<Box<dyn Judge>> {
        let judge: Box<dyn Judge> = match (self, scenario.world) {
            (Self::Turnback(method), _) => return turnback::turnback(scenario, method),
            (Self::Kayenta, World::Errors) => Box::new(Kayenta::error_percent()),
            (Self::Kayenta, World::Latency) => Box::new(Kayenta::p95()),
            (Self::Kayenta, World::Gauge) => Box::new(Kayenta::gauge()),
            (Self::Flagger, World::Errors) => Box::new(Flagger::success_rate()),
            (Self::Flagger, World::Latency) => Box::new(Flagger::duration()),
            (Self::Argo, World::Errors) => Box::new(Argo::success_rate()),
            (Self::Argo, World::Latency) => Box::new(Argo::duration()),
            (Self::Flagger | Self::Argo, World::Gauge) => return None,
            (Self::ZTest, World::Errors) => Box::new(ZTest::errors()),
            (Self::ZTest, World::Latency) => Box::new(ZTest::durations()),
            (Self::ZTest, World::Gauge) => Box::new(ZTest::gauge()),
        };
        Some(judge)
    }
}

/// Everybody who judges a scenario: Turnback with each of its methods, then the peers.
pub fn judges(scenario: &Scenario) -> impl Iterator<Item = Who> + '_ {
    let ours = scenario.claims.iter().map(|claim| Who::Turnback(claim.method));
    ours.chain([Who::Kayenta, Who::Flagger, Who::Argo, Who::ZTest])
}

#[cfg(test)]
mod tests {
    use super::figures::Tally;
    use super::run::{Size, run};
    use super::scenarios::{Scenario, all};
    use super::*;

    const SMALL: Size = Size { watches: 300, peer_watches: 60 };

    fn scenario(name: &str) -> Scenario {
        let found = all().into_iter().find(|scenario| scenario.name == name);
        found.unwrap_or_else(|| panic!("no scenario is called {name}"))
    }

    fn tally(name: &str, who: Who, size: Size) -> Tally {
        let outcomes = run(&scenario(name), size, 1).into_iter();
        outcomes.filter(|outcome| outcome.who == who).map(|outcome| outcome.tally).next().unwrap()
    }

    #[test]
    fn at_the_level_alarms_stay_below_alpha_and_above_it_they_come_soon() {
        let levels = [("R=1", 10), ("R=10", 10), ("R=10", 5), ("R=100", 1)].map(|(rate, percent)| {
            (format!("{rate}, at the level {percent} %"), Who::Turnback(Method::Absolute(percent)))
        });
        for (name, who) in levels {
            // 300 watches at 1 %: three expected at the very most; nine would be four standard deviations above.
            assert!(tally(&name, who, SMALL).alarms() <= 9, "{name}");
        }
        for name in ["R=10, 10->20 %", "R=1, 10->50 %"] {
            let tally = tally(name, Who::Turnback(Method::Absolute(10)), SMALL);
            assert_eq!(tally.alarms(), 300, "{name}");
            assert!(tally.median().is_some_and(|median| median <= 60.0), "{name}: {:?}", tally.median());
        }
    }

    #[test]
    fn figures_depend_on_the_seed_and_on_nothing_else() {
        let (size, one) = (Size { watches: 40, peer_watches: 40 }, scenario("R=1, 1->5 %"));
        assert_eq!(run(&one, size, 1), run(&one, size, 1));
        assert_ne!(run(&one, size, 1), run(&one, size, 2));
    }

    #[test]
    fn every_scenario_can_be_played_and_judged() {
        let size = Size { watches: 4, peer_watches: 4 };
        for scenario in all() {
            let outcomes = run(&scenario, size, 1);
            assert!(outcomes.len() >= 2, "{}", scenario.name);
            for outcome in outcomes {
                let alarms = outcome.tally.alarms();
                assert!(outcome.tally.watches == 4 && alarms <= 4, "{}: {outcome:?}", scenario.name);
            }
        }
    }

    #[test]
    fn peers_do_what_the_reference_says() {
        let calm = "R=100, 1 %";
        assert_eq!(tally(calm, Who::Flagger, SMALL).share(), 1.0);
        assert_eq!(tally(calm, Who::Argo, SMALL).share(), 0.0);
        assert!(tally(calm, Who::ZTest, SMALL).share() > 0.03);
        let worse = "R=100, 1->5 %";
        for (who, seconds) in
            [(Who::Kayenta, 300.0), (Who::Flagger, 300.0), (Who::Argo, 420.0), (Who::ZTest, 10.0)]
        {
            let median = tally(worse, who, SMALL).median().unwrap();
            assert!((median - seconds).abs() <= 60.0, "{who:?}: {median} s, reference {seconds} s");
        }
    }
}
