//! A TOPS market: messages of TOPS 1.6 by a seed, and the rows that they come to.

use crate::cache::tick::{PRICE_ABSENT, Quote, Status, Trade};
use crate::sim::random::Random;
use crate::wire::tops16::{
    AuctionInformation, OPERATIONALLY_HALTED, OPERATIONALLY_OPEN, OfficialPrice, OperationalHaltStatus,
    QuoteUpdate, RetailLiquidityIndicator, SecurityDirectory, SecurityEvent, ShortSalePriceTestStatus,
    SystemEvent, TradeBreak, TradeReport, TradingStatus,
};
use bytemuck::Zeroable;
use std::collections::VecDeque;
use zerocopy::IntoBytes;

/// Trades of a symbol that a receiver is expected to remember.
const TRADES_KEPT: usize = 4;
/// The exchange's first stamp: a Monday's opening, ns of Unix UTC.
const OPENING_NS: u64 = 1_704_119_400_000_000_000;

/// What a message changes, by the index of its symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that has a row.
    None,
    Quote(usize, Quote),
    Trade(usize, Trade),
    Break(usize, u64),
    Trading(usize, u8, [u8; 4]),
    Halt(usize, u8),
}

/// A source of messages that does not end.
#[derive(Clone, Debug)]
pub struct TopsMarket {
    random: Random,
    symbols: Vec<[u8; 8]>,
    /// The latest trades of each symbol, to be broken: number, size, price (4 decimals).
    trades: Vec<VecDeque<(u64, u32, i64)>>,
    prices: Vec<i64>,
    trade_id: u64,
    stamp_ns: u64,
    /// Of a hundred messages, how many are neither quotes nor trades.
    others: u64,
}

/// The name of a symbol by its index: `AA`, `BA`, … as IEX writes it.
pub fn symbol(index: usize) -> [u8; 8] {
    let mut symbol = [b' '; 8];
    let mut rest = index;
    for (place, letter) in symbol.iter_mut().take(7).enumerate() {
        *letter = b'A' + (rest % 26) as u8;
        rest /= 26;
        if rest == 0 && place > 0 {
            break;
        }
    }
    symbol
}

impl TopsMarket {
    /// Of everything a little: of a hundred messages 72 are quotes, 18 trades.
    pub fn new(seed: u64, symbols: usize) -> TopsMarket {
        let mut random = Random::new(seed);
        TopsMarket {
            prices: (0..symbols).map(|_| i64::from(random.between(10_000, 5_000_000))).collect(),
            random,
            symbols: (0..symbols).map(symbol).collect(),
            trades: vec![VecDeque::new(); symbols],
            trade_id: 0,
            stamp_ns: OPENING_NS,
            others: 10,
        }
    }

    /// The middle of a day: four quotes and then a trade, on average, and nothing else.
    pub fn midday(seed: u64, symbols: usize) -> TopsMarket {
        TopsMarket { others: 0, ..TopsMarket::new(seed, symbols) }
    }

    pub fn symbols(&self) -> &[[u8; 8]] {
        &self.symbols
    }

    /// Replaces `message` by the next one and tells what it changes.
    pub fn next_message(&mut self, message: &mut Vec<u8>) -> Change {
        self.stamp_ns += 1 + self.random.below(50_000);
        let index = self.random.below(self.symbols.len() as u64) as usize;
        message.clear();
        if self.random.percent(100 - self.others) {
            return if self.random.percent(80) {
                self.quote(index, message)
            } else {
                self.trade(index, message)
            };
        }
        match self.random.below(5) {
            0 => self.break_trade(index, message),
            1 => self.trading_status(index, message),
            2 => self.halt(index, message),
            _ => self.other(index, message),
        }
    }

    fn side(&mut self, price: i64) -> (u32, i64) {
        if self.random.percent(10) { (0, 0) } else { (100 * self.random.between(1, 50), price) }
    }

