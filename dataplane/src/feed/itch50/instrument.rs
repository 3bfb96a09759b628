//! What is known of each of the feed's instruments, by stock locate.

use crate::book::Side;
use crate::book::levels::Best;
use crate::feed::trades::Trades;
use bytemuck::{Pod, Zeroable};

/// All zero = never heard of (in this session). Its first cache line is what every change of a quote needs.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Instrument {
    /// The region's own number of it, plus 1; 0 = it has none yet.
    row: u32,
    /// ITCH's letter; 0 = not told.
    pub trading_state: u8,
    pub reason: [u8; 4],
    reserved: [u8; 7],
    /// The best of each side, as it was published last, by [`Side`]; a side without orders has 0 shares.
    best: [Best; 2],
    reserved2: [u64; 2],
    pub trades: Trades,
    reserved3: [u64; 3],
}

const _: () = assert!(size_of::<Instrument>() == 192);

impl Instrument {
    #[inline(always)]
    pub fn row(&self) -> Option<u32> {
        self.row.checked_sub(1)
    }

    pub fn set_row(&mut self, row: Option<u32>) {
        self.row = row.map_or(0, |row| row + 1);
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
        self.row != 0
            || self.best != [Best::NONE; 2]
            || self.trades.last().is_some()
            || self.trading_state != 0
    }
}
