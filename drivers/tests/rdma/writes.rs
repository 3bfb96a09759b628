//! Writes, immediates and acknowledgements that arrive.

use crate::nodes::{BYTES, CELLS, Node, PATIENCE, RECEIVE, WRITE, nodes, nodes_with, write};
use drivers::rdma::{
    Completed, PostError, QueuePairConfig, RemoteMemory, Source, WRITES_PER_POST_MAX, Write,
};
use drivers::region::CELL_BYTES;
use std::time::Instant;

/// After an answer to a write of `from`, what it wrote earlier has arrived or never will.
fn hear_back(from: &mut Node, to: &mut Node) {
    from.pair.post_receives(1, RECEIVE).unwrap();
    let answer = Write { immediate: Some(77), ..write(&to.memory, 0, 0, from.memory.remote()) };
    to.pair.post(&[answer]).unwrap();
    assert_eq!(to.result(), Ok(Completed::Write));
    assert_eq!(from.immediate(), (77, 0));
}

#[test]
fn writes_and_immediates_go_both_ways() {
    let Some((mut a, mut b)) = nodes() else { return };
    for round in 0..10u64 {
        for (from, to) in [(0, 1), (1, 0)] {
            let [from, to] = if (from, to) == (0, 1) { [&mut a, &mut b] } else { [&mut b, &mut a] };
            // One cell goes inline, a hundred are read by the device.
            let (cell, cells) = (1 + round as usize * 100, if round % 2 == 0 { 1 } else { 100 });
            for index in 0..cells {
                from.store(cell + index, round * 1_000 + index as u64);
            }
            to.pair.post_receives(1, RECEIVE).unwrap();
            let announced = Write {
                immediate: Some(0xF000_0000 | round as u32),
                ..write(&from.memory, cell, cells, to.memory.remote())
            };
            from.pair.post(&[announced]).unwrap();
            assert_eq!(to.immediate(), (0xF000_0000 | round as u32, (cells * CELL_BYTES) as u32));
            for index in 0..cells {
                assert_eq!(to.position(cell + index), Some(round * 1_000 + index as u64));
            }
            assert_eq!(from.result(), Ok(Completed::Write));
        }
    }
    assert_eq!(a.position(0), None);
    assert_eq!(b.position(0), None);
}

#[test]
fn a_range_that_wraps_is_a_chain_of_two_writes() {
    let Some((mut a, mut b)) = nodes() else { return };
    for position in 0..30 {
        a.store((CELLS - 10 + position) % CELLS, position as u64);
    }
    b.pair.post_receives(1, RECEIVE).unwrap();
    let to = b.memory.remote();
    let end = Write { signalled: false, work: 1, ..write(&a.memory, CELLS - 10, 10, to) };
    let start = Write { immediate: Some(30), ..write(&a.memory, 0, 20, to) };
    a.pair.post(&[end, start]).unwrap();
    assert_eq!(b.immediate(), (30, 20 * CELL_BYTES as u32));
    for position in 0..30 {
        assert_eq!(b.position((CELLS - 10 + position) % CELLS), Some(position as u64));
    }
    assert_eq!(b.position(20), None);
    // The unsignalled one has no completion of its own.
    assert_eq!(a.result(), Ok(Completed::Write));
    hear_back(&mut a, &mut b);
    assert_eq!(a.completions.poll().unwrap(), None);
}

#[test]
fn an_acknowledgement_is_seen_in_memory() {
    let Some((mut a, b)) = nodes() else { return };
    for acknowledged in [2u64, 4, u64::MAX - 1] {
        let write = Write {
            source: Source::Words(&[acknowledged]),
            to: b.memory.remote(),
            offset: 3 * CELL_BYTES,
            immediate: None,
            work: WRITE,
            signalled: true,
        };
        a.pair.post(&[write]).unwrap();
        let until = Instant::now() + PATIENCE;
        while b.memory.word(3 * CELL_BYTES) != acknowledged {
            assert!(Instant::now() < until, "the word did not come");
            std::thread::yield_now();
        }
        assert_eq!(a.result(), Ok(Completed::Write));
    }
}

