//! The tests of two arms against vectors computed elsewhere (an explicit sum over all start times in 50-digit
//! arithmetic), and the laws they must obey. Relative error at most 1e-9.

use proptest::prelude::*;
use rules::stats::{Direction, Pairs, RatioParameters, RatioSequence, RatioTest, TwoArms, average};
use serde_json::Value;

use crate::{close, list, numbers, parse};

fn arms(canary_bad: f64, canary_total: f64, control_bad: f64, control_total: f64) -> TwoArms {
    TwoArms { canary_bad, canary_total, control_bad, control_total }
}

#[test]
fn ratio_sequences() {
    let file: Value = parse(include_str!("ratio_sequences.json"));
    for case in list(&file["cases"]) {
        let given = &case["params"];
        let number = |key: &str| given[key].as_f64().unwrap();
        let small = |key: &str| u8::try_from(given[key].as_u64().unwrap()).unwrap();
        let direction = match given["direction"].as_str().unwrap() {
            "worse" => Direction::Worse,
            "pass" => Direction::Better,
            other => panic!("unknown direction {other}"),
        };
        let parameters = RatioParameters {
            rho0: number("rho0"),
            horizon_seconds: number("horizon"),
            direction,
            octaves: small("octaves"),
            per_octave: small("per_octave"),
            anchor_weight: number("w_anchor"),
            cluster: number("cluster"),
        };
        let mut test = RatioTest::with_parameters(parameters).unwrap();
        // The reference waits for as long as it takes.
        let mut pairs = Pairs::new(1).patient(1e9).unwrap();
        let mut sequence = RatioSequence::with_grid(-4, 8, 8, parameters.cluster).unwrap();
        for (step, out) in list(&case["steps"]).iter().zip(list(&case["out"])) {
            let (step, out) = (numbers(step), numbers(out));
            let block = arms(step[0], step[1], step[2], step[3]);
            let name = (case["name"].as_str(), &step);
            let mut paired = [block];
            if let Some(seconds) = pairs.take(&mut paired, step[4]).unwrap() {
                test.update(&paired[0], seconds).unwrap();
            }
            close(test.log_e(), out[0], name);
            close(test.max_log_e(), out[1], name);
            close(test.p_value(), out[2], name);
            sequence.update(&block).unwrap();
        }
        let interval = sequence.interval(case["ratio_cs_alpha"].as_f64().unwrap()).unwrap();
        close(interval.lower, case["ratio_cs"][0].as_f64().unwrap(), &case["name"]);
        match case["ratio_cs"][1].as_f64() {
            Some(upper) => close(interval.upper.unwrap(), upper, &case["name"]),
            None => assert_eq!((interval.upper, case["ratio_cs"][1].as_str()), (None, Some("inf"))),
        }
    }
}

