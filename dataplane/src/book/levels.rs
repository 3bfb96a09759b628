//! Levels: the shares at each price of each side, best first.
//!
//! A side is a chain of chunks, each a sorted array of up to twenty levels. Its first chunk has a fixed place, so
//! that it can be asked for ahead of its use; nearly all that happens, happens there. A key orders prices so that
//! the better one is the larger, and an unused place is 0: the search compares a whole chunk without a branch.

use super::{Full, Side};
use crate::hint::Prefetch;
use bytemuck::{Pod, Zeroable};

const CHUNK_LEVELS: usize = 20;
/// Two neighbours with no more levels than this together become one.
const MERGE_LEVELS: u32 = 14;
/// ITCH's stock locate has 16 bits.
const NATIVE_IDS: usize = 1 << 16;

/// Prices up to this can be stored, in the feed's own scale. (ITCH's highest is 1,999,999,900.)
pub const PRICE_MAX: u32 = i32::MAX as u32;

/// Four cache lines: the first two hold all keys and the best five levels' shares.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Chunk {
    levels: u32,
    /// The chunk with the next worse levels; 0 = none (chunk 0 is a first one and never a next one).
    next: u32,
    keys: [i32; CHUNK_LEVELS],
    shares: [u64; CHUNK_LEVELS],
    reserved: u64,
}

const _: () = assert!(size_of::<Chunk>() == 256);

/// The best of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Best {
    /// 0 = the side is empty.
    pub shares: u64,
    pub price: u32,
    pub reserved: u32,
}

impl Best {
    pub const NONE: Best = Best { shares: 0, price: 0, reserved: 0 };
}

/// The books of all instruments of a feed.
#[derive(Debug)]
pub struct Levels {
    /// The first chunks, two for each instrument, then those that are shared.
    chunks: Box<[Chunk]>,
    /// Shared chunks that were used before, chained by `next`; 0 = none.
    free: u32,
    /// The first shared chunk that was never used.
    fresh: u32,
}

#[inline(always)]
fn key(side: Side, price: u32) -> i32 {
    debug_assert!(price <= PRICE_MAX);
    match side {
        Side::Bid => price as i32,
        Side::Ask => i32::MAX - price as i32,
    }
}

#[inline(always)]
fn level(side: Side, key: i32, shares: u64) -> Best {
    let price = if side == Side::Bid { key } else { i32::MAX - key };
    Best { shares, price: price as u32, reserved: 0 }
}

#[inline(always)]
fn first_chunk(native_id: u16, side: Side) -> usize {
    usize::from(native_id) * 2 + side as usize
}

impl Chunk {
    /// How many levels are better than `key`: they come first.
    #[inline(always)]
    fn better(&self, key: i32) -> usize {
        self.keys.iter().map(|held| i32::from(*held > key)).sum::<i32>() as usize
    }

    #[inline(always)]
    fn holds(&self, at: usize, key: i32) -> bool {
        at < self.levels as usize && self.keys[at] == key
    }

    #[inline(always)]
    fn worst(&self) -> i32 {
        self.keys[(self.levels as usize).saturating_sub(1)]
    }

    #[inline(always)]
    fn open(&mut self, at: usize, key: i32, shares: u64) {
        let levels = self.levels as usize;
        for to in (at + 1..levels + 1).rev() {
            self.keys[to] = self.keys[to - 1];
            self.shares[to] = self.shares[to - 1];
        }
        self.keys[at] = key;
        self.shares[at] = shares;
        self.levels += 1;
    }

    #[inline(always)]
    fn close(&mut self, at: usize) {
        let levels = self.levels as usize;
        for to in at..levels - 1 {
            self.keys[to] = self.keys[to + 1];
            self.shares[to] = self.shares[to + 1];
        }
        self.keys[levels - 1] = 0;
        self.levels -= 1;
    }
}

impl Levels {
    /// For books with at most `orders_max` orders, and so at most as many levels, together.
    pub fn new(orders_max: usize) -> Levels {
        let chunks = NATIVE_IDS * 2 + orders_max / 4 + 16;
        Levels {
            chunks: bytemuck::allocation::zeroed_slice_box(chunks),
            free: 0,
            fresh: NATIVE_IDS as u32 * 2,
        }
    }

    /// The memory, for whoever wants to advise the kernel about it.
    pub fn memory(&self) -> &[u8] {
        bytemuck::cast_slice(&self.chunks)
    }

