//! 2,000 subscriptions that are conflated, each on a connection of its own and with 100 updates a second: how long an update takes from
//! published to parsed, with the clients on the same machine.

use crate::node::Node;
use crate::report::{Goal, Line};
use crate::sample::take_turns;
use crate::steady::{MEASURED, Steady, read};
use crate::subscriber::{Bare, Readers, Subscribe};
use control::proto::{DeliveryMode, SubscribeRequest};
use dataplane::cache::region::Layout;

const LAYOUT: Layout = Layout { instruments: 1_024, feeds: 1, log_ticks: 1 << 17, bursts: 1 << 14 };
const SUBSCRIPTIONS: u32 = 2_000;
const INSTRUMENTS: u32 = 1_000;
const UPDATES_PER_S: u32 = 100;
/// Each instrument changes so many times as often as a subscription is told of it.
const CHANGES: u32 = 2;
const P99_NS_MAX: f64 = 250e6;

/// A subscription to so many instruments, from the `index`th on.
fn request(index: u32, instruments: u32) -> SubscribeRequest {
    let first = index * instruments;
    let symbols = (first..first + instruments).map(|number| format!("S{}", number % INSTRUMENTS));
    SubscribeRequest {
        patterns: symbols.collect(),
        mode: DeliveryMode::Conflated.into(),
        max_updates_per_s: UPDATES_PER_S / instruments,
        ..SubscribeRequest::default()
    }
}

/// The p99 in ns, and the updates a second that a subscription got, where each has so many instruments.
fn measured(instruments: u32) -> (f64, f64) {
    let mut node = Node::start(&format!("subscriptions_max = {SUBSCRIPTIONS}"), LAYOUT, INSTRUMENTS);
    let steady = Steady::new(u64::from(INSTRUMENTS * UPDATES_PER_S / instruments * CHANGES));
    let (address, latencies) = (node.address.clone(), steady.latencies.clone());
    let reading = Readers::start(async move {
        for index in 0..SUBSCRIPTIONS {
            let subscriber = Bare::subscribe(address.clone(), request(index, instruments)).await;
            tokio::spawn(read(subscriber, latencies.clone()));
        }
    });
    steady.publish(&mut node, INSTRUMENTS);
    reading.end();
    let per_s = steady.latencies.count() as f64 / f64::from(SUBSCRIPTIONS) / MEASURED.as_secs_f64();
    (steady.latencies.p99_ns(), per_s)
}

pub fn run(rounds: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for instruments in [10, 1] {
        let mut rates = Vec::new();
        let mut run = || {
            let (p99_ns, per_s) = measured(instruments);
            rates.push(per_s);
            p99_ns
        };
        let ours = take_turns(rounds, vec![("Tickplane", Box::new(&mut run))]).remove(0);
        rates.sort_by(f64::total_cmp);
        lines.push(Line {
            what: format!(
                "{SUBSCRIPTIONS} conflated of {instruments} instruments, {:.0} updates a second each: p99",
                rates[rates.len() / 2]
            ),
            ours,
            theirs: Some(("what it may be".to_owned(), P99_NS_MAX)),
            goal: Some(Goal::TimeAtMost(1.0)),
        });
    }
    lines
}
