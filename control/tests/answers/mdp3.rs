//! The known answer of the MDP 3.0 capture, and what is compared with it: rows in their JSON (`control::row`), by name.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub const CAPTURE: &str = "cme/mdp3-schema8-ab.pcapng";

/// What the capture's instruments are at its end.
pub fn answer(capture: &Path) -> BTreeMap<String, Value> {
    let known = std::fs::read(capture.with_file_name("mdp3-schema8-ab.final-top.json"));
    serde_json::from_slice(&known.expect("the answer lies beside it")).unwrap()
}

/// Price × 1e7 and size, as the known answer has them.
fn level(row: &Value, price: &str, size: &str) -> Value {
    let Some(text) = row[price].as_str() else { return Value::Null };
    let (units, decimals) = text.split_once('.').unwrap_or((text, ""));
    let mantissa: i64 = format!("{units}{decimals:0<7}").parse().unwrap();
    serde_json::json!([mantissa, row[size]])
}

/// Compares an instrument's row with the known answer.
pub fn compare(row: &Value, known: &Value) {
    assert_eq!(level(row, "bid_price", "bid_size"), known["bid"], "{row}");
    assert_eq!(level(row, "ask_price", "ask_size"), known["ask"], "{row}");
    assert_eq!(level(row, "last_price", "last_size"), known["last"], "{row}");
    assert_eq!(level(row, "implied_bid_price", "implied_bid_size"), known["ibid"], "{row}");
    assert_eq!(level(row, "implied_ask_price", "implied_ask_size"), known["iask"], "{row}");
}

/// Compares the rows of the whole capture, which begins in the middle of a session.
pub fn compare_all(rows: &BTreeMap<String, Value>, answer: &BTreeMap<String, Value>) {
    assert!(!answer.is_empty());
    assert_eq!(rows.keys().collect::<BTreeSet<_>>(), answer.keys().collect());
    for (name, known) in answer {
        compare(&rows[name], known);
        assert_eq!(rows[name]["state"], "partial", "{name}");
    }
}
