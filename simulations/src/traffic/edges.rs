//! The two kinds of buckets that durations are counted in, and what a dashboard makes of them.

use std::sync::LazyLock;

/// How finely durations are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The default buckets of Prometheus client libraries.
    Classic,
    /// Buckets that grow by 2^(1/64), 1.1 %, as a native histogram of schema 6 has them, from 1 ms to 16 s.
    Native,
}

/// The default buckets of Prometheus client libraries, upper bounds in seconds.
const CLASSIC: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Fine buckets in one doubling: fine enough that "10 % longer" is nine buckets and not 2 % more than that.
const PER_OCTAVE: i32 = 64;

/// 2^-10 s is 1 ms, 2^4 s is 16 s.
const OCTAVES: std::ops::RangeInclusive<i32> = -10..=4;

static NATIVE: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let steps = OCTAVES.start() * PER_OCTAVE..=OCTAVES.end() * PER_OCTAVE;
    steps.map(|step| (f64::from(step) / f64::from(PER_OCTAVE)).exp2()).collect()
});

/// The inclusive upper bounds of the buckets, seconds, rising. A histogram has one count more: what is longer.
#[must_use]
pub fn bounds(resolution: Resolution) -> &'static [f64] {
    match resolution {
        Resolution::Classic => &CLASSIC,
        Resolution::Native => &NATIVE,
    }
}

/// The `q`-quantile (0 to 1) of a histogram in seconds, as Prometheus computes it for native histograms: exponential
/// interpolation inside of the bucket. `None` without a request.
#[must_use]
pub fn quantile(q: f64, native: &[u64]) -> Option<f64> {
    let total: u64 = native.iter().sum();
    if total == 0 {
        return None;
    }
    let bounds = bounds(Resolution::Native);
    let rank = q * total as f64;
    let mut below = 0.0;
    for (count, upper) in native.iter().zip(bounds) {
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            let inside = (rank - below) / count;
            return Some(upper * ((inside - 1.0) / f64::from(PER_OCTAVE)).exp2());
        }
        below += count;
    }
    bounds.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_and_doublings_are_bounds() {
        for resolution in [Resolution::Classic, Resolution::Native] {
            assert!(bounds(resolution).is_sorted());
        }
        assert!(bounds(Resolution::Native).contains(&0.25) && bounds(Resolution::Native).contains(&16.0));
    }

    #[test]
    fn a_quantile_is_interpolated_on_the_log_scale() {
        let mut counts = vec![0; bounds(Resolution::Native).len() + 1];
        assert_eq!(quantile(0.5, &counts), None);
        let at = bounds(Resolution::Native).iter().position(|bound| *bound == 0.25).unwrap();
        counts[at] = 10;
        assert_eq!(quantile(1.0, &counts), Some(0.25));
        let middle = quantile(0.5, &counts).unwrap();
        assert!((middle - 0.25 * 2_f64.powf(-1.0 / 128.0)).abs() < 1e-12, "{middle}");
        // Beyond the last bound the last bound is all that is known.
        let longer = counts.len() - 1;
        counts[longer] = 90;
        assert_eq!(quantile(0.5, &counts), Some(16.0));
    }
}
