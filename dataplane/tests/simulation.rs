//! Seeds: a simulated exchange over two lines that lose, double, delay and reorder, into a worker. Whenever the lines are
//! quiet, every row is what the exchange's own book says, or says itself that it is not to be believed.
//!
//! `TICKPLANE_SEEDS` = how many (20), `TICKPLANE_SEED` = the first one, which a failure prints.

mod oracle;

use dataplane::cache::cell::Cell;
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Protocol};
use dataplane::hint::NoPrefetch;
use dataplane::port::{Frame, Medium, Port, PortCounters};
use dataplane::sim::clock::SimClock;
use dataplane::sim::exchange::{Config, Exchange};
use dataplane::sim::lines::{Impairment, Line, LineImpairment, Lines};
use dataplane::sim::packetizer::Moldudp64Packetizer;
use dataplane::sim::random::Random;
use dataplane::time::Clock;
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker};
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddrV4};

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 26_477);
const LAYOUT: Layout = Layout { instruments: 256, feeds: 1, log_ticks: 1 << 12, bursts: 1 << 8 };
const MS: u64 = 1_000_000;
const HOUR_NS: u64 = 3_600_000 * MS;

/// What has arrived on one line by now.
struct LinePort<'s> {
    lines: &'s RefCell<Lines>,
    line: Line,
    clock: &'s SimClock,
    packets: Vec<Vec<u8>>,
}

impl Port for LinePort<'_> {
    fn medium(&self) -> Medium {
        Medium::Udp
    }

    fn rx_burst(&mut self) -> usize {
        let mut lines = self.lines.borrow_mut();
        self.packets.drain(..).for_each(|packet| lines.recycle(packet));
        while let Some(packet) = lines.pop_due(self.line, self.clock.monotonic_ns()) {
            self.packets.push(packet);
            if self.packets.len() == 8 {
                break;
            }
        }
        self.packets.len()
    }

    fn frame(&self, index: usize) -> Frame<'_> {
        Frame { bytes: &self.packets[index], stamp_ns: 0, source: Ipv4Addr::LOCALHOST, destination: GROUP }
    }

    fn tx(&mut self, _frame: &[u8]) -> bool {
        false
    }

    fn counters(&self) -> PortCounters {
        PortCounters::default()
    }
}

/// Prints the seed if the test dies of it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "again: TICKPLANE_SEED={} TICKPLANE_SEEDS=1 cargo test -p dataplane --features sim --test simulation",
                self.0
            );
        }
    }
}

fn impairment(random: &mut Random, loses_both: bool) -> Impairment {
    Impairment {
        lines: [(); 2].map(|()| LineImpairment::draw(random)),
        loss_both: if loses_both { 0.002 } else { 0.0 },
    }
}

/// What came of a seed.
#[derive(Debug, Default)]
struct Outcome {
    comparisons: u64,
    gaps: u64,
    doubtful: usize,
    duplicates: u64,
    held: u64,
}

