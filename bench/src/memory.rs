//! The memory that 10,000 subscriptions take of a node which have little to tell: each on a connection of its own, and a hundred
//! on each connection. It is measured from outside, as the node's process resides in memory; the kernel's buffers are not in it.

use crate::node::Node;
use crate::report::{Goal, Line};
use crate::sample::take_turns;
use crate::subscriber::{Bare, Readers, Subscribe, Subscriber, subscribe};
use control::client::ServerArgs;
use control::proto::{DeliveryMode, SubscribeRequest};
use dataplane::cache::region::Layout;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const LAYOUT: Layout = Layout { instruments: 1_024, feeds: 1, log_ticks: 1 << 17, bursts: 1 << 14 };
pub const SUBSCRIPTIONS: u32 = 10_000;
const INSTRUMENTS: u32 = 1_000;
/// Streams of a connection that is shared; a server admits 200, unless it is told otherwise.
const SHARED: u32 = 100;
/// Each instrument changes once in so many seconds, and once while it is measured for all.
const CHANGES: u64 = 3;
const BYTES_MAX: f64 = (32 << 10) as f64;

fn request(index: u32) -> SubscribeRequest {
    SubscribeRequest {
        patterns: vec![format!("S{}", index % INSTRUMENTS)],
        mode: DeliveryMode::Conflated.into(),
        max_updates_per_s: 1,
        ..SubscribeRequest::default()
    }
}

async fn read(mut subscriber: impl Subscriber, read: Arc<AtomicU64>) {
    let mut numbers = Vec::new();
    loop {
        numbers.clear();
        subscriber.next(&mut numbers).await;
        read.fetch_add(numbers.len() as u64, Ordering::Relaxed);
    }
}

/// Bytes a subscription, with so many of them on each connection.
fn bytes(shared: u32) -> f64 {
    let most = format!("subscriptions_max = {SUBSCRIPTIONS}\nconnections_max = {SUBSCRIPTIONS}");
    let mut node = Node::start(&most, LAYOUT, INSTRUMENTS);
    let before = node.server.resident_bytes();
    let count = Arc::new(AtomicU64::new(0));
    let (address, counted) = (node.address.clone(), count.clone());
    let reading = Readers::start(async move {
        let mut channel = None;
        for index in 0..SUBSCRIPTIONS {
            if shared == 1 {
                let subscriber = Bare::subscribe(address.clone(), request(index)).await;
                tokio::spawn(read(subscriber, counted.clone()));
                continue;
            }
            if index % shared == 0 {
                let connected = ServerArgs::at(address.clone()).connect().await;
                channel = Some(connected.unwrap_or_else(|error| panic!("{error}")));
            }
            let channel = channel.clone().expect("the first one connects");
            tokio::spawn(read(subscribe(channel, request(index)).await, counted.clone()));
        }
    });
    for number in 0..CHANGES * u64::from(INSTRUMENTS) {
        node.publish((number % u64::from(INSTRUMENTS)) as u32, number);
        node.commit();
        std::thread::sleep(Duration::from_secs(1) / INSTRUMENTS);
    }
    let after = node.server.resident_bytes();
    reading.end();
    assert!(count.load(Ordering::Relaxed) >= u64::from(SUBSCRIPTIONS), "each was told something");
    after.saturating_sub(before) as f64 / f64::from(SUBSCRIPTIONS)
}

pub fn run(rounds: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for (shared, how) in [(1, "each its own connection"), (SHARED, "100 a connection")] {
        let ours = take_turns(rounds, vec![("Tickplane", Box::new(move || bytes(shared)))]).remove(0);
        lines.push(Line {
            what: format!("{SUBSCRIPTIONS} idle subscriptions, {how}: bytes each"),
            ours,
            theirs: Some(("what it may be".to_owned(), BYTES_MAX)),
            goal: Some(Goal::TimeAtMost(1.0)),
        });
    }
    lines
}
