//! The Mann–Whitney (Wilcoxon rank-sum) confidence interval for a shift, as R's `wilcox.test` computes it without exact
//! tables: the shifts at which the standardised rank sum, with its correction for ties and for continuity, crosses the
//! normal quantiles, found by Brent's method.
//!
//! Originals: R, `stats::wilcox.test(conf.int = TRUE, exact = FALSE)`; and spinnaker/kayenta,
//! `kayenta-mannwhitney/.../MannWhitney.scala`, which follows it (read in spinnaker/spinnaker at f8b98eba). One
//! difference between the two is kept as in Kayenta: the estimate keeps the continuity correction.

use super::root::zero;

/// How close to the crossing the search ends: `tol.root` of R and of Kayenta's solver.
const TOLERANCE: f64 = 1e-4;

/// By how much one sample lies above the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// Lower end of the interval.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// The Hodges–Lehmann estimate: the median of all pairwise differences, to the tolerance of the search.
    pub estimate: f64,
}

/// Every observation is tied with every other: there is no interval. The originals fail then, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllTied;

/// The two-sided confidence interval for the shift of `x` over `y`, and its estimate. `quantile` is the normal quantile
/// of its level: 2.326 for 98 %. Both samples are sorted, finite and not empty.
///
/// # Errors
/// When all observations are tied at a shift that the search visits, or a sample is empty.
pub fn shift(x: &[f64], y: &[f64], quantile: f64) -> Result<Shift, AllTied> {
    let ([x_least, ..], [.., x_most]) = (x, x) else { return Err(AllTied) };
    let ([y_least, ..], [.., y_most]) = (y, y) else { return Err(AllTied) };
    let (least, most) = (x_least - y_most, x_most - y_least);
    let (at_least, at_most) = (standardised(x, y, least)?, standardised(x, y, most)?);
    // In between something is untied, or the ends would have been tied as well.
    let statistic = |shift: f64| standardised(x, y, shift).unwrap_or(0.0);
    let crossing = |level: f64| {
        zero(|at| statistic(at) - level, (least, at_least - level), (most, at_most - level), TOLERANCE)
    };
    let bounded = |level: f64| {
        if at_least - level <= 0.0 {
            least
        } else if at_most - level >= 0.0 {
            most
        } else {
            crossing(level)
        }
    };
    Ok(Shift { lower: bounded(quantile), upper: bounded(-quantile), estimate: crossing(0.0) })
}

/// The standardised rank sum of `x - shift` among `y`: falls from positive to negative as the shift grows. Both samples
/// are sorted.
///
/// # Errors
/// When all observations are tied.
pub fn standardised(x: &[f64], y: &[f64], shift: f64) -> Result<f64, AllTied> {
    let (n_x, n_y) = (x.len() as f64, y.len() as f64);
    let n = n_x + n_y;
    let (rank_sum, ties) = rank_sum(x, y, shift);
    let distance = rank_sum - n_x * (n_x + 1.0) / 2.0 - n_x * n_y / 2.0;
    let correction = if distance == 0.0 { 0.0 } else { 0.5_f64.copysign(distance) };
    let variance = n_x * n_y / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
    // A negative or undefined variance is rounding, or a single observation in all.
    if variance > 0.0 { Ok((distance - correction) / variance.sqrt()) } else { Err(AllTied) }
}

