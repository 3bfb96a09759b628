//! TOPS: the messages alone against a plain loop that reads the same fields, and the whole path from the frame to the
//! rows.

use crate::flow::GROUP;
use crate::report::{Goal, Line};
use crate::sample::{Sample, take_turns};
use dataplane::cache::region::Layout;
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Protocol};
use dataplane::port::Medium;
use dataplane::sim::memory_port::MemoryPort;
use dataplane::sim::packetizer::IexTpPacketizer;
use dataplane::sim::tops::TopsMarket;
use dataplane::wire::datagram::Datagram;
use dataplane::wire::iextp::{Segment, validate};
use dataplane::wire::tops16::Message;
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker};
use drivers::clock::SystemClock;
use drivers::cpu::Cpu;
use drivers::hugepages::advise_hugepages;
use drivers::region::RegionMapping;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

const SYMBOLS: usize = 8_000;
const LAYOUT: Layout = Layout { instruments: 16_384, feeds: 1, log_ticks: 1 << 20, bursts: 1 << 14 };
const HOUR_NS: u64 = 3_600_000_000_000;
const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 10_378);
/// What the whole path may take.
const PATH_NS: f64 = 40.0;

/// What everyone must come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    messages: u64,
    symbols: u64,
    stamps: u64,
    sizes: u64,
    prices: i64,
    trade_ids: i64,
}

/// The market's next messages, packed; every packet as a datagram's payload.
fn packets(
    market: &mut TopsMarket,
    packetizer: &mut IexTpPacketizer,
    messages: u64,
    each: u64,
) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut left = messages;
    while left > 0 {
        let mut next = vec![Vec::new(); left.min(each) as usize];
        next.iter_mut().for_each(|message| _ = market.next_message(message));
        let mut packet = Vec::new();
        assert_eq!(packetizer.fill(&next, 0, &mut packet), next.len(), "they fit");
        left -= next.len() as u64;
        packets.push(packet);
    }
    packets
}

fn ours(packets: &[Vec<u8>]) -> Sum {
    let mut sum = Sum::default();
    for packet in packets {
        let Ok(segment) = Segment::parse(packet) else { continue };
        if validate(segment.sequence(), segment.message_count(), segment.blocks()).is_err() {
            continue;
        }
        for bytes in segment.messages() {
            sum.messages += 1;
            match Message::parse(bytes) {
                Ok(Message::QuoteUpdate(quote)) => {
                    sum.symbols = sum.symbols.wrapping_add(u64::from_le_bytes(quote.symbol));
                    sum.stamps = sum.stamps.wrapping_add(quote.timestamp.get() as u64);
                    sum.sizes += u64::from(quote.bid_size.get()) + u64::from(quote.ask_size.get());
                    sum.prices += quote.bid_price.get() + quote.ask_price.get();
                }
                Ok(Message::TradeReport(trade)) => {
                    sum.symbols = sum.symbols.wrapping_add(u64::from_le_bytes(trade.symbol));
                    sum.stamps = sum.stamps.wrapping_add(trade.timestamp.get() as u64);
                    sum.sizes += u64::from(trade.size.get());
                    sum.prices += trade.price.get();
                    sum.trade_ids += trade.trade_id.get();
                }
                _ => {}
            }
        }
    }
    sum
}

/// As one would write it by hand: offsets and nothing else, no check but the slices' own.
fn plain(packets: &[Vec<u8>]) -> Sum {
    let u32_at = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4"));
    let u64_at = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8"));
    let mut sum = Sum::default();
    for packet in packets {
        let count = u16::from_le_bytes([packet[14], packet[15]]);
        let mut at = 40;
        for _ in 0..count {
            let length = usize::from(u16::from_le_bytes([packet[at], packet[at + 1]]));
            let bytes = &packet[at + 2..at + 2 + length];
            at += 2 + length;
            sum.messages += 1;
            match bytes[0] {
                b'Q' => {
                    sum.symbols = sum.symbols.wrapping_add(u64_at(bytes, 10));
                    sum.stamps = sum.stamps.wrapping_add(u64_at(bytes, 2));
                    sum.sizes += u64::from(u32_at(bytes, 18)) + u64::from(u32_at(bytes, 38));
                    sum.prices += u64_at(bytes, 22) as i64 + u64_at(bytes, 30) as i64;
                }
                b'T' => {
                    sum.symbols = sum.symbols.wrapping_add(u64_at(bytes, 10));
                    sum.stamps = sum.stamps.wrapping_add(u64_at(bytes, 2));
                    sum.sizes += u64::from(u32_at(bytes, 18));
                    sum.prices += u64_at(bytes, 22) as i64;
                    sum.trade_ids += u64_at(bytes, 30) as i64;
                }
                _ => {}
            }
        }
    }
    sum
}

