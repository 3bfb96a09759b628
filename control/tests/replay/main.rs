//! `tickplane replay`, onto loopback, to the kernel-UDP port, and as frames onto a veth pair: what arrives is what the
//! capture holds. And a running appliance makes of it what `decode` does.

mod appliance;
#[path = "../process/mod.rs"]
mod process;
mod rig;
mod veth;

use control::replay::{ReplayError, run};
use dataplane::port::Port;
use rig::{PATIENCE, Rig, STEP_NS, frame, group, listen, pcap, receive};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn what_arrives_is_what_was_recorded_at_every_pace() {
    let mut rig = Rig::new(60);
    for pace in [
        "",
        "--pace original",
        "--speed 2.5",
        "--rate 20000",
        "--mbps 50",
        "--flat-out",
        "--flat-out --no-gso",
    ] {
        let summary = rig.run(pace).unwrap();
        assert_eq!(summary.packets, 120);
        assert_eq!(rig.receive(120), rig.payloads, "{pace}");
        let not_sent: Vec<_> = summary.not_sent.into_iter().collect();
        assert_eq!(not_sent, [("arp", 1), ("ethernet_short", 1), ("not_multicast", 1)]);
        assert_eq!((summary.frames, summary.other_frames, summary.stopped), (123, 0, false));
        let sent = rig.payloads.iter().flatten().map(|payload| payload.len() as u64).sum::<u64>();
        assert_eq!(summary.bytes, sent);
        let is_paced = !pace.contains("--flat-out");
        assert_eq!(summary.lateness.map_or(0, |lateness| lateness.len()), if is_paced { 120 } else { 0 });
        // Nothing goes before its time.
        assert!(summary.duration_ns >= summary.planned_ns);
        let planned_ns = match pace {
            "" | "--pace original" => 122 * STEP_NS,
            "--speed 2.5" => 122 * STEP_NS * 2 / 5,
            "--rate 20000" => 119 * 50_000,
            "--mbps 50" => summary.planned_ns,
            _ => 0,
        };
        assert_eq!(summary.planned_ns, planned_ns, "{pace}");
        if summary.warnings.is_empty() {
            assert_eq!(summary.segments > 0, pace == "--flat-out", "{pace}");
        }
    }
}

#[test]
fn lines_go_to_other_groups_and_only_some_of_them() {
    let rig = Rig::new(20);
    let [a, b] = rig.groups;
    let others = [group(), group()];
    let mut port = listen(&others);
    let [of_a, of_b] = &rig.payloads;
    let count = of_a.len() + of_b.len();
    // Line A is that of the first packet.
    rig.run(&format!("--flat-out --to {},{}", others[1], others[0])).unwrap();
    assert_eq!(receive(&mut port, &others, count), [of_b.clone(), of_a.clone()]);
    rig.run(&format!("--flat-out --map {b}={} --map A={}", others[1], others[0])).unwrap();
    assert_eq!(receive(&mut port, &others, count), [of_a.clone(), of_b.clone()]);
    let summary = rig.run(&format!("--flat-out --line {b} --to {}", others[0])).unwrap();
    assert_eq!(receive(&mut port, &others, of_b.len()), [of_b.clone(), Vec::new()]);
    assert_eq!(summary.not_sent["not_selected"], of_a.len() as u64 + 1);
    let summary = rig.run(&format!("--flat-out --to {}", others[0])).unwrap();
    assert_eq!(receive(&mut port, &others, of_a.len()), [of_a.clone(), Vec::new()]);
    assert_eq!(summary.not_sent["no_target"], of_b.len() as u64);
    assert_eq!(port.rx_burst(), 0);
    let error = rig.run(&format!("--line {a} --line {b} --to {}", others[0])).unwrap_err();
    assert!(matches!(error, ReplayError::Targets { lines: 2, targets: 1 }));
}

#[test]
fn a_seed_repeats_what_was_lost_doubled_and_overtaken() {
    let mut rig = Rig::new(100);
    let rough = "--flat-out --drop 30%,0.4 --dup B=30% --reorder 0.3";
    let mut replay = |options: &str| {
        let summary = rig.run(&format!("{rough} {options}")).unwrap();
        (rig.receive(summary.packets), summary)
    };
    let (first, summary) = replay("--seed 5");
    for (line, got) in summary.lines.iter().zip(&first) {
        let counters = line.counters;
        assert_eq!(line.sent, counters.packets - counters.lost + counters.duplicated);
        assert_eq!(line.sent, got.len() as u64);
        assert!(counters.lost > 0 && counters.reordered > 0);
    }
    assert_eq!(summary.lines[0].counters.duplicated, 0);
    assert!(summary.lines[1].counters.duplicated > 0);
    assert_eq!(replay("--seed 5").0, first);
    assert_ne!(replay("--seed 6").0, first);
    assert!(!first[0].is_sorted_by_key(|payload| payload[0]), "out of order");
}

