//! Random delays, repeatable by their seed.

/// xorshift64* (Vigna 2016): enough to keep hosts from speaking all at once.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Every seed but the generator's one fixed point, 0, is fine.
        Random(if seed == 0 { 0x9E37_79B9_7F4A_7C15 } else { seed })
    }

    /// A delay in (0, `max_ns`].
    pub(super) fn delay_ns(&mut self, max_ns: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        // The upper half of the 128-bit product scales the bits to the range.
        ((u128::from(bits) * u128::from(max_ns)) >> 64) as u64 + 1
    }
}
