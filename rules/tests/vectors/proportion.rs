//! The statistics against vectors computed elsewhere: explicit sums over all start times and closed forms in 50-digit
//! arithmetic, and a second implementation with its own incomplete beta function. Relative error at most 1e-9.

use rules::stats::numerics::{beta_quantile, log_beta, log_beta_inc, log_beta_sf};
use rules::stats::{
    BaselineWindow, Counts, Direction, ProportionParameters, ProportionTest, Side, average,
    bernoulli_confidence_sequence, beta_binomial_baseline, counter_delta, log_e_bernoulli, minimum,
    pair_dispersion, pearson_dispersion, requests_needed, zero_error_requests,
};
use serde_json::Value;

use crate::{close, list, number, numbers, parse};

/// For values that are honest logs of probabilities near 1 (1e-101 and the like): relative only.
#[track_caller]
fn close_relative(found: f64, expected: f64, what: &dyn std::fmt::Debug) {
    assert!((found / expected - 1.0).abs() <= 1e-9, "{what:?}: found {found:e}, expected {expected:e}");
}

#[test]
fn special_functions() {
    let file = parse(include_str!("special.json"));
    for case in list(&file["cases"]) {
        let (a, b) = (number(&case["a"]), number(&case["b"]));
        let found = match case["fn"].as_str().unwrap() {
            "log_beta" => log_beta(a, b).unwrap(),
            "log_betainc" => log_beta_inc(a, b, number(&case["x"])).unwrap(),
            other => panic!("unknown function {other}"),
        };
        close_relative(found, number(&case["out"]), case);
    }
}

#[test]
fn the_two_tails_add_up_and_agree_with_a_second_implementation() {
    // Larger shapes are out of reach of the second one: it stops after 140 steps and is off by 1e-6 at (1e5, 1e7).
    for (a, b) in [(0.5, 0.5), (3.0, 12.0), (0.5, 50.0), (101.0, 9_950.0)] {
        for probability in [1e-6, 0.005, 0.3, 0.5, 0.7, 0.995] {
            let x = beta_quantile(a, b, probability).unwrap();
            let (below, above) = (log_beta_inc(a, b, x).unwrap(), log_beta_sf(a, b, x).unwrap());
            close(below.exp() + above.exp(), 1.0, (a, b, x));
            // The slope of the distribution turns one unit in the last place of x into this much probability.
            assert!((below.exp() / probability - 1.0).abs() < 1e-9, "{a} {b} {probability}: {}", below.exp());
            let second = statrs::function::beta::beta_reg(a, b, x);
            assert!((second / probability - 1.0).abs() < 1e-9, "{a} {b} {probability}: {second}");
        }
    }
}

/// A day of heavy traffic, against the hypergeometric series summed in 40 digits: another algorithm altogether.
#[test]
fn the_incomplete_beta_function_holds_at_ten_million() {
    for (x, expected) in [
        (0.0098, -7.463_070_181_467_685),
        (0.0099, -0.717_978_575_816_221_5),
        (0.01, -7.660_090_674_497_668e-4),
    ] {
        close_relative(log_beta_inc(1e5, 1e7, x).unwrap(), expected, &x);
    }
}

#[test]
fn closed_form_mixtures() {
    let file = parse(include_str!("bernoulli_e.json"));
    for case in list(&file["cases"]) {
        let side = match case["side"].as_str().unwrap() {
            "greater" => Side::Greater,
            "less" => Side::Less,
            "two" => Side::Both,
            other => panic!("unknown side {other}"),
        };
        let [x, n, p0, a, b] = ["x", "n", "p0", "a", "b"].map(|key| number(&case[key]));
        let found = log_e_bernoulli(x, n, p0, a, b, side).unwrap();
        close(found, number(&case["log_e"]), case);
        if let Some(p) = case["p"].as_f64() {
            close((-found).exp().min(1.0), p, case);
        }
    }
}

#[test]
fn confidence_sequences() {
    let file = parse(include_str!("bernoulli_cs.json"));
    for case in list(&file["cases"]) {
        let [x, n, alpha] = ["x", "n", "alpha"].map(|key| number(&case[key]));
        let found = bernoulli_confidence_sequence(x, n, alpha).unwrap();
        close(found.lower, number(&case["lower"]), case);
        close(found.upper, number(&case["upper"]), case);
    }
}

#[test]
fn proportion_sequences() {
    let file = parse(include_str!("proportion_sequences.json"));
    for case in list(&file["cases"]) {
        let parameters = &case["params"];
        let direction = match parameters["direction"].as_str().unwrap() {
            "worse" => Direction::Worse,
            "pass" => Direction::Better,
            other => panic!("unknown direction {other}"),
        };
        let explicit = ProportionParameters {
            p0: number(&parameters["p0"]),
            horizon_seconds: number(&parameters["horizon"]),
            direction,
            octaves: u8::try_from(parameters["octaves"].as_u64().unwrap()).unwrap(),
            per_octave: u8::try_from(parameters["per_octave"].as_u64().unwrap()).unwrap(),
            anchor_weight: number(&parameters["w_anchor"]),
            cluster: 1.0,
        };
        let standard = ProportionParameters::standard(explicit.p0, explicit.horizon_seconds, direction);
        assert!(explicit.octaves >= standard.octaves, "the vectors reach as far as the production grid");
        let mut test = ProportionTest::with_parameters(explicit).unwrap();
        for (step, out) in list(&case["steps"]).iter().zip(list(&case["out"])) {
            let (step, out) = (numbers(step), numbers(out));
            let name = (case["name"].as_str(), &step);
            close(test.update(step[0], step[1], step[2]).unwrap(), out[0], name);
            close(test.log_e(), out[0], name);
            close(test.max_log_e(), out[1], name);
            close(test.p_value(), out[2], name);
        }
    }
}

