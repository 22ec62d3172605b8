//! Special functions in log space, the ground everything else stands on.
//!
//! Evidence is kept as natural logarithms, because e-values run from e^-1000 to e^+1000 within an hour of heavy
//! traffic. The textbook forms lose their digits exactly there: `ln B(a,b)` as a difference of three log-gammas is off
//! by 2.5e-5 at (1e8, 1e10), and a linear incomplete beta underflows below 1e-308. So `log_beta` uses differences of
//! Stirling remainders and `log_beta_inc` runs Lentz's continued fraction with the prefactor in logs.
//!
//! Sources: NIST Digital Library of Mathematical Functions 5.11 (Stirling series), 8.17(v) (continued fraction);
//! W. J. Lentz, "Generating Bessel functions in Mie scattering calculations using continued fractions".

use statrs::function::gamma::ln_gamma;

use super::error::{StatsError, within};

/// `ln(sqrt(2 pi))`.
const HALF_LN_TWO_PI: f64 = 0.918_938_533_204_672_7;

/// From here on the six-term Stirling remainder is exact to rounding (its next term is below 1e-15).
const STIRLING_FROM: f64 = 10.0;

/// Steps of the continued fraction. It needs about the square root of the larger parameter, so this covers counts to
/// 1e10 and bounds one evaluation to a few milliseconds.
const FRACTION_STEPS: u32 = 200_000;

/// Bisection steps of the quantile: 1 100 halvings reach the smallest positive `f64` from 1.
const QUANTILE_STEPS: u32 = 1_100;

/// `ln(sum of e^v)` over the slice; `-inf` for an empty slice or when every entry is `-inf`.
#[must_use]
pub fn log_sum_exp(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return most;
    }
    most + values.iter().map(|value| (value - most).exp()).sum::<f64>().ln()
}

/// `ln(e^left + e^right)`, exact when either is `-inf`.
#[must_use]
#[inline]
pub fn log_add_exp(left: f64, right: f64) -> f64 {
    let (low, high) = if left < right { (left, right) } else { (right, left) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// `ln B(a, b)`, the logarithm of the complete beta function, for `a, b > 0`. Relative error about 1e-15.
///
/// # Errors
/// When a parameter is not a positive finite number.
pub fn log_beta(a: f64, b: f64) -> Result<f64, StatsError> {
    let (a, b) = (shape(a)?, shape(b)?);
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let sum = low + high;
    if low >= STIRLING_FROM {
        let powers = (a - 0.5) * (b / a).ln_1p() + (b - 0.5) * (a / b).ln_1p();
        let remainders = stirling_remainder(a) + stirling_remainder(b) - stirling_remainder(sum);
        return Ok(HALF_LN_TWO_PI - 0.5 * sum.ln() - powers + remainders);
    }
    if high >= STIRLING_FROM {
        // Gamma(low) times the ratio Gamma(high)/Gamma(sum), whose large parts cancel on paper instead of in floats.
        let ratio = low - (high - 0.5) * (low / high).ln_1p() - low * sum.ln();
        return Ok(ln_gamma(low) + ratio + stirling_remainder(high) - stirling_remainder(sum));
    }
    Ok(ln_gamma(a) + ln_gamma(b) - ln_gamma(sum))
}

/// `ln I_x(a, b)`: log of P(Beta(a, b) <= x), the regularised lower incomplete beta function. `-inf` for x <= 0 and 0
/// for x >= 1. Does not underflow inside (0, 1).
///
/// # Errors
/// When a shape is not positive and finite, `x` is not finite, or the fraction does not converge.
pub fn log_beta_inc(a: f64, b: f64, x: f64) -> Result<f64, StatsError> {
    log_beta_inc_split(a, b, x, 1.0 - x)
}

/// `ln P(Beta(a, b) > x)`, accurate in the upper tail. 0 for x <= 0 and `-inf` for x >= 1.
///
/// # Errors
/// As [`log_beta_inc`].
pub fn log_beta_sf(a: f64, b: f64, x: f64) -> Result<f64, StatsError> {
    log_beta_inc_split(b, a, 1.0 - x, x)
}

/// The `x` with P(Beta(a, b) <= x) = `probability`, by bisection on the log of the nearer tail, to the last bit of `x`.
/// Slower than Newton and always right; used once per release, never per block.
///
/// # Errors
/// When a shape is not positive and finite, `probability` is outside (0, 1), or the fraction does not converge.
pub fn beta_quantile(a: f64, b: f64, probability: f64) -> Result<f64, StatsError> {
    let probability = super::error::open_unit("the probability of a quantile", probability)?;
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..QUANTILE_STEPS {
        let middle = 0.5 * (low + high);
        if middle == low || middle == high {
            break;
        }
        let below = if probability < 0.5 {
            log_beta_inc(a, b, middle)? < probability.ln()
        } else {
            log_beta_sf(a, b, middle)? > (-probability).ln_1p()
        };
        if below { low = middle } else { high = middle }
    }
    Ok(0.5 * (low + high))
}

fn shape(value: f64) -> Result<f64, StatsError> {
    within("a shape of the beta function", value, value > 0.0, "a positive number")
}

/// [`stirling_remainder`] for every z > 0, so that sums of log-gammas can be rearranged on paper and only their small
/// parts are left to floats. Below ten the plain difference is exact enough: nothing in it is large.
pub(super) fn log_gamma_remainder(z: f64) -> f64 {
    if z >= STIRLING_FROM {
        return stirling_remainder(z);
    }
    ln_gamma(z) - ((z - 0.5) * z.ln() - z + HALF_LN_TWO_PI)
}

/// `ln Gamma(z) - [(z - 1/2) ln z - z + ln sqrt(2 pi)]` for z >= 10.
fn stirling_remainder(z: f64) -> f64 {
    let inverse = 1.0 / z;
    let square = inverse * inverse;
    // Horner form of 1/(12 z) - 1/(360 z^3) + 1/(1260 z^5) - 1/(1680 z^7) + 1/(1188 z^9) - 691/(360360 z^11).
    let tail = 1.0 / 1188.0 - square * (691.0 / 360_360.0);
    let tail = 1.0 / 1260.0 - square * (1.0 / 1680.0 - square * tail);
    inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * tail))
}

