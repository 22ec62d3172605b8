//! What the gauge detectors do when the truth is known: alarms on nothing, alarms on a shift, seasons, calibration.

#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

mod gauge;

use gauge::{Dice, STEP, WATCH, history, noise};
use rules::stats::gauge::{
    ExceedLevel, ExceedTest, FEWEST_PSEUDO_DEPLOYMENTS, GaugeDetector, GaugeHistory, GaugeParameters, Margin,
    Scale, Season, SeasonalLevel, calibrate,
};

const ALPHA: f64 = 0.01;
const RUNS: u64 = 300;

/// Samples of one watch.
const TICKS: usize = 360;

/// Three hours before the deployment.
const PAST: usize = 1_080;

/// Seconds until the alarm for each seed that has one, sorted.
fn alarms(phi: f64, onset: usize, shift: f64, disturb: &dyn Fn(u64, &mut [f64])) -> Vec<f64> {
    let mut delays: Vec<f64> = (0..RUNS)
        .filter_map(|seed| {
            let mut values = noise(seed * 7_919 + 1, phi, PAST + TICKS);
            disturb(seed, &mut values);
            let mut parameters = GaugeParameters::standard(ALPHA, WATCH, Scale::Identity);
            parameters.margin = Margin::Spreads(0.5);
            let past = values[..PAST].iter().map(|z| 10.0 + z).collect();
            let mut detector = GaugeDetector::fit(&history(past), parameters).unwrap();
            assert_eq!(detector.calibration(), None, "three hours do not hold twenty pseudo-deployments");
            (0..TICKS).find_map(|tick| {
                let shift = if tick >= onset { shift } else { 0.0 };
                detector.update(Some(10.0 + values[PAST + tick] + shift), STEP).unwrap();
                detector.rejects().then(|| (tick + 1).saturating_sub(onset) as f64 * STEP)
            })
        })
        .collect();
    delays.sort_by(f64::total_cmp);
    delays
}

fn undisturbed(_: u64, _: &mut [f64]) {}

#[test]
fn correlated_noise_raises_no_alarm_and_a_shift_of_four_deviations_does_at_once() {
    for phi in [0.0, 0.5, 0.9, 0.98] {
        let false_alarms = alarms(phi, 0, 0.0, &undisturbed).len();
        assert!(false_alarms <= 3, "phi {phi}: {false_alarms} of {RUNS} at a nominal 1 %");
        let found = alarms(phi, 0, 4.0, &undisturbed);
        assert_eq!(found.len(), RUNS as usize, "phi {phi}: a shift of 4 deviations was missed");
        let median = found[found.len() / 2];
        assert!(median <= 30.0, "phi {phi}: found after {median} s");
    }
}

/// One-sample spikes are what the median of three is for: six an hour, ten deviations high, before and after.
#[test]
fn isolated_spikes_on_a_correlated_gauge_raise_no_alarm() {
    let spikes = |seed: u64, values: &mut [f64]| {
        let mut dice = Dice::new(seed ^ 0xABCD);
        for hour in values.chunks_mut(TICKS) {
            for _ in 0..6 {
                let at = (dice.uniform() * hour.len() as f64) as usize;
                hour[at] += 10.0;
            }
        }
    };
    for phi in [0.5, 0.9] {
        let false_alarms = alarms(phi, 0, 0.0, &spikes).len();
        assert!(false_alarms <= 3, "phi {phi}: {false_alarms} of {RUNS}");
    }
}

/// The uncertainty about the start costs a late shift some minutes, and more on a strongly correlated gauge.
#[test]
fn a_shift_that_begins_later_is_still_found() {
    for (phi, most) in [(0.0, 60.0), (0.5, 300.0)] {
        let found = alarms(phi, 60, 4.0, &undisturbed);
        assert!(found.len() * 100 >= RUNS as usize * 95, "phi {phi}: only {} of {RUNS}", found.len());
        let median = found[found.len() / 2];
        assert!(median <= most, "phi {phi}: found after {median} s");
    }
}