    pub fn clear(&mut self) {
        for chunk in &mut self.chunks[..NATIVE_IDS * 2] {
            // Reading does not take the memory of a book that was never used; writing would.
            if chunk.levels != 0 {
                *chunk = Chunk::zeroed();
            }
        }
        self.chunks[NATIVE_IDS * 2..self.fresh as usize].fill(Chunk::zeroed());
        (self.free, self.fresh) = (0, NATIVE_IDS as u32 * 2);
    }

    #[inline(always)]
    pub fn best(&self, native_id: u16, side: Side) -> Best {
        let chunk = &self.chunks[first_chunk(native_id, side)];
        if chunk.levels == 0 { Best::NONE } else { level(side, chunk.keys[0], chunk.shares[0]) }
    }

    /// Asks for the best levels of both sides.
    #[inline(always)]
    pub fn prefetch<F: Prefetch>(&self, native_id: u16) {
        let first = first_chunk(native_id, Side::Bid);
        for chunk in &self.chunks[first..first + 2] {
            F::prefetch(&chunk.levels);
            F::prefetch(&chunk.shares[0]);
            F::prefetch(&chunk.shares[5]);
        }
    }

    /// Adds shares at a price.
    #[inline(always)]
    pub fn add(&mut self, native_id: u16, side: Side, price: u32, shares: u32) -> Result<(), Full> {
        let key = key(side, price);
        let mut index = first_chunk(native_id, side);
        loop {
            let chunk = &mut self.chunks[index];
            if key < chunk.worst() && chunk.next != 0 {
                index = chunk.next as usize;
                continue;
            }
            let at = chunk.better(key);
            if chunk.holds(at, key) {
                chunk.shares[at] += u64::from(shares);
            } else if chunk.levels < CHUNK_LEVELS as u32 {
                chunk.open(at, key, u64::from(shares));
            } else {
                let (index, at) = self.split(index, at)?;
                self.chunks[index].open(at, key, u64::from(shares));
            }
            return Ok(());
        }
    }

    /// Takes shares from a price; false = there are not so many there, and nothing was taken.
    #[inline(always)]
    pub fn reduce(&mut self, native_id: u16, side: Side, price: u32, shares: u32) -> bool {
        let key = key(side, price);
        let mut index = first_chunk(native_id, side);
        loop {
            let chunk = &mut self.chunks[index];
            if key < chunk.worst() && chunk.next != 0 {
                index = chunk.next as usize;
                continue;
            }
            let at = chunk.better(key);
            if !chunk.holds(at, key) {
                return false;
            }
            let Some(left) = chunk.shares[at].checked_sub(u64::from(shares)) else { return false };
            if left != 0 {
                chunk.shares[at] = left;
                return true;
            }
            chunk.close(at);
            if chunk.next != 0 && chunk.levels <= MERGE_LEVELS {
                self.merge(index);
            }
            return true;
        }
    }

    /// Moves the worse half of a full chunk into a new one behind it, and says where `at` has gone.
    #[cold]
    fn split(&mut self, index: usize, at: usize) -> Result<(usize, usize), Full> {
        const HALF: usize = CHUNK_LEVELS / 2;
        let behind = self.take()?;
        let mut new = Chunk::zeroed();
        let chunk = &mut self.chunks[index];
        new.keys[..HALF].copy_from_slice(&chunk.keys[HALF..]);
        new.shares[..HALF].copy_from_slice(&chunk.shares[HALF..]);
        (new.levels, new.next) = (HALF as u32, chunk.next);
        chunk.keys[HALF..].fill(0);
        (chunk.levels, chunk.next) = (HALF as u32, behind as u32);
        self.chunks[behind] = new;
        Ok(if at <= HALF { (index, at) } else { (behind, at - HALF) })
    }

    /// Takes the next chunk's levels into this one, if they are few or this one has none.
    #[cold]
    fn merge(&mut self, index: usize) {
        let behind = self.chunks[index].next as usize;
        let next = self.chunks[behind];
        let chunk = &mut self.chunks[index];
        if chunk.levels != 0 && chunk.levels + next.levels > MERGE_LEVELS {
            return;
        }
        let (start, count) = (chunk.levels as usize, next.levels as usize);
        chunk.keys[start..start + count].copy_from_slice(&next.keys[..count]);
        chunk.shares[start..start + count].copy_from_slice(&next.shares[..count]);
        (chunk.levels, chunk.next) = (chunk.levels + next.levels, next.next);
        self.chunks[behind] = Chunk { next: self.free, ..Chunk::zeroed() };
        self.free = behind as u32;
    }

