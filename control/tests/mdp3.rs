//! `tickplane decode --feed mdp3` on captures with known answers: whole, on one line alone, and with packets taken out.

mod answers {
    #[path = "../../../dataplane/tests/capture/mod.rs"]
    pub mod capture;
    pub mod mdp3;
}

use answers::capture::capture;
use answers::mdp3::{CAPTURE, answer, compare, compare_all};
use dataplane::wire::datagram::{self, Parsed};
use dataplane::wire::mdp3::{Message, Packet, Report};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const BOTH_LINES: [[u8; 4]; 2] = [[224, 0, 31, 11], [224, 0, 32, 11]];

/// The rows by name, and the counters.
fn decode(file: &Path) -> (BTreeMap<String, Value>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickplane"));
    let output = command.arg("decode").arg(file).args(["--feed", "mdp3", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counters = lines.pop().expect("the last line holds the counters")["counters"].take();
    let named = lines.into_iter().map(|row| (row["instrument"].as_str().unwrap().to_owned(), row));
    (named.collect(), counters)
}

/// A pcapng file in parts: what is around the packets, and each packet's block with its line and payload.
struct Recording {
    file: PathBuf,
    head: Vec<u8>,
    packets: Vec<Recorded>,
}

struct Recorded {
    block: Vec<u8>,
    /// 0 = A, 1 = B.
    line: usize,
    sequence: u32,
    payload: Vec<u8>,
}

fn recording() -> Option<Recording> {
    let file = capture(CAPTURE)?;
    let bytes = std::fs::read(&file).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut head, mut packets) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        let block = bytes[at..at + word(at + 4)].to_vec();
        // An enhanced packet block: the frame is behind 28 bytes.
        if word(at) != 6 {
            head.extend_from_slice(&block);
        } else if let Ok(Parsed::Udp(datagram)) = datagram::parse(&bytes[at + 28..at + 28 + word(at + 20)]) {
            let line = BOTH_LINES.iter().position(|line| *line == datagram.destination.ip().octets());
            let payload = datagram.payload.to_vec();
            let sequence = Packet::parse(&payload).unwrap().header.sequence.get();
            packets.push(Recorded { block, line: line.expect("one of the lines"), sequence, payload });
        }
        at += word(at + 4);
    }
    assert_eq!(packets.len(), 10_000);
    Some(Recording { file, head, packets })
}

impl Recording {
    /// Decodes the packets that are kept.
    fn decode_kept(&self, keep: impl Fn(&Recorded) -> bool) -> (BTreeMap<String, Value>, Value) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kept.pcapng");
        let kept = self.packets.iter().filter(|packet| keep(packet));
        let blocks: Vec<u8> = kept.flat_map(|packet| packet.block.iter().copied()).collect();
        std::fs::write(&file, [&self.head[..], &blocks].concat()).unwrap();
        decode(&file)
    }
}

fn compare_whole(recording: &Recording, (rows, counters): &(BTreeMap<String, Value>, Value)) {
    compare_all(rows, &answer(&recording.file));
    assert_eq!((&counters["messages"], &counters["missing"]), (&5_000.into(), &0.into()));
    let done = ["actions", "others"].map(|name| counters[name].as_u64().unwrap());
    assert_eq!(done, [4_898 + 60, 179 + 99 + 57 + 6]);
    for name in ["unknown_types", "malformed", "report_gaps", "old_reports"] {
        assert_eq!(counters[name], 0, "{name}");
    }
    assert_eq!(counters["statuses_unmatched"], 99, "groups of which no definition was seen");
}

#[test]
fn a_capture_has_its_known_tops_by_either_line_and_by_both() {
    let Some(recording) = recording() else { return };
    compare_whole(&recording, &decode(&recording.file));
    for line in [0, 1] {
        compare_whole(&recording, &recording.decode_kept(|packet| packet.line == line));
    }
}

#[test]
fn what_one_line_loses_the_other_one_brings() {
    let Some(recording) = recording() else { return };
    // Every packet is lost on one line at most.
    let lost = |packet: &Recorded| packet.sequence % 7 == if packet.line == 0 { 0 } else { 3 };
    let last = recording.packets.iter().map(|packet| packet.sequence).max().unwrap();
    let decoded = recording.decode_kept(|packet| !lost(packet) || packet.sequence > last - 8);
    compare_whole(&recording, &decoded);
}

/// The instruments of which a packet reports, with the numbers.
fn reports(payload: &[u8]) -> Vec<(i32, u32)> {
    let mut reports = Vec::new();
    for message in Packet::parse(payload).unwrap().messages() {
        macro_rules! of {
            ($($kind:ident),*) => { match Message::parse(message.unwrap()).unwrap() {
                $(Message::$kind(message) => {
                    reports.extend(message.entries.iter().map(|entry| (entry.security_id(), entry.rpt_seq())));
                })*
                _ => {}
            } };
        }
        of!(Book, TradeSummary, SessionStatistics, Volume);
    }
    reports
}

#[test]
fn what_both_lines_lose_makes_suspect_what_it_touched_and_what_is_not_proven() {
    let Some(recording) = recording() else { return };
    let answer = answer(&recording.file);
    let line_a: Vec<&Recorded> = recording.packets.iter().filter(|packet| packet.line == 0).collect();
    let (mut suspects, mut partials) = (0, 0);
    for at in [40, 700, 1_900, 3_100, 4_400, 4_990] {
        let dropped = line_a[at].sequence;
        let (rows, counters) = recording.decode_kept(|packet| packet.sequence != dropped);
        assert_eq!((&counters["gaps"], &counters["missing"]), (&1.into(), &1.into()));
        let ids = |packets: &[&Recorded]| -> BTreeSet<i32> {
            packets.iter().flat_map(|packet| reports(&packet.payload)).map(|(id, _)| id).collect()
        };
        let touched = ids(&line_a[at..=at]);
        assert!(!touched.is_empty());
        let (before, after) = (ids(&line_a[..at]), ids(&line_a[at + 1..]));
        for (name, row) in &rows {
            let id: i32 = name.parse().unwrap();
            // Of what was first heard of behind the loss it is not known what the loss held.
            let proven = before.contains(&id) && after.contains(&id) && !touched.contains(&id);
            assert_eq!(row["state"], if proven { "partial" } else { "suspect" }, "{name} without {dropped}");
            if proven {
                compare(row, &answer[name]);
            }
            *if proven { &mut partials } else { &mut suspects } += 1;
        }
        let broken = touched.intersection(&before).filter(|id| after.contains(id)).count();
        assert_eq!(counters["report_gaps"], broken);
    }
    assert!(suspects > 20 && partials > 20, "{suspects} {partials}");
}

#[test]
fn a_capture_of_many_channels_is_borne() {
    let Some(file) = capture("cme/mdp3-schema9-mixed.pcap") else { return };
    let (_, counters) = decode(&file);
    assert_eq!(counters["packets"], 100);
    let lines = counters["lines"].as_array().unwrap();
    assert!(!lines.is_empty() && counters["messages"].as_u64().unwrap() > 0, "{counters}");
    for cut in [1_000, 20_001, 51_593] {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("part.pcap");
        std::fs::write(&part, &std::fs::read(&file).unwrap()[..cut]).unwrap();
        assert!(decode(&part).1["packets"].as_u64().unwrap() < 100);
    }
}
