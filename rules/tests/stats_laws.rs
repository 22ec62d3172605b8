//! Laws the sequential tests keep for every input: exact restarts, holes that prove nothing, a door that lets no NaN in,
//! and the promise itself, by exact enumeration and by a seeded simulation.

#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

use proptest::prelude::*;
use rules::stats::{
    BaselineWindow, ChangeMixture, Direction, FEWEST_BASELINE_REQUESTS, MOST_ALTERNATIVES,
    ProportionParameters, ProportionTest, StatsError, bernoulli_confidence_sequence, beta_binomial_baseline,
};

const WATCH: f64 = 3_600.0;

#[derive(Debug, Clone, Copy)]
struct Block {
    bad: f64,
    total: f64,
    dt: f64,
}

fn block() -> impl Strategy<Value = Block> {
    let counted = (0_u32..2_000, 0.0_f64..=1.0, 0.0_f64..400.0).prop_map(|(total, share, dt)| Block {
        bad: (share * f64::from(total)).floor(),
        total: total.into(),
        dt,
    });
    let scored = (0.01_f64..500.0, 0.0_f64..=1.0, 0.0_f64..400.0).prop_map(|(total, share, dt)| Block {
        bad: share * total,
        total,
        dt,
    });
    prop_oneof![counted, scored]
}

fn parameters() -> impl Strategy<Value = ProportionParameters> {
    let direction = prop_oneof![Just(Direction::Worse), Just(Direction::Better)];
    (1e-4_f64..0.9, 10.0_f64..10_000.0, direction, 1_u8..=6, 1_u8..=4, 0.0_f64..=1.0, 1.0_f64..20.0).prop_map(
        |(p0, horizon_seconds, direction, octaves, per_octave, anchor_weight, cluster)| {
            ProportionParameters {
                p0,
                horizon_seconds,
                direction,
                octaves,
                per_octave,
                anchor_weight,
                cluster,
            }
        },
    )
}

fn run(parameters: ProportionParameters, blocks: &[Block]) -> ProportionTest {
    let mut test = ProportionTest::with_parameters(parameters).unwrap();
    for block in blocks {
        test.update(block.bad, block.total, block.dt).unwrap();
    }
    test
}