    fn quote(&mut self, index: usize, message: &mut Vec<u8>) -> Change {
        let step = i64::from(self.random.between(0, 200)) - 100;
        self.prices[index] = (self.prices[index] + step).max(10);
        let price = self.prices[index];
        let (bid_size, bid_price) = self.side(price);
        let (ask_size, ask_price) = self.side(price + 100);
        let update = QuoteUpdate {
            message_type: QuoteUpdate::TYPE,
            flags: 0,
            timestamp: (self.stamp_ns as i64).into(),
            symbol: self.symbols[index],
            bid_size: bid_size.into(),
            bid_price: bid_price.into(),
            ask_price: ask_price.into(),
            ask_size: ask_size.into(),
        };
        message.extend_from_slice(update.as_bytes());
        // The specification lets a message grow at its end.
        if self.random.percent(1) {
            message.extend_from_slice(&[0xA5; 6]);
        }
        let shown = |size: u32, price: i64| if size == 0 { PRICE_ABSENT } else { price * 100_000 };
        let (bid_price, ask_price) = (shown(bid_size, bid_price), shown(ask_size, ask_price));
        Change::Quote(index, Quote { bid_price, ask_price, bid_size, ask_size })
    }

    fn trade(&mut self, index: usize, message: &mut Vec<u8>) -> Change {
        self.trade_id += 1 + self.random.below(10);
        let (trade_id, size, price) = (self.trade_id, self.random.between(1, 900), self.prices[index]);
        let report = TradeReport {
            message_type: TradeReport::TYPE,
            sale_conditions: 0,
            timestamp: (self.stamp_ns as i64).into(),
            symbol: self.symbols[index],
            size: size.into(),
            price: price.into(),
            trade_id: (trade_id as i64).into(),
        };
        message.extend_from_slice(report.as_bytes());
        let trades = &mut self.trades[index];
        trades.push_back((trade_id, size, price));
        if trades.len() > TRADES_KEPT {
            trades.pop_front();
        }
        Change::Trade(index, Trade { price: price * 100_000, size: u64::from(size), trade_id })
    }

    /// Mostly the last one.
    fn break_trade(&mut self, index: usize, message: &mut Vec<u8>) -> Change {
        let kept = self.trades[index].len() as u64;
        if kept == 0 {
            return self.other(index, message);
        }
        let at = if self.random.percent(70) { kept - 1 } else { self.random.below(kept) };
        let (trade_id, size, price) =
            self.trades[index].remove(at as usize).expect("it is below their number");
        let broken = TradeBreak {
            message_type: TradeBreak::TYPE,
            sale_conditions: 0,
            timestamp: (self.stamp_ns as i64).into(),
            symbol: self.symbols[index],
            size: size.into(),
            price: price.into(),
            trade_id: (trade_id as i64).into(),
        };
        message.extend_from_slice(broken.as_bytes());
        Change::Break(index, trade_id)
    }

    fn trading_status(&mut self, index: usize, message: &mut Vec<u8>) -> Change {
        let (status, reason) = [(b'T', *b"    "), (b'H', *b"T1  "), (b'P', *b"IPO2"), (b'O', *b"IPO1")]
            [self.random.below(4) as usize];
        let told = TradingStatus {
            message_type: TradingStatus::TYPE,
            status,
            timestamp: (self.stamp_ns as i64).into(),
            symbol: self.symbols[index],
            reason,
        };
        message.extend_from_slice(told.as_bytes());
        Change::Trading(index, status, reason)
    }

    fn halt(&mut self, index: usize, message: &mut Vec<u8>) -> Change {
        let status = if self.random.percent(50) { OPERATIONALLY_HALTED } else { OPERATIONALLY_OPEN };
        let told = OperationalHaltStatus {
            message_type: OperationalHaltStatus::TYPE,
            status,
            timestamp: (self.stamp_ns as i64).into(),
            symbol: self.symbols[index],
        };
        message.extend_from_slice(told.as_bytes());
        Change::Halt(index, status)
    }

