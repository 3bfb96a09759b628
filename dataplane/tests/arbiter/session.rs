//! Sessions: their beginning, their end, the next one, and packets that belong to none.

use dataplane::cache::tick::Condition;
use dataplane::feed::Event;

use crate::exchange::*;

fn started(session: &[u8; 10], sequence: u64) -> Out {
    Out::Event(Event::SessionStarted { session: *session, sequence, late: sequence != 1 })
}

fn ended(next_sequence: u64) -> Out {
    Out::Event(Event::SessionEnded { next_sequence })
}

#[test]
fn nothing_is_told_before_the_first_packet() {
    let mut desk = Desk::new(CONFIG);
    desk.wait(10 * CONFIG.silence_ns);
    assert_eq!(desk.take(), []);
    assert_eq!((desk.arbiter.condition(), desk.arbiter.session()), (Condition::Waiting, None));
    desk.send(B, 1, 0);
    assert_eq!(desk.take(), [started(ONE, 1), condition(Condition::Degraded)]);
    assert_eq!((desk.arbiter.session(), desk.arbiter.next_sequence()), (Some(*ONE), 1));
}

#[test]
fn the_beginning_is_waited_for_when_it_is_near() {
    let mut desk = Desk::new(CONFIG);
    desk.send(A, 17, 1);
    assert_eq!(desk.take(), [started(ONE, 1), condition(Condition::Degraded)]);
    assert_eq!(desk.arbiter.hole(), Some((1, 17)));
    desk.send(B, 1, 16);
    assert_eq!(desk.take(), [vec![condition(Condition::Live)], messages(1, 18)].concat());
}

#[test]
fn a_line_not_heard_yet_is_given_its_time_at_the_start() {
    let mut desk = Desk::new(CONFIG);
    for sequence in 2..10 {
        desk.send(A, sequence, 1);
    }
    assert_eq!(desk.take(), [started(ONE, 1), condition(Condition::Degraded)]);
    desk.send(B, 1, 1);
    assert_eq!(desk.take(), [vec![condition(Condition::Live)], messages(1, 10)].concat());
}

#[test]
fn a_session_under_way_is_joined_late() {
    let mut desk = Desk::new(CONFIG);
    desk.send(A, 18, 2);
    let expected = [vec![started(ONE, 18), condition(Condition::Degraded)], messages(18, 20)];
    assert_eq!(desk.take(), expected.concat());
    assert_eq!((desk.counters().late_starts.get(), desk.counters().missing.get()), (1, 0));
}

#[test]
fn a_session_may_be_joined_at_its_end() {
    let mut desk = Desk::new(CONFIG);
    desk.send(A, 500, END);
    let expected =
        [started(ONE, 500), condition(Condition::Degraded), ended(500), condition(Condition::Ended)];
    assert_eq!(desk.take(), expected);
}

#[test]
fn the_end_is_told_once_when_everything_before_it_is_settled() {
    let mut desk = Desk::started();
    desk.send(A, 5, END);
    desk.send(A, 5, END);
    assert_eq!(desk.take(), []);
    desk.send(B, 3, 2);
    desk.send(B, 5, END);
    let expected = [messages(3, 5), vec![ended(5), condition(Condition::Ended)]];
    assert_eq!(desk.take(), expected.concat());
    desk.wait(10 * CONFIG.silence_ns);
    assert_eq!(desk.take(), []);
    assert_eq!(desk.counters().lines[A].silent.get(), 1);
    assert_eq!(desk.counters().lines[A].heartbeats.get(), 2);
}

#[test]
fn the_end_is_told_behind_a_gap_too() {
    let mut desk = Desk::started();
    desk.send(A, 5, 0);
    desk.send(B, 5, END);
    desk.wait(CONFIG.gap_timeout_ns);
    assert_eq!(desk.take(), [gap(3, 5), ended(5), condition(Condition::Ended)]);
}

#[test]
fn an_end_that_was_none_is_taken_back() {
    let mut desk = Desk::started();
    desk.send(A, 3, END);
    desk.send(B, 3, 1);
    let expected = [ended(3), condition(Condition::Ended), condition(Condition::Live), Out::Message(3)];
    assert_eq!(desk.take(), expected);
    assert_eq!(desk.counters().resumed.get(), 1);
}

#[test]
fn the_next_session_is_followed_at_once_after_the_end() {
    let mut desk = Desk::started();
    desk.send(A, 3, END);
    desk.send(B, 3, END);
    desk.take();
    desk.wait(10 * CONFIG.silence_ns);
    desk.send_of(TWO, A, 1, 1);
    desk.send_of(TWO, B, 1, 1);
    let expected =
        [started(TWO, 1), condition(Condition::Degraded), Out::Message(1), condition(Condition::Live)];
    assert_eq!(desk.take(), expected);
    assert_eq!(desk.counters().sessions.get(), 2);
}

