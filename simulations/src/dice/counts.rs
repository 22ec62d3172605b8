//! Counts: binomial, Poisson, and the overdispersed kinds that real errors are.
//!
//! A bench draws hundreds of millions of them, so the time must not grow with the mean: small means by inversion along
//! the probabilities, large ones by transformed rejection with a table-mountain hat (W. Hörmann, "The generation of
//! binomial random variates", 1993, and "The transformed rejection method for generating Poisson random variables",
//! 1993). Both are exact.

use super::Dice;

/// Below this mean inversion is quicker; the rejection methods need at least 10.
const INVERSION_BELOW: f64 = 10.0;

impl Dice {
    /// How many of `trials` succeed if each does with probability `p`, independently. `p` outside 0 to 1 counts as the
    /// nearer end.
    pub fn binomial(&mut self, trials: u64, p: f64) -> u64 {
        if trials == 0 || p <= 0.0 {
            0
        } else if p >= 1.0 {
            trials
        } else if p > 0.5 {
            trials - self.binomial(trials, 1.0 - p)
        } else if trials as f64 * p < INVERSION_BELOW {
            self.binomial_inversion(trials, p)
        } else {
            self.binomial_rejection(trials, p)
        }
    }

    fn binomial_inversion(&mut self, trials: u64, p: f64) -> u64 {
        let n = trials as f64;
        let odds = p / (1.0 - p);
        let none = (n * (-p).ln_1p()).exp();
        loop {
            let (mut left, mut chance, mut count) = (self.share(), none, 0.0);
            while left >= chance && count < n {
                left -= chance;
                chance *= odds * (n - count) / (count + 1.0);
                count += 1.0;
            }
            // Rounding may leave a sliver beyond the last count: draw again.
            if left < chance {
                return count as u64;
            }
        }
    }

    fn binomial_rejection(&mut self, trials: u64, p: f64) -> u64 {
        let n = trials as f64;
        let odds = p / (1.0 - p);
        let spread = (n * p * (1.0 - p)).sqrt();
        let b = 1.15 + 2.53 * spread;
        let a = -0.0873 + 0.0248 * b + 0.01 * p;
        let centre = n * p + 0.5;
        let inner = 0.92 - 4.2 / b;
        let alpha = (2.83 + 5.1 / b) * spread;
        let mode = ((n + 1.0) * p).floor();
        loop {
            let (u, v) = (self.share() - 0.5, self.positive_share());
            let us = 0.5 - u.abs();
            let count = ((2.0 * a / us + b) * u + centre).floor();
            if us >= 0.07 && v <= inner {
                return count as u64;
            }
            if count < 0.0 || count > n {
                continue;
            }
            let height = (v * alpha / (a / (us * us) + b)).ln();
            let bound = (mode + 0.5) * ((mode + 1.0) / (odds * (n - mode + 1.0))).ln()
                + (n + 1.0) * ((n - mode + 1.0) / (n - count + 1.0)).ln()
                + (count + 0.5) * (odds * (n - count + 1.0) / (count + 1.0)).ln()
                + stirling_tail(mode)
                + stirling_tail(n - mode)
                - stirling_tail(count)
                - stirling_tail(n - count);
            if height <= bound {
                return count as u64;
            }
        }
    }

