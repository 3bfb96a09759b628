//! Hostile bytes: frames and messages that were valid, then mutated, for `TICKPLANE_FUZZ_SECONDS` (3) each. Nothing panics,
//! and every datagram is counted in one place.

use dataplane::cache::cell::Cell;
use dataplane::cache::reader::{Reader, State};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::Quote;
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Arrival, Feed, LineCounters, Protocol};
use dataplane::hint::NoPrefetch;
use dataplane::host::{Host, HostConfig, IgmpVersion};
use dataplane::port::{Medium, Membership};
use dataplane::sim::clock::SimClock;
use dataplane::sim::exchange::{Config, Exchange};
use dataplane::sim::mdp3::{self, Channel};
use dataplane::sim::memory_port::MemoryPort;
use dataplane::sim::packetizer::{IexTpPacketizer, Moldudp64Packetizer};
use dataplane::sim::random::Random;
use dataplane::sim::tops::TopsMarket;
use dataplane::telemetry::FeedTelemetry;
use dataplane::wire::datagram::{self, Datagram, Parsed};
use dataplane::wire::ethernet::MacAddress;
use dataplane::wire::itch50::Message;
use dataplane::wire::mdp3::PACKET_HEADER_BYTES;
use dataplane::wire::moldudp64;
use dataplane::wire::record::{self, Record};
use dataplane::wire::tops16;
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 26_477);
const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 5_000);
const LAYOUT: Layout = Layout { instruments: 64, feeds: 1, log_ticks: 1 << 10, bursts: 1 << 4 };

fn deadline() -> Instant {
    let seconds =
        std::env::var("TICKPLANE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    Instant::now() + Duration::from_secs(seconds)
}

/// Flips, cuts, repeats, or writes extreme numbers, a few times.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next_u64() as u8,
            2 => bytes.truncate(at),
            3 => {
                let repeated = bytes[at..].to_vec();
                bytes.extend_from_slice(&repeated[..repeated.len().min(100)]);
            }
            4 => {
                let extreme = [0_u64, u64::MAX, 1 << 31, 0xffff][random.below(4) as usize].to_be_bytes();
                let length = (bytes.len() - at).min(1 + random.below(8) as usize);
                bytes[at..at + length].copy_from_slice(&extreme[..length]);
            }
            _ => {
                let other = random.below(bytes.len() as u64) as usize;
                bytes.swap(at, other);
            }
        }
    }
}

/// Every datagram is in exactly one of these.
fn outcomes(line: &LineCounters) -> u64 {
    let counters = [
        &line.won,
        &line.duplicates,
        &line.late,
        &line.heartbeats,
        &line.malformed,
        &line.old_session,
        &line.stray,
    ];
    counters.iter().map(|counter| counter.get()).sum()
}

fn host(seed: u64) -> Host {
    let config = HostConfig {
        mac: MacAddress([2, 0, 0, 0, 0, 9]),
        address: Ipv4Addr::new(10, 0, 0, 9),
        vlan: None,
        igmp: IgmpVersion::V3,
        seed,
    };
    Host::new(&config, &[Membership { group: *GROUP.ip(), source: None }]).unwrap()
}

