//! The exchange's own book of one instrument: plain maps, no care for speed. It is what the cache is
//! compared with, so it shares nothing with the book of the dataplane.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Buy,
    Sell,
}

impl Side {
    pub fn opposite(self) -> Side {
        match self {
            Side::Buy => Side::Sell,
            Side::Sell => Side::Buy,
        }
    }

    /// The side's letter in ITCH.
    pub fn letter(self) -> u8 {
        match self {
            Side::Buy => b'B',
            Side::Sell => b'S',
        }
    }
}

/// All orders of one price. References grow with time, so their order is the orders' priority.
#[derive(Clone, Debug, Default)]
struct Level {
    shares: u64,
    references: BTreeSet<u64>,
}

/// Price (4 decimals) and shares of one side's best level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Best {
    pub price_e4: u32,
    pub shares: u64,
}

/// The best levels of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Top {
    pub bid: Option<Best>,
    pub ask: Option<Best>,
}

#[derive(Clone, Debug, Default)]
pub struct Book {
    bids: BTreeMap<u32, Level>,
    asks: BTreeMap<u32, Level>,
}

impl Book {
    fn side(&self, side: Side) -> &BTreeMap<u32, Level> {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut BTreeMap<u32, Level> {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    fn best_level(&self, side: Side) -> Option<(&u32, &Level)> {
        match side {
            Side::Buy => self.bids.last_key_value(),
            Side::Sell => self.asks.first_key_value(),
        }
    }

    pub fn best(&self, side: Side) -> Option<Best> {
        self.best_level(side).map(|(price, level)| Best { price_e4: *price, shares: level.shares })
    }

    pub fn top(&self) -> Top {
        Top { bid: self.best(Side::Buy), ask: self.best(Side::Sell) }
    }

    /// The order that is executed next: the oldest of the best level.
    pub fn first_in_line(&self, side: Side) -> Option<u64> {
        self.best_level(side).and_then(|(_, level)| level.references.first().copied())
    }

    pub fn add(&mut self, side: Side, price_e4: u32, reference: u64, shares: u32) {
        let level = self.side_mut(side).entry(price_e4).or_default();
        level.shares += u64::from(shares);
        assert!(level.references.insert(reference), "order {reference} is already there");
    }

    /// Takes shares off an order, and the order off the book if `gone`.
    pub fn reduce(&mut self, side: Side, price_e4: u32, reference: u64, shares: u32, gone: bool) {
        let levels = self.side_mut(side);
        let level = levels.get_mut(&price_e4).expect("a resting order has a level");
        level.shares = level.shares.checked_sub(u64::from(shares)).expect("a level holds its orders' shares");
        if gone {
            assert!(level.references.remove(&reference), "order {reference} is not there");
        }
        if level.references.is_empty() {
            assert_eq!(level.shares, 0, "a level without orders has no shares");
            levels.remove(&price_e4);
        }
    }

    pub fn is_crossed(&self) -> bool {
        let top = self.top();
        top.bid.zip(top.ask).is_some_and(|(bid, ask)| bid.price_e4 >= ask.price_e4)
    }

    pub fn levels(&self, side: Side) -> usize {
        self.side(side).len()
    }
}
