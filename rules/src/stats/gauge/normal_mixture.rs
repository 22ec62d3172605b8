//! The classical alternative for independent samples, kept for comparison: it is what the shift test must beat on
//! correlated series, where it fires on 45 % and more of healthy releases.

use statrs::function::erf::erfc;

use crate::stats::error::{StatsError, finite, within};

/// From here on the complementary error function is better computed through its asymptotic series.
const TAIL_FROM: f64 = -30.0;

/// The log e-value of a sum `s` of innovations with intrinsic time `v` (sum of their variances), under a normal mixture
/// with the tuning parameter `rho` (also a variance), nats:
///
/// ```text
/// one-sided: ln(4 rho/(v + rho))/2 + s^2/(2 (v + rho)) + ln Phi(s/sqrt(v + rho))
/// two-sided: ln(  rho/(v + rho))/2 + s^2/(2 (v + rho))
/// ```
///
/// Valid for INDEPENDENT sub-Gaussian innovations only. Relative error of the one-sided form about 1e-10.
///
/// Source: Howard, Ramdas, McAuliffe, Sekhon (Annals of Statistics 2021), propositions 5 and 6.
///
/// # Errors
/// When a number is not finite, `v` is negative or `rho` is not positive.
pub fn normal_mixture_log_e(s: f64, v: f64, rho: f64, one_sided: bool) -> Result<f64, StatsError> {
    finite("a sum of innovations", s)?;
    within("the intrinsic time", v, v >= 0.0, "zero or more")?;
    within("the tuning parameter of a normal mixture", rho, rho > 0.0, "a positive number")?;
    let total = v + rho;
    let growth = s * s / (2.0 * total);
    if one_sided {
        return Ok(0.5 * (4.0 * rho / total).ln() + growth + log_normal_cdf(s / total.sqrt()));
    }
    Ok(0.5 * (rho / total).ln() + growth)
}

/// `ln Phi(x)`.
fn log_normal_cdf(x: f64) -> f64 {
    if x > TAIL_FROM {
        return (0.5 * erfc(-x / std::f64::consts::SQRT_2)).ln();
    }
    // Phi(x) ~ phi(x)/|x| (1 - 1/x^2 + 3/x^4 - 15/x^6): the next term is 2e-10 of the whole at -30, and a logarithm of
    // less than -450 does not see it.
    let inverse = 1.0 / (x * x);
    let series = inverse * (-1.0 + inverse * (3.0 + inverse * -15.0));
    -0.5 * x * x - (-x).ln() - 0.5 * (2.0 * std::f64::consts::PI).ln() + series.ln_1p()
}
