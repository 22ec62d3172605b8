//! The gauge detectors against vectors computed by the reference implementation. Relative error at most 1e-9.

use rules::stats::gauge::{
    GaugeShift, GaugeShiftParameters, MARGIN_EXCESSES, RunLengthExceed, exceed_runs, fit_autoregression,
    normal_mixture_log_e, robust_level, run_bin,
};
use serde_json::Value;

use crate::{close, number, numbers, parse};

fn file() -> Value {
    parse(include_str!("gauge.json"))
}

#[test]
fn the_robust_level_and_the_fit_of_its_residuals() {
    let file = file();
    let case = &file["robust_baseline"];
    let values = numbers(&case["values"]);
    let robust = robust_level(&values, 0.02, 0.0).unwrap();
    close(robust.level, number(&case["median"]), "median");
    close(robust.scale, number(&case["scale"]), "scale");
    assert!(!robust.floored, "the data have more spread than 2 % of the level");
    let residuals: Vec<_> = values.iter().map(|value| Some((value - robust.level) / robust.scale)).collect();
    let fitted = fit_autoregression(&residuals).unwrap();
    close(fitted.phi, number(&file["fit_ar1"]["phi"]), "phi");
    close(fitted.innovation_scale, number(&file["fit_ar1"]["s"]), "innovation scale");
}

#[test]
fn the_shift_test() {
    let file = file();
    let case = &file["gauge_shift"];
    let get = |key: &str| number(&case[key]);
    let parameters = GaugeShiftParameters {
        phi: get("phi"),
        innovation_scale: get("s"),
        margin: get("margin"),
        horizon_seconds: get("horizon"),
        variance_factor: get("v"),
        sample_limit: get("zclip"),
        innovation_limit: get("uclip"),
        most_tilt: get("lam_max"),
        anchor_weight: 0.5,
        onset_sample: 0,
    };
    let standard = GaugeShiftParameters::standard(0.6, 0.8, 0.5, 600.0);
    assert_eq!(parameters, standard, "the vectors were computed with the production values");
    assert_eq!(numbers(&case["excess"]), MARGIN_EXCESSES);
    let mut test = GaugeShift::new(parameters).unwrap();
    for (z, expected) in numbers(&case["z"]).into_iter().zip(numbers(&case["log_e"])) {
        close(test.update(Some(z), get("dt")).unwrap(), expected, format!("z = {z}"));
    }
    assert_eq!(test.max_log_e(), test.log_e(), "it grows to the last sample");
}

#[test]
fn the_run_length_table_and_its_test() {
    let file = file();
    let history: Vec<_> = (0..1_000).map(|i| Some(i % 37 < 3)).collect();
    let table = exceed_runs(&history).unwrap();
    for (row, expected) in table.rows().iter().zip(file["run_table"]["table"].as_array().unwrap()) {
        for (bin, (found, expected)) in row.iter().zip(numbers(expected)).enumerate() {
            close(*found, expected, format!("bin {bin}"));
        }
    }
    let case = &file["run_length"];
    let mut test = RunLengthExceed::new(table, number(&case["horizon"])).unwrap();
    for (exceed, expected) in numbers(&case["exceed"]).into_iter().zip(numbers(&case["log_e"])) {
        let found = test.update(Some(exceed == 1.0), number(&case["dt"])).unwrap();
        close(found, expected, format!("exceed = {exceed}"));
    }
}

#[test]
fn the_bins_of_a_run() {
    let found: Vec<_> = [0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 99, u64::MAX].into_iter().map(run_bin).collect();
    assert_eq!(found, [0, 0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5]);
}

#[test]
fn normal_mixtures() {
    let file = file();
    let cases = file["normal_mixture"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let [s, v, rho] = ["s", "v", "rho"].map(|key| number(&case[key]));
        let found = normal_mixture_log_e(s, v, rho, case["one_sided"].as_bool().unwrap()).unwrap();
        close(found, number(&case["log_e"]), case.to_string());
    }
    // Where the normal distribution underflows; ln Phi(-40) = -804.608442013754 in 50 digits.
    let found = normal_mixture_log_e(-40.0, 0.5, 0.5, true).unwrap();
    close(found, 0.5 * 2.0_f64.ln() + 800.0 - 804.608_442_013_754, "the far tail");
    assert!(normal_mixture_log_e(1.0, -1.0, 1.0, true).is_err());
    assert!(normal_mixture_log_e(f64::NAN, 1.0, 1.0, false).is_err());
    assert!(normal_mixture_log_e(1.0, 1.0, 0.0, false).is_err());
}
