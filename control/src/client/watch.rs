//! `tickplane watch`: instruments as they change.

use super::status::condition_name;
use super::{ClientError, RESPONSE_BYTES_MAX, ServerArgs, reason_name, state_name};
use crate::proto::market_data_client::MarketDataClient;
use crate::proto::{
    FeedEvent, Quote, RowMark, SubscribeMode, SubscribeRequest, SubscribeResponse, Update, feed_event, update,
};
use crate::row::price;
use crate::stop;
use serde_json::{Value, json};
use std::io::{BufWriter, Write, stdout};
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
Examples:
  Everything that happens to one instrument:
      tickplane watch AAPL

  The first 100 updates of all, one JSON object a line:
      tickplane watch --json --updates 100 '*'";

/// Follow instruments as they change
///
/// Prints what they are now, then every change. If the terminal is slower than the market, it gets the latest values, and
/// is told how many were left out.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct WatchArgs {
    /// Symbols, or patterns: * stands for any characters, ? for one
    #[arg(required = true, value_name = "PATTERN")]
    pub patterns: Vec<String>,

    /// One JSON object a line
    #[arg(long)]
    pub json: bool,

    /// Stop after so many updates
    #[arg(long, value_name = "N")]
    pub updates: Option<u64>,

    #[command(flatten)]
    pub server: ServerArgs,
}

pub async fn run(args: &WatchArgs, stop: &AtomicBool) -> Result<(), ClientError> {
    let channel = args.server.connect().await?;
    let mut client = MarketDataClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let request = SubscribeRequest { patterns: args.patterns.clone(), ..SubscribeRequest::default() };
    let mut responses = client.subscribe(request).await?.into_inner();
    let mut out = BufWriter::new(stdout().lock());
    let mut left = args.updates.unwrap_or(u64::MAX);
    let mut alive = true;
    loop {
        let response = tokio::select! {
            () = stop::requested(stop) => return Ok(out.flush()?),
            response = responses.message() => response?,
        };
        let Some(response) = response else { return Ok(out.flush()?) };
        left = print(&response, args.json, left, &mut alive, &mut out)?;
        out.flush()?;
        if left == 0 {
            return Ok(());
        }
    }
}

fn print(
    response: &SubscribeResponse,
    json: bool,
    mut left: u64,
    alive: &mut bool,
    out: &mut impl Write,
) -> Result<u64, ClientError> {
    if response.writer_alive != *alive {
        *alive = response.writer_alive;
        let text = if *alive { "the worker is back" } else { "the worker is gone: every row is stale" };
        match json {
            true => writeln!(out, "{}", json!({ "writer_alive": *alive }))?,
            false => writeln!(out, "-- {text}")?,
        }
    }
    if response.mode == i32::from(SubscribeMode::Image) && response.lapped {
        match json {
            true => writeln!(out, "{}", json!({ "lapped": true, "image": true }))?,
            false => writeln!(out, "-- the node's cache has begun anew: this is all that it has")?,
        }
    }
    for event in &response.feed_events {
        match json {
            true => writeln!(out, "{}", event_json(event))?,
            false => writeln!(out, "-- {}", event_text(event))?,
        }
    }
    if response.mode == i32::from(SubscribeMode::Conflated) {
        match json {
            true => writeln!(out, "{}", json!({ "skipped": response.skipped, "lapped": response.lapped }))?,
            false => writeln!(out, "-- too slow: {} updates left out", response.skipped)?,
        }
    }
    for update in &response.updates {
        if left == 0 {
            return Ok(0);
        }
        left -= 1;
        match json {
            true => writeln!(out, "{}", update_json(update))?,
            false => writeln!(out, "{}", update_text(update))?,
        }
    }
    Ok(left)
}

fn event_json(event: &FeedEvent) -> Value {
    match &event.event {
        Some(feed_event::Event::SessionStarted(started)) => json!({
            "feed": event.feed, "position": event.position, "session": started.session, "day": started.day,
        }),
        Some(feed_event::Event::ConditionChanged(changed)) => json!({
            "feed": event.feed, "position": event.position, "condition": condition_name(changed.condition),
            "reason": reason_name(changed.reason), "missing": changed.missing,
        }),
        None => json!({ "feed": event.feed }),
    }
}

fn event_text(event: &FeedEvent) -> String {
    match &event.event {
        Some(feed_event::Event::SessionStarted(started)) => {
            format!("feed {}: session {} {}", event.feed, started.session, started.day)
        }
        Some(feed_event::Event::ConditionChanged(changed)) => format!(
            "feed {}: {} {} ({} messages missing)",
            event.feed,
            condition_name(changed.condition),
            reason_name(changed.reason),
            changed.missing
        ),
        None => format!("feed {}", event.feed),
    }
}

