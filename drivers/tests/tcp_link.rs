//! Replication over real loopback sockets, and frames that must not be taken.

use dataplane::cache::cell::Cell;
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Definition, Quote, Tick};
use dataplane::cache::writer::Writer;
use dataplane::replica::{
    Copied, Lineage, Link, Message, Primary, PrimaryLimits, Record, Standby, StandbyError,
};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::tcp_link::{
    FrameError, HEADER_BYTES, LinkError, MESSAGE_BYTES, PrimaryEnd, RECORD_BYTES, RECORDS_MAX, StandbyEnd,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const LAYOUT: Layout = Layout { instruments: 32, feeds: 1, log_ticks: 256, bursts: 16 };
const LIMITS: PrimaryLimits = PrimaryLimits { window_ticks: 64, valid_for_ns: 400_000_000 };
const PATIENCE: Duration = Duration::from_secs(60);

fn cells() -> Vec<Cell> {
    (0..LAYOUT.cells()).map(|_| Cell::default()).collect()
}

/// Both ends of one connection.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn now_ns() -> u64 {
    SystemClock.monotonic_ns()
}

fn quote(instrument: u32, value: u64) -> Tick {
    let quote = Quote { bid_price: value as i64, bid_size: 1, ..Quote::EMPTY };
    Tick { instrument, sequence: value, ..Tick::default() }.with_payload(quote)
}

/// Goes round until it is so, which must be within a minute.
fn until(what: &str, mut round: impl FnMut() -> bool) {
    let started = Instant::now();
    while !round() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// A primary and a standby with a connection between them.
struct Pair<'m> {
    writer: Writer<'m>,
    reader: Reader<'m>,
    copy: Reader<'m>,
    primary: Primary<'m>,
    standby: Standby<'m>,
    ends: (PrimaryEnd, StandbyEnd),
    value: u64,
}

impl<'m> Pair<'m> {
    fn new(cells: &'m [Vec<Cell>; 2]) -> Pair<'m> {
        let mut writer = Writer::format(&cells[0], LAYOUT, 1).unwrap();
        for index in 0..LAYOUT.instruments {
            let instrument = writer.allocate().unwrap();
            let name = format!("I{index}");
            writer.define(instrument, &Tick::default(), Definition::new(index, name.as_bytes()));
        }
        writer.commit();
        let reader = Reader::open(&cells[0]).unwrap();
        let mut primary = Primary::new(reader, Lineage::first(1, 7), LIMITS);
        let mut standby = Standby::new(Follower::format(&cells[1], LAYOUT, 1).unwrap(), 0);
        let copy = Reader::open(&cells[1]).unwrap();
        let ends = connect(&mut primary, &mut standby);
        Pair { writer, reader, copy, primary, standby, ends, value: 0 }
    }

    fn reconnect(&mut self) {
        self.ends = connect(&mut self.primary, &mut self.standby);
    }

    fn write(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.value += 1;
            self.writer.publish(&quote((self.value * 7 % 32) as u32, self.value));
        }
        self.writer.commit();
    }

    fn poll_primary(&mut self) {
        self.writer.keep_alive(now_ns(), 60_000_000_000);
        let end = &mut self.ends.0;
        end.fill().unwrap();
        self.primary.poll(end, now_ns());
        end.flush().unwrap();
    }

    fn poll_standby(&mut self) {
        self.ends.1.poll(&mut self.standby, now_ns, &mut |_| true).unwrap();
    }

    fn until_level(&mut self) {
        until("the standby is level, believed and acknowledged", || {
            self.poll_primary();
            self.poll_standby();
            let (status, tail) = (self.standby.status(), self.reader.tail());
            let is_believed = self.copy.valid_until_ns() > now_ns();
            status.level
                && status.position == tail
                && is_believed
                && self.primary.status().acknowledged == tail
        });
    }

