//! Single cases, with packets made by hand.

use crate::receiver::{Receiver, cells};
use dataplane::cache::reader::State;
use dataplane::cache::tick::{PRICE_ABSENT, Quote, Reason, Status, Trade};
use dataplane::sim::mdp3::{Channel, Config};
use dataplane::wire::mdp3::*;
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{I32, I64, U32, U64};

const LAST: u8 = event_bit::END_OF_EVENT;
const MORE: u8 = 0;

fn message(template: u16, root: &[u8], groups: &[u8]) -> Vec<u8> {
    let size = (MESSAGE_HEADER_BYTES + root.len() + groups.len()) as u16;
    let header = [size, root.len() as u16, template, SCHEMA_ID, 9].map(u16::to_le_bytes).concat();
    [&header, root, groups].concat()
}

fn incremental(template: u16, entry_bytes: u8, indicator: u8, entries: &[Vec<u8>]) -> Vec<u8> {
    let head = EventHead { transact_time: U64::new(77), match_event_indicator: indicator };
    let group = [&[entry_bytes, 0, entries.len() as u8][..], &entries.concat()].concat();
    message(template, head.as_bytes(), &group)
}

/// Level 1 of an instrument's bids.
fn bid(security_id: i32, rpt_seq: u32, action: u8, price: i64, size: i32) -> Vec<u8> {
    let entry = BookEntry {
        price: I64::new(price),
        size: I32::new(size),
        security_id: I32::new(security_id),
        rpt_seq: U32::new(rpt_seq),
        orders: I32::new(1),
        level: 1,
        action,
        entry_type: entry_type::BID,
    };
    [entry.as_bytes(), &[0; 5]].concat()
}

fn book(indicator: u8, entries: &[Vec<u8>]) -> Vec<u8> {
    incremental(46, 32, indicator, entries)
}

fn trade(security_id: i32, rpt_seq: u32, action: u8, trade_id: u32, price: i64) -> Vec<u8> {
    let entry = TradeEntry {
        price: I64::new(price),
        size: I32::new(3),
        security_id: I32::new(security_id),
        rpt_seq: U32::new(rpt_seq),
        orders: I32::new(2),
        aggressor_side: 1,
        action,
    };
    let entry = [entry.as_bytes(), &trade_id.to_le_bytes(), &[0; 2]].concat();
    incremental(48, 32, LAST, &[entry])
}

fn definition(security_id: i32, symbol: &str, update_action: u8) -> Vec<u8> {
    let mut root = vec![0; 216];
    root[0] = LAST;
    root[5] = update_action;
    root[23..25].copy_from_slice(b"ES");
    root[35..35 + symbol.len()].copy_from_slice(symbol.as_bytes());
    root[55..59].copy_from_slice(&security_id.to_le_bytes());
    root[91..99].copy_from_slice(&250_000_000_i64.to_le_bytes());
    message(54, &root, &[&[9, 0, 0, 4, 0, 2][..], b"GBX\x0AGBI\x02"].concat())
}

fn status(security_id: i32, group: &[u8; 6], trading_status: u8) -> Vec<u8> {
    let mut root = vec![0; 30];
    root[8..14].copy_from_slice(group);
    root[20..24].copy_from_slice(&security_id.to_le_bytes());
    root[26..28].copy_from_slice(&[LAST, trading_status]);
    message(30, &root, &[])
}

fn reset() -> Vec<u8> {
    message(4, &[0, 0, 0, 0, 0, 0, 0, 0, LAST], &[2, 0, 1, 9, 0])
}

/// Sends packets with numbers of their own.
struct Line<'r, 'm> {
    receiver: &'r mut Receiver<'m>,
    next: u32,
}

impl Line<'_, '_> {
    fn send(&mut self, messages: &[Vec<u8>]) {
        let header = [&self.next.to_le_bytes()[..], &[0; 8]].concat();
        self.receiver.take(&[header, messages.concat()].concat());
        self.next += 1;
    }

    fn lose(&mut self, packets: u32) {
        self.next += packets;
    }
}

/// Two defined instruments, A and B, with a bid each, by reports 1.
fn two(line: &mut Line<'_, '_>) {
    line.send(&[definition(1, "A", b'A'), definition(2, "B", b'A')]);
    line.send(&[book(LAST, &[bid(1, 1, 0, 100, 1), bid(2, 1, 0, 200, 2)])]);
    assert_eq!([b"A", b"B"].map(|name| line.receiver.state(name)), [Some(State::Live); 2]);
}

