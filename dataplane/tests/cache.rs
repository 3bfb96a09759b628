//! Writer, reader, directory and cursor of a region in memory.
#![cfg(not(loom))]

use dataplane::cache::cell::Cell;
use dataplane::cache::reader::{Cursor, Next, Reader, State};
use dataplane::cache::region::{Layout, RegionError};
use dataplane::cache::tick::{
    Condition, Definition, FeedState, INSTRUMENT_NONE, Quote, Reason, Session, Tick, Trade, flag,
};
use dataplane::cache::writer::{InstrumentsFull, Writer};
use std::sync::atomic::{AtomicBool, Ordering};

const LAYOUT: Layout = Layout { instruments: 8, feeds: 2, log_ticks: 16, bursts: 4 };

fn cells(layout: &Layout) -> Vec<Cell> {
    (0..layout.cells()).map(|_| Cell::default()).collect()
}

fn quote(instrument: u32, number: u64) -> Tick {
    let quote = Quote { bid_price: number as i64, ask_price: -1, bid_size: number as u32, ask_size: 1 };
    Tick { instrument, sequence: number, received_ns: number, ..Tick::default() }.with_payload(quote)
}

fn session(writer: &mut Writer<'_>, feed: u16) -> u64 {
    let head = Tick { instrument: INSTRUMENT_NONE, feed, ..Tick::default() };
    let named: Session = bytemuck::Zeroable::zeroed();
    let position = writer.publish(&head.with_payload(named));
    condition(writer, feed, Condition::Live, 0, Reason::None);
    position
}

fn condition(writer: &mut Writer<'_>, feed: u16, condition: Condition, proven_from: u64, reason: Reason) {
    let head = Tick { instrument: INSTRUMENT_NONE, feed, ..Tick::default() };
    let state = FeedState {
        condition: condition as u8,
        proven_from,
        reason: reason as u8,
        missing: 0,
        reserved: [0; 6],
    };
    writer.publish(&head.with_payload(state));
}

#[test]
fn a_row_goes_through_all_its_states() {
    let cells = cells(&LAYOUT);
    let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    let reader = Reader::open(&cells).unwrap();
    let state = |now_ns| reader.row::<Quote>(3, now_ns).map(|row| row.state);
    writer.publish(&quote(3, 1));
    assert_eq!(state(0), Some(State::Stale), "nobody vouches for it, and its feed is waiting");
    writer.keep_alive(100, 50);
    session(&mut writer, 0);
    assert_eq!(state(120), None, "it is of the session before");
    writer.publish(&quote(3, 2));
    assert_eq!((state(149), state(150)), (Some(State::Live), Some(State::Stale)));
    writer.publish(&Tick { flags: flag::PARTIAL, ..quote(3, 3) });
    assert_eq!(state(120), Some(State::Partial));
    condition(&mut writer, 0, Condition::Live, u64::MAX, Reason::Gap);
    let row = reader.row::<Quote>(3, 120).unwrap();
    assert_eq!((row.state, row.reason), (State::Suspect, Reason::Gap));
    condition(&mut writer, 0, Condition::Stale, u64::MAX, Reason::Gap);
    assert_eq!(state(120), Some(State::Stale));
    session(&mut writer, 0);
    writer.publish(&quote(3, 4));
    assert_eq!(state(120), Some(State::Live), "a new session proves again");
    condition(&mut writer, 1, Condition::Stale, 0, Reason::None);
    assert_eq!(state(120), Some(State::Live), "another feed's condition is not its own");
    writer.keep_alive(111, 50);
    assert_eq!(reader.valid_until_ns(), 150, "a quarter has not passed");
    writer.retire();
    writer.keep_alive(200, 50);
    assert_eq!(state(0), Some(State::Stale), "retired for good");
    assert_eq!(reader.row::<Trade>(3, 120), None);
    assert_eq!(reader.row::<Quote>(8, 120), None, "there is no such instrument");
}

#[test]
fn names_are_found_without_a_scan_and_renamed() {
    let cells = cells(&LAYOUT);
    let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    let reader = Reader::open(&cells).unwrap();
    let found = |name: &str| reader.find(name.as_bytes()).collect::<Vec<_>>();
    session(&mut writer, 0);
    writer.keep_alive(0, 1_000);
    for (number, name) in ["17", "AAPL", "ZVZZT", "A", "B", "C", "D", "E"].into_iter().enumerate() {
        let instrument = writer.allocate().unwrap();
        assert_eq!(instrument as usize, number);
        let feed = u16::from(name == "B");
        writer.define(
            instrument,
            &Tick { feed, ..Tick::default() },
            Definition::new(number as u32, name.as_bytes()),
        );
    }
    assert_eq!(writer.allocate(), Err(InstrumentsFull));
    assert_eq!((found("AAPL"), found("17"), found("nothing")), (vec![1], vec![0], vec![]));
    writer.define(0, &Tick::default(), Definition::new(17, b"MSFT"));
    assert_eq!((found("17"), found("MSFT")), (vec![], vec![0]));
    assert_eq!(writer.find(0, b"MSFT").map(|(instrument, _)| instrument), Some(0));
    assert_eq!((writer.find(1, b"MSFT"), writer.find(0, b"B")), (None, None), "each feed has its own names");
    // More names than the directory has words: found or not, but never wrong.
    for number in 0..100 {
        let name = format!("N{number}");
        writer.define(2, &Tick::default(), Definition::new(2, name.as_bytes()));
        assert!(found(&name).iter().all(|instrument| *instrument == 2));
    }
    assert_eq!((found("AAPL"), reader.instruments()), (vec![1], 8));
}