proptest! {
    #[test]
    fn a_restored_test_continues_bit_for_bit(
        parameters in parameters(),
        before in prop::collection::vec(block(), 0..20),
        after in prop::collection::vec(block(), 1..20),
    ) {
        let mut original = run(parameters, &before);
        let written = serde_json::to_string(&original).unwrap();
        let mut restored: ProportionTest = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(&restored, &original);
        prop_assert_eq!(serde_json::to_string(&restored).unwrap(), written);
        for block in after {
            let expected = original.update(block.bad, block.total, block.dt).unwrap();
            let found = restored.update(block.bad, block.total, block.dt).unwrap();
            prop_assert_eq!(found.to_bits(), expected.to_bits());
        }
        prop_assert_eq!(restored.max_log_e().to_bits(), original.max_log_e().to_bits());
        prop_assert_eq!(restored, original);
    }

    /// A hole hands out weight to more start times and takes the same weight from the unspent rest: the sum stands.
    #[test]
    fn a_hole_changes_no_evidence(
        parameters in parameters(),
        before in prop::collection::vec(block(), 0..20),
        holes in prop::collection::vec(0.0_f64..2_000.0, 1..10),
    ) {
        let mut test = run(parameters, &before);
        let (log_e, most) = (test.log_e(), test.max_log_e());
        for dt in holes {
            prop_assert_eq!(test.update(0.0, 0.0, dt).unwrap().to_bits(), log_e.to_bits());
        }
        prop_assert_eq!(test.max_log_e().to_bits(), most.to_bits());
        // The log e-value is carried over a hole; a block that proves nothing recomputes it from the moved weights.
        let mixture = serde_json::to_value(&test).unwrap()["mixture"].clone();
        let mut mixture: ChangeMixture = serde_json::from_value(mixture).unwrap();
        let nothing = vec![0.0; mixture.alternatives()];
        let recomputed = mixture.update(Some(&nothing), 0.0).unwrap();
        prop_assert!((recomputed - log_e).abs() <= 1e-9 * log_e.abs().max(1.0), "{} became {}", log_e, recomputed);
    }

    #[test]
    fn bad_input_is_refused_and_leaves_the_state_alone(
        parameters in parameters(),
        before in prop::collection::vec(block(), 0..10),
        broken in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-1.0)],
    ) {
        let mut test = run(parameters, &before);
        let untouched = test.clone();
        prop_assert!(test.update(broken, 10.0, 1.0).is_err());
        prop_assert!(test.update(1.0, broken, 1.0).is_err());
        prop_assert!(test.update(1.0, 10.0, broken).is_err());
        prop_assert!(test.update(11.0, 10.0, 1.0).is_err());
        prop_assert!(test.update(0.0, 1e300, 1.0).is_err());
        prop_assert_eq!(&test, &untouched);
        let mut mixture = ChangeMixture::new(2, WATCH, 0.5).unwrap();
        mixture.update(Some(&[0.3, -0.2]), 10.0).unwrap();
        let untouched = mixture.clone();
        if !broken.is_finite() {
            prop_assert!(mixture.update(Some(&[0.0, broken]), 10.0).is_err());
        }
        prop_assert!(mixture.update(Some(&[0.0, 1e300]), 10.0).is_err());
        prop_assert!(mixture.update(Some(&[0.0]), 10.0).is_err());
        prop_assert!(mixture.update(None, broken).is_err());
        prop_assert_eq!(mixture, untouched);
    }

    #[test]
    fn more_bad_requests_never_lower_the_evidence(
        mut parameters in parameters(),
        before in prop::collection::vec(block(), 0..10),
        after in prop::collection::vec(block(), 0..10),
        block in block(),
        more in 0.0_f64..=1.0,
    ) {
        let worse = Block { bad: block.bad + more * (block.total - block.bad), ..block };
        prop_assume!(worse.bad <= worse.total);
        for direction in [Direction::Worse, Direction::Better] {
            parameters.direction = direction;
            let sequence = |middle: Block| [&before[..], &[middle], &after[..]].concat();
            let (fewer, more) = (run(parameters, &sequence(block)), run(parameters, &sequence(worse)));
            let slack = 1e-12 * (1.0 + fewer.log_e().abs());
            match direction {
                Direction::Worse => prop_assert!(more.log_e() >= fewer.log_e() - slack),
                Direction::Better => prop_assert!(more.log_e() <= fewer.log_e() + slack),
            }
        }
    }

    #[test]
    fn splitting_a_block_at_the_same_moment_changes_nothing(
        parameters in parameters(),
        first in block(),
        second in block(),
    ) {
        let whole = Block { bad: first.bad + second.bad, total: first.total + second.total, dt: first.dt };
        let whole = run(parameters, &[whole]).log_e();
        let split = run(parameters, &[first, Block { dt: 0.0, ..second }]).log_e();
        prop_assert!((whole - split).abs() <= 1e-9 * whole.abs().max(1.0), "{} and {}", whole, split);
    }

    #[test]
    fn intervals_are_ordered_and_hold_the_estimate(total in 1_u32..100_000, share in 0.0_f64..=1.0, alpha in 1e-6_f64..0.5) {
        let bad = (share * f64::from(total)).floor();
        let interval = bernoulli_confidence_sequence(bad, total.into(), alpha).unwrap();
        let estimate = bad / f64::from(total);
        prop_assert!(0.0 <= interval.lower && interval.lower <= estimate);
        prop_assert!(estimate <= interval.upper && interval.upper <= 1.0);
        let stricter = bernoulli_confidence_sequence(bad, total.into(), alpha / 10.0).unwrap();
        prop_assert!(stricter.lower <= interval.lower && interval.upper <= stricter.upper);
    }

    #[test]
    fn baseline_bounds_are_ordered(windows in prop::collection::vec(block(), 1..40), delta in 1e-4_f64..0.2) {
        let windows: Vec<_> = windows.iter().map(|b| BaselineWindow { bad: b.bad, total: b.total }).collect();
        match beta_binomial_baseline(&windows, delta) {
            Ok(baseline) => {
                prop_assert!(0.0 <= baseline.lower && baseline.lower < baseline.mean);
                prop_assert!(baseline.lower < baseline.upper && baseline.upper <= 1.0);
                prop_assert!(baseline.design_effect >= 0.5, "{:?}", baseline);
            }
            Err(error) => {
                prop_assert_eq!(error, StatsError::Empty { quantity: "requests in any baseline window" });
                prop_assert!(windows.iter().all(|window| window.total == 0.0));
            }
        }
    }

    /// The release must not be accused of the proportion its predecessor had all along.
    #[test]
    fn a_steady_history_of_enough_requests_is_within_the_margin(
        count in 1_u32..60,
        requests in FEWEST_BASELINE_REQUESTS..1e6,
        share in 0.0_f64..=1.0,
        delta in 1e-4_f64..=0.05,
    ) {
        let total = requests / f64::from(count);
        let windows = vec![BaselineWindow { bad: share * total, total }; count as usize];
        let upper = beta_binomial_baseline(&windows, delta).unwrap().upper;
        prop_assert!(1.25 * upper >= share, "{} for a share of {}", upper, share);
    }
}

