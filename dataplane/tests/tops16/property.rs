//! Two lines that are cut into packets differently, with losses, repetitions and reordering, come to the rows that the
//! market's messages come to, less what both lines lost.

use super::{Receiver, cells};
use dataplane::feed::ArbiterConfig;
use dataplane::sim::packetizer::IexTpPacketizer;
use dataplane::sim::random::Random;
use dataplane::sim::tops::{TopsMarket, TopsRows};
use std::ops::Range;

/// A packet and the messages in it.
type Cut = (Range<usize>, Vec<u8>);

/// The messages as one line packs them, with a heartbeat here and there.
fn cut(messages: &[Vec<u8>], random: &mut Random) -> Vec<Cut> {
    let mut packetizer = IexTpPacketizer::new(7, 1_400);
    let mut packets = Vec::new();
    let mut at = 0;
    while at < messages.len() {
        let count = if random.percent(5) { 0 } else { random.between(1, 12) as usize };
        let mut packet = Vec::new();
        let end = messages.len().min(at + count);
        let filled = packetizer.fill(&messages[at..end], 0, &mut packet);
        packets.push((at..at + filled, packet));
        at += filled;
    }
    packets
}

/// Loses, repeats and reorders: a packet is overtaken by a few at most.
fn impair(packets: Vec<Cut>, random: &mut Random) -> Vec<Cut> {
    let loss = random.below(25);
    let mut kept: Vec<(u64, Cut)> = Vec::new();
    for (place, packet) in packets.into_iter().enumerate() {
        let place = 10 * place as u64;
        if random.percent(10) {
            kept.push((place + random.below(60), packet.clone()));
        }
        if !random.percent(loss) {
            let late = if random.percent(10) { random.below(60) } else { 0 };
            kept.push((place + late, packet));
        }
    }
    kept.sort_by_key(|(place, _)| *place);
    kept.into_iter().map(|(_, packet)| packet).collect()
}

#[test]
fn lines_cut_differently_come_to_the_markets_rows() {
    let seeds = std::env::var("TICKPLANE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let (mut rows_seen, mut suspect_seen, mut whole) = (0, 0, 0);
    for seed in 0..seeds {
        let (rows, suspect, missing) = run(seed);
        (rows_seen, suspect_seen) = (rows_seen + rows, suspect_seen + suspect);
        whole += u64::from(missing == 0);
    }
    assert!(rows_seen > 1_000 && suspect_seen > 20 && whole > 3, "{rows_seen} {suspect_seen} {whole}");
}

/// Rows, suspect rows, and messages that both lines lost.
fn run(seed: u64) -> (usize, usize, u64) {
    let mut random = Random::new(seed);
    let mut market = TopsMarket::new(seed, 1 + random.below(40) as usize);
    let count = 100 + random.below(1_500) as usize;
    let mut changes = Vec::new();
    let messages: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            let mut message = Vec::new();
            changes.push(market.next_message(&mut message));
            message
        })
        .collect();
    let lines = [0, 1].map(|_| {
        let packets = cut(&messages, &mut random);
        impair(packets, &mut random)
    });
    let mut received = vec![false; count];
    for (range, _) in lines.iter().flatten() {
        received[range.clone()].fill(true);
    }
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 64, ArbiterConfig::default());
    let mut waiting = lines.each_ref().map(|line| line.iter().peekable());
    loop {
        // Whichever line is behind by its messages speaks next, more or less.
        let [a, b] = waiting.each_mut().map(|line| line.peek().map(|(range, _)| range.start));
        let line = match (a, b) {
            (None, None) => break,
            (_, None) => 0,
            (None, _) => 1,
            (Some(a), Some(b)) => usize::from(a > b) ^ usize::from(random.percent(20)),
        };
        let (_, packet) = waiting[line].next().expect("it was peeked at");
        receiver.receive(line, packet);
    }
    receiver.finish();

    let mut expected = TopsRows::new(market.symbols().len());
    let last = received.iter().rposition(|received| *received).expect("something was received");
    for (change, received) in changes[..=last].iter().zip(&received) {
        if *received {
            expected.receive(change);
        } else {
            expected.lose();
        }
    }
    let missing = received[..=last].iter().filter(|received| !**received).count() as u64;
    let counters = &receiver.telemetry;
    assert_eq!(counters.lines.missing.get(), missing, "seed {seed}");
    assert_eq!(counters.lines.messages.get(), last as u64 + 1 - missing, "seed {seed}");
    assert_eq!(counters.decoder.malformed.get(), 0, "seed {seed}");
    let decoded =
        counters.decoder.actions.get() + counters.decoder.others.get() + counters.decoder.unknown_types.get();
    assert_eq!(decoded, counters.lines.messages.get(), "seed {seed}");
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        receiver.compare(market.symbols(), &expected)
    }));
    let (rows, suspect) = seen.unwrap_or_else(|_| panic!("seed {seed}"));
    (rows, suspect, missing)
}
