//! A primary that is cut off by the network: three nodes, etcd and an exchange, each in a network namespace of its own. Needs root,
//! and TICKPLANE_TEST_ROOT=1.

mod etcd;
mod group;
mod process;

use drivers::region::RegionMapping;
use etcd::Etcd;
use group::log::Follower;
use group::{Node, Rig, compare, is_right, primary_of};
use process::wait_for;
use std::process::Command;

const NAMES: [&str; 3] = ["a", "b", "c"];
const INSTRUMENTS: usize = 50;
const ETCD: &str = "10.93.0.1";
/// No interface has it.
const NOWHERE: &str = "02:00:00:00:00:99";

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn address(name: &str) -> &'static str {
    match name {
        "net" => ETCD,
        "a" => "10.93.0.11",
        "b" => "10.93.0.12",
        "c" => "10.93.0.13",
        _ => "10.93.0.2",
    }
}

/// What does not get through any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Anything, and the feed neither.
    Link,
    /// What the node sends to etcd and its peers.
    Out,
    /// What etcd and its peers send to the node.
    In,
    /// Anything between the node and its peers; etcd is reached.
    Peers,
}

/// Namespaces, joined by a bridge in one of them, which is etcd's, too; all of them go when it is dropped.
struct Net {
    prefix: String,
}