fn mark_json(mark: Option<&RowMark>) -> [(&'static str, Value); 5] {
    let mark = mark.cloned().unwrap_or_default();
    [
        ("state", state_name(mark.state).into()),
        ("position", mark.position.into()),
        ("sequence", mark.sequence.into()),
        ("exchange_ns", mark.exchange_ns.into()),
        ("received_ns", mark.received_ns.into()),
    ]
}

fn price_json(price_e9: Option<i64>, decimals: u32) -> Value {
    price_e9.and_then(|price_e9| price(price_e9, decimals)).into()
}

fn quote_json(quote: &Quote, decimals: u32) -> Vec<(&'static str, Value)> {
    vec![
        ("bid_price", price_json(quote.bid_price_e9, decimals)),
        ("bid_size", quote.bid_price_e9.map(|_| quote.bid_size).into()),
        ("ask_price", price_json(quote.ask_price_e9, decimals)),
        ("ask_size", quote.ask_price_e9.map(|_| quote.ask_size).into()),
    ]
}

fn update_json(update: &Update) -> Value {
    let decimals = update.price_decimals;
    let mut object = serde_json::Map::new();
    object.insert("instrument".to_owned(), update.symbol.clone().into());
    let (kind, values, mark): (&str, Vec<(&str, Value)>, _) = match &update.row {
        Some(update::Row::Quote(quote)) => ("quote", quote_json(quote, decimals), quote.mark.as_ref()),
        Some(update::Row::ImpliedQuote(quote)) => {
            ("implied_quote", quote_json(quote, decimals), quote.mark.as_ref())
        }
        Some(update::Row::Contract(contract)) => {
            let number = |value: Option<i64>| value.and_then(|value| price(value, 0)).into();
            let values = vec![
                ("price_increment", number(contract.price_increment_e9)),
                ("display_factor", number(contract.display_factor_e9)),
                ("security_group", contract.security_group.clone().into()),
            ];
            ("contract", values, contract.mark.as_ref())
        }
        Some(update::Row::Trade(trade)) => {
            let size = trade.price_e9.map(|_| trade.size);
            let values =
                vec![("last_price", price_json(trade.price_e9, decimals)), ("last_size", size.into())];
            ("trade", values, trade.mark.as_ref())
        }
        Some(update::Row::Status(status)) => {
            let values = vec![
                ("trading_state", status.state.clone().into()),
                ("trading_reason", status.reason.clone().into()),
                ("operational_halt", status.operational_halt.clone().into()),
            ];
            ("status", values, status.mark.as_ref())
        }
        Some(update::Row::Definition(definition)) => {
            ("definition", vec![("native_id", definition.native_id.into())], definition.mark.as_ref())
        }
        None => ("none", vec![], None),
    };
    object.insert("kind".to_owned(), kind.into());
    let marked = values.into_iter().chain(mark_json(mark));
    object.extend(marked.map(|(name, value)| (name.to_owned(), value)));
    object.into()
}

fn update_text(update: &Update) -> String {
    let symbol = &update.symbol;
    let decimals = update.price_decimals;
    let side = |price_e9: Option<i64>, size: u64| match price_e9.and_then(|ns| price(ns, decimals)) {
        Some(price) => format!("{size:>8} @ {price:>12}"),
        None => format!("{:>8}   {:>12}", "-", "-"),
    };
    let state = |mark: Option<&RowMark>| match mark {
        Some(mark) if state_name(mark.state) != "live" => {
            format!("  {} {}", state_name(mark.state), reason_name(mark.reason))
        }
        _ => String::new(),
    };
    let sides = |quote: &Quote| {
        let (bid, ask) = (side(quote.bid_price_e9, quote.bid_size), side(quote.ask_price_e9, quote.ask_size));
        format!("{bid}  |  {ask}{}", state(quote.mark.as_ref()))
    };
    match &update.row {
        Some(update::Row::Quote(quote)) => format!("{symbol:<10} quote   {}", sides(quote)),
        Some(update::Row::ImpliedQuote(quote)) => format!("{symbol:<10} implied {}", sides(quote)),
        Some(update::Row::Contract(contract)) => {
            let step = contract.price_increment_e9.and_then(|step| price(step, 0)).unwrap_or_default();
            let state = state(contract.mark.as_ref());
            format!("{symbol:<10} traded  in steps of {step}, group {}{state}", contract.security_group)
        }
        Some(update::Row::Trade(trade)) => {
            format!("{symbol:<10} trade   {}{}", side(trade.price_e9, trade.size), state(trade.mark.as_ref()))
        }
        Some(update::Row::Status(status)) => {
            let halted = if status.operational_halt == "O" { "halted by the exchange " } else { "" };
            let state = state(status.mark.as_ref());
            format!("{symbol:<10} status  {} {halted}{}{state}", status.state, status.reason)
        }
        Some(update::Row::Definition(definition)) => {
            format!("{symbol:<10} defined {}{}", definition.native_id, state(definition.mark.as_ref()))
        }
        None => symbol.clone(),
    }
}
