//! The whole path in memory: a simulated exchange's packets through ports, arbiter, book and cache, compared row by row
//! with the exchange's own book.

mod oracle;

use dataplane::cache::cell::Cell;
use dataplane::cache::reader::{Reader, State};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Condition, Quote, Reason};
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Protocol};
use dataplane::hint::NoPrefetch;
use dataplane::port::Medium;
use dataplane::sim::clock::SimClock;
use dataplane::sim::exchange::{Config, Exchange};
use dataplane::sim::memory_port::MemoryPort;
use dataplane::sim::packetizer::Moldudp64Packetizer;
use dataplane::time::Clock;
use dataplane::times::{FeedTimes, WorkerTimes};
use dataplane::wire::datagram::Datagram;
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker, WorkerError};
use oracle::compare;
use std::net::{Ipv4Addr, SocketAddrV4};

const LINES: [SocketAddrV4; 2] = [
    SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 26_477),
    SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 2), 26_477),
];
const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 5_000);
const LAYOUT: Layout = Layout { instruments: 512, feeds: 1, log_ticks: 1 << 16, bursts: 1 << 10 };
const STARTED_NS: u64 = 1_704_205_800_000_000_000;
const HOUR_NS: u64 = 3_600_000_000_000;

fn cells(layout: &Layout) -> Vec<Cell> {
    (0..layout.cells()).map(|_| Cell::default()).collect()
}

fn feed(midnight_unix_ns: u64, lines: Vec<LineSetup>) -> FeedSetup {
    FeedSetup {
        arbiter: ArbiterConfig::default(),
        lines,
        protocol: Protocol::Itch50 {
            orders_max: 100_000,
            midnight: Box::new(move |received_ns| {
                assert!(received_ns >= STARTED_NS, "a session is seen by a packet that came at some time");
                midnight_unix_ns
            }),
        },
    }
}

/// What an exchange sends: whole packets, the end of session last.
struct Recording {
    exchange: Exchange,
    packets: Vec<Vec<u8>>,
}

fn record(config: Config, messages: u64, messages_per_packet: u16) -> Recording {
    let mut exchange = Exchange::new(config);
    let mut packetizer = Moldudp64Packetizer::new("SESSION001", 1_400);
    let mut packets = Vec::new();
    loop {
        if exchange.sequence() >= messages {
            exchange.close();
        }
        let mut packet = Vec::new();
        if packetizer.fill(&mut exchange, messages_per_packet, &mut packet) == 0 {
            break;
        }
        packets.push(packet);
    }
    let mut end = Vec::new();
    packetizer.end_of_session(&mut end);
    packets.push(end);
    Recording { exchange, packets }
}

fn port(medium: Medium, line: usize, packets: &[Vec<u8>]) -> MemoryPort {
    let mut port = MemoryPort::new(medium);
    for payload in packets {
        match medium {
            Medium::Udp => port.push_udp(payload, *SOURCE.ip(), LINES[line], 0),
            Medium::Ethernet => {
                let datagram = Datagram { vlan: Some(7), source: SOURCE, destination: LINES[line], payload };
                port.push_datagram(&datagram, 0);
            }
        }
    }
    port.close();
    port
}

