//! What operators make at one node of a group that elects in a real etcd: it is the same on all of them, whatever happens to one, or to
//! etcd.

mod etcd;
mod group;
mod process;

use control::audit;
use control::proto::{ManagedSubscription, QuotaLimits};
use control::store::{Changes, Object, Store};
use etcd::Etcd;
use group::{Node, Rig};
use process::wait_for;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn start(rig: &Rig, etcd: &Etcd, name: &str) -> Node {
    let store = rig.folder.path().join(name).join("store");
    let more = format!("lease_ttl_s = 1\n[store]\nfolder = {store:?}");
    rig.elected(name, &NAMES, "127.0.0.1:0", &etcd.endpoint(), &more)
}

/// Runs a command that etcd's absence may have refused until it is done.
fn obeys_soon(node: &Node, arguments: &[&str]) {
    wait_for(&format!("{arguments:?} is done"), || node.client(arguments).status.success().then_some(()));
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn records(node: &Node) -> Vec<Value> {
    lines(&node.obeys(&["audit", "--json", "--from", "1"]))
}

/// Calls a minute that a client has of its own, if it has.
fn quota(node: &Node, client: &str) -> Option<u64> {
    let shown = node.client(&["quota", "get", client, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
    (shown["is_own"] == true).then(|| shown["limits"]["requests_per_min"].as_u64()).flatten()
}

fn set(node: &Node, client: &str, requests: u64) -> std::process::Output {
    node.client(&["quota", "set", client, "--requests-per-min", &requests.to_string()])
}

/// Each subscription's id, client, revision, and whether it is paused.
fn subscriptions(node: &Node) -> Vec<[String; 4]> {
    let all = lines(&node.obeys(&["subscription", "list", "--json"]));
    all.iter().map(|one| ["id", "client", "revision", "paused"].map(|key| one[key].to_string())).collect()
}

/// Waits until these have the same records, at least so many, and the same subscriptions.
fn are_the_same(nodes: &[&Node], least: usize) -> Vec<Value> {
    wait_for("all have the same", || {
        let seen: Vec<_> = nodes.iter().map(|node| (records(node), subscriptions(node))).collect();
        let same = seen.iter().all(|one| *one == seen[0]) && seen[0].0.len() >= least;
        same.then(|| seen[0].0.clone())
    })
}

#[test]
fn what_is_made_at_one_node_holds_at_all_and_outlasts_that_node() {
    let etcd = Etcd::start();
    let rig = Rig::new(0);
    let mut nodes: Vec<Node> = NAMES.iter().map(|name| start(&rig, &etcd, name)).collect();
    obeys_soon(&nodes[0], &["quota", "set", "rob", "--requests-per-min", "600"]);
    obeys_soon(&nodes[1], &["subscription", "create", "desk", "A*", "--client", "rob"]);
    for node in &nodes {
        wait_for("the quota holds here", || (quota(node, "rob") == Some(600)).then_some(()));
        wait_for("the subscription is here", || (subscriptions(node).len() == 1).then_some(()));
    }
    // One after the other at different nodes, so that each must know of the one before.
    for (revision, node) in [2_u64, 3, 4].into_iter().zip([2, 0, 1]) {
        let action = if revision % 2 == 0 { "pause" } else { "resume" };
        wait_for("it knows of the change before", || {
            (subscriptions(&nodes[node])[0][2] == (revision - 1).to_string()).then_some(())
        });
        nodes[node].obeys(&["subscription", action, "desk"]);
    }
    nodes[0].kill();
    let left = [&nodes[1], &nodes[2]];
    for node in left {
        assert_eq!(quota(node, "rob"), Some(600));
    }
    assert!(set(&nodes[2], "bob", 7).status.success());
    nodes[2].obeys(&["quota", "reset", "rob"]);
    let known = are_the_same(&left, 7);
    // The one that was gone has what it missed.
    nodes[0] = start(&rig, &etcd, "a");
    wait_for("a knows what it missed", || {
        (quota(&nodes[0], "bob") == Some(7) && quota(&nodes[0], "rob").is_none()).then_some(())
    });
    assert_eq!(are_the_same(&[&nodes[0], &nodes[1], &nodes[2]], 7), known);
    let numbers: Vec<u64> = known.iter().map(|record| record["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=7).collect::<Vec<_>>());
    let at: Vec<&str> = known.iter().map(|record| record["node"].as_str().unwrap()).collect();
    assert_eq!(at, ["a", "b", "c", "a", "b", "c", "c"]);
}

#[test]
fn without_etcd_nothing_changes_and_a_node_starts_with_what_it_has() {
    let mut etcd = Etcd::start();
    let rig = Rig::new(1);
    let mut nodes: Vec<Node> = NAMES[..2].iter().map(|name| start(&rig, &etcd, name)).collect();
    obeys_soon(&nodes[0], &["quota", "set", "rob", "--requests-per-min", "600"]);
    obeys_soon(&nodes[1], &["subscription", "create", "desk", "A*"]);
    let before = are_the_same(&[&nodes[0], &nodes[1]], 2);
    etcd.process.0.kill().unwrap();
    etcd.process.0.wait().unwrap();
    wait_for("a node knows that etcd is gone", || {
        let refused = set(&nodes[0], "rob", 7);
        assert!(!refused.status.success());
        String::from_utf8_lossy(&refused.stderr).contains("all goes on as it is").then_some(())
    });
    for node in &nodes {
        for change in [&["quota", "reset", "rob"][..], &["subscription", "delete", "desk"]] {
            let refused = node.refuses(change);
            assert!(refused.contains("etcd") && refused.contains("[replica.etcd] endpoints"), "{refused}");
        }
    }
    assert_eq!(quota(&nodes[0], "rob"), Some(600));
    nodes[1].kill();
    nodes[1] = start(&rig, &etcd, "b");
    assert_eq!((quota(&nodes[1], "rob"), subscriptions(&nodes[1]).len()), (Some(600), 1));
    assert_eq!(records(&nodes[1]), before);
    etcd.restart();
    obeys_soon(&nodes[1], &["quota", "set", "rob", "--requests-per-min", "800"]);
    wait_for("a follows again", || (quota(&nodes[0], "rob") == Some(800)).then_some(()));
    let after = are_the_same(&[&nodes[0], &nodes[1]], 3);
    assert_eq!((&after[..2], after.len()), (&before[..], 3), "what was refused is nowhere");
}

#[test]
fn of_two_who_change_the_same_at_once_one_is_refused_and_of_two_things_both_are_changed() {
    let etcd = Etcd::start();
    let rig = Rig::new(2);
    let nodes: Vec<Node> = NAMES[..2].iter().map(|name| start(&rig, &etcd, name)).collect();
    for (node, client) in nodes.iter().zip(NAMES) {
        obeys_soon(node, &["quota", "set", client, "--requests-per-min", "1"]);
    }
    let both = |change: &(dyn Fn(usize) -> Vec<String> + Sync)| -> Vec<std::process::Output> {
        std::thread::scope(|scope| {
            let run = |index: usize| {
                let node = &nodes[index];
                scope.spawn(move || {
                    let arguments = change(index);
                    node.client(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
                })
            };
            let running = [run(0), run(1)];
            running.map(|run| run.join().unwrap()).into()
        })
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    const ROUNDS: usize = 10;
    let mut made = BTreeSet::new();
    for round in 0..ROUNDS {
        let id = format!("s{round}");
        let outputs = both(&|_| words(&["subscription", "create", &id, "A*"]));
        let done: Vec<usize> = (0..2).filter(|index| outputs[*index].status.success()).collect();
        assert_eq!(done.len(), 1, "{outputs:?}");
        let refused = String::from_utf8_lossy(&outputs[1 - done[0]].stderr).into_owned();
        assert!(refused.contains("Aborted") || refused.contains("AlreadyExists"), "{refused}");
        made.insert((id, NAMES[done[0]].to_owned()));
        let clients = ["one", "two"];
        let requests = (round + 1).to_string();
        let outputs =
            both(&|index| words(&["quota", "set", clients[index], "--requests-per-min", &requests]));
        assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    }
    let known = are_the_same(&[&nodes[0], &nodes[1]], 2 + 3 * ROUNDS);
    let numbers: Vec<u64> = known.iter().map(|record| record["number"].as_u64().unwrap()).collect();
    assert_eq!(
        numbers,
        (1..=2 + 3 * ROUNDS as u64).collect::<Vec<_>>(),
        "each has its own, and none is left out"
    );
    let text = |record: &Value, key: &str| record[key].as_str().unwrap().to_owned();
    let created = known.iter().filter(|record| record["action"] == "subscription.create");
    let created: BTreeSet<_> = created.map(|record| (text(record, "object"), text(record, "node"))).collect();
    assert_eq!(created, made, "who was told so made it");
    for node in &nodes {
        assert_eq!((quota(node, "one"), quota(node, "two")), (Some(ROUNDS as u64), Some(ROUNDS as u64)));
    }
}

#[test]
fn a_node_that_had_things_of_its_own_brings_what_the_group_has_not() {
    let etcd = Etcd::start();
    let rig = Rig::new(3);
    let first = start(&rig, &etcd, "a");
    obeys_soon(&first, &["quota", "set", "both", "--requests-per-min", "100"]);
    let folder = rig.folder.path().join("b").join("store");
    std::fs::create_dir_all(&folder).unwrap();
    let store = Store::open(&folder).unwrap();
    let limits = |requests| QuotaLimits { requests_per_min: Some(requests), ..QuotaLimits::default() };
    let own = ManagedSubscription { id: "own".to_owned(), revision: 3, ..ManagedSubscription::default() };
    let made =
        Changes::default().put(Object::Quota, "both", &limits(1)).put(Object::Subscription, "own", &own);
    for _ in 0..5 {
        store.change(&made, &audit::record_of("ann", 1, "quota.set", "both", String::new())).unwrap();
    }
    drop(store);
    let second = start(&rig, &etcd, "b");
    wait_for("the first has what the second brought", || (subscriptions(&first).len() == 1).then_some(()));
    wait_for("where both have one the group's holds", || (quota(&second, "both") == Some(100)).then_some(()));
    // Whatever is changed now is numbered behind what either has.
    second.obeys(&["subscription", "pause", "own"]);
    for node in [&first, &second] {
        let last = wait_for("the pause is recorded", || {
            records(node).pop().filter(|last| last["action"] == "subscription.pause")
        });
        assert_eq!(last["number"], 6);
    }
    let numbers = |node| records(node).iter().map(|one| one["number"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((numbers(&first), numbers(&second)), (vec![1, 6], vec![1, 2, 3, 4, 5, 6]));
    assert_eq!(subscriptions(&first), subscriptions(&second));
}

#[test]
fn while_etcd_hangs_nobody_waits_long_and_in_the_end_all_have_the_same() {
    let etcd = Etcd::start();
    let rig = Rig::new(4);
    let nodes: Vec<Node> = NAMES[..2].iter().map(|name| start(&rig, &etcd, name)).collect();
    obeys_soon(&nodes[0], &["quota", "set", "rob", "--requests-per-min", "600"]);
    obeys_soon(&nodes[1], &["quota", "set", "bob", "--requests-per-min", "600"]);
    etcd.process.signal(Signal::STOP);
    // The first may be on its way already; the others find that etcd is gone.
    let refused = set(&nodes[0], "rob", 1);
    assert!(!refused.status.success());
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.contains("it is not known whether") || refused.contains("all goes on as it is"),
        "{refused}"
    );
    wait_for("a node knows that etcd is gone", || {
        let refused = set(&nodes[0], "bob", 2);
        String::from_utf8_lossy(&refused.stderr).contains("all goes on as it is").then_some(())
    });
    assert_eq!((quota(&nodes[0], "rob"), quota(&nodes[1], "rob")), (Some(600), Some(600)));
    etcd.process.signal(Signal::CONT);
    obeys_soon(&nodes[1], &["quota", "set", "bob", "--requests-per-min", "3"]);
    wait_for("the other follows", || (quota(&nodes[0], "bob") == Some(3)).then_some(()));
    are_the_same(&[&nodes[0], &nodes[1]], 3);
    assert_eq!(quota(&nodes[0], "rob"), quota(&nodes[1], "rob"));
}

#[test]
fn a_client_that_is_made_at_one_node_may_call_at_all_and_its_deletion_holds_at_all() {
    let etcd = Etcd::start();
    let rig = Rig::new(3);
    let nodes: Vec<Node> = NAMES[..2].iter().map(|name| start(&rig, &etcd, name)).collect();
    let made = |node: &Node, arguments: &[&str]| {
        let arguments = [&["client", "create"], arguments, &["--json"]].concat();
        wait_for(&format!("{arguments:?} is done"), || {
            let output = node.client(&arguments);
            let told: Value = serde_json::from_slice(&output.stdout).ok()?;
            output.status.success().then(|| told["token"].as_str().unwrap().to_owned())
        })
    };
    let admin = made(&nodes[0], &["ann", "--role", "admin"]);
    let who =
        |node: &Node, token: &str| node.client(&["client", "whoami", "--token", token]).status.success();
    wait_for("the other node knows it", || who(&nodes[1], &admin).then_some(()));
    assert!(
        nodes[1].refuses(&["client", "list"]).contains("nobody said who calls"),
        "nobody is anonymous any more"
    );
    let reader = made(&nodes[1], &["rob", "--role", "reader", "--token", &admin]);
    wait_for("and the first knows the other's", || who(&nodes[0], &reader).then_some(()));
    nodes[0].obeys(&["client", "delete", "rob", "--token", &admin]);
    wait_for("it is nobody's token any more", || (!who(&nodes[1], &reader)).then_some(()));
    assert!(!who(&nodes[0], &reader) && who(&nodes[1], &admin));
}
