//! One thing at a time.

use crate::group::Group;
use crate::node::{GROUPS, HOUR_NS, LAYOUT, Machine, Node, Packets, machine};
use crate::source::{Source, Speech};
use crate::truth::Truth;
use dataplane::cache::cell::Cell;
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::{Reader, State};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{INSTRUMENT_NONE, Kind, Quote, Reason, Tick};
use dataplane::cache::writer::Writer;
use dataplane::feed::Misfit;
use dataplane::sim::clock::SimClock;
use dataplane::sim::lines::{Impairment, Lines};
use dataplane::sim::random::Random;

const STARTED_UNIX_NS: u64 = 1_704_205_800_000_000_000;

fn cells(layout: Layout) -> Vec<Cell> {
    (0..layout.cells()).map(|_| Cell::default()).collect()
}

fn clock() -> SimClock {
    let clock = SimClock::new(STARTED_UNIX_NS);
    clock.advance(1);
    clock
}

/// A worker of one feed, and what it hears.
struct One<'m> {
    machine: Machine<'m>,
    packets: Packets,
    reader: Reader<'m>,
}

impl<'m> One<'m> {
    fn new(cells: &'m [Cell], layout: Layout, clock: &'m SimClock, speech: Speech) -> One<'m> {
        let packets = Packets::default();
        let machine = machine(&packets, clock, &[speech], Writer::format(cells, layout, 1).unwrap());
        One { machine, packets, reader: Reader::open(cells).unwrap() }
    }

    fn hear(&mut self, packets: &[Vec<u8>]) {
        for packet in packets {
            for destination in GROUPS[0] {
                self.packets.borrow_mut().push_back((destination, packet.clone()));
            }
            while self.machine.do_work() != 0 {}
        }
    }
}

/// A group's region that ends at that position of another one's log.
fn copy<'m>(cells: &'m [Cell], layout: Layout, log: &Reader<'_>, end: u64) -> Writer<'m> {
    copy_of(cells, layout, (0..end).map(|position| log.log_tick(position).unwrap()))
}

fn copy_of(cells: &[Cell], layout: Layout, ticks: impl Iterator<Item = Tick>) -> Writer<'_> {
    let mut follower = Follower::format(cells, layout, 1).unwrap();
    ticks.for_each(|tick| follower.tick(&tick).unwrap());
    follower.commit();
    follower.into_writer()
}

fn packets(source: &mut Source, count: usize, messages: u16) -> Vec<Vec<u8>> {
    let packet = |_| {
        let mut packet = Vec::new();
        source.next_packet(messages, &mut packet);
        packet
    };
    (0..count).map(packet).collect()
}

/// The ticks of rows, without what differs from node to node.
fn rows(log: &Reader<'_>) -> Vec<Tick> {
    let ticks = (0..log.tail()).map(|position| log.log_tick(position).unwrap());
    ticks
        .filter(|tick| usize::from(tick.kind) < Kind::ROWS)
        .map(|tick| Tick { received_ns: 0, ..tick })
        .collect()
}

/// Wherever the copy ends, between two messages or two ticks of one, the log goes on as the primary's own would have.
#[test]
fn a_log_goes_on_wherever_it_was_cut() {
    for speech in Speech::ALL {
        let clock = clock();
        let mut source = speech.begin(0, &mut Random::new(7));
        let flow = packets(&mut source, 60, 4);
        let (before, after) = flow.split_at(50);
        let region = cells(LAYOUT);
        let mut primary = One::new(&region, LAYOUT, &clock, speech);
        primary.hear(before);
        let end = primary.reader.tail();
        primary.hear(after);
        let whole = rows(&primary.reader);
        // Behind the session: a group that knows of none yet has nothing to go on from.
        let (mut within, mut levels) = (0, 0);
        for cut in (1..=end).rev() {
            let regions = [cells(LAYOUT), cells(LAYOUT)];
            let mut standby = One::new(&regions[0], LAYOUT, &clock, speech);
            standby.hear(before);
            let group = Reader::open(&regions[1]);
            assert!(group.is_err(), "it is not there yet");
            let writer = copy(&regions[1], LAYOUT, &primary.reader, cut);
            let group = Reader::open(&regions[1]).unwrap();
            assert!(!standby.machine.is_behind(&group));
            let (feeds, _) = standby.machine.take_over(writer);
            assert_eq!((feeds[0].misfit, feeds[0].renewed), (None, 0), "{speech:?}, cut at {cut}");
            levels += u64::from(feeds[0].followed == 0);
            let [last, next] = [cut - 1, cut].map(|position| primary.reader.log_tick(position).unwrap());
            let are_rows = [last, next].iter().all(|tick| tick.instrument != INSTRUMENT_NONE);
            within += u64::from(are_rows && last.sequence == next.sequence);
            standby.hear(after);
            assert!(rows(&group) == whole, "{speech:?}, cut at {cut}: the log is another one");
        }
        assert!(levels > 0 && within > 0, "{speech:?}: {levels} {within}");
    }
}