fn price(receiver: &Receiver<'_>, name: &[u8]) -> (i64, State) {
    let (quote, state) = receiver.row::<Quote>(name).unwrap();
    (quote.bid_price, state)
}

macro_rules! line {
    ($receiver:ident, $line:ident) => {
        let cells = cells();
        let mut $receiver = Receiver::new(&cells, 8);
        let mut $line = Line { receiver: &mut $receiver, next: 1 };
    };
}

#[test]
fn a_missed_report_makes_its_instrument_suspect_until_the_channel_is_reset() {
    line!(receiver, line);
    two(&mut line);
    line.send(&[book(LAST, &[bid(1, 3, update_action::CHANGE, 101, 1)])]);
    assert_eq!(line.receiver.state(b"A"), Some(State::Suspect));
    line.send(&[book(
        LAST,
        &[bid(1, 4, update_action::CHANGE, 102, 1), bid(2, 2, update_action::CHANGE, 201, 1)],
    )]);
    assert_eq!(price(line.receiver, b"A"), (102, State::Suspect));
    assert_eq!(
        (price(line.receiver, b"B"), line.receiver.state(b"B")),
        ((201, State::Live), Some(State::Live))
    );
    assert_eq!(line.receiver.counters().report_gaps.get(), 1);
    assert_eq!(line.receiver.reader().feed(0).reason, Reason::Gap);
    line.send(&[reset()]);
    for name in [b"A", b"B"] {
        assert_eq!(
            (price(line.receiver, name), line.receiver.state(name)),
            ((PRICE_ABSENT, State::Live), Some(State::Live))
        );
    }
    line.send(&[book(LAST, &[bid(1, 1, update_action::NEW, 300, 1)])]);
    assert_eq!(price(line.receiver, b"A"), (300, State::Live));
    assert_eq!(line.receiver.reader().feed(0).reason, Reason::None);
}

#[test]
fn a_report_that_came_already_changes_nothing() {
    line!(receiver, line);
    two(&mut line);
    line.send(&[book(LAST, &[bid(1, 2, update_action::CHANGE, 101, 1)])]);
    line.send(&[book(
        LAST,
        &[bid(1, 2, update_action::CHANGE, 999, 9), bid(1, 1, update_action::NEW, 999, 9)],
    )]);
    assert_eq!(
        (price(line.receiver, b"A"), line.receiver.counters().old_reports.get()),
        ((101, State::Live), 2)
    );
}

#[test]
fn a_reset_that_was_lost_leaves_nothing_believed() {
    line!(receiver, line);
    two(&mut line);
    line.send(&[book(LAST, &[bid(1, 2, update_action::CHANGE, 101, 1)])]);
    line.lose(1);
    line.send(&[book(LAST, &[bid(1, 1, update_action::NEW, 500, 1)])]);
    assert_eq!([b"A", b"B"].map(|name| line.receiver.state(name)), [Some(State::Suspect); 2]);
    // When the numbers have caught up it is still another book.
    for rpt_seq in 2..5 {
        line.send(&[book(LAST, &[bid(1, rpt_seq, update_action::CHANGE, 501, 1)])]);
        assert_eq!(line.receiver.state(b"A"), Some(State::Suspect));
    }
}

#[test]
fn a_lost_packet_is_proven_harmless_by_the_next_report() {
    line!(receiver, line);
    two(&mut line);
    line.send(&[trade(1, 2, update_action::NEW, 5, 100), status(1, b"ES\0\0\0\0", 17)]);
    line.lose(1);
    line.send(&[message(12, &[], &[])]);
    assert_eq!([b"A", b"B"].map(|name| line.receiver.state(name)), [Some(State::Suspect); 2]);
    line.send(&[incremental(
        37,
        16,
        LAST,
        &[[&[0; 4], &1_i32.to_le_bytes()[..], &3_u32.to_le_bytes(), &[0; 4]].concat()],
    )]);
    assert_eq!(line.receiver.state(b"A"), Some(State::Live));
    assert_eq!(price(line.receiver, b"A"), (100, State::Live));
    assert_eq!(line.receiver.row::<Trade>(b"A").unwrap().1, State::Live);
    assert_eq!(line.receiver.row::<Status>(b"A").unwrap().1, State::Suspect, "no report tells the status");
    assert_eq!(line.receiver.state(b"B"), Some(State::Suspect));
    line.send(&[status(1, b"ES\0\0\0\0", 2)]);
    let (told, state) = line.receiver.row::<Status>(b"A").unwrap();
    assert_eq!((told.state, state), (b'H', State::Live));
}

