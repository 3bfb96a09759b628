//! Records of one's own, from datagrams to rows.

use dataplane::cache::cell::Cell;
use dataplane::cache::reader::{Reader, Row, State};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{self, PRICE_ABSENT, Payload, Reason};
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Arrival, Feed, Protocol};
use dataplane::hint::NoPrefetch;
use dataplane::telemetry::FeedTelemetry;
use dataplane::wire::moldudp64::Header;
use dataplane::wire::record::{Quote, Record, Status, Trade};
use zerocopy::IntoBytes;

const LAYOUT: Layout = Layout { instruments: 4, feeds: 1, log_ticks: 1 << 10, bursts: 1 << 4 };

struct Receiver<'m> {
    feed: Feed<NoPrefetch>,
    writer: Writer<'m>,
    telemetry: FeedTelemetry,
    reader: Reader<'m>,
    session: [u8; 10],
    sequence: u64,
}

fn cells() -> Vec<Cell> {
    (0..LAYOUT.cells()).map(|_| Cell::default()).collect()
}

impl<'m> Receiver<'m> {
    fn new(cells: &'m [Cell]) -> Receiver<'m> {
        let mut writer = Writer::format(cells, LAYOUT, 1).unwrap();
        writer.keep_alive(0, u64::MAX / 2);
        let telemetry = FeedTelemetry::default();
        let config =
            ArbiterConfig { lines: 1, reorder_packets: 1, held_packets: 8, ..ArbiterConfig::default() };
        let protocol = Protocol::Records { instruments_max: LAYOUT.instruments as usize };
        let feed = Feed::new(0, protocol, config, &telemetry).unwrap();
        let reader = Reader::open(cells).unwrap();
        Receiver { feed, writer, telemetry, reader, session: *b"1704119400", sequence: 1 }
    }

    /// The messages in one packet.
    fn receive(&mut self, messages: &[&[u8]]) {
        let header = Header {
            session: self.session,
            sequence: self.sequence.into(),
            message_count: (messages.len() as u16).into(),
        };
        let mut packet = header.as_bytes().to_vec();
        for message in messages {
            packet.extend_from_slice(&(message.len() as u16).to_be_bytes());
            packet.extend_from_slice(message);
        }
        self.sequence += messages.len() as u64;
        let arrival = Arrival { line: 0, now_ns: 1_000, received_ns: 1_704_119_400_000_000_000 };
        self.feed.accept(&packet, arrival, &mut self.writer);
        self.feed.flush(&mut self.writer);
        self.writer.commit();
    }

    fn row<P: Payload>(&self, name: &str) -> Option<(P, Row)> {
        let instrument = self.reader.find(name.as_bytes()).next()?;
        let row = self.reader.row::<P>(instrument, 1)?;
        Some((*row.tick.payload::<P>().unwrap(), row))
    }

    fn state<P: Payload>(&self, name: &str) -> Option<State> {
        self.row::<P>(name).map(|(_, row)| row.state)
    }
}

fn counter(name: &str, size: u64) -> Record {
    let trade = Trade { price: i64::MIN.into(), size: size.into(), trade_id: 1.into() };
    Record::trade(name, 1_704_119_399_000_000_000, &trade).unwrap()
}

#[test]
fn each_kind_becomes_its_row() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells);
    let quote = Quote {
        bid_price: (-1_500_000_000).into(),
        ask_price: i64::MIN.into(),
        bid_size: 7.into(),
        ask_size: 0.into(),
    };
    let quote = Record::quote("°C outside", 5, &quote).unwrap();
    let status = Status { state: b'U', reason: *b"UP  ", reserved: [0; 19] };
    let status = Record::status("eth0", 0, &status).unwrap();
    receiver.receive(&[quote.as_bytes(), counter("eth0", u64::MAX).as_bytes(), status.as_bytes()]);
    let (held, row) = receiver.row::<tick::Quote>("°C outside").unwrap();
    let expected =
        tick::Quote { bid_price: -1_500_000_000, ask_price: PRICE_ABSENT, bid_size: 7, ask_size: 0 };
    assert_eq!((held, row.state), (expected, State::Live));
    assert_eq!((row.tick.sequence, row.tick.exchange_ns), (1, 5));
    let (held, row) = receiver.row::<tick::Trade>("eth0").unwrap();
    assert_eq!(held, tick::Trade { price: PRICE_ABSENT, size: u64::MAX, trade_id: 1 });
    assert_eq!((row.tick.sequence, row.tick.exchange_ns), (2, 1_704_119_399_000_000_000));
    let (held, _) = receiver.row::<tick::Status>("eth0").unwrap();
    assert_eq!((held.state, &held.reason), (b'U', b"UP  "));
    assert_eq!((receiver.reader.instruments(), receiver.telemetry.decoder.definitions.get()), (2, 2));
}

