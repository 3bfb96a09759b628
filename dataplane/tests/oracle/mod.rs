//! The oracle: the simulated exchange knows what every row must be.

use dataplane::cache::reader::{Reader, State};
use dataplane::cache::tick::{PRICE_ABSENT, Quote, Status, Trade};
use dataplane::sim::exchange::{Exchange, Row};

/// Compares every row of the first feed that is live with the exchange's, and returns how many are not.
pub fn compare(reader: &Reader<'_>, exchange: &Exchange, now_ns: u64) -> usize {
    let mut doubtful = 0;
    let mut rows = 0;
    for row in exchange.dump() {
        rows += 1;
        let is_its = |instrument: &u32| {
            reader.definition(*instrument, now_ns).is_some_and(|(row, _)| row.tick.feed == 0)
        };
        let instrument = reader.find(row.symbol).find(is_its);
        let Some((instrument, (defined, definition))) =
            instrument.and_then(|instrument| Some((instrument, reader.definition(instrument, now_ns)?)))
        else {
            // Its definition was lost: what is known of it stands under its number.
            doubtful += 1;
            continue;
        };
        assert_eq!((definition.native_id, definition.name()), (u32::from(row.native_id), row.symbol));
        let live = seen(reader, instrument, now_ns);
        let Some((quote, trade, status, sequence, exchange_ns, live)) = live else {
            assert!(row.sequence.is_none() || defined.state != State::Live);
            doubtful += usize::from(defined.state != State::Live);
            continue;
        };
        doubtful += usize::from(!live);
        if live {
            assert_eq!(quote, quote_of(&row), "{}", String::from_utf8_lossy(row.symbol));
            assert_eq!(trade, row.last_price_e4.map(|price| (i64::from(price) * 100_000, row.last_size)));
            assert_eq!(status, row.trading_state);
            assert_eq!((Some(sequence), Some(exchange_ns)), (row.sequence, row.exchange_ns));
        }
    }
    assert!(rows > 0);
    doubtful
}

type Seen = (Quote, Option<(i64, u64)>, u8, u64, u64, bool);

fn seen(reader: &Reader<'_>, instrument: u32, now_ns: u64) -> Option<Seen> {
    let quote = reader.row::<Quote>(instrument, now_ns);
    let trade = reader.row::<Trade>(instrument, now_ns);
    let status = reader.row::<Status>(instrument, now_ns);
    let latest = [quote, trade, status].into_iter().flatten().max_by_key(|row| row.position)?;
    let live = [quote, trade, status].into_iter().flatten().all(|row| row.state == State::Live);
    let trade = trade
        .and_then(|row| row.tick.payload::<Trade>().copied())
        .filter(|trade| trade.price != PRICE_ABSENT);
    Some((
        quote.map_or(Quote::EMPTY, |row| *row.tick.payload::<Quote>().unwrap()),
        trade.map(|trade| (trade.price, trade.size)),
        status.map_or(0, |row| row.tick.payload::<Status>().unwrap().state),
        latest.tick.sequence,
        latest.tick.exchange_ns,
        live,
    ))
}

fn quote_of(row: &Row<'_>) -> Quote {
    let price = |price: Option<u32>| price.map_or(PRICE_ABSENT, |price| i64::from(price) * 100_000);
    Quote {
        bid_price: price(row.bid_price_e4),
        ask_price: price(row.ask_price_e4),
        bid_size: row.bid_size as u32,
        ask_size: row.ask_size as u32,
    }
}
