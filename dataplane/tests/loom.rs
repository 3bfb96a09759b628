//! Every order in which the cache's loads and stores may happen, by loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p dataplane --release --test loom`.
#![cfg(loom)]

use dataplane::cache::cell::{Cell, Load};
use dataplane::cache::reader::{Cursor, Next, Reader};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Definition, Quote, Tick};
use dataplane::cache::writer::Writer;
use dataplane::quota::{Gcra, Limit};
use loom::sync::Arc;
use loom::thread;

/// A tick all of whose words say the same number.
fn tick(number: u64) -> Tick {
    let quote = Quote {
        bid_price: number as i64,
        ask_price: number as i64,
        bid_size: number as u32,
        ask_size: number as u32,
    };
    Tick { sequence: number, exchange_ns: number, received_ns: number, ..Tick::default() }.with_payload(quote)
}

fn is_whole(found: &Tick) -> bool {
    *found == tick(found.sequence)
}

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(check);
}

#[test]
fn a_load_sees_one_store_whole_or_none() {
    model(2, || {
        let cell = Arc::new(Cell::default());
        let written = cell.clone();
        let writer = thread::spawn(move || {
            written.store(0, &tick(1));
            written.store(4, &tick(5));
        });
        match cell.load() {
            Load::Held { position, tick } => {
                assert!(is_whole(&tick));
                assert_eq!(position + 1, tick.sequence);
            }
            Load::Empty | Load::Torn => {}
        }
        writer.join().unwrap();
        assert_eq!(cell.load().held(), Some((4, tick(5))));
    });
}

#[test]
fn what_is_asked_for_by_position_is_that_or_nothing() {
    model(3, || {
        let cell = Arc::new(Cell::default());
        let written = cell.clone();
        let writer = thread::spawn(move || {
            written.store(0, &tick(1));
            written.store(1, &tick(2));
        });
        if let Some(found) = cell.load_at(0) {
            assert_eq!(found, tick(1));
        }
        writer.join().unwrap();
        assert_eq!((cell.load_at(0), cell.load_at(1)), (None, Some(tick(2))));
    });
}

/// The whole of the smallest region: a log of one tick, so that the second one laps.
#[test]
fn a_cursor_sees_each_tick_or_knows_that_it_was_lapped() {
    const LAYOUT: Layout = Layout { instruments: 1, feeds: 1, log_ticks: 1, bursts: 1 };
    model(2, || {
        let cells: &'static [Cell] = Box::leak((0..LAYOUT.cells()).map(|_| Cell::default()).collect());
        let mut writer = Writer::format(cells, LAYOUT, 1).unwrap();
        let reader = Reader::open(cells).unwrap();
        let writing = thread::spawn(move || {
            for number in 1..=2 {
                writer.publish(&tick(number));
                writer.commit();
            }
        });
        let mut cursor = Cursor::at(0);
        let (mut seen, mut skipped) = (0, 0);
        for _ in 0..2 {
            match cursor.next(&reader) {
                Next::Tick { position, tick } => {
                    assert!(is_whole(&tick) && tick.sequence == position + 1);
                    seen += 1;
                }
                Next::Lapped { skipped: lapped } => skipped += lapped,
                Next::CaughtUp => {}
            }
        }
        writing.join().unwrap();
        while cursor.position() < reader.tail() {
            match cursor.next(&reader) {
                Next::Tick { .. } => seen += 1,
                Next::Lapped { skipped: lapped } => skipped += lapped,
                Next::CaughtUp => {}
            }
        }
        assert_eq!(seen + skipped, 2, "none twice, none unnoticed");
    });
}

/// Who has seen that an instrument is defined finds it by its name, beside one whose search begins at the same word; who has
/// not finds it or nothing, and never another.
#[test]
fn an_instrument_that_is_defined_is_found() {
    const LAYOUT: Layout = Layout { instruments: 2, feeds: 1, log_ticks: 2, bursts: 1 };
    const NAMES: [&[u8]; 2] = [b"A", b"J"];
    model(2, || {
        let cells: &'static [Cell] = Box::leak((0..LAYOUT.cells()).map(|_| Cell::default()).collect());
        let mut writer = Writer::format(cells, LAYOUT, 1).unwrap();
        let reader = Reader::open(cells).unwrap();
        let writing = thread::spawn(move || {
            for (native_id, name) in (1..).zip(NAMES) {
                let instrument = writer.allocate().unwrap();
                writer.define(instrument, &Tick::default(), Definition::new(native_id, name));
                writer.commit();
            }
        });
        let defined = reader.instruments().max(reader.tail() as u32);
        for (instrument, name) in (0..).zip(NAMES) {
            let found: Vec<u32> = reader.find(name).collect();
            assert!(found == [instrument] || (found.is_empty() && instrument >= defined), "{found:?}");
        }
        writing.join().unwrap();
        for (instrument, name) in (0..).zip(NAMES) {
            assert_eq!(reader.find(name).collect::<Vec<_>>(), [instrument]);
        }
    });
}

/// Two callers, and a change of the rate and the burst between two moments of them: every unit is one of the burst that held.
#[test]
fn no_unit_is_taken_twice_while_the_limit_changes() {
    const MINUTE_NS: u64 = 60_000_000_000;
    model(3, || {
        let gcra = Arc::new(Gcra::new(Limit::new(1, MINUTE_NS, 1).unwrap()));
        let calling = gcra.clone();
        let caller = thread::spawn(move || u64::from(calling.check(0, 1).is_ok()));
        let changing = gcra.clone();
        let change = thread::spawn(move || changing.set(Limit::new(2, MINUTE_NS, 2).unwrap(), 0));
        let passed = u64::from(gcra.check(0, 1).is_ok()) + caller.join().unwrap();
        change.join().unwrap();
        assert!((1..=2).contains(&passed), "the first passes by either limit");
        assert_eq!(gcra.credit(0), 2 - passed, "what was taken by the old limit is taken by the new one");
        assert_eq!(gcra.taken(), passed);
    });
}

/// Two callers whose units are carried, while the limit changes and somebody looks at the count: it is never ahead, and in the end it is
/// right.
#[test]
fn every_unit_that_passes_is_counted_once() {
    const MINUTE_NS: u64 = 60_000_000_000;
    model(3, || {
        let gcra = Arc::new(Gcra::new(Limit::new(1, MINUTE_NS, 100).unwrap()));
        let calling = gcra.clone();
        let caller = thread::spawn(move || {
            calling.check(0, 5).unwrap();
            calling.check(0, 6).unwrap();
        });
        let changing = gcra.clone();
        let change = thread::spawn(move || {
            changing.set(Limit::UNLIMITED, 0);
            changing.check(0, 20).unwrap();
        });
        let taken = gcra.taken();
        // Of 11 the state has 3, and 8 may still be on their way.
        assert!([0, 5, 3, 11, 20, 25, 23, 31].contains(&taken), "{taken}");
        caller.join().unwrap();
        change.join().unwrap();
        assert_eq!(gcra.taken(), 31);
    });
}
