//! The ITCH wire types on recorded files with known counts; skipped where the captures are not.

mod capture;

use capture::capture;
use dataplane::wire::itch50::Message;
use dataplane::wire::moldudp64::split_block;
use std::collections::BTreeMap;

fn recorded(name: &str) -> Option<Vec<u8>> {
    Some(std::fs::read(capture(name)?).unwrap())
}

/// Messages by letter, and the bytes behind the last whole one.
fn count(mut blocks: &[u8]) -> (BTreeMap<char, u32>, usize) {
    let mut counts = BTreeMap::new();
    while let Some((bytes, rest)) = split_block(blocks) {
        let message = Message::parse(bytes).expect("every recorded message is known");
        *counts.entry(message.head().message_type as char).or_default() += 1;
        blocks = rest;
    }
    (counts, blocks.len())
}

#[test]
fn a_recorded_opening_has_its_known_messages() {
    let Some(bytes) = recorded("itch/preopen-directory.itch") else { return };
    let (counts, rest) = count(&bytes);
    assert_eq!(counts, BTreeMap::from([('S', 1), ('R', 8_713), ('H', 8_707), ('Y', 8_707), ('L', 9_453)]));
    assert_eq!(rest, 2, "the file is cut within a length");
}

#[test]
fn a_made_order_flow_has_its_known_number_of_messages() {
    let Some(bytes) = recorded("itch/synthetic-3-symbols.itch") else { return };
    let (counts, rest) = count(&bytes);
    assert_eq!((counts.values().sum::<u32>(), rest), (12_012, 0));
    assert!("AEXDU".chars().all(|letter| counts.contains_key(&letter)), "{counts:?}");
}
