//! Orders by their reference: an open-addressed table that answers from one cache line as a rule.
//!
//! Three orders share a bucket of one line. An order whose bucket is full goes to a following one, and each bucket counts
//! the orders that had to pass it: a search goes on only as long as that count says there is something beyond.
//! So there are no tombstones, and the table is as fast after a day as in its first minute.

use super::{Full, Side};
use crate::hint::Prefetch;
use bytemuck::{Pod, Zeroable};

const SLOTS: usize = 3;
/// Buckets that an order may lie behind its own. References that collide on purpose meet this limit, not a
/// search without end.
const PROBES_MAX: usize = 64;
/// Set in each used slot's mark.
const USED: u32 = 1 << 31;
const ASK: u32 = 1 << 16;

/// One live order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// In the feed's own scale.
    pub price: u32,
    pub shares: u32,
    /// The feed's own number of the instrument (ITCH: stock locate).
    pub native_id: u16,
    pub side: Side,
}

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    references: [u64; SLOTS],
    prices: [u32; SLOTS],
    shares: [u32; SLOTS],
    /// [`USED`] | [`ASK`] | native id; 0 = free.
    marks: [u32; SLOTS],
    /// Orders that lie in a later bucket and would be here, or before here, had there been room.
    passed: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// The first slot for which something holds. All are looked at, and one decision is taken: which of them it is can't
    /// be guessed, and a wrong guess costs more than the look.
    #[inline(always)]
    fn slot(&self, holds: impl Fn(usize) -> bool) -> Option<usize> {
        let held = (0..SLOTS).fold(0_u32, |held, slot| held | u32::from(holds(slot)) << slot);
        (held != 0).then(|| held.trailing_zeros() as usize)
    }
}

/// Where an order was found. Good until the next insertion or removal.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    home: usize,
    probes: usize,
    slot: usize,
}

/// The table. All of its memory is taken at once, and touched as it fills.
#[derive(Debug)]
pub struct Orders {
    buckets: Box<[Bucket]>,
    shift: u32,
    live: usize,
    orders_max: usize,
}

impl Orders {
    /// For at most `orders_max` live orders: about 32 bytes for each, rounded up to a power of two.
    pub fn new(orders_max: usize) -> Orders {
        // At most three quarters of the slots are ever in use.
        let buckets = (orders_max * 4).div_ceil(SLOTS * 3).next_power_of_two().max(2);
        Orders {
            buckets: bytemuck::allocation::zeroed_slice_box(buckets),
            shift: 64 - buckets.trailing_zeros(),
            live: 0,
            orders_max,
        }
    }

    pub fn live(&self) -> usize {
        self.live
    }

    /// The memory, for whoever wants to advise the kernel about it.
    pub fn memory(&self) -> &[u8] {
        bytemuck::cast_slice(&self.buckets)
    }

    pub fn clear(&mut self) {
        if self.live != 0 {
            self.buckets.fill(Bucket::zeroed());
            self.live = 0;
        }
    }