#[test]
fn a_row_is_suspect_after_a_loss_and_live_once_told_again() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells);
    receiver.receive(&[counter("a", 1).as_bytes(), counter("b", 1).as_bytes()]);
    receiver.sequence += 3;
    receiver.receive(&[counter("a", 2).as_bytes()]);
    assert_eq!(receiver.state::<tick::Trade>("a"), Some(State::Live));
    assert_eq!(receiver.state::<tick::Trade>("b"), Some(State::Suspect));
    assert_eq!((receiver.reader.feed(0).missing, receiver.reader.feed(0).reason), (3, Reason::Gap));
}

#[test]
fn joined_late_a_row_is_live_once_told() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells);
    receiver.sequence = 1_000_000;
    receiver.receive(&[counter("a", 1).as_bytes()]);
    assert_eq!(receiver.reader.feed(0).reason, Reason::LateStart);
    assert_eq!(receiver.state::<tick::Trade>("a"), Some(State::Live));
    assert!(receiver.reader.definition(0, 1).is_some_and(|(row, _)| row.state == State::Live));
}

#[test]
fn a_sender_that_starts_again_has_a_new_session() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells);
    receiver.receive(&[counter("a", 1).as_bytes(), counter("b", 1).as_bytes()]);
    (receiver.session, receiver.sequence) = (*b"1704119500", 1);
    receiver.receive(&[counter("b", 2).as_bytes()]);
    receiver.receive(&[counter("b", 3).as_bytes()]);
    assert!(receiver.row::<tick::Trade>("a").is_none());
    let (held, row) = receiver.row::<tick::Trade>("b").unwrap();
    assert_eq!((held.size, row.state, row.tick.instrument), (3, State::Live, 1));
}

#[test]
fn what_is_no_record_is_counted() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells);
    let good = counter("a", 1);
    receiver.receive(&[good.as_bytes()]);
    let version = Record { version: 2, ..good };
    let kind = Record { kind: 9, ..good };
    receiver.receive(&[version.as_bytes(), kind.as_bytes(), b"??"]);
    assert_eq!(receiver.telemetry.decoder.unknown_types.get(), 3);
    assert_eq!(receiver.state::<tick::Trade>("a"), Some(State::Live), "newer senders harm nothing");
    let unnamed = Record { name: [0; 20], ..good };
    let ghost =
        Quote { bid_price: i64::MIN.into(), ask_price: 0.into(), bid_size: 1.into(), ask_size: 0.into() };
    let ghost = Record::quote("a", 0, &ghost).unwrap();
    let bad = [unnamed.as_bytes(), &good.as_bytes()[..55], ghost.as_bytes(), b""];
    for (count, message) in bad.iter().enumerate() {
        receiver.receive(&[message]);
        assert_eq!(receiver.telemetry.decoder.malformed.get(), count as u64 + 1);
        assert_eq!(receiver.state::<tick::Trade>("a"), Some(State::Suspect));
        receiver.receive(&[good.as_bytes()]);
        assert_eq!(receiver.state::<tick::Trade>("a"), Some(State::Live));
    }
    assert!(receiver.row::<tick::Quote>("a").is_none());
}

#[test]
fn names_beyond_the_regions_room_are_counted() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells);
    for name in ["a", "b", "c", "d", "e", "f", "a"] {
        receiver.receive(&[counter(name, 1).as_bytes()]);
    }
    assert_eq!(receiver.telemetry.decoder.instruments_full.get(), 2);
    assert_eq!(receiver.reader.feed(0).reason, Reason::LimitFull);
    assert_eq!(receiver.state::<tick::Trade>("a"), Some(State::Live));
    assert!(receiver.row::<tick::Trade>("e").is_none());
}
