//! Acknowledgements that the standby's device writes into the primary's memory.

use crate::group::{
    Copy, LIMITS, Main, compare, connect, impatient, is_level, mapping, now_ns, until, until_level,
};
use crate::nodes::{Node, WRITE, devices};
use crate::wire::Wire;
use dataplane::cache::region::hash;
use dataplane::replica::{Lineage, Message, Primary, PrimaryLimits};
use drivers::rdma::link::{LinkError, PrimaryEnd};
use drivers::rdma::{Access, Completed, Device, QueuePairConfig, RemoteMemory, Source, Status, Write};
use drivers::region::CELL_BYTES;
use std::sync::Arc;

/// A new connection, whose stream goes through here; both ends are level.
fn level_by_wire(main: &mut Main<'_>, copy: &mut Copy<'_>) -> (PrimaryEnd, Wire) {
    let (mut wire, primary, standby) = Wire::new();
    main.primary.connected();
    copy.linked.connect(standby).unwrap();
    let mut end = PrimaryEnd::new(primary, &main.log, &impatient()).unwrap();
    until("the standby is level, believed and acknowledged", || {
        main.poll(&mut end).unwrap();
        copy.poll().unwrap();
        wire.pass();
        is_level(main, copy)
    });
    assert!(end.is_connected() && copy.linked.is_by_device());
    (end, wire)
}

#[test]
fn they_come_with_the_stream_silent_and_keep_the_smallest_window_open() {
    const BURST: u64 = 100;
    let Some(devices) = devices() else { return };
    let mappings = [mapping(), mapping()];
    let mut main = Main::new(&devices[0], &mappings[0], 1);
    let limits = PrimaryLimits { window_ticks: 2, ..LIMITS };
    main.primary = Primary::new(main.reader, Lineage::first(1, 7), limits);
    let mut copy = Copy::new(&devices[1], &mappings[1]);
    // From here on nothing passes the wire.
    let (mut end, _wire) = level_by_wire(&mut main, &mut copy);
    let (began, before) = (main.reader.tail(), main.primary.counters().ticks);
    for burst in 1..=10 {
        main.write(BURST);
        until("all is acknowledged", || {
            main.poll(&mut end).unwrap();
            let status = main.primary.status();
            assert!(status.sent <= status.acknowledged + limits.window_ticks);
            copy.poll().unwrap();
            main.primary.status().acknowledged == main.reader.tail()
        });
        assert_eq!(main.primary.counters().ticks, before + burst * BURST);
        compare(&main.reader, &copy.reader, began);
    }
    assert_eq!((copy.counters().images, main.primary.counters().lapped), (1, 0));
}

/// A queue pair of the same device as the primary's: whoever knows a key there can use it.
fn forger(devices: &[Arc<Device>; 2]) -> [Node; 2] {
    let config = QueuePairConfig::default();
    let mut ends = [&devices[1], &devices[0]].map(|device| Node::new(device, Access::Local, &config));
    let endpoints = [ends[1].pair.endpoint(), ends[0].pair.endpoint()];
    for (end, peer) in ends.iter_mut().zip(&endpoints) {
        end.pair.connect(peer).unwrap();
    }
    ends
}

fn cell(message: Message) -> [u64; CELL_BYTES / 8] {
    let words = message.to_words();
    std::array::from_fn(|index| if index == 0 { hash(&words) } else { words[index - 1] })
}

fn forge(by: &mut Node, to: RemoteMemory, words: [u64; 8]) -> Result<Completed, Status> {
    let source = Source::Words(&words);
    by.pair.post(&[Write { source, to, offset: 0, immediate: None, work: WRITE, signalled: true }]).unwrap();
    by.result()
}

