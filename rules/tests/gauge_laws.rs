//! Laws the gauge detectors keep for every input: exact restarts, holes that prove nothing, more evidence for a higher
//! value, a door that lets no infinity in; and what they do on histories whose truth is known.

#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

mod gauge;

use gauge::{STEP, WATCH, history, noise};
use proptest::prelude::*;
use rules::stats::gauge::{
    ExceedLevel, ExceedTest, FEWEST_SAMPLES, GaugeDetector, GaugeHistory, GaugeParameters, GaugeShift,
    GaugeShiftParameters, Margin, MedianOfThree, RunLengthExceed, Scale, exceed_runs, fit_autoregression,
};

fn sample() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![8 => (-6.0_f64..12.0).prop_map(Some), 1 => Just(None)]
}

fn shift_parameters() -> impl Strategy<Value = GaugeShiftParameters> {
    (0.0_f64..0.99, 0.05_f64..3.0, 0.0_f64..10.0, 60.0_f64..10_000.0, 0.0_f64..=1.0, 0_u64..2).prop_map(
        |(phi, innovation_scale, margin, horizon, anchor_weight, onset_sample)| GaugeShiftParameters {
            anchor_weight,
            onset_sample,
            ..GaugeShiftParameters::standard(phi, innovation_scale, margin, horizon)
        },
    )
}

/// Whatever the correlation, the scale and the levels: a detector fitted to an hour, and what it then sees.
fn detector() -> impl Strategy<Value = GaugeDetector> {
    let scale = prop_oneof![Just(Scale::Log), Just(Scale::Log1p), Just(Scale::Identity)];
    (any::<u64>(), 0.0_f64..0.98, scale, 0_usize..3).prop_map(|(seed, phi, scale, levels)| {
        let mut parameters = GaugeParameters::standard(0.01, WATCH, scale);
        parameters.exceed.truncate(levels);
        let values: Vec<_> = noise(seed, phi, 240).into_iter().map(|z| in_unit(z, scale)).collect();
        GaugeDetector::fit(&history(values), parameters).unwrap()
    })
}

/// `z` deviations of a gauge around 10.
fn in_unit(z: f64, scale: Scale) -> f64 {
    match scale {
        Scale::Log | Scale::Log1p => 10.0 * (0.2 * z).exp(),
        Scale::Identity => 10.0 + z,
    }
}