    /// Both regions hold the same; returns how many ticks of the log and rows were compared.
    fn compare(&self) -> (u64, u32) {
        let (mut ticks, mut rows) = (0, 0);
        let tail = self.reader.tail();
        assert_eq!(self.copy.tail(), tail);
        for position in tail.saturating_sub(LAYOUT.log_ticks)..tail {
            // An image's log begins where it was taken.
            if let Some(copied) = self.copy.log_tick(position) {
                assert_eq!(Some(copied), self.reader.log_tick(position));
                ticks += 1;
            }
        }
        assert_eq!(self.copy.image_rows(), self.reader.image_rows());
        for index in 0..self.reader.image_rows() {
            let row = self.reader.image_row(index);
            assert_eq!(self.copy.image_row(index), row, "row {index}");
            rows += u32::from(row.is_some());
        }
        for index in 0..LAYOUT.instruments {
            let name = format!("I{index}");
            assert_eq!(self.copy.find(name.as_bytes()).collect::<Vec<_>>(), [index]);
        }
        (ticks, rows)
    }
}

fn connect(primary: &mut Primary<'_>, standby: &mut Standby<'_>) -> (PrimaryEnd, StandbyEnd) {
    let (ours, theirs) = connection();
    primary.connected();
    (PrimaryEnd::new(ours).unwrap(), StandbyEnd::new(theirs, standby).unwrap())
}

#[test]
fn log_and_image_arrive_and_a_new_connection_goes_on_without_an_image() {
    let cells = [cells(), cells()];
    let mut pair = Pair::new(&cells);
    pair.write(1_000);
    pair.until_level();
    assert_eq!(pair.primary.counters().images, 1);
    for _ in 0..50 {
        pair.write(40);
        pair.until_level();
    }
    assert_eq!(pair.compare(), (LAYOUT.log_ticks, 64));
    let before = pair.standby.counters();
    assert!(before.ticks >= 2_000 && before.rows >= 64, "{before:?}");
    pair.reconnect();
    pair.write(100);
    pair.until_level();
    let after = pair.standby.counters();
    assert_eq!((after.images, after.connections, after.ticks - before.ticks), (1, 2, 100));
    assert_eq!(pair.compare(), (LAYOUT.log_ticks, 64));
}

#[test]
fn a_standby_that_did_not_read_for_too_long_gets_an_image() {
    let cells = [cells(), cells()];
    let mut pair = Pair::new(&cells);
    pair.until_level();
    let generation = pair.copy.generation();
    for _ in 0..20 {
        pair.write(50);
        pair.poll_primary();
    }
    assert!(pair.primary.status().sent < pair.reader.tail() - LAYOUT.log_ticks);
    pair.until_level();
    assert_eq!((pair.primary.counters().lapped, pair.standby.counters().images), (1, 2));
    assert_ne!(pair.copy.generation(), generation);
    assert_eq!(pair.compare().1, 64);
}

#[test]
fn a_peer_that_does_not_read_fills_what_room_there_is_and_no_more() {
    let cells = [cells(), cells()];
    let mut pair = Pair::new(&cells);
    pair.write(200);
    let (_silent, stream) = connection();
    let mut end = PrimaryEnd::new(stream).unwrap();
    let (from, upto) = (pair.reader.tail() - 100, pair.reader.tail());
    let rows: Vec<Record> = (0..64).map(|position| Record { position, tick: quote(0, position) }).collect();
    let mut carried = 0_u64;
    until("there is no room", || {
        let Copied::Upto(upto) = end.copy(&pair.reader, from, upto) else { panic!("not lapped") };
        let flushed = end.flush().unwrap();
        carried += upto - from;
        upto == from && flushed == 0
    });
    while end.rows(&rows[..1]) != 0 {}
    while end.send(Message::Level { session: 1, at: 1 }) {}
    assert!(carried > 100);
    assert_eq!((end.rows(&rows), end.copy(&pair.reader, from, upto)), (0, Copied::Upto(from)));
    // What the log has lost is told even so, as soon as there is room to look.
    let (mut other, stream) = connection();
    let mut end = PrimaryEnd::new(stream).unwrap();
    pair.write(LAYOUT.log_ticks);
    assert_eq!(end.copy(&pair.reader, from, upto), Copied::Lapped);
    end.flush().unwrap();
    drop(end);
    assert_eq!(other.read(&mut [0; 8]).unwrap(), 0, "nothing of it was sent");
}

