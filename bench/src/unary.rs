//! `MarketData.Get` of one symbol, with authentication and quota as the appliance has them, against the same service of the same node
//! behind a bare tonic server. The record of changes is on as well, and has nothing to do: reading changes nothing.
//!
//! The same calls by the same client, in turn: a few connections, with some calls in flight on each, one after the other.

use crate::node::Node;
use crate::report::{Goal, Line};
use crate::sample::{Contender, Sample, take_turns_of};
use control::access::Token;
use control::client::{Connection, ServerArgs};
use control::proto::GetRequest;
use control::proto::market_data_client::MarketDataClient;
use dataplane::cache::region::Layout;
use std::time::{Duration, Instant};

const LAYOUT: Layout = Layout { instruments: 128, feeds: 1, log_ticks: 1 << 12, bursts: 1 << 10 };
const INSTRUMENTS: u32 = 100;
const CONNECTIONS: usize = 4;
/// Calls in flight on each connection.
const IN_FLIGHT: usize = 4;
const CLIENT: &str = "desk";
/// Calls before it counts, in parts of those that do.
const WARM_UP: usize = 10;

/// A node with a client that has a token, and the token.
fn start(is_bare: bool) -> (Node, String) {
    let token = Token::generate();
    let clients =
        format!("[[clients]]\nname = \"{CLIENT}\"\nrole = \"reader\"\ntoken_sha256 = \"{}\"", token.hash());
    let quota = "[quota.reader]\nrequests_per_min = 100_000_000";
    let mut node = Node::start_with("", &format!("{quota}\n{clients}"), is_bare, LAYOUT, INSTRUMENTS);
    for instrument in 0..INSTRUMENTS {
        node.publish(instrument, instrument.into());
    }
    node.commit();
    (node, token.text().to_owned())
}

async fn call(connection: Connection, calls: usize) -> Vec<u64> {
    let mut client = MarketDataClient::new(connection);
    let mut taken_ns = Vec::with_capacity(calls);
    for number in 0..calls {
        let symbol = format!("S{}", number % INSTRUMENTS as usize);
        let started = Instant::now();
        let answer = client.get(GetRequest { symbols: vec![symbol.clone()] }).await;
        taken_ns.push(started.elapsed().as_nanos() as u64);
        let answer = answer.unwrap_or_else(|error| panic!("{error}")).into_inner();
        assert!(answer.instruments[0].symbol == symbol && answer.instruments[0].quote.is_some());
    }
    taken_ns
}

async fn calls(connections: &[Connection], calls: usize) -> (Duration, Vec<u64>) {
    let started = Instant::now();
    let in_flight = connections.iter().flat_map(|one| std::iter::repeat_n(one, IN_FLIGHT));
    let each = calls / (CONNECTIONS * IN_FLIGHT);
    let running: Vec<_> = in_flight.map(|one| tokio::spawn(call(one.clone(), each))).collect();
    let mut taken_ns = Vec::with_capacity(calls);
    for one in running {
        taken_ns.extend(one.await.expect("it ends well"));
    }
    (started.elapsed(), taken_ns)
}

/// ns a call, and the p99 of all.
fn measured(is_bare: bool, count: usize) -> [f64; 2] {
    let (node, token) = start(is_bare);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = ServerArgs { token: Some(token), ..ServerArgs::at(node.address.clone()) };
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(server.connect().await.unwrap_or_else(|error| panic!("{error}")));
        }
        calls(&connections, count / WARM_UP).await;
        let (elapsed, mut taken_ns) = calls(&connections, count).await;
        taken_ns.sort_unstable();
        let per_call_ns = elapsed.as_nanos() as f64 / taken_ns.len() as f64;
        [per_call_ns, taken_ns[taken_ns.len() * 99 / 100] as f64]
    })
}

pub fn run(rounds: usize, calls: usize) -> Vec<Line> {
    let contenders: Vec<Contender<'_, [f64; 2]>> = vec![
        ("with all layers", Box::new(|| measured(false, calls))),
        ("a bare tonic server", Box::new(|| measured(true, calls))),
    ];
    let [times, p99s] = take_turns_of(rounds, contenders);
    let line = |what: &str, samples: &[Sample], goal| Line {
        what: what.to_owned(),
        ours: samples[0].clone(),
        theirs: Some((samples[1].name.clone(), samples[1].median_ns())),
        goal: Some(goal),
    };
    vec![
        line("unary call", &times, Goal::RateAtLeast(0.9)),
        line("unary call, p99", &p99s, Goal::TimeAtMost(1.1)),
    ]
}
