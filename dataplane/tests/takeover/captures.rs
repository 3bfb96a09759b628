//! A recorded day over two nodes, of which one takes over in its midst; skipped where the captures are not.

use crate::capture::capture;
use crate::node::{GROUPS, Packets, machine};
use crate::source::Speech;
use dataplane::cache::cell::Cell;
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::{Reader, State};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Kind, Quote, Tick, Trade};
use dataplane::cache::writer::Writer;
use dataplane::sim::clock::SimClock;
use dataplane::wire::moldudp64::{Header, split_block};
use std::collections::BTreeMap;
use std::path::Path;
use zerocopy::IntoBytes;

const LAYOUT: Layout = Layout { instruments: 1 << 14, feeds: 1, log_ticks: 1 << 16, bursts: 1 << 4 };
/// Messages of a packet.
const MESSAGES: u16 = 7;

/// The messages of an ITCH file in packets.
fn packets(file: &Path) -> (Vec<Vec<u8>>, u64) {
    let bytes = std::fs::read(file).unwrap();
    let (mut rest, mut sent, mut packets) = (bytes.as_slice(), 0, Vec::new());
    loop {
        let (mut blocks, mut count) = (rest, 0);
        while let Some((_, behind)) = split_block(blocks).filter(|_| count < MESSAGES) {
            (blocks, count) = (behind, count + 1);
        }
        if count == 0 {
            return (packets, sent);
        }
        let header =
            Header { session: *b"CAPTURE   ", sequence: (sent + 1).into(), message_count: count.into() };
        let mut packet = header.as_bytes().to_vec();
        packet.extend_from_slice(&rest[..rest.len() - blocks.len()]);
        packets.push(packet);
        (rest, sent) = (blocks, sent + u64::from(count));
    }
}

/// Hears the packets; the primary dies after `dies_after` of them, and its last ticks were not copied. What it would have
/// published, and what the group has, are handed to `check`.
fn run(packets: &[Vec<u8>], dies_after: usize, check: impl FnOnce(&Reader<'_>, &Reader<'_>)) {
    let regions: Vec<Vec<Cell>> =
        (0..3).map(|_| (0..LAYOUT.cells()).map(|_| Cell::default()).collect()).collect();
    let clock = SimClock::new(1_704_205_800_000_000_000);
    clock.advance(1);
    let heard = [Packets::default(), Packets::default()];
    let mut machines = [0, 1].map(|node| {
        machine(&heard[node], &clock, &[Speech::Itch50], Writer::format(&regions[node], LAYOUT, 1).unwrap())
    });
    let mut follower = Some(Follower::format(&regions[2], LAYOUT, 1).unwrap());
    let [own, group] = [0, 2].map(|region| Reader::open(&regions[region]).unwrap());
    for (number, packet) in packets.iter().enumerate() {
        if number == dies_after {
            let follower = follower.take().expect("it dies once");
            let lacks = own.tail() - follower.position();
            assert!(follower.position() > 0 && lacks > 0 && !machines[1].is_behind(&group));
            let (feeds, _) = machines[1].take_over(follower.into_writer());
            assert_eq!((feeds[0].misfit, feeds[0].followed), (None, lacks));
        }
        for (heard, machine) in heard.iter().zip(&mut machines) {
            GROUPS[0].into_iter().for_each(|to| heard.borrow_mut().push_back((to, packet.clone())));
            while machine.do_work() != 0 {}
        }
        if let Some(follower) = &mut follower {
            while follower.position() + 3 < own.tail() {
                follower.tick(&own.log_tick(follower.position()).unwrap()).unwrap();
            }
            follower.commit();
        }
    }
    assert!(follower.is_none(), "it took over");
    check(&own, &group);
}

/// All rows by name, and that they are live.
fn rows(reader: &Reader<'_>) -> BTreeMap<(Vec<u8>, u8), Tick> {
    let mut rows = BTreeMap::new();
    for instrument in 0..reader.instruments() {
        let (_, definition) = reader.definition(instrument, 2).expect("all have names");
        for (position, tick) in
            Kind::ALL[..Kind::ROWS].iter().filter_map(|kind| reader.held(instrument, *kind))
        {
            assert_eq!(reader.judge(position, tick, 2).unwrap().state, State::Live);
            let tick = Tick { instrument: 0, received_ns: 0, ..tick };
            rows.insert((definition.name().to_vec(), tick.kind), tick);
        }
    }
    rows
}

/// The numbers of an array in a flat JSON text, behind `"object": {… "name": [`.
fn known(json: &str, object: &str, name: &str) -> Vec<i64> {
    let object = &json[json.find(&format!("\"{object}\"")).expect("it is known")..];
    let array = &object[object.find(&format!("\"{name}\": [")).expect("it is known") + name.len() + 5..];
    array[..array.find(']').unwrap()].split(", ").map(|number| number.parse().unwrap()).collect()
}

#[test]
fn a_recorded_order_flow_comes_to_its_known_tops_over_two_nodes() {
    let Some(file) = capture("itch/synthetic-3-symbols.itch") else { return };
    let json =
        std::fs::read_to_string(file.with_extension("final.json")).expect("the known answer lies beside it");
    let (packets, messages) = packets(&file);
    assert_eq!(messages, 12_012);
    for dies_after in [5, packets.len() / 2, packets.len() - 1] {
        run(&packets, dies_after, |own, group| {
            let (own, group) = (rows(own), rows(group));
            assert!(own == group && own.len() > 9);
            for name in ["ALC", "BOB", "CHAR"] {
                let row = |kind: Kind| group[&(name.as_bytes().to_vec(), kind as u8)];
                let quote = *row(Kind::Quote).payload::<Quote>().unwrap();
                let top = [
                    quote.bid_price / 100_000,
                    quote.bid_size.into(),
                    quote.ask_price / 100_000,
                    quote.ask_size.into(),
                ];
                assert_eq!(top, known(&json, "tob", name)[..4]);
                let trade = *row(Kind::Trade).payload::<Trade>().unwrap();
                assert_eq!([trade.price / 100_000, trade.size as i64], known(&json, "last", name)[..]);
            }
        });
    }
}

#[test]
fn a_recorded_opening_is_the_same_over_two_nodes() {
    let Some(file) = capture("itch/preopen-directory.itch") else { return };
    let (packets, messages) = packets(&file);
    assert_eq!(messages, 35_581);
    run(&packets, packets.len() / 3, |own, group| {
        assert_eq!(group.instruments(), 8_713);
        assert!(rows(own) == rows(group));
    });
}
