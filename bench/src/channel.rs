//! MDP 3.0: packets and messages alone against a plain loop that reads the same fields, and the whole path: a frame comes
//! in, the book changes, the event ends, log and table are published.

use crate::flow::{GROUP, SOURCE};
use crate::path::{prepare, region, time};
use crate::report::{Goal, Line};
use crate::sample::{Sample, take_turns};
use dataplane::feed::Protocol;
use dataplane::feed::transport::{Mdp3, Transport};
use dataplane::port::Medium;
use dataplane::sim::mdp3::{Channel, Config, Variety};
use dataplane::sim::memory_port::MemoryPort;
use dataplane::wire::datagram::Datagram;
use dataplane::wire::mdp3::{Message, Messages, PRICE_NULL, Report, price};
use std::hint::black_box;
use std::time::Instant;

const INSTRUMENTS: usize = 4_000;
/// Entries of each instrument before what is measured: its books have filled by then.
const OPENING_ENTRIES: u64 = 40;
/// What an entry may take.
const ENTRY_NS: f64 = 150.0;

/// What everyone must come to, of the entries of books and trades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    entries: u64,
    /// 10⁻⁹.
    prices: i64,
    sizes: i64,
    security_ids: i64,
    rpt_seqs: u64,
    actions: u64,
    entry_types: u64,
}

impl Sum {
    #[inline(always)]
    fn add(&mut self, price: Option<i64>, size: i64, report: (i32, u32), action: u8, entry_type: u8) {
        self.entries += 1;
        self.prices = self.prices.wrapping_add(price.unwrap_or(0));
        self.sizes = self.sizes.wrapping_add(size);
        self.security_ids += i64::from(report.0);
        self.rpt_seqs += u64::from(report.1);
        self.actions += u64::from(action);
        self.entry_types += u64::from(entry_type);
    }
}

/// As the feed reads them: the transport, which looks at all sizes first, then the messages.
fn ours(packets: &[Vec<u8>]) -> Sum {
    let mut sum = Sum::default();
    for packet in packets {
        let Some(packet) = Mdp3::parse(packet).filter(Mdp3::is_whole) else { continue };
        for bytes in Messages::new(packet.blocks).flatten() {
            // A size is a number of 32 or of 64 bits; a trade has no type.
            macro_rules! add {
                ($incremental:ident, $entry:ident => $entry_type:expr) => {
                    for $entry in $incremental.entries.iter() {
                        let report = ($entry.security_id(), $entry.rpt_seq());
                        let price = price($entry.price.get(), $incremental.price_unit);
                        sum.add(price, $entry.size.get() as i64, report, $entry.action, $entry_type);
                    }
                };
            }
            match Message::parse(bytes) {
                Ok(Message::Book(book)) => add!(book, entry => entry.entry_type),
                Ok(Message::BookLongQty(book)) => add!(book, entry => entry.entry_type),
                Ok(Message::TradeSummary(trades)) => add!(trades, entry => 0),
                Ok(Message::TradeSummaryLongQty(trades)) => add!(trades, entry => 0),
                _ => {}
            }
        }
    }
    sum
}

/// As one would write it by hand: offsets and nothing else, no check but the slices' own.
fn plain(packets: &[Vec<u8>]) -> Sum {
    let u16_at = |bytes: &[u8], at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2"));
    let i32_at = |bytes: &[u8], at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().expect("4"));
    let i64_at = |bytes: &[u8], at: usize| i64::from_le_bytes(bytes[at..at + 8].try_into().expect("8"));
    let mut sum = Sum::default();
    for packet in packets {
        let mut rest = &packet[12..];
        while !rest.is_empty() {
            let (message, behind) = rest.split_at(usize::from(u16_at(rest, 0)));
            rest = behind;
            let (unit, is_long, is_trade) = match u16_at(message, 4) {
                32 => (100, false, false),
                46 => (1, false, false),
                64 => (1, true, false),
                42 => (100, false, true),
                48 => (1, false, true),
                65 => (1, true, true),
                _ => continue,
            };
            let group = &message[10 + usize::from(u16_at(message, 2))..];
            let (length, count) = (usize::from(u16_at(group, 0)), usize::from(group[2]));
            for entry in group[3..3 + length * count].chunks_exact(length) {
                let mantissa = i64_at(entry, 0);
                let price = (mantissa != PRICE_NULL).then(|| mantissa * unit);
                let (size, at) = if is_long { (i64_at(entry, 8), 16) } else { (i32_at(entry, 8).into(), 12) };
                let report = (i32_at(entry, at), i32_at(entry, at + 4) as u32);
                let (action, entry_type) = match (is_trade, is_long) {
                    (false, _) => (entry[at + 13], entry[at + 14]),
                    (true, false) => (entry[25], 0),
                    (true, true) => (entry[33], 0),
                };
                sum.add(price, size, report, action, entry_type);
            }
        }
    }
    sum
}

