//! The simulated exchange against a replay of its own messages by brute force.

use dataplane::sim::exchange::{Config, Exchange, Row};
use dataplane::sim::packetizer::Moldudp64Packetizer;
use dataplane::wire::itch50::Message;
use dataplane::wire::moldudp64::{Packet, PacketKind};
use std::collections::{BTreeMap, BTreeSet};

/// A row without its borrow; the same fields as [`Row`], prices and sizes in pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    symbol: Vec<u8>,
    bid: Option<(u32, u64)>,
    ask: Option<(u32, u64)>,
    last: Option<(u32, u64)>,
    trading_state: u8,
    change: Option<(u64, u64)>,
}

impl From<Row<'_>> for Known {
    fn from(row: Row<'_>) -> Known {
        Known {
            symbol: row.symbol.to_vec(),
            bid: row.bid_price_e4.map(|price| (price, row.bid_size)),
            ask: row.ask_price_e4.map(|price| (price, row.ask_size)),
            last: row.last_price_e4.map(|price| (price, row.last_size)),
            trading_state: row.trading_state,
            change: row.sequence.zip(row.exchange_ns),
        }
    }
}

struct Order {
    locate: u16,
    buys: bool,
    price: u32,
    shares: u32,
}

/// Everything that the messages say, found again by looking at every order after every message.
#[derive(Default)]
struct Replay {
    midnight_unix_ns: u64,
    sequence: u64,
    rows: BTreeMap<u16, Known>,
    orders: BTreeMap<u64, Order>,
    /// All trades that count, oldest first: price, shares, match number.
    trades: BTreeMap<u16, Vec<(u32, u64, u64)>>,
    letters: BTreeMap<u8, u64>,
    crossed: u64,
}

impl Replay {
    fn apply(&mut self, bytes: &[u8]) {
        self.sequence += 1;
        let message = Message::parse(bytes).expect("the exchange sends ITCH 5.0");
        let locate = message.head().stock_locate.get();
        *self.letters.entry(bytes[0]).or_default() += 1;
        let mut traded = false;
        match message {
            Message::StockDirectory(message) => {
                let symbol = message.stock.trim_ascii_end().to_vec();
                self.rows.insert(locate, Known { symbol, ..Known::default() });
                return;
            }
            Message::StockTradingAction(message) => {
                let row = self.rows.get_mut(&locate).unwrap();
                assert_ne!(row.trading_state, message.trading_state, "a state that is no news");
                row.trading_state = message.trading_state;
                traded = true;
            }
            Message::AddOrder(add) => {
                self.add(add.order_reference.get(), locate, add.side, add.price.get(), add.shares.get())
            }
            Message::AddOrderAttributed(add) => {
                self.add(add.order_reference.get(), locate, add.side, add.price.get(), add.shares.get())
            }
            Message::OrderExecuted(executed) => {
                let (reference, shares) = (executed.order_reference.get(), executed.executed_shares.get());
                let price = self.orders[&reference].price;
                self.reduce(reference, shares);
                traded = self.trade(locate, price, u64::from(shares), executed.match_number.get());
            }
            Message::OrderExecutedWithPrice(executed) => {
                let shares = executed.executed_shares.get();
                self.reduce(executed.order_reference.get(), shares);
                if executed.printable == b'Y' {
                    let (price, number) = (executed.execution_price.get(), executed.match_number.get());
                    traded = self.trade(locate, price, u64::from(shares), number);
                }
            }
            Message::OrderCancel(cancel) => {
                self.reduce(cancel.order_reference.get(), cancel.cancelled_shares.get());
            }
            Message::OrderDelete(delete) => {
                self.orders.remove(&delete.order_reference.get()).expect("the deleted order rests");
            }
            Message::OrderReplace(replace) => {
                let old = self.orders.remove(&replace.original_order_reference.get()).unwrap();
                let side = if old.buys { b'B' } else { b'S' };
                let (price, shares) = (replace.price.get(), replace.shares.get());
                self.add(replace.new_order_reference.get(), locate, side, price, shares);
            }
            Message::NonCrossTrade(trade) => {
                let (price, shares) = (trade.price.get(), u64::from(trade.shares.get()));
                traded = self.trade(locate, price, shares, trade.match_number.get());
            }
            Message::CrossTrade(cross) if cross.shares.get() > 0 => {
                let (price, shares) = (cross.cross_price.get(), cross.shares.get());
                traded = self.trade(locate, price, shares, cross.match_number.get());
            }
            Message::BrokenTrade(broken) => {
                let trades = self.trades.entry(locate).or_default();
                let number = broken.match_number.get();
                traded = trades.last().is_some_and(|trade| trade.2 == number);
                trades.retain(|trade| trade.2 != number);
            }
            _ => {}
        }
        if locate != 0 {
            self.settle(locate, traded, message.head().timestamp.ns());
        }
    }