impl Net {
    /// `None` where tests may not do that.
    fn lay(name: &str) -> Option<Net> {
        if std::env::var_os("TICKPLANE_TEST_ROOT").is_none_or(|value| value != "1") {
            eprintln!("skipped: laying a network needs root, and TICKPLANE_TEST_ROOT=1");
            return None;
        }
        let net = Net { prefix: format!("tpc{}{name}-", std::process::id()) };
        let hub = net.netns("net");
        ip(&["netns", "add", &hub]);
        ip(&["-n", &hub, "link", "set", "lo", "up"]);
        ip(&["-n", &hub, "link", "add", "eth0", "type", "bridge", "mcast_snooping", "0"]);
        ip(&["-n", &hub, "link", "set", "eth0", "up"]);
        ip(&["-n", &hub, "address", "add", &format!("{ETCD}/24"), "dev", "eth0"]);
        for name in NAMES.into_iter().chain(["exchange"]) {
            let own = net.netns(name);
            ip(&["netns", "add", &own]);
            let port = &format!("to-{name}");
            ip(&["-n", &hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", &own]);
            ip(&["-n", &hub, "link", "set", port, "master", "eth0", "up"]);
            ip(&["-n", &own, "link", "set", "lo", "up"]);
            ip(&["-n", &own, "link", "set", "eth0", "up"]);
            ip(&["-n", &own, "address", "add", &format!("{}/24", address(name)), "dev", "eth0"]);
            ip(&["-n", &own, "route", "add", "224.0.0.0/4", "dev", "eth0"]);
        }
        Some(net)
    }

    fn netns(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What one sends to another is lost, silently, or gets through again.
    fn lose(&self, from: &str, to: &str, is_lost: bool) {
        let from = self.netns(from);
        let neighbour = ["dev", "eth0", "lladdr", NOWHERE, "nud", "permanent"];
        match is_lost {
            true => ip(&[&["-n", &from, "neighbour", "replace", address(to)], &neighbour[..]].concat()),
            false => ip(&["-n", &from, "neighbour", "delete", address(to), "dev", "eth0"]),
        }
    }

    fn cut(&self, cut: Cut, node: &str, is_cut: bool) {
        if cut == Cut::Link {
            let state = if is_cut { "down" } else { "up" };
            return ip(&["-n", &self.netns("net"), "link", "set", &format!("to-{node}"), state]);
        }
        let peers = NAMES.into_iter().filter(|peer| *peer != node);
        for other in peers.chain((cut != Cut::Peers).then_some("net")) {
            if cut != Cut::In {
                self.lose(node, other, is_cut);
            }
            if cut != Cut::Out {
                self.lose(other, node, is_cut);
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in NAMES.into_iter().chain(["exchange", "net"]) {
            let _ = Command::new("ip").args(["netns", "delete", &self.netns(name)]).output();
        }
    }
}

/// Rows that the node serves as live, and all that it serves.
fn served(node: &Node) -> (usize, usize) {
    let output = node.client(&["get", "--json", "*"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let states: Vec<_> =
        rows.map(|row| row["state"].as_str().expect("a row has a state").to_owned()).collect();
    (states.iter().filter(|state| *state == "live").count(), states.len())
}

struct Group {
    // Nodes end before their network.
    nodes: Vec<Node>,
    rig: Rig,
    _etcd: Etcd,
    net: Net,
}

impl Group {
    fn start(name: &str, number: u32) -> Option<Group> {
        let net = Net::lay(name)?;
        let etcd = Etcd::start_in(&net.netns("net"), ETCD);
        let mut rig = Rig::new(number);
        rig.netns = Some(net.prefix.clone());
        let start = |name: &&str| {
            rig.elected(name, &NAMES, &format!("{}:7400", address(name)), &etcd.endpoint(), "lease_ttl_s = 2")
        };
        let nodes: Vec<Node> = NAMES.iter().map(start).collect();
        Some(Group { nodes, rig, _etcd: etcd, net })
    }

    /// The primary, and the others.
    fn roles(&self) -> (usize, [usize; 2]) {
        let first = primary_of(&self.nodes, &[0, 1, 2]);
        (first, [(first + 1) % 3, (first + 2) % 3])
    }

    fn wait_served(&self, what: &str, index: usize, live: usize) {
        wait_for(what, || (served(&self.nodes[index]) == (live, INSTRUMENTS)).then_some(()));
    }

    fn gaps(&self, among: [usize; 2]) -> u64 {
        among.map(|index| self.nodes[index].cluster()["counters"]["gaps"].as_u64().unwrap()).iter().sum()
    }

    /// All have what the primary has, row for row.
    fn are_equal(&self) {
        let (primary, others) = self.roles();
        for other in others {
            let (rows, _) =
                wait_for("the regions are the same", || compare(&self.nodes[primary], &self.nodes[other]));
            assert!(rows >= 2 * INSTRUMENTS, "{rows}");
        }
    }
}

/// Another node leads, the one that is cut off is believed no more, and follows when the cut is mended.
fn the_primary_is_replaced(cut: Cut, number: u32) {
    let Some(group) = Group::start(&format!("{cut:?}"), number) else { return };
    let (first, others) = group.roles();
    let mapping = RegionMapping::open(&group.nodes[others[0]].region).unwrap();
    let mut follower = Follower::new(&mapping);
    let dump = group.rig.dump("book.jsonl");
    let _exchange = group.rig.exchange_at(2_000, "ONE", &dump);
    group.wait_served("the primary's rows are live", first, INSTRUMENTS);
    follower.follow();
    let (before, term) = (follower.position(), group.nodes[first].cluster()["term"].as_u64());
    assert!(!follower.ticks.is_empty());
    group.net.cut(cut, &group.nodes[first].name, true);
    let second = wait_for("another leads", || {
        others.into_iter().find(|index| group.nodes[*index].cluster()["role"] == "primary")
    });
    assert_eq!(served(&group.nodes[first]), (0, INSTRUMENTS), "when another leads, these rows are stale");
    assert!(group.nodes[second].cluster()["term"].as_u64() > term);
    others.iter().for_each(|index| is_right(&group.nodes[*index], &dump));
    assert_eq!(served(&group.nodes[first]), (0, INSTRUMENTS), "they stay so while it is cut off");
    follower.follow();
    let (gaps, restarts) = (follower.gaps(), &follower.restarts);
    // By ticks, or by an image behind them: one that began anew once the exchange had ended has all by that.
    let position = follower.position();
    assert!(
        position > before,
        "the log of one that was not cut off went on: {position}, {before}, {restarts:?}"
    );
    // What was declared before the log began anew is in none of its ticks.
    assert!(restarts.len() <= 1, "{restarts:?}");
    assert!(
        !restarts.is_empty() || (gaps > 0) == (group.gaps(others) > 0),
        "what the log says of gaps, the nodes say"
    );
    group.net.cut(cut, &group.nodes[first].name, false);
    let (primary, _) = group.roles();
    assert_ne!(primary, first);
    assert_eq!(group.nodes[first].cluster()["counters"]["demotions"], 1);
    is_right(&group.nodes[first], &dump);
    group.are_equal();
}

#[test]
fn a_primary_whose_link_is_down_is_replaced_and_follows_when_it_is_up() {
    the_primary_is_replaced(Cut::Link, 0);
}

#[test]
fn a_primary_that_hears_and_is_not_heard_is_replaced() {
    the_primary_is_replaced(Cut::Out, 1);
}

#[test]
fn a_primary_that_is_heard_and_hears_nothing_is_replaced() {
    the_primary_is_replaced(Cut::In, 2);
}

#[test]
fn a_primary_that_only_etcd_hears_stays_the_primary_and_nobody_believes_its_standbys() {
    let Some(group) = Group::start("Peers", 3) else { return };
    let (first, others) = group.roles();
    let mapping = RegionMapping::open(&group.nodes[others[0]].region).unwrap();
    let mut follower = Follower::new(&mapping);
    let dump = group.rig.dump("book.jsonl");
    let _exchange = group.rig.exchange_at(2_000, "ONE", &dump);
    others.iter().for_each(|index| group.wait_served("a standby's rows are live", *index, INSTRUMENTS));
    let term = group.nodes[first].cluster()["term"].clone();
    group.net.cut(Cut::Peers, &group.nodes[first].name, true);
    others.iter().for_each(|index| group.wait_served("a standby's rows are stale", *index, 0));
    let said = group.nodes[first].refuses(&["handover", &group.nodes[others[0]].name]);
    assert!(said.contains("is still the primary") || said.contains("not connected"), "{said}");
    is_right(&group.nodes[first], &dump);
    let seen = group.nodes[first].cluster();
    assert_eq!((&seen["role"], &seen["term"]), (&"primary".into(), &term));
    assert!(others.iter().all(|index| served(&group.nodes[*index]) == (0, INSTRUMENTS)));
    group.net.cut(Cut::Peers, &group.nodes[first].name, false);
    assert_eq!(group.roles().0, first);
    group.nodes.iter().for_each(|node| is_right(node, &dump));
    group.are_equal();
    follower.follow();
    assert!(follower.ticks.len() > 5_000, "{}", follower.ticks.len());
    assert_eq!((follower.gaps(), follower.restarts.len(), group.gaps(others)), (0, 0, 0));
}
