//! SplitMix64 (Steele, Lea, Flood 2014): small, fast, good enough to choose orders by, and the same on every
//! machine and in every version of this program.

/// A stream of numbers that its seed determines.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0. Its bias is below 2⁻³² for bounds of 32 bits.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0);
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number of `low ..= high`.
    #[inline]
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        assert!(low <= high);
        low + self.below(u64::from(high - low) + 1) as u32
    }

    #[inline]
    pub fn chance(&mut self, chance: Chance) -> bool {
        // Drawn always, so that what follows does not depend on whether the chance is 0.
        let drawn = self.next_u64();
        drawn < chance.0 || chance.0 == u64::MAX
    }

    /// One of `percent` in a hundred.
    #[inline]
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// How many times a fair coin shows heads before its first tails, at most 64: mostly 0, 1, 2.
    #[inline]
    pub fn run_length(&mut self) -> u32 {
        self.next_u64().trailing_ones()
    }
}

/// A probability, as a threshold for 64 drawn bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    pub const NEVER: Chance = Chance(0);

    /// 0.0 = never … 1.0 = always; what is outside counts as the nearer end.
    pub fn new(probability: f64) -> Chance {
        // A cast saturates: at 1.0 it gives u64::MAX, which `Random::chance` takes as always.
        Chance((probability * 18_446_744_073_709_551_616.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_stream() {
        // The reference implementation's first numbers for seed 1234567.
        let mut random = Random::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn chances_are_kept() {
        let mut random = Random::new(7);
        let mut hits = |probability| (0..10_000).filter(|_| random.chance(Chance::new(probability))).count();
        assert_eq!(hits(0.0), 0);
        assert_eq!(hits(-1.0), 0);
        assert_eq!(hits(1.0), 10_000);
        assert!((2_000..3_000).contains(&hits(0.25)));
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut random = Random::new(7);
        let drawn: std::collections::BTreeSet<u32> = (0..1_000).map(|_| random.between(3, 6)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
    }
}
