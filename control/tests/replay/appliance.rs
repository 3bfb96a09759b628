//! The command itself: into a running appliance, and stopped by a signal.

use super::process::{Process, start_appliance, tickplane};
use super::rig::{PATIENCE, Rig, frame, group, pcap};
use dataplane::sim::exchange::{Config, Exchange};
use dataplane::sim::packetizer::Moldudp64Packetizer;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// 2024-01-02 in New York.
const MIDNIGHT_NS: u64 = 1_704_171_600_000_000_000;
const NS_PER_HOUR: u64 = 3_600_000_000_000;
const MESSAGES: u64 = 2_000;

/// An exchange's packets, each on both lines.
fn session(lines: [SocketAddrV4; 2]) -> Vec<Vec<u8>> {
    let config = Config {
        seed: 3,
        instruments: 40,
        midnight_unix_ns: MIDNIGHT_NS,
        start_ns: 9 * NS_PER_HOUR,
        message_interval_ns: 10_000,
        ..Config::default()
    };
    let mut exchange = Exchange::new(config);
    let mut packetizer = Moldudp64Packetizer::new("REPLAYED", 1_400);
    let (mut frames, mut packet) = (Vec::new(), Vec::new());
    while packetizer.sequence_next() <= MESSAGES {
        packetizer.fill(&mut exchange, 16, &mut packet);
        frames.extend(lines.map(|line| frame(line, &packet)));
    }
    packetizer.heartbeat(&mut packet);
    frames.extend(lines.map(|line| frame(line, &packet)));
    frames
}

/// Starts an appliance on these lines and returns where it serves.
fn start(folder: &Path, lines: [SocketAddrV4; 2]) -> (Process, String) {
    let region = folder.join("region");
    let text = format!(
        "node = \"test\"\n[region]\npath = {region:?}\ninstruments_max = 1000\nlog_ticks = 65536\n\
         [[ports]]\nname = \"lo\"\nkind = \"udp\"\ninterface = \"127.0.0.1\"\n\
         [[feeds]]\nname = \"nasdaq\"\nprotocol = \"itch50\"\ndate = \"2024-01-02\"\norders_max = 100000\n\
         silence_ms = 3000000\ngap_timeout_us = 60000000\n\
         [[feeds.lines]]\nname = \"A\"\nport = \"lo\"\ngroup = \"{}\"\n\
         [[feeds.lines]]\nname = \"B\"\nport = \"lo\"\ngroup = \"{}\"\n[grpc]\nlisten = \"127.0.0.1:0\"\n",
        lines[0], lines[1]
    );
    start_appliance(folder, &text)
}

/// The rows that a command prints, by name.
fn rows(arguments: &[&str]) -> Vec<Value> {
    let output = tickplane().args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut rows: Vec<Value> = rows.filter(|row| row.get("instrument").is_some()).collect();
    rows.sort_by_key(|row| row["instrument"].as_str().unwrap().to_owned());
    rows
}

#[test]
fn an_appliance_makes_of_a_replay_what_decode_makes_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("session.pcap");
    // The capture's own groups are nobody's.
    let recorded = [group(), group()];
    std::fs::write(&file, pcap(&session(recorded))).unwrap();
    let file = file.to_str().unwrap();
    let decoded = rows(&["decode", file, "--feed", "itch50", "--date", "2024-01-02"]);
    assert_eq!(decoded.len(), 40);
    assert!(decoded.iter().all(|row| row["state"] == "live"), "{decoded:?}");
    assert!(decoded.iter().any(|row| row["bid_price"].is_string() && row["last_price"].is_string()));

    let lines = [group(), group()];
    let (_appliance, server) = start(folder.path(), lines);
    let to = format!("{},{}", lines[0], lines[1]);
    // What line A loses line B has.
    let options =
        ["--rate", "500", "--to", &to, "--drop", "A=20%", "--dup", "B=20%", "--reorder", "5%", "--json"];
    let replay = tickplane().args(["replay", file, "--quiet"]).args(options).output().unwrap();
    assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
    let summary: Value = serde_json::from_slice(&replay.stdout).unwrap();
    let [a, b] = [0, 1].map(|line| &summary["lines"][line]);
    assert_eq!(
        (a["to"].as_str(), b["to"].as_str()),
        to.split_once(',').map(|(a, b)| (Some(a), Some(b))).unwrap()
    );
    assert!(a["dropped"].as_u64().unwrap() > 0 && b["dropped"] == 0 && b["duplicated"].as_u64().unwrap() > 0);
    assert_eq!(summary["packets"], a["packets"].as_u64().unwrap() + b["packets"].as_u64().unwrap());

    let started = Instant::now();
    let mut served = rows(&["get", "*", "--server", &server]);
    while served != decoded && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
        served = rows(&["get", "*", "--server", &server]);
    }
    assert_eq!(served, decoded);
}

#[test]
fn a_signal_ends_it_with_its_summary() {
    let rig = Rig::new(20);
    let mut child = tickplane()
        .arg("replay")
        .arg(&rig.file)
        .args(["--loop", "0", "--rate", "1000", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    rig.port.wait(PATIENCE);
    // Progress comes once a second.
    let mut progress = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = progress.next().unwrap();
    assert!(line.contains("packets") && line.contains("/s"), "{line}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    progress.for_each(drop);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["stopped"], &summary["pace"]["by"]), (&true.into(), &"rate".into()));
    assert!(summary["packets"].as_u64().unwrap() > 0 && summary["late"]["p99_ns"].is_u64());
}

#[test]
fn what_can_not_be_done_is_an_error() {
    let rig = Rig::new(1);
    for (options, expected) in [
        (&["--interface", "nowhere0"][..], "nowhere0"),
        (&["--speed", "2", "--rate", "5"], "cannot be used with"),
        (&["--line", "239.0.0.1:1"], "not_selected"),
    ] {
        let output = tickplane().arg("replay").arg(&rig.file).args(options).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(expected), "{error}");
    }
}
