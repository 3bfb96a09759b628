//! The whole path: a frame comes in, the book changes, log and table are published.

use crate::flow::{Flow, GROUP};
use crate::naive::NaiveBook;
use crate::report::{Goal, Line};
use crate::sample::{Sample, take_turns};
use dataplane::cache::cell::Cell;
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::Quote;
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Protocol};
use dataplane::sim::memory_port::MemoryPort;
use dataplane::telemetry::Telemetry;
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker};
use drivers::clock::SystemClock;
use drivers::cpu::Cpu;
use drivers::hugepages::advise_hugepages;
use drivers::region::RegionMapping;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const INSTRUMENTS: u32 = 8_000;
pub const ORDERS: u32 = 1_000_000;
const LAYOUT: Layout = Layout { instruments: 16_384, feeds: 1, log_ticks: 1 << 20, bursts: 1 << 14 };
const HOUR_NS: u64 = 3_600_000_000_000;

/// A worker that has seen the opening, and the flow that it has not.
pub struct Run<'m> {
    worker: Worker<'m, MemoryPort, SystemClock, Cpu>,
    messages: u64,
}

impl Run<'_> {
    pub fn telemetry(&self) -> Arc<Telemetry> {
        self.worker.telemetry().clone()
    }

    /// At most so many bursts of the flow.
    pub fn work(&mut self, bursts: usize) {
        for _ in 0..bursts {
            self.worker.do_work();
        }
    }
}

/// Two ports: the opening comes by the first, the flow by the second, as two lines of one feed.
pub fn prepare<'m>(
    cells: &'m [Cell],
    opening: MemoryPort,
    flow: MemoryPort,
    messages: u64,
    protocol: Protocol,
) -> Run<'m> {
    let writer = Writer::format(cells, LAYOUT, 1).expect("constant layout");
    let setup = |port| PortSetup { port, host: None, vlan: None };
    let line = |port| LineSetup { port, destination: GROUP, source: None };
    let feed = FeedSetup {
        arbiter: ArbiterConfig { silence_ns: HOUR_NS, held_packets: 4_096, ..ArbiterConfig::default() },
        lines: vec![line(0)],
        protocol,
    };
    let mut worker =
        Worker::new(vec![setup(opening)], vec![feed], writer, SystemClock, HOUR_NS).expect("a good set-up");
    worker.memory().for_each(|memory| {
        advise_hugepages(memory);
    });
    while worker.do_work() != 0 {}
    worker.replace_port(0, flow);
    Run { worker, messages }
}

pub fn itch50() -> Protocol {
    Protocol::Itch50 { orders_max: ORDERS as usize * 2, midnight: Box::new(|_| 1_704_171_600_000_000_000) }
}

/// Runs the flow through and returns ns a message.
pub fn time(run: Run<'_>) -> f64 {
    let started = Instant::now();
    time_by(run, || started.elapsed())
}

/// The same by the time that the core gave to this thread: what other processes take of the core is left out.
pub fn core_time(run: Run<'_>) -> f64 {
    time_by(run, || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    })
}

fn time_by(mut run: Run<'_>, now: impl Fn() -> Duration) -> f64 {
    let before = run.worker.telemetry().feeds[0].lines.messages.get();
    let started = now();
    while run.worker.do_work() != 0 {}
    let elapsed_ns = (now() - started).as_nanos() as f64;
    let after = run.worker.telemetry().feeds[0].lines.messages.get();
    assert_eq!(after - before, run.messages, "everything was taken in");
    elapsed_ns / run.messages as f64
}

pub fn region() -> RegionMapping {
    RegionMapping::create_anonymous("bench", LAYOUT.cells()).expect("memory for the bench's region")
}

