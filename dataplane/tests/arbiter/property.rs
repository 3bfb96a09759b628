//! Any two lines against a plain model.

use std::cell::Cell;
use std::collections::BTreeSet;

use dataplane::feed::{ArbiterConfig, Event};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::exchange::*;

const CASES: u32 = 512;
/// What a started desk waits for, and one above the last message.
const FIRST: u64 = 3;
const END_OF_STREAM: u64 = 83;

/// A packet's messages, and by how many places each of its copies is late; no copy = it is lost.
type Packet = (u64, Vec<u64>);

/// The first copy is overtaken by fewer packets than a hole is waited for, another one may come at any time.
fn packet() -> impl Strategy<Value = Packet> {
    let late = 0..=u64::from(CONFIG.reorder_packets);
    let copies = prop_oneof![
        2 => Just(Vec::new()),
        4 => late.clone().prop_map(|late| vec![late]),
        2 => (late, 0..30_u64).prop_map(|(late, again)| vec![late, again]),
    ];
    (1..=4_u64, copies)
}

/// The stream cut into these packets: sequence and count, in the order in which they arrive.
fn arrivals(packets: &[Packet]) -> Vec<(u64, u16)> {
    let mut sequence = FIRST;
    let mut copies = Vec::new();
    for (place, (count, late)) in (0..).zip(packets) {
        let count = (*count).min(END_OF_STREAM - sequence);
        if count > 0 {
            copies.extend(late.iter().map(|late| (place + late, sequence, count as u16)));
        }
        sequence += count;
    }
    // Stable: who is late by just so many places stays in front of the packet there.
    copies.sort_by_key(|(place, ..)| *place);
    copies.into_iter().map(|(_, sequence, count)| (sequence, count)).collect()
}

/// What has to come out: each message that any line brought, and a gap for each run of others.
fn model(arrived: &BTreeSet<u64>) -> Vec<Out> {
    let mut out = Vec::new();
    let mut next = FIRST;
    for message in arrived.iter().copied().chain([END_OF_STREAM]) {
        if next < message {
            out.push(gap(next, message));
        }
        if message < END_OF_STREAM {
            out.push(Out::Message(message));
        }
        next = message + 1;
    }
    out
}

/// Runs of packets of the lines, by turns.
fn interleave(lines: [Vec<(u64, u16)>; 2], runs: &[usize]) -> Vec<(usize, u64, u16)> {
    let mut lines = lines.map(Vec::into_iter);
    let rest = [usize::MAX, usize::MAX];
    let runs = runs.iter().chain(&rest).enumerate();
    runs.flat_map(|(turn, run)| {
        let line = turn % 2;
        lines[line].by_ref().take(*run).map(|(sequence, count)| (line, sequence, count)).collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn within_the_window_exactly_what_no_line_brought_is_missing() {
    let line = || vec(packet(), (END_OF_STREAM - FIRST) as usize);
    let strategy = ([line(), line()], vec(0..8_usize, 0..60));
    // Held, gaps, duplicates.
    let looked = [const { Cell::new(0) }; 3];
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) });
    let result = runner.run(&strategy, |(lines, runs)| {
        let config = ArbiterConfig { held_packets: 256, ..CONFIG };
        let mut desk = Desk::started_with(config);
        let mut arrived = BTreeSet::new();
        for (line, sequence, count) in interleave(lines.map(|packets| arrivals(&packets)), &runs) {
            desk.send(line, sequence, count);
            arrived.extend(sequence..sequence + u64::from(count));
        }
        for line in [A, B] {
            desk.send(line, END_OF_STREAM, 0);
        }
        desk.arbiter.finish(desk.now_ns, &mut desk.record);
        prop_assert_eq!(desk.take(), model(&arrived));
        let counters = desk.counters();
        prop_assert_eq!(counters.window_full.get(), 0);
        let duplicates: u64 = counters.lines.iter().map(|line| line.duplicates.get()).sum();
        for (looked, more) in looked.iter().zip([counters.held.get(), counters.gaps.get(), duplicates]) {
            looked.set(looked.get() + more);
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let looked = looked.map(Cell::into_inner);
    assert!(looked.iter().all(|looked| *looked > u64::from(CASES)), "{looked:?}");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send { line: usize, sequence: u64, count: u16 },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let count = prop_oneof![8 => 0..6_u16, 1 => Just(END)];
    prop_oneof![
        12 => (0..2_usize, 2..60_u64, count)
            .prop_map(|(line, sequence, count)| Step::Send { line, sequence, count }),
        1 => (0..2 * CONFIG.gap_timeout_ns).prop_map(Step::Wait),
        1 => (0..2 * CONFIG.silence_ns).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn whatever_comes_each_number_is_a_message_once_in_order_or_in_one_gap(
        steps in vec(step(), 1..200),
        (reorder_packets, held_packets, slot_bytes) in (1..6_u32, 1..12_usize, 14..80_usize),
    ) {
        let mut desk = Desk::started_with(ArbiterConfig { reorder_packets, held_packets, slot_bytes, ..CONFIG });
        let (mut arrived, mut told) = (BTreeSet::new(), FIRST);
        for step in steps {
            match step {
                Step::Wait(time_ns) => desk.wait(time_ns),
                Step::Send { line, sequence, count } => {
                    desk.send(line, sequence, count);
                    let count = if count == END { 0 } else { u64::from(count) };
                    arrived.extend(sequence..sequence + count);
                    told = told.max(sequence + count);
                }
            }
        }
        desk.arbiter.finish(desk.now_ns, &mut desk.record);
        // The record itself has seen that each of them was the next one.
        let (mut messages, mut missing, mut gaps) = (0, 0, 0);
        for out in desk.take() {
            match out {
                Out::Message(message) => {
                    prop_assert!(arrived.contains(&message), "nobody brought {}", message);
                    messages += 1;
                }
                Out::Event(Event::Gap { from, to }) => {
                    gaps += 1;
                    missing += to - from;
                }
                Out::Event(_) => {}
            }
        }
        prop_assert_eq!(FIRST + messages + missing, told, "all that was told of");
        let counters = desk.counters();
        prop_assert_eq!((counters.gaps.get(), counters.missing.get()), (gaps, missing));
        prop_assert_eq!(counters.messages.get(), FIRST - 1 + messages);
        prop_assert_eq!((desk.arbiter.next_sequence(), desk.arbiter.hole()), (told, None));
    }
}
