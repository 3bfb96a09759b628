//! The client libraries: in Rust over a failover, and in Python.

mod group;
mod process;

use group::Rig;
use process::{Process, wait_for};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use tickplane_client::proto::{ImageReason, Notice};
use tickplane_client::{Client, Event};

#[tokio::test]
async fn a_rust_client_goes_on_at_another_node_with_each_tick_once_and_in_order() {
    let rig = Rig::new(0);
    let mut nodes = rig.group(&["a", "b", "c"]);
    let dump = rig.dump("book.jsonl");
    let client = Client::new(nodes.iter().map(|node| node.server.clone())).unwrap();
    let mut events = client.subscribe(["*"]).every_tick();
    assert!(matches!(events.next().await.unwrap(), Event::Image { reason: ImageReason::First, .. }));
    let _exchange = rig.exchange("ONE", &dump);
    let (mut positions, mut resumed) = (Vec::new(), false);
    let mut lost = false;
    while !(resumed && positions.len() > 4_000) {
        match events.next().await.unwrap() {
            Event::Tick(tick) => positions.push(tick.position()),
            Event::Lost { .. } => lost = true,
            Event::Notice(Notice::Resumed) => resumed = lost,
            Event::Image { reason, .. } => panic!("it begins anew: {reason:?}"),
            _ => {}
        }
        if positions.len() >= 1_000 && nodes[0].process.0.try_wait().unwrap().is_none() && !lost {
            nodes[0].kill();
            nodes[1].wait_cluster("the loss is told", |seen| seen["source"]["connected"] == false);
            assert!(nodes[1].obeys(&["promote"]).contains("the node is the primary"));
        }
    }
    let (first, last) = (positions[0], *positions.last().unwrap());
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "once, and in order");
    assert_eq!(positions, nodes[1].rows_between(first, last), "nothing is missing");
}

#[test]
fn a_python_client_sees_each_tick_once_and_in_order() {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("client/python");
    let python = "/usr/bin/python3";
    let has_grpc = Command::new(python).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
    if !has_grpc.is_ok_and(|status| status.success()) || !Path::new("/usr/bin/grpc_python_plugin").exists() {
        assert!(std::env::var_os("TICKPLANE_TEST_ROOT").is_none(), "scripts/test installs it");
        eprintln!("left out: Python's grpcio or its protoc plugin is not here");
        return;
    }
    let rig = Rig::new(1);
    let nodes = rig.group(&["a"]);
    let mut stubs = Command::new("make");
    stubs.arg("-C").arg(&client).arg("stubs").arg(format!("OUT={}", rig.folder.path().display()));
    let stubs = stubs.output().unwrap();
    assert!(stubs.status.success(), "{}", String::from_utf8_lossy(&stubs.stderr));
    let printed = rig.dump("printed");
    let mut follow = Command::new(python);
    follow.arg(client.join("follow.py")).arg(nodes[0].server.trim_start_matches("http://")).arg("*");
    follow.env("PYTHONPATH", rig.folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    let _follow = Process(follow.stdout(File::create(&printed).unwrap()).spawn().unwrap());
    let lines = || std::fs::read_to_string(&printed).unwrap();
    wait_for("the image is printed", || lines().contains("# IMAGE_REASON_FIRST").then_some(()));
    let _exchange = rig.exchange("ONE", &rig.dump("book.jsonl"));
    wait_for("ticks are printed", || (lines().lines().count() > 1_000).then_some(()));
    let text = lines();
    let whole = &text[..text.rfind('\n').unwrap()];
    let rows = whole.lines().filter(|line| !line.starts_with('#'));
    let positions: Vec<u64> = rows.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(positions, nodes[0].rows_between(positions[0], *positions.last().unwrap()));
    assert!(whole.lines().any(|line| line.contains(" quote live ") && line.contains(" x ")), "{whole}");
}