/// Whole frames: with tags, with IGMP queries, with ARP requests, mutated anywhere.
#[test]
fn frames() {
    let until = deadline();
    let mut random = Random::new(1);
    let mut seeds: Vec<Vec<u8>> = [None, Some(100)]
        .map(|vlan| {
            let mut frame = vec![0; 600];
            let payload = &[7; 300];
            let datagram = Datagram { vlan, source: SOURCE, destination: GROUP, payload };
            let (mac, to) =
                (MacAddress([2, 0, 0, 0, 0, 1]), dataplane::wire::ethernet::multicast_mac(*GROUP.ip()));
            let length = datagram::write(&datagram, (mac, to), 1, &mut frame).unwrap();
            frame.truncate(length);
            frame
        })
        .into();
    // What the host itself sends is well formed, too: reports and announcements.
    host(1).poll(1, &mut |frame| {
        seeds.push(frame.to_vec());
        true
    });
    assert!(seeds.len() > 3);
    let (mut parsed, mut refused, mut handled) = (0_u64, 0_u64, 0_u64);
    let mut target = host(2);
    let mut now_ns = 1;
    while Instant::now() < until {
        for _ in 0..1_000 {
            let mut frame = seeds[random.below(seeds.len() as u64) as usize].clone();
            mutate(&mut frame, &mut random);
            let thorough = datagram::parse(&frame);
            match thorough {
                Ok(_) => parsed += 1,
                Err(_) => refused += 1,
            }
            // The short way finds the same, and finds every datagram without tags and options.
            let short = datagram::parse_plain(&frame).map(Parsed::Udp);
            match thorough {
                Ok(Parsed::Udp(_)) if frame[12..15] == [8, 0, 0x45] => assert_eq!(short, thorough.ok()),
                _ => assert_eq!(short, None),
            }
            now_ns += random.below(10_000_000);
            handled += u64::from(target.handle(&frame, now_ns, &mut |frame| !frame.is_empty()));
            target.poll(now_ns, &mut |_| true);
        }
    }
    assert!(parsed > 1_000 && refused > 1_000 && handled > 100, "{parsed} {refused} {handled}");
}

/// Packets of a session, of which some are mutated, through the whole worker.
#[test]
fn feed() {
    let until = deadline();
    let mut random = Random::new(2);
    let (mut rounds, mut malformed, mut unknown) = (0, 0, 0);
    while Instant::now() < until {
        let mut exchange =
            Exchange::new(Config { seed: random.next_u64(), instruments: 40, ..Config::default() });
        let mut packetizer = Moldudp64Packetizer::new("FUZZ", 1_400);
        let mut port = MemoryPort::new(Medium::Ethernet);
        let mut packet = Vec::new();
        for _ in 0..500 {
            packetizer.fill(&mut exchange, 1 + random.below(20) as u16, &mut packet);
            // Often within the messages only, so that more of them are understood.
            if random.percent(30) {
                let kept = if random.percent(70) { packet.len().min(22) } else { 0 };
                let mut rest = packet.split_off(kept);
                let length = rest.len();
                mutate(&mut rest, &mut random);
                if kept != 0 {
                    rest.resize(length, 0);
                }
                packet.extend_from_slice(&rest);
                packet.truncate(1_400);
            }
            let datagram = Datagram { vlan: None, source: SOURCE, destination: GROUP, payload: &packet };
            port.push_datagram(&datagram, 0);
        }
        port.close();
        let cells: Vec<Cell> = (0..LAYOUT.cells()).map(|_| Cell::default()).collect();
        let writer = Writer::format(&cells, LAYOUT, 1).unwrap();
        let clock = SimClock::new(1_704_205_800_000_000_000);
        clock.advance(1);
        let feed = FeedSetup {
            arbiter: ArbiterConfig { held_packets: 64, ..ArbiterConfig::default() },
            lines: vec![LineSetup { port: 0, destination: GROUP, source: None }],
            protocol: Protocol::Itch50 { orders_max: 300, midnight: Box::new(|_| 0) },
        };
        let ports = vec![PortSetup { port, host: None, vlan: None }];
        let mut worker =
            Worker::<_, _, NoPrefetch>::new(ports, vec![feed], writer, &clock, u64::MAX / 4).unwrap();
        while !worker.is_exhausted() {
            worker.do_work();
            clock.advance(random.below(20_000_000));
        }
        worker.finish();
        let counters = &worker.telemetry().feeds[0];
        let line = &counters.lines.lines[0];
        assert_eq!(line.packets.get(), outcomes(line));
        let reader = Reader::open(&cells).unwrap();
        for instrument in 0..reader.instruments() {
            reader.row::<Quote>(instrument, 1);
        }
        rounds += 1;
        malformed += line.malformed.get() + counters.decoder.malformed.get();
        unknown += counters.decoder.unknown_types.get() + counters.decoder.unknown_orders.get();
    }
    assert!(rounds > 3 && malformed > 0 && unknown > 0, "{rounds} {malformed} {unknown}");
}