fn run(ports: Vec<PortSetup<MemoryPort>>, setup: FeedSetup, check: impl FnOnce(&Reader<'_>, &SimClock, u64)) {
    let cells = cells(&LAYOUT);
    let writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    let clock = SimClock::new(STARTED_NS);
    clock.advance(1);
    let mut worker = Worker::<_, _, NoPrefetch>::new(ports, vec![setup], writer, &clock, HOUR_NS).unwrap();
    let mut rounds = 0;
    while !worker.is_exhausted() {
        worker.do_work();
        clock.advance(1_000);
        rounds += 1;
        assert!(rounds < 1_000_000);
    }
    worker.finish();
    let reader = Reader::open(&cells).unwrap();
    let ticks = worker.telemetry().worker.ticks.get();
    assert_eq!(ticks, reader.tail());
    check(&reader, &clock, worker.telemetry().feeds[0].lines.missing.get());
}

fn both_lines(port_of_line: [usize; 2]) -> Vec<LineSetup> {
    [0, 1].map(|line| LineSetup { port: port_of_line[line], destination: LINES[line], source: None }).into()
}

fn setup(port: MemoryPort, vlan: Option<u16>) -> PortSetup<MemoryPort> {
    PortSetup { port, host: None, vlan }
}

#[test]
fn what_an_exchange_sends_is_what_the_cache_holds() {
    for (seed, instruments, messages_per_packet) in [(1, 1, 1), (2, 20, 10), (3, 200, 40)] {
        let config = Config { seed, instruments, ..Config::default() };
        let midnight = config.midnight_unix_ns;
        let recording = record(config, 60_000, messages_per_packet);
        let ports =
            [0, 1].map(|line| setup(port(Medium::Ethernet, line, &recording.packets), Some(7))).into();
        run(ports, feed(midnight, both_lines([0, 1])), |reader, clock, missing| {
            assert_eq!(missing, 0);
            assert_eq!(reader.feed(0).condition, Condition::Ended);
            assert_eq!(compare(reader, &recording.exchange, clock_ns(clock)), 0);
        });
    }
}

fn clock_ns(clock: &SimClock) -> u64 {
    dataplane::time::Clock::monotonic_ns(clock)
}

#[test]
fn what_one_line_loses_the_other_brings() {
    let config = Config { seed: 4, instruments: 50, ..Config::default() };
    let midnight = config.midnight_unix_ns;
    let recording = record(config, 40_000, 5);
    let lossy = |line: usize| {
        let kept: Vec<Vec<u8>> = recording
            .packets
            .iter()
            .enumerate()
            .filter(|(index, _)| index % 7 != 3 * line)
            .map(|(_, packet)| packet.clone())
            .collect();
        setup(port(Medium::Udp, line, &kept), None)
    };
    run(vec![lossy(0), lossy(1)], feed(midnight, both_lines([0, 1])), |reader, clock, missing| {
        assert_eq!(missing, 0);
        assert_eq!(compare(reader, &recording.exchange, clock_ns(clock)), 0);
    });
}

#[test]
fn after_a_loss_on_both_lines_nothing_is_live() {
    let config = Config { seed: 5, instruments: 50, ..Config::default() };
    let midnight = config.midnight_unix_ns;
    let mut recording = record(config, 40_000, 5);
    recording.packets.remove(4_000);
    let ports = vec![setup(port(Medium::Udp, 0, &recording.packets), None)];
    let lines = vec![LineSetup { port: 0, destination: LINES[0], source: None }];
    run(ports, feed(midnight, lines), |reader, clock, missing| {
        assert_eq!((missing, reader.feed(0).missing, reader.feed(0).reason), (5, 5, Reason::Gap));
        assert_eq!(compare(reader, &recording.exchange, clock_ns(clock)), 50);
    });
}

#[test]
fn joined_late_rows_are_partial_and_called_by_number_without_their_definition() {
    let config = Config { seed: 6, instruments: 5, ..Config::default() };
    let recording = record(config, 40_000, 5);
    let ports = vec![setup(port(Medium::Udp, 0, &recording.packets[4_000..]), None)];
    let lines = vec![LineSetup { port: 0, destination: LINES[0], source: None }];
    run(ports, feed(0, lines), |reader, clock, _| {
        let now_ns = clock_ns(clock);
        let instrument = reader.find(b"1").next().expect("called by its number");
        let row = reader.row::<Quote>(instrument, now_ns).unwrap();
        assert_eq!((row.state, row.reason, row.tick.exchange_ns), (State::Partial, Reason::LateStart, 0));
    });
}

#[test]
fn a_second_session_takes_the_rows_of_the_first_over() {
    let first = record(Config { seed: 7, instruments: 30, ..Config::default() }, 20_000, 5);
    let config = Config { seed: 8, instruments: 30, ..Config::default() };
    let midnight = config.midnight_unix_ns;
    let mut exchange = Exchange::new(config);
    let mut packetizer = Moldudp64Packetizer::new("SESSION002", 1_400);
    let mut packets = first.packets.clone();
    for _ in 0..5_000 {
        let mut packet = Vec::new();
        packetizer.fill(&mut exchange, 5, &mut packet);
        packets.push(packet);
    }
    let ports = vec![setup(port(Medium::Udp, 0, &packets), None)];
    let lines = vec![LineSetup { port: 0, destination: LINES[0], source: None }];
    run(ports, feed(midnight, lines), |reader, clock, missing| {
        assert_eq!(missing, 0);
        assert_eq!(&reader.feed(0).session.unwrap().session, b"SESSION002");
        assert_eq!(reader.instruments(), 30, "the names are the same, and so are the rows");
        assert_eq!(compare(reader, &exchange, clock_ns(clock)), 0);
    });
}

#[test]
fn two_lines_can_not_be_the_same() {
    let cells = cells(&LAYOUT);
    let writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    let line = LineSetup { port: 0, destination: LINES[0], source: None };
    let clock = SimClock::new(0);
    let ports = vec![setup(MemoryPort::new(Medium::Udp), None)];
    let twice = Worker::<_, _, NoPrefetch>::new(ports, vec![feed(0, vec![line, line])], writer, &clock, 1);
    assert_eq!(twice.err(), Some(WorkerError::Twice { feed: 0, line: 1, port: 0, destination: LINES[0] }));
}

#[test]
fn each_feed_has_its_own_latencies_and_each_update_is_measured_once() {
    let days = [(1, 6_000), (2, 900)]
        .map(|(seed, messages)| record(Config { seed, instruments: 20, ..Config::default() }, messages, 4));
    let midnight_ns = Config::default().midnight_unix_ns;
    let layout = Layout { feeds: 2, ..LAYOUT };
    let cells = cells(&layout);
    let writer = Writer::format(&cells, layout, 1).unwrap();
    let clock = SimClock::new(STARTED_NS + HOUR_NS);
    let ports = [0, 1].map(|line| setup(port(Medium::Udp, line, &days[line].packets), None));
    let feeds = both_lines([0, 1]).into_iter().map(|line| feed(midnight_ns, vec![line]));
    let mut worker =
        Worker::<_, _, NoPrefetch>::new(ports.into(), feeds.collect(), writer, &clock, HOUR_NS).unwrap();
    while !worker.is_exhausted() {
        worker.do_work();
        clock.advance(1_000);
    }
    worker.finish();
    let measured = |histogram: &dataplane::histogram::Histogram| -> u64 {
        histogram.negative() + histogram.counts().map(|(_, count)| count).sum::<u64>()
    };
    let telemetry = worker.telemetry();
    let ticks = telemetry.feeds.iter().map(|feed| feed.decoder.ticks.get()).collect::<Vec<_>>();
    assert!(ticks[0] > ticks[1] && ticks[1] > 100, "{ticks:?}");
    assert_eq!(ticks.iter().sum::<u64>(), telemetry.worker.ticks.get());
    for (feed, ticks) in telemetry.feeds.iter().zip(ticks) {
        assert_eq!(measured(&feed.received_to_published), ticks);
        let stamped = measured(&feed.exchange_to_received);
        assert!(stamped > 0 && stamped <= ticks, "{stamped} of {ticks}");
    }
}

#[test]
fn a_worker_judges_by_other_times_from_its_next_round_on() {
    let config = Config { seed: 10, instruments: 5, ..Config::default() };
    let midnight_ns = config.midnight_unix_ns;
    let mut recording = record(config, 2_000, 4);
    // It is not at its end.
    recording.packets.pop();
    let cells = cells(&LAYOUT);
    let writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    let clock = SimClock::new(STARTED_NS);
    clock.advance(1);
    let ports = vec![setup(port(Medium::Udp, 0, &recording.packets), None)];
    let lines = vec![LineSetup { port: 0, destination: LINES[0], source: None }];
    let feeds = vec![feed(midnight_ns, lines)];
    let mut worker = Worker::<_, _, NoPrefetch>::new(ports, feeds, writer, &clock, HOUR_NS).unwrap();
    while !worker.is_exhausted() {
        worker.do_work();
    }
    let reader = Reader::open(&cells).unwrap();
    assert_eq!(reader.valid_until_ns(), clock_ns(&clock) + HOUR_NS);
    assert_eq!(reader.feed(0).condition, Condition::Live);
    clock.advance(2_000);
    worker.do_work();
    assert_eq!(reader.feed(0).condition, Condition::Live);
    let times = FeedTimes { gap_timeout_ns: 1_000, silence_ns: 1_000 };
    worker.telemetry().times.set(WorkerTimes { valid_for_ns: 5_000, feeds: vec![times] });
    worker.do_work();
    // A promise that was given for longer is taken back.
    assert_eq!(reader.valid_until_ns(), clock_ns(&clock) + 5_000);
    assert_eq!(reader.feed(0).condition, Condition::Stale);
}

#[test]
fn a_round_that_takes_too_long_is_kept_with_what_it_did() {
    let config = Config { seed: 9, instruments: 5, ..Config::default() };
    let midnight_ns = config.midnight_unix_ns;
    let recording = record(config, 2_000, 4);
    let cells = cells(&LAYOUT);
    let writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    let clock = SimClock::new(STARTED_NS);
    let mut idle = MemoryPort::new(Medium::Udp);
    idle.close();
    let ports = vec![setup(idle, None), setup(port(Medium::Udp, 0, &recording.packets), None)];
    let lines = vec![LineSetup { port: 1, destination: LINES[0], source: None }];
    let feeds = vec![feed(midnight_ns, lines)];
    let mut worker = Worker::<_, _, NoPrefetch>::new(ports, feeds, writer, &clock, HOUR_NS).unwrap();
    worker.telemetry().stalls.limit_ns.set(300_000);
    worker.do_work();
    let before = worker.telemetry().feeds[0].lines.messages.get();
    clock.advance(300_000);
    worker.do_work();
    assert_eq!(worker.telemetry().stalls.last(), [], "what it may take is none");
    let messages = worker.telemetry().feeds[0].lines.messages.get();
    clock.advance(2_000_000);
    let frames = worker.do_work() as u64;
    let done = worker.telemetry().feeds[0].lines.messages.get() - messages;
    assert!(before > 0 && frames > 0 && done > 0);
    let busy = worker.telemetry().stalls.last();
    let [stall] = busy.as_slice() else { panic!("{busy:?}") };
    assert_eq!((stall.duration_ns, stall.frames, stall.messages), (2_000_000, frames, done));
    assert_eq!((stall.port, stall.feed, stall.ended_ns), (Some(1), Some(0), clock.unix_ns()));
    while worker.do_work() != 0 {}
    // It may take longer from now on: the next round is judged by that.
    worker.telemetry().stalls.limit_ns.set(2_000_000);
    clock.advance(2_000_000);
    worker.do_work();
    worker.telemetry().stalls.limit_ns.set(300_000);
    clock.advance(5_000_000);
    worker.awoke();
    worker.do_work();
    assert_eq!(worker.telemetry().stalls.count.get(), 1, "neither it nor a sleep is one");
    for round in 0..20 {
        clock.advance(1_000_000 + round);
        worker.do_work();
    }
    let stalls = &worker.telemetry().stalls;
    let last = stalls.last();
    assert_eq!((stalls.count.get(), last.len(), last[15].duration_ns), (21, 16, 1_000_019));
    assert_eq!(stalls.total_ns.get(), 22_000_000 + (0..20).sum::<u64>());
    assert!(
        last.iter().all(|stall| (stall.frames, stall.messages, stall.port, stall.feed) == (0, 0, None, None))
    );
}
