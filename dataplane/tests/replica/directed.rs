//! Directed cases of what the seeds mix.

use crate::cluster::LAYOUT;
use dataplane::cache::cell::Cell;
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::{Cursor, Next, Reader};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Definition, Quote, Tick};
use dataplane::cache::writer::Writer;
use dataplane::replica::{
    Lineage, Message, PROTOCOL, Primary, PrimaryLimits, Record, Refusal, Standby, StandbyError, node_id,
};

fn cells() -> Vec<Cell> {
    (0..LAYOUT.cells()).map(|_| Cell::default()).collect()
}

fn standby(cells: &[Cell]) -> Standby<'_> {
    Standby::new(Follower::format(cells, LAYOUT, 1).unwrap(), 0)
}

fn begin(session: u64, term: u64, from: u64, image: bool) -> Message {
    Message::Begin { session, lineage: Lineage::first(term, 7), from, image }
}

fn quote(instrument: u32, bid_price: i64) -> Tick {
    Tick { instrument, ..Tick::default() }.with_payload(Quote { bid_price, ..Quote::EMPTY })
}

fn record(position: u64, tick: Tick) -> Record {
    Record { position, tick }
}

#[test]
fn a_row_of_an_image_is_not_overwritten_by_an_older_tick_of_the_log() {
    let cells = cells();
    let mut standby = standby(&cells);
    standby.connected();
    standby.take(begin(1, 1, 10, true), 5, &mut |_| true).unwrap();
    standby.rows(&[record(12, quote(0, 12))]).unwrap();
    standby.ticks(&[record(10, quote(0, 10)), record(11, quote(1, 11))]).unwrap();
    let reader = Reader::open(&cells).unwrap();
    let held = |instrument| reader.row::<Quote>(instrument, 0).map(|row| (row.position, row.tick));
    assert_eq!((held(0), held(1)), (Some((12, quote(0, 12))), Some((11, quote(1, 11)))));
    standby.settle_round(6);
    assert_eq!(reader.log_tick(10), Some(quote(0, 10)));
    assert_eq!(standby.status().position, 12);
}

#[test]
fn an_earlier_term_is_sent_away_and_what_it_sends_is_not_taken() {
    let cells = cells();
    let mut standby = standby(&cells);
    standby.connected();
    standby.take(begin(1, 4, 0, true), 5, &mut |_| true).unwrap();
    let fenced = StandbyError::Fenced { offered: 3, known: 4 };
    assert_eq!(standby.take(begin(2, 3, 0, true), 5, &mut |_| true), Err(fenced));
    assert_eq!(standby.counters().fenced, 1);
    // A term that is heard of elsewhere fences the one that is being followed.
    standby.ticks(&[record(0, quote(0, 1))]).unwrap();
    standby.hear_of(5, &mut |_| true).unwrap();
    assert_eq!(standby.ticks(&[record(1, quote(0, 2))]), Err(StandbyError::OutOfTurn));
    assert_eq!(standby.rows(&[record(1, quote(0, 2))]), Err(StandbyError::OutOfTurn));
    assert_eq!(standby.settle_round(9), None);
}

#[test]
fn a_term_that_is_not_written_down_is_not_accepted() {
    let cells = cells();
    let mut standby = standby(&cells);
    standby.connected();
    let refused = standby.take(begin(1, 4, 0, true), 5, &mut |_| false);
    assert_eq!(refused, Err(StandbyError::NotWritten { term: 4 }));
    assert_eq!(standby.status().term, 0);
    assert_eq!(standby.ticks(&[record(0, quote(0, 1))]), Err(StandbyError::OutOfTurn));
}

#[test]
fn short_of_the_level_a_node_has_nothing_of_use() {
    let cells = cells();
    let mut standby = standby(&cells);
    standby.connected();
    standby.take(begin(1, 1, 0, true), 5, &mut |_| true).unwrap();
    standby.ticks(&[record(0, quote(0, 1))]).unwrap();
    // Rows up to 2 were sent, which the log here does not reach; another primary may write other ticks there.
    standby.rows(&[record(2, quote(1, 1))]).unwrap();
    standby.take(Message::Level { session: 1, at: 3 }, 6, &mut |_| true).unwrap();
    let useless = standby.connected();
    assert!(matches!(useless, Message::Hello { log: 0, heard: 1, position: 1, .. }), "{useless:?}");
    assert!(standby.into_primary(2).is_err(), "it can't become the primary");
}