/// The bytes that a primary's end sends.
fn sent(bytes: usize, send: impl FnOnce(&mut PrimaryEnd)) -> Vec<u8> {
    let (mut there, here) = connection();
    let mut end = PrimaryEnd::new(here).unwrap();
    send(&mut end);
    assert_eq!(end.flush().unwrap(), bytes);
    let mut frame = vec![0; bytes];
    there.read_exact(&mut frame).unwrap();
    frame
}

fn message_frame(message: Message) -> Vec<u8> {
    sent(HEADER_BYTES + MESSAGE_BYTES, |end| assert!(end.send(message)))
}

const BEGIN: Message = Message::Begin {
    session: 1,
    lineage: Lineage { term: 1, log: 7, start: 0, before: 0 },
    from: 0,
    image: true,
};

fn ticks_frame() -> Vec<u8> {
    let cells = cells();
    let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    writer.publish(&quote(0, 0));
    writer.publish(&quote(0, 1));
    writer.commit();
    let reader = Reader::open(&cells).unwrap();
    sent(HEADER_BYTES + 2 * RECORD_BYTES, |end| assert_eq!(end.copy(&reader, 0, 2), Copied::Upto(2)))
}

fn rows_frame() -> Vec<u8> {
    let rows = [Record { position: 9, tick: quote(3, 1) }];
    sent(HEADER_BYTES + RECORD_BYTES, |end| assert_eq!(end.rows(&rows), 1))
}

/// Writes the right checksum into a frame.
fn with_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    frame
}

/// What a standby that has been sent these bytes, and then the end, says, and what it has.
fn standby_on(bytes: &[u8]) -> (LinkError, u64, u64) {
    let cells = cells();
    let mut standby = Standby::new(Follower::format(&cells, LAYOUT, 1).unwrap(), 0);
    let (mut there, here) = connection();
    let mut end = StandbyEnd::new(here, &mut standby).unwrap();
    there.write_all(bytes).unwrap();
    there.shutdown(Shutdown::Write).unwrap();
    let mut error = None;
    until("the connection ends", || {
        error = end.poll(&mut standby, now_ns, &mut |_| true).err();
        error.is_some()
    });
    (error.unwrap(), standby.counters().ticks + standby.counters().rows, standby.status().term)
}

fn primary_on(bytes: &[u8]) -> (LinkError, Vec<Message>) {
    let (mut there, here) = connection();
    let mut end = PrimaryEnd::new(here).unwrap();
    there.write_all(bytes).unwrap();
    there.shutdown(Shutdown::Write).unwrap();
    let (mut error, mut messages) = (None, Vec::new());
    until("the connection ends", || {
        messages.extend(std::iter::from_fn(|| end.receive()));
        error = end.fill().err();
        error.is_some()
    });
    (error.unwrap(), messages)
}

#[test]
fn a_frame_that_was_cut_anywhere_is_not_taken() {
    let begin = message_frame(BEGIN);
    for frame in [ticks_frame(), rows_frame()] {
        for cut in 0..frame.len() {
            let (error, taken, term) = standby_on(&[&begin, &frame[..cut]].concat());
            assert_eq!((taken, term), (0, 1));
            match error {
                LinkError::Closed => assert_eq!(cut, 0),
                LinkError::Cut { bytes } => assert_eq!(bytes, cut),
                other => panic!("{other}"),
            }
        }
        let (error, taken, _) = standby_on(&[&begin[..], &frame].concat());
        assert!(matches!(error, LinkError::Closed) && taken > 0, "the whole one is taken");
    }
    for cut in 1..begin.len() {
        let (error, messages) = primary_on(&begin[..cut]);
        assert!(matches!(error, LinkError::Cut { bytes } if bytes == cut) && messages.is_empty(), "{error}");
    }
}