#[test]
fn what_cannot_be_right_is_counted_and_taken_for_a_loss() {
    line!(receiver, line);
    two(&mut line);
    // A block that is too short: of whichever instruments.
    line.send(&[message(46, &[0; 5], &[]), book(LAST, &[bid(1, 2, update_action::CHANGE, 101, 1)])]);
    assert_eq!(price(line.receiver, b"A"), (101, State::Live));
    assert_eq!(
        (line.receiver.state(b"B"), line.receiver.reader().feed(0).reason),
        (Some(State::Suspect), Reason::Malformed)
    );
    // An entry: of its own instrument.
    line.send(&[book(
        LAST,
        &[bid(2, 2, update_action::NEW, 203, 0), bid(1, 3, update_action::CHANGE, 103, 1)],
    )]);
    assert_eq!(price(line.receiver, b"A"), (103, State::Live));
    assert_eq!(price(line.receiver, b"B"), (200, State::Suspect));
    assert_eq!(line.receiver.counters().malformed.get(), 2);
    // A size that can't be: the packet is none.
    let mut broken = book(LAST, &[bid(1, 4, update_action::CHANGE, 104, 1)]);
    broken[0] += 1;
    line.send(&[broken]);
    assert_eq!((price(line.receiver, b"A").0, line.receiver.lines().lines[0].malformed.get()), (103, 1));
}

#[test]
fn a_quote_waits_for_its_event_but_not_for_ever() {
    line!(receiver, line);
    two(&mut line);
    let mut rpt_seq = 1;
    let mut change = |line: &mut Line<'_, '_>, indicator, price| {
        rpt_seq += 1;
        line.send(&[book(indicator, &[bid(1, rpt_seq, update_action::CHANGE, price, 1)])]);
    };
    change(&mut line, MORE, 101);
    assert_eq!(price(line.receiver, b"A"), (100, State::Live));
    change(&mut line, LAST, 102);
    assert_eq!(price(line.receiver, b"A"), (102, State::Live));

    change(&mut line, MORE, 103);
    line.receiver.wait(4_000_000);
    assert_eq!(price(line.receiver, b"A").0, 102);
    line.receiver.wait(2_000_000);
    assert_eq!(price(line.receiver, b"A").0, 103);

    (0..40).for_each(|step| change(&mut line, MORE, 200 + step));
    assert!(price(line.receiver, b"A").0 >= 200);
    line.receiver.finish();
    assert_eq!(price(line.receiver, b"A").0, 239);
    assert_eq!(line.receiver.counters().events_cut.get(), 2);
    // A loss ends the event at hand, too.
    change(&mut line, MORE, 300);
    line.lose(1);
    line.send(&[message(12, &[], &[])]);
    assert_eq!(price(line.receiver, b"A"), (300, State::Suspect));
}

#[test]
fn one_event_of_very_many_instruments_is_published_in_parts() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 1_000);
    let mut line = Line { receiver: &mut receiver, next: 1 };
    for first in (0..1_000).step_by(20) {
        let entries: Vec<_> =
            (first..first + 20).map(|id| bid(id, 1, update_action::NEW, i64::from(id), 1)).collect();
        line.send(&[book(MORE, &entries)]);
    }
    line.send(&[book(LAST, &[])]);
    // The region has room for fewer than there are.
    for id in 0..200 {
        let name = id.to_string();
        assert_eq!(
            price(line.receiver, name.as_bytes()),
            (id, State::Partial),
            "no definition told its depth"
        );
    }
    assert!(line.receiver.counters().events_cut.get() >= 3);
    assert!(line.receiver.counters().instruments_full.get() > 0);
    assert_eq!(line.receiver.reader().feed(0).reason, Reason::LimitFull);
}

#[test]
fn instruments_beyond_the_limit_are_counted() {
    line!(receiver, line);
    for id in 1..=9 {
        line.send(&[definition(id, &format!("S{id}"), b'A')]);
    }
    line.send(&[book(LAST, &[bid(9, 1, update_action::NEW, 5, 1), bid(8, 1, update_action::NEW, 6, 1)])]);
    assert_eq!((line.receiver.find(b"S9"), price(line.receiver, b"S8")), (None, (6, State::Live)));
    assert_eq!(line.receiver.counters().instruments_full.get(), 2);
    assert_eq!(line.receiver.reader().feed(0).reason, Reason::LimitFull);
}

