//! From the cache's rows to the protocol's messages.

use crate::node::{Node, session_names};
use crate::proto::feed_event::Event;
use crate::proto::{
    ConditionChanged, Contract, Definition, FeedCondition, FeedEvent, Instrument, Quote, RowKind, RowMark,
    RowReason, RowState, SessionStarted, Trade, TradingStatus, Update, update,
};
use crate::row::tells_prices;
use crate::selection::Selection;
use dataplane::cache::reader::{Feed, Row, State};
use dataplane::cache::tick::{self, Condition, Kind, PRICE_ABSENT, Reason};

/// The reason that a feed gives for its rows.
pub fn feed_reason(reason: Reason) -> RowReason {
    match reason {
        Reason::None => RowReason::Unspecified,
        Reason::Gap => RowReason::Gap,
        Reason::LateStart => RowReason::LateStart,
        Reason::Malformed => RowReason::Malformed,
        Reason::LimitFull => RowReason::LimitFull,
        Reason::TakenOver => RowReason::TakenOver,
    }
}

pub fn condition(condition: Condition) -> FeedCondition {
    match condition {
        Condition::Waiting => FeedCondition::Waiting,
        Condition::Live => FeedCondition::Live,
        Condition::Degraded => FeedCondition::Degraded,
        Condition::Stale => FeedCondition::Stale,
        Condition::Ended => FeedCondition::Ended,
    }
}

fn state(state: State) -> RowState {
    match state {
        State::Live => RowState::Live,
        State::Partial => RowState::Partial,
        State::Suspect => RowState::Suspect,
        State::Stale => RowState::Stale,
    }
}

fn reason(node: &Node, row: &Row) -> RowReason {
    match row.state {
        State::Live => RowReason::Unspecified,
        State::Partial | State::Suspect => feed_reason(row.reason),
        State::Stale if !node.is_alive() => RowReason::WriterGone,
        State::Stale => match node.reader.feed(row.tick.feed).condition {
            Condition::Waiting => RowReason::FeedWaiting,
            _ => RowReason::FeedSilent,
        },
    }
}

fn mark(node: &Node, row: &Row) -> RowMark {
    RowMark {
        state: state(row.state).into(),
        reason: reason(node, row).into(),
        position: row.position,
        sequence: row.tick.sequence,
        exchange_ns: row.tick.exchange_ns,
        received_ns: row.tick.received_ns,
    }
}

fn price(price_e9: i64) -> Option<i64> {
    (price_e9 != PRICE_ABSENT).then_some(price_e9)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_matches(['\0', ' ']).to_owned()
}

/// A row as its kind says; `None` = the tick is of no row.
fn row(node: &Node, row: &Row) -> Option<update::Row> {
    let mark = Some(mark(node, row));
    Some(match Kind::from_u8(row.tick.kind)? {
        Kind::Quote => update::Row::Quote(quote(mark, row.tick.payload()?)),
        Kind::ImpliedQuote => {
            let tick::ImpliedQuote(implied) = row.tick.payload()?;
            update::Row::ImpliedQuote(quote(mark, implied))
        }
        Kind::Trade => {
            let trade = row.tick.payload::<tick::Trade>()?;
            let (price_e9, size, trade_id) = (price(trade.price), trade.size, trade.trade_id);
            update::Row::Trade(Trade { mark, price_e9, size, trade_id })
        }
        Kind::Status => {
            let status = row.tick.payload::<tick::Status>()?;
            let (state, reason) = (text(&[status.state]), text(&status.reason));
            let operational_halt = text(&[status.operational_halt]);
            update::Row::Status(TradingStatus { mark, state, reason, operational_halt })
        }
        Kind::Definition => {
            let definition = row.tick.payload::<tick::Definition>()?;
            let feed = node.feed_name(row.tick.feed);
            update::Row::Definition(Definition { mark, native_id: definition.native_id, feed })
        }
        Kind::Contract => {
            let contract = row.tick.payload::<tick::Contract>()?;
            update::Row::Contract(Contract {
                mark,
                price_increment_e9: price(contract.price_increment),
                display_factor_e9: price(contract.display_factor),
                security_group: text(&contract.security_group),
            })
        }
        Kind::Session | Kind::FeedState => return None,
    })
}

fn quote(mark: Option<RowMark>, quote: &tick::Quote) -> Quote {
    Quote {
        mark,
        bid_price_e9: price(quote.bid_price),
        bid_size: quote.bid_size.into(),
        ask_price_e9: price(quote.ask_price),
        ask_size: quote.ask_size.into(),
    }
}

/// Decimals that a feed's prices have at least.
fn price_decimals(node: &Node, feed: u16) -> u32 {
    node.reader.feed(feed).session.map_or(0, |session| session.price_decimals.into())
}

pub fn update(node: &Node, symbol: &str, judged: &Row) -> Option<Update> {
    let row = row(node, judged)?;
    Some(Update {
        symbol: symbol.to_owned(),
        instrument_id: judged.tick.instrument,
        row: Some(row),
        price_decimals: price_decimals(node, judged.tick.feed),
    })
}

