//! Seeded dice: the numbers behind every made-up request.
//!
//! SplitMix64 (Steele, Lea, Flood 2014): small, fast, and good enough to draw errors with. What is drawn from it lives
//! in two files: counts ([`Dice::binomial`], [`Dice::poisson`] and their overdispersed relatives) and continuous
//! numbers ([`Dice::normal`], [`Dice::student_t4`], [`Dice::lognormal`]). Every draw is exact: no normal stands in for
//! a binomial, because the tails are what a test at 1 % lives on.

mod continuous;
mod counts;

/// A stream of random numbers that a seed determines.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
    /// The second number of the pair that the polar method draws.
    spare_normal: Option<f64>,
}

/// The increment of SplitMix64, the golden ratio in 64 bits.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Dice {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed, spare_normal: None }
    }

    /// The stream of one watch: the same for the same `seed`, `name` and `number`, whatever else is drawn elsewhere.
    #[must_use]
    pub fn of(seed: u64, name: &str, number: u32) -> Self {
        // FNV-1a spreads the name, one round of SplitMix64 each spreads seed and number.
        let spread = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        let mixed = mix(mix(seed.wrapping_add(GOLDEN)) ^ spread).wrapping_add(u64::from(number));
        Self::new(mix(mixed.wrapping_mul(GOLDEN)))
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number from 0 (inclusive) to 1 (exclusive), evenly spread.
    pub fn share(&mut self) -> f64 {
        // 53 bits: every value that a number in [0, 1) of this spacing can have.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number above 0 and at most 1, evenly spread: one whose logarithm exists.
    pub fn positive_share(&mut self) -> f64 {
        1.0 - self.share()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_another_watch_another() {
        let (mut one, mut two) = (Dice::of(7, "scenario", 3), Dice::of(7, "scenario", 3));
        assert!((0..1_000).all(|_| one.share() == two.share()));
        let first = |seed, name, number| Dice::of(seed, name, number).next();
        let here = first(7, "scenario", 3);
        for elsewhere in [first(8, "scenario", 3), first(7, "scenari0", 3), first(7, "scenario", 4)] {
            assert_ne!(here, elsewhere);
        }
    }

    #[test]
    fn shares_are_even() {
        let mut dice = Dice::new(8);
        let mut tenths = [0_u32; 10];
        for _ in 0..100_000 {
            tenths[(dice.share() * 10.0) as usize] += 1;
        }
        // Five standard deviations of a count of 10,000.
        assert!(tenths.iter().all(|count| count.abs_diff(10_000) < 500), "{tenths:?}");
    }
}