    /// Everything that changes no row; one of them is of no known type.
    fn other(&mut self, index: usize, message: &mut Vec<u8>) -> Change {
        let bytes: [(u8, usize); 8] = [
            (SystemEvent::TYPE, size_of::<SystemEvent>()),
            (SecurityDirectory::TYPE, size_of::<SecurityDirectory>()),
            (RetailLiquidityIndicator::TYPE, size_of::<RetailLiquidityIndicator>()),
            (ShortSalePriceTestStatus::TYPE, size_of::<ShortSalePriceTestStatus>()),
            (SecurityEvent::TYPE, size_of::<SecurityEvent>()),
            (OfficialPrice::TYPE, size_of::<OfficialPrice>()),
            (AuctionInformation::TYPE, size_of::<AuctionInformation>()),
            (b'~', 30),
        ];
        let (letter, length) = bytes[self.random.below(bytes.len() as u64) as usize];
        message.push(letter);
        message.push(0);
        message.extend_from_slice(&self.stamp_ns.to_le_bytes());
        message.extend_from_slice(&self.symbols[index]);
        message.resize(length, 0);
        Change::None
    }
}

/// A row and whether everything that could have changed it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<R> {
    pub row: R,
    pub proven: bool,
}

/// What a receiver should hold of one symbol.
#[derive(Clone, Debug, Default)]
pub struct ExpectedRows {
    pub quote: Option<Expected<Quote>>,
    pub trade: Option<Expected<Trade>>,
    pub status: Option<Expected<Status>>,
    trades: VecDeque<Trade>,
    /// Whether the two halves of the status were told since the last loss.
    told: [bool; 2],
}

/// What a receiver should hold, after all that it has received.
#[derive(Clone, Debug)]
pub struct TopsRows {
    pub symbols: Vec<ExpectedRows>,
    lost: bool,
}

impl TopsRows {
    pub fn new(symbols: usize) -> TopsRows {
        TopsRows { symbols: vec![ExpectedRows::default(); symbols], lost: false }
    }

    pub fn receive(&mut self, change: &Change) {
        let lost = self.lost;
        match *change {
            Change::None => {}
            Change::Quote(index, row) => self.symbols[index].quote = Some(Expected { row, proven: true }),
            Change::Trade(index, row) => {
                let rows = &mut self.symbols[index];
                rows.trades.push_back(row);
                if rows.trades.len() > TRADES_KEPT {
                    rows.trades.pop_front();
                }
                rows.trade = Some(Expected { row, proven: true });
            }
            Change::Break(index, trade_id) => {
                let rows = &mut self.symbols[index];
                let last = rows.trades.back().is_some_and(|last| last.trade_id == trade_id);
                rows.trades.retain(|trade| trade.trade_id != trade_id);
                if last {
                    let none = Trade { price: PRICE_ABSENT, size: 0, trade_id: 0 };
                    let row = rows.trades.back().copied().unwrap_or(none);
                    // After a loss, there may have been a trade in between.
                    rows.trade = Some(Expected { row, proven: !lost });
                }
            }
            Change::Trading(index, state, reason) => {
                self.symbols[index].tell(0, |status| (status.state, status.reason) = (state, reason), lost);
            }
            Change::Halt(index, halt) => {
                self.symbols[index].tell(1, |status| status.operational_halt = halt, lost);
            }
        }
    }

    /// Messages were lost: nothing that is held is proven any more.
    pub fn lose(&mut self) {
        self.lost = true;
        for rows in &mut self.symbols {
            rows.quote = rows.quote.map(|held| Expected { proven: false, ..held });
            rows.trade = rows.trade.map(|held| Expected { proven: false, ..held });
            rows.status = rows.status.map(|held| Expected { proven: false, ..held });
            rows.told = [false; 2];
        }
    }
}

impl ExpectedRows {
    fn tell(&mut self, half: usize, change: impl FnOnce(&mut Status), lost: bool) {
        self.told[half] = true;
        let mut row = self.status.map_or(Status::zeroed(), |held| held.row);
        change(&mut row);
        // Before any loss, a half that was not told has not been sent.
        self.status = Some(Expected { row, proven: !lost || self.told == [true; 2] });
    }
}