/// The limit the baseline's documentation names: a short history is pulled towards the prior.
#[test]
fn a_short_history_of_a_failing_service_is_underrated() {
    let window = BaselineWindow { bad: 50.0, total: 100.0 };
    let upper = beta_binomial_baseline(&[window], 0.01).unwrap().upper;
    assert!((0.31..0.33).contains(&upper), "{upper}");
    assert!(window.total < FEWEST_BASELINE_REQUESTS);
}

#[test]
fn states_that_were_tampered_with_are_refused() {
    let mut test = ProportionTest::new(0.1, WATCH, Direction::Worse).unwrap();
    test.update(3.0, 10.0, 10.0).unwrap();
    let good = serde_json::to_value(&test).unwrap();
    for (pointer, value) in [
        ("/mixture/started/0", serde_json::json!("NaN")),
        ("/mixture/started/0", serde_json::json!("inf")),
        ("/mixture/anchored/0", serde_json::json!("-inf")),
        ("/mixture/anchored/0", serde_json::json!("much")),
        ("/mixture/anchored/0", serde_json::json!(0.5)),
        ("/mixture/anchored", serde_json::json!(["0.0"])),
        ("/mixture/spent", serde_json::json!("1.5")),
        ("/mixture/max_log_e", serde_json::json!("-1.0")),
        ("/mixture/horizon_seconds", serde_json::json!("60.0")),
        ("/mixture/anchor_weight", serde_json::json!("1.0")),
        ("/parameters/p0", serde_json::json!("1.0")),
        ("/parameters/octaves", serde_json::json!(7)),
        ("/bad", serde_json::json!("11.0")),
    ] {
        let mut state = good.clone();
        *state.pointer_mut(pointer).unwrap() = value.clone();
        assert!(serde_json::from_value::<ProportionTest>(state).is_err(), "{pointer} = {value}");
    }
    assert_eq!(serde_json::from_value::<ProportionTest>(good).unwrap(), test);
}