    fn add(&mut self, reference: u64, locate: u16, side: u8, price: u32, shares: u32) {
        assert!(price > 0 && shares > 0);
        let order = Order { locate, buys: side == b'B', price, shares };
        assert!(self.orders.insert(reference, order).is_none(), "a reference is used once");
    }

    fn reduce(&mut self, reference: u64, shares: u32) {
        let order = self.orders.get_mut(&reference).expect("the order rests");
        assert!(shares > 0);
        order.shares = order.shares.checked_sub(shares).expect("the order has that many");
        if order.shares == 0 {
            self.orders.remove(&reference);
        }
    }

    /// Four trades are remembered.
    fn trade(&mut self, locate: u16, price: u32, shares: u64, number: u64) -> bool {
        assert_eq!(self.rows[&locate].trading_state, b'T', "only what trades trades");
        let trades = self.trades.entry(locate).or_default();
        trades.push((price, shares, number));
        if trades.len() > 4 {
            trades.remove(0);
        }
        true
    }

    fn settle(&mut self, locate: u16, traded: bool, time_ns: u64) {
        let side = |buys: bool| {
            let orders = || self.orders.values().filter(|order| order.locate == locate && order.buys == buys);
            let prices = orders().map(|order| order.price);
            let best = if buys { prices.max() } else { prices.min() }?;
            let shares =
                orders().filter(|order| order.price == best).map(|order| u64::from(order.shares)).sum();
            Some((best, shares))
        };
        let (bid, ask) = (side(true), side(false));
        if bid.zip(ask).is_some_and(|(bid, ask)| bid.0 >= ask.0) {
            self.crossed += 1;
        }
        let row = self.rows.get_mut(&locate).unwrap();
        if traded || (bid, ask) != (row.bid, row.ask) {
            row.change = Some((self.sequence, self.midnight_unix_ns + time_ns));
        }
        let last = self.trades.get(&locate).and_then(|trades| trades.last());
        (row.bid, row.ask, row.last) = (bid, ask, last.map(|trade| (trade.0, trade.1)));
    }
}

fn config(seed: u64) -> Config {
    Config { seed, instruments: 7, resting_orders: 12, opening_orders: 3, ..Config::default() }
}

fn messages(config: Config, count: usize) -> Vec<Vec<u8>> {
    let mut exchange = Exchange::new(config);
    let take = |_| {
        let mut message = Vec::new();
        assert!(exchange.next_message(&mut message));
        message
    };
    (0..count).map(take).collect()
}

#[test]
fn the_dump_is_what_a_replay_of_the_messages_gives() {
    let mut letters = BTreeMap::new();
    for seed in 0..8 {
        let mut exchange = Exchange::new(config(seed));
        let mut replay = Replay { midnight_unix_ns: exchange.config().midnight_unix_ns, ..Replay::default() };
        let mut message = Vec::new();
        for count in 1..=20_000u64 {
            if count == 19_990 {
                exchange.close();
            }
            message.clear();
            if !exchange.next_message(&mut message) {
                assert_eq!(count, 19_993, "three messages close the day");
                assert!(message.is_empty());
                break;
            }
            replay.apply(&message);
            if count % 13 == 0 || count > 19_980 {
                let dump: Vec<Known> = exchange.dump().map(Known::from).collect();
                assert_eq!(dump, replay.rows.values().cloned().collect::<Vec<_>>(), "{seed} at {count}");
            }
        }
        assert_eq!(replay.sequence, 19_992);
        assert_eq!((replay.sequence, replay.orders.len()), (exchange.sequence(), exchange.orders()));
        assert_eq!((replay.crossed, exchange.crossed_books()), (0, 0));
        for (letter, count) in replay.letters {
            *letters.entry(letter).or_insert(0) += count;
        }
    }
    // It looked: every message of the flow came, often enough to have been wrong.
    for letter in b"ABCDEFHILNPQRSUXY" {
        assert!(letters.get(letter).is_some_and(|count| *count >= 40), "{} {letters:?}", *letter as char);
    }
}

