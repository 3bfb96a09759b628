//! One test a rule: duplicates, overlaps, the window, gaps, silence, what is malformed.

use dataplane::cache::tick::Condition;
use dataplane::feed::{ArbiterConfig, ConfigError};
use dataplane::times::FeedTimes;

use crate::exchange::*;

const TIMES: FeedTimes = FeedTimes { gap_timeout_ns: CONFIG.gap_timeout_ns, silence_ns: CONFIG.silence_ns };

#[test]
fn first_line_wins_and_the_other_is_a_duplicate() {
    let mut desk = Desk::started();
    for sequence in 3..103 {
        desk.send(A, sequence, 1);
        desk.wait(40);
        desk.send(B, sequence, 1);
    }
    assert_eq!(desk.take(), messages(3, 103));
    let [a, b, ..] = &desk.counters().lines;
    assert_eq!((a.packets.get(), a.won.get(), a.duplicates.get()), (101, 101, 0));
    assert_eq!((b.packets.get(), b.won.get(), b.duplicates.get()), (101, 0, 101));
    assert_eq!((a.messages.get(), b.messages.get()), (102, 102));
    assert_eq!((a.lead_samples.get(), a.lead_ns.get()), (101, 100 * 40));
    assert_eq!((b.lead_samples.get(), a.lead_negative.get()), (0, 0));
    assert_eq!((a.last_sequence.get(), a.last_packet_ns.get()), (102, desk.now_ns - 40));
    assert_eq!((a.gaps.get(), b.gaps.get()), (0, 0));
    assert_eq!((desk.counters().messages.get(), desk.counters().next_sequence.get()), (102, 103));
    assert_eq!(a.bytes.get(), b.bytes.get());
}

#[test]
fn lines_may_be_cut_differently_and_overlaps_are_cut_off() {
    let mut desk = Desk::started();
    desk.send(A, 3, 4);
    desk.send(B, 3, 2);
    desk.send(B, 5, 5);
    desk.send(A, 7, 1);
    desk.send(A, 8, 6);
    assert_eq!(desk.take(), messages(3, 14));
    let cut: Vec<_> = desk.record.deliveries.iter().map(|(from, count, ..)| (*from, *count)).collect();
    assert_eq!(cut, [(1, 2), (3, 4), (7, 3), (10, 4)]);
    let [a, b, ..] = &desk.counters().lines;
    assert_eq!((a.duplicates.get(), b.duplicates.get()), (1, 2));
}

#[test]
fn held_packets_keep_their_line_and_stamp() {
    let mut desk = Desk::started();
    desk.send(B, 5, 2);
    let stamp = desk.now_ns + 7;
    desk.wait(100);
    assert_eq!(desk.arbiter.hole(), Some((3, 5)));
    assert_eq!(desk.take(), []);
    desk.send(A, 3, 2);
    assert_eq!(desk.take(), messages(3, 7));
    assert_eq!(desk.record.deliveries[2], (5, 2, B, stamp));
    assert_eq!(desk.arbiter.hole(), None);
    assert_eq!((desk.counters().held.get(), desk.counters().held_now.get()), (1, 0));
    assert_eq!(desk.counters().lines[B].gaps.get(), 1);
}

#[test]
fn held_packets_that_overlap_are_delivered_once() {
    let mut desk = Desk::started();
    desk.send(A, 6, 4);
    desk.send(B, 6, 1);
    desk.send(B, 7, 5);
    desk.send(A, 6, 4);
    desk.send(B, 4, 3);
    assert_eq!(desk.arbiter.hole(), Some((3, 4)));
    assert_eq!(desk.counters().held_now.get(), 3);
    desk.send(A, 3, 1);
    assert_eq!(desk.take(), messages(3, 12));
    let [a, b, ..] = &desk.counters().lines;
    assert_eq!((a.duplicates.get(), b.duplicates.get()), (1, 2));
}

#[test]
fn a_hole_is_a_gap_once_every_line_went_on() {
    let mut desk = Desk::started();
    for sequence in 4..14 {
        desk.send(A, sequence, 1);
    }
    desk.send(B, 4, 1);
    desk.send(B, 4, 1);
    desk.send(B, 5, 1);
    assert_eq!(desk.take(), []);
    desk.send(B, 6, 1);
    assert_eq!(desk.take(), [vec![gap(3, 4)], messages(4, 14)].concat());
    assert_eq!((desk.counters().gaps.get(), desk.counters().missing.get()), (1, 1));
    desk.send(B, 3, 1);
    assert_eq!(desk.take(), []);
    assert_eq!(desk.counters().lines[B].late.get(), 1);
}