#[test]
fn what_has_no_place_in_the_region_is_refused() {
    let cells = cells();
    let mut standby = standby(&cells);
    standby.connected();
    standby.take(begin(1, 1, 0, true), 5, &mut |_| true).unwrap();
    for tick in [
        quote(LAYOUT.instruments, 1),
        Tick { feed: LAYOUT.feeds, ..quote(0, 1) },
        Tick { kind: 99, ..quote(0, 1) },
        Tick { kind: 6, ..quote(0, 1) },
    ] {
        assert!(matches!(standby.ticks(&[record(0, tick)]), Err(StandbyError::Foreign(_))), "{tick:?}");
        assert!(matches!(standby.rows(&[record(0, tick)]), Err(StandbyError::Foreign(_))), "{tick:?}");
    }
    let hole = StandbyError::Hole { expected: 0, found: 1 };
    assert_eq!(standby.ticks(&[record(1, quote(0, 1))]), Err(hole));
    assert_eq!(standby.announced(1), Err(hole), "nothing is in the log");
    assert_eq!(standby.status().position, 0);
}

#[test]
fn belief_counts_from_the_standbys_own_time_and_only_at_the_primarys_tail() {
    let cells = cells();
    let mut standby = standby(&cells);
    standby.connected();
    standby.take(begin(1, 1, 0, true), 100, &mut |_| true).unwrap();
    assert_eq!(
        standby.settle_round(100),
        Some(Message::Ack { session: 1, position: 0, clock_ns: 100, whole: false })
    );
    let reader = Reader::open(&cells).unwrap();
    standby.take(Message::Level { session: 1, at: 1 }, 200, &mut |_| true).unwrap();
    let alive = Message::Alive { session: 1, tail: 2, echo_ns: 100, valid_for_ns: 50 };
    standby.take(alive, 200, &mut |_| true).unwrap();
    assert_eq!(reader.valid_until_ns(), 0);
    standby.ticks(&[record(0, quote(0, 1))]).unwrap();
    standby.settle_round(200);
    assert_eq!(reader.valid_until_ns(), 0, "the primary was at 2");
    standby.ticks(&[record(1, quote(0, 2))]).unwrap();
    standby.settle_round(900);
    assert_eq!(reader.valid_until_ns(), 150, "however late it comes, it lends no more");
    assert_eq!(standby.status().complete_ns, 100, "nothing that was published before lacks");
    let never_said = Message::Alive { session: 1, tail: 2, echo_ns: 1_000, valid_for_ns: 50 };
    assert_eq!(standby.take(never_said, 900, &mut |_| true), Err(StandbyError::OutOfTurn));
}

#[test]
fn a_follower_of_the_log_is_told_when_the_log_begins_anew() {
    let cells = cells();
    let mut follower = Follower::format(&cells, LAYOUT, 1).unwrap();
    let reader = Reader::open(&cells).unwrap();
    for value in 0..5 {
        follower.tick(&quote(0, value)).unwrap();
    }
    follower.commit();
    let generation = reader.generation();
    let mut cursor = Cursor::at(2);
    assert!(matches!(cursor.next(&reader), Next::Tick { position: 2, .. }));
    follower.restart(40);
    assert_ne!(reader.generation(), generation);
    assert!(matches!(cursor.next(&reader), Next::Lapped { skipped: 37 }));
    assert_eq!((reader.log_tick(3), reader.tail()), (None, 40));
}