/// Slow requests beyond fixed edges, one ratio test an edge, averaged: what the engine does for latency.
#[test]
fn slow_requests_are_ratios_at_fixed_edges() {
    let file: Value = parse(include_str!("slow_request_sequence.json"));
    let bounds: Vec<f64> = list(&file["bounds"]).iter().filter_map(Value::as_f64).collect();
    let edges: Vec<usize> = numbers(&file["taus"])
        .into_iter()
        .map(|tau| bounds.iter().position(|bound| *bound == tau).unwrap())
        .collect();
    let (rho0, horizon) = (file["rho0"].as_f64().unwrap(), file["horizon"].as_f64().unwrap());
    let grid = RatioParameters {
        per_octave: 4,
        anchor_weight: 0.5,
        ..RatioParameters::standard(rho0, horizon, Direction::Worse)
    };
    let mut tests: Vec<RatioTest> = edges.iter().map(|_| RatioTest::with_parameters(grid).unwrap()).collect();
    for (step, expected) in list(&file["steps"]).iter().zip(numbers(&file["log_e"])) {
        let (canary, control) = (numbers(&step[0]), numbers(&step[1]));
        let slow = |counts: &[f64], edge: usize| counts[edge + 1..].iter().sum::<f64>();
        for (test, edge) in tests.iter_mut().zip(&edges) {
            let block =
                arms(slow(&canary, *edge), canary.iter().sum(), slow(&control, *edge), control.iter().sum());
            test.update(&block, step[2].as_f64().unwrap()).unwrap();
        }
        let log_es: Vec<f64> = tests.iter().map(RatioTest::log_e).collect();
        close(average(&log_es, &vec![1.0; log_es.len()]).unwrap(), expected, step);
    }
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let mut test = RatioTest::new(1.25, 3600.0, Direction::Worse).unwrap();
    test.update(&arms(3.0, 10.0, 1.0, 10.0), 10.0).unwrap();
    let before = test.clone();
    for block in [
        arms(f64::NAN, 10.0, 0.0, 10.0),
        arms(0.0, f64::INFINITY, 0.0, 10.0),
        arms(11.0, 10.0, 0.0, 10.0),
        arms(0.0, 10.0, -1.0, 10.0),
        arms(0.0, 10.0, 3.0, 2.0),
    ] {
        assert!(test.update(&block, 10.0).is_err(), "{block:?}");
    }
    assert!(test.update(&arms(0.0, 1.0, 0.0, 1.0), f64::NAN).is_err());
    assert!(test.update(&arms(0.0, 1.0, 0.0, 1.0), -1.0).is_err());
    assert_eq!(test, before);
    assert!(RatioTest::new(0.0, 3600.0, Direction::Worse).is_err());
    assert!(RatioSequence::with_grid(4, -4, 8, 1.0).is_err());
    assert!(RatioSequence::with_grid(-100, 100, 8, 1.0).is_err());
}

#[test]
fn requests_wait_a_minute_for_the_other_arm_and_no_longer() {
    let mut pairs = Pairs::new(2);
    let take = |pairs: &mut Pairs, slow: TwoArms, slower: TwoArms, seconds| {
        let mut window = [slow, slower];
        pairs.take(&mut window, seconds).unwrap().map(|length| (window, length))
    };
    let canary = || (arms(10.0, 50.0, 0.0, 0.0), arms(3.0, 50.0, 0.0, 0.0));
    for _ in 0..5 {
        assert_eq!(take(&mut pairs, canary().0, canary().1, 10.0), None, "no control yet");
    }
    let mut late = pairs.clone();
    let control = (arms(0.0, 0.0, 1.0, 300.0), arms(0.0, 0.0, 0.0, 300.0));
    let block = [arms(50.0, 250.0, 1.0, 300.0), arms(15.0, 250.0, 0.0, 300.0)];
    assert_eq!(take(&mut pairs, control.0, control.1, 9.0), Some((block, 59.0)), "with all that waited");
    // Nothing waits any more.
    assert_eq!(take(&mut pairs, control.0, control.1, 9.0), None);
    // A minute is over: what waited is given up, one-armed, and only the new window counts from here on.
    let given_up = [arms(60.0, 300.0, 0.0, 0.0), arms(18.0, 300.0, 0.0, 0.0)];
    assert_eq!(take(&mut late, canary().0, canary().1, 10.0), Some((given_up, 60.0)));
    assert_eq!(
        take(&mut late, TwoArms::default(), TwoArms::default(), 10.0),
        Some(([TwoArms::default(); 2], 10.0))
    );
}

#[test]
fn a_pair_refuses_what_is_no_window() {
    let mut pairs = Pairs::new(1);
    assert_eq!(pairs.take(&mut [arms(1.0, 2.0, 0.0, 0.0)], 5.0).unwrap(), None);
    let before = pairs.clone();
    assert!(pairs.take(&mut [arms(3.0, 2.0, 0.0, 0.0)], 5.0).is_err());
    assert!(pairs.take(&mut [arms(1.0, 2.0, 0.0, 0.0)], -5.0).is_err());
    assert!(pairs.take(&mut [TwoArms::default(); 2], 5.0).is_err());
    assert_eq!(pairs, before);
    assert!(Pairs::new(1).patient(0.0).is_err());
}