    fn take(&mut self) -> Result<usize, Full> {
        if self.free != 0 {
            let index = self.free as usize;
            self.free = self.chunks[index].next;
            return Ok(index);
        }
        if self.fresh as usize == self.chunks.len() {
            return Err(Full);
        }
        self.fresh += 1;
        Ok(self.fresh as usize - 1)
    }

    /// All levels of a side, best first.
    pub fn side(&self, native_id: u16, side: Side) -> impl Iterator<Item = Best> + '_ {
        let mut at = Some((first_chunk(native_id, side), 0));
        std::iter::from_fn(move || {
            let (index, level) = at?;
            let chunk = &self.chunks[index];
            let key = (level < chunk.levels as usize).then(|| chunk.keys[level])?;
            at = match (level + 1 < chunk.levels as usize, chunk.next) {
                (true, _) => Some((index, level + 1)),
                (false, 0) => None,
                (false, next) => Some((next as usize, 0)),
            };
            Some(self::level(side, key, chunk.shares[level]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_ends_of_the_range_are_prices_too() {
        let mut levels = Levels::new(10);
        for side in [Side::Bid, Side::Ask] {
            for price in [0, PRICE_MAX, 1] {
                levels.add(3, side, price, 5).unwrap();
            }
        }
        let best = |price| Best { price, shares: 5, reserved: 0 };
        assert_eq!((levels.best(3, Side::Bid), levels.best(3, Side::Ask)), (best(PRICE_MAX), best(0)));
        assert_eq!(levels.best(4, Side::Bid), Best::NONE);
        for price in [PRICE_MAX, 0] {
            assert!(levels.reduce(3, Side::Bid, price, 5) && levels.reduce(3, Side::Ask, price, 5));
        }
        assert_eq!((levels.best(3, Side::Bid), levels.best(3, Side::Ask)), (best(1), best(1)));
        assert!(!levels.reduce(3, Side::Bid, 0, 1));
    }

    #[test]
    fn a_level_holds_more_than_32_bits_of_shares() {
        let mut levels = Levels::new(10);
        for _ in 0..3 {
            levels.add(1, Side::Bid, 100, u32::MAX).unwrap();
        }
        assert_eq!(levels.best(1, Side::Bid).shares, 3 * u64::from(u32::MAX));
    }

    #[test]
    fn chunks_end_and_come_back() {
        let mut levels = Levels::new(0);
        let taken = (0..1_000).take_while(|price| levels.add(1, Side::Bid, *price, 1).is_ok()).count() as u32;
        assert!((100..1_000).contains(&taken), "{taken}");
        assert_eq!(levels.side(1, Side::Bid).count(), taken as usize);
        for price in 0..taken {
            assert!(levels.reduce(1, Side::Bid, price, 1));
        }
        assert_eq!(levels.best(1, Side::Bid), Best::NONE);
        let again = (0..1_000).take_while(|price| levels.add(2, Side::Ask, 1_000 - price, 1).is_ok()).count();
        assert_eq!(again as u32, taken);
        levels.clear();
        assert_eq!(levels.best(2, Side::Ask), Best::NONE);
    }

    proptest! {
        #[test]
        fn sides_are_sorted_maps(
            steps in prop::collection::vec((any::<bool>(), 0..90u32, 1..5u32, any::<bool>()), 0..1_500),
        ) {
            let mut levels = Levels::new(400);
            let mut model = [BTreeMap::new(), BTreeMap::new()];
            for (bid, price, shares, add) in steps {
                let side = if bid { Side::Bid } else { Side::Ask };
                let held = model[side as usize].entry(price).or_insert(0u64);
                if add {
                    levels.add(7, side, price, shares).unwrap();
                    *held += u64::from(shares);
                } else {
                    let there = *held >= u64::from(shares);
                    prop_assert_eq!(levels.reduce(7, side, price, shares), there);
                    *held -= if there { u64::from(shares) } else { 0 };
                }
                model[side as usize].retain(|_, shares| *shares != 0);
                let best = |price: &u32, shares: &u64| Best { price: *price, shares: *shares, reserved: 0 };
                let bids: Vec<Best> = model[0].iter().rev().map(|(price, shares)| best(price, shares)).collect();
                let asks: Vec<Best> = model[1].iter().map(|(price, shares)| best(price, shares)).collect();
                prop_assert_eq!(levels.best(7, Side::Bid), bids.first().copied().unwrap_or(Best::NONE));
                prop_assert_eq!(levels.side(7, Side::Bid).collect::<Vec<_>>(), bids);
                prop_assert_eq!(levels.side(7, Side::Ask).collect::<Vec<_>>(), asks);
            }
        }
    }
}