fn time_decode(packets: &[Vec<u8>], expected: Sum, decode: fn(&[Vec<u8>]) -> Sum) -> f64 {
    let started = Instant::now();
    let sum = decode(black_box(packets));
    let elapsed_ns = started.elapsed().as_nanos() as f64;
    assert_eq!(sum, expected, "everyone reads the same");
    elapsed_ns / sum.messages as f64
}

fn port(packets: &[Vec<u8>]) -> MemoryPort {
    let mut port = MemoryPort::with_burst(Medium::Ethernet, 64);
    for payload in packets {
        port.push_datagram(&Datagram { vlan: None, source: SOURCE, destination: GROUP, payload }, 0);
    }
    port
}

/// Frames through a worker that knows every symbol already; ns a message.
fn path_run(messages: u64, messages_per_packet: u64) -> f64 {
    let mut market = TopsMarket::midday(1, SYMBOLS);
    let mut packetizer = IexTpPacketizer::new(1, 1_472);
    let opening = packets(&mut market, &mut packetizer, 20 * SYMBOLS as u64, 10);
    let flow = packets(&mut market, &mut packetizer, messages, messages_per_packet);
    let mapping =
        RegionMapping::create_anonymous("bench", LAYOUT.cells()).expect("memory for the bench's region");
    let writer = Writer::format(mapping.cells(), LAYOUT, 1).expect("constant layout");
    let feed = FeedSetup {
        arbiter: ArbiterConfig { silence_ns: HOUR_NS, held_packets: 4_096, ..ArbiterConfig::default() },
        lines: vec![LineSetup { port: 0, destination: GROUP, source: None }],
        protocol: Protocol::Tops16 { symbols_max: LAYOUT.instruments as usize },
    };
    let setup = PortSetup { port: port(&opening), host: None, vlan: None };
    let mut worker: Worker<'_, _, _, Cpu> =
        Worker::new(vec![setup], vec![feed], writer, SystemClock, HOUR_NS).expect("a good set-up");
    worker.memory().for_each(|memory| {
        advise_hugepages(memory);
    });
    while worker.do_work() != 0 {}
    worker.replace_port(0, port(&flow));
    let before = worker.telemetry().feeds[0].lines.messages.get();
    let started = Instant::now();
    while worker.do_work() != 0 {}
    let elapsed_ns = started.elapsed().as_nanos() as f64;
    let after = worker.telemetry().feeds[0].lines.messages.get();
    assert_eq!(after - before, messages, "everything was taken in");
    elapsed_ns / messages as f64
}

pub fn run(rounds: usize, messages: u64) -> Vec<Line> {
    let flow =
        packets(&mut TopsMarket::midday(1, SYMBOLS), &mut IexTpPacketizer::new(1, 1_472), messages, 10);
    let expected = plain(&flow);
    assert_eq!(expected.messages, messages);
    let samples = take_turns(
        rounds,
        vec![
            ("decode", Box::new(|| time_decode(&flow, expected, ours))),
            ("a plain loop over the same bytes", Box::new(|| time_decode(&flow, expected, plain))),
            ("1 message a packet", Box::new(|| path_run(messages, 1))),
            // As many as a recorded day has, on average.
            ("4 messages a packet", Box::new(|| path_run(messages, 4))),
            ("10 messages a packet", Box::new(|| path_run(messages, 10))),
        ],
    );
    let [decode, plain, one, four, ten] = <[Sample; 5]>::try_from(samples).expect("five contenders");
    let path = |ours: Sample| Line {
        what: format!("TOPS, frame → cache, {}", ours.name),
        ours,
        theirs: Some(("the goal".to_owned(), PATH_NS)),
        goal: Some(Goal::TimeAtMost(1.0)),
    };
    vec![
        Line {
            what: "TOPS, IEX-TP and messages alone".to_owned(),
            ours: decode,
            theirs: Some((plain.name.clone(), plain.median_ns())),
            goal: Some(Goal::TimeAtMost(2.0)),
        },
        path(one),
        path(four),
        path(ten),
    ]
}
