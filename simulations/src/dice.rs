//! Seeded dice. SplitMix64 (Steele, Lea, Flood 2014): small, fast, and good enough to draw errors with.

/// A stream of random numbers that a seed determines.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 (inclusive) to 1 (exclusive), evenly spread.
    pub fn share(&mut self) -> f64 {
        // 53 bits: every value that a number in [0, 1) of this spacing can have.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of `trials` go wrong if each does with probability `p`.
    pub fn failures(&mut self, trials: u32, p: f64) -> u32 {
        (0..trials).map(|_| u32::from(self.share() < p)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_the_stream_is_fair() {
        let (mut one, mut two) = (Dice::new(7), Dice::new(7));
        assert!((0..1_000).all(|_| one.share() == two.share()));
        let failures = Dice::new(8).failures(100_000, 0.1);
        // Four standard deviations of a binomial count.
        assert!((failures as f64 - 10_000.0).abs() < 380.0, "{failures}");
    }
}
