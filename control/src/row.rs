//! A row as people and scripts read it: one JSON object a line, its keys in a fixed order.

use dataplane::cache::reader::{Reader, Row as Judged, State};
use dataplane::cache::tick::{ImpliedQuote, Kind, PRICE_ABSENT, PRICE_SCALE, Quote, Status, Trade};
use serde::{Deserialize, Serialize};

/// One instrument. Prices are decimals at the feed's own scale, what is absent is `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub instrument: String,
    pub bid_price: Option<String>,
    pub bid_size: Option<u64>,
    pub ask_price: Option<String>,
    pub ask_size: Option<u64>,
    pub last_price: Option<String>,
    pub last_size: Option<u64>,
    /// live, partial, suspect or stale.
    pub state: String,
    /// The feed's number of the message that changed the row last; `null` = none has.
    pub sequence: Option<u64>,
    /// The exchange's stamp of that message, in ns of Unix UTC; `null` = unknown.
    pub exchange_ns: Option<u64>,
    /// Only of instruments for which the exchange implied one.
    #[serde(flatten)]
    pub implied: Option<Implied>,
}

/// The implied top of the book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Implied {
    /// The key must be there, if only as `null`: it tells whether there is anything implied at all.
    #[serde(deserialize_with = "Option::deserialize")]
    pub implied_bid_price: Option<String>,
    pub implied_bid_size: Option<u64>,
    pub implied_ask_price: Option<String>,
    pub implied_ask_size: Option<u64>,
}

/// What a row is made of: the cache's own numbers.
pub struct Values {
    pub instrument: String,
    pub price_decimals: u32,
    pub quote: Quote,
    pub implied: Option<Quote>,
    /// Price in 1e-9, and size.
    pub last: Option<(i64, u64)>,
    pub state: String,
    /// Sequence and exchange stamp (0 = unknown) of the last change.
    pub change: Option<(u64, u64)>,
}

/// A price of 1e-9 units with `decimals`, more if it has more.
pub fn price(price_e9: i64, decimals: u32) -> Option<String> {
    if price_e9 == PRICE_ABSENT {
        return None;
    }
    let (units, nanos) =
        (price_e9.unsigned_abs() / PRICE_SCALE as u64, price_e9.unsigned_abs() % PRICE_SCALE as u64);
    let sign = if price_e9 < 0 { "-" } else { "" };
    let digits = format!("{nanos:09}");
    match digits.trim_end_matches('0').len().max(decimals.min(9) as usize) {
        0 => Some(format!("{sign}{units}")),
        kept => Some(format!("{sign}{units}.{}", &digits[..kept])),
    }
}

/// Whether a row's state counts for that of its instrument: the trading status has one of its own.
pub fn tells_prices(row: &Judged) -> bool {
    row.tick.kind != Kind::Status as u8 && row.tick.kind != Kind::Contract as u8
}

pub fn state_name(state: State) -> &'static str {
    match state {
        State::Live => "live",
        State::Partial => "partial",
        State::Suspect => "suspect",
        State::Stale => "stale",
    }
}

impl Row {
    pub fn new(values: Values) -> Row {
        let Values { instrument, price_decimals, quote, implied, last, state, change } = values;
        let price = |price_e9| price(price_e9, price_decimals);
        let size = |price_e9, size: u32| (price_e9 != PRICE_ABSENT).then_some(u64::from(size));
        Row {
            instrument,
            bid_price: price(quote.bid_price),
            bid_size: size(quote.bid_price, quote.bid_size),
            ask_price: price(quote.ask_price),
            ask_size: size(quote.ask_price, quote.ask_size),
            last_price: last.and_then(|(price_e9, _)| price(price_e9)),
            last_size: last.map(|(_, size)| size),
            state,
            sequence: change.map(|(sequence, _)| sequence),
            exchange_ns: change.map(|(_, exchange_ns)| exchange_ns).filter(|ns| *ns != 0),
            implied: implied.map(|implied| Implied {
                implied_bid_price: price(implied.bid_price),
                implied_bid_size: size(implied.bid_price, implied.bid_size),
                implied_ask_price: price(implied.ask_price),
                implied_ask_size: size(implied.ask_price, implied.ask_size),
            }),
        }
    }