#[test]
fn baselines() {
    let file = parse(include_str!("baseline.json"));
    for case in list(&file["cases"]) {
        let windows: Vec<BaselineWindow> = numbers(&case["errors"])
            .into_iter()
            .zip(numbers(&case["requests"]))
            .map(|(bad, total)| BaselineWindow { bad, total })
            .collect();
        let delta = number(&case["delta"]);
        let found = beta_binomial_baseline(&windows, delta).unwrap();
        let expected = |key: &str| number(&case["out"][key]);
        close(found.mean, expected("mu"), case);
        close(found.windows as f64, expected("windows"), case);
        close(found.requests, expected("requests"), case);
        close(found.bad, expected("errors"), case);
        close(found.intra_class_correlation, expected("icc"), case);
        close(found.design_effect, expected("deff"), case);
        close(found.effective_requests, expected("neff"), case);
        close(found.upper, expected("p_upper"), case);
        assert!(0.0 < found.lower && found.lower < found.mean && found.mean < found.upper);
        let a = 0.5 + found.mean * found.effective_requests;
        let b = 50.0 + (1.0 - found.mean) * found.effective_requests;
        close(log_beta_inc(a, b, found.lower).unwrap(), (delta / 2.0).ln(), case);
    }
}

#[test]
fn dispersions() {
    let file = parse(include_str!("misc.json"));
    let pairs = |bad: &Value, total: &Value| -> Vec<Counts> {
        let (bad, total) = (numbers(bad), numbers(total));
        bad.into_iter().zip(total).map(|(bad, total)| Counts { bad, total }).collect()
    };
    for case in list(&file["pair_dispersion"]) {
        let first = pairs(&case["xa"], &case["na"]);
        let blocks: Vec<_> = first.into_iter().zip(pairs(&case["xb"], &case["nb"])).collect();
        close(pair_dispersion(&blocks).unwrap().unwrap(), number(&case["out"][0]), case);
        assert_eq!(pair_dispersion(&blocks[..19]).unwrap(), None, "19 blocks are too few");
    }
    for case in list(&file["pearson_dispersion"]) {
        let blocks = pairs(&case["x"], &case["n"]);
        let span = usize::try_from(case["span"].as_u64().unwrap()).unwrap();
        close(pearson_dispersion(&blocks, span).unwrap().unwrap(), number(&case["out"]), case);
        assert_eq!(pearson_dispersion(&blocks[..19], span).unwrap(), None, "19 blocks are too few");
    }
}

#[test]
fn counters() {
    let file = parse(include_str!("misc.json"));
    for case in list(&file["counter_delta"]) {
        let found = counter_delta(case["prev"].as_f64(), case["cur"].as_f64(), None, None);
        assert_eq!(found, case["out"].as_f64(), "{case}");
    }
    let restart = counter_delta(Some(10.0), Some(15.0), Some(1.0), Some(2.0));
    assert_eq!(restart, Some(15.0), "a new process that already counted past the old one");
    assert_eq!(counter_delta(Some(10.0), Some(15.0), Some(1.0), Some(1.0)), Some(5.0));
    assert_eq!(
        counter_delta(Some(10.0), Some(15.0), None, Some(2.0)),
        Some(5.0),
        "one start time says nothing"
    );
    for broken in [None, Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)] {
        assert_eq!(counter_delta(Some(10.0), broken, None, None), None);
        assert_eq!(counter_delta(broken, Some(10.0), None, None), None);
    }
}

#[test]
fn sample_sizes() {
    let file = parse(include_str!("misc.json"));
    for case in list(&file["zero_error_requests"]) {
        let found = zero_error_requests(number(&case["p"]), number(&case["alpha"])).unwrap();
        assert_eq!(Some(found), case["n"].as_u64(), "{case}");
    }
    assert!(zero_error_requests(1e-12, 0.01).is_err(), "more than a billion requests");
    // KL(0.2 || 0.1) = 0.2 ln 2 + 0.8 ln(8/9) = 0.0444030; (ln 100 + 2) / 0.0444030 = 148.75.
    assert_eq!(requests_needed(0.2, 0.1, 0.01).unwrap(), 149);
    // KL(0 || 0.01) = -ln 0.99 = 0.0100503; (ln 20 + 2) / 0.0100503 = 497.07.
    assert_eq!(requests_needed(0.0, 0.01, 0.05).unwrap(), 498);
    assert!(requests_needed(0.1, 0.1, 0.01).is_err(), "equal proportions cannot be told apart");
}

#[test]
fn combinations() {
    let file = parse(include_str!("combine.json"));
    for case in list(&file["average"]) {
        let log_es = numbers(&case["log_es"]);
        let weights = match &case["weights"] {
            Value::Null => vec![1.0; log_es.len()],
            given => numbers(given),
        };
        close(average(&log_es, &weights).unwrap(), number(&case["out"]), case);
    }
    assert_eq!(minimum(&[4.7, -2.0, 900.0]).unwrap(), -2.0);
    assert_eq!(average(&[f64::NEG_INFINITY, 0.0], &[0.5, 0.5]).unwrap(), 0.5_f64.ln());
    for (log_es, weights) in [
        (&[][..], &[][..]),
        (&[1.0], &[1.0, 1.0]),
        (&[f64::NAN], &[1.0]),
        (&[f64::INFINITY], &[1.0]),
        (&[1.0], &[0.0]),
        (&[1.0, 1.0], &[2.0, -1.0]),
        (&[1.0], &[f64::NAN]),
    ] {
        assert!(average(log_es, weights).is_err(), "{log_es:?} {weights:?}");
    }
    assert!(minimum(&[]).is_err());
    assert!(minimum(&[1.0, f64::NAN]).is_err());
}
