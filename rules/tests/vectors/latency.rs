//! Histograms, traffic shares and e-BH against vectors computed elsewhere. Relative error at most 1e-9.

use rules::stats::{
    ExponentialHistogram, Histogram, OpenInterval, Side, StatsError, ZERO_THRESHOLD, e_benjamini_hochberg,
    log_e_bernoulli, log_e_dirichlet, quantile_ratio_interval,
};
use serde_json::Value;

use crate::{close, list, number, numbers, parse};

/// An upper bound as the vectors write it: a number, or "inf" for "none".
fn upper(value: &Value) -> Option<f64> {
    if value == "inf" { None } else { Some(number(value)) }
}

#[track_caller]
fn same_interval(found: OpenInterval, case: &Value) {
    close(found.lower, number(&case["lower"]), case);
    match (found.upper, upper(&case["upper"])) {
        (Some(found), Some(expected)) => close(found, expected, case),
        (found, expected) => assert_eq!(found, expected, "{case}"),
    }
}

/// The vectors list "inf" as the last edge; here it is implied.
fn histogram(bounds: &Value, counts: &Value) -> Histogram<'static> {
    let (last, finite) = bounds.as_array().unwrap().split_last().unwrap();
    assert_eq!(last, "inf");
    Histogram::new(finite.iter().map(number).collect::<Vec<_>>(), numbers(counts)).unwrap()
}

#[test]
fn latency() {
    let file = parse(include_str!("latency.json"));
    let mut open = 0;
    for case in list(&file["cases"]) {
        let at = |key: &str| number(&case[key]);
        let with = |key: &str| histogram(&case["bounds"], &case[key]);
        match case["fn"].as_str().unwrap() {
            "quantile_cs" => {
                close(25.0 * at("q"), at("a"), case);
                close(25.0 * (1.0 - at("q")), at("b"), case);
                let found = with("counts").quantile_interval(at("q"), at("alpha")).unwrap();
                open += usize::from(found.upper.is_none());
                same_interval(found, case);
            }
            "exceed" => {
                assert_eq!(with("counts").exceed(at("tau")), (at("definite"), at("possible")), "{case}");
            }
            "quantile_ratio_interval" => {
                let (canary, control) = (with("canary"), with("control"));
                let found = quantile_ratio_interval(&canary, &control, at("q"), at("alpha")).unwrap();
                same_interval(found, case);
            }
            other => panic!("unknown function {other}"),
        }
    }
    assert!(open > 0, "the vectors hold intervals without an upper end");
}

/// The thresholds of this sequence are edges: both counts agree, and equal the sum of the buckets above.
#[test]
fn slow_requests() {
    let file = parse(include_str!("slow_request_sequence.json"));
    let bounds = &file["bounds"];
    for step in list(&file["steps"]) {
        for counts in [&step[0], &step[1]] {
            let seen = histogram(bounds, counts);
            for tau in numbers(&file["taus"]) {
                let edge = bounds.as_array().unwrap().iter().position(|b| b.as_f64() == Some(tau)).unwrap();
                let above: f64 = numbers(counts)[edge + 1..].iter().sum();
                assert_eq!(seen.exceed(tau), (above, above), "{tau} {counts}");
            }
        }
    }
}

/// Every way the linear definition could differ from the halving search, on one distribution of 600 requests.
#[test]
fn the_interval_is_the_one_of_the_definition() {
    let bounds: Vec<f64> = (1..=30).map(f64::from).collect();
    let counts: Vec<f64> = (0..=30).map(|i| f64::from((i * 7 + 3) % 11 * 5)).collect();
    let seen = Histogram::new(&bounds[..], &counts[..]).unwrap();
    for (q, alpha) in [(0.05, 0.01), (0.5, 0.05), (0.5, 0.9), (0.95, 0.01), (0.99, 1e-6)] {
        let (mut lower, mut upper, mut below) = (0.0, None, 0.0);
        for (edge, count) in bounds.iter().zip(&counts) {
            below += count;
            let e = |side| log_e_bernoulli(below, seen.total(), q, 25.0 * q, 25.0 * (1.0 - q), side).unwrap();
            let threshold = (2.0_f64 / alpha).ln();
            if e(Side::Less) >= threshold {
                lower = *edge;
            } else if e(Side::Greater) >= threshold {
                upper = Some(*edge);
                break;
            }
        }
        let found = seen.quantile_interval(q, alpha).unwrap();
        assert_eq!(found, OpenInterval { lower, upper }, "{q} {alpha}");
    }
}

