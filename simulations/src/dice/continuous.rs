//! Continuous draws: normal, lognormal, Student t with four degrees of freedom, gamma.

use super::Dice;

impl Dice {
    /// A standard normal number, by the polar method of Marsaglia and Bray (1964).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.share() - 1.0, 2.0 * self.share() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let stretch = (-2.0 * square.ln() / square).sqrt();
                self.spare_normal = Some(y * stretch);
                return x * stretch;
            }
        }
    }

    /// A lognormal number: `median * exp(sigma * normal)`.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// A number of Student's t distribution with four degrees of freedom, scaled to a standard deviation of 1: the
    /// heavy tails of a real gauge.
    pub fn student_t4(&mut self) -> f64 {
        // Chi-square with four degrees of freedom is twice the sum of two exponentials; t4 has variance 2.
        let chi_square = -2.0 * (self.positive_share() * self.positive_share()).ln();
        self.normal() / (chi_square / 4.0).sqrt() / std::f64::consts::SQRT_2
    }

    /// A gamma number of this shape (positive) and scale 1, by the method of Marsaglia and Tsang (2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // Gamma(a) is Gamma(a + 1) times U^(1/a).
            let boost = self.positive_share().powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let root = 1.0 + c * x;
            if root <= 0.0 {
                continue;
            }
            let v = root * root * root;
            if self.positive_share().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of many draws.
    fn moments(draws: u32, mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let values: Vec<f64> = (0..draws).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        (mean, spread / (values.len() - 1) as f64)
    }

    #[test]
    fn normal_numbers_have_the_right_moments_and_tails() {
        let mut dice = Dice::new(1);
        let (mean, variance) = moments(200_000, || dice.normal());
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.015, "{mean} {variance}");
        let beyond = (0..200_000).filter(|_| dice.normal() > 2.326_347_874).count();
        assert!(beyond.abs_diff(2_000) < 220, "{beyond} of 200,000 above the 99 % point");
    }

    #[test]
    fn t4_numbers_have_unit_variance_and_heavy_tails() {
        let mut dice = Dice::new(2);
        // P(|t4| > 4.604) = 1 %; scaled by sqrt(2) that is 3.2556.
        let beyond = (0..200_000).filter(|_| dice.student_t4().abs() > 4.604_095 / 2_f64.sqrt()).count();
        assert!(beyond.abs_diff(2_000) < 220, "{beyond}");
    }

    #[test]
    fn lognormal_and_gamma_numbers_have_the_right_moments() {
        let mut dice = Dice::new(3);
        let (mean, _) = moments(200_000, || dice.lognormal(2.0, 0.5));
        assert!((mean - 2.0 * (0.125_f64).exp()).abs() < 0.02, "{mean}");
        for shape in [0.3, 1.0, 7.5] {
            let (mean, variance) = moments(200_000, || dice.gamma(shape));
            assert!((mean / shape - 1.0).abs() < 0.03, "{shape}: mean {mean}");
            assert!((variance / shape - 1.0).abs() < 0.06, "{shape}: variance {variance}");
        }
    }
}
