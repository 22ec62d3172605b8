//! The figures of `make bench-speed` again, shorter and with limits so wide that a slow machine and an unoptimised build
//! keep them, so that a collapse is noticed by whoever causes it.

#[path = "../benches/speed/measure.rs"]
mod measure;

use measure::{LOOKS, Live, seconds};

/// How many times slower than the limit of the benchmark is a collapse.
const LOOSE: f64 = 20.0;
/// Seconds that the kernel may take for a block.
const BLOCK: f64 = LOOSE * 1e-6;
/// Seconds that a look at one of 100,000 live signals may take.
const LOOK: f64 = LOOSE * 1e-5;

#[test]
fn updates_have_not_collapsed() {
    let looks = measure::hour(1);
    let (kernel, llr) = measure::kernel_input(24);
    let (proportion, ratio) = (measure::proportion_test(), measure::ratio_test());
    let hours = [
        ("kernel", seconds(5, || measure::kernel_hour(&kernel, &llr))),
        ("proportion test", seconds(5, || measure::proportion_hour(&proportion, &looks))),
        ("ratio test", seconds(5, || measure::ratio_hour(&ratio, &looks))),
        ("interval of the ratio", seconds(5, || measure::sequence_hour(&looks))),
    ];
    for (what, hour) in hours {
        assert!(hour > 0.0 && hour / f64::from(LOOKS) < BLOCK, "{what}: an hour of looks takes {hour} s");
    }
}

#[test]
fn looks_at_live_signals_have_not_collapsed() {
    for instances in [0, 3] {
        let mut live = Live::new(500, instances);
        let each = live.seconds(5) / live.count() as f64;
        assert!(each > 0.0 && each < LOOK, "{instances} instances: {each} s a signal");
    }
}

#[test]
fn the_hour_that_is_measured_is_the_hour_that_kayenta_sees() {
    let looks = measure::hour(1);
    let (control, canary) = measure::minutes(&looks);
    assert_eq!((control.len(), canary.len()), (60, 60));
    let mean = |points: &[f64]| points.iter().sum::<f64>() / points.len() as f64;
    let share = |bad: f64, total: f64| bad / total * 100.0;
    let sum = looks.iter().fold(rules::stats::TwoArms::default(), |sum, look| sum.plus(look));
    assert!((mean(&control) - share(sum.control_bad, sum.control_total)).abs() < 1e-9);
    assert!((mean(&canary) - share(sum.canary_bad, sum.canary_total)).abs() < 1e-9);
    let once = seconds(5, || measure::kayenta_once(&control, &canary));
    let hour = seconds(5, || measure::kayenta_hour(&control, &canary));
    assert!(once > 0.0 && hour > once, "one judgement {once} s, an hour of them {hour} s");
}
