//! Seeded gauges: a small generator, and the histories the tests fit detectors to.

use rules::stats::gauge::GaugeHistory;

/// Time between samples, seconds.
pub const STEP: f64 = 10.0;

/// The watch, seconds.
pub const WATCH: f64 = 3_600.0;

/// SplitMix64 with the Box-Muller transform: the same numbers on every machine.
pub struct Dice {
    state: u64,
    spare: Option<f64>,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, spare: None }
    }

    /// Strictly between 0 and 1.
    pub fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let angle = std::f64::consts::TAU * self.uniform();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// A stationary AR(1) of mean 0 and variance 1.
pub fn noise(seed: u64, phi: f64, count: usize) -> Vec<f64> {
    let mut dice = Dice::new(seed);
    let news = (1.0 - phi * phi).sqrt();
    let mut value = dice.normal();
    (0..count)
        .map(|_| {
            value = phi * value + news * dice.normal();
            value
        })
        .collect()
}

/// A history without holes or season that ends at the deployment.
pub fn history(values: Vec<f64>) -> GaugeHistory {
    GaugeHistory {
        samples: values.into_iter().map(Some).collect(),
        step_seconds: STEP,
        seasonal: Vec::new(),
        deployed_at_seconds: 0.0,
    }
}
