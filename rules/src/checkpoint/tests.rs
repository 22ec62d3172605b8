//! Bounds as tables: what keeps them, what breaks them, and what says nothing.

use super::check::{Certainty, check};
use super::*;
use crate::signal::{GaugeScale, Measurement, Observation, Reading, Signal};

const CERTAINTY: Certainty = Certainty { beta: 0.05, cluster: 1.0 };

fn name(text: &str) -> SignalName {
    SignalName::new(text).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn target(text: &str) -> Target {
    let (way, quantity) = text.split_once(' ').unwrap();
    let quantity = Quantity::parse(quantity).unwrap();
    if way == "below" { Target::Below(quantity) } else { Target::Above(quantity) }
}

fn proportion() -> Measure {
    Measure::Proportion { of: "all".into(), bad: BTreeMap::new() }
}

fn latency() -> Measure {
    Measure::Latency { buckets: "seconds_bucket".into(), quantile: 0.95 }
}

fn gauge() -> Measure {
    Measure::Gauge { value: "depth".into(), scale: GaugeScale::Backlog }
}

fn seen(readings: impl IntoIterator<Item = Reading>) -> Tally {
    let mut tally = Tally::new(at(0));
    for (number, reading) in (0_i64..).zip(readings) {
        let observation = Observation::Seen { reading, newest: at(number * 10 + 10) };
        tally.take(&Measurement::plain(name("x"), at(number * 10), at(number * 10 + 10), observation));
    }
    tally
}

fn standing(measure: Measure, wanted: &str, tally: &Tally) -> Standing {
    check(&Signal::new(name("x"), "main", measure), target(wanted), tally, CERTAINTY).standing
}

#[test]
fn counts_keep_and_break_bounds() {
    use Standing::{Broken, Kept, Unknown};
    let table = [
        ("below 1%", 0.0, 5_000.0, Kept),
        ("below 1%", 0.0, 50.0, Unknown),
        ("below 1%", 50.0, 5_000.0, Unknown),
        ("below 1%", 500.0, 5_000.0, Broken),
        ("above 70%", 1_000.0, 5_000.0, Kept),
        ("above 70%", 3_000.0, 5_000.0, Broken),
        ("above 70%", 1_500.0, 5_000.0, Unknown),
        ("below 1%", 0.0, 0.0, Unknown),
    ];
    for (wanted, bad, total, expected) in table {
        let tally = seen([Reading::Counts { bad, total }]);
        assert_eq!(standing(proportion(), wanted, &tally), expected, "{wanted}, {bad} of {total}");
    }
}

#[test]
fn a_latency_is_read_at_the_edges_around_its_bound() {
    use Standing::{Broken, Kept, Unknown};
    let buckets =
        |counts: [f64; 4]| seen([Reading::Buckets { bounds: vec![0.1, 0.3, 0.5], counts: counts.to_vec() }]);
    let table = [
        ("below 300ms", [9_000.0, 900.0, 50.0, 50.0], Kept),
        ("below 300ms", [5_000.0, 3_000.0, 1_000.0, 1_000.0], Broken),
        ("below 300ms", [9_000.0, 500.0, 300.0, 200.0], Unknown),
        // No edge at 400 ms: kept is read at 300 ms, broken at 500 ms.
        ("below 400ms", [9_000.0, 900.0, 50.0, 50.0], Kept),
        ("below 400ms", [9_000.0, 0.0, 1_000.0, 0.0], Unknown),
        ("below 400ms", [9_000.0, 0.0, 0.0, 1_000.0], Broken),
        // No edge below, none above.
        ("below 50ms", [10_000.0, 0.0, 0.0, 0.0], Unknown),
        ("below 9s", [0.0, 0.0, 0.0, 10_000.0], Unknown),
        ("below 300ms", [0.0, 0.0, 0.0, 0.0], Unknown),
    ];
    for (wanted, counts, expected) in table {
        assert_eq!(standing(latency(), wanted, &buckets(counts)), expected, "{wanted} {counts:?}");
    }
}

#[test]
fn a_gauge_needs_looks_that_agree() {
    use Standing::{Broken, Kept, Unknown};
    let levels = |values: &[f64]| seen(values.iter().map(|value| Reading::Level { value: *value }));
    let table: [(&str, &[f64], Standing); 6] = [
        ("below 50", &[10.0; 5], Kept),
        ("below 50", &[10.0; 4], Unknown),
        ("below 50", &[90.0; 5], Broken),
        ("below 50", &[90.0, 90.0, 10.0, 10.0, 10.0, 10.0, 10.0], Kept),
        ("below 50", &[10.0, 10.0, 10.0, 10.0, 90.0], Unknown),
        ("above 70%", &[0.9; 5], Kept),
    ];
    for (wanted, values, expected) in table {
        assert_eq!(standing(gauge(), wanted, &levels(values)), expected, "{wanted} {values:?}");
    }
}

#[test]
fn a_hole_makes_every_bound_unknown_and_a_turn_forgets_the_numbers_only() {
    let signal = Signal::new(name("x"), "main", proportion());
    let mut tally = seen([Reading::Counts { bad: 0.0, total: 5_000.0 }]);
    assert_eq!(standing(proportion(), "below 1%", &tally), Standing::Kept);
    let hole = Observation::Absent { reason: "no series".into() };
    tally.take(&Measurement::plain(name("x"), at(10), at(20), hole));
    let checked = check(&signal, target("below 1%"), &tally, CERTAINTY);
    assert_eq!(checked.standing, Standing::Unknown);
    assert_eq!(checked.missing.as_deref(), Some("no data: no series"));
    tally.turn_over(at(20));
    let checked = check(&signal, target("below 1%"), &tally, CERTAINTY);
    assert_eq!(
        (checked.seen.as_str(), checked.missing.as_deref()),
        ("nothing was seen", Some("no data: no series"))
    );
    // A part of this window was counted before.
    let again = Observation::Seen { reading: Reading::Counts { bad: 9.0, total: 9.0 }, newest: at(15) };
    tally.take(&Measurement::plain(name("x"), at(5), at(15), again));
    assert_eq!(check(&signal, target("below 1%"), &tally, CERTAINTY).seen, "nothing was seen");
}

#[test]
fn the_standard_has_no_problems_and_mistakes_name_their_key() {
    let standard = standard();
    assert_eq!(problems(&standard), Vec::new());
    let wanted: Vec<usize> = standard.values().map(|checkpoint| checkpoint.bounds.len()).collect();
    assert_eq!(wanted, [5, 5, 0, 0], "24-hours, 30-minutes, extended, immediate");
    let text = r#"
"a b": { after: 0s }
late: { after: 8d }
one: { after: 5m }
two: { after: 5m }
"#;
    let bad: BTreeMap<String, Checkpoint> = serde_saphyr::from_str(text).unwrap();
    let keys: Vec<String> = problems(&bad).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a b", "a b.after", "late.after", "two.after"]);
    let unknown = serde_saphyr::from_str::<BTreeMap<String, Checkpoint>>(
        "x: { after: 5m, bounds: { errors: { under: 1% } } }",
    );
    assert!(unknown.unwrap_err().to_string().contains("under"));
}

#[test]
fn bounds_fit_kinds() {
    let availability = || Measure::Availability { up: "up".into() };
    let fits = [
        (proportion(), "below 1%"),
        (proportion(), "above 70%"),
        (availability(), "above 99%"),
        (latency(), "below 300ms"),
        (gauge(), "below 50"),
        (gauge(), "above 70%"),
        (gauge(), "below 100ms"),
    ];
    for (measure, wanted) in fits {
        assert_eq!(target(wanted).misfit(&measure), None, "{} {wanted}", measure.kind());
    }
    let misfits = [
        (proportion(), "below 300ms"),
        (proportion(), "below 5"),
        (availability(), "below 99%"),
        (latency(), "above 300ms"),
        (latency(), "below 5%"),
    ];
    for (measure, wanted) in misfits {
        assert!(target(wanted).misfit(&measure).is_some(), "{} {wanted}", measure.kind());
        let tally = seen([Reading::Counts { bad: 0.0, total: 1_000.0 }]);
        assert_eq!(standing(measure, wanted, &tally), Standing::Unknown);
    }
}