/// Segments of TOPS on two lines, cut at random, of which some are mutated.
#[test]
fn tops16_feed() {
    let until = deadline();
    let mut random = Random::new(4);
    let (mut rounds, mut malformed, mut unknown, mut published) = (0, 0, 0, 0);
    while Instant::now() < until {
        let mut market = TopsMarket::new(random.next_u64(), 40);
        let cells: Vec<Cell> = (0..LAYOUT.cells()).map(|_| Cell::default()).collect();
        let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
        let telemetry = FeedTelemetry::default();
        let config = ArbiterConfig { held_packets: 64, ..ArbiterConfig::default() };
        let protocol = Protocol::Tops16 { symbols_max: 60 };
        let mut feed: Feed<NoPrefetch> = Feed::new(0, protocol, config, &telemetry).unwrap();
        let mut packetizer = IexTpPacketizer::new(random.below(3) as u32, 1_400);
        let mut packet = Vec::new();
        let mut now_ns = 1;
        for _ in 0..500 {
            let mut messages = vec![Vec::new(); random.below(20) as usize];
            messages.iter_mut().for_each(|message| _ = market.next_message(message));
            packetizer.fill(&messages, 0, &mut packet);
            if random.percent(30) {
                // Often within the messages only, so that more of them are understood.
                let kept = if random.percent(70) { packet.len().min(42) } else { 0 };
                let mut rest = packet.split_off(kept);
                let length = rest.len();
                mutate(&mut rest, &mut random);
                if kept != 0 {
                    rest.resize(length, 0);
                }
                packet.extend_from_slice(&rest);
            }
            now_ns += random.below(20_000_000);
            let arrival = Arrival { line: random.below(2) as usize, now_ns, received_ns: now_ns };
            feed.accept(&packet, arrival, &mut writer);
            feed.poll(now_ns, &mut writer);
            feed.flush(&mut writer);
            writer.commit();
        }
        feed.finish(now_ns, &mut writer);
        for line in &telemetry.lines.lines {
            assert_eq!(line.packets.get(), outcomes(line));
            malformed += line.malformed.get();
        }
        let reader = Reader::open(&cells).unwrap();
        for instrument in 0..reader.instruments() {
            published += u64::from(reader.row::<Quote>(instrument, 1).is_some());
        }
        rounds += 1;
        malformed += telemetry.decoder.malformed.get();
        unknown += telemetry.decoder.unknown_types.get();
    }
    assert!(rounds > 3 && malformed > 0 && unknown > 0 && published > 0, "{rounds} {malformed} {unknown}");
}

/// Records in one packet each, of which most are mutated.
#[test]
fn records() {
    let until = deadline();
    let mut random = Random::new(6);
    let (mut malformed, mut unknown, mut published) = (0, 0, 0);
    let trade = record::Trade { price: 5.into(), size: 6.into(), trade_id: 7.into() };
    let good = Record::trade("a name", 1, &trade).unwrap();
    while Instant::now() < until {
        let cells: Vec<Cell> = (0..LAYOUT.cells()).map(|_| Cell::default()).collect();
        let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
        let telemetry = FeedTelemetry::default();
        let config = ArbiterConfig { lines: 1, ..ArbiterConfig::default() };
        // Fewer than the region has, so that this limit is met, too.
        let protocol = Protocol::Records { instruments_max: 40 };
        let mut feed: Feed<NoPrefetch> = Feed::new(0, protocol, config, &telemetry).unwrap();
        for sequence in 1..2_000_u64 {
            let mut record = good.as_bytes().to_vec();
            record[1] = random.below(3) as u8;
            if random.percent(80) {
                mutate(&mut record, &mut random);
            }
            let header =
                moldudp64::Header { session: [b'F'; 10], sequence: sequence.into(), message_count: 1.into() };
            let length = (record.len() as u16).to_be_bytes();
            let packet = [header.as_bytes(), &length, &record].concat();
            feed.accept(&packet, Arrival { line: 0, now_ns: sequence, received_ns: 1 }, &mut writer);
        }
        let (line, decoder) = (&telemetry.lines.lines[0], &telemetry.decoder);
        assert_eq!((line.won.get(), line.malformed.get()), (1_999, 0));
        malformed += decoder.malformed.get();
        unknown += decoder.unknown_types.get();
        published += decoder.quotes.get();
    }
    assert!(malformed > 0 && unknown > 0 && published > 0, "{malformed} {unknown} {published}");
}