#[test]
fn constructors_refuse_what_the_formula_is_not_defined_on() {
    for p0 in [0.0, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(ProportionTest::new(p0, WATCH, Direction::Worse).is_err(), "p0 {p0}");
    }
    for horizon in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(ProportionTest::new(0.1, horizon, Direction::Worse).is_err(), "horizon {horizon}");
    }
    let standard = ProportionParameters::standard(0.1, WATCH, Direction::Worse);
    for broken in [
        ProportionParameters { octaves: 7, per_octave: 4, ..standard },
        ProportionParameters { octaves: 0, ..standard },
        ProportionParameters { per_octave: 0, ..standard },
        ProportionParameters { anchor_weight: 1.5, ..standard },
        ProportionParameters { cluster: 0.5, ..standard },
        ProportionParameters { cluster: f64::NAN, ..standard },
    ] {
        assert!(ProportionTest::with_parameters(broken).is_err(), "{broken:?}");
    }
    let test = ProportionTest::new(0.1, WATCH, Direction::Worse).unwrap();
    for alpha in [0.0, 1.0, -0.1, f64::NAN] {
        assert!(test.rejects(alpha).is_err(), "alpha {alpha}");
    }
    assert!(ChangeMixture::new(0, WATCH, 0.5).is_err());
    assert!(ChangeMixture::new(MOST_ALTERNATIVES + 1, WATCH, 0.5).is_err());
}

#[test]
fn one_error_in_three_requests_is_no_regression() {
    let mut test = ProportionTest::new(0.1, WATCH, Direction::Worse).unwrap();
    for bad in [1.0, 0.0, 0.0] {
        test.update(bad, 1.0, 10.0).unwrap();
    }
    assert!(!test.rejects(0.01).unwrap());
    assert!(bernoulli_confidence_sequence(1.0, 3.0, 0.01).unwrap().lower < 0.05);
}

/// P(X = k) for k = 0..=n, X binomial.
fn binomial(n: usize, p: f64) -> Vec<f64> {
    let mut law = vec![1.0];
    for _ in 0..n {
        let mut next = vec![0.0; law.len() + 1];
        for (k, mass) in law.iter().enumerate() {
            next[k] += mass * (1.0 - p);
            next[k + 1] += mass * p;
        }
        law = next;
    }
    law
}