/// The sum of the (average) ranks of `x - shift`, and the sum of `t^3 - t` over all groups of `t` ties. One walk along
/// both sorted samples.
fn rank_sum(x: &[f64], y: &[f64], shift: f64) -> (f64, f64) {
    let (mut of_x, mut of_y) = (0, 0);
    let (mut sum, mut ties, mut below) = (0.0, 0.0, 0.0);
    while of_x < x.len() || of_y < y.len() {
        let next_x = x.get(of_x).map_or(f64::INFINITY, |value| value - shift);
        let next_y = y.get(of_y).copied().unwrap_or(f64::INFINITY);
        let value = next_x.min(next_y);
        let tied_x = x[of_x..].iter().take_while(|other| **other - shift <= value).count();
        let tied_y = y[of_y..].iter().take_while(|other| **other <= value).count();
        let tied = (tied_x + tied_y) as f64;
        sum += tied_x as f64 * (below + (tied + 1.0) / 2.0);
        ties += tied * (tied * tied - 1.0);
        below += tied;
        of_x += tied_x;
        of_y += tied_y;
    }
    (sum, ties)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 97.5 % and 99 % points of the normal distribution.
    const Z_95: f64 = 1.959_963_984_540_054;
    const Z_98: f64 = 2.326_347_874_040_841;

    fn sorted(values: &[f64]) -> Vec<f64> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    }

    /// A sample given as how often each value occurs.
    fn counted(counts: &[(f64, usize)]) -> Vec<f64> {
        counts.iter().flat_map(|(value, count)| std::iter::repeat_n(*value, *count)).collect()
    }

    #[test]
    fn the_statistic_of_untied_samples_is_as_by_hand() {
        // Permeability of placentas, Hollander and Wolfe (1973), page 69: W = 35 of 50, so 10 above its mean 25;
        // (10 - 0.5) / sqrt(10 * 5 * 16 / 12) = 9.5 / 8.164966 = 1.163507.
        let x = sorted(&[0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]);
        let y = sorted(&[1.15, 0.88, 0.90, 0.74, 1.21]);
        assert!((standardised(&x, &y, 0.0).unwrap() - 1.163_507).abs() < 1e-6);
    }

    #[test]
    fn the_statistic_of_tied_samples_is_as_by_hand() {
        // Union 1 2 2 3 3 3 4: ranks 1, 2.5 (twice), 5 (three times), 7. x = 2 3 3 4 has 2.5 + 5 + 5 + 7 = 19.5, which is
        // 3.5 above 10 + 6. Ties: 2^3 - 2 + 3^3 - 3 = 30. Variance 1 * (8 - 30 / 42) = 7.285714.
        let (x, y) = ([2.0, 3.0, 3.0, 4.0], [1.0, 2.0, 3.0]);
        assert_eq!(rank_sum(&x, &y, 0.0), (19.5, 30.0));
        assert!((standardised(&x, &y, 0.0).unwrap() - 3.0 / 7.285_714_f64.sqrt()).abs() < 1e-6);
        assert_eq!(standardised(&[1.0, 1.0], &[1.0], 0.0), Err(AllTied));
    }

    #[test]
    fn a_balanced_statistic_has_no_correction() {
        assert_eq!(standardised(&[1.0, 4.0], &[2.0, 3.0], 0.0), Ok(0.0));
    }

    #[test]
    fn the_ends_of_small_samples_are_the_extreme_differences() {
        // Three against three: the largest standardised value is (4.5 - 0.5) / sqrt(9 * 7 / 12) = 1.746, below 2.326.
        let found = shift(&[11.0, 12.0, 13.0], &[1.0, 2.0, 4.0], Z_98).unwrap();
        assert_eq!((found.lower, found.upper), (7.0, 12.0));
        // The differences are 7 8 9 9 10 10 11 11 12: median 10, within the tolerance.
        assert!((found.estimate - 10.0).abs() < 1.0, "{found:?}");
    }

    #[test]
    fn five_against_five_is_the_first_that_can_speak() {
        // All 25 pairs: (12.5 - 0.5) / sqrt(25 * 11 / 12) = 2.507, above 2.326; 24 of 25: 2.298, below. So the interval
        // ends where the first pair changes sides: at the smallest difference, 96 - 5, and at the largest, 100 - 1.
        let x = [96.0, 97.0, 98.0, 99.0, 100.0];
        let found = shift(&x, &[1.0, 2.0, 3.0, 4.0, 5.0], Z_98).unwrap();
        assert!((found.lower - 91.0).abs() <= TOLERANCE, "{found:?}");
        assert!((found.upper - 99.0).abs() <= TOLERANCE, "{found:?}");
        assert!((found.estimate - 95.0).abs() <= 1.0, "{found:?}");
    }

    #[test]
    fn heavily_tied_samples_stop_where_r_stops() {
        // R: wilcox.test(x, y, conf.int = TRUE, exact = FALSE) gives -0.500002521696696 to -3.486287505871302e-05,
        // estimate -0.4999393907180323 (figures of Kayenta's own test against R).
        let y = counted(&[
            (1.5, 2),
            (2.0, 16),
            (2.5, 18),
            (3.0, 16),
            (3.5, 10),
            (4.0, 8),
            (4.5, 4),
            (5.0, 6),
            (5.5, 2),
            (6.0, 5),
            (8.0, 1),
            (15.5, 1),
            (54.5, 1),
        ]);
        let x = counted(&[
            (1.5, 9),
            (2.0, 16),
            (2.5, 22),
            (3.0, 17),
            (3.5, 9),
            (4.0, 5),
            (4.5, 1),
            (5.0, 3),
            (5.5, 1),
            (6.0, 2),
            (6.5, 2),
            (7.0, 1),
            (7.5, 1),
            (16.5, 1),
        ]);
        let found = shift(&x, &y, Z_95).unwrap();
        assert!((found.lower + 0.500_002_521_696_696).abs() < 1e-6, "{found:?}");
        assert!((found.upper + 3.486_287_505_871_302e-5).abs() < 1e-6, "{found:?}");
        assert!((found.estimate + 0.499_939_390_718_032_3).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn the_same_at_98_percent_and_twice_the_size() {
        // As above, conf.level = 0.98: -0.4999173250549087 to -6.912685789769486e-06, estimate -3.45044082729315e-05.
        let y = counted(&[
            (0.0, 1),
            (0.5, 7),
            (1.0, 32),
            (1.5, 70),
            (2.0, 33),
            (2.5, 22),
            (3.0, 6),
            (3.5, 2),
            (4.0, 3),
            (4.5, 1),
            (5.5, 1),
            (7.0, 1),
            (7.5, 1),
        ]);
        let x = counted(&[
            (0.5, 20),
            (1.0, 41),
            (1.5, 67),
            (2.0, 37),
            (2.5, 3),
            (3.0, 2),
            (3.5, 3),
            (4.0, 1),
            (5.0, 1),
            (5.5, 3),
            (8.5, 1),
            (19.0, 1),
        ]);
        let found = shift(&x, &y, Z_98).unwrap();
        assert!((found.lower + 0.499_917_325_054_908_7).abs() < 1e-6, "{found:?}");
        assert!((found.upper + 6.912_685_789_769_486e-6).abs() < 1e-6, "{found:?}");
        assert!((found.estimate + 3.450_440_827_293_15e-5).abs() < 1e-4, "{found:?}");
    }
}