#[test]
fn a_cursor_that_is_lapped_knows_by_how_much() {
    let cells = cells(&LAYOUT);
    let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    let reader = Reader::open(&cells).unwrap();
    let mut cursor = reader.cursor();
    writer.publish(&quote(1, 1));
    assert_eq!(cursor.next(&reader), Next::CaughtUp, "not committed");
    assert_eq!((writer.commit(), writer.commit()), (1, 0));
    assert_eq!(cursor.next(&reader), Next::Tick { position: 0, tick: quote(1, 1) });
    for number in 2..=40 {
        writer.publish(&quote(1, number));
    }
    writer.commit();
    assert_eq!(cursor.next(&reader), Next::Lapped { skipped: 39 });
    assert_eq!(cursor.next(&reader), Next::CaughtUp);
    let mut late = Cursor::at(24);
    assert!(matches!(late.next(&reader), Next::Tick { position: 24, .. }), "the last 16 are there");
    assert!(matches!(Cursor::at(23).next(&reader), Next::Lapped { skipped: 17 }));
    assert_eq!(late.skip_to_tail(&reader), 15);
}

#[test]
fn the_time_of_a_publication_is_known_as_long_as_the_ring_has_it() {
    let cells = cells(&LAYOUT);
    let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    let reader = Reader::open(&cells).unwrap();
    for burst in 0..6 {
        writer.publish(&quote(1, burst));
        writer.publish(&quote(1, burst));
        writer.commit();
        writer.stamp_burst(1_000 + burst);
    }
    let published = |position| reader.published_ns(position, &mut 0);
    assert_eq!((published(4), published(5), published(11)), (Some(1_002), Some(1_002), Some(1_005)));
    assert_eq!(published(12), None, "not published");
    let mut hint = 0;
    for position in 4..12 {
        assert_eq!(reader.published_ns(position, &mut hint), Some(1_000 + position / 2));
    }
}

#[test]
fn memory_that_is_no_region_is_refused() {
    let cells = cells(&LAYOUT);
    assert_eq!(Reader::open(&cells).err(), Some(RegionError::NotARegion));
    assert!(matches!(Reader::open(&[]).err(), Some(RegionError::TooSmall { .. })));
    let short = &cells[..cells.len() - 1];
    assert!(matches!(Writer::format(short, LAYOUT, 1).err(), Some(RegionError::TooSmall { .. })));
    for layout in [
        Layout { instruments: 0, ..LAYOUT },
        Layout { log_ticks: 17, ..LAYOUT },
        Layout { bursts: 0, ..LAYOUT },
        Layout { feeds: 17, ..LAYOUT },
    ] {
        assert!(matches!(Writer::format(&cells, layout, 1).err(), Some(RegionError::Limit { .. })));
    }
    Writer::format(&cells, LAYOUT, 7).unwrap();
    assert_eq!(Reader::open(&cells).unwrap().generation(), 7);
    assert!(matches!(Reader::open(&cells[..20]).err(), Some(RegionError::TooSmall { .. })));
}

#[test]
fn readers_never_see_a_torn_tick_while_the_writer_writes() {
    let cells = cells(&LAYOUT);
    let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    session(&mut writer, 0);
    writer.keep_alive(0, u64::MAX / 2);
    let reader = Reader::open(&cells).unwrap();
    let ended = AtomicBool::new(false);
    let seen: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut rows, mut ticks, mut last) = (0, 0, 0);
                    let mut cursor = reader.cursor();
                    // One more round after the end, so that each has looked.
                    let mut over = false;
                    while !over {
                        over = ended.load(Ordering::Acquire);
                        if let Some(row) = reader.row::<Quote>(3, 1) {
                            assert_eq!(row.tick, quote(3, row.tick.sequence));
                            assert!(row.position >= last, "a row does not go back");
                            last = row.position;
                            rows += 1;
                        }
                        if let Next::Tick { tick, .. } = cursor.next(&reader)
                            && tick.instrument == 3
                        {
                            assert_eq!(tick, quote(3, tick.sequence));
                            ticks += 1;
                        }
                    }
                    (rows, ticks)
                })
            })
            .collect();
        for number in 1..=300_000 {
            writer.publish(&quote(3, number));
            writer.commit();
        }
        ended.store(true, Ordering::Release);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert!(seen.iter().all(|(rows, _)| *rows > 0), "{seen:?}");
}