#[test]
fn what_was_never_sent_or_is_torn_counts_nothing() {
    let Some(devices) = devices() else { return };
    let mappings = [mapping(), mapping()];
    let mut main = Main::new(&devices[0], &mappings[0], 1);
    let mut copy = Copy::new(&devices[1], &mappings[1]);
    let (mut end, wire) = level_by_wire(&mut main, &mut copy);
    let (to, [mut forger, _peer]) = (wire.acknowledgement_memory(), forger(&devices));
    assert_eq!(to.bytes, CELL_BYTES as u64, "one cell");
    // From here on the standby says nothing.
    main.write(8);
    main.poll(&mut end).unwrap();
    let sent = main.primary.status().sent;
    assert_eq!(sent, main.primary.status().acknowledged + 8);
    let ack = |session, position| cell(Message::Ack { session, position, clock_ns: now_ns(), whole: true });
    let torn = |word: usize| {
        let (mut words, other) = (ack(1, sent), ack(1, sent - 1));
        words[word] = other[word];
        words
    };
    let mut acknowledged = |words, position| {
        assert_eq!(forge(&mut forger, to, words), Ok(Completed::Write));
        for _ in 0..100 {
            main.poll(&mut end).unwrap();
        }
        assert_eq!(main.primary.status().acknowledged, position, "{words:?}");
    };
    acknowledged(ack(1, sent - 5), sent - 5);
    for words in [
        ack(1, sent + 1),
        ack(1, u64::MAX),
        ack(2, sent),
        ack(0, sent),
        torn(0),
        torn(3),
        cell(Message::Level { session: 1, at: sent }),
        [0; 8],
        [u64::MAX; 8],
        ack(1, sent - 6),
    ] {
        acknowledged(words, sent - 5);
    }
    acknowledged(ack(1, sent - 4), sent - 4);
    // Nothing beside the cell.
    let beyond = RemoteMemory { address: to.address + CELL_BYTES as u64, ..to };
    assert_eq!(forge(&mut forger, beyond, ack(1, sent)), Err(Status::RemoteAccess));
    until_level(&mut main, &mut copy, &mut end);
}

#[test]
fn who_is_no_longer_connected_acknowledges_nothing_for_its_successor() {
    let Some(devices) = devices() else { return };
    let mappings = [mapping(), mapping(), mapping()];
    let mut main = Main::new(&devices[0], &mappings[0], 1);
    let mut copy = Copy::new(&devices[1], &mappings[1]);
    let (end, wire) = level_by_wire(&mut main, &mut copy);
    let (old, [mut forger, _peer]) = (wire.acknowledgement_memory(), forger(&devices));
    let before = main.primary.status().acknowledged;
    let ack = |session| cell(Message::Ack { session, position: before, clock_ns: now_ns(), whole: true });
    assert_eq!(forge(&mut forger, old, ack(1)), Ok(Completed::Write), "the key opened it before");
    // Nothing passes the wire any more, so the old standby does not hear of that.
    drop(end);
    let mut successor = Copy::new(&devices[1], &mappings[2]);
    let mut end = connect(&mut main, &mut successor);
    until_level(&mut main, &mut successor, &mut end);
    main.write(8);
    main.poll(&mut end).unwrap();
    let acknowledged = main.primary.status().acknowledged;
    assert_eq!(acknowledged + 8, main.primary.status().sent);

    let mut failure = None;
    until("the old standby is refused", || {
        main.poll(&mut end).unwrap();
        failure = copy.poll().err();
        failure.is_some()
    });
    assert!(matches!(failure, Some(LinkError::Write(Status::RetriesExceeded))), "{failure:?}");
    assert_eq!(
        forge(&mut forger, old, ack(2)),
        Err(Status::RemoteAccess),
        "the key went with the connection"
    );
    for _ in 0..100 {
        main.poll(&mut end).unwrap();
    }
    assert_eq!(main.primary.status().acknowledged, acknowledged);
    until_level(&mut main, &mut successor, &mut end);
    compare(&main.reader, &successor.reader, main.reader.tail() - 8);
}