fn simulate(seed: u64) -> Outcome {
    let _seed = Seed(seed);
    let mut random = Random::new(seed);
    let loses_both = seed % 2 == 1;
    let lines = RefCell::new(Lines::new(random.next_u64(), &impairment(&mut random, loses_both)));
    let clock = SimClock::new(1_704_205_800_000_000_000);
    clock.advance(1);
    let cells: Vec<Cell> = (0..LAYOUT.cells()).map(|_| Cell::default()).collect();
    let reader_cells = &cells;
    let writer = Writer::format(&cells, LAYOUT, seed).unwrap();
    let reader = Reader::open(reader_cells).unwrap();
    let ports = Line::ALL.map(|line| {
        let port = LinePort { lines: &lines, line, clock: &clock, packets: Vec::new() };
        PortSetup { port, host: None, vlan: None }
    });
    let line = |port| LineSetup { port, destination: GROUP, source: None };
    let midnight_unix_ns = Config::default().midnight_unix_ns;
    let feed = FeedSetup {
        arbiter: ArbiterConfig { held_packets: 256, ..ArbiterConfig::default() },
        lines: vec![line(0), line(1)],
        protocol: Protocol::Itch50 { orders_max: 50_000, midnight: Box::new(move |_| midnight_unix_ns) },
    };
    let mut worker =
        Worker::<_, _, NoPrefetch>::new(ports.into(), vec![feed], writer, &clock, HOUR_NS).unwrap();
    let mut outcome = Outcome::default();
    for session in 0..3 {
        let instruments = 1 + random.below(60) as u32;
        let mut exchange =
            Exchange::new(Config { seed: random.next_u64(), instruments, ..Config::default() });
        let mut packetizer = Moldudp64Packetizer::new(&format!("S{session:03}"), 1_400);
        let mut packet = Vec::new();
        for _ in 0..6 {
            for _ in 0..400 {
                let messages = 1 + random.below(12) as u16;
                packetizer.fill(&mut exchange, messages, &mut packet);
                lines.borrow_mut().send(&packet, clock.monotonic_ns());
                clock.advance(random.below(MS));
                worker.do_work();
            }
            // Heartbeats, until both sides agree on where the feed is.
            for _ in 0..40 {
                packetizer.heartbeat(&mut packet);
                let now_ns = clock.monotonic_ns();
                lines.borrow_mut().send(&packet, now_ns);
                lines.borrow_mut().release(now_ns);
                clock.advance(10 * MS);
                while worker.do_work() != 0 {}
            }
            let counters = &worker.telemetry().feeds[0].lines;
            assert_eq!(counters.next_sequence.get(), exchange.sequence() + 1, "all is taken in, or given up");
            let not_live = oracle::compare(&reader, &exchange, clock.monotonic_ns());
            let feed = reader.feed(0);
            assert_eq!(feed.missing == 0, feed.proven_from == 0, "{feed:?}");
            if feed.missing == 0 {
                assert_eq!(not_live, 0, "nothing was lost");
            } else {
                assert!(not_live > 0, "what was lost is said");
            }
            outcome.comparisons += 1;
            outcome.doubtful += not_live;
        }
        packetizer.end_of_session(&mut packet);
        for _ in 0..20 {
            lines.borrow_mut().send(&packet, clock.monotonic_ns());
            clock.advance(10 * MS);
            while worker.do_work() != 0 {}
        }
    }
    let counters = &worker.telemetry().feeds[0].lines;
    for line in &counters.lines[..2] {
        let outcomes = [
            &line.won,
            &line.duplicates,
            &line.late,
            &line.heartbeats,
            &line.malformed,
            &line.old_session,
            &line.stray,
        ];
        let counted: u64 = outcomes.iter().map(|counter| counter.get()).sum();
        assert_eq!(line.packets.get(), counted, "every packet is counted once");
        outcome.duplicates += line.duplicates.get();
    }
    assert_eq!(counters.sessions.get(), 3);
    outcome.gaps = counters.gaps.get();
    outcome.held = counters.held.get();
    if !loses_both {
        assert_eq!(counters.missing.get(), 0, "one line had it");
    }
    outcome
}

#[test]
fn rows_are_right_or_say_that_they_are_not() {
    let number =
        |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (first, seeds) = (number("TICKPLANE_SEED", 1), number("TICKPLANE_SEEDS", 20));
    let mut sum = Outcome::default();
    for seed in first..first + seeds {
        let outcome = simulate(seed);
        sum.comparisons += outcome.comparisons;
        sum.gaps += outcome.gaps;
        sum.doubtful += outcome.doubtful;
        sum.duplicates += outcome.duplicates;
        sum.held += outcome.held;
    }
    println!("{sum:?}");
    if seeds >= 4 {
        assert!(
            sum.gaps > 0 && sum.doubtful > 0 && sum.duplicates > 0 && sum.held > 0,
            "it has looked: {sum:?}"
        );
    }
}
