//! One thing at a time: losses, late starts, broken trades, statuses, limits, sessions that begin again.

use super::{Receiver, SECOND_NS, cells};
use dataplane::cache::reader::State;
use dataplane::cache::tick::{PRICE_ABSENT, Quote, Reason, Status, Trade};
use dataplane::feed::ArbiterConfig;
use dataplane::sim::packetizer::IexTpPacketizer;
use dataplane::wire::tops16::{OperationalHaltStatus, QuoteUpdate, TradeBreak, TradeReport, TradingStatus};
use zerocopy::IntoBytes;

pub const A: [u8; 8] = *b"A       ";
const BRK: [u8; 8] = *b"BRK.A   ";

pub fn quote(symbol: [u8; 8], bid: (u32, i64), ask: (u32, i64)) -> Vec<u8> {
    let update = QuoteUpdate {
        message_type: QuoteUpdate::TYPE,
        flags: 0,
        timestamp: 1_704_119_400_000_000_005.into(),
        symbol,
        bid_size: bid.0.into(),
        bid_price: bid.1.into(),
        ask_price: ask.1.into(),
        ask_size: ask.0.into(),
    };
    update.as_bytes().to_vec()
}

pub fn trade(symbol: [u8; 8], trade_id: i64, size: u32, price: i64) -> Vec<u8> {
    let report = TradeReport {
        message_type: TradeReport::TYPE,
        sale_conditions: 0,
        timestamp: 1_704_119_400_000_000_006.into(),
        symbol,
        size: size.into(),
        price: price.into(),
        trade_id: trade_id.into(),
    };
    report.as_bytes().to_vec()
}

fn broken(symbol: [u8; 8], trade_id: i64) -> Vec<u8> {
    let mut bytes = trade(symbol, trade_id, 1, 1);
    bytes[0] = TradeBreak::TYPE;
    bytes
}

fn trading(symbol: [u8; 8], status: u8, reason: [u8; 4]) -> Vec<u8> {
    let message_type = TradingStatus::TYPE;
    TradingStatus { message_type, status, timestamp: 0.into(), symbol, reason }.as_bytes().to_vec()
}

fn halt(symbol: [u8; 8], status: u8) -> Vec<u8> {
    let message_type = OperationalHaltStatus::TYPE;
    OperationalHaltStatus { message_type, status, timestamp: 0.into(), symbol }.as_bytes().to_vec()
}

/// One line, and what sends on it.
pub struct Sender {
    pub packetizer: IexTpPacketizer,
    packet: Vec<u8>,
}

impl Sender {
    pub fn new(session: u32) -> Sender {
        Sender { packetizer: IexTpPacketizer::new(session, 1_400), packet: Vec::new() }
    }

    pub fn send(&mut self, receiver: &mut Receiver<'_>, messages: &[Vec<u8>]) {
        assert_eq!(self.packetizer.fill(messages, 0, &mut self.packet), messages.len());
        receiver.receive(0, &self.packet);
    }

    /// Messages that nobody receives; the next packet shows that, and `finish` declares it.
    pub fn lose(&mut self, count: usize) {
        self.packetizer.fill(&vec![vec![b'~']; count], 0, &mut self.packet);
    }
}

/// A gap is declared as soon as one packet from beyond it has come.
pub fn one_line() -> ArbiterConfig {
    ArbiterConfig { lines: 1, reorder_packets: 1, ..ArbiterConfig::default() }
}

#[test]
fn messages_become_rows_in_the_caches_units() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, one_line());
    let mut sender = Sender::new(1_137_508_352);
    sender.send(&mut receiver, &[quote(A, (100, 100_001), (0, 0)), trade(BRK, 7, 3, 5_432_100_000)]);
    let (held, row) = receiver.row::<Quote>(&A).unwrap();
    let expected = Quote { bid_price: 10_000_100_000, bid_size: 100, ask_price: PRICE_ABSENT, ask_size: 0 };
    assert_eq!((held, row.state, row.tick.sequence), (expected, State::Live, 1));
    assert_eq!(row.tick.exchange_ns, 1_704_119_400_000_000_005);
    let (held, row) = receiver.row::<Trade>(&BRK).unwrap();
    assert_eq!(held, Trade { price: 543_210_000_000_000, size: 3, trade_id: 7 });
    assert_eq!((row.state, row.tick.sequence), (State::Live, 2));
    assert!(receiver.row::<Trade>(&A).is_none() && receiver.row::<Quote>(&BRK).is_none());
    let session = receiver.reader.feed(0).session.unwrap();
    assert_eq!((&session.session, session.price_decimals), (b"1137508352", 4));
    assert_eq!(session.day, 1_704_119_400 / 86_400);
}

