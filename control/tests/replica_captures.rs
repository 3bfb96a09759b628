//! Recorded days into a group whose primary hands over in their midst: every node has the recordings' known answers in the end.

mod answers {
    #[path = "../../../dataplane/tests/capture/mod.rs"]
    pub mod capture;
    pub mod mdp3;
}
mod group;
mod process;

use answers::capture::capture;
use answers::mdp3;
use control::client::get::list;
use control::client::{ServerArgs, block_on};
use control::row::Row;
use group::{Node, Rig, compare};
use process::{Process, tickplane, wait_for};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

const QUIET: &str = "silence_ms = 3000000\ngap_timeout_us = 60000000";

/// Sends a recording's first packets to the rig's lines.
fn play(rig: &Rig, file: &Path, packets: u64) -> Process {
    let mut command = tickplane();
    command.arg("replay").arg(file).args(["--interface", "127.0.0.1", "--rate", "2000", "--quiet"]);
    command.args(rig.groups.iter().take(rig.feed.1).flat_map(|group| ["--to", group]));
    command.args(["--packets", &packets.to_string()]);
    Process(command.stdout(Stdio::null()).spawn().unwrap())
}

/// A primary, a hot standby and a copy take a recording in; the primary hands over as soon as ticks flow.
fn nodes_after(rig: &Rig, file: &Path, packets: u64) -> Vec<Node> {
    let mut nodes = rig.group(&["a", "b"]);
    let at = |node: &Node| format!("{{ name = {:?}, address = {:?} }}", node.name, node.replica());
    let peers = format!("peers = [{}, {}]", at(&nodes[0]), at(&nodes[1]));
    for node in &nodes {
        node.obeys(&["peer", "add", "c"]);
    }
    nodes.push(rig.start("c", group::LOG_TICKS, &format!("role = \"standby\"\n{peers}")));
    nodes[2].wait_cluster("the copy is level", |seen| seen["level"] == true);
    let mut replay = play(rig, file, packets);
    nodes[1].wait_cluster("ticks come", |seen| seen["source"]["counters"]["ticks"].as_u64() > Some(500));
    nodes[0].obeys(&["handover", "b"]);
    assert!(replay.0.try_wait().unwrap().is_none(), "the recording is not at its end yet");
    assert!(wait_for("the recording ends", || replay.0.try_wait().unwrap()).success());
    for (index, node) in nodes.iter().enumerate() {
        let seen = node.wait_cluster("all nodes are level", |seen| seen["level"] == true);
        assert_eq!(seen["counters"]["gaps"], 0, "{seen}");
        assert_eq!(seen["role"], if index == 1 { "primary" } else { "standby" });
    }
    for index in [0, 2] {
        let (rows, _) = wait_for("the regions are the same", || compare(&nodes[1], &nodes[index]));
        assert!(rows > 50, "{rows}");
    }
    nodes
}

#[test]
fn a_cme_channel_has_its_known_tops_on_every_node() {
    let Some(file) = capture(mdp3::CAPTURE) else { return };
    let rig = Rig { feed: ("mdp3", 2, QUIET), ..Rig::new(0) };
    for node in nodes_after(&rig, &file, 10_000) {
        let rows = |node: &Node| {
            let server = ServerArgs::at(&node.server);
            let instruments = block_on(async { list(server.connect().await?, "*").await }).unwrap();
            let row = |instrument: control::proto::Instrument| {
                let row = serde_json::to_value(Row::from(&instrument)).unwrap();
                (instrument.symbol, row)
            };
            instruments.into_iter().map(row).collect::<std::collections::BTreeMap<String, Value>>()
        };
        mdp3::compare_all(&rows(&node).into_iter().collect(), &mdp3::answer(&file));
    }
}

#[test]
fn an_iex_day_is_the_same_on_every_node() {
    let Some(file) = capture("iex/tops16.pcapng.gz") else { return };
    let rig = Rig { feed: ("tops16", 1, QUIET), ..Rig::new(1) };
    nodes_after(&rig, &file, 10_000);
}