proptest! {
    #[test]
    fn a_restored_shift_test_continues_bit_for_bit(
        parameters in shift_parameters(),
        before in prop::collection::vec(sample(), 0..30),
        after in prop::collection::vec(sample(), 1..30),
    ) {
        let mut original = GaugeShift::new(parameters).unwrap();
        for z in before {
            original.update(z, STEP).unwrap();
        }
        let written = serde_json::to_string(&original).unwrap();
        let mut restored: GaugeShift = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(&restored, &original);
        for z in after {
            let expected = original.update(z, STEP).unwrap();
            prop_assert_eq!(restored.update(z, STEP).unwrap().to_bits(), expected.to_bits());
        }
        prop_assert_eq!(restored, original);
    }

    /// A hole, and the first sample after it, which has nothing to be compared with.
    #[test]
    fn a_hole_and_the_sample_after_it_change_no_evidence_of_a_shift(
        parameters in shift_parameters(),
        before in prop::collection::vec(sample(), 0..30),
        after in -6.0_f64..12.0,
    ) {
        let mut test = GaugeShift::new(parameters).unwrap();
        for z in before {
            test.update(z, STEP).unwrap();
        }
        let (log_e, most) = (test.log_e(), test.max_log_e());
        for hole in [None, Some(f64::NAN), Some(after)] {
            prop_assert_eq!(test.update(hole, STEP).unwrap(), log_e);
        }
        prop_assert_eq!(test.max_log_e(), most);
    }

    #[test]
    fn a_higher_last_sample_is_never_less_evidence_of_a_shift(
        parameters in shift_parameters(),
        before in prop::collection::vec(sample(), 0..30),
        low in -6.0_f64..12.0,
        more in 0.0_f64..10.0,
    ) {
        let mut lower = GaugeShift::new(parameters).unwrap();
        for z in before {
            lower.update(z, STEP).unwrap();
        }
        let mut higher = lower.clone();
        let (low, high) = (lower.update(Some(low), STEP).unwrap(), higher.update(Some(low + more), STEP).unwrap());
        // Equal sums may round differently.
        prop_assert!(high >= low - 1e-12, "{} < {}", high, low);
    }

    #[test]
    fn a_restored_run_length_test_continues_bit_for_bit_and_holes_are_silent(
        history in prop::collection::vec(prop::option::weighted(0.9, any::<bool>()), 30..300),
        before in prop::collection::vec(prop::option::weighted(0.9, any::<bool>()), 0..50),
        after in prop::collection::vec(prop::option::weighted(0.9, any::<bool>()), 1..50),
    ) {
        prop_assume!(history.iter().any(Option::is_some));
        let table = exceed_runs(&history).unwrap();
        for row in table.rows() {
            prop_assert!(row.iter().all(|bound| (0.02..=0.97).contains(bound)), "{:?}", table);
        }
        prop_assert!(table.rows()[0].is_sorted_by(|short, long| short >= long), "a long gap is no likelier to end");
        prop_assert!(table.rows()[1].is_sorted(), "a long run is no likelier to end");
        let mut original = RunLengthExceed::after(table, WATCH, &history).unwrap();
        for exceeds in before {
            let log_e = original.log_e();
            let found = original.update(exceeds, STEP).unwrap();
            prop_assert!(exceeds.is_some() || found == log_e, "a hole moved the evidence");
        }
        let written = serde_json::to_string(&original).unwrap();
        let mut restored: RunLengthExceed = serde_json::from_str(&written).unwrap();
        for exceeds in after {
            let mut twin = original.clone();
            let expected = original.update(exceeds, STEP).unwrap();
            prop_assert_eq!(restored.update(exceeds, STEP).unwrap().to_bits(), expected.to_bits());
            prop_assert!(exceeds != Some(false) || twin.update(Some(true), STEP).unwrap() >= expected - 1e-12);
        }
        prop_assert_eq!(restored, original);
    }

    #[test]
    fn a_restored_detector_continues_bit_for_bit_and_holes_are_silent(
        detector in detector(),
        before in prop::collection::vec(sample(), 0..40),
        after in prop::collection::vec(sample(), 1..40),
    ) {
        let mut original = detector;
        let scale = original.parameters().scale;
        for z in before {
            let log_e = original.log_e();
            let found = original.update(z.map(|z| in_unit(z, scale)), STEP).unwrap();
            prop_assert!(z.is_some() || found == log_e, "a hole moved the evidence");
        }
        let written = serde_json::to_string(&original).unwrap();
        prop_assert!(written.len() < 4_096, "{} bytes", written.len());
        let mut restored: GaugeDetector = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(&restored, &original);
        prop_assert_eq!(serde_json::to_string(&restored).unwrap(), written);
        for z in after {
            let value = z.map(|z| in_unit(z, scale));
            let expected = original.update(value, STEP).unwrap();
            prop_assert_eq!(restored.update(value, STEP).unwrap().to_bits(), expected.to_bits());
        }
        prop_assert_eq!(restored.rejects(), original.rejects());
        prop_assert_eq!(restored, original);
    }

    #[test]
    fn a_higher_last_sample_is_never_less_evidence_for_the_detector(
        detector in detector(),
        before in prop::collection::vec(sample(), 0..40),
        low in -6.0_f64..12.0,
        more in 0.0_f64..10.0,
    ) {
        let mut lower = detector;
        let scale = lower.parameters().scale;
        for z in before {
            lower.update(z.map(|z| in_unit(z, scale)), STEP).unwrap();
        }
        let mut higher = lower.clone();
        let below = lower.update(Some(in_unit(low, scale)), STEP).unwrap();
        let above = higher.update(Some(in_unit(low + more, scale)), STEP).unwrap();
        prop_assert!(above >= below - 1e-12, "{} < {}", above, below);
    }

    #[test]
    fn what_is_no_number_and_what_is_no_time_is_refused_and_changes_nothing(detector in detector()) {
        let mut detector = detector;
        let before = detector.clone();
        prop_assert!(detector.update(Some(f64::INFINITY), STEP).is_err());
        prop_assert!(detector.update(Some(f64::NEG_INFINITY), STEP).is_err());
        for dt in [-1.0, f64::NAN, f64::INFINITY] {
            prop_assert!(detector.update(Some(10.0), dt).is_err());
            prop_assert!(detector.update(None, dt).is_err());
        }
        if detector.parameters().scale != Scale::Identity {
            prop_assert!(detector.update(Some(-1.0), STEP).is_err());
        }
        prop_assert_eq!(detector, before);
    }
}

#[test]
fn the_same_sample_seen_again_is_no_new_evidence_and_a_missed_one_no_predecessor() {
    let values = noise(3, 0.0, 720).into_iter().map(|z| 10.0 + z).collect();
    let parameters = GaugeParameters::standard(0.01, WATCH, Scale::Identity);
    let fresh = GaugeDetector::fit(&history(values), parameters).unwrap();
    let mut once = fresh.clone();
    once.update(Some(13.0), STEP).unwrap();
    let mut polled = fresh.clone();
    for _ in 0..4 {
        assert_eq!(polled.update(Some(13.0), 1.0).unwrap(), 0.0, "4 s are less than half a step");
    }
    polled.update(Some(13.0), 6.0).unwrap();
    assert_eq!(polled.log_e(), once.log_e(), "six looks at one sample are one sample");
    let mut late = fresh.clone();
    late.update(Some(13.0), 2.0 * STEP).unwrap();
    assert_eq!(late.shift_log_e(), 0.0, "the sample before is missing: nothing to compare with");
    late.update(Some(13.0), STEP).unwrap();
    assert_ne!(late.shift_log_e(), 0.0, "now there is one");
}