#[test]
fn after_a_loss_each_row_is_suspect_until_it_is_told_again() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, one_line());
    let mut sender = Sender::new(1);
    let both = |symbol| [quote(symbol, (1, 10), (1, 20)), trade(symbol, 1, 1, 15)];
    sender.send(&mut receiver, &[both(A), both(BRK)].concat());
    sender.lose(3);
    sender.send(&mut receiver, &[quote(A, (2, 10), (1, 20))]);
    let feed = receiver.reader.feed(0);
    assert_eq!((feed.missing, feed.reason), (3, Reason::Gap));
    assert_eq!(receiver.state::<Quote>(&A), Some(State::Live));
    assert_eq!(receiver.state::<Trade>(&A), Some(State::Suspect));
    assert_eq!(receiver.state::<Quote>(&BRK), Some(State::Suspect));
    sender.send(&mut receiver, &[trade(A, 2, 1, 16), quote(BRK, (0, 0), (0, 0))]);
    assert_eq!(receiver.state::<Trade>(&A), Some(State::Live));
    assert_eq!(
        receiver.row::<Quote>(&BRK).map(|(quote, row)| (quote, row.state)),
        Some((Quote::EMPTY, State::Live))
    );
    assert_eq!(receiver.state::<Trade>(&BRK), Some(State::Suspect));
}

#[test]
fn a_trade_that_counts_again_after_a_loss_is_suspect() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, one_line());
    let mut sender = Sender::new(1);
    sender.send(&mut receiver, &[trade(A, 1, 1, 15), trade(A, 2, 1, 16), broken(A, 2)]);
    let last =
        |receiver: &Receiver<'_>| receiver.row::<Trade>(&A).map(|(trade, row)| (trade.trade_id, row.state));
    assert_eq!(last(&receiver), Some((1, State::Live)));
    sender.lose(1);
    sender.send(&mut receiver, &[trade(A, 3, 1, 17)]);
    assert_eq!(last(&receiver), Some((3, State::Live)));
    // The lost message may have been a trade between 1 and 3.
    sender.send(&mut receiver, &[broken(A, 3)]);
    assert_eq!(last(&receiver), Some((1, State::Suspect)));
    // Of trades that were never seen nothing changes.
    sender.send(&mut receiver, &[trade(A, 4, 1, 18), broken(A, 99), broken(BRK, 4)]);
    assert_eq!(last(&receiver), Some((4, State::Live)));
    assert!(receiver.row::<Trade>(&BRK).is_none());
}

#[test]
fn a_status_is_proven_once_both_of_its_halves_are() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, one_line());
    let mut sender = Sender::new(1);
    let status = |receiver: &Receiver<'_>| {
        let (status, row) = receiver.row::<Status>(&A).unwrap();
        (status.state, status.reason, status.operational_halt, row.state)
    };
    sender.send(&mut receiver, &[trading(A, b'T', *b"    ")]);
    assert_eq!(status(&receiver), (b'T', *b"    ", 0, State::Live));
    sender.send(&mut receiver, &[halt(A, b'O'), trading(A, b'H', *b"T1  ")]);
    assert_eq!(status(&receiver), (b'H', *b"T1  ", b'O', State::Live));
    sender.lose(1);
    sender.send(&mut receiver, &[halt(A, b'N')]);
    assert_eq!(status(&receiver), (b'H', *b"T1  ", b'N', State::Suspect));
    sender.send(&mut receiver, &[trading(A, b'T', *b"    ")]);
    assert_eq!(status(&receiver), (b'T', *b"    ", b'N', State::Live));
}

#[test]
fn joined_late_a_row_is_live_if_its_message_says_it_all() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, ArbiterConfig { held_packets: 2, ..one_line() });
    let mut sender = Sender::new(1);
    sender.lose(50);
    sender.send(&mut receiver, &[quote(A, (1, 10), (1, 20)), trade(A, 1, 1, 15), trading(A, b'T', *b"    ")]);
    let feed = receiver.reader.feed(0);
    assert_eq!((feed.reason, feed.missing), (Reason::LateStart, 0));
    assert_eq!(receiver.state::<Quote>(&A), Some(State::Live));
    assert_eq!(receiver.state::<Trade>(&A), Some(State::Live));
    assert_eq!(receiver.state::<Status>(&A), Some(State::Partial));
    sender.send(&mut receiver, &[halt(A, b'N'), broken(A, 1)]);
    assert_eq!(receiver.state::<Status>(&A), Some(State::Live));
    assert_eq!(receiver.state::<Trade>(&A), Some(State::Partial));
    sender.send(&mut receiver, &[trade(A, 2, 1, 15)]);
    assert_eq!(receiver.state::<Trade>(&A), Some(State::Live));
}