/// Who gave up has the last tick of each row only: what lies between it and an older copy can't follow.
#[test]
fn who_gave_up_does_not_leave_out_what_it_no_longer_has() {
    for speech in Speech::ALL {
        let clock = clock();
        let flow = packets(&mut speech.begin(0, &mut Random::new(7)), 40, 4);
        let region = cells(LAYOUT);
        let mut primary = One::new(&region, LAYOUT, &clock, speech);
        primary.hear(&flow);
        let end = primary.reader.tail();
        let is_row =
            |position: &u64| primary.reader.log_tick(*position).unwrap().instrument != INSTRUMENT_NONE;
        let last = (0..end).rfind(is_row).unwrap() + 1;
        for cut in [end, last, last - 1, last - 5, last - 20, last / 2, 40] {
            let regions = [cells(LAYOUT), cells(LAYOUT), cells(LAYOUT)];
            let mut standby = One::new(&regions[0], LAYOUT, &clock, speech);
            standby.hear(&flow);
            let level = copy(&regions[1], LAYOUT, &primary.reader, end);
            let (_, shadow) = standby.machine.take_over(level);
            standby.machine.give_up(shadow);
            let older = copy(&regions[2], LAYOUT, &primary.reader, cut);
            let (feeds, _) = standby.machine.take_over(older);
            assert_eq!(feeds[0].followed, 0, "{speech:?}, cut at {cut} of {end}");
            assert_eq!(feeds[0].misfit.is_some(), cut < last, "{speech:?}, cut at {cut} of {end}");
        }
    }
}

/// Nothing is lost, doubled or declared, however often the primary is another one.
#[test]
fn nodes_hand_over_to_each_other_many_times() {
    for speech in Speech::ALL {
        let clock = clock();
        let regions: Vec<Vec<Cell>> = (0..5).map(|_| cells(LAYOUT)).collect();
        let [truth, a, a_shadow, b, b_shadow] = [0, 1, 2, 3, 4].map(|region| regions[region].as_slice());
        let mut truth = Truth::new(truth, &clock, &[speech]);
        let nodes = [[a, a_shadow], [b, b_shadow]].map(|regions| {
            Node::standby(regions, &clock, &[speech], vec![Lines::new(1, &Impairment::default())])
        });
        let mut group = Group::new(nodes.into(), &[speech]);
        let mut random = Random::new(3);
        let mut source = speech.begin(0, &mut random);
        for round in 0..200 {
            for packet in packets(&mut source, random.below(6) as usize + usize::from(round == 0), 3) {
                truth.take(0, &packet);
                group.nodes.iter_mut().flatten().for_each(|node| node.send(0, &packet, 1));
            }
            clock.advance(1_000);
            group.nodes.iter_mut().flatten().for_each(|node| node.receive(1_000, false));
            let next = 1 - group.primary;
            group.give_up(next, &truth);
            group.take_over(next, &truth);
        }
        group.read_log(&truth);
        let session = (0, group.primary().reader().feed(0).session.unwrap().session);
        assert_eq!(group.told(0), Some(truth.accounts[&session].said.len()), "{speech:?}: all was told");
        assert!(group.told(0) > Some(500));
        assert_eq!((group.seen.hand_overs, group.seen.misfits), (200, [0; 6]));
        assert!(group.seen.live > 0);
    }
}

