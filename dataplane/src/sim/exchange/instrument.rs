//! What the exchange knows of one instrument.

use super::book::{Book, Top};
use std::collections::VecDeque;

/// Trades of which an instrument remembers price and size, for the case that the last one is broken.
const TRADES_KEPT: usize = 4;
/// Trades of which it remembers the number, so that they can be broken.
const MATCHES_KEPT: usize = 8;

/// A trade that counts as a last trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    pub price_e4: u32,
    pub shares: u64,
    pub match_number: u64,
}

/// When a row last changed: the number and the stamp of the message that changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub sequence: u64,
    /// Since midnight of the exchange's day.
    pub time_ns: u64,
}

#[derive(Clone, Debug)]
pub struct Instrument {
    pub symbol: [u8; 8],
    /// True once the definition has been sent: only then the world can know the instrument.
    pub defined: bool,
    /// The price that orders gather around.
    pub mid_e4: u32,
    /// The distance of neighbouring prices.
    pub increment_e4: u32,
    pub book: Book,
    /// References of all resting orders, in no order, to choose one of.
    pub resting: Vec<u64>,
    /// H halted, P paused, Q quotation only, T trading; 0 = not told yet.
    pub trading_state: u8,
    pub reason: [u8; 4],
    top: Top,
    trades: VecDeque<Trade>,
    matches: VecDeque<u64>,
    pub change: Option<Change>,
}

impl Instrument {
    pub fn new(symbol: [u8; 8], mid_e4: u32) -> Instrument {
        Instrument {
            symbol,
            defined: false,
            mid_e4,
            // Rule 612 of Regulation NMS: whole cents, finer below one dollar.
            increment_e4: if mid_e4 < 10_000 { 1 } else { 100 },
            book: Book::default(),
            resting: Vec::new(),
            trading_state: 0,
            reason: *b"    ",
            top: Top::default(),
            trades: VecDeque::with_capacity(TRADES_KEPT),
            matches: VecDeque::with_capacity(MATCHES_KEPT),
            change: None,
        }
    }

    pub fn name(&self) -> &[u8] {
        self.symbol.trim_ascii_end()
    }

    pub fn is_trading(&self) -> bool {
        self.trading_state == b'T'
    }

    pub fn top(&self) -> Top {
        self.top
    }

    pub fn last_trade(&self) -> Option<Trade> {
        self.trades.back().copied()
    }

    /// After the book was touched: the row has changed if its top has.
    pub fn settle_book(&mut self, change: Change) {
        debug_assert!(!self.book.is_crossed());
        let top = self.book.top();
        if top != self.top {
            self.top = top;
            self.change = Some(change);
        }
    }

    pub fn record_trade(&mut self, trade: Trade, change: Change) {
        if self.trades.len() == TRADES_KEPT {
            self.trades.pop_front();
        }
        self.trades.push_back(trade);
        self.change = Some(change);
    }

    /// Remembers that a match can be broken later, whether it counted as a last trade or not.
    pub fn record_match(&mut self, match_number: u64) {
        if self.matches.len() == MATCHES_KEPT {
            self.matches.pop_front();
        }
        self.matches.push_back(match_number);
    }

    pub fn matches(&self) -> usize {
        self.matches.len()
    }

    /// Breaks the match that is `back` from the newest and returns its number. The row changes only if that
    /// was the last trade: then the one before it, if it is still known, is the last again.
    pub fn break_match(&mut self, back: usize, change: Change) -> Option<u64> {
        let index = self.matches.len().checked_sub(back + 1)?;
        let broken = self.matches.remove(index)?;
        if self.last_trade().is_some_and(|trade| trade.match_number == broken) {
            self.change = Some(change);
        }
        self.trades.retain(|trade| trade.match_number != broken);
        Some(broken)
    }

    pub fn set_trading_state(&mut self, state: u8, reason: [u8; 4], change: Change) {
        self.trading_state = state;
        self.reason = reason;
        self.change = Some(change);
    }
}

/// The symbol of instrument `index`: A, B, …, Z, AA, AB, …, some with a class behind a dot or a dash.
pub fn symbol(index: usize) -> [u8; 8] {
    let mut letters = [0u8; 8];
    let mut length = 0;
    let mut rest = index + 1;
    while rest > 0 {
        rest -= 1;
        letters[length] = b'A' + (rest % 26) as u8;
        length += 1;
        rest /= 26;
    }
    let mut symbol = [b' '; 8];
    for (target, letter) in symbol.iter_mut().zip(letters[..length].iter().rev()) {
        *target = *letter;
    }
    let class: &[u8] = match index % 64 {
        21 => b".A",
        42 => b"-B",
        _ => b"",
    };
    symbol[length..length + class.len()].copy_from_slice(class);
    symbol
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(sequence: u64) -> Change {
        Change { sequence, time_ns: 0 }
    }

    fn traded(matches: std::ops::RangeInclusive<u64>) -> Instrument {
        let mut instrument = Instrument::new(symbol(0), 10_000);
        for match_number in matches {
            instrument.record_match(match_number);
            instrument.record_trade(Trade { price_e4: 1, shares: 1, match_number }, change(match_number));
        }
        instrument
    }

    #[test]
    fn symbols_are_unique_and_readable() {
        let symbols: std::collections::HashSet<_> = (0..65_000).map(symbol).collect();
        assert_eq!(symbols.len(), 65_000);
        assert_eq!(
            [&symbol(0), &symbol(25), &symbol(26), &symbol(42)],
            [b"A       ", b"Z       ", b"AA      ", b"AQ-B    "]
        );
    }

    #[test]
    fn a_broken_last_trade_gives_way_to_the_one_before() {
        let mut instrument = traded(1..=6);
        assert_eq!(instrument.break_match(1, change(10)), Some(5));
        assert_eq!(instrument.change, Some(change(6)), "not the last trade: nothing to be seen");
        for (sequence, broken, last) in [(11, 6, Some(4)), (12, 4, Some(3)), (13, 3, None)] {
            assert_eq!(instrument.break_match(0, change(sequence)), Some(broken));
            assert_eq!(instrument.last_trade().map(|trade| trade.match_number), last);
            assert_eq!(instrument.change, Some(change(sequence)));
        }
        assert_eq!(instrument.break_match(0, change(14)), Some(2));
        assert_eq!(instrument.change, Some(change(13)), "forgotten long ago");
    }
}