    /// The rows of one instrument, judged at `now_ns` (monotonic); `None` = it has no name in this session.
    pub fn read(reader: &Reader<'_>, instrument: u32, now_ns: u64) -> Option<(Vec<u8>, Row)> {
        let (definition_row, definition) = reader.definition(instrument, now_ns)?;
        let quote = reader.row::<Quote>(instrument, now_ns);
        let implied = reader.row::<ImpliedQuote>(instrument, now_ns);
        let trade = reader.row::<Trade>(instrument, now_ns);
        let rows = [quote, implied, trade, reader.row::<Status>(instrument, now_ns)].into_iter().flatten();
        let latest = rows.max_by_key(|row| row.tick.sequence);
        // The definition counts for the state: what was missed may have been the first quote.
        let told = [Some(definition_row), quote, implied, trade].into_iter().flatten();
        let state = told.map(|row| row.state).max()?;
        let session = reader.feed(definition_row.tick.feed).session;
        let trade = trade.and_then(|row| row.tick.payload::<Trade>().copied());
        let row = Row::new(Values {
            instrument: String::from_utf8_lossy(definition.name()).into_owned(),
            price_decimals: session.map_or(0, |session| session.price_decimals.into()),
            quote: quote.and_then(|row| row.tick.payload::<Quote>().copied()).unwrap_or(Quote::EMPTY),
            implied: implied.and_then(|row| row.tick.payload::<ImpliedQuote>().map(|implied| implied.0)),
            last: trade.map(|trade| (trade.price, trade.size)).filter(|(price, _)| *price != PRICE_ABSENT),
            state: state_name(state).to_owned(),
            change: latest.map(|row| (row.tick.sequence, row.tick.exchange_ns)),
        });
        Some((definition.name().to_vec(), row))
    }

    /// All instruments of a region, sorted by name as bytes.
    pub fn read_all(reader: &Reader<'_>, now_ns: u64) -> Vec<Row> {
        let rows = (0..reader.instruments()).filter_map(|instrument| Row::read(reader, instrument, now_ns));
        let mut rows: Vec<(Vec<u8>, Row)> = rows.collect();
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// The row as one line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }

    /// What [`Row::line`]'s columns are.
    pub fn heading() -> String {
        format!(
            "{:<20} {:>10} {:>14} {:>14} {:>10} {:>14} {:>10}  {:<8} {:>12}",
            "INSTRUMENT", "BID SIZE", "BID", "ASK", "ASK SIZE", "LAST", "LAST SIZE", "STATE", "SEQUENCE"
        )
    }

    /// The row as one line of a table.
    pub fn line(&self) -> String {
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let text = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
        format!(
            "{:<20} {:>10} {:>14} {:>14} {:>10} {:>14} {:>10}  {:<8} {:>12}",
            self.instrument,
            number(self.bid_size),
            text(&self.bid_price),
            text(&self.ask_price),
            number(self.ask_size),
            text(&self.last_price),
            number(self.last_size),
            self.state,
            number(self.sequence),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_have_the_feeds_decimals_at_least() {
        assert_eq!(price(27_060_000_000, 4).unwrap(), "27.0600");
        assert_eq!(price(100_000, 4).unwrap(), "0.0001");
        assert_eq!(price(-1_500_000_000, 4).unwrap(), "-1.5000");
        assert_eq!(price(1_000_000_001, 4).unwrap(), "1.000000001");
        assert_eq!(price(PRICE_ABSENT, 4), None);
        assert_eq!(price(-2_750_250_000_000, 0).unwrap(), "-2750.25");
        assert_eq!(price(100_000_000_000, 0).unwrap(), "100");
    }

    fn values() -> Values {
        Values {
            instrument: "A\"C".to_owned(),
            price_decimals: 4,
            quote: Quote { bid_price: 27_060_000_000, bid_size: 100, ..Quote::EMPTY },
            implied: None,
            last: Some((100_000, 7)),
            state: "live".to_owned(),
            change: Some((12, 1_704_171_600_000_000_000)),
        }
    }

    #[test]
    fn keys_stand_in_their_fixed_order() {
        let row = Row::new(values());
        let json = concat!(
            r#"{"instrument":"A\"C","bid_price":"27.0600","bid_size":100,"ask_price":null,"ask_size":null,"#,
            r#""last_price":"0.0001","last_size":7,"state":"live","sequence":12,"#,
            r#""exchange_ns":1704171600000000000"#
        );
        assert_eq!(row.json(), format!("{json}}}"));
        assert_eq!(serde_json::from_str::<Row>(&row.json()).unwrap(), row);

        let implied = Some(Quote { ask_price: -5_000_000_000, ask_size: 3, ..Quote::EMPTY });
        let row = Row::new(Values { implied, ..values() });
        let implied = r#","implied_bid_price":null,"implied_bid_size":null,"#.to_owned()
            + r#""implied_ask_price":"-5.0000","implied_ask_size":3}"#;
        assert_eq!(row.json(), format!("{json}{implied}"));
        assert_eq!(serde_json::from_str::<Row>(&row.json()).unwrap(), row);
    }
}
