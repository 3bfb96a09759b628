//! What is known of each of the feed's instruments, by stock locate.

use crate::book::Side;
use crate::book::levels::Best;
use bytemuck::{Pod, Zeroable};

/// Trades that are remembered, so that the one before can count again if the last is broken.
const TRADES_KEPT: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LastTrade {
    pub trade_id: u64,
    pub size: u64,
    pub price: u32,
    pub reserved: u32,
}

/// All zero = never heard of (in this session). Its first cache line is what every change of a quote needs.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Instrument {
    /// The region's own number of it, plus 1; 0 = it has none yet.
    row: u32,
    /// Trades in `trades`.
    trades_kept: u8,
    /// ITCH's letter; 0 = not told.
    pub trading_state: u8,
    pub reason: [u8; 4],
    reserved: [u8; 6],
    /// The best of each side, as it was published last, by [`Side`]; a side without orders has 0 shares.
    best: [Best; 2],
    reserved2: [u64; 2],
    /// The oldest first.
    trades: [LastTrade; TRADES_KEPT],
    reserved3: [u64; 4],
}

const _: () = assert!(size_of::<Instrument>() == 192);

impl Instrument {
    #[inline(always)]
    pub fn row(&self) -> Option<u32> {
        self.row.checked_sub(1)
    }

    pub fn set_row(&mut self, row: u32) {
        self.row = row + 1;
    }

    /// The best of both sides, as published last.
    #[inline(always)]
    pub fn best(&self) -> [Best; 2] {
        self.best
    }

    /// Takes the best of a side; true = it is another than before.
    #[inline(always)]
    pub fn set_best(&mut self, side: Side, best: Best) -> bool {
        let held = &mut self.best[side as usize];
        let differs = *held != best;
        *held = best;
        differs
    }

    /// Whether anything is known of it.
    pub fn is_known(&self) -> bool {
        self.row != 0 || self.best != [Best::NONE; 2] || self.trades_kept != 0 || self.trading_state != 0
    }

    pub fn last_trade(&self) -> Option<LastTrade> {
        usize::from(self.trades_kept).checked_sub(1).map(|last| self.trades[last])
    }

    #[inline(always)]
    pub fn record_trade(&mut self, trade: LastTrade) {
        let kept = usize::from(self.trades_kept);
        if kept == TRADES_KEPT {
            self.trades.rotate_left(1);
            self.trades[TRADES_KEPT - 1] = trade;
        } else {
            self.trades[kept] = trade;
            self.trades_kept += 1;
        }
    }

    /// Forgets a broken trade; true = it was the last one.
    pub fn break_trade(&mut self, trade_id: u64) -> bool {
        let kept = usize::from(self.trades_kept);
        let Some(at) = self.trades[..kept].iter().position(|trade| trade.trade_id == trade_id) else {
            return false;
        };
        self.trades[at..kept].rotate_left(1);
        self.trades_kept -= 1;
        at + 1 == kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaking_trades_brings_back_the_ones_before_as_far_as_they_are_known() {
        let mut instrument = Instrument::zeroed();
        for trade_id in 1..=6 {
            instrument.record_trade(LastTrade { trade_id, size: 1, price: 1, reserved: 0 });
        }
        let last = |instrument: &Instrument| instrument.last_trade().map(|trade| trade.trade_id);
        assert!(!instrument.break_trade(5) && !instrument.break_trade(1));
        assert!(instrument.break_trade(6));
        assert_eq!(last(&instrument), Some(4));
        assert!(instrument.break_trade(4) && instrument.break_trade(3));
        assert_eq!(last(&instrument), None);
        assert!(!instrument.break_trade(3));
    }
}