#[test]
fn a_frame_with_any_byte_changed_is_not_taken() {
    let begin = message_frame(BEGIN);
    for frame in [ticks_frame(), rows_frame()] {
        for at in 0..frame.len() {
            let mut bad = frame.clone();
            bad[at] ^= 0x04;
            let (error, taken, _) = standby_on(&[&begin[..], &bad].concat());
            assert!(matches!(error, LinkError::Frame(_) | LinkError::Cut { .. }), "byte {at}: {error}");
            assert_eq!(taken, 0, "byte {at}");
        }
    }
    for at in 0..begin.len() {
        let mut bad = begin.clone();
        bad[at] ^= 0x80;
        let (error, _, term) = standby_on(&bad);
        assert!(matches!(error, LinkError::Frame(_)) && term == 0, "byte {at}: {error}");
        let (error, messages) = primary_on(&bad);
        assert!(matches!(error, LinkError::Frame(_)) && messages.is_empty(), "byte {at}: {error}");
    }
}

#[test]
fn what_no_frame_may_say_is_refused_with_its_cause() {
    let begin = message_frame(BEGIN);
    let changed = |frame: &[u8], at: usize, bytes: &[u8]| {
        let mut frame = frame.to_vec();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        with_checksum(frame)
    };
    let ticks = ticks_frame();
    let many = (RECORDS_MAX as u16 + 1).to_le_bytes();
    let refused = [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "no node of Tickplane"),
        (changed(&begin, 8, &[4, 0]), "no frame of kind 4"),
        (changed(&begin, 10, &[2, 0]), "2 records in a frame of kind 1: there may be 1 to 1"),
        (changed(&ticks, 10, &[0, 0]), "0 records in a frame of kind 3: there may be 1 to 256"),
        (changed(&ticks, 10, &many), "257 records"),
        (changed(&ticks, 12, &[1]), "position 1, which should be 0"),
        (changed(&rows_frame(), 12, &[1]), "position 1, which should be 0"),
        (changed(&begin, HEADER_BYTES, &[99]), "no message of this version"),
        (ticks.clone(), "may not say now"),
    ];
    for (bytes, expected) in refused {
        let (error, taken, _) = standby_on(&bytes);
        assert!(error.to_string().contains(expected) && taken == 0, "{error}, not {expected}");
    }
    let (error, _) = primary_on(&ticks);
    assert!(matches!(error, LinkError::Frame(FrameError::OutOfPlace { kind: 3 })), "{error}");
    let foreign = changed(&rows_frame(), HEADER_BYTES + 8 + 24, &u32::MAX.to_le_bytes());
    let (error, ..) = standby_on(&[&begin[..], &foreign].concat());
    assert!(matches!(error, LinkError::Standby(StandbyError::Foreign(_))), "{error}");
}

#[test]
fn each_end_tells_when_the_other_one_is_gone() {
    let cells = [cells(), cells()];
    let Pair { mut standby, ends: (primary_end, mut end), .. } = Pair::new(&cells);
    drop(primary_end);
    let mut error = None;
    until("the standby is told", || {
        error = end.poll(&mut standby, now_ns, &mut |_| true).err();
        error.is_some()
    });
    assert!(matches!(error, Some(LinkError::Closed | LinkError::System(_))), "{error:?}");
    let (error, messages) = primary_on(&message_frame(BEGIN));
    assert!(matches!(error, LinkError::Closed), "{error}");
    assert_eq!(messages, [BEGIN], "what came before the end is taken");
}
