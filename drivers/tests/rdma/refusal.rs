//! Who may not write, and what becomes of it.

use crate::nodes::{BYTES, CELLS, Node, RECEIVE, devices, nodes, nodes_with, write};
use dataplane::cache::cell::Load;
use drivers::rdma::{
    Access, Completed, MemoryRegion, QueuePair, QueuePairConfig, RemoteMemory, Status, Write,
};
use drivers::region::CELL_BYTES;

/// So few tries that a peer that is gone is noticed soon.
fn impatient() -> QueuePairConfig {
    QueuePairConfig { retries: 2, ..QueuePairConfig::default() }
}

/// What `to` refuses to be written, by a write that is changed: the error at the sender, and that nothing is written.
fn refused(access: Access, change: impl FnOnce(&mut Write<'_>)) {
    let Some([one, other]) = devices() else { return };
    let config = QueuePairConfig::default();
    let mut a = Node::new(&one, Access::Local, &config);
    let mut b = Node::new(&other, access, &config);
    a.pair.connect(&b.pair.endpoint()).unwrap();
    b.pair.connect(&a.pair.endpoint()).unwrap();
    for cell in 0..CELLS {
        a.store(cell, cell as u64);
    }
    let mut bad = write(&a.memory, CELLS - 4, 4, b.memory.remote());
    change(&mut bad);
    let next = write(&a.memory, 0, 1, b.memory.remote());
    a.pair.post(&[bad, next]).unwrap();
    assert_eq!(a.result(), Err(Status::RemoteAccess));
    assert_eq!(a.result(), Err(Status::Flushed), "the connection is over");
    assert!((0..CELLS).all(|cell| b.mapping.cells()[cell].load() == Load::Empty));
}

#[test]
fn a_wrong_key_is_refused() {
    refused(Access::RemoteWrite, |write| write.to.key ^= 0x55);
}

#[test]
fn memory_that_is_not_for_peers_is_refused() {
    refused(Access::Local, |_| ());
    refused(Access::RemoteRead, |_| ());
}

#[test]
fn what_lies_beyond_the_memory_is_refused_by_the_peer() {
    refused(Access::RemoteWrite, |write| {
        write.to.bytes += CELL_BYTES as u64;
        write.offset += CELL_BYTES;
    });
    refused(Access::RemoteWrite, |write| write.to.address -= CELL_BYTES as u64 * CELLS as u64);
}

#[test]
fn a_peer_that_tore_the_connection_down_is_noticed() {
    let Some((mut a, b)) = nodes_with(&impatient()) else { return };
    let to = b.memory.remote();
    let Node { pair, mapping, memory: _memory, .. } = b;
    drop(pair);
    a.store(0, 1);
    a.pair.post(&[write(&a.memory, 0, 1, to), write(&a.memory, 0, 1, to)]).unwrap();
    assert_eq!(a.result(), Err(Status::RetriesExceeded));
    assert_eq!(a.result(), Err(Status::Flushed));
    // What is posted later is flushed, too.
    a.pair.post(&[write(&a.memory, 0, 1, to)]).unwrap();
    assert_eq!(a.result(), Err(Status::Flushed));
    assert_eq!(mapping.cells()[0].load(), Load::Empty);
}

#[test]
fn a_fence_flushes_and_lets_nothing_in() {
    let Some((mut a, mut b)) = nodes_with(&impatient()) else { return };
    b.pair.post_receives(3, RECEIVE).unwrap();
    b.pair.fence().unwrap();
    for _ in 0..3 {
        let completion = b.completion();
        assert_eq!((completion.work, completion.result), (RECEIVE, Err(Status::Flushed)));
    }
    a.store(0, 1);
    a.pair.post(&[write(&a.memory, 0, 1, b.memory.remote())]).unwrap();
    assert!(a.result().is_err(), "the peer is fenced");
    assert_eq!(b.position(0), None);
}

#[test]
fn the_old_sender_writes_nothing_once_its_queue_pair_is_gone() {
    let Some([one, other]) = devices() else { return };
    let config = impatient();
    let [mut old, mut new] = [&one, &one].map(|device| Node::new(device, Access::Local, &config));
    let mut b = Node::new(&other, Access::RemoteWrite, &config);
    old.pair.connect(&b.pair.endpoint()).unwrap();
    b.pair.connect(&old.pair.endpoint()).unwrap();
    let to = b.memory.remote();
    old.store(0, 1);
    old.pair.post(&[write(&old.memory, 0, 1, to)]).unwrap();
    assert_eq!(old.result(), Ok(Completed::Write), "it could write before");

    // The same memory by the same key, for another sender.
    b.pair.fence().unwrap();
    b.pair = QueuePair::new(&b.completions, &config).unwrap();
    new.pair.connect(&b.pair.endpoint()).unwrap();
    b.pair.connect(&new.pair.endpoint()).unwrap();
    old.store(0, 2);
    old.store(1, 2);
    old.pair.post(&[write(&old.memory, 0, 2, to)]).unwrap();
    new.store(2, 3);
    new.pair.post(&[write(&new.memory, 2, 1, to)]).unwrap();
    assert_eq!(new.result(), Ok(Completed::Write));
    assert_eq!(old.result(), Err(Status::RetriesExceeded));
    assert_eq!([0, 1, 2].map(|cell| b.position(cell)), [Some(1), None, Some(3)]);
}

#[test]
fn the_old_key_opens_nothing_once_the_memory_is_registered_anew() {
    let Some((mut a, b)) = nodes() else { return };
    let Node { memory, mapping, pair: _pair, completions: _completions } = b;
    let old = memory.remote();
    a.store(0, 1);
    a.pair.post(&[write(&a.memory, 0, 1, old)]).unwrap();
    assert_eq!(a.result(), Ok(Completed::Write), "it opened it before");
    let device = memory.device().clone();
    drop(memory);
    let again = MemoryRegion::register(&device, &mapping, 0..BYTES, Access::RemoteWrite).unwrap();
    assert_ne!(again.remote().key, old.key);
    a.store(0, 2);
    a.pair.post(&[write(&a.memory, 0, 1, old)]).unwrap();
    assert_eq!(a.result(), Err(Status::RemoteAccess));
    assert_eq!(mapping.cells()[0].load().held().map(|(position, _)| position), Some(1));
}

#[test]
fn a_part_of_a_region_is_all_that_peers_can_write() {
    let Some([one, other]) = devices() else { return };
    let config = QueuePairConfig::default();
    let mut a = Node::new(&one, Access::Local, &config);
    let mut b = Node::new(&other, Access::Local, &config);
    a.pair.connect(&b.pair.endpoint()).unwrap();
    b.pair.connect(&a.pair.endpoint()).unwrap();
    let range = 100 * CELL_BYTES..200 * CELL_BYTES;
    let log = MemoryRegion::register(&other, &b.mapping, range, Access::RemoteWrite).unwrap();
    let to = log.remote();
    assert_eq!(to.bytes as usize, 100 * CELL_BYTES);
    for cell in 0..CELLS {
        a.store(cell, cell as u64);
    }
    a.pair.post(&[write(&a.memory, 0, 100, to)]).unwrap();
    assert_eq!(a.result(), Ok(Completed::Write));
    let written: Vec<usize> = (0..CELLS).filter(|cell| b.position(*cell).is_some()).collect();
    assert_eq!(written, (100..200).collect::<Vec<usize>>());
    assert_eq!(b.position(199), Some(99));
    // One cell before it, by a forged address.
    let forged = RemoteMemory { address: to.address - CELL_BYTES as u64, ..to };
    a.pair.post(&[write(&a.memory, 0, 1, forged)]).unwrap();
    assert_eq!(a.result(), Err(Status::RemoteAccess));
    assert_eq!(b.position(99), None);
}