/// The promise itself, one block: the expected likelihood ratio is at most 1 for every alternative and every p in the
/// null, and exactly 1 at the boundary. Enumerated, not sampled.
#[test]
fn every_likelihood_ratio_has_expectation_at_most_one_under_the_null() {
    for direction in [Direction::Worse, Direction::Better] {
        for p0 in [0.001, 0.01, 0.1, 0.5, 0.9] {
            for cluster in [1.0, 2.5] {
                let standard = ProportionParameters::standard(p0, WATCH, direction);
                let test =
                    ProportionTest::with_parameters(ProportionParameters { cluster, ..standard }).unwrap();
                for n in [1_usize, 2, 5, 12] {
                    for share in [0.0, 0.3, 0.9, 1.0] {
                        let p = match direction {
                            Direction::Worse => p0 * share,
                            Direction::Better => 1.0 - (1.0 - p0) * share,
                        };
                        let mut expected = [0.0; MOST_ALTERNATIVES];
                        for (k, mass) in binomial(n, p).iter().enumerate() {
                            let evidence = test.block_evidence(k as f64, n as f64).unwrap();
                            for (sum, llr) in expected.iter_mut().zip(evidence.as_slice()) {
                                *sum += mass * llr.exp();
                            }
                        }
                        for sum in expected {
                            assert!(sum <= 1.0 + 1e-12, "{direction:?} {p0} {p} {n}: {sum}");
                            let used = sum > 0.0;
                            if used && share == 1.0 && cluster == 1.0 {
                                assert!((sum - 1.0).abs() < 1e-12, "not tight at the boundary: {sum}");
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The promise through the kernel: the expectation of the whole mixture over three blocks, all outcomes enumerated.
#[test]
fn the_mixture_over_start_times_has_expectation_at_most_one() {
    for direction in [Direction::Worse, Direction::Better] {
        for (anchor_weight, dt) in [(0.5, 10.0), (0.0, 10.0), (1.0, 10.0), (0.5, 40.0), (0.25, 0.0)] {
            let standard = ProportionParameters::standard(0.1, 100.0, direction);
            let parameters = ProportionParameters { anchor_weight, ..standard };
            let law = binomial(4, 0.1);
            let mut expected = 0.0;
            for (first, first_mass) in law.iter().enumerate() {
                for (second, second_mass) in law.iter().enumerate() {
                    for (third, third_mass) in law.iter().enumerate() {
                        let blocks =
                            [first, second, third].map(|bad| Block { bad: bad as f64, total: 4.0, dt });
                        let log_e = run(parameters, &blocks).log_e();
                        expected += first_mass * second_mass * third_mass * log_e.exp();
                    }
                }
            }
            assert!((expected - 1.0).abs() < 1e-12, "{direction:?} {anchor_weight} {dt}: {expected}");
        }
    }
}

/// Marsaglia's xorshift64*: a fixed sequence, so the simulations below say the same on every run.
struct Xorshift(u64);

impl Xorshift {
    /// Uniform on [0, 1).
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One draw from a law on 0, 1, 2, ...
    fn draw(&mut self, law: &[f64]) -> f64 {
        let mut left = self.uniform();
        for (k, mass) in law.iter().enumerate() {
            left -= mass;
            if left < 0.0 {
                return k as f64;
            }
        }
        (law.len() - 1) as f64
    }
}

/// The seconds from `onset` to the rejection, if the test rejects within the watch. A look every ten seconds.
fn delay(dice: &mut Xorshift, p0: f64, n: usize, before: f64, after: f64, onset: usize) -> Option<usize> {
    let laws = (binomial(n, before), binomial(n, after));
    let mut test = ProportionTest::new(p0, WATCH, Direction::Worse).unwrap();
    for look in 0..360 {
        let law = if look < onset { &laws.0 } else { &laws.1 };
        test.update(dice.draw(law), n as f64, 10.0).unwrap();
        if test.rejects(0.01).unwrap() {
            return Some((look + 1).saturating_sub(onset) * 10);
        }
    }
    None
}

fn median(mut delays: Vec<usize>) -> usize {
    delays.sort_unstable();
    delays[delays.len() / 2]
}

#[test]
fn false_alarms_stay_below_alpha_over_the_whole_watch() {
    let mut dice = Xorshift(0x9E37_79B9_7F4A_7C15);
    let alarms = [(0.1, 10), (0.05, 100)]
        .map(|(p0, n)| (0..2_000).filter(|_| delay(&mut dice, p0, n, p0, p0, 0).is_some()).count());
    // At the boundary of the null alpha allows 20 of 2 000; about 1 in 800 fires.
    assert!(alarms.iter().all(|alarms| *alarms <= 20), "{alarms:?} of 2000 each");
    // None at all in 4 000 would mean that this simulation cannot fire.
    assert!(alarms.iter().sum::<usize>() > 0);
}

#[test]
fn a_doubled_error_rate_is_found_within_half_a_minute() {
    let mut dice = Xorshift(0x0123_4567_89AB_CDEF);
    let delays: Vec<usize> = (0..400).map(|_| delay(&mut dice, 0.1, 100, 0.2, 0.2, 0).unwrap()).collect();
    let median = median(delays);
    assert!((10..=30).contains(&median), "median delay {median} s, about 20 s expected");
}

/// Half an hour of good behaviour must not have to be worked off before a late regression is seen.
#[test]
fn a_late_regression_is_found_as_well() {
    let mut dice = Xorshift(0xDEAD_BEEF_1234_5678);
    let delays: Vec<usize> = (0..400).map(|_| delay(&mut dice, 0.1, 100, 0.01, 0.2, 180).unwrap()).collect();
    assert!(delays.iter().all(|delay| *delay > 0), "no alarm before the onset");
    let median = median(delays);
    assert!((10..=50).contains(&median), "median delay {median} s after the onset");
}
