//! The Internet checksum (RFC 1071): the complement of the one's complement sum of 16-bit words, which IPv4
//! headers, UDP and IGMP carry.

/// A one's complement sum in the making. Only its last piece may have an odd length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    #[inline]
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Sum {
        // 2^16 ≡ 1 (mod 2^16 − 1), so words of 32 bits may be summed and folded at the end. 64 bits overflow
        // only beyond 2^32 of them.
        let (words, rest) = bytes.as_chunks::<4>();
        let mut sum = self.0;
        for word in words {
            sum += u64::from(u32::from_be_bytes(*word));
        }
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        Sum(sum + u64::from(u32::from_be_bytes(last)))
    }

    #[inline]
    #[must_use]
    pub fn with_u16(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word))
    }

    /// The checksum to write, of bytes in which its own place is 0.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.folded()
    }

    /// Whether bytes that include their checksum are intact.
    #[inline]
    pub fn is_intact(self) -> bool {
        self.folded() == 0xFFFF
    }

    #[inline]
    fn folded(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xFFFF_FFFF);
        let sum = (sum >> 32) + (sum & 0xFFFF_FFFF);
        let sum = (sum >> 16) + (sum & 0xFFFF);
        let sum = (sum >> 16) + (sum & 0xFFFF);
        sum as u16
    }
}

/// Whether an IPv4 header without options is intact. The order of a word's bytes makes no difference to that.
#[inline(always)]
pub fn is_header_intact(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    Sum(words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum()).is_intact()
}

/// The checksum of `bytes`, in which its own place is 0.
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::default().with(bytes).checksum()
}

/// Whether `bytes`, which include their checksum, are intact.
#[inline]
pub fn is_intact(bytes: &[u8]) -> bool {
    Sum::default().with(bytes).is_intact()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Word by word with the carry added back each time, as RFC 1071 describes it.
    fn plain(bytes: &[u8]) -> u16 {
        bytes.chunks(2).fold(0u16, |sum, pair| {
            let word = u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
            let (sum, carried) = sum.overflowing_add(word);
            sum + u16::from(carried)
        })
    }

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    proptest! {
        #[test]
        fn equals_the_plain_sum(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(checksum(&bytes), !plain(&bytes));
        }

        #[test]
        fn what_carries_its_checksum_is_intact_until_a_word_changes(
            mut bytes in prop::collection::vec(any::<u8>(), 4..200),
            index: prop::sample::Index,
            change in 1..=255u8,
        ) {
            bytes[2..4].fill(0);
            let sum = checksum(&bytes);
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            prop_assert!(is_intact(&bytes));
            let index = index.index(bytes.len());
            bytes[index] ^= change;
            prop_assert!(!is_intact(&bytes));
        }
    }
}
