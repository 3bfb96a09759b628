//! Nodes that elect their primary in a real etcd, as processes: killed, paused, handed over, and without etcd.

mod etcd;
mod group;
mod process;

use dataplane::cache::reader::Reader;
use drivers::region::RegionMapping;
use etcd::Etcd;
use group::log::Follower;
use group::{Node, Rig, compare, is_right, live_of, primary_of};
use process::wait_for;
use rustix::process::Signal;

const NAMES: [&str; 3] = ["a", "b", "c"];
const INSTRUMENTS: usize = 50;

fn start(rig: &Rig, etcd: &Etcd, name: &str) -> Node {
    rig.elected(name, &NAMES, "127.0.0.1:0", &etcd.endpoint(), "lease_ttl_s = 2")
}

/// Three nodes, of which one has been elected, and the others are level with it.
fn group(rig: &Rig, etcd: &Etcd) -> Vec<Node> {
    let nodes: Vec<Node> = NAMES.iter().map(|name| start(rig, etcd, name)).collect();
    primary_of(&nodes, &[0, 1, 2]);
    nodes
}

#[test]
fn when_the_primary_is_killed_another_goes_on_and_a_reader_of_a_survivor_lacks_nothing() {
    let etcd = Etcd::start();
    let rig = Rig::new(0);
    let mut nodes = group(&rig, &etcd);
    let first = primary_of(&nodes, &[0, 1, 2]);
    let survivors: Vec<usize> = (0..3).filter(|index| *index != first).collect();
    let mapping = RegionMapping::open(&nodes[survivors[0]].region).unwrap();
    let mut follower = Follower::new(&mapping);
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    wait_for("ticks come", || {
        follower.follow();
        (follower.ticks.len() > 1_000).then_some(())
    });
    let before = nodes[first].cluster()["term"].as_u64();
    nodes[first].kill();
    let second = wait_for("another leads", || {
        follower.follow();
        survivors.iter().copied().find(|index| nodes[*index].cluster()["role"] == "primary")
    });
    assert!(nodes[second].cluster()["term"].as_u64() > before);
    for index in &survivors {
        is_right(&nodes[*index], &dump);
        follower.follow();
    }
    assert!(follower.ticks.len() > 5_000, "{}", follower.ticks.len());
    let declared = nodes[second].cluster()["counters"]["gaps"].as_u64().unwrap();
    let gaps = follower.gaps();
    assert!(follower.restarts.len() <= 1, "it began anew once at most: {:?}", follower.restarts);
    assert_eq!(gaps > 0, declared > 0, "what the log says of {gaps} gaps, the node says of {declared}");
    // The killed one comes back with nothing, and follows.
    let name = nodes[first].name.clone();
    nodes[first] = start(&rig, &etcd, &name);
    assert_eq!(primary_of(&nodes, &[0, 1, 2]), second);
    is_right(&nodes[first], &dump);
    assert!(wait_for("the regions are the same", || compare(&nodes[second], &nodes[first])).0 >= 100);
}

#[test]
fn a_paused_primary_is_believed_no_more_and_follows_when_it_goes_on() {
    let etcd = Etcd::start();
    let rig = Rig::new(1);
    let nodes = group(&rig, &etcd);
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    for node in &nodes {
        is_right(node, &dump);
    }
    let first = primary_of(&nodes, &[0, 1, 2]);
    let survivors: Vec<usize> = (0..3).filter(|index| *index != first).collect();
    let mapping = RegionMapping::open(&nodes[first].region).unwrap();
    let reader = Reader::open(mapping.cells()).unwrap();
    wait_for("its rows are live", || (live_of(&reader) == (INSTRUMENTS, INSTRUMENTS)).then_some(()));
    let demotions = || nodes[first].cluster()["counters"]["demotions"].as_u64().unwrap();
    let before = demotions();
    nodes[first].pause(Signal::STOP);
    let second = wait_for("another leads", || {
        survivors.iter().copied().find(|index| nodes[*index].cluster()["role"] == "primary")
    });
    assert_eq!(live_of(&reader).0, 0, "when another leads, the paused one's rows are stale");
    is_right(&nodes[second], &dump);
    nodes[first].pause(Signal::CONT);
    assert_eq!(primary_of(&nodes, &[0, 1, 2]), second);
    assert_eq!(demotions(), before + 1);
    is_right(&nodes[first], &dump);
}

#[test]
fn without_etcd_rows_go_stale_at_the_end_of_the_lease_and_come_back_with_it() {
    let etcd = Etcd::start();
    let rig = Rig::new(2);
    let nodes = group(&rig, &etcd);
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    for node in &nodes {
        is_right(node, &dump);
    }
    let before = nodes[primary_of(&nodes, &[0, 1, 2])].cluster()["term"].as_u64();
    let mappings: Vec<_> = nodes.iter().map(|node| RegionMapping::open(&node.region).unwrap()).collect();
    etcd.process.signal(Signal::STOP);
    for mapping in &mappings {
        let reader = Reader::open(mapping.cells()).unwrap();
        wait_for("every row is stale", || (live_of(&reader) == (0, INSTRUMENTS)).then_some(()));
    }
    etcd.process.signal(Signal::CONT);
    let primary = primary_of(&nodes, &[0, 1, 2]);
    assert!(nodes[primary].cluster()["term"].as_u64() > before);
    for node in &nodes {
        is_right(node, &dump);
    }
}