#[test]
fn a_seed_determines_every_byte() {
    let first = messages(config(5), 5_000);
    assert_eq!(first, messages(config(5), 5_000));
    assert_ne!(first, messages(config(6), 5_000));
}

#[test]
fn books_gather_around_their_number_of_orders() {
    let config = Config { instruments: 3, resting_orders: 50, skewed: false, ..Config::default() };
    let mut exchange = Exchange::new(config);
    let mut out = Vec::new();
    for _ in 0..60_000 {
        out.clear();
        assert!(exchange.next_message(&mut out));
    }
    assert!((60..450).contains(&exchange.orders()), "{}", exchange.orders());
}

#[test]
fn few_instruments_have_most_of_the_activity() {
    let mut counts = BTreeMap::new();
    for message in messages(Config { instruments: 500, ..Config::default() }, 50_000) {
        let head = dataplane::wire::itch50::Head::peek(&message).unwrap();
        *counts.entry(head.stock_locate.get()).or_insert(0u32) += 1;
    }
    assert_eq!(counts.len(), 501, "every instrument, and the market's own events");
    let mut counts: Vec<u32> = counts.into_values().collect();
    counts.sort();
    let busiest: u32 = counts[451..].iter().sum();
    assert!(busiest > 20_000, "a tenth of the instruments has {busiest} of 50,000 messages");
}

#[test]
fn the_largest_exchange_opens_with_as_many_messages_as_it_says() {
    let config = Config { instruments: 65_000, opening_orders: 1, ..Config::default() };
    let mut exchange = Exchange::new(config);
    let mut out = Vec::new();
    for _ in 0..exchange.opening_messages() {
        out.clear();
        assert!(exchange.next_message(&mut out));
    }
    assert_eq!((out.len(), out[11]), (12, b'Q'), "the last one opens the market");
    let names: BTreeSet<Vec<u8>> = exchange.dump().map(|row| row.symbol.to_vec()).collect();
    assert_eq!((names.len(), exchange.orders()), (65_000, 65_000));
}

#[test]
fn packets_hold_the_messages_in_order_and_fit() {
    for (messages_max, payload_bytes_max) in [(1, 1_472), (10, 1_472), (u16::MAX, 1_472), (u16::MAX, 72)] {
        let mut exchange = Exchange::new(config(2));
        let mut packetizer = Moldudp64Packetizer::new("DAY", payload_bytes_max);
        let mut flow = messages(config(2), 3_000).into_iter();
        let mut packet = Vec::new();
        while packetizer.sequence_next() <= 2_900 {
            let sequence = packetizer.sequence_next();
            let count = packetizer.fill(&mut exchange, messages_max, &mut packet);
            assert!(count >= 1 && count <= messages_max && packet.len() <= payload_bytes_max);
            let parsed = Packet::parse(&packet).unwrap();
            assert_eq!(parsed.validate(), Ok(()));
            assert_eq!((parsed.session(), parsed.sequence()), (b"DAY       ", sequence));
            assert_eq!(parsed.kind(), PacketKind::Messages);
            assert_eq!(parsed.messages().count(), usize::from(count));
            for message in parsed.messages() {
                assert_eq!(message, flow.next().unwrap());
            }
            assert_eq!(parsed.sequence_next(), packetizer.sequence_next());
        }
        exchange.close();
        while packetizer.fill(&mut exchange, messages_max, &mut packet) > 0 {}
        assert!(packet.is_empty(), "no packet without messages");
        let sequence_next = exchange.sequence() + 1;
        for kind in [PacketKind::Heartbeat, PacketKind::EndOfSession] {
            match kind {
                PacketKind::Heartbeat => packetizer.heartbeat(&mut packet),
                _ => packetizer.end_of_session(&mut packet),
            }
            let parsed = Packet::parse(&packet).unwrap();
            assert_eq!(parsed.validate(), Ok(()));
            assert_eq!((parsed.kind(), parsed.sequence()), (kind, sequence_next));
        }
    }
}
