//! MDP 3.0, the whole path: a frame comes in, the book changes, the event ends, log and table are published.

use crate::flow::{GROUP, SOURCE};
use crate::path::{prepare, region, time};
use crate::report::{Goal, Line};
use crate::sample::take_turns;
use dataplane::feed::Protocol;
use dataplane::port::Medium;
use dataplane::sim::mdp3::{Channel, Config, Variety};
use dataplane::sim::memory_port::MemoryPort;
use dataplane::wire::datagram::Datagram;

const INSTRUMENTS: usize = 4_000;
/// Entries of each instrument before what is measured: its books have filled by then.
const OPENING_ENTRIES: u64 = 40;
/// What an entry may take.
const ENTRY_NS: f64 = 150.0;

/// Every packet has one message with one entry, and ends an event.
fn port(channel: &mut Channel, packets: u64) -> MemoryPort {
    let mut port = MemoryPort::with_burst(Medium::Ethernet, 64);
    let mut payload = Vec::new();
    for _ in 0..packets {
        channel.next_packet(&mut payload);
        let datagram = Datagram { vlan: None, source: SOURCE, destination: GROUP, payload: &payload };
        port.push_datagram(&datagram, 0);
    }
    port
}

fn run_once(entries: u64) -> f64 {
    let mut channel = Channel::new(Config {
        instruments: INSTRUMENTS,
        event_messages: 1,
        entries: 1,
        packet_messages: 1,
        resets_per_mille: 0,
        variety: Variety::Plain,
        ..Config::default()
    });
    let opening = port(&mut channel, INSTRUMENTS as u64 * (1 + OPENING_ENTRIES));
    let flow = port(&mut channel, entries);
    let mapping = region();
    let protocol = Protocol::Mdp3 { instruments_max: INSTRUMENTS };
    time(prepare(mapping.cells(), opening, flow, entries, protocol))
}

pub fn run(rounds: usize, entries: u64) -> Vec<Line> {
    let samples = take_turns(rounds, vec![("1 entry a packet", Box::new(move || run_once(entries)))]);
    let line = |ours: crate::sample::Sample| Line {
        what: format!("MDP 3.0 frame → book → cache, {}", ours.name),
        ours,
        theirs: Some(("the goal".to_owned(), ENTRY_NS)),
        goal: Some(Goal::TimeAtMost(1.0)),
    };
    samples.into_iter().map(line).collect()
}