    /// A Poisson count of this mean; 0 for a mean that is not positive.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean <= 0.0 {
            0
        } else if mean < INVERSION_BELOW {
            self.poisson_inversion(mean)
        } else {
            self.poisson_rejection(mean)
        }
    }

    fn poisson_inversion(&mut self, mean: f64) -> u64 {
        /// Beyond it a count of mean 10 has a chance below 1e-60: only rounding leads there.
        const END: f64 = 150.0;
        let none = (-mean).exp();
        loop {
            let (mut left, mut chance, mut count) = (self.share(), none, 0.0);
            while left >= chance && count < END {
                left -= chance;
                count += 1.0;
                chance *= mean / count;
            }
            if left < chance {
                return count as u64;
            }
        }
    }

    fn poisson_rejection(&mut self, mean: f64) -> u64 {
        let b = 0.931 + 2.53 * mean.sqrt();
        let a = -0.059 + 0.024_83 * b;
        let inverse_alpha = 1.123_9 + 1.132_8 / (b - 3.4);
        let inner = 0.927_7 - 3.622_4 / (b - 2.0);
        let log_mean = mean.ln();
        loop {
            let (u, v) = (self.share() - 0.5, self.positive_share());
            let us = 0.5 - u.abs();
            let count = ((2.0 * a / us + b) * u + mean + 0.43).floor();
            if us >= 0.07 && v <= inner {
                return count as u64;
            }
            if count < 0.0 || (us < 0.013 && v > us) {
                continue;
            }
            let height = (v * inverse_alpha / (a / (us * us) + b)).ln();
            if height <= count * log_mean - mean - log_factorial(count) {
                return count as u64;
            }
        }
    }

    /// A negative binomial count: Poisson of a gamma-distributed mean, so that variance is `index` times `mean`
    /// (`index` 1 or less: plain Poisson). Errors of a service whose badness comes and goes between two looks.
    pub fn negative_binomial(&mut self, mean: f64, index: f64) -> u64 {
        if mean <= 0.0 || index <= 1.0 {
            return self.poisson(mean);
        }
        let level = (index - 1.0) * self.gamma(mean / (index - 1.0));
        self.poisson(level)
    }

    /// A compound Poisson count of this mean: clusters arrive independently, and all of a cluster fails together.
    /// `ratio` and `largest` are those of [`Dice::cluster`].
    pub fn clustered(&mut self, mean: f64, ratio: f64, largest: u32) -> u64 {
        let clusters = self.poisson(mean / cluster_mean(ratio, largest));
        (0..clusters).map(|_| self.cluster(ratio, largest)).sum()
    }

    /// The size of one cluster: geometric, each further member with probability `ratio` (0 to 1), cut at `largest`.
    pub fn cluster(&mut self, ratio: f64, largest: u32) -> u64 {
        let further = (self.positive_share().ln() / ratio.ln()).floor();
        (1.0 + further).min(f64::from(largest)) as u64
    }
}

/// The mean size of a cluster of [`Dice::cluster`].
#[must_use]
pub fn cluster_mean(ratio: f64, largest: u32) -> f64 {
    (1.0 - ratio.powf(f64::from(largest))) / (1.0 - ratio)
}

/// `ln k!` without Stirling's first terms: what remains of `ln k! - [ln sqrt(2 pi) + (k + 1/2) ln(k + 1) - (k + 1)]`.
fn stirling_tail(k: f64) -> f64 {
    const SMALL: [f64; 10] = [
        0.081_061_466_795_327_8,
        0.041_340_695_955_409_3,
        0.027_677_925_684_998_3,
        0.020_790_672_103_765_1,
        0.016_644_691_189_821_2,
        0.013_876_128_823_070_7,
        0.011_896_709_945_891_8,
        0.010_411_265_261_972_1,
        0.009_255_462_182_712_73,
        0.008_330_563_433_362_87,
    ];
    if let Some(tail) = SMALL.get(k as usize) {
        return *tail;
    }
    let next = k + 1.0;
    let square = next * next;
    (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / 1_260.0 / square) / square) / next
}