#[test]
fn an_edited_state_is_refused() {
    let values = noise(3, 0.9, 720).into_iter().map(|z| 10.0 + z).collect();
    let parameters = GaugeParameters::standard(0.01, WATCH, Scale::Identity);
    let detector = GaugeDetector::fit(&history(values), parameters).unwrap();
    assert!(detector.is_filtered(), "a correlation of 0.9 needs the median");
    let written = serde_json::to_string(&detector).unwrap();
    for (from, to) in [
        (r#""max_log_e":"0.0","calibration""#, r#""max_log_e":"-1.0","calibration""#),
        (r#""started":["-inf","#, r#""started":["inf","#),
        (r#""spent":"0.0""#, r#""spent":"1.5""#),
        (r#""horizon_seconds":"3600.0","scale""#, r#""horizon_seconds":"60.0","scale""#),
        (r#"{"multiple":"1.5"},"#, ""),
        (r#""onset_sample":1"#, r#""onset_sample":1,"surprise":1"#),
        (r#""step":"10.0""#, r#""step":"0.0""#),
        (r#""ahead":["#, r#""ahead":["inf","#),
        (
            r#""calibration":null"#,
            r#""calibration":{"runs":19,"fired":0,"share":"0.0","threshold_log_e":"5.0"}"#,
        ),
    ] {
        assert!(written.contains(from), "{from} is not in {written}");
        let edited = written.replacen(from, to, 1);
        assert!(serde_json::from_str::<GaugeDetector>(&edited).is_err(), "{from} became {to}");
    }
    let mut infinite: serde_json::Value = serde_json::from_str(&written).unwrap();
    infinite["filter"]["before"] = "inf".into();
    let refusal = serde_json::from_value::<GaugeDetector>(infinite).unwrap_err().to_string();
    assert!(refusal.contains("a stored sample of the median filter is inf"), "{refusal}");
}

#[test]
fn what_cannot_be_fitted_is_refused_by_name() {
    let parameters = GaugeParameters::standard(0.01, WATCH, Scale::Log);
    let good = || history(noise(1, 0.3, 720).into_iter().map(|z| (0.1 * z).exp()).collect());
    let fit = |history: &GaugeHistory| GaugeDetector::fit(history, parameters.clone());
    assert!(fit(&good()).is_ok());
    let mut short = good();
    short.samples.truncate(100);
    assert!(fit(&short).unwrap_err().to_string().contains("at least 1800, half an hour"));
    let mut sparse = good();
    for (i, sample) in sparse.samples.iter_mut().enumerate() {
        *sample = sample.filter(|_| i % 30 == 0);
    }
    assert!(
        fit(&sparse).unwrap_err().to_string().contains("the number of samples before the deployment is 24")
    );
    let mut alternating = good();
    for (i, sample) in alternating.samples.iter_mut().enumerate() {
        *sample = sample.filter(|_| i % 2 == 0);
    }
    assert!(fit(&alternating).unwrap_err().to_string().contains("neighbouring"));
    let mut negative = good();
    negative.samples[7] = Some(-0.1);
    assert!(fit(&negative).unwrap_err().to_string().contains("never negative"));
    let mut nothing_measured = good();
    nothing_measured.samples[7] = Some(0.0);
    nothing_measured.samples[8] = Some(f64::NAN);
    assert!(fit(&nothing_measured).is_ok(), "a latency of 0 and a NaN are holes");
    for step_seconds in [0.0, -1.0, f64::NAN, 3_601.0] {
        assert!(fit(&GaugeHistory { step_seconds, ..good() }).is_err());
    }
    let wrong = |change: &dyn Fn(&mut GaugeParameters)| {
        let mut parameters = GaugeParameters::standard(0.01, WATCH, Scale::Log1p);
        change(&mut parameters);
        GaugeDetector::fit(&good(), parameters).is_err()
    };
    assert!(!wrong(&|_| ()));
    assert!(wrong(&|parameters| parameters.alpha = 0.0));
    assert!(wrong(&|parameters| parameters.horizon_seconds = 0.0));
    assert!(wrong(&|parameters| parameters.margin = Margin::Ratio(1.0)));
    assert!(wrong(&|parameters| parameters.margin = Margin::Spreads(-0.1)));
    assert!(wrong(&|parameters| parameters.quantum = 0.0));
    assert!(wrong(&|parameters| parameters.exceed = vec![ExceedLevel::Absolute(-1.0)]));
    assert!(wrong(&|parameters| parameters.exceed = vec![ExceedLevel::Multiple(2.0); 5]));
    assert!(exceed_runs(&[None, None]).is_err());
    assert!(fit_autoregression(&[Some(1.0); FEWEST_SAMPLES / 5]).is_err());
    assert!(ExceedTest::fit(&short, ExceedLevel::Absolute(5.0), WATCH, Scale::Log).is_err());
}

#[test]
fn the_median_lets_no_single_spike_pass_and_waits_after_a_hole() {
    let mut filter = MedianOfThree::default();
    let given =
        [Some(1.0), Some(2.0), Some(9.0), Some(3.0), Some(4.0), None, Some(7.0), Some(8.0), Some(0.0)];
    let found = given.map(|value| filter.push(value));
    let expected = [None, None, Some(2.0), Some(3.0), Some(4.0), None, None, None, Some(7.0)];
    assert_eq!(found, expected);
}
