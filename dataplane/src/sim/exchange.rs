//! A simulated exchange: definitions, trading status, then an order flow, as ITCH 5.0 messages. It keeps its
//! own plain book, and so knows at every message what a cache that has seen this far must hold.
//!
//! Books never cross: an order that could trade executes what rests before it rests itself. What is sent is
//! a function of the configuration alone (and of [`Exchange::set_time_ns`], as far as stamps are concerned).

mod book;
mod flow;
mod instrument;
mod orders;
mod trades;

pub use book::{Best, Side, Top};
pub use flow::Mix;

use crate::sim::random::Random;
use crate::wire::itch50::{self, Head, Timestamp48};
use flow::{Activity, Pending};
use instrument::{Change, Instrument};
use orders::Order;
use std::collections::HashMap;
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes};

/// ITCH's locate codes are 16 bits, and 0 is no instrument.
pub const INSTRUMENTS_MAX: u32 = 65_000;

/// What an exchange is made of.
#[derive(Clone, Debug)]
pub struct Config {
    pub seed: u64,
    /// 1 ..= [`INSTRUMENTS_MAX`]; their locate codes are 1, 2, ….
    pub instruments: u32,
    /// Orders that each book gathers around; the flow adds more often below and deletes more often above.
    pub resting_orders: u32,
    /// Orders added to each book before the market opens.
    pub opening_orders: u32,
    pub mix: Mix,
    /// True: few instruments have most of the activity, as 1 / rank. False: all have the same.
    pub skewed: bool,
    /// Midnight of the exchange's day, in ns of Unix UTC.
    pub midnight_unix_ns: u64,
    /// When the first message is sent, since midnight.
    pub start_ns: u64,
    /// How much time passes from message to message, unless [`Exchange::set_time_ns`] tells the time.
    pub message_interval_ns: u64,
}

impl Default for Config {
    /// Ten instruments on 2024-01-02 (midnight in New York is 05:00 UTC), from 09:30:00 on.
    fn default() -> Config {
        Config {
            seed: 1,
            instruments: 10,
            resting_orders: 40,
            opening_orders: 0,
            mix: Mix::default(),
            skewed: true,
            midnight_unix_ns: 1_704_171_600_000_000_000,
            start_ns: 34_200_000_000_000,
            message_interval_ns: 1_000,
        }
    }
}

/// One instrument as everybody who has seen all messages must see it. Prices have four decimals; a size is
/// 0 where its price is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// ITCH's stock locate.
    pub native_id: u16,
    /// The name without its padding.
    pub symbol: &'a [u8],
    pub bid_price_e4: Option<u32>,
    pub bid_size: u64,
    pub ask_price_e4: Option<u32>,
    pub ask_size: u64,
    pub last_price_e4: Option<u32>,
    pub last_size: u64,
    /// H halted, P paused, Q quotation only, T trading; 0 = not told yet.
    pub trading_state: u8,
    pub reason: [u8; 4],
    /// The number of the message that changed quote, last trade or trading state last; absent if none has.
    pub sequence: Option<u64>,
    /// The stamp of that message in ns of Unix UTC.
    pub exchange_ns: Option<u64>,
}

/// Where the day is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    MessagesStart,
    Definitions(u32),
    Statuses(u32),
    SystemHoursStart,
    Opening(u64),
    MarketOpen,
    Continuous,
    MarketClose,
    SystemHoursEnd,
    MessagesEnd,
    Over,
}

pub struct Exchange {
    config: Config,
    random: Random,
    phase: Phase,
    now_ns: u64,
    /// The number of the last message.
    sequence: u64,
    instruments: Vec<Instrument>,
    orders: HashMap<u64, Order>,
    activity: Activity,
    pending: Option<Pending>,
    halted: Vec<u32>,
    reference_last: u64,
    match_last: u64,
}