#[test]
fn a_file_is_sent_again_and_again_and_only_its_first_packets() {
    let mut rig = Rig::new(20);
    let whole = rig.payloads.clone().map(|payloads| vec![payloads; 3].concat());
    let summary = rig.run("--flat-out --loop 3").unwrap();
    assert_eq!(rig.receive(120), whole);
    assert_eq!(summary.not_sent["arp"], 3);
    let summary = rig.run("--loop 2 --rate 10000").unwrap();
    assert_eq!((summary.packets, summary.planned_ns), (80, 79 * 100_000));
    rig.receive(80);
    let summary = rig.run("--loop 2 --packets 3").unwrap();
    assert_eq!((summary.packets, summary.frames), (6, 6));
    // The second pass begins when the first one ends.
    assert_eq!(summary.planned_ns, 4 * STEP_NS);
    rig.receive(6);
}

#[test]
fn a_cut_file_is_sent_as_far_as_it_goes() {
    let mut rig = Rig::new(10);
    let whole = std::fs::read(&rig.file).unwrap();
    std::fs::write(&rig.file, &whole[..whole.len() - 5]).unwrap();
    let summary = rig.run("--flat-out --loop 2").unwrap();
    assert_eq!(summary.packets, 38);
    assert_eq!(summary.warnings.len(), 1, "{:?}", summary.warnings);
    assert!(summary.warnings[0].contains("was cut"));
    rig.receive(38);
}

#[test]
fn what_has_nothing_to_send_says_what_it_has() {
    let rig = Rig::new(0);
    std::fs::write(&rig.file, pcap(&[frame(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9), b"unicast")])).unwrap();
    let error = rig.run("--loop 0").unwrap_err().to_string();
    assert!(error.contains("not_multicast 1") && error.contains("--map"), "{error}");
    std::fs::write(&rig.file, b"not a capture at all").unwrap();
    assert!(matches!(rig.run(""), Err(ReplayError::Capture(_))));
    let error = rig.run("--interface nowhere0").unwrap_err().to_string();
    assert!(error.contains("neither a packet capture"), "{error}");
    // An ITCH file is one message; it has neither stamps nor frames.
    std::fs::write(&rig.file, [&[0, 12, b'S'][..], &[0; 11]].concat()).unwrap();
    assert!(matches!(rig.run(""), Err(ReplayError::NoStamps(_))));
    assert!(matches!(rig.run("--flat-out --frames"), Err(ReplayError::NoFrames(_))));
    let to = group();
    let mut port = listen(&[to]);
    rig.run(&format!("--flat-out --to {to}")).unwrap();
    assert_eq!(receive(&mut port, &[to; 2], 2)[0].iter().map(Vec::len).collect::<Vec<_>>(), [34, 20]);
}

#[test]
fn what_the_kernel_refuses_is_counted_and_the_rest_is_sent() {
    let mut rig = Rig::new(0);
    let nowhere = SocketAddrV4::new(*rig.groups[0].ip(), 0);
    let frames = [frame(nowhere, b"to no port"), frame(rig.groups[0], b"to a port")];
    std::fs::write(&rig.file, pcap(&frames)).unwrap();
    let summary = rig.run("--flat-out").unwrap();
    assert_eq!((summary.packets, summary.not_sent["refused"]), (1, 1));
    assert!(summary.warnings[0].contains("refused"), "{:?}", summary.warnings);
    assert_eq!(rig.receive(1)[0], [b"to a port"]);
    std::fs::write(&rig.file, pcap(&frames[..1])).unwrap();
    assert!(matches!(rig.run("--flat-out"), Err(ReplayError::Refused(_))));
}

#[test]
fn a_stop_ends_it_with_what_was_sent() {
    // Between packets, and while it waits for one that is due in a quarter of an hour.
    for options in ["--loop 0 --rate 2000", "--rate 0.001"] {
        let rig = Rig::new(20);
        let stop = AtomicBool::new(false);
        let args = rig.args(options);
        let summary = std::thread::scope(|scope| {
            let replay = scope.spawn(|| run(&args, &stop));
            rig.port.wait(PATIENCE);
            stop.store(true, Ordering::Relaxed);
            replay.join().unwrap().unwrap()
        });
        assert!(summary.stopped && summary.packets > 0);
        assert!(summary.packets == 1 || options.contains("--loop"));
    }
}