#[test]
fn the_grid_ends_where_a_share_would_be_above_one() {
    let octaves =
        |share: f64| RatioParameters::standard(1.25, 3600.0, Direction::Worse).beside(share).octaves;
    // 1/(0.05 x 1.25) = 16; half of all requests can only double.
    assert_eq!([octaves(0.05), octaves(0.5), octaves(0.9), octaves(0.001), octaves(0.0)], [4, 1, 1, 6, 6]);
    let better = RatioParameters::standard(2.0, 3600.0, Direction::Better);
    assert_eq!(better.beside(0.5), better);
}

fn block() -> impl Strategy<Value = TwoArms> {
    let arm = (0_u32..200, 0.0_f64..1.0).prop_map(|(total, share)| {
        let total = f64::from(total);
        ((total * share).floor(), total)
    });
    (arm.clone(), arm).prop_map(|(canary, control)| arms(canary.0, canary.1, control.0, control.1))
}

proptest! {
    /// The exact expectation of the likelihood ratio of a block at the edge of the null is at most one, for every
    /// alternative: the supermartingale property itself, by enumeration.
    #[test]
    fn a_block_is_a_fair_bet_at_best(
        canary_n in 1_u32..7, control_n in 1_u32..7, control_p in 0.001_f64..0.5, rho0 in 1.0_f64..2.0, slack in 0.3_f64..1.0
    ) {
        let canary_p = (rho0 * control_p * slack).min(1.0);
        prop_assume!(canary_p <= rho0 * control_p);
        let test = RatioTest::new(rho0, 3600.0, Direction::Worse).unwrap();
        let binomial = |n: u32, x: u32, p: f64| {
            let ways: f64 = (0..x).map(|i| f64::from(n - i) / f64::from(x - i)).product();
            ways * p.powi(x as i32) * (1.0 - p).powi((n - x) as i32)
        };
        let mut mean = vec![0.0; test.alternatives()];
        for x in 0..=canary_n {
            for y in 0..=control_n {
                let block = arms(f64::from(x), f64::from(canary_n), f64::from(y), f64::from(control_n));
                let weight = binomial(canary_n, x, canary_p) * binomial(control_n, y, control_p);
                for (mean, llr) in mean.iter_mut().zip(test.block_evidence(&block).unwrap()) {
                    *mean += weight * llr.exp();
                }
            }
        }
        for mean in mean {
            prop_assert!(mean <= 1.0 + 1e-12, "{mean}");
        }
    }

    /// One more bad request of the canary never lowers the evidence that it is worse, one more of the control never raises it.
    #[test]
    fn evidence_is_monotone(blocks in prop::collection::vec(block(), 1..20)) {
        let run = |blocks: &[TwoArms]| {
            let mut test = RatioTest::new(1.25, 3600.0, Direction::Worse).unwrap();
            for block in blocks {
                test.update(block, 10.0).unwrap();
            }
            test.log_e()
        };
        let now = run(&blocks);
        let mut more = blocks.clone();
        if let Some(block) = more.iter_mut().find(|block| block.canary_bad < block.canary_total) {
            block.canary_bad += 1.0;
            prop_assert!(run(&more) >= now - 1e-9);
        }
        let mut fewer = blocks.clone();
        if let Some(block) = fewer.iter_mut().find(|block| block.control_bad < block.control_total) {
            block.control_bad += 1.0;
            prop_assert!(run(&fewer) <= now + 1e-9);
        }
    }

    /// At a constant split of the traffic only the sums count for the anchored part: a block may be cut in two.
    #[test]
    fn splitting_a_block_changes_nothing(bad in 0_u32..40, control_bad in 0_u32..40, cut in 0_u32..40) {
        let parameters = RatioParameters { anchor_weight: 1.0, ..RatioParameters::standard(1.25, 3600.0, Direction::Worse) };
        let (mut whole, mut parts) = (
            RatioTest::with_parameters(parameters).unwrap(),
            RatioTest::with_parameters(parameters).unwrap(),
        );
        let (first, control_first) = (cut.min(bad), cut.min(control_bad));
        whole.update(&arms(f64::from(bad), 100.0, f64::from(control_bad), 300.0), 10.0).unwrap();
        parts.update(&arms(f64::from(first), 40.0, f64::from(control_first), 120.0), 4.0).unwrap();
        parts.update(&arms(f64::from(bad - first), 60.0, f64::from(control_bad - control_first), 180.0), 6.0).unwrap();
        prop_assert!((whole.log_e() - parts.log_e()).abs() <= 1e-9 * whole.log_e().abs().max(1.0));
    }

    /// A block without traffic on either arm never adds evidence.
    #[test]
    fn a_hole_adds_nothing(blocks in prop::collection::vec(block(), 1..20), holes in 1_usize..30) {
        let mut test = RatioTest::new(1.25, 3600.0, Direction::Worse).unwrap();
        for block in &blocks {
            test.update(block, 10.0).unwrap();
        }
        let before = test.log_e();
        for _ in 0..holes {
            prop_assert_eq!(test.update(&TwoArms::default(), 10.0).unwrap(), before);
        }
    }

    /// What goes in comes out: nothing is lost or counted twice, whichever arm is seen when, and time neither. Written
    /// down and read back, the pairs go on bit for bit.
    #[test]
    fn pairs_keep_every_request(windows in prop::collection::vec((block(), 0..3), 1..40)) {
        let mut pairs = Pairs::new(1);
        let (mut given, mut taken, mut length) = (TwoArms::default(), TwoArms::default(), 0.0);
        for (window, seen) in &windows {
            let window = match seen {
                0 => arms(window.canary_bad, window.canary_total, 0.0, 0.0),
                1 => arms(0.0, 0.0, window.control_bad, window.control_total),
                _ => *window,
            };
            given = given.plus(&window);
            let mut again: Pairs = serde_json::from_str(&serde_json::to_string(&pairs).unwrap()).unwrap();
            prop_assert_eq!(&again, &pairs);
            let (mut block, mut block_again) = ([window], [window]);
            let came = pairs.take(&mut block, 5.0).unwrap();
            prop_assert_eq!(again.take(&mut block_again, 5.0).unwrap(), came);
            prop_assert_eq!(block, block_again);
            if let Some(seconds) = came {
                taken = taken.plus(&block[0]);
                length += seconds;
            }
        }
        // A control of a hundred requests on both arms fetches out what waits.
        let mut last = [arms(0.0, 100.0, 0.0, 100.0)];
        length += pairs.take(&mut last, 5.0).unwrap().unwrap();
        prop_assert_eq!(taken.plus(&last[0]), given.plus(&arms(0.0, 100.0, 0.0, 100.0)));
        prop_assert_eq!(length, 5.0 * (windows.len() + 1) as f64);
    }

    /// Written down and read back, both go on bit for bit.
    #[test]
    fn restoring_is_exact(blocks in prop::collection::vec(block(), 1..20), more in block()) {
        let mut test = RatioTest::new(1.25, 3600.0, Direction::Worse).unwrap();
        let mut sequence = RatioSequence::new(2.5).unwrap();
        for block in &blocks {
            test.update(block, 10.0).unwrap();
            sequence.update(block).unwrap();
        }
        let mut again: RatioTest = serde_json::from_str(&serde_json::to_string(&test).unwrap()).unwrap();
        let sequence_again: RatioSequence =
            serde_json::from_str(&serde_json::to_string(&sequence).unwrap()).unwrap();
        prop_assert_eq!(&again, &test);
        prop_assert_eq!(&sequence_again, &sequence);
        prop_assert_eq!(test.update(&more, 10.0).unwrap().to_bits(), again.update(&more, 10.0).unwrap().to_bits());
    }

    /// The interval holds the ratio as counted, or one beside it on the grid.
    #[test]
    fn the_interval_holds_what_was_counted(blocks in prop::collection::vec(block(), 1..20)) {
        let mut sequence = RatioSequence::new(1.0).unwrap();
        let mut sum = TwoArms::default();
        for block in blocks.iter().filter(|block| block.canary_total > 0.0 && block.control_total > 0.0) {
            sequence.update(block).unwrap();
            sum = sum.plus(block);
        }
        let wide = sequence.interval(0.001).unwrap();
        let narrow = sequence.interval(0.1).unwrap();
        prop_assert!(wide.lower <= narrow.lower);
        prop_assert!(wide.upper.unwrap_or(f64::INFINITY) >= narrow.upper.unwrap_or(f64::INFINITY));
    }
}
