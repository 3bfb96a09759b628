//! The known answers of the TOPS capture, and what is compared with them: quotes and trades in the answers' own form, by
//! symbol.

use dataplane::cache::tick::{PRICE_ABSENT, Quote, Trade};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

pub const CAPTURE: &str = "iex/tops16.pcapng.gz";

/// What the capture's symbols are after 25, 50, 75 and 100 % of its packets.
pub fn checkpoints(capture: &Path) -> Vec<Value> {
    let known = std::fs::read(capture.with_file_name("tops16.checkpoints.json"));
    let known: Vec<Value> = serde_json::from_slice(&known.expect("the answers lie beside it")).unwrap();
    assert_eq!(known.len(), 4);
    known
}

/// What is held of the live rows.
#[derive(Default)]
pub struct Held {
    quotes: BTreeMap<String, Value>,
    trades: BTreeMap<String, Value>,
}

/// 4 decimals, 0 = none.
fn price_e4(price_e9: i64) -> i64 {
    if price_e9 == PRICE_ABSENT {
        return 0;
    }
    assert_eq!(price_e9 % 100_000, 0);
    price_e9 / 100_000
}

impl Held {
    pub fn quote(&mut self, symbol: &str, quote: &Quote, exchange_ns: u64) {
        let [bid, ask] = [quote.bid_price, quote.ask_price].map(price_e4);
        let held = json!([quote.bid_size, bid, ask, quote.ask_size, exchange_ns]);
        assert_eq!(self.quotes.insert(symbol.to_owned(), held), None, "{symbol} is there twice");
    }

    pub fn trade(&mut self, symbol: &str, trade: &Trade, exchange_ns: u64) {
        let held = json!([price_e4(trade.price), trade.size, trade.trade_id, exchange_ns]);
        assert_eq!(self.trades.insert(symbol.to_owned(), held), None, "{symbol} is there twice");
    }

    /// Compares all that is held with all that is known.
    pub fn compare(&self, known: &Value) {
        for (held, known) in [(&self.quotes, &known["tob"]), (&self.trades, &known["last"])] {
            let known = known.as_object().unwrap();
            assert!(!known.is_empty());
            for (symbol, known) in known {
                assert_eq!(held.get(symbol), Some(known), "{symbol}");
            }
            assert_eq!(held.len(), known.len());
        }
    }
}