#[test]
fn symbols_beyond_the_limit_are_counted_and_harm_no_others() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 2, one_line());
    let mut sender = Sender::new(1);
    let third = *b"THIRD   ";
    let quotes = [A, BRK, third].map(|symbol| quote(symbol, (1, 10), (1, 20)));
    sender.send(&mut receiver, &quotes);
    sender.send(&mut receiver, &[trade(third, 1, 1, 15), quote(A, (2, 10), (1, 20))]);
    assert_eq!(receiver.telemetry.decoder.instruments_full.get(), 2);
    assert_eq!(receiver.reader.feed(0).reason, Reason::LimitFull);
    assert!(receiver.row::<Quote>(&third).is_none());
    assert_eq!(receiver.state::<Quote>(&A), Some(State::Live));
    assert_eq!(receiver.row::<Quote>(&A).unwrap().0.bid_size, 2);
}

#[test]
fn a_sequence_that_starts_again_under_the_same_session_is_a_new_one() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, one_line());
    let mut sender = Sender::new(1);
    for size in 1..=1_100 {
        sender.send(&mut receiver, &[quote(A, (size, 10), (1, 20)), trade(BRK, i64::from(size), 1, 15)]);
    }
    let mut again = Sender::new(1);
    again.send(&mut receiver, &[quote(A, (7, 30), (1, 40))]);
    assert_eq!(receiver.telemetry.lines.sessions.get(), 1, "one stray packet moves nothing");
    again.send(&mut receiver, &[quote(A, (8, 30), (1, 40))]);
    assert_eq!(receiver.telemetry.lines.sessions.get(), 2);
    let (held, row) = receiver.row::<Quote>(&A).unwrap();
    assert_eq!((held.bid_size, row.state, row.tick.sequence), (8, State::Live, 2));
    assert!(receiver.row::<Trade>(&BRK).is_none(), "it is of the earlier session");
    assert_eq!(receiver.reader.instruments(), 2, "an instrument keeps its number");
}

#[test]
fn a_first_packet_that_comes_again_while_the_feed_goes_on_begins_nothing() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, ArbiterConfig { lines: 2, ..one_line() });
    let mut sender = Sender::new(1);
    for size in 1..=1_100 {
        sender.send(&mut receiver, &[quote(A, (size, 10), (1, 20)), trade(BRK, i64::from(size), 1, 15)]);
    }
    Sender::new(1).send(&mut receiver, &[quote(A, (7, 30), (1, 40))]);
    let mut packet = Vec::new();
    sender.packetizer.fill(&[quote(A, (9, 10), (1, 20))], 0, &mut packet);
    receiver.receive(1, &packet);
    receiver.receive(0, &packet);
    sender.send(&mut receiver, &[quote(A, (10, 10), (1, 20))]);
    assert_eq!((receiver.telemetry.lines.sessions.get(), receiver.telemetry.lines.gaps.get()), (1, 0));
    assert_eq!(
        receiver.row::<Quote>(&A).map(|(quote, row)| (quote.bid_size, row.state)),
        Some((10, State::Live))
    );
    assert_eq!(receiver.state::<Trade>(&BRK), Some(State::Live));
}

#[test]
fn a_broken_first_packet_begins_nothing() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, one_line());
    let mut sender = Sender::new(1);
    for size in 1..=1_100 {
        sender.send(&mut receiver, &[quote(A, (size, 10), (1, 20))]);
    }
    let mut packet = Vec::new();
    Sender::new(1).packetizer.fill(&[quote(A, (7, 30), (1, 40))], 0, &mut packet);
    packet[40] -= 1;
    receiver.receive(0, &packet);
    assert_eq!(receiver.telemetry.lines.lines[0].malformed.get(), 1);
    sender.send(&mut receiver, &[quote(A, (9, 10), (1, 20))]);
    assert_eq!(receiver.row::<Quote>(&A).unwrap().0.bid_size, 9);
}

#[test]
fn another_session_number_is_a_new_session_once_confirmed() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, one_line());
    Sender::new(1).send(&mut receiver, &[quote(A, (1, 10), (1, 20)), trade(A, 1, 1, 15)]);
    let mut next = Sender::new(2);
    next.send(&mut receiver, &[quote(A, (2, 10), (1, 20))]);
    next.send(&mut receiver, &[quote(A, (3, 10), (1, 20))]);
    assert_eq!(receiver.row::<Quote>(&A).unwrap().0.bid_size, 3);
    assert!(receiver.row::<Trade>(&A).is_none());
    assert_eq!(&receiver.reader.feed(0).session.unwrap().session, b"2\0\0\0\0\0\0\0\0\0");
}

#[test]
fn a_feed_that_says_nothing_is_stale() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, one_line());
    let mut sender = Sender::new(1);
    sender.send(&mut receiver, &[quote(A, (1, 10), (1, 20))]);
    receiver.now_ns += 5 * SECOND_NS;
    receiver.feed.poll(receiver.now_ns, &mut receiver.writer);
    assert_eq!(receiver.state::<Quote>(&A), Some(State::Stale));
    // A heartbeat says that nothing was missed.
    sender.send(&mut receiver, &[]);
    assert_eq!(receiver.state::<Quote>(&A), Some(State::Live));
}
