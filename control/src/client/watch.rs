//! `tickplane watch`: instruments as they change.

use super::status::condition_name;
use super::{ClientError, RESPONSE_BYTES_MAX, ServerArgs, reason_name, state_name};
use crate::proto::market_data_client::MarketDataClient;
use crate::proto::{
    self, DeliveryMode, FeedEvent, Gap, ImageReason, Notice, Quote, RowMark, SubscribeMode, SubscribeRequest,
    SubscribeResponse, Update, feed_event, update,
};
use crate::row::price;
use crate::stop;
use serde_json::{Value, json};
use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
Examples:
  Everything that happens to one instrument:
      tickplane watch AAPL

  The first 100 updates of all, one JSON object a line:
      tickplane watch --json --updates 100 '*'

  Every trade, and after an interruption on where it ended, on another node of the group, too:
      tickplane watch --trade-safe --resume trades.place 'A*'
      tickplane watch --trade-safe --resume trades.place 'A*' --server http://10.0.0.2:50051";

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

    /// Every change: if the terminal is too slow for that, it is told what is missing
    #[arg(long, conflicts_with = "trade_safe")]
    pub every_tick: bool,

    /// Every trade, and the latest quotes
    #[arg(long)]
    pub trade_safe: bool,

    /// Begin where this file says that the last time ended, and keep it up to date
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,

    #[command(flatten)]
    pub server: ServerArgs,
}

pub async fn run(args: &WatchArgs, stop: &AtomicBool) -> Result<(), ClientError> {
    let place = Place::read(args.resume.clone())?;
    let channel = args.server.connect().await?;
    let mut client = MarketDataClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let mode = match (args.every_tick, args.trade_safe) {
        (true, _) => DeliveryMode::EveryTick,
        (_, true) => DeliveryMode::TradeSafe,
        _ => DeliveryMode::Unspecified,
    };
    let request = SubscribeRequest {
        patterns: args.patterns.clone(),
        mode: mode.into(),
        resume: place.known,
        ..SubscribeRequest::default()
    };
    let responses = client.subscribe(request).await?.into_inner();
    Sink::new(args.json, args.updates, place).take_all(responses, stop).await
}

/// A file that says where a subscription ended.
#[derive(Debug, Default)]
pub(super) struct Place {
    file: Option<PathBuf>,
    pub known: Option<proto::Place>,
}

impl Place {
    /// There need not be such a file yet.
    pub fn read(file: Option<PathBuf>) -> Result<Place, ClientError> {
        let Some(path) = &file else { return Ok(Place::default()) };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place { file, known: None }),
            Err(error) => return Err(error.into()),
        };
        let words: Option<Vec<u64>> =
            text.split_whitespace().map(|word| u64::from_str_radix(word, 16).ok()).collect();
        match words.as_deref() {
            Some([generation, log, position, subscribed]) => {
                let (generation, log) = (*generation, *log);
                let place = proto::Place { generation, log, position: *position, subscribed: *subscribed };
                Ok(Place { file, known: Some(place) })
            }
            _ => Err(ClientError::Differs(format!(
                "{} holds no place: remove it, to begin with an image",
                path.display()
            ))),
        }
    }

    /// Keeps a place; the file has the old one or the new one, whatever happens.
    fn keep(&mut self, place: proto::Place) -> Result<(), ClientError> {
        if let Some(file) = &self.file {
            let proto::Place { generation, log, position, subscribed } = place;
            let fresh = file.with_extension("new");
            std::fs::write(&fresh, format!("{generation:x} {log:x} {position:x} {subscribed:x}\n"))?;
            std::fs::rename(&fresh, file)?;
        }
        Ok(())
    }
}

/// Where responses are printed.
pub(super) struct Sink {
    json: bool,
    left: u64,
    alive: bool,
    place: Place,
}

impl Sink {
    pub fn new(json: bool, updates: Option<u64>, place: Place) -> Sink {
        Sink { json, left: updates.unwrap_or(u64::MAX), alive: true, place }
    }

    /// Until the end, or `stop`, or enough.
    pub async fn take_all(
        mut self,
        mut responses: tonic::Streaming<SubscribeResponse>,
        stop: &AtomicBool,
    ) -> Result<(), ClientError> {
        let mut out = BufWriter::new(stdout().lock());
        while self.left != 0 {
            let response = tokio::select! {
                () = stop::requested(stop) => break,
                response = responses.message() => response?,
            };
            let Some(response) = response else { break };
            self.print(&response, &mut out)?;
            // What is told twice can be left out, what is not told never comes back: first it is written out.
            out.flush()?;
            if let Some(place) = response.place.filter(|_| self.left != 0) {
                self.place.keep(place)?;
            }
        }
        Ok(out.flush()?)
    }

    fn print(&mut self, response: &SubscribeResponse, out: &mut impl Write) -> Result<(), ClientError> {
        let json = self.json;
        if response.writer_alive != self.alive {
            self.alive = response.writer_alive;
            let text = match self.alive {
                true => "the worker is back",
                false => "the worker is gone: every row is stale",
            };
            say(out, json, || json!({ "writer_alive": response.writer_alive }), || text.to_owned())?;
        }
        if response.mode == i32::from(SubscribeMode::Image) && response.lapped {
            let text = "the node's cache has begun anew: this is all that it has";
            say(out, json, || json!({ "lapped": true, "image": true }), || text.to_owned())?;
        }
        print_turn(response, json, out)?;
        for event in &response.feed_events {
            say(out, json, || event_json(event), || event_text(event))?;
        }
        if response.mode == i32::from(SubscribeMode::Conflated) && (response.skipped != 0 || response.lapped)
        {
            let skipped = response.skipped;
            let object = || json!({ "skipped": skipped, "lapped": response.lapped });
            say(out, json, object, || format!("{skipped} updates left out for later ones"))?;
        }
        for update in &response.updates {
            if self.left == 0 {
                return Ok(());
            }
            self.left -= 1;
            match json {
                true => writeln!(out, "{}", update_json(update))?,
                false => writeln!(out, "{}", update_text(update))?,
            }
        }
        Ok(())
    }
}

/// What happened to the subscription itself.
fn print_turn(response: &SubscribeResponse, json: bool, out: &mut impl Write) -> Result<(), ClientError> {
    let name = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
    let notice = response.notice();
    if notice != Notice::Unspecified {
        let notice = name(notice.as_str_name(), "NOTICE_");
        say(out, json, || json!({ "notice": notice }), || notice.clone())?;
    }
    let reason = response.image_reason();
    let is_told = matches!(
        reason,
        ImageReason::Unspecified | ImageReason::First | ImageReason::CacheBegan | ImageReason::Gap
    );
    if !is_told {
        let reason = name(reason.as_str_name(), "IMAGE_REASON_");
        say(out, json, || json!({ "image_reason": reason }), || format!("an image: {reason}"))?;
    }
    if let Some(Gap { from, to, count }) = response.gap {
        let text = || format!("a gap: positions {from} to {to} of the log, {count} updates of all");
        say(out, json, || json!({ "gap": { "from": from, "to": to, "count": count } }), text)?;
    }
    Ok(())
}

/// Says something that is no update.
fn say(
    out: &mut impl Write,
    json: bool,
    object: impl FnOnce() -> Value,
    text: impl FnOnce() -> String,
) -> Result<(), ClientError> {
    match json {
        true => writeln!(out, "{}", object())?,
        false => writeln!(out, "-- {}", text())?,
    }
    Ok(())
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