#[test]
fn what_was_seen_of_an_image_before_its_end_is_void_once_it_is_whole() {
    let cells = cells();
    let mut standby = standby(&cells);
    let reader = Reader::open(&cells).unwrap();
    standby.connected();
    standby.take(begin(1, 1, 7, true), 5, &mut |_| true).unwrap();
    let begun = reader.generation();
    standby.rows(&[record(3, quote(0, 1))]).unwrap();
    standby.settle_round(6);
    assert_eq!(reader.generation(), begun, "more may come");
    standby.rows(&[record(4, quote(1, 1))]).unwrap();
    standby.take(Message::Level { session: 1, at: 8 }, 7, &mut |_| true).unwrap();
    standby.settle_round(8);
    assert_eq!(reader.generation(), begun, "the log lacks what the rows may hold");
    standby.ticks(&[record(7, quote(2, 1))]).unwrap();
    standby.settle_round(9);
    let whole = reader.generation();
    assert_ne!(whole, begun);
    standby.ticks(&[record(8, quote(2, 2))]).unwrap();
    standby.settle_round(10);
    assert_eq!(reader.generation(), whole);
}

#[test]
fn a_position_that_no_log_reaches_is_refused() {
    let cells = cells();
    let mut standby = standby(&cells);
    standby.connected();
    let refused = standby.take(begin(1, 1, u64::MAX, true), 5, &mut |_| true);
    assert_eq!(refused, Err(StandbyError::OutOfTurn));
}

#[test]
fn a_promoted_follower_goes_on_where_the_log_ended() {
    let cells = cells();
    let mut follower = Follower::format(&cells, LAYOUT, 1).unwrap();
    let defined = Tick { instrument: 3, ..Tick::default() }.with_payload(Definition::new(9, b"ABC"));
    follower.tick(&defined).unwrap();
    follower.commit();
    let mut writer: Writer<'_> = follower.into_writer();
    assert_eq!(
        (writer.position(), writer.allocate(), writer.find(0, b"ABC").map(|found| found.0)),
        (1, Ok(4), Some(3))
    );
    writer.publish(&quote(3, 7));
    writer.commit();
    assert_eq!(writer.into_follower().position(), 2);
}

#[test]
fn a_node_of_another_kind_is_refused_with_the_reason() {
    use crate::network::{Connection, PrimaryEnd};
    let cells = cells();
    let _writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    let limits = PrimaryLimits { window_ticks: 8, valid_for_ns: 100 };
    let mut primary = Primary::new(Reader::open(&cells).unwrap(), Lineage::first(3, 7), limits);
    let own = LAYOUT.hash();
    let other = Layout { log_ticks: 512, ..LAYOUT }.hash();
    for (protocol, layout, heard, refusal) in [
        (PROTOCOL + 1, own, 0, Refusal::Protocol),
        (PROTOCOL, other, 0, Refusal::Layout),
        (PROTOCOL, own, 4, Refusal::Term),
    ] {
        let mut connection = Connection::default();
        primary.connected();
        connection.answer(Message::Hello { protocol, layout, heard, log: 0, position: 0, node: 9 }, 0);
        primary.poll(&mut PrimaryEnd { connection: &mut connection, now_ns: 1, delay_ns: 0 }, 1);
        let said = connection.to_standby.pop(1).unwrap();
        assert!(
            matches!(said, crate::network::Packet::Message(Message::Refuse { refusal: found, term: 3 }) if found == refusal),
            "{said:?}"
        );
        assert_eq!((primary.status().connected, primary.status().refusal), (false, Some(refusal)));
    }
    assert_eq!((primary.counters().refused, primary.status().later_term), (3, 4));
}

