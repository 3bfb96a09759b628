//! One stream of updates to many subscribers on loopback, each of which has a connection of its own, takes every tick and reads
//! every update; one more is connected and never reads. Tickplane, nats-server and redis-server carry the same load in turn.
//!
//! Each server is a process of its own. This process publishes in one thread, and has all subscribers in another; so it is for all
//! alike, and nobody is tied to a core. Everybody's subscribers are read by as little code as their protocol takes, since what is
//! compared are the servers; Tickplane's generated client is measured beside.

mod nats;
mod payload;
mod redis;
mod tickplane;

use crate::latencies::Latencies;
use crate::report::{Goal, Line};
use crate::sample::{self, Sample, take_turns};
use crate::subscriber::{Bare, Generated, Readers, Subscriber};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use nats::Nats;
use redis::Redis;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tickplane::Tickplane;

const INSTRUMENTS: u32 = 100;
const PACED_PER_S: u64 = 50;
const PACED: Duration = Duration::from_secs(4);
/// Updates that the slowest reader may be behind: the load is what all of them can take.
const AHEAD_MAX: u64 = 16_384;
/// Updates that are published together.
const BURST: u64 = 256;
const PATIENCE: Duration = Duration::from_secs(60);

/// What an update is about.
fn subject(number: u64) -> String {
    format!("S{}", number % u64::from(INSTRUMENTS))
}

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

/// What the subscribers have seen.
struct Seen {
    /// By subscriber: how many updates.
    updates: Vec<AtomicU64>,
    latencies: Latencies,
}

impl Seen {
    fn least(&self) -> u64 {
        self.updates.iter().map(|updates| updates.load(Ordering::Relaxed)).min().unwrap_or(0)
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
            seen.latencies.read(*number, now_ns);
        }
        seen.updates[index].store(expected, Ordering::Relaxed);
    }
}

/// Runs `publish` while so many subscribers read, and one more does not; latencies are taken of the first `timed` updates.
fn with_readers<C: Contender, T>(
    readers: usize,
    timed: u64,
    publish: impl FnOnce(&mut C, &Seen) -> T,
) -> (T, Arc<Seen>) {
    let mut contender = C::start();
    let updates = (0..readers).map(|_| AtomicU64::new(0)).collect();
    let seen = Arc::new(Seen { updates, latencies: Latencies::of(timed) });
    let subscribers: Vec<_> = (0..=readers).map(|_| contender.subscriber()).collect();
    let counted = seen.clone();
    let reading = Readers::start(async move {
        let mut subscribers = subscribers.into_iter();
        let frozen = subscribers.next().expect("one more than readers").await;
        for (index, subscriber) in subscribers.enumerate() {
            tokio::spawn(read(subscriber.await, index, counted.clone()));
        }
        frozen
    });
    let result = publish(&mut contender, &seen);
    reading.end();
    (result, seen)
}

fn wait_for(seen: &Seen, updates: u64) {
    let started = Instant::now();
    while seen.least() < updates {
        assert!(started.elapsed() < PATIENCE, "the slowest has {} of {updates} updates", seen.least());
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// ns a delivery, as fast as all readers can take them, of so many deliveries to all of them together.
fn flat_out<C: Contender>(readers: usize, deliveries: u64) -> f64 {
    let updates = deliveries / readers as u64;
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
            seen.latencies.published(number);
            contender.publish(number, 1);
        }
        wait_for(seen, updates);
    };
    with_readers::<C, _>(readers, updates, publish).1.latencies.p99_ns()
}

/// One measurement of each contender, which take turns.
fn contest(
    what: &str,
    rounds: usize,
    goal: Option<Goal>,
    contenders: [sample::Contender<'_>; 4],
) -> Vec<Line> {
    let samples = <[Sample; 4]>::try_from(take_turns(rounds, contenders.into())).expect("four contenders");
    for sample in &samples {
        eprintln!("{what}, {}: {:.0} ns", sample.name, sample.median_ns());
    }
    let [ours, generated, nats, redis] = samples;
    let line = |ours: &Sample, theirs: &Sample, goal| Line {
        what: format!("{what}, {}", ours.name),
        ours: ours.clone(),
        theirs: Some((theirs.name.clone(), theirs.median_ns())),
        goal,
    };
    vec![
        line(&ours, &nats, goal),
        line(&ours, &redis, goal),
        line(&generated, &nats, None),
        line(&generated, &redis, None),
    ]
}

const NAMES: [&str; 4] = ["bare client", "generated client", "nats-server", "redis-server"];

/// With so many subscribers that read, and so many deliveries to all of them in a round.
pub fn run(rounds: usize, readers: &[usize], deliveries: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    for &readers in readers {
        let contenders: [sample::Contender<'_>; 4] = [
            (NAMES[0], Box::new(move || flat_out::<Tickplane<Bare>>(readers, deliveries))),
            (NAMES[1], Box::new(move || flat_out::<Tickplane<Generated>>(readers, deliveries))),
            (NAMES[2], Box::new(move || flat_out::<Nats>(readers, deliveries))),
            (NAMES[3], Box::new(move || flat_out::<Redis>(readers, deliveries))),
        ];
        let what = format!("{readers} subscribers: a delivery");
        lines.extend(contest(&what, rounds, Some(Goal::RateAtLeast(1.0)), contenders));
        let contenders: [sample::Contender<'_>; 4] = [
            (NAMES[0], Box::new(move || paced::<Tickplane<Bare>>(readers))),
            (NAMES[1], Box::new(move || paced::<Tickplane<Generated>>(readers))),
            (NAMES[2], Box::new(move || paced::<Nats>(readers))),
            (NAMES[3], Box::new(move || paced::<Redis>(readers))),
        ];
        let what = format!("{readers} subscribers: p99, {PACED_PER_S} updates a second");
        // Of fewer subscribers the goal says nothing.
        let goal = (readers == 1_000).then_some(Goal::TimeAtMost(1.0));
        lines.extend(contest(&what, rounds, goal, contenders));
    }
    lines
}