#[test]
fn a_hand_over_by_etcd_goes_to_the_one_that_was_named() {
    let etcd = Etcd::start();
    let rig = Rig::new(3);
    let nodes = group(&rig, &etcd);
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    let from = primary_of(&nodes, &[0, 1, 2]);
    let said = nodes[from].obeys(&["handover"]);
    assert!(said.contains("is the primary"), "{said}");
    assert_ne!(primary_of(&nodes, &[0, 1, 2]), from);
    for _ in 0..4 {
        let from = primary_of(&nodes, &[0, 1, 2]);
        let to = (from + 1) % 3;
        let said = nodes[from].obeys(&["handover", &nodes[to].name]);
        assert!(said.contains(&format!("{} is the primary", nodes[to].name)), "{said}");
        assert_eq!(primary_of(&nodes, &[0, 1, 2]), to);
    }
    let from = primary_of(&nodes, &[0, 1, 2]);
    assert!(nodes[(from + 1) % 3].refuses(&["promote", "--force"]).contains("elects its primary in etcd"));
    for node in &nodes {
        is_right(node, &dump);
    }
    let gaps: u64 = nodes.iter().map(|node| node.cluster()["counters"]["gaps"].as_u64().unwrap()).sum();
    assert_eq!(gaps, 0);
}

#[test]
fn who_hangs_is_handed_nothing_and_without_etcd_nobody_is() {
    let etcd = Etcd::start();
    let rig = Rig::new(4);
    let nodes = group(&rig, &etcd);
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    let from = primary_of(&nodes, &[0, 1, 2]);
    let to = (from + 1) % 3;
    nodes[to].pause(Signal::STOP);
    let said = nodes[from].refuses(&["handover", &nodes[to].name]);
    assert!(said.contains("is still the primary"), "{said}");
    nodes[to].pause(Signal::CONT);
    assert_eq!(primary_of(&nodes, &[0, 1, 2]), from);
    etcd.process.signal(Signal::STOP);
    // Either it waits for etcd in vain, or its lease is over already.
    nodes[from].refuses(&["handover", &nodes[to].name]);
    etcd.process.signal(Signal::CONT);
    primary_of(&nodes, &[0, 1, 2]);
    for node in &nodes {
        is_right(node, &dump);
    }
}

#[test]
fn of_two_hand_overs_at_once_one_is_done_and_nothing_is_lost() {
    let etcd = Etcd::start();
    let rig = Rig::new(6);
    let nodes = group(&rig, &etcd);
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    for _ in 0..4 {
        let from = primary_of(&nodes, &[0, 1, 2]);
        let before = nodes[from].cluster()["term"].as_u64().unwrap();
        let others: Vec<usize> = (0..3).filter(|index| *index != from).collect();
        let done = std::thread::scope(|scope| {
            let order = |to: &usize| {
                let (from, to) = (&nodes[from], &nodes[*to].name);
                scope.spawn(move || from.client(&["handover", to]).status.success())
            };
            let orders: Vec<_> = others.iter().map(order).collect();
            orders.into_iter().map(|order| order.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(done.iter().filter(|done| **done).count(), 1, "{done:?}");
        let to = others[usize::from(done[1])];
        assert_eq!(primary_of(&nodes, &[0, 1, 2]), to);
        assert_eq!(nodes[to].cluster()["term"], before + 1);
    }
    for node in &nodes {
        is_right(node, &dump);
    }
    let gaps: u64 = nodes.iter().map(|node| node.cluster()["counters"]["gaps"].as_u64().unwrap()).sum();
    assert_eq!(gaps, 0);
}

#[test]
fn a_successor_that_is_killed_within_its_hand_over_is_gone_and_the_group_goes_on() {
    let etcd = Etcd::start();
    let rig = Rig::new(7);
    let nodes = group(&rig, &etcd);
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    for node in &nodes {
        is_right(node, &dump);
    }
    let from = primary_of(&nodes, &[0, 1, 2]);
    let (to, other) = ((from + 1) % 3, (from + 2) % 3);
    let mapping = RegionMapping::open(&nodes[other].region).unwrap();
    let mut follower = Follower::new(&mapping);
    let before = nodes[from].cluster()["term"].as_u64().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| nodes[from].client(&["handover", &nodes[to].name]));
        // From then on it is between the steps, or just behind them.
        etcd.wait_value("tickplane/g/leader", &nodes[to].name);
        nodes[to].pause(Signal::KILL);
    });
    let left = [from, other];
    let primary = primary_of(&nodes, &left);
    assert!(nodes[primary].cluster()["term"].as_u64().unwrap() >= before + 2);
    let later = rig.dump("later.jsonl");
    let _exchange = rig.exchange("TWO", &later);
    for index in left {
        is_right(&nodes[index], &later);
    }
    follower.follow();
    assert!(follower.ticks.len() > 5_000, "{}", follower.ticks.len());
}

#[test]
fn a_node_that_joined_late_goes_last_but_leads_where_it_is_told_to() {
    let etcd = Etcd::start();
    let rig = Rig::new(5);
    let mut nodes = group(&rig, &etcd);
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    for node in &nodes {
        is_right(node, &dump);
    }
    let first = primary_of(&nodes, &[0, 1, 2]);
    let late = (first + 1) % 3;
    nodes[late].kill();
    let name = nodes[late].name.clone();
    nodes[late] = start(&rig, &etcd, &name);
    primary_of(&nodes, &[0, 1, 2]);
    nodes[first].kill();
    let whole = (first + 2) % 3;
    assert_eq!(
        primary_of(&nodes, &[late, whole]),
        whole,
        "the one that has seen the session's beginning leads"
    );
    assert_eq!(nodes[whole].cluster()["counters"]["gaps"], 0);
    is_right(&nodes[whole], &dump);
    assert!(nodes[whole].obeys(&["handover", &name]).contains("is the primary"));
    assert_eq!(primary_of(&nodes, &[late, whole]), late);
    assert_eq!(nodes[late].cluster()["counters"]["gaps"], 1, "it can't prove what was before it came");
}
