//! A leader names its successor, and goes: what happens if one of them, or etcd, dies between the steps, or an answer is late.

use super::etcd::{Etcd, Proxy};
use super::{Group, leads, now_ns, report, start_process, yes};
use control::election::{ElectionError, Leadership};
use rustix::process::Signal;
use std::io::Write;
use std::time::Duration;

#[test]
fn the_named_successor_leads_once_its_predecessor_has_gone() {
    let etcd = Etcd::start();
    let mut group = Group::of(&etcd, "g", &["a", "b", "c"]);
    let (mut leader, mut term, ..) = group.wait_leader(0);
    for _ in 0..6 {
        let successor = ["a", "b", "c"].into_iter().find(|name| *name > leader.as_str()).unwrap_or("a");
        let asked_ns = now_ns();
        group.name(&leader, successor).unwrap();
        let (named, later, at_ns) = group.wait_successor(term);
        report("named", asked_ns, at_ns);
        assert_eq!((named.as_str(), later), (successor, term + 1));
        assert!(group.leads(&leader, term), "until it goes, the predecessor leads");
        assert!(matches!(group.name(&leader, successor), Err(ElectionError::NotLeading)), "it is named once");
        group.election(&leader).resign();
        let (next, later, _, at_ns) = group.wait_leader(term);
        report("hand-over", asked_ns, at_ns);
        assert_eq!((next.as_str(), later), (successor, term + 1));
        (leader, term) = (next, later);
    }
}

#[test]
fn a_leader_names_one_successor_of_two() {
    let etcd = Etcd::start();
    let mut group = Group::of(&etcd, "g", &["a"]);
    let (_, term, ..) = group.wait_leader(0);
    assert!(matches!(group.name("a", "b"), Err(ElectionError::NotStanding { .. })), "nobody is called so");
    assert!(group.leads("a", term));
    for name in ["b", "c"] {
        group.join(name, yes(0));
        group.wait_follower(name, Some(("a", term)));
    }
    let election = group.election("a");
    let asked = ["b", "c"].map(|successor| election.hand_over(successor));
    let named = asked.map(|asked| group.runtime.block_on(asked).unwrap());
    assert!(matches!(named, [Ok(()), Err(ElectionError::NotLeading)]), "{named:?}");
    assert_eq!(group.wait_successor(term).0, "b");
    group.wait_follower("c", Some(("b", term + 1)));
    group.election("a").resign();
    let (next, later, ..) = group.wait_leader(term);
    assert_eq!((next.as_str(), later), ("b", term + 1));
    group.wait_follower("a", Some(("b", later)));
    assert_eq!(group.leaders(), 1);
}

#[test]
fn a_successor_that_dies_before_its_turn_is_followed_by_another_when_the_leader_has_gone() {
    let etcd = Etcd::start();
    let mut group = Group::of(&etcd, "g", &["a"]);
    let (_, term, ..) = group.wait_leader(0);
    let (successor, _lines) = start_process(&etcd, "dies");
    while let Err(error) = group.name("a", "dies") {
        assert!(matches!(error, ElectionError::NotStanding { .. }), "{error}");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(successor);
    let Leadership::Leader { until_ns, .. } = *group.election("a").leadership.borrow() else {
        panic!("it has not gone yet");
    };
    group.join("b", yes(0));
    // The leader does not say that it goes: its time runs out.
    let (_, later, _, at_ns) = group.wait_leader(term);
    assert!(later > term + 1, "{later}: the successor's term is not given again");
    assert!(at_ns >= until_ns, "{at_ns} is before the leader's deadline, {until_ns}");
    assert_eq!(group.leaders(), 1);
}

#[test]
fn a_leader_that_dies_after_it_has_named_its_successor_is_followed_once_its_time_is_over() {
    for signal in [Signal::KILL, Signal::STOP] {
        let etcd = Etcd::start();
        let (mut process, mut lines) = start_process(&etcd, "first");
        let (term, mut until_ns) =
            lines.by_ref().map_while(Result::ok).find_map(|line| leads(&line)).expect("it leads");
        let mut group = Group::of(&etcd, "g", &["b"]);
        group.wait_follower("b", Some(("first", term)));
        writeln!(process.0.stdin.as_mut().unwrap(), "b").unwrap();
        for line in lines.by_ref().map_while(Result::ok) {
            match leads(&line) {
                Some((told, later_ns)) => {
                    assert_eq!(told, term);
                    until_ns = later_ns;
                }
                None if line.contains("named true") => break,
                None => assert!(!line.contains("leads not"), "{line}"),
            }
        }
        process.signal(signal);
        assert_eq!(group.wait_successor(term).1, term + 1);
        let (next, later, _, at_ns) = group.wait_leader(term);
        assert_eq!((next.as_str(), later), ("b", term + 1));
        assert!(at_ns >= until_ns, "{at_ns} is before the deadline of the one that died, {until_ns}");
    }
}

#[test]
fn etcd_that_dies_after_a_successor_was_named_leaves_one_leader_of_a_later_term() {
    let mut etcd = Etcd::start();
    let mut group = Group::of(&etcd, "g", &["a"]);
    let (_, term, ..) = group.wait_leader(0);
    group.join("b", yes(0));
    group.wait_follower("b", Some(("a", term)));
    group.name("a", "b").unwrap();
    let Leadership::Leader { until_ns, .. } = *group.election("a").leadership.borrow() else {
        panic!("it has not gone yet");
    };
    etcd.process.signal(Signal::KILL);
    etcd.restart();
    let (_, later, _, at_ns) = group.wait_leader(term);
    assert!(later > term && at_ns >= until_ns, "{later} after {term}, {at_ns} after {until_ns}");
    assert_eq!(group.leaders(), 1);
}

#[test]
fn a_naming_whose_answer_does_not_come_in_time_is_no_second_leader() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(&etcd, &["/leaving", "/standing/b"]);
    let mut group = Group::new(&etcd, "g");
    group.join_by(&proxy.endpoint(), "a", yes(0));
    let (_, term, mut until_ns, _) = group.wait_leader(0);
    group.join("b", yes(0));
    group.wait_follower("b", Some(("a", term)));
    assert!(!proxy.is_shut());
    assert!(matches!(group.name("a", "b"), Err(ElectionError::Silent { .. })));
    assert!(proxy.is_shut(), "etcd was asked");
    // Whatever the leader has said until then comes before this.
    let seen = group.wait("the successor leads", |seen| {
        if let Leadership::Leader { until_ns: later_ns, .. } = seen.leadership {
            if seen.node == "b" {
                return true;
            }
            until_ns = later_ns;
        }
        false
    });
    assert!(matches!(seen.leadership, Leadership::Leader { term: later, .. } if later == term + 1));
    assert!(seen.at_ns >= until_ns, "{} is before the deadline of the leader, {until_ns}", seen.at_ns);
    proxy.open();
    group.wait_follower("a", Some(("b", term + 1)));
    assert_eq!(group.leaders(), 1);
}
