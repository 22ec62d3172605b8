//! Drawing durations straight into buckets.
//!
//! Few requests are drawn one by one. Many are drawn bucket by bucket: of those that are longer than the last edge, a
//! binomial share ends before the next one. Both give the same distribution, and the second does not grow with the
//! number of requests. The cells lie between all edges of both resolutions, so that the two histograms of a look count
//! the same requests.

use std::sync::LazyLock;

use super::{Latency, Pod, Resolution, bounds};
use crate::Dice;

/// Up to so many requests, drawing each is quicker than walking the cells: a walk visits about 500 of them.
const ONE_BY_ONE: u64 = 500;

/// A piece of the time axis between two neighbouring edges, and the buckets that it belongs to.
struct Cell {
    log_upper: f64,
    classic: usize,
    native: usize,
}

static CELLS: LazyLock<Vec<Cell>> = LazyLock::new(|| {
    let (classic, native) = (bounds(Resolution::Classic), bounds(Resolution::Native));
    let mut edges: Vec<f64> = classic.iter().chain(native).copied().collect();
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    edges.push(f64::INFINITY);
    let bucket = |bounds: &[f64], edge: f64| bounds.partition_point(|bound| *bound < edge);
    let cell = |edge: f64| Cell {
        log_upper: edge.ln(),
        classic: bucket(classic, edge),
        native: bucket(native, edge),
    };
    edges.into_iter().map(cell).collect()
});

/// Durations of one arm: the distribution, and its cells' probabilities for the factor that was used last.
#[derive(Debug, Clone)]
pub(super) struct Durations {
    log_median: f64,
    sigma: f64,
    factor: f64,
    /// For each cell: the chance to end in it, for a request that is longer than all before it.
    ends: Vec<f64>,
}

impl Durations {
    pub(super) fn new(latency: &Latency) -> Self {
        // No factor yet: the first draw computes the cells.
        let (log_median, sigma) = (latency.median.ln(), latency.sigma);
        Self { log_median, sigma, factor: f64::NAN, ends: Vec::new() }
    }

    /// Adds `requests` durations to the pod's buckets, `factor` times as long as the distribution says.
    pub(super) fn draw(&mut self, requests: u64, factor: f64, dice: &mut Dice, pod: &mut Pod) {
        pod.classic.resize(bounds(Resolution::Classic).len() + 1, 0);
        pod.native.resize(bounds(Resolution::Native).len() + 1, 0);
        let cells = &*CELLS;
        if requests <= ONE_BY_ONE {
            let centre = self.log_median + factor.ln();
            for _ in 0..requests {
                let log_duration = centre + self.sigma * dice.normal();
                let at = cells.partition_point(|cell| cell.log_upper < log_duration);
                pod.classic[cells[at].classic] += 1;
                pod.native[cells[at].native] += 1;
            }
            return;
        }
        self.prepare(factor);
        let mut left = requests;
        for (cell, chance) in cells.iter().zip(&self.ends) {
            let ended = dice.binomial(left, *chance);
            pod.classic[cell.classic] += ended;
            pod.native[cell.native] += ended;
            left -= ended;
            if left == 0 {
                break;
            }
        }
    }

    fn prepare(&mut self, factor: f64) {
        if self.factor == factor {
            return;
        }
        self.factor = factor;
        self.ends.clear();
        let centre = self.log_median + factor.ln();
        let mut longer = 1.0;
        for cell in CELLS.iter() {
            let beyond = normal_tail((cell.log_upper - centre) / self.sigma);
            // Nothing is longer than the last cell, whatever rounding says.
            let last = cell.log_upper.is_infinite() || longer <= 0.0;
            self.ends.push(if last { 1.0 } else { (1.0 - beyond / longer).clamp(0.0, 1.0) });
            longer = beyond;
        }
    }
}

/// The chance of a standard normal number above `z`. Relative error below 1.2e-7 (the Chebyshev fit of erfc in Press et
/// al., Numerical Recipes), far below what a simulation can see.
fn normal_tail(z: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    if z.is_infinite() {
        return if z > 0.0 { 0.0 } else { 1.0 };
    }
    let x = z.abs() * std::f64::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    let polynomial = FIT.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
    let tail = 0.5 * t * (polynomial - x * x).exp();
    if z > 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::quantile;

    #[test]
    fn the_normal_tail_is_the_table_s() {
        for (z, tail) in [(0.0, 0.5), (1.644_853_627, 0.05), (2.326_347_874, 0.01), (-1.0, 0.841_344_746)] {
            assert!((normal_tail(z) / tail - 1.0).abs() < 1e-6, "{z}: {}", normal_tail(z));
        }
    }

    #[test]
    fn one_by_one_and_cell_by_cell_agree() {
        let latency = Latency { median: 0.1, sigma: 0.6, canary_factor: 1.0, onset: 0.0, cold_start: None };
        let mut durations = Durations::new(&latency);
        let mut dice = Dice::new(1);
        let (mut few, mut many) = (Pod::default(), Pod::default());
        for _ in 0..2_000 {
            durations.draw(100, 1.5, &mut dice, &mut few);
        }
        durations.draw(200_000, 1.5, &mut dice, &mut many);
        // p95 of the shifted distribution: 1.5 * 100 ms * exp(0.6 * 1.644854) = 402.4 ms.
        for pod in [&few, &many] {
            assert_eq!(pod.native.iter().sum::<u64>(), 200_000);
            assert_eq!(pod.classic.iter().sum::<u64>(), 200_000);
            let p95 = quantile(0.95, &pod.native).unwrap();
            assert!((p95 / 0.4024 - 1.0).abs() < 0.01, "{p95}");
        }
        for (few, many) in few.classic.iter().zip(&many.classic) {
            let (few, many) = (*few as f64, *many as f64);
            assert!((few - many).abs() < 5.0 * (few + many).sqrt() + 1.0, "{few} {many}");
        }
    }
}