#[test]
fn what_lies_beyond_a_memory_is_not_posted() {
    let Some((mut a, b)) = nodes() else { return };
    let good = write(&a.memory, 0, CELLS, b.memory.remote());
    let source =
        |offset, bytes| Write { source: Source::Memory { region: &a.memory, offset, bytes }, ..good };
    let bad = [
        source(CELL_BYTES, BYTES),
        source(0, BYTES + CELL_BYTES),
        source(4, CELL_BYTES),
        source(0, 12),
        source(usize::MAX - 7, CELL_BYTES),
        Write { offset: 8, ..good },
        Write { offset: usize::MAX - 7, ..good },
        Write { source: Source::Words(&[1]), offset: BYTES, ..good },
        Write { source: Source::Words(&[0; 1_024]), ..good },
        Write { to: RemoteMemory { bytes: 8, ..good.to }, ..good },
    ];
    for write in bad {
        assert_eq!(a.pair.post(&[good, write]), Err(PostError::Bounds { index: 1 }), "{write:?}");
    }
    let many = [good; WRITES_PER_POST_MAX + 1];
    assert_eq!(a.pair.post(&many), Err(PostError::TooMany { writes: WRITES_PER_POST_MAX + 1 }));
    assert_eq!(a.pair.post(&[]), Ok(()));
    a.pair.post(&[good]).unwrap();
    assert_eq!(a.completion().result, Ok(Completed::Write), "of all these, one was posted");
    assert_eq!(a.completions.poll().unwrap(), None);
}

#[test]
fn an_immediate_waits_for_a_receive() {
    let Some((mut a, mut b)) = nodes() else { return };
    a.store(5, 9);
    let write = Write { immediate: Some(1), ..write(&a.memory, 5, 1, b.memory.remote()) };
    a.pair.post(&[write]).unwrap();
    assert_eq!(b.completions.poll().unwrap(), None);
    b.pair.post_receives(1, RECEIVE).unwrap();
    assert_eq!(b.immediate(), (1, CELL_BYTES as u32));
    assert_eq!(a.result(), Ok(Completed::Write));
    assert_eq!(b.position(5), Some(9));
}

#[test]
fn a_full_queue_says_how_much_it_took() {
    let config = QueuePairConfig { writes: 20, receives: 20, ..QueuePairConfig::default() };
    let Some((mut a, mut b)) = nodes_with(&config) else { return };
    // None of them completes before there is a receive.
    let one = Write {
        source: Source::Words(&[7]),
        to: b.memory.remote(),
        offset: 0,
        immediate: None,
        work: 0,
        signalled: true,
    };
    let write = |work, signalled, immediate| Write { work, signalled, immediate, ..one };
    let (mut posted, mut full) = (0, false);
    while !full {
        assert!(posted < 10_000, "no device has a queue so long when 20 are asked for");
        let burst: Vec<_> = (posted..posted + 7).map(|work| write(work, true, Some(work as u32))).collect();
        match a.pair.post(&burst) {
            Ok(()) => posted += 7,
            Err(PostError::Full { posted: some }) => {
                assert!(some < 7);
                posted += some as u64;
                full = true;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(posted >= 20);
    for work in 0..posted {
        b.pair.post_receives(1, RECEIVE).unwrap();
        assert_eq!(b.immediate(), (work as u32, 8));
        let completion = a.completion();
        assert_eq!((completion.work, completion.result), (work, Ok(Completed::Write)));
    }
    // A signalled one makes room for all before it.
    let mut rounds = 0;
    for _ in 0..10 {
        let mut burst: Vec<_> = (0..10).map(|work| write(work, false, None)).collect();
        burst[9].signalled = true;
        a.pair.post(&burst).unwrap();
        let completion = a.completion();
        assert_eq!((completion.work, completion.result), (9, Ok(Completed::Write)));
        rounds += 1;
    }
    assert_eq!((rounds, a.completions.poll().unwrap()), (10, None));
}