/// One run in a fresh region.
fn fresh_run(messages: u64, messages_per_packet: u16, adjust: impl FnOnce(&mut Run<'_>)) -> f64 {
    let mut flow = Flow::new(INSTRUMENTS, ORDERS);
    let opening = flow.opening();
    assert!(flow.orders() > ORDERS as usize * 9 / 10, "{} orders are alive", flow.orders());
    let port = flow.port(messages, messages_per_packet);
    let mapping = region();
    let mut run = prepare(mapping.cells(), opening, port, messages, itch50());
    adjust(&mut run);
    time(run)
}

/// The same messages through maps of the standard library, without a wire format or a cache.
fn naive_run(messages: u64) -> f64 {
    let mut flow = Flow::new(INSTRUMENTS, ORDERS);
    let mut book = NaiveBook::default();
    book.take_all(flow.opening());
    let port = flow.port(messages, 10);
    let started = Instant::now();
    book.take_all(port);
    black_box(&book);
    started.elapsed().as_nanos() as f64 / messages as f64
}

/// Writes the day that [`run`] measures as an ITCH file, each message behind its length, so that another book builder can be
/// measured on the same bytes; returns how many messages of it come before the flow.
pub fn write_day(file: &Path, messages: u64) -> std::io::Result<u64> {
    let mut flow = Flow::new(INSTRUMENTS, ORDERS);
    let opening = flow.opening_messages();
    std::fs::write(file, flow.file((opening + messages) as usize))?;
    Ok(opening)
}

pub fn run(rounds: usize, messages: u64) -> Vec<Line> {
    let samples = take_turns(
        rounds,
        vec![
            ("1 message a packet", Box::new(|| fresh_run(messages, 1, |_| {}))),
            ("10 messages a packet", Box::new(|| fresh_run(messages, 10, |_| {}))),
            (
                "10 messages a packet, no latencies",
                Box::new(|| fresh_run(messages, 10, |run| run.worker.stop_measuring())),
            ),
            ("HashMap + BTreeMap", Box::new(|| naive_run(messages))),
        ],
    );
    let [one, ten, silent, naive] = <[Sample; 4]>::try_from(samples).expect("four contenders");
    let against = |ours: &Sample, name: &str, ns: f64, most: f64| Line {
        what: format!("frame → book → cache, {}", ours.name),
        ours: ours.clone(),
        theirs: Some((name.to_owned(), ns)),
        goal: Some(Goal::TimeAtMost(most)),
    };
    vec![
        against(&one, "HashMap + BTreeMap, book alone", naive.median_ns(), 0.6),
        against(&ten, "HashMap + BTreeMap, book alone", naive.median_ns(), 0.6),
        Line {
            what: "latencies taken, 10 messages a packet".to_owned(),
            theirs: Some(("the same without".to_owned(), silent.median_ns())),
            ours: ten,
            goal: Some(Goal::TimeAtMost(1.02)),
        },
    ]
}

/// What readers in another thread cost the writer, and what the writer costs them.
pub fn readers(rounds: usize, messages: u64) -> Vec<Line> {
    let reads = [AtomicU64::new(0), AtomicU64::new(0)];
    let samples = take_turns(
        rounds,
        vec![
            ("no reader", Box::new(|| read_while_writing(messages, None, false).0)),
            (
                "a reader of another region",
                Box::new(|| read_while_writing(messages, Some(INSTRUMENTS), true).0),
            ),
            (
                "a reader on random rows",
                Box::new(|| {
                    let (ns, read_ns) = read_while_writing(messages, Some(INSTRUMENTS), false);
                    reads[0].store(read_ns.to_bits(), Ordering::Relaxed);
                    ns
                }),
            ),
            (
                "a reader on the hottest row",
                Box::new(|| {
                    let (ns, read_ns) = read_while_writing(messages, Some(1), false);
                    reads[1].store(read_ns.to_bits(), Ordering::Relaxed);
                    ns
                }),
            ),
            ("an idle region's read", Box::new(|| idle_read(INSTRUMENTS))),
        ],
    );
    let [alone, elsewhere, random, hot, idle] = <[Sample; 5]>::try_from(samples).expect("five contenders");
    let single = |name: &str, bits: &AtomicU64| {
        take_turns(1, vec![(name, Box::new(|| f64::from_bits(bits.load(Ordering::Relaxed))))]).remove(0)
    };
    vec![
        Line {
            what: "writer, beside a reader on random rows".to_owned(),
            ours: random,
            theirs: Some(("beside a reader of another region".to_owned(), elsewhere.median_ns())),
            goal: Some(Goal::TimeAtMost(1.05)),
        },
        // What two busy cores of this machine cost each other, whatever they do.
        Line {
            what: "writer, beside a reader of another region".to_owned(),
            ours: elsewhere,
            theirs: Some(("the same alone".to_owned(), alone.median_ns())),
            goal: None,
        },
        Line {
            what: "read of a random row while written".to_owned(),
            ours: single("read", &reads[0]),
            theirs: Some(("the same, idle".to_owned(), idle.median_ns())),
            goal: Some(Goal::TimeAtMost(3.0)),
        },
        Line {
            what: "writer, beside a reader on one row".to_owned(),
            ours: hot,
            theirs: Some(("the same alone".to_owned(), alone.median_ns())),
            goal: None,
        },
        Line {
            what: "read of that row while written".to_owned(),
            ours: single("read", &reads[1]),
            theirs: Some(("the same, idle".to_owned(), idle.median_ns())),
            goal: None,
        },
    ]
}

/// ns a message of the writer, and ns a read of the reader if there is one, which reads rows below `rows`, of this region
/// or of one that nobody writes.
fn read_while_writing(messages: u64, rows: Option<u32>, elsewhere: bool) -> (f64, f64) {
    let mut flow = Flow::new(INSTRUMENTS, ORDERS);
    let opening = flow.opening();
    let port = flow.port(messages, 10);
    let mapping = region();
    let run = prepare(mapping.cells(), opening, port, messages, itch50());
    let other = region();
    let _ = Writer::format(other.cells(), LAYOUT, 1);
    let read = if elsewhere { &other } else { &mapping };
    let reader = Reader::open(read.cells()).expect("it is laid out");
    let (started, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (reader, started, ended) = (&reader, &started, &ended);
        let reading = rows.map(|rows| scope.spawn(move || read_until(reader, rows, started, ended)));
        while rows.is_some() && !started.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        let ns = time(run);
        ended.store(true, Ordering::Release);
        (ns, reading.map_or(0.0, |reading| reading.join().expect("the reader ends")))
    })
}