#[test]
fn the_second_hole_is_judged_by_what_came_beyond_it() {
    let mut desk = Desk::started();
    for line in [A, B] {
        desk.send(line, 4, 1);
        desk.send(line, 6, 1);
    }
    desk.send(A, 7, 1);
    assert_eq!(desk.take(), []);
    desk.send(B, 7, 1);
    assert_eq!(desk.take(), [gap(3, 4), Out::Message(4)]);
    desk.send(A, 8, 1);
    desk.send(B, 8, 1);
    assert_eq!(desk.take(), [vec![gap(5, 6)], messages(6, 9)].concat());
}

#[test]
fn a_hole_is_a_gap_when_its_time_is_up() {
    let mut desk = Desk::started();
    desk.send(A, 4, 1);
    desk.wait(600);
    desk.send(A, 6, 1);
    desk.wait(399);
    assert_eq!(desk.take(), []);
    desk.wait(1);
    assert_eq!(desk.take(), [gap(3, 4), Out::Message(4)]);
    assert_eq!(desk.arbiter.hole(), Some((5, 6)));
    desk.wait(599);
    assert_eq!(desk.take(), []);
    desk.wait(1);
    assert_eq!(desk.take(), [gap(5, 6), Out::Message(6)]);
}

#[test]
fn a_full_window_declares_the_first_hole_only() {
    let mut desk = Desk::started();
    desk.send(A, 4, 1);
    for index in 0..15 {
        desk.send(A, 6 + index, 1);
    }
    assert_eq!(desk.counters().held_now.get(), 16);
    desk.send(A, 21, 1);
    assert_eq!(desk.take(), [gap(3, 4), Out::Message(4)]);
    assert_eq!(desk.counters().window_full.get(), 1);
    desk.send(B, 5, 1);
    assert_eq!(desk.take(), messages(5, 22));
}

#[test]
fn a_full_window_gives_way_to_an_earlier_packet() {
    let mut desk = Desk::started();
    for index in 0..16 {
        desk.send(A, 6 + index, 1);
    }
    desk.send(B, 4, 1);
    assert_eq!(desk.take(), [gap(3, 4), Out::Message(4)]);
    assert_eq!(desk.arbiter.hole(), Some((5, 6)));
    assert_eq!(desk.counters().lines[B].won.get(), 1);
}

#[test]
fn a_packet_too_long_to_be_held_is_delivered_at_once() {
    let mut desk = Desk::started();
    desk.send(A, 5, 1);
    desk.send(A, 7, 1);
    desk.send(B, 9, 60);
    let expected = [vec![gap(3, 5), Out::Message(5), gap(6, 7), Out::Message(7), gap(8, 9)], messages(9, 69)];
    assert_eq!(desk.take(), expected.concat());
    assert_eq!((desk.counters().oversized.get(), desk.counters().held_now.get()), (1, 0));
}

#[test]
fn heartbeats_show_holes() {
    let mut desk = Desk::started();
    desk.send(A, 3, 0);
    assert_eq!(desk.arbiter.hole(), None);
    desk.send(A, 5, 0);
    desk.send(B, 5, 0);
    assert_eq!(desk.arbiter.hole(), Some((3, 5)));
    desk.wait(1_000);
    assert_eq!(desk.take(), [gap(3, 5)]);
    desk.send(A, 5, 1);
    assert_eq!(desk.take(), messages(5, 6));
    let [a, b, ..] = &desk.counters().lines;
    assert_eq!((a.heartbeats.get(), a.gaps.get(), b.heartbeats.get()), (2, 1, 1));
}

#[test]
fn heartbeats_count_as_packets_from_beyond() {
    let mut desk = Desk::started();
    for (line, sequence, count) in [(A, 4, 1), (A, 5, 1), (B, 4, 1), (B, 5, 1), (A, 6, 0)] {
        desk.send(line, sequence, count);
    }
    assert_eq!(desk.take(), []);
    desk.send(B, 6, 0);
    assert_eq!(desk.take(), [gap(3, 4), Out::Message(4), Out::Message(5)]);
}

#[test]
fn silent_lines_are_not_waited_for() {
    let mut desk = Desk::started();
    for _ in 0..10 {
        desk.wait(CONFIG.silence_ns / 10);
        desk.send(A, 3, 0);
    }
    assert_eq!(desk.take(), [condition(Condition::Degraded)]);
    desk.send(A, 4, 1);
    desk.send(A, 5, 1);
    assert_eq!(desk.take(), []);
    desk.send(A, 6, 1);
    assert_eq!(desk.take(), [vec![gap(3, 4)], messages(4, 7)].concat());
    assert_eq!(desk.counters().lines[B].silent.get(), 1);
    desk.send(B, 6, 1);
    assert_eq!(desk.take(), [condition(Condition::Live)]);
    assert_eq!(desk.counters().lines[B].silent.get(), 0);
}