#[test]
fn who_is_behind_declares_a_loss_and_what_the_group_alone_has_is_suspect() {
    let clock = clock();
    let regions = [cells(LAYOUT), cells(LAYOUT), cells(LAYOUT)];
    let mut source = Speech::Records.begin(0, &mut Random::new(1));
    let flow = packets(&mut source, 12, 2);
    let mut primary = One::new(&regions[0], LAYOUT, &clock, Speech::Records);
    primary.hear(&flow[..10]);
    let mut standby = One::new(&regions[1], LAYOUT, &clock, Speech::Records);
    standby.hear(&flow[..2]);
    let writer = copy(&regions[2], LAYOUT, &primary.reader, primary.reader.tail());
    let group = Reader::open(&regions[2]).unwrap();
    assert!(standby.machine.is_behind(&group));
    let start = group.tail();
    let (feeds, _) = standby.machine.take_over(writer);
    // There is more in the group than it knows by name.
    assert_eq!(feeds[0].misfit, Some(Misfit::Instruments));
    assert_eq!(feeds[0].misfit.unwrap().to_string(), "there are instruments that are not known here");
    assert!(feeds[0].renewed > 0 && feeds[0].followed == 0);
    assert_eq!((group.feed(0).reason, group.feed(0).proven_from), (Reason::TakenOver, start + 1));
    assert!(group.valid_until_ns() == 0, "it is believed from the next round on");
    standby.hear(&flow[2..3]);
    let now_ns = 2;
    assert!(group.valid_until_ns() >= HOUR_NS);
    let (mut live, mut suspect) = (0, 0);
    for instrument in 0..group.instruments() {
        for (position, tick) in
            Kind::ALL[..Kind::ROWS].iter().filter_map(|kind| group.held(instrument, *kind))
        {
            match group.judge(position, tick, now_ns).unwrap().state {
                State::Live => live += u64::from(tick.sequence <= 6),
                State::Suspect => suspect += u64::from(tick.sequence > 6 || position < start),
                state => panic!("{state:?}"),
            }
        }
    }
    assert!(live > 0 && suspect > 0);
    // What comes again is told again, and the rest is told for the first time.
    standby.hear(&flow[3..]);
    assert!(!standby.machine.is_behind(&group));
}

#[test]
fn one_row_that_differs_is_a_loss_to_declare() {
    let clock = clock();
    let mut source = Speech::Records.begin(0, &mut Random::new(1));
    let flow = packets(&mut source, 12, 2);
    let run = |differs: Option<usize>| {
        let regions = [cells(LAYOUT), cells(LAYOUT)];
        let mut standby = One::new(&regions[0], LAYOUT, &clock, Speech::Records);
        standby.hear(&flow);
        let mut ticks: Vec<Tick> =
            (0..standby.reader.tail()).map(|position| standby.reader.log_tick(position).unwrap()).collect();
        let is_row = |tick: &Tick| usize::from(tick.kind) < Kind::ROWS && tick.kind != Kind::Definition as u8;
        let row = |tick: &Tick| (tick.instrument, tick.kind);
        let last = *ticks.iter().rfind(|tick| is_row(tick)).unwrap();
        // The last word on each row but the newest of all.
        let latest: Vec<usize> = (0..ticks.len())
            .filter(|at| is_row(&ticks[*at]) && row(&ticks[*at]) != row(&last))
            .filter(|at| !ticks[at + 1..].iter().any(|later| row(later) == row(&ticks[*at])))
            .collect();
        if let Some(which) = differs {
            ticks[latest[which]].exchange_ns += 1;
        }
        let (feeds, _) = standby.machine.take_over(copy_of(&regions[1], LAYOUT, ticks.into_iter()));
        (feeds[0].misfit, latest.len())
    };
    let (misfit, rows) = run(None);
    assert!(misfit.is_none() && rows > 2, "{misfit:?}, {rows} rows");
    for which in 0..rows {
        assert_eq!(run(Some(which)).0, Some(Misfit::Rows));
    }
}

