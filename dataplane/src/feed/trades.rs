//! The last trades of an instrument, so that the one before can count again if the last is broken.

use crate::cache::tick::Trade;
use bytemuck::{Pod, Zeroable};

const TRADES_KEPT: usize = 4;

/// All zero = none.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Trades {
    /// The oldest first.
    trades: [Trade; TRADES_KEPT],
    kept: u64,
}

impl Trades {
    pub fn last(&self) -> Option<Trade> {
        self.kept().last().copied()
    }

    fn kept(&self) -> &[Trade] {
        &self.trades[..self.kept as usize]
    }

    #[inline(always)]
    pub fn record(&mut self, trade: Trade) {
        if self.kept as usize == TRADES_KEPT {
            self.trades.rotate_left(1);
        } else {
            self.kept += 1;
        }
        self.trades[self.kept as usize - 1] = trade;
    }

    /// Puts other terms in place of a trade's; true = it was the last one.
    pub fn correct(&mut self, trade: Trade) -> bool {
        let Some(at) = self.position(&trade) else { return false };
        self.trades[at] = trade;
        at + 1 == self.kept as usize
    }

    /// Forgets a broken trade; true = it was the last one.
    pub fn forget(&mut self, trade: Trade) -> bool {
        let Some(at) = self.position(&trade) else { return false };
        let was_last = at + 1 == self.kept as usize;
        self.trades[at..self.kept as usize].rotate_left(1);
        self.kept -= 1;
        was_last
    }

    /// By its number; one without is found by its terms, the latest first.
    fn position(&self, trade: &Trade) -> Option<usize> {
        self.kept().iter().rposition(|kept| match trade.trade_id {
            0 => (kept.price, kept.size) == (trade.price, trade.size),
            id => kept.trade_id == id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trade(trade_id: u64, price: i64) -> Trade {
        Trade { price, size: 1, trade_id }
    }

    #[test]
    fn breaking_trades_brings_back_the_ones_before_as_far_as_they_are_known() {
        let mut trades = Trades::zeroed();
        (1..=6).for_each(|id| trades.record(trade(id, 100 + id as i64)));
        assert!(!trades.forget(trade(5, 0)) && !trades.forget(trade(1, 0)));
        assert!(trades.forget(trade(6, 0)));
        assert_eq!(trades.last(), Some(trade(4, 104)));
        assert!(trades.forget(trade(4, 0)) && trades.forget(trade(3, 0)));
        assert_eq!(trades.last(), None);
        assert!(!trades.forget(trade(3, 0)));
    }

    #[test]
    fn a_correction_changes_its_own_trade() {
        let mut trades = Trades::zeroed();
        (1..=3).for_each(|id| trades.record(trade(id, 100)));
        assert!(!trades.correct(trade(2, 50)) && !trades.correct(trade(9, 50)));
        assert_eq!(trades.last(), Some(trade(3, 100)));
        assert!(trades.correct(trade(3, 70)));
        assert_eq!(trades.last(), Some(trade(3, 70)));
        assert!(trades.forget(trade(3, 0)));
        assert_eq!(trades.last(), Some(trade(2, 50)));
    }

    #[test]
    fn trades_without_numbers_are_known_by_their_terms() {
        let mut trades = Trades::zeroed();
        [10, 11, 10].iter().for_each(|price| trades.record(trade(0, *price)));
        assert!(trades.forget(trade(0, 10)));
        assert_eq!(trades.last(), Some(trade(0, 11)));
        assert!(!trades.forget(trade(0, 12)));
    }
}