#[test]
fn a_log_is_gone_on_with_only_if_it_is_the_same_and_not_if_its_term_has_the_same_number() {
    use crate::network::{Connection, Packet, PrimaryEnd};
    let cells = cells();
    let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    for number in 0..3 {
        writer.publish(&quote(0, number));
    }
    writer.commit();
    let limits = PrimaryLimits { window_ticks: 8, valid_for_ns: 100 };
    let lineage = Lineage::after(Lineage::first(1, 5).log, 1, 2, 1);
    let mut primary = Primary::new(Reader::open(&cells).unwrap(), lineage, limits);
    for (log, position, goes_on) in [
        (lineage.log, 2, true),
        (lineage.before, 1, true),
        (lineage.before, 2, false),
        (Lineage::after(lineage.before, 1, 2, 9).log, 2, false),
        (Lineage::first(1, 9).log, 1, false),
        (0, 0, false),
    ] {
        let mut connection = Connection::default();
        primary.connected();
        let hello =
            Message::Hello { protocol: PROTOCOL, layout: LAYOUT.hash(), heard: 2, log, position, node: 9 };
        connection.answer(hello, 0);
        primary.poll(&mut PrimaryEnd { connection: &mut connection, now_ns: 1, delay_ns: 0 }, 1);
        let Some(Packet::Message(Message::Begin { from, image, .. })) = connection.to_standby.pop(1) else {
            panic!("it begins");
        };
        assert_eq!((from, image), (if goes_on { position } else { 3 }, !goes_on), "{log:x} at {position}");
    }
}

#[test]
fn a_standby_that_has_everything_can_be_handed_the_next_term_and_no_other() {
    let cells = cells();
    let mut standby = standby(&cells);
    standby.connected();
    standby.take(begin(1, 2, 0, true), 5, &mut |_| true).unwrap();
    standby.ticks(&[record(0, quote(0, 1))]).unwrap();
    let hand_over = |term, at| Message::HandOver { session: 1, term, at };
    assert_eq!(standby.take(hand_over(3, 1), 6, &mut |_| true), Err(StandbyError::OutOfTurn), "not level");
    standby.take(Message::Level { session: 1, at: 1 }, 6, &mut |_| true).unwrap();
    for wrong in [hand_over(3, 0), hand_over(3, 2), hand_over(2, 1)] {
        assert_eq!(standby.take(wrong, 6, &mut |_| true), Err(StandbyError::OutOfTurn));
        assert_eq!(standby.handed_over(), None);
    }
    standby.take(hand_over(3, 1), 6, &mut |_| true).unwrap();
    assert_eq!(standby.handed_over(), Some(3));
    let (_, lineage) = standby.into_primary(3).unwrap();
    assert_eq!((lineage.term, lineage.start), (3, 1));
    assert_eq!(lineage.before, Lineage::first(2, 7).log);
}

#[test]
fn a_primary_hands_over_only_what_has_arrived_whole() {
    use crate::network::{Connection, Packet, PrimaryEnd};
    let (own, other) = (cells(), cells());
    let mut writer = Writer::format(&own, LAYOUT, 1).unwrap();
    let limits = PrimaryLimits { window_ticks: 8, valid_for_ns: 100 };
    let mut primary = Primary::new(Reader::open(&own).unwrap(), Lineage::first(1, 7), limits);
    let mut standby = standby(&other).named(node_id("b"));
    let mut connection = Connection::default();
    primary.connected();
    connection.answer(standby.connected(), 0);
    let mut round = |primary: &mut Primary<'_>, standby: &mut Standby<'_>, now_ns| {
        primary.poll(&mut PrimaryEnd { connection: &mut connection, now_ns, delay_ns: 0 }, now_ns);
        while let Some(packet) = connection.to_standby.pop(now_ns) {
            match packet {
                Packet::Message(message) => standby.take(message, now_ns, &mut |_| true).unwrap(),
                Packet::Rows(rows) => standby.rows(&rows).unwrap(),
                Packet::Ticks(ticks) => standby.ticks(&ticks).unwrap(),
            }
        }
        standby.settle_round(now_ns).into_iter().for_each(|message| connection.answer(message, now_ns));
    };
    (1..5).for_each(|now_ns| round(&mut primary, &mut standby, now_ns));
    assert!(primary.has_all(), "{:?}", primary.status());
    assert_eq!(primary.status().node, node_id("b"));
    writer.publish(&quote(0, 1));
    writer.commit();
    assert!(!primary.hand_over(2), "a tick has not arrived");
    (5..9).for_each(|now_ns| round(&mut primary, &mut standby, now_ns));
    assert!(primary.hand_over(2));
    round(&mut primary, &mut standby, 9);
    assert_eq!(standby.handed_over(), Some(2));
}
