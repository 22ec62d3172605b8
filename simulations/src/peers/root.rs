//! Brent's zero finder (R. P. Brent, Algorithms for Minimization Without Derivatives, 1973, chapter 4), with the steps
//! that R's `uniroot` takes, because the values it stops at depend on them when the function jumps.

/// A zero of `function` between `low` and `high`, whose values there have opposite signs, to within `tolerance`. If
/// they have not, one of the ends.
pub(super) fn zero(
    function: impl Fn(f64) -> f64,
    (low, value_low): (f64, f64),
    (high, value_high): (f64, f64),
    tolerance: f64,
) -> f64 {
    /// As many as R allows.
    const MOST_STEPS: u32 = 1_000;
    let (mut last, mut value_last) = (low, value_low);
    let (mut best, mut value_best) = (high, value_high);
    // The zero lies between `best` and `other`.
    let (mut other, mut value_other) = (low, value_low);
    if value_last == 0.0 {
        return last;
    }
    if value_best == 0.0 {
        return best;
    }
    for _ in 0..=MOST_STEPS {
        let previous_step = best - last;
        if value_other.abs() < value_best.abs() {
            (last, best, other) = (best, other, best);
            (value_last, value_best, value_other) = (value_best, value_other, value_best);
        }
        let close = 2.0 * f64::EPSILON * best.abs() + tolerance / 2.0;
        let half = (other - best) / 2.0;
        if half.abs() <= close || value_best == 0.0 {
            return best;
        }
        let mut step = half;
        if previous_step.abs() >= close && value_last.abs() > value_best.abs() {
            let (mut p, mut q) = interpolated((last, value_last), (best, value_best), (other, value_other));
            if p > 0.0 {
                q = -q;
            } else {
                p = -p;
            }
            let inside = p < 0.75 * (other - best) * q - (close * q).abs() / 2.0;
            if inside && p < (previous_step * q / 2.0).abs() {
                step = p / q;
            }
        }
        if step.abs() < close {
            step = if step > 0.0 { close } else { -close };
        }
        (last, value_last) = (best, value_best);
        best += step;
        value_best = function(best);
        if (value_best > 0.0 && value_other > 0.0) || (value_best < 0.0 && value_other < 0.0) {
            (other, value_other) = (last, value_last);
        }
    }
    best
}

/// Numerator and denominator of the step that a line through two points, or a parabola through three, proposes.
fn interpolated(last: (f64, f64), best: (f64, f64), other: (f64, f64)) -> (f64, f64) {
    let width = other.0 - best.0;
    let ratio = best.1 / last.1;
    if last.0 == other.0 {
        return (width * ratio, 1.0 - ratio);
    }
    let (q, r) = (last.1 / other.1, best.1 / other.1);
    let p = ratio * (width * q * (q - r) - (best.0 - last.0) * (r - 1.0));
    (p, (q - 1.0) * (r - 1.0) * (ratio - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_of_smooth_and_of_jumping_functions_are_found() {
        let found = zero(|x| x * x - 2.0, (0.0, -2.0), (2.0, 2.0), 1e-12);
        assert!((found - 2_f64.sqrt()).abs() < 1e-11, "{found}");
        let jump = |x: f64| if x < 0.3 { 1.0 } else { -2.0 };
        let found = zero(jump, (-1.0, 1.0), (1.0, -2.0), 1e-4);
        assert!((found - 0.3).abs() < 1e-4, "{found}");
        assert_eq!(zero(|x| x, (0.0, 0.0), (1.0, 1.0), 1e-4), 0.0);
    }
}
