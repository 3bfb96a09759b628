//! The cell: one cache line that one writer stores and many readers load, without a lock and without a tear.
//!
//! A sequence lock of atomics: a plain or volatile copy would be a data race in Rust's memory model
//! (rust-lang/rfcs#3301). The version says which position the cell holds, so that log and table agree.

use super::tick::Tick;
use crate::sync::{AtomicU64, Ordering, fence, load_acquire};

/// Version word and seven words of data. The version of a tick at `position` is `2 * (position + 1)`, one
/// less while it is being written; 0 = never written.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Cell {
    version: AtomicU64,
    words: [AtomicU64; 7],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Cell>() == 64 && align_of::<Cell>() == 64);

/// How often a reader tries again before it gives a cell up as torn: a store takes a few nanoseconds, so only
/// a writer that died in the middle of one lasts that long.
const LOAD_TRIES_MAX: usize = if cfg!(loom) { 3 } else { 1 << 14 };

/// What a reader found in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Never written.
    Empty,
    /// Being written, still after many tries: its writer is gone.
    Torn,
    Held {
        position: u64,
        tick: Tick,
    },
}

impl Load {
    #[inline]
    pub fn held(self) -> Option<(u64, Tick)> {
        match self {
            Load::Held { position, tick } => Some((position, tick)),
            Load::Empty | Load::Torn => None,
        }
    }
}

/// The version of a cell that holds the tick of `position`.
#[inline(always)]
fn version(position: u64) -> u64 {
    position.wrapping_add(1).wrapping_mul(2)
}

impl Cell {
    /// The eight words of a cell that holds the tick of `position`, for whoever carries cells to other memory.
    pub fn words(position: u64, tick: &Tick) -> [u64; 8] {
        let [a, b, c, d, e, f, g] = bytemuck::cast(*tick);
        [version(position), a, b, c, d, e, f, g]
    }

    /// Stores the tick of `position`. Only the one writer of the cell's section may call this.
    #[inline(always)]
    pub fn store(&self, position: u64, tick: &Tick) {
        self.store_words(position, bytemuck::cast_ref(tick));
    }

    #[inline(always)]
    pub(super) fn store_words(&self, position: u64, words: &[u64; 7]) {
        let version = version(position);
        self.version.store(version.wrapping_sub(1), Ordering::Relaxed);
        // The odd version must be seen by whoever sees any of the new words.
        fence(Ordering::Release);
        for (to, from) in self.words.iter().zip(words) {
            to.store(*from, Ordering::Relaxed);
        }
        self.version.store(version, Ordering::Release);
    }

    /// Makes it a cell that was never written.
    pub(super) fn clear(&self) {
        // Reading does not take the memory of a cell that was never used; writing would.
        if self.version.load(Ordering::Relaxed) != 0 {
            self.version.store(1, Ordering::Relaxed);
            fence(Ordering::Release);
            self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            self.version.store(0, Ordering::Release);
        }
    }

    /// One try: the words and the version that they belong to, or `None` if a store came between.
    #[inline(always)]
    pub(super) fn try_load_words(&self) -> Option<(u64, [u64; 7])> {
        let version = load_acquire(&self.version);
        if version & 1 == 1 {
            return None;
        }
        let words = std::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
        // The second look at the version must not come before the words.
        fence(Ordering::Acquire);
        (self.version.load(Ordering::Relaxed) == version).then_some((version, words))
    }

    #[inline]
    pub fn load(&self) -> Load {
        for _ in 0..LOAD_TRIES_MAX {
            match self.try_load_words() {
                Some((0, _)) => return Load::Empty,
                Some((version, words)) => {
                    return Load::Held { position: version / 2 - 1, tick: bytemuck::cast(words) };
                }
                None => crate::sync::spin_loop(),
            }
        }
        Load::Torn
    }

    /// Loads the tick only if it is that of `position`: `None` once the ring has gone past it.
    #[inline]
    pub fn load_at(&self, position: u64) -> Option<Tick> {
        let (found, words) = self.try_load_words()?;
        (found == version(position)).then(|| bytemuck::cast(words))
    }

    /// One of the eight words, for sections that are plain words and not ticks (header, directory).
    #[inline(always)]
    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        if index == 0 { &self.version } else { &self.words[index - 1] }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_cell_tells_empty_from_position_zero() {
        let cell = Cell::default();
        assert_eq!(cell.load(), Load::Empty);
        assert_eq!(cell.load_at(0), None);
        let tick = Tick { sequence: 9, ..Tick::default() };
        cell.store(0, &tick);
        let words: [u64; 8] = std::array::from_fn(|index| cell.word(index).load(Ordering::Relaxed));
        assert_eq!(words, Cell::words(0, &tick));
        assert_eq!(cell.load().held(), Some((0, tick)));
        assert_eq!(cell.load_at(0), Some(tick));
        assert_eq!(cell.load_at(1), None);
    }

    #[test]
    fn a_writer_that_died_in_a_store_leaves_a_torn_cell() {
        let cell = Cell::default();
        cell.version.store(7, Ordering::Relaxed);
        assert_eq!(cell.load(), Load::Torn);
    }
}
