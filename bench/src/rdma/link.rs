//! Replication by RDMA from one log to another: how long a tick takes, and how many there are in a second.

use dataplane::cache::follower::Follower;
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Quote, Tick};
use dataplane::cache::writer::Writer;
use dataplane::replica::{Lineage, Primary, PrimaryLimits, Standby};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::rdma::link::{LinkedStandby, LogMemory, PrimaryEnd};
use drivers::rdma::{Device, QueuePairConfig};
use drivers::region::RegionMapping;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const INSTRUMENTS: u32 = 64;
const LAYOUT: Layout = Layout { instruments: INSTRUMENTS, feeds: 1, log_ticks: 1 << 17, bursts: 1 << 10 };
/// Ticks of a batch: as many as may be under way.
const BATCH: u64 = LAYOUT.log_ticks / 2;
const VALID_FOR_NS: u64 = 2_000_000_000;
/// For a whole round; something is wrong after it.
const PATIENCE: Duration = Duration::from_secs(120);

fn now_ns() -> u64 {
    SystemClock.monotonic_ns()
}

/// The primary's side, in this thread; the standby is in another one.
struct Node<'m> {
    writer: Writer<'m>,
    primary: Primary<'m>,
    end: PrimaryEnd,
    started: Instant,
}

impl Node<'_> {
    fn publish(&mut self, ticks: u64) {
        for _ in 0..ticks {
            let position = self.writer.position();
            let quote = Quote { bid_price: position as i64, ..Quote::EMPTY };
            let instrument = position as u32 % INSTRUMENTS;
            self.writer.publish(&Tick { instrument, ..Tick::default() }.with_payload(quote));
        }
        self.writer.commit();
    }

    fn poll(&mut self) {
        assert!(self.started.elapsed() < PATIENCE, "{:?}", self.primary.status());
        self.writer.keep_alive(now_ns(), PATIENCE.as_nanos() as u64);
        self.end.fill().unwrap_or_else(|error| panic!("{error}"));
        self.primary.poll(&mut self.end, now_ns());
        self.end.flush().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Until the standby has acknowledged everything.
    fn settle(&mut self) {
        while !self.primary.status().level || self.primary.status().acknowledged != self.writer.position() {
            self.poll();
        }
    }
}

/// Runs `measure` with a primary whose standby is level, and that standby's region.
fn with_standby<R>(devices: &[Arc<Device>; 2], measure: impl FnOnce(&mut Node<'_>, &Reader<'_>) -> R) -> R {
    let mapping = || Arc::new(RegionMapping::create_anonymous("rdma-bench", LAYOUT.cells()).expect("memory"));
    let (one, other) = (mapping(), mapping());
    let writer = Writer::format(one.cells(), LAYOUT, 1).expect("a region");
    let standby = Standby::new(Follower::format(other.cells(), LAYOUT, 1).expect("a region"), 0);
    let copy = Reader::open(other.cells()).expect("a region");
    let limits = PrimaryLimits { window_ticks: BATCH, valid_for_ns: VALID_FOR_NS };
    let mut primary =
        Primary::new(Reader::open(one.cells()).expect("a region"), Lineage::first(1, 7), limits);
    primary.connected();
    let log = LogMemory::local(&devices[0], &one).unwrap_or_else(|error| panic!("{error}"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
    let patience = QueuePairConfig::default();
    let end = PrimaryEnd::new(stream, &Arc::new(log), &patience).unwrap_or_else(|error| panic!("{error}"));
    let stream = listener.accept().expect("connected").0;
    let mut standby = LinkedStandby::new(standby, &devices[1], &other, &patience);
    standby.connect(stream).unwrap_or_else(|error| panic!("{error}"));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                standby.poll(now_ns, &mut |_| true).unwrap_or_else(|error| panic!("{error}"));
                std::hint::spin_loop();
            }
        });
        let mut node = Node { writer, primary, end, started: Instant::now() };
        node.publish(u64::from(INSTRUMENTS));
        node.settle();
        assert!(node.end.is_connected(), "ticks go by the device");
        let result = measure(&mut node, &copy);
        is_done.store(true, Ordering::Relaxed);
        result
    })
}

/// One tick at a time, from before it is published until it can be read in the standby's table: the median, in ns.
pub fn latency(devices: &[Arc<Device>; 2], ticks: usize) -> f64 {
    with_standby(devices, |node, copy| {
        let mut hint = 0;
        median(ticks, || {
            let position = node.writer.position();
            let published_ns = now_ns();
            node.publish(1);
            let readable_ns = loop {
                node.poll();
                if copy.tail() > position
                    && let Some(readable_ns) = copy.published_ns(position, &mut hint)
                {
                    break readable_ns;
                }
            };
            let row = copy.row::<Quote>(position as u32 % INSTRUMENTS, 0).expect("it is in the table");
            assert_eq!(row.position, position);
            readable_ns.saturating_sub(published_ns)
        })
    })
}

/// One tick at a time, from before it is published until its acknowledgement is here: the median, in ns.
pub fn acknowledgement(devices: &[Arc<Device>; 2], ticks: usize) -> f64 {
    with_standby(devices, |node, _| {
        median(ticks, || {
            let published_ns = now_ns();
            node.publish(1);
            node.settle();
            now_ns() - published_ns
        })
    })
}

fn median(ticks: usize, latency_ns: impl FnMut() -> u64) -> f64 {
    let mut latencies_ns: Vec<u64> = std::iter::repeat_with(latency_ns).take(ticks).collect();
    latencies_ns.sort_unstable();
    latencies_ns[ticks / 2] as f64
}

/// Batches of a log that is written already, until the standby has acknowledged them: ns a tick.
pub fn bulk(devices: &[Arc<Device>; 2], batches: u32) -> f64 {
    with_standby(devices, |node, copy| {
        let mut elapsed = Duration::ZERO;
        for _ in 0..batches {
            node.publish(BATCH);
            let started = Instant::now();
            node.settle();
            elapsed += started.elapsed();
            assert_eq!(copy.tail(), node.writer.position());
        }
        elapsed.as_nanos() as f64 / (u64::from(batches) * BATCH) as f64
    })
}
