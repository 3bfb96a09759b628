//! A group whose ticks go by RDMA: run where RDMA devices are (scripts/test-rdma), else skipped.

mod group;
mod process;

use group::{LOG_TICKS, Rig, compare, peer};
use process::wait_for;

/// The devices of the first and of the second node; `None` = they are not here, and nobody said that they would be.
fn devices() -> Option<[String; 2]> {
    if std::env::var_os("TICKPLANE_TEST_RDMA").is_none() {
        eprintln!("skipped: scripts/test-rdma runs this where RDMA devices are");
        return None;
    }
    let names = std::env::var("RDMA_DEVICE").unwrap_or_else(|_| "rxe0,rxe1".to_owned());
    let (first, second) = names.split_once(',').unwrap_or((&names, &names));
    Some([first.to_owned(), second.to_owned()])
}

#[test]
fn nodes_with_devices_replicate_by_rdma_and_hand_over_and_one_without_goes_by_tcp() {
    let Some([first, second]) = devices() else { return };
    let rig = Rig::new(0);
    let rdma = |device: &str| format!("[replica.rdma]\ndevice = \"{device}\"");
    let peers = "peers = [{ name = \"b\" }, { name = \"c\" }]";
    let listen = "listen = \"127.0.0.1:0\"\nvalid_for_ms = 2000";
    let a = rig.start("a", LOG_TICKS, &format!("role = \"primary\"\n{listen}\n{peers}\n{}", rdma(&first)));
    let at_a = format!("peers = [{{ name = \"a\", address = {:?} }}]", a.replica());
    let b = rig.start("b", LOG_TICKS, &format!("role = \"standby\"\n{listen}\n{at_a}\n{}", rdma(&second)));
    let c = rig.start("c", LOG_TICKS, &format!("role = \"standby\"\n{at_a}"));
    a.obeys(&["peer", "add", "b", b.replica()]);
    b.obeys(&["peer", "add", "c"]);
    c.obeys(&["peer", "add", "b", b.replica()]);
    let links = |primary: &group::Node, by_rdma: &str, by_tcp: &str| {
        primary.wait_cluster("both are level, each by its own link", |seen| {
            let is = |name: &str, link: &str| {
                let peer = peer(seen, name);
                peer["level"] == true && peer["link"] == link
            };
            is(by_rdma, "rdma") && is(by_tcp, "tcp")
        });
    };
    links(&a, "b", "c");
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    b.wait_cluster("ticks come", |seen| seen["source"]["counters"]["ticks"].as_u64() > Some(500));
    assert!(a.obeys(&["handover", "b"]).contains("b is the primary; term 2"));
    links(&b, "a", "c");
    for node in [&a, &b, &c] {
        wait_for("the node is the exchange's book", || node.is_right(&dump).then_some(()));
    }
    for node in [&a, &c] {
        assert!(wait_for("the regions are the same", || compare(&b, node)).0 >= 100);
    }
    let seen = a.cluster();
    assert_eq!((&seen["role"], &seen["source"]["link"]), (&"standby".into(), &"rdma".into()), "{seen}");
}
