//! One stream of updates to many subscribers on loopback, each of which has a connection of its own, takes every tick and reads
//! every update; one more is connected and never reads. What publishes and delivers is a [`Contender`], so that others can be
//! measured by the same load.

use crate::report::Line;
use crate::sample::{self, take_turns};
use crate::served::{CONFIG, serve};
use control::client::ServerArgs;
use control::proto::market_data_client::MarketDataClient;
use control::proto::{DeliveryMode, SubscribeRequest, SubscribeResponse};
use control::runner::{GroupAccess, ServedCache};
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Condition, Definition, FeedState, INSTRUMENT_NONE, Quote, Session, Tick};
use dataplane::cache::writer::Writer;
use dataplane::histogram::Histogram;
use dataplane::telemetry::{FeedTelemetry, PortTelemetry, Telemetry};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::region::RegionMapping;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LAYOUT: Layout = Layout { instruments: 128, feeds: 1, log_ticks: 1 << 17, bursts: 1 << 14 };
const INSTRUMENTS: u32 = 100;
/// Subscribers that read.
const READERS: [usize; 3] = [10, 100, 1_000];
const PACED_PER_S: u64 = 50;
const PACED: Duration = Duration::from_secs(4);
/// Deliveries of a round flat out, to all subscribers together.
const DELIVERIES: u64 = 2_000_000;
/// Updates that the slowest reader may be behind: the load is what all of them can take.
const AHEAD_MAX: u64 = 16_384;
const BURST: u64 = 32;
const PATIENCE: Duration = Duration::from_secs(60);
/// Each subscriber is two files of this process.
const FILES: u64 = 8_192;
/// What publishes updates, numbered from 0 on, and delivers them to whoever has connected.
pub trait Contender {
    type Subscriber: Subscriber;

    /// Starts what delivers, and returns with a publisher's end.
    fn start() -> Self;

    /// Connects one that gets every update that is published once this has returned.
    fn subscriber(&self) -> impl Future<Output = Self::Subscriber> + Send + 'static;

    /// Publishes the next `count` updates together, from `number` on.
    fn publish(&mut self, number: u64, count: u64);
}

pub trait Subscriber: Send + 'static {
    /// The numbers of updates that have come, each of which was parsed.
    fn next(&mut self, numbers: &mut Vec<u64>) -> impl Future<Output = ()> + Send;
}

/// Tickplane itself: a writer's region, served as the appliance serves it.
struct Tickplane {
    writer: Writer<'static>,
    address: String,
    end: Arc<AtomicBool>,
    served: Option<JoinHandle<()>>,
}

impl Contender for Tickplane {
    type Subscriber = tonic::Streaming<SubscribeResponse>;

    fn start() -> Tickplane {
        let mut mapping = RegionMapping::create_anonymous("fanout", LAYOUT.cells()).expect("memory");
        let region_bytes = mapping.mapped_bytes();
        let cells = mapping.leak();
        let mut writer = Writer::format(cells, LAYOUT, SystemClock.unix_ns()).expect("the layout is good");
        writer.keep_alive(SystemClock.monotonic_ns(), u64::MAX / 4);
        let feed = Tick { instrument: INSTRUMENT_NONE, ..Tick::default() };
        let session =
            Session { session: *b"SESSION001", day: 1, price_decimals: 4, reserved: 0, reserved2: [0; 8] };
        writer.publish(&feed.with_payload(session));
        let live = FeedState {
            proven_from: 0,
            missing: 0,
            condition: Condition::Live as u8,
            reason: 0,
            reserved: [0; 6],
        };
        writer.publish(&feed.with_payload(live));
        for _ in 0..INSTRUMENTS {
            let instrument = writer.allocate().expect("there is room");
            let head = Tick { instrument, ..Tick::default() };
            writer.define(
                instrument,
                &head,
                Definition::new(instrument, format!("S{instrument}").as_bytes()),
            );
        }
        writer.commit();
        let telemetry = Arc::new(Telemetry {
            feeds: vec![FeedTelemetry::default()],
            ports: vec![PortTelemetry::default()],
            ..Telemetry::default()
        });
        let reader = Reader::open(cells).expect("it is laid out");
        let cache = ServedCache { reader, telemetry, region_bytes, group: GroupAccess::default() };
        let (sender, address) = mpsc::channel();
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let config = CONFIG.replace("[grpc]", "[grpc]\nsubscriptions_max = 2000");
        let served = std::thread::spawn(move || serve(&config, cache, &sender, &ended));
        let address = address.recv().expect("it is served");
        Tickplane { writer, address, end, served: Some(served) }
    }