#[test]
fn silence_of_every_line_is_staleness_and_any_packet_ends_it() {
    let mut desk = Desk::started();
    desk.wait(CONFIG.silence_ns - 1);
    assert_eq!(desk.take(), []);
    desk.wait(1);
    assert_eq!(desk.take(), [condition(Condition::Stale)]);
    assert_eq!(desk.counters().condition(), Condition::Stale);
    desk.send(B, 3, 1);
    assert_eq!(desk.take(), [condition(Condition::Degraded), Out::Message(3)]);
    desk.send(A, 3, 1);
    assert_eq!(desk.take(), [condition(Condition::Live)]);
}

#[test]
fn other_times_hold_at_once_for_what_is_under_way() {
    let mut desk = Desk::started();
    let FeedTimes { gap_timeout_ns, silence_ns } = TIMES;
    // Longer: what would have been stale by the old one is not.
    desk.arbiter.set_times(FeedTimes { gap_timeout_ns, silence_ns: 10 * silence_ns });
    desk.wait(2 * silence_ns);
    assert_eq!(desk.take(), []);
    desk.arbiter.set_times(TIMES);
    desk.wait(0);
    assert_eq!(desk.take(), [condition(Condition::Stale)]);
    desk.send(A, 3, 1);
    desk.send(B, 3, 1);
    desk.take();
    // A hole that is waited for.
    desk.arbiter.set_times(FeedTimes { gap_timeout_ns: 10 * gap_timeout_ns, silence_ns });
    desk.send(A, 5, 1);
    desk.wait(2 * gap_timeout_ns);
    assert_eq!(desk.take(), []);
    desk.arbiter.set_times(TIMES);
    desk.wait(0);
    assert_eq!(desk.take(), [vec![gap(4, 5)], messages(5, 6)].concat());
}

#[test]
fn lines_that_only_repeat_the_past_are_stale() {
    let mut desk = Desk::started();
    for _ in 0..10 {
        desk.wait(CONFIG.silence_ns / 10);
        desk.send(A, 2, 1);
        desk.send(B, 2, 0);
    }
    assert_eq!(desk.take(), [condition(Condition::Stale)]);
    desk.send(B, 3, 0);
    assert_eq!(desk.take(), [condition(Condition::Live)]);
}

#[test]
fn malformed_packets_are_ignored_and_the_other_line_fills() {
    let mut desk = Desk::started();
    let good = datagram(ONE, 3, 2);
    let mut trailing = good.clone();
    trailing.push(0);
    let mut beat = header(ONE, 3, 0);
    beat.push(0);
    for bad in [&good[..19], &good[..good.len() - 1], &trailing, &beat, &datagram(ONE, 0, 1), &[]] {
        desk.raw(A, bad);
    }
    desk.raw(A, &header(ONE, u64::MAX, 1));
    desk.raw(A, &datagram(ONE, u64::MAX - 1, 0)[..20]);
    assert_eq!(desk.take(), []);
    assert_eq!((desk.counters().lines[A].malformed.get(), desk.counters().lines[A].stray.get()), (7, 1));
    desk.send(B, 3, 2);
    assert_eq!(desk.take(), messages(3, 5));
}

#[test]
fn lines_beyond_the_configured_ones_fill_holes_and_are_not_watched() {
    let mut desk = Desk::started();
    desk.send(A, 4, 1);
    desk.send(B, 4, 1);
    desk.send(2, 3, 1);
    assert_eq!(desk.take(), messages(3, 5));
    for _ in 0..20 {
        desk.wait(CONFIG.silence_ns / 10);
        desk.send(A, 5, 0);
        desk.send(B, 5, 0);
    }
    assert_eq!(desk.take(), []);
}

#[test]
fn leads_are_told_by_the_frames_stamps() {
    let mut desk = Desk::started();
    desk.send(A, 3, 1);
    desk.now_ns -= 10;
    desk.send(B, 3, 1);
    assert_eq!(desk.counters().lines[A].lead_negative.get(), 1);
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let check = |change: fn(&mut ArbiterConfig)| {
        let mut config = CONFIG;
        change(&mut config);
        config.check()
    };
    assert_eq!(check(|_| {}), Ok(()));
    assert_eq!(ArbiterConfig::default().check(), Ok(()));
    assert_eq!(check(|config| config.lines = 0), Err(ConfigError::Lines(0)));
    assert_eq!(check(|config| config.lines = 5), Err(ConfigError::Lines(5)));
    assert_eq!(check(|config| config.reorder_packets = 0), Err(ConfigError::ReorderPackets));
    assert_eq!(check(|config| config.held_packets = 0), Err(ConfigError::HeldPackets(0)));
    assert_eq!(check(|config| config.slot_bytes = 1 << 20), Err(ConfigError::SlotBytes(1 << 20)));
    assert_eq!(check(|config| config.gap_timeout_ns = 0), Err(ConfigError::Time("gap_timeout_ns")));
    assert_eq!(check(|config| config.silence_ns = 0), Err(ConfigError::Time("silence_ns")));
}
