//! `tickplane decode` as it is used: on what the exchange itself recorded, and on captures with known answers.

mod answers {
    #[path = "../../../dataplane/tests/capture/mod.rs"]
    pub mod capture;
}

use serde_json::Value;
use std::process::{Command, Output};

fn decode(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickplane"));
    command.arg("decode").args(arguments).args(["--feed", "itch50"]).output().unwrap()
}

/// The rows and the counters.
fn rows(arguments: &[&str]) -> (Vec<Value>, Value) {
    let output = decode(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counters = lines.pop().expect("the last line holds the counters")["counters"].take();
    (lines, counters)
}

fn capture(name: &str) -> Option<String> {
    Some(answers::capture::capture(name)?.to_str().unwrap().to_owned())
}

#[test]
fn a_made_order_flow_has_its_known_tops() {
    let Some(file) = capture("itch/synthetic-3-symbols.itch") else { return };
    let known = std::fs::read(file.replace(".itch", ".final.json")).expect("the known answer lies beside it");
    let known: Value = serde_json::from_slice(&known).unwrap();
    let (rows, counters) = rows(&[&file]);
    assert_eq!(rows.len(), 3);
    for row in &rows {
        let top = known["tob"][row["instrument"].as_str().unwrap()].as_array().expect("a known symbol");
        let last = known["last"][row["instrument"].as_str().unwrap()].as_array().unwrap();
        let price_e4 = |key: &str| {
            let price: f64 = row[key].as_str().unwrap().parse().unwrap();
            Value::from((price * 1e4).round() as u64)
        };
        assert_eq!((price_e4("bid_price"), &row["bid_size"]), (top[0].clone(), &top[1]));
        assert_eq!((price_e4("ask_price"), &row["ask_size"]), (top[2].clone(), &top[3]));
        assert_eq!((price_e4("last_price"), &row["last_size"]), (last[0].clone(), &last[1]));
    }
    assert_eq!(counters["messages"], 12_012);
    assert_eq!(counters["unknown_orders"], known["summary"]["unknown_ref"]);
    assert_eq!(counters["orders"], known["summary"]["live_orders"]);
}

#[test]
fn a_cut_recording_is_decoded_as_far_as_it_goes() {
    let Some(file) = capture("itch/preopen-directory.itch") else { return };
    let output = decode(&[&file, "--json", "--date", "2018-05-01"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("was cut"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 8_713 + 1);
    let names: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(names[..8_713].is_sorted_by_key(|row| row["instrument"].as_str().unwrap().as_bytes().to_vec()));
    // Midnight of 2018-05-01 in New York is 04:00 UTC.
    let midnight_ns = 1_525_147_200_000_000_000_u64;
    let stamp_ns = names[0]["exchange_ns"].as_u64().unwrap();
    assert!((midnight_ns..midnight_ns + 86_400_000_000_000).contains(&stamp_ns));
}

#[test]
fn a_capture_that_jumps_is_followed_and_suspect() {
    let Some(file) = capture("nasdaq/Multiple.Packets.pcap") else { return };
    let (rows, counters) = rows(&[&file]);
    assert_eq!(
        (&counters["packets"], &counters["messages"], &counters["gaps"]),
        (&2.into(), &39.into(), &1.into())
    );
    assert_eq!(counters["missing"], 19_009_117 - 14_764_497);
    assert!(!rows.is_empty() && rows.iter().all(|row| row["state"] == "suspect"), "{rows:?}");
    let all_numbers =
        |row: &Value| row["instrument"].as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit());
    assert!(rows.iter().all(all_numbers), "their definitions were not seen");
    assert_eq!(self::rows(&[&file, "--packets", "1"]).1["messages"], 1);
}

#[test]
fn what_is_no_feed_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pcap");
    std::fs::write(
        &file,
        [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0],
    )
    .unwrap();
    let output = decode(&[file.to_str().unwrap()]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("no MoldUDP64 packet in 0 frames"), "{error}");
    let error = decode(&["/nowhere/file"]).stderr;
    assert!(String::from_utf8_lossy(&error).contains("/nowhere/file"));
}
