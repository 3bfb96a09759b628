//! Datagrams and messages that can't be right: counted, and never believed.

use super::directed::{A, Sender, one_line, quote, trade};
use super::{Receiver, cells};
use dataplane::cache::reader::State;
use dataplane::cache::tick::{Quote, Reason};
use dataplane::wire::iextp::PROTOCOL_DEEP;

/// Sends one message between two good quotes; the second one is live whatever it was.
fn between_quotes(message: Vec<u8>) -> (u64, u64, Option<State>) {
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, one_line());
    let mut sender = Sender::new(1);
    sender.send(&mut receiver, &[quote(A, (1, 10), (1, 20)), message]);
    let state = receiver.state::<Quote>(&A);
    let decoder = receiver.telemetry.decoder.clone();
    if decoder.malformed.get() != 0 {
        assert_eq!(receiver.reader.feed(0).reason, Reason::Malformed);
    }
    sender.send(&mut receiver, &[quote(A, (2, 10), (1, 20))]);
    assert_eq!(receiver.state::<Quote>(&A), Some(State::Live));
    assert_eq!(receiver.row::<Quote>(&A).unwrap().0.bid_size, 2);
    (decoder.malformed.get(), decoder.unknown_types.get(), state)
}

#[test]
fn messages_that_can_not_be_right_make_every_row_suspect() {
    let other = *b"OTHER   ";
    let impossible = [
        Vec::new(),
        quote(other, (1, 0), (1, 20)),
        quote(other, (1, -5), (1, 20)),
        quote(other, (1, 10), (1, i64::MAX)),
        quote(other, (1, 10), (1, i64::MIN)),
        trade(other, 1, 0, 10),
        trade(other, 1, 1, 0),
        trade(other, 1, 1, i64::MAX / 1_000),
        quote(*b"        ", (1, 10), (1, 20)),
        quote([0; 8], (1, 10), (1, 20)),
        quote(*b"A\0B     ", (1, 10), (1, 20)),
        quote([0xFF; 8], (1, 10), (1, 20)),
    ];
    for message in impossible {
        assert_eq!(between_quotes(message.clone()), (1, 0, Some(State::Suspect)), "{message:?}");
    }
    assert_eq!(between_quotes(vec![b'~'; 30]), (0, 1, Some(State::Live)), "a newer specification's");
    let mut grown = quote(other, (1, 10), (1, 20));
    grown.extend_from_slice(b"more");
    assert_eq!(between_quotes(grown), (0, 0, Some(State::Live)));
}

#[test]
fn every_prefix_of_a_message_is_counted() {
    for whole in [quote(A, (9, 10), (9, 20)), trade(A, 1, 1, 10)] {
        for length in 0..whole.len() {
            let outcome = between_quotes(whole[..length].to_vec());
            assert_eq!(outcome, (1, 0, Some(State::Suspect)), "{length}");
        }
    }
}

#[test]
fn packets_that_are_not_whole_are_counted_and_change_nothing() {
    let mut good = Vec::new();
    let messages = [quote(A, (1, 10), (1, 20)), trade(A, 1, 1, 15)];
    Sender::new(1).packetizer.fill(&messages, 0, &mut good);
    let with = |at: usize, bytes: &[u8]| {
        let mut packet = good.clone();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    let length = |packet: &mut Vec<u8>| {
        let payload = packet.len() as u16 - 40;
        packet[12..14].copy_from_slice(&payload.to_le_bytes());
    };
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].to_vec()).collect();
    // The same with a payload length that was made to fit.
    bad.extend((40..good.len()).map(|end| {
        let mut packet = good[..end].to_vec();
        length(&mut packet);
        packet
    }));
    let mut trailing = [&good[..], b"x"].concat();
    bad.push(trailing.clone());
    length(&mut trailing);
    bad.push(trailing);
    bad.push(with(0, &[2]));
    bad.push(with(2, &PROTOCOL_DEEP.to_le_bytes()));
    bad.push(with(14, &[0, 0]));
    bad.push(with(14, &[1, 0]));
    bad.push(with(14, &[3, 0]));
    bad.push(with(14, &[0xFF, 0xFF]));
    bad.push(with(24, &[0; 8]));
    bad.push(with(24, &[0xFF; 8]));
    bad.push(with(24, &i64::MAX.to_le_bytes()));
    for block_length in [0_u16, 1, 41, 43, 0xFFFF] {
        bad.push(with(40, &block_length.to_le_bytes()));
    }
    let cells = cells();
    let mut receiver = Receiver::new(&cells, 8, one_line());
    for packet in &bad {
        receiver.receive(0, packet);
    }
    let line = &receiver.telemetry.lines.lines[0];
    assert_eq!((line.packets.get(), line.malformed.get()), (bad.len() as u64, bad.len() as u64));
    assert!(receiver.row::<Quote>(&A).is_none());
    receiver.receive(0, &good);
    assert_eq!(receiver.state::<Quote>(&A), Some(State::Live));
}
