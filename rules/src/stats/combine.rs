//! Several e-values, one decision.
//!
//! "Any of them": the weighted AVERAGE of e-values is an e-value whatever their dependence, and it dominates Bonferroni
//! (`E_m >= 1/(alpha w_m)` for one metric already implies the average reaches `1/alpha`). "All of them": the MINIMUM is
//! an e-value for "at least one null holds". A product would need independent data, which metrics of one service never
//! are, so there is none here.
//!
//! The list of metrics and the weights are fixed before the watch. A metric that has no data stays in the list with the
//! log e-value 0, "no evidence"; dropping it would hand its weight to the others after seeing what they say.
//!
//! Source: Vovk and Wang, "E-values: calibration, combination and applications" (Annals of Statistics 2021).

use super::error::{StatsError, within};
use super::numerics::log_sum_exp;

/// `ln(sum_m w_m e^logE_m / sum_m w_m)`, nats. One weight, zero or more, for every log e-value (nats; `-inf`, an
/// e-value of 0, is allowed).
///
/// # Errors
/// When the lists are empty or differ in length, a log e-value is NaN or `+inf`, a weight is negative or not finite, or
/// all weights are 0.
pub fn average(log_es: &[f64], weights: &[f64]) -> Result<f64, StatsError> {
    admit(log_es)?;
    if log_es.len() != weights.len() {
        let (expected, found) = (log_es.len(), weights.len());
        return Err(StatsError::Length { quantity: "the list of weights", expected, found });
    }
    for &weight in weights {
        within("a weight", weight, weight >= 0.0, "zero or more")?;
    }
    let sum: f64 = weights.iter().sum();
    within("the sum of the weights", sum, sum > 0.0, "a positive number")?;
    // One e-value is its own average, exactly: the usual case, and asked several times a look.
    if let [only] = log_es {
        return Ok(*only);
    }
    let terms: Vec<f64> =
        log_es.iter().zip(weights).map(|(log_e, weight)| (weight / sum).ln() + log_e).collect();
    Ok(log_sum_exp(&terms))
}

/// The smallest of the log e-values, nats: evidence that every one of the nulls is false.
///
/// # Errors
/// When the list is empty or holds NaN or `+inf`.
pub fn minimum(log_es: &[f64]) -> Result<f64, StatsError> {
    admit(log_es)?;
    Ok(log_es.iter().copied().fold(f64::INFINITY, f64::min))
}

/// Refuses an empty list, NaN and `+inf`; `-inf`, an e-value of 0, is a value like any other.
pub(super) fn admit(log_es: &[f64]) -> Result<(), StatsError> {
    if log_es.is_empty() {
        return Err(StatsError::Empty { quantity: "log e-values to combine" });
    }
    match log_es.iter().find(|log_e| log_e.is_nan() || **log_e == f64::INFINITY) {
        Some(&value) => Err(StatsError::NotFinite { quantity: "a log e-value", value }),
        None => Ok(()),
    }
}
