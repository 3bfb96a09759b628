//! What the channel knows of one contract: plain lists of levels, in the order of the exchange's.

use crate::sim::random::Random;
use crate::wire::mdp3::{entry_type, update_action};

/// Trades of which a contract remembers the terms, for the case that the last one is broken.
const TRADES_KEPT: usize = 4;
/// The distance of neighbouring prices, 10⁻⁹.
const TICK: i64 = 2_500_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// 10⁻⁹, whole 10⁻⁷.
    pub price: i64,
    pub size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    pub trade_id: u32,
    pub price: i64,
    pub size: u32,
}

#[derive(Clone, Debug)]
pub struct Contract {
    pub security_id: i32,
    /// Padded with NUL.
    pub symbol: [u8; 20],
    pub group: [u8; 6],
    pub asset: [u8; 6],
    /// Levels a side of the direct book and of the implied one.
    pub depths: [u8; 2],
    pub rpt_seq: u32,
    /// The exchange's number; 0 = not told yet.
    pub trading_status: u8,
    /// Bids, offers, implied bids, implied offers; the best first.
    pub sides: [Vec<Level>; 4],
    /// The oldest first.
    trades: Vec<Trade>,
    mid: i64,
}

/// What an entry says of a book.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub action: u8,
    pub level: u8,
    pub entry_type: u8,
    /// `None` = null on the wire.
    pub told: Option<Level>,
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

impl Contract {
    pub(super) fn new(index: usize, group: usize, random: &mut Random) -> Contract {
        let number = (index as u32 + 1).wrapping_mul(0x9E37_79B1);
        Contract {
            security_id: number as i32,
            symbol: padded(&format!("SIM{index}")),
            group: padded(&format!("G{}", index / group)),
            asset: padded(&format!("A{}", index % 2)),
            depths: [*[10, 5, 3, 10].get(index % 4).unwrap_or(&10), 2],
            rpt_seq: 0,
            trading_status: 0,
            sides: Default::default(),
            trades: Vec::new(),
            mid: TICK * i64::from(random.between(0, 2_000_000)) - TICK * 200_000,
        }
    }

    pub fn last_trade(&self) -> Option<Trade> {
        self.trades.last().copied()
    }

    /// The channel was reset.
    pub(super) fn reset(&mut self) {
        self.sides.iter_mut().for_each(Vec::clear);
        self.rpt_seq = 0;
    }

    /// Changes a side at random. `plain`: only the direct book, only by new, change and delete.
    pub(super) fn change(&mut self, random: &mut Random, plain: bool) -> Change {
        let side = random.below(2) as usize + if !plain && random.percent(25) { 2 } else { 0 };
        let depth = usize::from(self.depths[side / 2]);
        let count = self.sides[side].len();
        let kind =
            [entry_type::BID, entry_type::OFFER, entry_type::IMPLIED_BID, entry_type::IMPLIED_OFFER][side];
        let change =
            |action, level: usize, told| Change { action, level: level as u8, entry_type: kind, told };
        let drawn = random.below(if plain { 90 } else { 100 });
        if !plain && random.percent(3) {
            // Behind the last level: of no concern to anybody.
            let action = random.below(3) as u8;
            let told = Level { price: self.mid, size: 1 };
            return change(action, random.between(depth as u32 + 1, 255) as usize, Some(told));
        }
        if count == 0 || drawn < 40 {
            let at = random.below((count + 1).min(depth) as u64) as usize;
            let level = Level { price: self.price(side, at, random), size: random.between(1, 500) };
            self.sides[side].insert(at, level);
            self.sides[side].truncate(depth);
            return change(update_action::NEW, at + 1, Some(level));
        }
        let at = random.below(count as u64) as usize;
        let levels = &mut self.sides[side];
        match drawn {
            40..68 => {
                levels[at].size = random.between(1, 500);
                change(update_action::CHANGE, at + 1, Some(levels[at]))
            }
            68..90 => {
                let gone = levels.remove(at);
                change(update_action::DELETE, at + 1, random.percent(50).then_some(gone))
            }
            90..96 => {
                let level = Level { price: self.price(side, at, random), size: random.between(1, 500) };
                self.sides[side][at] = level;
                change(update_action::OVERLAY, at + 1, Some(level))
            }
            96..98 => {
                levels.drain(..=at);
                change(update_action::DELETE_FROM, at + 1, None)
            }
            98 => {
                levels.clear();
                change(update_action::DELETE_THRU, 1, None)
            }
            _ => {
                self.sides.iter_mut().for_each(Vec::clear);
                Change {
                    action: update_action::NEW,
                    level: 0,
                    entry_type: entry_type::BOOK_RESET,
                    told: None,
                }
            }
        }
    }

    /// A price for a level at that place, next to those that are there.
    fn price(&self, side: usize, at: usize, random: &mut Random) -> i64 {
        let levels = &self.sides[side];
        let worse = if side.is_multiple_of(2) { -TICK } else { TICK };
        let steps = i64::from(random.between(1, 4));
        match (at.checked_sub(1).map(|better| levels[better].price), levels.get(at)) {
            (None, None) => self.mid + worse * steps,
            (None, Some(behind)) => behind.price - worse * (steps - 2).max(1),
            (Some(better), _) => better + worse * steps,
        }
    }

    /// Trades, corrects or breaks.
    pub(super) fn trade(&mut self, trade_id: u32, random: &mut Random) -> (Trade, u8) {
        let price = self.mid + TICK * (i64::from(random.between(0, 200)) - 100);
        let trade = Trade { trade_id, price, size: random.between(1, 900) };
        let drawn = random.below(100);
        if self.trades.is_empty() || drawn < 80 {
            self.trades.push(trade);
            if self.trades.len() > TRADES_KEPT {
                self.trades.remove(0);
            }
            return (trade, update_action::NEW);
        }
        let at = random.below(self.trades.len() as u64) as usize;
        if drawn < 90 {
            self.trades[at] = Trade { trade_id: self.trades[at].trade_id, ..trade };
            return (self.trades[at], update_action::CHANGE);
        }
        (self.trades.remove(at), update_action::DELETE)
    }
}