fn read_until(reader: &Reader<'_>, rows: u32, started: &AtomicBool, ended: &AtomicBool) -> f64 {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut reads = 0_u64;
    started.store(true, Ordering::Release);
    let begun = Instant::now();
    while !ended.load(Ordering::Acquire) {
        for _ in 0..1_000 {
            read_one(reader, rows, &mut random);
        }
        reads += 1_000;
    }
    begun.elapsed().as_nanos() as f64 / reads as f64
}

#[inline(always)]
fn read_one(reader: &Reader<'_>, rows: u32, random: &mut u64) {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let instrument = ((*random >> 33) % u64::from(rows)) as u32;
    black_box(reader.row::<Quote>(instrument, 0));
}

fn idle_read(rows: u32) -> f64 {
    let mut flow = Flow::new(INSTRUMENTS, ORDERS);
    let opening = flow.opening();
    let port = flow.port(1, 1);
    let mapping = region();
    let _run = prepare(mapping.cells(), opening, port, 1, itch50());
    let reader = Reader::open(mapping.cells()).expect("it is laid out");
    let mut random = 1;
    let begun = Instant::now();
    for _ in 0..2_000_000 {
        read_one(&reader, rows, &mut random);
    }
    begun.elapsed().as_nanos() as f64 / 2e6
}