#[test]
fn a_definition_gives_a_name_and_takes_it_back() {
    line!(receiver, line);
    line.send(&[book(LAST, &[bid(1, 1, update_action::NEW, 100, 1)]), trade(1, 2, 0, 9, 100)]);
    assert_eq!(price(line.receiver, b"1"), (100, State::Partial));
    line.send(&[definition(1, "ESZ6", b'A')]);
    assert_eq!((line.receiver.find(b"1"), price(line.receiver, b"ESZ6").0), (None, 100));
    assert_eq!(line.receiver.row::<Trade>(b"ESZ6").unwrap().0.price, 100);
    // Another one of the same name keeps its number, until the first is gone.
    line.send(&[definition(2, "ESZ6", b'A'), book(LAST, &[bid(2, 1, update_action::NEW, 7, 1)])]);
    assert_eq!((price(line.receiver, b"ESZ6").0, price(line.receiver, b"2").0), (100, 7));
    assert_eq!(line.receiver.counters().malformed.get(), 1);
    line.send(&[definition(1, "ESZ6", b'D'), status(INT32_NULL, b"ES\0\0\0\0", 17)]);
    assert_eq!((line.receiver.find(b"ESZ6"), line.receiver.find(b"1")), (None, None));
    line.send(&[definition(2, "ESZ6", b'M')]);
    assert_eq!((price(line.receiver, b"ESZ6").0, line.receiver.find(b"2")), (7, None));
    line.send(&[definition(77, "", b'A'), definition(78, "GONE", b'D')]);
    assert_eq!((line.receiver.find(b"77"), line.receiver.find(b"78")), (None, None));
}

#[test]
fn the_status_of_a_group_is_that_of_its_known_instruments() {
    line!(receiver, line);
    two(&mut line);
    line.send(&[status(INT32_NULL, b"ES\0\0\0\0", 21), status(INT32_NULL, b"NQ\0\0\0\0", 17)]);
    for name in [b"A", b"B"] {
        assert_eq!(line.receiver.row::<Status>(name).unwrap().0.state, b'o');
    }
    assert_eq!(line.receiver.counters().statuses_unmatched.get(), 1);
    line.send(&[status(2, b"ES\0\0\0\0", 17), status(2, b"ES\0\0\0\0", SecurityStatus::NO_CHANGE)]);
    assert_eq!(line.receiver.row::<Status>(b"B").unwrap().0.state, b'T');
    assert_eq!(line.receiver.row::<Status>(b"A").unwrap().0.state, b'o');
}

#[test]
fn a_broken_trade_gives_way_to_the_one_before() {
    line!(receiver, line);
    two(&mut line);
    let last = |line: &Line<'_, '_>| line.receiver.row::<Trade>(b"A").unwrap().0.price;
    line.send(&[trade(1, 2, update_action::NEW, 10, 100), trade(1, 3, update_action::NEW, 11, 105)]);
    assert_eq!(last(&line), 105);
    line.send(&[trade(1, 4, update_action::CHANGE, 11, 104)]);
    assert_eq!(last(&line), 104);
    line.send(&[trade(1, 5, update_action::DELETE, 11, 104)]);
    assert_eq!(last(&line), 100);
    line.send(&[trade(1, 6, update_action::DELETE, 10, 100)]);
    assert_eq!((last(&line), line.receiver.state(b"A")), (PRICE_ABSENT, Some(State::Live)));
}

#[test]
fn a_week_begins_again_at_packet_1() {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 10);
    let week = |seed| Channel::new(Config { seed, resets_per_mille: 0, ..Config::default() });
    let mut packet = Vec::new();
    for seed in 1..=2 {
        let mut channel = week(seed);
        for _ in 0..1_100 {
            channel.next_packet(&mut packet);
            receiver.take(&packet);
        }
        while !channel.is_between_events() {
            channel.next_packet(&mut packet);
            receiver.take(&packet);
        }
        receiver.compare_all(&channel, State::Live);
    }
    assert_eq!((receiver.lines().sessions.get(), receiver.lines().missing.get()), (2, 0));
}

#[test]
fn every_prefix_of_a_packet_is_borne() {
    let mut channel = Channel::new(Config::default());
    let mut packet = Vec::new();
    for _ in 0..60 {
        channel.next_packet(&mut packet);
        for length in 0..packet.len() {
            let cells = cells();
            let mut receiver = Receiver::new(&cells, 16);
            // Number 1, so that it is taken at once.
            let mut prefix = packet[..length].to_vec();
            if let Some(number) = prefix.get_mut(..4) {
                number.copy_from_slice(&1_u32.to_le_bytes());
            }
            receiver.take(&prefix);
            receiver.finish();
            let line = &receiver.lines().lines[0];
            assert_eq!(line.packets.get(), line.won.get() + line.malformed.get());
        }
    }
}