#[test]
fn an_empty_queue_may_hold_an_item_now_and_then_but_not_fifty() {
    let parameters = GaugeParameters::standard(ALPHA, WATCH, Scale::Log1p);
    let fresh = GaugeDetector::fit(&history(vec![0.0; PAST]), parameters).unwrap();
    assert!((fresh.spread() - std::f64::consts::LN_2).abs() < 1e-12, "one item is the smallest difference");
    let mut quiet = fresh.clone();
    for tick in 0..TICKS {
        quiet.update(Some(if tick % 9 < 2 { 1.0 } else { 0.0 }), STEP).unwrap();
    }
    assert!(!quiet.rejects(), "log E reached {}", quiet.max_log_e());
    let mut stuck = fresh.clone();
    for _ in 0..6 {
        stuck.update(Some(50.0), STEP).unwrap();
    }
    assert!(stuck.rejects(), "a minute at 50: log E is {}", stuck.log_e());
    assert_eq!(stuck.level(), 0.0);
}

#[test]
fn a_bound_is_tested_on_its_own_and_reaching_it_is_not_exceeding_it() {
    let past = history((0..PAST).map(|i| 10.0 + (i % 3) as f64 - 1.0).collect());
    let levels = [ExceedLevel::Multiple(2.0), ExceedLevel::Absolute(20.0)];
    for level in levels {
        let fresh = ExceedTest::fit(&past, level, WATCH, Scale::Log1p).unwrap();
        assert!((fresh.bound() - 20.0).abs() < 1e-9, "{level:?}: {}", fresh.bound());
        let mut at = fresh.clone();
        let mut above = fresh.clone();
        for _ in 0..180 {
            at.update(Some(20.0), STEP).unwrap();
            above.update(Some(21.0), STEP).unwrap();
        }
        assert_eq!(at.max_log_e(), 0.0, "{level:?}");
        assert!(above.rejects(ALPHA).unwrap(), "{level:?}: {}", above.log_e());
        assert!(!at.rejects(ALPHA).unwrap());
        let restored: ExceedTest = serde_json::from_str(&serde_json::to_string(&above).unwrap()).unwrap();
        assert_eq!(restored, above);
        let (log_e, held) = (above.log_e(), above.update(None, STEP).unwrap());
        assert_eq!(held, log_e, "a hole");
    }
    let mut parameters = GaugeParameters::standard(ALPHA, WATCH, Scale::Log1p);
    parameters.exceed = levels.to_vec();
    let mut detector = GaugeDetector::fit(&past, parameters).unwrap();
    let mut alone = ExceedTest::fit(&past, levels[1], WATCH, Scale::Log1p).unwrap();
    for _ in 0..60 {
        detector.update(Some(21.0), STEP).unwrap();
        alone.update(Some(21.0), STEP).unwrap();
    }
    assert_eq!(detector.exceed_log_e(levels[1]), Some(alone.log_e()));
    assert_eq!(detector.exceed_max_log_e(levels[1]), Some(alone.max_log_e()));
    assert_eq!(detector.exceed_log_e(ExceedLevel::Absolute(21.0)), None);
}

#[test]
fn the_season_is_the_finest_that_the_history_supports() {
    let day = 86_400.0;
    let weekly = |seconds: f64| if seconds.rem_euclid(7.0 * day) < day { 100.0 } else { 10.0 };
    let samples = |days: u32| -> Vec<(f64, f64)> {
        let count = f64::from(days) * day / 300.0;
        (0..count as usize)
            .map(|i| i as f64 * 300.0 - f64::from(days) * day)
            .map(|t| (t, weekly(t)))
            .collect()
    };
    for (days, season, expected) in
        [(22, Season::Week, 100.0), (6, Season::Day, 10.0), (2, Season::Trailing, 10.0)]
    {
        let samples = samples(days);
        let reading = SeasonalLevel::new(&samples, 0.02, 0.0).unwrap().at(1_800.0, 3_600.0).unwrap();
        assert_eq!((reading.season, reading.robust.level), (season, expected), "{days} days");
        assert!((reading.robust.scale - 0.02 * expected).abs() < 1e-12 && reading.robust.floored);
    }
    assert!(SeasonalLevel::new(&[], 0.02, 0.0).unwrap().at(0.0, 3_600.0).is_err(), "nothing is no level");
    assert!(SeasonalLevel::new(&[(f64::NAN, 1.0)], 0.02, 0.0).is_err());
}