    fn subscriber(&self) -> impl Future<Output = Self::Subscriber> + Send + 'static {
        let server = ServerArgs::at(self.address.clone());
        async move {
            let channel = server.connect().await.unwrap_or_else(|error| panic!("{error}"));
            let mode = DeliveryMode::EveryTick.into();
            let request =
                SubscribeRequest { patterns: vec!["*".to_owned()], mode, ..SubscribeRequest::default() };
            let subscribed = MarketDataClient::new(channel).subscribe(request).await;
            let mut responses = subscribed.unwrap_or_else(|error| panic!("{error}")).into_inner();
            while !next(&mut responses).await.image_complete {}
            responses
        }
    }

    fn publish(&mut self, number: u64, count: u64) {
        for sequence in number..number + count {
            let instrument = (sequence % u64::from(INSTRUMENTS)) as u32;
            let quote = Quote {
                bid_price: 100_000_000_000 + sequence as i64,
                ask_price: 100_010_000_000,
                bid_size: 300,
                ask_size: 200,
            };
            let received_ns = SystemClock.unix_ns();
            let head =
                Tick { instrument, sequence, exchange_ns: received_ns, received_ns, ..Tick::default() };
            self.writer.publish(&head.with_payload(quote));
        }
        self.writer.commit();
        self.writer.stamp_burst(SystemClock.monotonic_ns());
    }
}

impl Drop for Tickplane {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(served) = self.served.take() {
            served.join().expect("it ends in order");
        }
    }
}

async fn next(responses: &mut tonic::Streaming<SubscribeResponse>) -> SubscribeResponse {
    let response = responses.message().await.unwrap_or_else(|error| panic!("{error}"));
    let response = response.expect("it is not at its end");
    assert!(response.gap.is_none(), "every tick was asked for: {response:?}");
    response
}

impl Subscriber for tonic::Streaming<SubscribeResponse> {
    async fn next(&mut self, numbers: &mut Vec<u64>) {
        let response = next(self).await;
        numbers.extend(response.updates.iter().filter_map(|update| Some(update.mark()?.sequence)));
    }
}

/// What the subscribers have seen.
#[derive(Default)]
struct Seen {
    /// By subscriber: how many updates.
    updates: Vec<AtomicU64>,
    /// When (`CLOCK_MONOTONIC`) each update was published; empty = latencies are not taken.
    published_ns: Vec<AtomicU64>,
    latencies: Histogram,
}

