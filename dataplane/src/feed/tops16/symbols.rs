//! The symbols of a feed: from the eight bytes on the wire to what is known of the instrument.
//!
//! Open-addressed by the bytes as one number, made for so many symbols and never grown: a look-up that finds
//! is one or two slots of 16 bytes.

use bytemuck::{Pod, Zeroable};

/// A symbol as it stands on the wire, as a number; 0 is none.
pub(super) type Word = u64;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Slot {
    /// 0 = free.
    word: Word,
    /// In the order in which they came.
    index: u32,
    /// The region's own number of the instrument.
    row: u32,
}

/// Every place is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SymbolsFull;

#[derive(Debug)]
pub(super) struct Symbols {
    /// A power of two, at least twice as many as symbols.
    slots: Box<[Slot]>,
    shift: u32,
    held: u32,
    held_max: u32,
}

impl Symbols {
    pub fn new(symbols_max: usize) -> Symbols {
        let slots = (2 * symbols_max).next_power_of_two().max(2);
        Symbols {
            slots: bytemuck::allocation::zeroed_slice_box(slots),
            shift: 64 - slots.trailing_zeros(),
            held: 0,
            held_max: symbols_max as u32,
        }
    }

    pub fn memory(&self) -> &[u8] {
        bytemuck::cast_slice(&self.slots)
    }

    pub fn clear(&mut self) {
        self.slots.fill(Slot::zeroed());
        self.held = 0;
    }

    /// The slot that holds the word, or the free one where it would be: half of them are free always.
    #[inline(always)]
    fn slot(&self, word: Word) -> usize {
        let mask = self.slots.len() - 1;
        // The golden ratio's multiplier: its upper bits depend on every byte of the word.
        let mut at = (word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize;
        while self.slots[at & mask].word != word && self.slots[at & mask].word != 0 {
            at += 1;
        }
        at & mask
    }

    /// Its place among the symbols, and its instrument's number in the region.
    #[inline(always)]
    pub fn find(&self, word: Word) -> Option<(usize, u32)> {
        let slot = &self.slots[self.slot(word)];
        (slot.word != 0).then_some((slot.index as usize, slot.row))
    }

    /// The instruments have other numbers in the region. One that has none any more is held no longer, but its place is taken.
    pub fn renumber(&mut self, row: impl Fn(u32) -> Option<u32>) {
        let slots = self.slots.clone();
        self.slots.fill(Slot::zeroed());
        for slot in slots.iter().filter(|slot| slot.word != 0) {
            if let Some(row) = row(slot.row) {
                self.slots[self.slot(slot.word)] = Slot { row, ..*slot };
            }
        }
    }

    pub fn len(&self) -> usize {
        self.held as usize
    }

    pub fn is_full(&self) -> bool {
        self.held == self.held_max
    }

    /// Adds a symbol that is not held, and gives it the next place.
    pub fn insert(&mut self, word: Word, row: u32) -> Result<usize, SymbolsFull> {
        assert_ne!(word, 0, "0 stands for a free slot");
        if self.is_full() {
            return Err(SymbolsFull);
        }
        let index = self.held;
        let slot = self.slot(word);
        self.slots[slot] = Slot { word, index, row };
        self.held += 1;
        Ok(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn all_symbols_are_found_until_it_is_full_and_none_after_it_was_cleared() {
        let word =
            |number: u64| u64::from_le_bytes(*format!("{number:<8}").as_bytes().first_chunk().unwrap());
        let mut symbols = Symbols::new(1_000);
        let mut model = HashMap::new();
        for number in 0..1_000 {
            assert_eq!(symbols.find(word(number)), None);
            assert_eq!(symbols.insert(word(number), number as u32 + 7), Ok(number as usize));
            model.insert(word(number), (number as usize, number as u32 + 7));
        }
        assert_eq!(symbols.insert(word(1_000), 0), Err(SymbolsFull));
        assert!(model.iter().all(|(word, held)| symbols.find(*word) == Some(*held)));
        assert_eq!(symbols.find(word(1_000)), None);
        symbols.clear();
        assert!(model.keys().all(|word| symbols.find(*word).is_none()));
        assert_eq!(symbols.insert(word(5), 1), Ok(0));
    }

    #[test]
    fn instruments_keep_their_places_when_they_are_numbered_anew() {
        let mut symbols = Symbols::new(8);
        for word in 1..=8 {
            assert_eq!(symbols.insert(word, word as u32), Ok(word as usize - 1));
        }
        symbols.renumber(|row| (row != 3).then_some(row + 100));
        for word in (1..=8).filter(|word| *word != 3) {
            assert_eq!(symbols.find(word), Some((word as usize - 1, word as u32 + 100)));
        }
        assert_eq!((symbols.find(3), symbols.insert(3, 0)), (None, Err(SymbolsFull)));
    }

    #[test]
    fn the_smallest_table_works() {
        let mut symbols = Symbols::new(1);
        assert_eq!((symbols.find(1), symbols.insert(1, 9)), (None, Ok(0)));
        assert_eq!((symbols.find(1), symbols.find(2)), (Some((0, 9)), None));
        let mut none = Symbols::new(0);
        assert_eq!((none.find(1), none.insert(1, 9)), (None, Err(SymbolsFull)));
    }
}