#[test]
fn what_was_doubted_is_not_believed_in_the_group() {
    let clock = clock();
    let regions = [cells(LAYOUT), cells(LAYOUT)];
    let mut source = Speech::Records.begin(0, &mut Random::new(1));
    let mut standby = One::new(&regions[0], LAYOUT, &clock, Speech::Records);
    let mut flow = packets(&mut source, 2, 1);
    // A record that lacks its last byte.
    let cut = flow[1].pop().map(|_| flow[1].len() - 22).unwrap() as u16;
    flow[1][20..22].copy_from_slice(&cut.to_be_bytes());
    standby.hear(&flow);
    assert_eq!(standby.machine.telemetry().feeds[0].decoder.malformed.get(), 1);
    // The group has the session, and nothing else.
    let writer = copy(&regions[1], LAYOUT, &standby.reader, 2);
    let group = Reader::open(&regions[1]).unwrap();
    assert!(group.feed(0).session.is_some() && group.instruments() == 0);
    let (feeds, _) = standby.machine.take_over(writer);
    assert_eq!((feeds[0].misfit, feeds[0].renewed), (Some(Misfit::Rows), 2));
    standby.machine.do_work();
    let (row, _) = group.definition(0, 2).unwrap();
    assert_eq!((row.state, row.reason), (State::Suspect, Reason::TakenOver));
}

#[test]
fn who_has_heard_nothing_believes_nothing() {
    let clock = clock();
    let regions = [cells(LAYOUT), cells(LAYOUT), cells(LAYOUT)];
    let mut source = Speech::Itch50.begin(0, &mut Random::new(1));
    let mut primary = One::new(&regions[0], LAYOUT, &clock, Speech::Itch50);
    primary.hear(&packets(&mut source, 60, 4));
    let mut standby = One::new(&regions[1], LAYOUT, &clock, Speech::Itch50);
    let writer = copy(&regions[2], LAYOUT, &primary.reader, primary.reader.tail());
    let group = Reader::open(&regions[2]).unwrap();
    assert!(standby.machine.is_behind(&group));
    let (feeds, _) = standby.machine.take_over(writer);
    assert_eq!((feeds[0].misfit, feeds[0].renewed), (Some(Misfit::Session), 0));
    standby.machine.do_work();
    let states: Vec<State> = (0..group.instruments())
        .filter_map(|instrument| group.row::<Quote>(instrument, 2).map(|row| row.state))
        .collect();
    assert!(!states.is_empty() && states.iter().all(|state| *state == State::Stale));
}

/// A group that knows other instruments of an earlier session has no place for all of the present one's.
#[test]
fn instruments_without_a_place_are_counted() {
    let layout = Layout { instruments: 4, ..LAYOUT };
    let clock = clock();
    let regions = [cells(layout), cells(layout)];
    let mut standby = One::new(&regions[0], layout, &clock, Speech::Itch50);
    let mut random = Random::new(1);
    let mut source = loop {
        let source = Speech::Itch50.begin(0, &mut random);
        if matches!(&source, Source::Itch50 { exchange, .. } if exchange.config().instruments == 3) {
            break source;
        }
    };
    let flow = packets(&mut source, 100, 4);
    standby.hear(&flow[..50]);
    let mut writer = Writer::format(&regions[1], layout, 1).unwrap();
    for name in [b"X", b"Y"] {
        let instrument = writer.allocate().unwrap();
        writer.define(instrument, &Tick::default(), dataplane::cache::tick::Definition::new(0, name));
    }
    let (feeds, shadow) = standby.machine.take_over(writer);
    let group = Reader::open(&regions[1]).unwrap();
    let full = |machine: &Machine<'_>| machine.telemetry().feeds[0].decoder.instruments_full.get();
    assert_eq!((feeds[0].without_place, full(&standby.machine)), (1, 1));
    assert_eq!(shadow.instruments(), 3);
    standby.hear(&flow[50..]);
    assert!(full(&standby.machine) > 1, "it is counted as ever");
    assert_eq!(group.instruments(), 4);
    let live = (0..4)
        .filter(|instrument| group.row::<Quote>(*instrument, 2).is_some_and(|row| row.state == State::Live));
    assert_eq!(live.count(), 2);
}