pub fn kind_of(kind: RowKind) -> Option<Kind> {
    match kind {
        RowKind::Unspecified => None,
        RowKind::Quote => Some(Kind::Quote),
        RowKind::Trade => Some(Kind::Trade),
        RowKind::Status => Some(Kind::Status),
        RowKind::Definition => Some(Kind::Definition),
        RowKind::ImpliedQuote => Some(Kind::ImpliedQuote),
        RowKind::Contract => Some(Kind::Contract),
    }
}

/// quote, trade, status, …
pub fn kind_name(kind: RowKind) -> String {
    kind.as_str_name().trim_start_matches("ROW_KIND_").to_lowercase()
}

/// The kind of that name; an error tells those that there are.
pub fn kind_named(name: &str) -> Result<RowKind, String> {
    let known = RowKind::from_str_name(&format!("ROW_KIND_{}", name.to_uppercase()));
    known.filter(|kind| *kind != RowKind::Unspecified).ok_or_else(|| {
        let name: String = name.chars().take(64).collect();
        format!("no kind {name:?}: one of quote, trade, status, definition, implied_quote, contract")
    })
}

/// All rows of an instrument that are there, by kind.
pub fn rows(node: &Node, instrument: u32, now_ns: u64) -> [Option<Row>; Kind::ROWS] {
    let reader = &node.reader;
    [
        reader.row::<tick::Quote>(instrument, now_ns),
        reader.row::<tick::Trade>(instrument, now_ns),
        reader.row::<tick::Status>(instrument, now_ns),
        reader.row::<tick::Definition>(instrument, now_ns),
        reader.row::<tick::ImpliedQuote>(instrument, now_ns),
        reader.row::<tick::Contract>(instrument, now_ns),
    ]
}

/// What is called by a name in this session.
pub fn symbol(node: &Node, instrument: u32, now_ns: u64) -> Option<String> {
    let (_, definition) = node.reader.definition(instrument, now_ns)?;
    Some(String::from_utf8_lossy(definition.name()).into_owned())
}

/// An instrument with those of its rows that are `shown`; `None` = it has no name in this session, or none that is shown. Its
/// definition counts for its state even if that is not.
pub fn instrument(node: &Node, instrument_id: u32, now_ns: u64, shown: &Selection) -> Option<Instrument> {
    let symbol = symbol(node, instrument_id, now_ns).filter(|symbol| shown.has_symbol(symbol.as_bytes()))?;
    let mut rows = rows(node, instrument_id, now_ns);
    for row in &mut rows {
        row.take_if(|row| {
            !shown.has_feed(row.tick.feed)
                || (!shown.has_row(&row.tick) && row.tick.kind != Kind::Definition as u8)
        });
    }
    let worst = rows.iter().flatten().filter(|row| tells_prices(row)).max_by_key(|row| row.state)?;
    let mut instrument = Instrument {
        symbol,
        instrument_id,
        feed: node.feed_name(worst.tick.feed),
        state: state(worst.state).into(),
        reason: reason(node, worst).into(),
        price_decimals: price_decimals(node, worst.tick.feed),
        ..Instrument::default()
    };
    for judged in rows.iter().flatten().filter(|row| shown.has_row(&row.tick)) {
        match row(node, judged) {
            Some(update::Row::Quote(quote)) => instrument.quote = Some(quote),
            Some(update::Row::Trade(trade)) => instrument.trade = Some(trade),
            Some(update::Row::Status(status)) => instrument.status = Some(status),
            Some(update::Row::Definition(definition)) => instrument.definition = Some(definition),
            Some(update::Row::ImpliedQuote(quote)) => instrument.implied_quote = Some(quote),
            Some(update::Row::Contract(contract)) => instrument.contract = Some(contract),
            None => {}
        }
    }
    Some(instrument)
}

/// A symbol that nothing is called by.
pub fn unknown(symbol: String) -> Instrument {
    Instrument {
        symbol,
        state: RowState::Absent.into(),
        reason: RowReason::UnknownSymbol.into(),
        ..Instrument::default()
    }
}

/// What happened to a feed, as the tick of the log at `position` says it.
pub fn feed_event(node: &Node, position: u64, tick: &tick::Tick) -> FeedEvent {
    match tick.payload::<tick::Session>() {
        Some(session) => session_started(node, tick.feed, position, *session),
        None => condition_changed(node, tick.feed, position, &node.reader.feed(tick.feed)),
    }
}

pub fn session_started(node: &Node, feed: u16, position: u64, session: tick::Session) -> FeedEvent {
    let (session, day) = session_names(Some(session));
    let event = Event::SessionStarted(SessionStarted { session, day });
    FeedEvent { feed: node.feed_name(feed), position, event: Some(event) }
}

pub fn condition_changed(node: &Node, feed: u16, position: u64, state: &Feed) -> FeedEvent {
    let event = Event::ConditionChanged(ConditionChanged {
        condition: condition(state.condition).into(),
        reason: feed_reason(state.reason).into(),
        proven_from: state.proven_from,
        missing: state.missing,
    });
    FeedEvent { feed: node.feed_name(feed), position, event: Some(event) }
}
