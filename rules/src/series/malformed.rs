//! About sixty ways in which data can be wrong. Each must become a hole with words that say what is wrong; none may
//! become a number.

use super::tests::{FRESH, at, availability, errors, gauge, latency, series, window};
use super::*;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// A name for the case, what was read, whether it is `Failed` (else `Absent`), and words that must be there.
type Case = (&'static str, Vec<RawSeries>, bool, &'static str);

fn check(signal: &Signal, cases: Vec<Case>) {
    for (name, data, is_failed, words) in cases {
        let observation = observe(signal, &data, None, window(0, 60), FRESH);
        let reason = match (&observation, is_failed) {
            (Observation::Failed { reason }, true) | (Observation::Absent { reason }, false) => reason,
            other => panic!("{name}: {other:?}"),
        };
        assert!(reason.contains(words), "{name}: {reason:?} should contain {words:?}");
    }
}

fn ended(labels: &[(&str, &str)], samples: &[(i64, f64)], second: i64) -> RawSeries {
    let mut series = series(labels, samples);
    series.samples.push(Sample::stale(at(second)));
    series
}

/// One series with the code 200.
fn one(samples: &[(i64, f64)]) -> Vec<RawSeries> {
    vec![series(&[("code", "200")], samples)]
}

#[test]
fn malformed_counters() {
    let ok = || series(&[("code", "200")], &[(0, 1.0), (60, 2.0)]);
    let with = |samples: &[(i64, f64)]| vec![ok(), series(&[("code", "500")], samples)];
    check(
        &errors(),
        vec![
            ("no series", vec![], false, "no series matches"),
            ("a series without samples", one(&[]), false, "none of 1 series has a sample"),
            ("all samples too far back", one(&[(-400, 1.0), (-390, 2.0)]), false, "none of 1 series"),
            ("all samples in the future", one(&[(61, 1.0), (70, 2.0)]), false, "none of 1 series"),
            ("only the base", one(&[(0, 1.0)]), false, "newest sample is 1m old, at most 30s is fresh"),
            ("stopped 45 seconds ago", one(&[(0, 1.0), (15, 2.0)]), false, "newest sample is 45s old"),
            ("just not fresh", one(&[(0, 1.0), (29, 2.0)]), false, "31s old"),
            ("ended", vec![ended(&[("code", "200")], &[(0, 1.0), (50, 2.0)], 60)], false, "have ended"),
            ("nothing but a stale marker", vec![ended(&[("code", "200")], &[], 60)], false, "have ended"),
            (
                "one ended, one is old",
                vec![ended(&[("code", "200")], &[(50, 1.0)], 60), series(&[("code", "500")], &[(10, 1.0)])],
                false,
                "50s old",
            ),
            ("NaN", with(&[(0, 1.0), (30, NAN), (60, 2.0)]), true, "is NaN at"),
            ("NaN at the end", with(&[(0, 1.0), (60, NAN)]), true, "is NaN at"),
            ("NaN as base", with(&[(0, NAN), (60, 2.0)]), true, "is NaN at"),
            ("nothing but NaN", one(&[(0, NAN), (60, NAN)]), true, "is NaN at"),
            ("NaN of another kind", one(&[(60, f64::from_bits(0x7ff8_0000_0000_0001))]), true, "is NaN"),
            ("a negative NaN", one(&[(60, -NAN)]), true, "is NaN"),
            ("almost the stale marker", one(&[(60, f64::from_bits(0x7ff0_0000_0000_0001))]), true, "is NaN"),
            ("+Inf", with(&[(0, 1.0), (60, INF)]), true, "is inf at"),
            ("+Inf as base", with(&[(0, INF), (60, 1.0)]), true, "is inf at"),
            ("-Inf", with(&[(0, 1.0), (60, -INF)]), true, "is -inf at"),
            ("negative", with(&[(0, 1.0), (60, -1.0)]), true, "a counter is never negative"),
            ("negative base", with(&[(0, -1.0), (60, 1.0)]), true, "a counter is never negative"),
            (
                "sum overflows",
                with(&[(0, 0.0), (30, f64::MAX), (40, 0.0), (60, f64::MAX)]),
                true,
                "too large",
            ),
            ("a time twice", with(&[(0, 1.0), (30, 1.0), (30, 2.0)]), true, "not in order"),
            ("a time twice, same value", with(&[(0, 1.0), (30, 1.0), (30, 1.0)]), true, "not in order"),
            ("time runs backwards", with(&[(0, 1.0), (60, 3.0), (30, 2.0)]), true, "not in order"),
            ("descending", with(&[(60, 3.0), (30, 2.0), (0, 1.0)]), true, "not in order"),
            ("disorder in the lookback", with(&[(-20, 3.0), (-30, 2.0), (60, 4.0)]), true, "not in order"),
            ("the series twice", vec![ok(), ok()], true, "is there twice"),
            ("mistyped label", vec![series(&[("status", "500")], &[(0, 1.0), (60, 2.0)])], true, "\"code\""),
            ("no labels at all", vec![series(&[], &[(0, 1.0), (60, 2.0)])], true, "\"code\""),
            ("label in capitals", vec![series(&[("Code", "500")], &[(0, 1.0), (60, 2.0)])], true, "\"code\""),
        ],
    );
}