    /// References are given out in ascending order: a multiplication spreads them over all buckets.
    #[inline(always)]
    fn home(&self, reference: u64) -> usize {
        (reference.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    #[inline(always)]
    fn after(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.buckets.len() - 1)
    }

    #[inline(always)]
    pub fn prefetch<F: Prefetch>(&self, reference: u64) {
        F::prefetch(&self.buckets[self.home(reference)]);
    }

    #[inline(always)]
    pub fn find(&self, reference: u64) -> Option<(Place, Order)> {
        let home = self.home(reference);
        let mut index = home;
        for probes in 0..=PROBES_MAX {
            let bucket = &self.buckets[index];
            if let Some(slot) =
                bucket.slot(|slot| (bucket.references[slot] == reference) & (bucket.marks[slot] != 0))
            {
                let mark = bucket.marks[slot];
                let order = Order {
                    price: bucket.prices[slot],
                    shares: bucket.shares[slot],
                    native_id: mark as u16,
                    side: if mark & ASK == 0 { Side::Bid } else { Side::Ask },
                };
                return Some((Place { home, probes, slot }, order));
            }
            if bucket.passed == 0 {
                return None;
            }
            index = self.after(index);
        }
        None
    }

    /// Adds an order whose reference is not in the table.
    #[inline(always)]
    pub fn insert(&mut self, reference: u64, order: Order) -> Result<(), Full> {
        if self.live == self.orders_max {
            return Err(Full);
        }
        let home = self.home(reference);
        let mut index = home;
        for probes in 0..=PROBES_MAX {
            let bucket = &mut self.buckets[index];
            if let Some(slot) = bucket.slot(|slot| bucket.marks[slot] == 0) {
                let side = if order.side == Side::Ask { ASK } else { 0 };
                bucket.references[slot] = reference;
                bucket.prices[slot] = order.price;
                bucket.shares[slot] = order.shares;
                bucket.marks[slot] = USED | side | u32::from(order.native_id);
                self.live += 1;
                self.pass(home, probes, |passed| passed + 1);
                return Ok(());
            }
            index = self.after(index);
        }
        Err(Full)
    }

    #[inline(always)]
    fn pass(&mut self, home: usize, probes: usize, change: fn(u32) -> u32) {
        let mut index = home;
        for _ in 0..probes {
            self.buckets[index].passed = change(self.buckets[index].passed);
            index = self.after(index);
        }
    }

    #[inline(always)]
    fn bucket(&mut self, place: Place) -> &mut Bucket {
        let index = (place.home + place.probes) & (self.buckets.len() - 1);
        &mut self.buckets[index]
    }

    #[inline(always)]
    pub fn set_shares(&mut self, place: Place, shares: u32) {
        self.bucket(place).shares[place.slot] = shares;
    }

    #[inline(always)]
    pub fn remove(&mut self, place: Place) {
        self.bucket(place).marks[place.slot] = 0;
        self.live -= 1;
        self.pass(place.home, place.probes, |passed| passed - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn order(shares: u32) -> Order {
        Order { price: shares ^ 77, shares, native_id: shares as u16, side: Side::Ask }
    }

    #[test]
    fn a_full_table_says_so_and_goes_on() {
        let mut orders = Orders::new(10);
        for reference in 0..10 {
            orders.insert(reference, order(reference as u32)).unwrap();
        }
        assert_eq!(orders.insert(10, order(1)), Err(Full));
        let (place, found) = orders.find(0).unwrap();
        assert_eq!(found, order(0));
        orders.remove(place);
        assert!(orders.find(0).is_none());
        orders.insert(10, order(1)).unwrap();
        assert_eq!(orders.live(), 10);
    }

    #[test]
    fn references_made_to_collide_meet_a_limit() {
        let mut orders = Orders::new(100_000);
        let colliding: Vec<u64> = (0..10_000_000).filter(|reference| orders.home(*reference) == 5).collect();
        let fits =
            colliding.iter().take_while(|reference| orders.insert(**reference, order(1)).is_ok()).count();
        assert!(colliding.len() < (PROBES_MAX + 1) * SLOTS || fits == (PROBES_MAX + 1) * SLOTS, "{fits}");
        for reference in &colliding[..fits] {
            let (place, _) = orders.find(*reference).unwrap();
            orders.remove(place);
        }
        assert_eq!(orders.live(), 0);
        assert!(orders.buckets.iter().all(|bucket| bucket.passed == 0));
    }

    proptest! {
        /// Few buckets and few references: everything collides all the time.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..60u64, 1..9u32, any::<bool>()), 0..400)) {
            let mut orders = Orders::new(40);
            let mut model = HashMap::new();
            for (reference, shares, remove) in steps {
                match orders.find(reference) {
                    Some((place, found)) => {
                        prop_assert_eq!(model.get(&reference), Some(&found));
                        if remove {
                            orders.remove(place);
                            model.remove(&reference);
                        } else {
                            orders.set_shares(place, shares);
                            model.get_mut(&reference).unwrap().shares = shares;
                        }
                    }
                    None => {
                        prop_assert!(!model.contains_key(&reference));
                        if orders.insert(reference, order(shares)).is_ok() {
                            model.insert(reference, order(shares));
                        } else {
                            prop_assert_eq!(model.len(), 40);
                        }
                    }
                }
                prop_assert_eq!(orders.live(), model.len());
            }
            for (reference, order) in &model {
                prop_assert_eq!(orders.find(*reference).map(|found| found.1), Some(*order));
            }
            orders.clear();
            prop_assert!(orders.find(1).is_none());
        }
    }
}