/// ns an entry.
fn time_decode(packets: &[Vec<u8>], expected: Sum, decode: fn(&[Vec<u8>]) -> Sum) -> f64 {
    let started = Instant::now();
    let sum = black_box(decode(black_box(packets)));
    let elapsed_ns = started.elapsed().as_nanos() as f64;
    assert_eq!(sum, expected, "everyone reads the same");
    elapsed_ns / sum.entries as f64
}

/// Packets behind the definitions, and what is in them.
fn packets(config: Config, count: u64) -> (Vec<Vec<u8>>, Sum) {
    let instruments = config.instruments;
    let mut channel = Channel::new(config);
    let mut packet = Vec::new();
    (0..instruments).for_each(|_| channel.next_packet(&mut packet));
    let next_packet = |_| {
        channel.next_packet(&mut packet);
        packet.clone()
    };
    let packets: Vec<Vec<u8>> = (0..count).map(next_packet).collect();
    let sum = plain(&packets);
    assert!(sum.entries >= count, "{} entries in {count} packets", sum.entries);
    (packets, sum)
}

/// One message with one entry in each packet, which ends an event.
fn one_entry() -> Config {
    Config {
        instruments: INSTRUMENTS,
        event_messages: 1,
        entries: 1,
        packet_messages: 1,
        resets_per_mille: 0,
        variety: Variety::Plain,
        ..Config::default()
    }
}

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
    let mut channel = Channel::new(one_entry());
    let opening = port(&mut channel, INSTRUMENTS as u64 * (1 + OPENING_ENTRIES));
    let flow = port(&mut channel, entries);
    let mapping = region();
    let protocol = Protocol::Mdp3 { instruments_max: INSTRUMENTS };
    time(prepare(mapping.cells(), opening, flow, entries, protocol))
}

pub fn run(rounds: usize, entries: u64) -> Vec<Line> {
    let (single, one) = packets(one_entry(), entries);
    // All templates, in packets of three entries on average that are read here.
    let (mixed, all) = packets(Config { instruments: INSTRUMENTS, ..Config::default() }, entries / 3);
    let samples = take_turns(
        rounds,
        vec![
            ("1 entry a packet", Box::new(|| time_decode(&single, one, ours))),
            ("a plain loop over the same bytes", Box::new(|| time_decode(&single, one, plain))),
            ("all templates", Box::new(|| time_decode(&mixed, all, ours))),
            ("a plain loop over the same bytes", Box::new(|| time_decode(&mixed, all, plain))),
            ("1 entry a packet", Box::new(|| run_once(entries))),
        ],
    );
    let [one_ours, one_plain, all_ours, all_plain, path] =
        <[Sample; 5]>::try_from(samples).expect("five contenders");
    let decode = |ours: Sample, plain: Sample| Line {
        what: format!("MDP 3.0 decode alone, {}", ours.name),
        theirs: Some((plain.name.clone(), plain.median_ns())),
        ours,
        goal: Some(Goal::TimeAtMost(2.0)),
    };
    vec![
        decode(one_ours, one_plain),
        decode(all_ours, all_plain),
        Line {
            what: format!("MDP 3.0 frame → book → cache, {}", path.name),
            ours: path,
            theirs: Some(("the goal".to_owned(), ENTRY_NS)),
            goal: Some(Goal::TimeAtMost(1.0)),
        },
    ]
}