impl Seen {
    fn least(&self) -> u64 {
        self.updates.iter().map(|updates| updates.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    fn p99_ns(&self) -> f64 {
        let total: u64 = self.latencies.counts().map(|(_, count)| count).sum();
        assert!(total > 0, "something was delivered");
        let mut below = 0;
        let found = self.latencies.counts().find(|(_, count)| {
            below += count;
            below * 100 >= total * 99
        });
        found.map_or(0.0, |(highest_ns, _)| highest_ns as f64)
    }
}

async fn read(mut subscriber: impl Subscriber, index: usize, seen: Arc<Seen>) {
    let (mut numbers, mut expected) = (Vec::new(), 0);
    loop {
        numbers.clear();
        subscriber.next(&mut numbers).await;
        let now_ns = SystemClock.monotonic_ns();
        for number in &numbers {
            assert_eq!(*number, expected, "each comes once, and in order");
            expected += 1;
            if let Some(published_ns) = seen.published_ns.get(*number as usize) {
                seen.latencies.record_between(published_ns.load(Ordering::Relaxed), now_ns, 1);
            }
        }
        seen.updates[index].store(expected, Ordering::Relaxed);
    }
}

/// Runs `publish` while so many subscribers read in a thread of their own, and one more does not.
fn with_readers<C: Contender, T>(
    readers: usize,
    published: usize,
    publish: impl FnOnce(&mut C, &Seen) -> T,
) -> (T, Arc<Seen>) {
    let mut contender = C::start();
    let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
    let seen = Arc::new(Seen { updates: zeros(readers), published_ns: zeros(published), ..Seen::default() });
    let subscribers: Vec<_> = (0..=readers).map(|_| contender.subscriber()).collect();
    let (ready_sender, ready) = mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let counted = seen.clone();
    let reading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let mut subscribers = subscribers.into_iter();
            let frozen = subscribers.next().expect("one more than readers").await;
            for (index, subscriber) in subscribers.enumerate() {
                tokio::spawn(read(subscriber.await, index, counted.clone()));
            }
            ready_sender.send(()).expect("it is waited for");
            // Its end is that of whoever publishes.
            let _ = ended.await;
            drop(frozen);
        });
    });
    ready.recv().expect("all subscribe");
    let result = publish(&mut contender, &seen);
    drop(end);
    reading.join().expect("every subscriber got what it should");
    (result, seen)
}

fn wait_for(seen: &Seen, updates: u64) {
    let started = Instant::now();
    while seen.least() < updates {
        assert!(started.elapsed() < PATIENCE, "the slowest has {} of {updates} updates", seen.least());
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// ns a delivery, as fast as all readers can take them.
fn flat_out<C: Contender>(readers: usize) -> f64 {
    let updates = DELIVERIES / readers as u64;
    let publish = |contender: &mut C, seen: &Seen| {
        let started = Instant::now();
        for number in (0..updates).step_by(BURST as usize) {
            wait_for(seen, number.saturating_sub(AHEAD_MAX));
            contender.publish(number, BURST.min(updates - number));
        }
        wait_for(seen, updates);
        started.elapsed()
    };
    let (elapsed, _) = with_readers::<C, _>(readers, 0, publish);
    elapsed.as_nanos() as f64 / (updates * readers as u64) as f64
}

/// ns from published to parsed by the subscriber, of the slowest delivery but one in a hundred, at a steady pace.
fn paced<C: Contender>(readers: usize) -> f64 {
    let updates = PACED_PER_S * PACED.as_secs();
    let publish = |contender: &mut C, seen: &Seen| {
        let started = Instant::now();
        for number in 0..updates {
            let due = Duration::from_nanos(number * 1_000_000_000 / PACED_PER_S);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            seen.published_ns[number as usize].store(SystemClock.monotonic_ns(), Ordering::Relaxed);
            contender.publish(number, 1);
        }
        wait_for(seen, updates);
    };
    with_readers::<C, _>(readers, updates as usize, publish).1.p99_ns()
}

fn lines_of<C: Contender>(name: &'static str, rounds: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for readers in READERS {
        let measured: Vec<(&str, sample::Contender<'_>)> = vec![
            ("a delivery", (name, Box::new(move || flat_out::<C>(readers)))),
            ("published → parsed, p99, 50 a second", (name, Box::new(move || paced::<C>(readers)))),
        ];
        for (what, contender) in measured {
            for ours in take_turns(rounds, vec![contender]) {
                let what = format!("{readers} subscribers: {what}");
                eprintln!("{name}, {what}: {:.0} ns", ours.median_ns());
                lines.push(Line { what, ours, theirs: None, goal: None });
            }
        }
    }
    lines
}

pub fn run(rounds: usize) -> Vec<Line> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum.map_or(Some(FILES), |most| Some(most.min(FILES))),
        ..limit
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)
        .unwrap_or_else(|error| panic!("open files: {error}"));
    lines_of::<Tickplane>("Tickplane", rounds)
}