#[test]
fn a_question_between_edges_is_put_at_the_next_ones_and_says_so() {
    let bounds = [0.1, 0.25, 0.5, 1.0];
    let seen = Histogram::new(&bounds[..], &[0.0; 5][..]).unwrap();
    for (tau, factor, expected) in [
        (0.25, 2.0, Some((0.25, 0.5, 2.0, false))),
        (0.25, 1.5, Some((0.25, 0.5, 2.0, true))),
        (0.268, 2.0, Some((0.5, 1.0, 2.0, true))),
        (0.1, 1.0, Some((0.1, 0.1, 1.0, false))),
        (0.09, 1.0, Some((0.1, 0.1, 1.0, true))),
        (0.5, 3.0, None),
        (1.5, 1.0, None),
    ] {
        let found = seen.ratio_edges(tau, factor).unwrap();
        let found = found.map(|at| (at.control, at.canary, at.factor, at.resolution_limited));
        assert_eq!(found, expected, "{tau} {factor}");
    }
    let thirds = Histogram::new(&[0.1, 0.3][..], &[0.0; 3][..]).unwrap();
    let found = thirds.ratio_edges(0.1, 3.0).unwrap().unwrap();
    assert!(!found.resolution_limited, "3 * 0.1 is the edge 0.3, whatever its last bit says");
    assert!(seen.ratio_edges(0.0, 2.0).is_err());
    assert!(seen.ratio_edges(0.1, 0.5).is_err());
    assert!(seen.ratio_edges(f64::NAN, 2.0).is_err());
}

