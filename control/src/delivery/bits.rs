//! A set of small numbers.

/// Grows to the largest number that it ever held.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    words: Vec<u64>,
    /// There is nothing in the words before this one.
    first_word: usize,
    count: usize,
}

impl Bits {
    pub fn has(&self, number: usize) -> bool {
        self.words.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// True = it was not in there.
    pub fn insert(&mut self, number: usize) -> bool {
        if self.words.len() <= number / 64 {
            self.words.resize(number / 64 + 1, 0);
        }
        let is_new = !self.has(number);
        self.first_word = if self.count == 0 { number / 64 } else { self.first_word.min(number / 64) };
        self.words[number / 64] |= 1 << (number % 64);
        self.count += usize::from(is_new);
        is_new
    }

    pub fn remove(&mut self, number: usize) {
        if self.has(number) {
            self.words[number / 64] &= !(1 << (number % 64));
            self.count -= 1;
        }
    }

    pub fn clear(&mut self) {
        self.words.clear();
        self.count = 0;
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The smallest number from `from` on.
    pub fn next(&self, from: usize) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let from = from.max(self.first_word * 64);
        let first = self.words.get(from / 64)? & (u64::MAX << (from % 64));
        if first != 0 {
            return Some(from / 64 * 64 + first.trailing_zeros() as usize);
        }
        let rest = self.words.iter().enumerate().skip(from / 64 + 1);
        let found = rest.into_iter().find(|(_, word)| **word != 0);
        found.map(|(index, word)| index * 64 + word.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(numbers in prop::collection::vec((0..300_usize, any::<bool>()), 0..200)) {
            let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
            for (number, is_in) in numbers {
                if is_in {
                    prop_assert_eq!(bits.insert(number), set.insert(number));
                } else {
                    bits.remove(number);
                    set.remove(&number);
                }
                prop_assert_eq!(bits.has(number), set.contains(&number));
            }
            let all = std::iter::successors(bits.next(0), |last| bits.next(last + 1));
            prop_assert_eq!(all.collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(bits.is_empty(), set.is_empty());
            prop_assert_eq!(bits.count(), set.len());
        }
    }
}