fn log_factorial(k: f64) -> f64 {
    const LOG_ROOT_TWO_PI: f64 = 0.918_938_533_204_672_7;
    LOG_ROOT_TWO_PI + (k + 0.5) * (k + 1.0).ln() - (k + 1.0) + stirling_tail(k)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 200_000;

    /// Pearson's chi-square of the draws against exact probabilities, over counts that are expected at least 10 times,
    /// with its degrees of freedom.
    fn chi_square(mut draw: impl FnMut() -> u64, chance: impl Fn(u64) -> f64, most: u64) -> (f64, f64) {
        let mut seen = vec![0_u32; usize::try_from(most).unwrap() + 1];
        for _ in 0..DRAWS {
            seen[draw() as usize] += 1;
        }
        let (mut statistic, mut cells, mut seen_here, mut expected_here) = (0.0, 0.0, 0.0, 0.0);
        for (count, seen) in seen.iter().enumerate() {
            let expected = chance(count as u64) * f64::from(DRAWS);
            if expected >= 10.0 {
                statistic += (f64::from(*seen) - expected).powi(2) / expected;
                cells += 1.0;
                seen_here += f64::from(*seen);
                expected_here += expected;
            }
        }
        // The tails are one more cell.
        let (seen, expected) = (f64::from(DRAWS) - seen_here, f64::from(DRAWS) - expected_here);
        assert!(
            (seen - expected).abs() < 5.0 * expected.max(1.0).sqrt(),
            "tails: {seen}, expected {expected}"
        );
        (statistic, cells)
    }

    fn assert_fits((statistic, cells): (f64, f64), what: &str) {
        // Mean `cells`, standard deviation sqrt(2 cells); four and a half of them.
        assert!(
            statistic < cells + 4.5 * (2.0 * cells).sqrt() + 5.0,
            "{what}: {statistic} over {cells} cells"
        );
    }

    #[test]
    fn binomial_counts_follow_their_probabilities() {
        let mut dice = Dice::new(4);
        for (trials, p) in
            [(10, 0.01), (10, 0.9), (100, 0.05), (100, 0.2), (1_000, 0.01), (10_000, 0.05), (40, 0.5)]
        {
            let n = trials as f64;
            let chance = |k: u64| {
                let k = k as f64;
                let ways = log_factorial(n) - log_factorial(k) - log_factorial(n - k);
                (ways + k * f64::ln(p) + (n - k) * f64::ln_1p(-p)).exp()
            };
            let fit = chi_square(|| dice.binomial(trials, p), chance, trials);
            assert_fits(fit, &format!("binomial({trials}, {p})"));
        }
        assert_eq!((dice.binomial(7, 0.0), dice.binomial(7, 1.0), dice.binomial(0, 0.5)), (0, 7, 0));
    }

    #[test]
    fn poisson_counts_follow_their_probabilities() {
        let mut dice = Dice::new(5);
        for mean in [0.1, 3.0, 9.99, 10.0, 100.0, 2_500.0] {
            let chance = |k: u64| (k as f64 * f64::ln(mean) - mean - log_factorial(k as f64)).exp();
            assert_fits(chi_square(|| dice.poisson(mean), chance, 4_000), &format!("poisson({mean})"));
        }
        assert_eq!(dice.poisson(0.0), 0);
    }

    #[test]
    fn factorials_are_exact() {
        assert!((log_factorial(5.0) - 120_f64.ln()).abs() < 1e-12);
        assert!((log_factorial(12.0) - 479_001_600_f64.ln()).abs() < 1e-9);
    }

    /// Mean and variance over mean.
    fn mean_and_index(mut draw: impl FnMut() -> u64) -> (f64, f64) {
        let values: Vec<f64> = (0..DRAWS).map(|_| draw() as f64).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance / mean)
    }

    #[test]
    fn overdispersed_counts_have_the_right_mean_and_index() {
        let mut dice = Dice::new(6);
        let (mean, index) = mean_and_index(|| dice.negative_binomial(3.0, 8.4));
        assert!((mean / 3.0 - 1.0).abs() < 0.03 && (index / 8.4 - 1.0).abs() < 0.06, "{mean} {index}");
        // The index of a compound Poisson count is the size-biased mean of its clusters.
        let (mean, index) = mean_and_index(|| dice.clustered(3.0, 0.805, 17));
        assert!((mean / 3.0 - 1.0).abs() < 0.03 && (index / 8.4 - 1.0).abs() < 0.06, "{mean} {index}");
        assert!((cluster_mean(0.805, 17) - 5.0).abs() < 0.01);
    }
}
