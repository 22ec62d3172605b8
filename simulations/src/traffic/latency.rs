//! Drawing durations straight into buckets.
//!
//! The time axis is cut into cells at all edges of both resolutions, so that the two histograms of a look count the same
//! requests. Some thousand requests are drawn one by one, from a table that leads from an even number to its cell in a
//! step or two. More are drawn cell by cell: of those that are longer than the last edge, a binomial share ends before
//! the next one, which does not grow with the number of requests. And a few, when the distribution has only just moved
//! (a cold start moves at every look), are not worth computing it. All three give the same distribution.

use std::sync::LazyLock;

use super::{Latency, Pod, Resolution, bounds};
use crate::Dice;

/// Up to so many requests, the table is quicker than walking the cells, some 500 of which matter.
const BY_TABLE: u64 = 4_000;

/// Up to so many requests, a logarithm each is quicker than computing some 900 cells for a single look.
const BY_LOGARITHM: u64 = 300;

/// Steps of the table.
const GUIDES: usize = 1_024;

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
    /// The factor that was asked for last, and the one that the cells were computed for.
    asked: f64,
    computed: f64,
    /// For each cell: the chance to end in it or before.
    until: Vec<f64>,
    /// For each cell: the chance to end in it, for a request that is longer than all before it.
    ends: Vec<f64>,
    /// For each step of the even numbers: the first cell that may hold one of them.
    guides: Vec<usize>,
}

impl Durations {
    pub(super) fn new(latency: &Latency) -> Self {
        let (log_median, sigma) = (latency.median.ln(), latency.sigma);
        let (asked, computed) = (f64::NAN, f64::NAN);
        Self { log_median, sigma, asked, computed, until: Vec::new(), ends: Vec::new(), guides: Vec::new() }
    }

    /// Adds `requests` durations to the pod's buckets, `factor` times as long as the distribution says.
    pub(super) fn draw(&mut self, requests: u64, factor: f64, dice: &mut Dice, pod: &mut Pod) {
        pod.classic.resize(bounds(Resolution::Classic).len() + 1, 0);
        pod.native.resize(bounds(Resolution::Native).len() + 1, 0);
        let moved = self.computed != factor && self.asked != factor;
        self.asked = factor;
        if moved && requests <= BY_LOGARITHM {
            self.by_logarithm(requests, factor, dice, pod);
            return;
        }
        self.compute(factor);
        if requests <= BY_TABLE {
            self.by_table(requests, dice, pod);
        } else {
            self.by_cell(requests, dice, pod);
        }
    }

    fn by_logarithm(&self, requests: u64, factor: f64, dice: &mut Dice, pod: &mut Pod) {
        let centre = self.log_median + factor.ln();
        for _ in 0..requests {
            let log_duration = centre + self.sigma * dice.normal();
            let at = CELLS.partition_point(|cell| cell.log_upper < log_duration);
            CELLS[at].count(1, pod);
        }
    }

    fn by_table(&self, requests: u64, dice: &mut Dice, pod: &mut Pod) {
        for _ in 0..requests {
            let share = dice.share();
            let mut at = self.guides[(share * GUIDES as f64) as usize];
            while self.until[at] <= share {
                at += 1;
            }
            CELLS[at].count(1, pod);
        }
    }

    fn by_cell(&self, requests: u64, dice: &mut Dice, pod: &mut Pod) {
        let mut left = requests;
        for (cell, chance) in CELLS.iter().zip(&self.ends) {
            let ended = dice.binomial(left, *chance);
            cell.count(ended, pod);
            left -= ended;
            if left == 0 {
                break;
            }
        }
    }

    fn compute(&mut self, factor: f64) {
        if self.computed == factor {
            return;
        }
        self.computed = factor;
        self.until.clear();
        self.ends.clear();
        self.guides.clear();
        let centre = self.log_median + factor.ln();
        let mut longer = 1.0;
        for (at, cell) in CELLS.iter().enumerate() {
            let beyond = normal_tail((cell.log_upper - centre) / self.sigma);
            // Nothing is longer than the last cell, whatever rounding says.
            let last = cell.log_upper.is_infinite() || longer <= 0.0;
            self.ends.push(if last { 1.0 } else { (1.0 - beyond / longer).clamp(0.0, 1.0) });
            let until = if last { 1.0 } else { 1.0 - beyond };
            self.until.push(until);
            while self.guides.len() < GUIDES && (self.guides.len() as f64) < until * GUIDES as f64 {
                self.guides.push(at);
            }
            longer = beyond;
        }
    }
}

impl Cell {
    fn count(&self, requests: u64, pod: &mut Pod) {
        pod.classic[self.classic] += requests;
        pod.native[self.native] += requests;
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
    fn logarithm_table_and_cells_agree() {
        let latency = Latency { median: 0.1, sigma: 0.6, canary_factor: 1.0, onset: 0.0, cold_start: None };
        let mut dice = Dice::new(1);
        let mut pods = [Pod::default(), Pod::default(), Pod::default()];
        let [by_logarithm, by_table, by_cell] = &mut pods;
        let mut durations = Durations::new(&latency);
        for _ in 0..2_000 {
            durations.draw(0, 3.0, &mut dice, by_logarithm);
            durations.draw(100, 1.5, &mut dice, by_logarithm);
        }
        assert_eq!(
            durations.computed.total_cmp(&f64::NAN),
            std::cmp::Ordering::Equal,
            "nothing was computed"
        );
        for _ in 0..100 {
            durations.draw(2_000, 1.5, &mut dice, by_table);
        }
        durations.draw(200_000, 1.5, &mut dice, by_cell);
        // p95 of the shifted distribution: 1.5 * 100 ms * exp(0.6 * 1.644854) = 402.4 ms.
        for pod in &pods {
            assert_eq!(pod.native.iter().sum::<u64>(), 200_000);
            assert_eq!(pod.classic.iter().sum::<u64>(), 200_000);
            let p95 = quantile(0.95, &pod.native).unwrap();
            assert!((p95 / 0.4024 - 1.0).abs() < 0.01, "{p95}");
        }
        for other in &pods[1..] {
            let chi_square = pods[0].native.iter().zip(&other.native).filter(|(one, two)| *one + *two > 20);
            let terms = chi_square.map(|(one, two)| (one.abs_diff(*two) as f64).powi(2) / (one + two) as f64);
            let (sum, cells) = terms.fold((0.0, 0.0), |(sum, cells), term| (sum + term, cells + 1.0));
            assert!(cells > 200.0 && sum < cells + 4.5 * f64::sqrt(2.0 * cells), "{sum} over {cells} cells");
        }
    }
}