#[test]
fn the_next_session_is_followed_at_once_when_all_is_stale() {
    let mut desk = Desk::started();
    desk.wait(CONFIG.silence_ns);
    desk.send_of(TWO, A, 900, 1);
    let expected =
        [condition(Condition::Stale), started(TWO, 900), condition(Condition::Degraded), Out::Message(900)];
    assert_eq!(desk.take(), expected);
}

#[test]
fn a_live_session_is_left_only_for_two_packets() {
    let mut desk = Desk::started();
    desk.send(B, 5, 1);
    desk.send_of(TWO, A, 2, 1);
    desk.send_of(TWO, A, 2, 1);
    assert_eq!(desk.take(), []);
    assert_eq!(desk.counters().lines[A].stray.get(), 2);
    desk.send_of(TWO, A, 1, 1);
    let expected = [gap(3, 5), Out::Message(5), started(TWO, 1), Out::Message(1), Out::Message(2)];
    assert_eq!(desk.take(), expected);
    desk.send(B, 6, 1);
    desk.send(B, 7, 1);
    assert_eq!(desk.take(), []);
    assert_eq!(desk.counters().lines[B].old_session.get(), 2);
    assert_eq!(desk.arbiter.session(), Some(*TWO));
}

#[test]
fn the_same_packet_on_two_lines_confirms_a_session() {
    let mut desk = Desk::started();
    desk.send_of(TWO, A, 1, 1);
    desk.send_of(TWO, B, 1, 1);
    assert_eq!(desk.take(), [started(TWO, 1), Out::Message(1)]);
}

#[test]
fn one_stray_packet_moves_nothing() {
    let mut desk = Desk::started();
    for sequence in 3..20 {
        desk.send_of(TWO, A, sequence, 1);
        desk.send(A, sequence, 1);
        desk.send(B, sequence, 1);
    }
    assert_eq!(desk.take(), messages(3, 20));
    assert_eq!(desk.counters().lines[A].stray.get(), 17);
}

#[test]
fn a_stray_too_long_to_be_kept_is_a_hole() {
    let mut desk = Desk::started();
    desk.send_of(TWO, A, 1, 60);
    desk.send_of(TWO, A, 61, 1);
    assert_eq!(desk.take(), [started(TWO, 1)]);
    desk.wait(CONFIG.gap_timeout_ns);
    assert_eq!(desk.take(), [gap(1, 61), Out::Message(61)]);
    let mut desk = Desk::started();
    desk.send_of(TWO, A, 5, 60);
    desk.send_of(TWO, A, 2, 1);
    desk.send_of(TWO, B, 1, 64);
    assert_eq!(desk.take(), [vec![started(TWO, 1)], messages(1, 65)].concat());
}

#[test]
fn the_session_before_comes_back_only_when_the_new_one_is_stale() {
    let mut desk = Desk::started();
    desk.send_of(TWO, A, 1, 1);
    desk.send_of(TWO, A, 2, 1);
    desk.take();
    desk.send(B, 3, 1);
    desk.send(B, 4, 1);
    assert_eq!(desk.counters().lines[B].old_session.get(), 2);
    desk.wait(CONFIG.silence_ns);
    desk.send(B, 30, 1);
    assert_eq!(desk.take(), [condition(Condition::Stale)]);
    desk.send(B, 31, 1);
    let expected = [started(ONE, 30), condition(Condition::Degraded), Out::Message(30), Out::Message(31)];
    assert_eq!(desk.take(), expected);
}

#[test]
fn a_jump_needs_a_second_packet() {
    const FAR: u64 = 1 << 40;
    let mut desk = Desk::started();
    desk.send(A, FAR, 1);
    desk.send(A, FAR, 1);
    desk.send(A, 3, 1);
    desk.send(A, FAR, 1);
    desk.send(B, 3, 1);
    desk.wait(10 * CONFIG.gap_timeout_ns);
    assert_eq!(desk.take(), [Out::Message(3)]);
    desk.send(A, FAR + 1, 1);
    assert_eq!(desk.arbiter.hole(), Some((4, FAR)));
    desk.send(B, FAR + 2, 0);
    desk.wait(CONFIG.gap_timeout_ns);
    assert_eq!(desk.take(), [gap(4, FAR), Out::Message(FAR), Out::Message(FAR + 1)]);
    assert_eq!(desk.counters().lines[A].stray.get(), 3);
}

#[test]
fn an_exchange_that_begins_again_under_the_same_name_is_followed_when_stale() {
    let mut desk = Desk::started();
    desk.send(A, 3, 50);
    desk.take();
    for _ in 0..11 {
        desk.wait(CONFIG.silence_ns / 10);
        desk.send(A, 1, 0);
    }
    let expected = [condition(Condition::Stale), started(ONE, 1), condition(Condition::Degraded)];
    assert_eq!(desk.take(), expected);
    desk.send(A, 1, 1);
    desk.send(B, 1, 1);
    assert_eq!(desk.take(), [Out::Message(1), condition(Condition::Live)]);
}