/// A load that doubles every morning within the watch: with five days of history it is expected, without it is not.
#[test]
fn a_morning_like_every_morning_raises_no_alarm() {
    let day = 86_400.0;
    // Flat at 10 until the deployment at 0, then up to 20 within the hour, back in the afternoon.
    let shape = |seconds: f64| match seconds.rem_euclid(day) {
        t if t < WATCH => 10.0 * (1.0 + t / WATCH),
        t if t < 6.0 * WATCH => 20.0,
        _ => 10.0,
    };
    let mut false_alarms = [0, 0];
    for seed in 0..40 {
        let jitter = noise(seed + 50, 0.3, PAST + TICKS);
        let mut dice = Dice::new(seed);
        let seasonal = (1..=5 * 288)
            .map(|i| -f64::from(i) * 300.0)
            .map(|t| (t, shape(t) * (0.05 * dice.normal()).exp()))
            .collect();
        let past =
            (0..PAST).map(|i| shape((i as f64 + 1.0 - PAST as f64) * STEP - 1e-6) * (0.05 * jitter[i]).exp());
        let informed = GaugeHistory { seasonal, ..history(past.collect()) };
        let ignorant = GaugeHistory { seasonal: Vec::new(), ..informed.clone() };
        for (which, past) in [informed, ignorant].iter().enumerate() {
            let parameters = GaugeParameters::standard(ALPHA, WATCH, Scale::Log);
            let mut detector = GaugeDetector::fit(past, parameters).unwrap();
            assert_eq!(detector.season(), [Season::Day, Season::Trailing][which]);
            for tick in 0..TICKS {
                let value = shape((tick + 1) as f64 * STEP - 1e-6) * (0.05 * jitter[PAST + tick]).exp();
                detector.update(Some(value), STEP).unwrap();
            }
            assert!(
                which == 1 || (detector.level() / 20.0 - 1.0).abs() < 0.2,
                "it knows {}",
                detector.level()
            );
            false_alarms[which] += u32::from(detector.rejects());
        }
    }
    assert!(false_alarms[0] <= 2, "{false_alarms:?}");
    assert!(false_alarms[1] >= 38, "without the season it is a rise like any other: {false_alarms:?}");
}

#[test]
fn a_history_with_incidents_raises_the_threshold_and_a_short_one_calibrates_nothing() {
    let parameters = GaugeParameters::standard(ALPHA, WATCH, Scale::Identity);
    let calm: Vec<f64> = noise(9, 0.5, 24 * TICKS).into_iter().map(|z| 10.0 + 0.5 * z).collect();
    let calibration = calibrate(&history(calm.clone()), &parameters).unwrap().unwrap();
    assert_eq!((calibration.fired, calibration.share), (0, 0.0));
    assert_eq!(calibration.threshold_log_e, -ALPHA.ln());
    assert!(calibration.runs as usize >= FEWEST_PSEUDO_DEPLOYMENTS);

    let mut troubled = calm.clone();
    for (i, value) in troubled.iter_mut().enumerate() {
        // Twenty minutes at three times the level, every four hours.
        *value += if i % (4 * TICKS) < 120 { 20.0 } else { 0.0 };
    }
    let detector = GaugeDetector::fit(&history(troubled), parameters.clone()).unwrap();
    let calibration = *detector.calibration().unwrap();
    assert!(calibration.share > 2.0 * ALPHA, "{calibration:?}");
    let raised = -(ALPHA * ALPHA / calibration.share).ln();
    assert!((calibration.threshold_log_e - raised).abs() < 1e-12, "{calibration:?}");
    assert_eq!(detector.threshold_log_e(), calibration.threshold_log_e);
    let restored: GaugeDetector = serde_json::from_str(&serde_json::to_string(&detector).unwrap()).unwrap();
    assert_eq!(restored, detector);

    // Half an hour, 19 quarters of a watch and a watch are just enough for 20; one quarter less is not.
    let enough = 180 + 19 * 90 + TICKS + 1;
    let played = |count: usize| calibrate(&history(calm[..count].to_vec()), &parameters).unwrap();
    assert_eq!(played(enough).unwrap().runs, 20);
    assert_eq!(played(enough - 1), None);
    let mut holes = history(calm[..enough].to_vec());
    holes.samples[1_000..1_400].fill(None);
    assert_eq!(calibrate(&holes, &parameters).unwrap(), None, "a watch of holes is no run");
}