/// Any bytes are a message of TOPS or a reason.
#[test]
fn tops16_messages() {
    let until = deadline();
    let mut random = Random::new(5);
    let mut understood = 0_u64;
    while Instant::now() < until {
        for _ in 0..10_000 {
            let lengths = tops16::Message::LENGTHS;
            let (letter, length) = lengths[random.below(lengths.len() as u64) as usize];
            let mut bytes: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
            bytes[0] = letter;
            mutate(&mut bytes, &mut random);
            if let Ok(message) = tops16::Message::parse(&bytes) {
                assert!(bytes.starts_with(message.as_bytes()));
                understood += 1;
            }
        }
    }
    assert!(understood > 10_000);
}

/// Any bytes are a message or a reason.
#[test]
fn messages() {
    let until = deadline();
    let mut random = Random::new(3);
    let mut understood = 0_u64;
    while Instant::now() < until {
        for _ in 0..10_000 {
            let (letter, length) = Message::LENGTHS[random.below(Message::LENGTHS.len() as u64) as usize];
            let mut bytes: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
            bytes[0] = letter;
            mutate(&mut bytes, &mut random);
            if let Ok(message) = Message::parse(&bytes) {
                assert_eq!(message.as_bytes(), bytes);
                understood += 1;
            }
        }
    }
    assert!(understood > 10_000);
}

/// MDP 3.0 packets with their numbers as they were, and the rest mutated: arbiter, decoder and books bear them.
#[test]
fn mdp3_packets() {
    let until = deadline();
    let mut random = Random::new(4);
    let (mut rounds, mut malformed, mut unknown, mut suspect) = (0, 0, 0, 0);
    while Instant::now() < until || rounds < 4 {
        let seed = random.next_u64();
        let mut channel = Channel::new(mdp3::Config { seed, instruments: 12, ..mdp3::Config::default() });
        let cells: Vec<Cell> = (0..LAYOUT.cells()).map(|_| Cell::default()).collect();
        let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
        let telemetry = FeedTelemetry::default();
        let config = ArbiterConfig { lines: 1, held_packets: 64, ..ArbiterConfig::default() };
        let protocol = Protocol::Mdp3 { instruments_max: 10 };
        let mut feed = Feed::<NoPrefetch>::new(0, protocol, config, &telemetry).unwrap();
        let mut packet = Vec::new();
        let mut now_ns = 1;
        for _ in 0..2_000 {
            channel.next_packet(&mut packet);
            if random.percent(20) {
                let kept = if random.percent(90) { PACKET_HEADER_BYTES } else { 0 };
                let mut rest = packet.split_off(kept);
                mutate(&mut rest, &mut random);
                packet.extend_from_slice(&rest);
                packet.truncate(1_400);
            }
            now_ns += random.below(10_000_000);
            feed.accept(&packet, Arrival { line: 0, now_ns, received_ns: now_ns }, &mut writer);
            feed.poll(now_ns, &mut writer);
        }
        feed.finish(now_ns, &mut writer);
        writer.commit();
        writer.keep_alive(now_ns, u64::MAX / 4);
        let line = &telemetry.lines.lines[0];
        let outcomes =
            [&line.won, &line.duplicates, &line.late, &line.heartbeats, &line.malformed, &line.stray];
        assert_eq!(line.packets.get(), outcomes.iter().map(|counter| counter.get()).sum::<u64>());
        let reader = Reader::open(&cells).unwrap();
        for instrument in 0..reader.instruments() {
            let row = reader.row::<Quote>(instrument, now_ns);
            suspect += u64::from(row.is_some_and(|row| row.state == State::Suspect));
        }
        rounds += 1;
        malformed += line.malformed.get().min(telemetry.decoder.malformed.get());
        unknown += telemetry.decoder.unknown_types.get();
    }
    assert!(malformed > 0 && unknown > 0 && suspect > 0, "{malformed} {unknown} {suspect}");
}