#[test]
fn what_is_no_histogram_is_refused_with_a_reason() {
    let refused = |bounds: &[f64], counts: &[f64]| Histogram::new(bounds, counts).unwrap_err().to_string();
    assert!(refused(&[1.0], &[1.0]).contains("2"));
    assert!(refused(&[1.0, 1.0], &[0.0; 3]).contains("above the edge before it"));
    assert!(refused(&[-1.0], &[0.0; 2]).contains("zero or more"));
    assert!(refused(&[f64::INFINITY], &[0.0; 2]).contains("finite"));
    assert!(refused(&[1.0], &[0.0, -1.0]).contains("bucket count"));
    assert!(refused(&[1.0], &[0.0, f64::NAN]).contains("bucket count"));
    assert!(refused(&[1.0], &[1e15, 1e15]).contains("sum of the bucket counts"));
    assert!(refused(&vec![1.0; 4_097], &vec![0.0; 4_098]).contains("4096"));

    let nothing = Histogram::new(&[1.0][..], &[0.0; 2][..]).unwrap();
    let unknown = OpenInterval { lower: 0.0, upper: None };
    assert_eq!(nothing.quantile_interval(0.95, 0.01).unwrap(), unknown, "no values prove nothing");
    let edgeless = Histogram::new(vec![], vec![7.0]).unwrap();
    assert_eq!(edgeless.exceed(0.3), (0.0, 7.0));
    assert_eq!(edgeless.quantile_interval(0.5, 0.01).unwrap(), unknown);
    assert_eq!(edgeless.exceed(f64::NAN), (0.0, 7.0), "nothing is known about a threshold that is no number");
    assert!(nothing.quantile_interval(1.0, 0.01).is_err());
    assert!(nothing.quantile_interval(0.5, f64::NAN).is_err());
    assert_eq!(serde_json::to_string(&unknown).unwrap(), r#"{"lower":0.0,"upper":null}"#);
}

#[test]
fn raw_samples_fall_into_exponential_buckets() {
    // Schema 0: edges are powers of two and belong to the bucket below them.
    let seen = Histogram::of_samples(&[0.0, 1e-12, 0.25, 0.3, 0.5, 0.51, 4.0], 0).unwrap();
    assert_eq!(seen.bounds(), [ZERO_THRESHOLD, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0]);
    assert_eq!(seen.counts(), [2.0, 0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 0.0]);
    assert_eq!(Histogram::of_samples(&[], 3).unwrap().total(), 0.0);
    for broken in [-1.0, f64::NAN, f64::INFINITY, 1e16] {
        let refused = Histogram::of_samples(&[0.1, broken], 3).unwrap_err().to_string();
        assert!(refused.contains("a sample of a histogram"), "{refused}");
    }
    assert!(Histogram::of_samples(&[0.1], 9).is_err());
    assert!(Histogram::of_samples(&[0.1], -5).is_err());

    let mut fine = ExponentialHistogram::new(5).unwrap();
    fine.observe(0.3).unwrap();
    assert!(fine.merge_down(6).unwrap_err().to_string().contains("merged, never split"));
    fine.merge_down(0).unwrap();
    assert_eq!(fine.to_histogram().unwrap(), Histogram::of_samples(&[0.3], 0).unwrap());
    // Ten octaves at 0.27 % steps are more buckets than one histogram holds.
    let wide: Vec<f64> = (0..2_560).map(|i| 2.0_f64.powf(f64::from(i) / 256.0)).collect();
    let mut crowded = ExponentialHistogram::new(8).unwrap();
    for &value in &wide {
        crowded.observe(value).unwrap();
    }
    assert_eq!(
        (crowded.schema(), crowded.total()),
        (3, 2_560.0),
        "80 buckets of 9 %; at schema 4 it is 160 and one"
    );
}

#[test]
fn traffic_shares() {
    let file = parse(include_str!("dirichlet.json"));
    for case in list(&file["cases"]) {
        let [counts, shares, alpha] = ["counts", "theta0", "alpha0"].map(|key| numbers(&case[key]));
        close(log_e_dirichlet(&counts, &shares, &alpha).unwrap(), number(&case["log_e"]), case);
    }
    // A billion requests, against log-gammas in 60 digits; the textbook form in floats is off by 1e-6 and more here.
    type Case<'a> = (&'a [f64], &'a [f64], &'a [f64], f64);
    let at_scale: [Case<'_>; 5] = [
        (&[250_000_000.0, 750_000_000.0], &[0.25, 0.75], &[5.0, 15.0], -8.881_799_896_384_886),
        (&[250_100_000.0, 749_900_000.0], &[0.25, 0.75], &[5.0, 15.0], 17.782_363_130_736_293),
        (
            &[125_000_000_123.0, 124_999_990_000.0, 250_000_009_877.0],
            &[0.25, 0.25, 0.5],
            &[7.5, 7.5, 15.0],
            -23.561_067_541_367_508,
        ),
        (&[0.0, 3e9], &[0.0625, 0.9375], &[1.25, 18.75], 193_615_539.807_581_5),
        (&[3.0, 1e9], &[0.5, 0.5], &[10.0, 10.0], 693_146_946.960_374_5),
    ];
    for (counts, shares, alpha, expected) in at_scale {
        close(log_e_dirichlet(counts, shares, alpha).unwrap(), expected, counts);
    }
    assert_eq!(
        log_e_dirichlet(&[0.0; 2], &[0.5; 2], &[10.0; 2]).unwrap(),
        0.0,
        "nothing seen, nothing known"
    );
    for (counts, shares, alpha) in [
        (&[1.0][..], &[1.0][..], &[1.0][..]),
        (&[1.0, 1.0], &[0.5], &[1.0, 1.0]),
        (&[1.0, 1.0], &[0.5, 0.5], &[1.0]),
        (&[1.0, 1.0], &[0.5, 0.4], &[1.0, 1.0]),
        (&[1.0, 1.0], &[0.0, 1.0], &[1.0, 1.0]),
        (&[1.0, -1.0], &[0.5, 0.5], &[1.0, 1.0]),
        (&[1.0, f64::NAN], &[0.5, 0.5], &[1.0, 1.0]),
        (&[1.0, 1.0], &[0.5, 0.5], &[1.0, 0.0]),
        (&[1e15, 1e15], &[0.5, 0.5], &[1.0, 1.0]),
    ] {
        assert!(log_e_dirichlet(counts, shares, alpha).is_err(), "{counts:?} {shares:?} {alpha:?}");
    }
}

#[test]
fn discoveries() {
    let file = parse(include_str!("combine.json"));
    for case in list(&file["e_bh"]) {
        let found = e_benjamini_hochberg(&numbers(&case["log_es"]), number(&case["fdr"])).unwrap();
        let expected: Vec<usize> =
            case["out"].as_array().unwrap().iter().map(|place| number(place) as usize).collect();
        assert_eq!(found, expected, "{case}");
    }
    // Neither reaches ln(3/0.1) = 3.4 nor, as one of two, ln(1.5/0.1) = 2.7; but all three reach ln(1/0.1) = 2.3.
    assert_eq!(e_benjamini_hochberg(&[2.4, 2.4, 2.4], 0.1).unwrap(), [0, 1, 2]);
    assert_eq!(e_benjamini_hochberg(&[f64::NEG_INFINITY, 9.0], 0.05).unwrap(), [1]);
    assert!(matches!(e_benjamini_hochberg(&[], 0.05), Err(StatsError::Empty { .. })));
    assert!(e_benjamini_hochberg(&[f64::NAN], 0.05).is_err());
    assert!(e_benjamini_hochberg(&[f64::INFINITY], 0.05).is_err());
    assert!(e_benjamini_hochberg(&[1.0], 1.0).is_err());
}