impl Exchange {
    /// Panics if the number of instruments is out of its range.
    pub fn new(config: Config) -> Exchange {
        assert!((1..=INSTRUMENTS_MAX).contains(&config.instruments), "1 ..= {INSTRUMENTS_MAX} instruments");
        let mut random = Random::new(config.seed);
        let instruments = (0..config.instruments as usize)
            .map(|index| Instrument::new(instrument::symbol(index), opening_mid_e4(&mut random)))
            .collect();
        let activity = Activity::new(config.instruments, config.skewed, &mut random);
        Exchange {
            random,
            phase: Phase::MessagesStart,
            now_ns: config.start_ns,
            sequence: 0,
            instruments,
            orders: HashMap::new(),
            activity,
            pending: None,
            halted: Vec::new(),
            reference_last: 0,
            match_last: 0,
            config,
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The number of the last message; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Orders that rest in all books.
    pub fn orders(&self) -> usize {
        self.orders.len()
    }

    /// How many messages come before the order flow: system events, definitions, trading states and the
    /// opening's orders.
    pub fn opening_messages(&self) -> u64 {
        let instruments = u64::from(self.config.instruments);
        3 + instruments * (2 + u64::from(self.config.opening_orders))
    }

    /// Tells the time since midnight; the next messages bear it. Time does not go back.
    pub fn set_time_ns(&mut self, time_ns: u64) {
        self.now_ns = self.now_ns.max(time_ns);
    }

    /// From now on only the messages come that close the day.
    pub fn close(&mut self) {
        if !matches!(
            self.phase,
            Phase::MarketClose | Phase::SystemHoursEnd | Phase::MessagesEnd | Phase::Over
        ) {
            self.phase = Phase::MarketClose;
            self.pending = None;
        }
    }

    /// Appends the next message. False: the day is over, nothing was appended, and so it stays.
    pub fn next_message(&mut self, out: &mut Vec<u8>) -> bool {
        let phase = self.phase;
        self.phase = self.following(phase);
        match phase {
            Phase::MessagesStart => self.send_system_event(b'O', out),
            Phase::Definitions(index) => self.send_definition(index, out),
            Phase::Statuses(index) => self.send_trading_state(index, b'T', *b"    ", out),
            Phase::SystemHoursStart => self.send_system_event(b'S', out),
            Phase::Opening(count) => {
                let index = (count % u64::from(self.config.instruments)) as u32;
                self.send_passive_order(index, out);
            }
            Phase::MarketOpen => self.send_system_event(b'Q', out),
            Phase::Continuous => self.next_of_flow(out),
            Phase::MarketClose => self.send_system_event(b'M', out),
            Phase::SystemHoursEnd => self.send_system_event(b'E', out),
            Phase::MessagesEnd => self.send_system_event(b'C', out),
            Phase::Over => return false,
        }
        true
    }

    fn following(&self, phase: Phase) -> Phase {
        let instruments = self.config.instruments;
        let opening_orders = u64::from(instruments) * u64::from(self.config.opening_orders);
        match phase {
            Phase::MessagesStart => Phase::Definitions(0),
            Phase::Definitions(index) if index + 1 < instruments => Phase::Definitions(index + 1),
            Phase::Definitions(_) => Phase::Statuses(0),
            Phase::Statuses(index) if index + 1 < instruments => Phase::Statuses(index + 1),
            Phase::Statuses(_) => Phase::SystemHoursStart,
            Phase::SystemHoursStart if opening_orders > 0 => Phase::Opening(0),
            Phase::Opening(count) if count + 1 < opening_orders => Phase::Opening(count + 1),
            Phase::SystemHoursStart | Phase::Opening(_) => Phase::MarketOpen,
            Phase::MarketOpen | Phase::Continuous => Phase::Continuous,
            Phase::MarketClose => Phase::SystemHoursEnd,
            Phase::SystemHoursEnd => Phase::MessagesEnd,
            Phase::MessagesEnd | Phase::Over => Phase::Over,
        }
    }

    /// The rows of all instruments whose definition has been sent, by locate code.
    pub fn dump(&self) -> impl Iterator<Item = Row<'_>> {
        let defined = self.instruments.iter().enumerate().filter(|(_, instrument)| instrument.defined);
        defined.map(|(index, instrument)| self.row(index, instrument))
    }

    fn row<'a>(&self, index: usize, instrument: &'a Instrument) -> Row<'a> {
        let top = instrument.top();
        let last = instrument.last_trade();
        let change = instrument.change;
        Row {
            native_id: locate(index as u32),
            symbol: instrument.name(),
            bid_price_e4: top.bid.map(|best| best.price_e4),
            bid_size: top.bid.map_or(0, |best| best.shares),
            ask_price_e4: top.ask.map(|best| best.price_e4),
            ask_size: top.ask.map_or(0, |best| best.shares),
            last_price_e4: last.map(|trade| trade.price_e4),
            last_size: last.map_or(0, |trade| trade.shares),
            trading_state: instrument.trading_state,
            reason: instrument.reason,
            sequence: change.map(|change| change.sequence),
            exchange_ns: change.map(|change| self.config.midnight_unix_ns + change.time_ns),
        }
    }

    /// Looks for crossed books; there are none.
    pub fn crossed_books(&self) -> usize {
        self.instruments.iter().filter(|instrument| instrument.book.is_crossed()).count()
    }

    /// Price levels of one side of all books.
    pub fn levels(&self, side: Side) -> usize {
        self.instruments.iter().map(|instrument| instrument.book.levels(side)).sum()
    }

    /// Numbers and stamps the next message.
    fn begin(&mut self, message_type: u8, stock_locate: u16) -> (Head, Change) {
        if self.sequence > 0 {
            self.now_ns += self.config.message_interval_ns;
        }
        self.sequence += 1;
        let head = Head {
            message_type,
            stock_locate: U16::new(stock_locate),
            tracking_number: U16::new(self.sequence as u16),
            timestamp: Timestamp48::new(self.now_ns),
        };
        (head, Change { sequence: self.sequence, time_ns: self.now_ns })
    }

    fn send_system_event(&mut self, event_code: u8, out: &mut Vec<u8>) {
        let (head, _) = self.begin(itch50::SystemEvent::TYPE, 0);
        append(out, &itch50::SystemEvent { head, event_code });
    }

    fn send_definition(&mut self, index: u32, out: &mut Vec<u8>) {
        let (head, _) = self.begin(itch50::StockDirectory::TYPE, locate(index));
        let instrument = &mut self.instruments[index as usize];
        instrument.defined = true;
        append(
            out,
            &itch50::StockDirectory {
                head,
                stock: instrument.symbol,
                market_category: b'Q',
                financial_status: b'N',
                round_lot_size: U32::new(100),
                round_lots_only: b'N',
                issue_classification: b'C',
                issue_sub_type: *b"Z ",
                authenticity: b'P',
                short_sale_threshold: b'N',
                ipo_flag: b'N',
                luld_reference_price_tier: b'2',
                etp_flag: b'N',
                etp_leverage_factor: U32::new(0),
                inverse_indicator: b'N',
            },
        );
    }

    fn send_trading_state(&mut self, index: u32, trading_state: u8, reason: [u8; 4], out: &mut Vec<u8>) {
        let (head, change) = self.begin(itch50::StockTradingAction::TYPE, locate(index));
        let instrument = &mut self.instruments[index as usize];
        instrument.set_trading_state(trading_state, reason, change);
        let stock = instrument.symbol;
        append(out, &itch50::StockTradingAction { head, stock, trading_state, reserved: b' ', reason });
    }
}

fn locate(index: u32) -> u16 {
    index as u16 + 1
}

/// From 20 cents to 800 dollars, cheap ones as many as dear ones.
fn opening_mid_e4(random: &mut Random) -> u32 {
    let magnitude = random.below(12) as u32;
    let low = 2_000 << magnitude;
    let mid = random.between(low, 2 * low);
    if mid < 10_000 { mid } else { mid / 100 * 100 }
}

fn append<M: IntoBytes + Immutable>(out: &mut Vec<u8>, message: &M) {
    out.extend_from_slice(message.as_bytes());
}
