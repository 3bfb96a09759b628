//! What well-behaved clients notice of others that do harm: how long a call takes, and an update from published to parsed, beside the same
//! without them.

use crate::node::Node;
use crate::report::{Goal, Line};
use crate::sample::{Contender, Sample, take_turns_of};
use crate::steady::{PERIOD, SETTLED, Steady, read};
use crate::subscriber::{Bare, Readers, Subscribe};
use control::client::ServerArgs;
use control::proto::market_data_client::MarketDataClient;
use control::proto::{DeliveryMode, GetRequest, SubscribeRequest};
use dataplane::cache::region::Layout;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpStream;

const LAYOUT: Layout = Layout { instruments: 1_024, feeds: 1, log_ticks: 1 << 17, bursts: 1 << 14 };
const INSTRUMENTS: u32 = 500;
const GRPC: &str = "subscriptions_max = 4096\nconnections_max = 4096";
/// Connections that ask for every tick, and read nothing after the image.
const UNREAD: usize = 1_000;
/// Connections that say nothing.
const SILENT: usize = 100;
const CHANGES_PER_S: u64 = 5_000;
/// Those who do harm and those who are measured are on the same machine as the node: it is busy beyond its cores.
const P99_NS_MAX: f64 = 250e6;

fn everything() -> SubscribeRequest {
    let mode = DeliveryMode::EveryTick.into();
    SubscribeRequest { patterns: vec!["*".to_owned()], mode, ..SubscribeRequest::default() }
}

/// Tells how long each call took, and when it began.
async fn call(address: String, taken: Arc<Mutex<Vec<(Instant, u64)>>>) {
    let channel = ServerArgs::at(address).connect().await.unwrap_or_else(|error| panic!("{error}"));
    let mut client = MarketDataClient::new(channel);
    loop {
        let started = Instant::now();
        let answer = client.get(GetRequest { symbols: vec!["S1".to_owned()] }).await;
        answer.unwrap_or_else(|error| panic!("{error}"));
        taken.lock().expect("nobody panics").push((started, started.elapsed().as_nanos() as u64));
        tokio::time::sleep(PERIOD).await;
    }
}

/// Subscribes to everything, and again as soon as it has begun; by another connection once this one has had enough of it.
async fn subscribe_again_and_again(address: String, begun: Arc<AtomicU64>) {
    loop {
        let Ok(channel) = ServerArgs::at(address.clone()).connect().await else { continue };
        let mut client = MarketDataClient::new(channel);
        while let Ok(stream) = client.subscribe(everything()).await {
            if stream.into_inner().message().await.is_err() {
                break;
            }
            begun.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Those who do harm, in a thread of their own.
fn begin_harm(address: String, begun: Arc<AtomicU64>) -> Readers {
    Readers::start(async move {
        let (mut unread, mut silent) = (Vec::new(), Vec::new());
        for _ in 0..UNREAD {
            unread.push(Bare::subscribe(address.clone(), everything()).await);
        }
        for _ in 0..SILENT {
            silent.push(
                TcpStream::connect(address.trim_start_matches("http://")).await.expect("there is a place"),
            );
        }
        tokio::spawn(subscribe_again_and_again(address, begun));
        (unread, silent)
    })
}

/// The p99 of calls and of updates, in ns.
fn measured(is_abused: bool) -> [f64; 2] {
    let mut node = Node::start(GRPC, LAYOUT, INSTRUMENTS);
    let steady = Steady::new(CHANGES_PER_S);
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (address, latencies, timed) = (node.address.clone(), steady.latencies.clone(), taken.clone());
    let begun = Arc::new(AtomicU64::new(0));
    let harm = is_abused.then(|| begin_harm(address.clone(), begun.clone()));
    let reading = Readers::start(async move {
        tokio::spawn(read(Bare::subscribe(address.clone(), everything()).await, latencies));
        tokio::spawn(call(address, timed));
    });
    let started = steady.publish(&mut node, INSTRUMENTS);
    reading.end();
    harm.into_iter().for_each(Readers::end);
    assert!(!is_abused || begun.load(Ordering::Relaxed) > 100, "they go on");
    let taken = std::mem::take(&mut *taken.lock().expect("nobody panics"));
    let mut calls_ns: Vec<u64> =
        taken.into_iter().filter(|(at, _)| *at >= started + SETTLED).map(|(_, ns)| ns).collect();
    calls_ns.sort_unstable();
    assert!(calls_ns.len() > 100 && steady.latencies.count() > steady.measured() / 2, "they are served");
    [calls_ns[calls_ns.len() * 99 / 100] as f64, steady.latencies.p99_ns()]
}

pub fn run(rounds: usize) -> Vec<Line> {
    let contenders: Vec<Contender<'_, [f64; 2]>> = vec![
        ("beside those who do harm", Box::new(|| measured(true))),
        ("without them", Box::new(|| measured(false))),
    ];
    let [calls, updates] = take_turns_of(rounds, contenders);
    let lines = |what: &str, samples: &[Sample]| {
        let line = |theirs, goal| Line {
            what: format!("{what} beside {UNREAD} that never read and others that do harm: p99"),
            ours: samples[0].clone(),
            theirs: Some(theirs),
            goal,
        };
        [
            line(("what it may be".to_owned(), P99_NS_MAX), Some(Goal::TimeAtMost(1.0))),
            line((samples[1].name.clone(), samples[1].median_ns()), None),
        ]
    };
    [lines("a call", &calls), lines("an update", &updates)].into_iter().flatten().collect()
}
