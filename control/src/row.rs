//! A row as people and scripts read it: one JSON object a line, its keys in a fixed order.

use dataplane::cache::reader::{Reader, Row as Judged, State};
use dataplane::cache::tick::{PRICE_ABSENT, PRICE_SCALE, Quote, Status, Trade};
use serde::{Deserialize, Serialize};

/// Decimals of ITCH's prices.
const DECIMALS: u32 = 4;

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
}

/// A price of 1e-9 units with the feed's decimals, more if it has more.
pub fn price(price_e9: i64) -> Option<String> {
    if price_e9 == PRICE_ABSENT {
        return None;
    }
    let (units, nanos) =
        (price_e9.unsigned_abs() / PRICE_SCALE as u64, price_e9.unsigned_abs() % PRICE_SCALE as u64);
    let sign = if price_e9 < 0 { "-" } else { "" };
    let decimals = format!("{nanos:09}");
    let kept = decimals.trim_end_matches('0').len().max(DECIMALS as usize);
    Some(format!("{sign}{units}.{}", &decimals[..kept]))
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
    /// The rows of one instrument, judged at `now_ns` (monotonic); `None` = it has no name in this session.
    pub fn read(reader: &Reader<'_>, instrument: u32, now_ns: u64) -> Option<(Vec<u8>, Row)> {
        let (definition_row, definition) = reader.definition(instrument, now_ns)?;
        let quote_row = reader.row::<Quote>(instrument, now_ns);
        let trade_row = reader.row::<Trade>(instrument, now_ns);
        let status_row = reader.row::<Status>(instrument, now_ns);
        let rows: Vec<Judged> = [quote_row, trade_row, status_row].into_iter().flatten().collect();
        // The definition counts for the state: what was missed may have been the first quote.
        let state = rows.iter().map(|row| row.state).chain([definition_row.state]).max()?;
        let latest = rows.iter().max_by_key(|row| row.position);
        let quote = quote_row.and_then(|row| row.tick.payload::<Quote>().copied()).unwrap_or(Quote::EMPTY);
        let trade = trade_row.and_then(|row| row.tick.payload::<Trade>().copied());
        let trade = trade.filter(|trade| trade.price != PRICE_ABSENT);
        let size = |price: i64, size: u32| (price != PRICE_ABSENT).then_some(u64::from(size));
        let row = Row {
            instrument: String::from_utf8_lossy(definition.name()).into_owned(),
            bid_price: price(quote.bid_price),
            bid_size: size(quote.bid_price, quote.bid_size),
            ask_price: price(quote.ask_price),
            ask_size: size(quote.ask_price, quote.ask_size),
            last_price: trade.and_then(|trade| price(trade.price)),
            last_size: trade.map(|trade| trade.size),
            state: state_name(state).to_owned(),
            sequence: latest.map(|row| row.tick.sequence),
            exchange_ns: latest.map(|row| row.tick.exchange_ns).filter(|ns| *ns != 0),
        };
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
        assert_eq!(price(27_060_000_000).unwrap(), "27.0600");
        assert_eq!(price(100_000).unwrap(), "0.0001");
        assert_eq!(price(-1_500_000_000).unwrap(), "-1.5000");
        assert_eq!(price(1_000_000_001).unwrap(), "1.000000001");
        assert_eq!(price(PRICE_ABSENT), None);
    }

    #[test]
    fn keys_stand_in_their_fixed_order() {
        let row = Row {
            instrument: "A\"C".to_owned(),
            bid_price: price(27_060_000_000),
            bid_size: Some(100),
            ask_price: None,
            ask_size: None,
            last_price: price(100_000),
            last_size: Some(7),
            state: "live".to_owned(),
            sequence: Some(12),
            exchange_ns: Some(1_704_171_600_000_000_000),
        };
        assert_eq!(
            row.json(),
            concat!(
                r#"{"instrument":"A\"C","bid_price":"27.0600","bid_size":100,"ask_price":null,"ask_size":null,"#,
                r#""last_price":"0.0001","last_size":7,"state":"live","sequence":12,"#,
                r#""exchange_ns":1704171600000000000}"#
            )
        );
        assert_eq!(serde_json::from_str::<Row>(&row.json()).unwrap(), row);
    }
}