#[test]
fn malformed_histograms() {
    let bucket = |le: &str, samples: &[(i64, f64)]| series(&[("le", le)], samples);
    let inf = || bucket("+Inf", &[(0, 10.0), (60, 30.0)]);
    let with = |le: &str, samples: &[(i64, f64)]| vec![inf(), bucket(le, samples)];
    let two = |a: &str, b: &str| {
        let one = |pod: &str, le: &str| series(&[("pod", pod), ("le", le)], &[(0, 1.0), (60, 2.0)]);
        vec![one("a", a), one("a", "+Inf"), one("b", b), one("b", "+Inf")]
    };
    check(
        &latency(),
        vec![
            ("no buckets", vec![], false, "no series matches"),
            ("old buckets", vec![bucket("1", &[(0, 1.0)]), bucket("+Inf", &[(0, 1.0)])], false, "1m old"),
            ("the _count series", vec![series(&[], &[(0, 1.0), (60, 2.0)])], true, "no label `le`"),
            ("a _sum among them", vec![inf(), series(&[], &[(0, 1.0), (60, 2.0)])], true, "_bucket"),
            ("no +Inf", vec![bucket("1", &[(0, 1.0), (60, 2.0)])], true, "no bucket le=\"+Inf\""),
            (
                "+Inf missing once",
                vec![bucket("1", &[(0, 1.0), (60, 2.0)]), bucket("+Inf", &[(0, 1.0)])],
                true,
                "+Inf",
            ),
            ("nothing but +Inf", vec![inf()], true, "no finite bound"),
            ("le is a word", with("fast", &[(60, 1.0)]), true, "le=\"fast\""),
            ("le is empty", with("", &[(60, 1.0)]), true, "le=\"\""),
            ("le is NaN", with("NaN", &[(60, 1.0)]), true, "not a number"),
            ("le is -Inf", with("-Inf", &[(60, 1.0)]), true, "not a number"),
            ("le has a unit", with("100ms", &[(60, 1.0)]), true, "not a number"),
            (
                "a bound in two spellings",
                vec![inf(), bucket("0.5", &[(60, 1.0)]), bucket("0.50", &[(60, 1.0)])],
                true,
                "there twice",
            ),
            ("+Inf in two spellings", vec![inf(), bucket("inf", &[(60, 1.0)])], true, "there twice"),
            ("torn: more below than in all", with("1", &[(0, 1.0), (60, 31.0)]), true, "counts fewer events"),
            ("torn in the base", with("1", &[(0, 11.0), (60, 12.0)]), true, "counts fewer events"),
            (
                "not monotone",
                vec![inf(), bucket("1", &[(0, 5.0), (60, 9.0)]), bucket("2", &[(0, 6.0), (60, 8.0)])],
                true,
                "up to 2",
            ),
            ("no bounds in common", two("0.1", "0.2"), true, "in common"),
            ("NaN bucket", with("1", &[(0, 1.0), (60, NAN)]), true, "is NaN"),
            ("infinite bucket", with("1", &[(0, 1.0), (60, INF)]), true, "is inf"),
            ("negative bucket", with("1", &[(0, 1.0), (60, -1.0)]), true, "never negative"),
            ("a bucket series twice", vec![inf(), inf()], true, "is there twice"),
            ("buckets run backwards", with("1", &[(60, 2.0), (0, 1.0)]), true, "not in order"),
        ],
    );
}

#[test]
fn malformed_availability_and_gauges() {
    let cases = |value: f64| vec![series(&[("code", "x")], &[(30, 1.0), (60, value)])];
    check(
        &availability(),
        vec![
            ("up is 2", cases(2.0), true, "up is 1 and down is 0"),
            ("up is a share", cases(0.5), true, "is 0.5"),
            ("up is negative", cases(-1.0), true, "is -1"),
            ("up is NaN", cases(NAN), true, "is NaN"),
            ("up is infinite", cases(INF), true, "is inf"),
            ("up is old", one(&[(0, 1.0), (20, 1.0)]), false, "40s old"),
            ("no up", vec![], false, "no series"),
        ],
    );
    check(
        &gauge(),
        vec![
            ("gauge is NaN", cases(NAN), true, "is NaN"),
            ("gauge was NaN", vec![series(&[], &[(30, NAN), (60, 1.0)])], true, "is NaN"),
            ("gauge is infinite", cases(INF), true, "is inf"),
            ("gauge is old", one(&[(20, 1.0)]), false, "40s old"),
            ("no gauge", vec![], false, "no series"),
        ],
    );
    let gap = observe(&gauge(), &one(&[(50, 1.0)]), None, window(55, 60), FRESH);
    assert_eq!(gap, Observation::Absent { reason: "no sample lies in the window".into() });
}

#[test]
fn malformed_targets_and_windows() {
    let data = one(&[(0, 1.0), (60, 2.0)]);
    let target = |samples: &[(i64, f64)]| vec![series(&[("pod", "a")], samples)];
    let see = |targets: &[RawSeries]| observe(&errors(), &data, Some(targets), window(0, 60), FRESH);
    for (name, targets) in [
        ("none", vec![]),
        ("old", target(&[(0, 1.0)])),
        ("gone", vec![ended(&[("pod", "a")], &[(50, 1.0)], 60)]),
    ] {
        assert!(matches!(see(&targets), Observation::Absent { .. }), "{name}");
    }
    for (name, targets) in [
        ("a count", target(&[(60, 3.0)])),
        ("NaN", target(&[(60, NAN)])),
        ("twice", [target(&[(60, 1.0)]), target(&[(60, 1.0)])].concat()),
        ("backwards", target(&[(60, 1.0), (50, 1.0)])),
    ] {
        assert!(matches!(see(&targets), Observation::Failed { .. }), "{name}");
    }
    for (from, to) in [(60, 60), (60, 0)] {
        let observation = observe(&errors(), &data, None, window(from, to), FRESH);
        assert!(matches!(observation, Observation::Failed { .. }), "{from}..{to}");
    }
}