/// [`log_beta_inc`] with `y = 1 - x` given by the caller, so that whichever of the two is small keeps its digits.
fn log_beta_inc_split(a: f64, b: f64, x: f64, y: f64) -> Result<f64, StatsError> {
    let (a, b) = (shape(a)?, shape(b)?);
    super::error::finite("the argument of the incomplete beta function", x)?;
    if x <= 0.0 {
        return Ok(f64::NEG_INFINITY);
    }
    if y <= 0.0 {
        return Ok(0.0);
    }
    let log_x = if x < 0.5 { x.ln() } else { (-y).ln_1p() };
    let log_y = if y < 0.5 { y.ln() } else { (-x).ln_1p() };
    let prefactor = a * log_x + b * log_y - log_beta(a, b)?;
    // The fraction converges fast only left of the mean; right of it compute the other tail and subtract from one.
    if x < (a + 1.0) / (a + b + 2.0) {
        return Ok(prefactor - a.ln() + continued_fraction(a, b, x)?.ln());
    }
    let other = prefactor - b.ln() + continued_fraction(b, a, y)?.ln();
    Ok(log_one_minus_exp(other))
}

/// `ln(1 - e^v)` for v <= 0, in the form that keeps digits on either side of ln(1/2).
fn log_one_minus_exp(value: f64) -> f64 {
    if value >= 0.0 {
        return f64::NEG_INFINITY;
    }
    if value > -std::f64::consts::LN_2 { (-value.exp_m1()).ln() } else { (-value.exp()).ln_1p() }
}

/// Lentz's algorithm for the continued fraction of the incomplete beta function (DLMF 8.17.22).
fn continued_fraction(a: f64, b: f64, x: f64) -> Result<f64, StatsError> {
    // Lentz: a denominator of zero is replaced by something negligible but divisible.
    let nonzero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut upper = 1.0;
    let mut lower = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut product = lower;
    for step in 1..FRACTION_STEPS {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a - 1.0 + 2.0 * m) * (a + 2.0 * m));
        lower = 1.0 / nonzero(1.0 + even * lower);
        upper = nonzero(1.0 + even / upper);
        product *= lower * upper;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 1.0 + 2.0 * m));
        lower = 1.0 / nonzero(1.0 + odd * lower);
        upper = nonzero(1.0 + odd / upper);
        let change = lower * upper;
        product *= change;
        // A few units in the last place: one exact unit may never be met when the last factor oscillates.
        if (change - 1.0).abs() < 1e-15 {
            return Ok(product);
        }
    }
    Err(StatsError::NoConvergence { quantity: "the incomplete beta function", steps: FRACTION_STEPS })
}
