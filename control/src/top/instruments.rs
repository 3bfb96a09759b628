//! The instruments as a subscription tells them.
//!
//! An update carries the state that its row had when it was sent. What happens to a row afterwards comes as events of its
//! feed, so a row is judged anew, by the rules of `dataplane::cache::reader`, whenever it is shown.

use crate::proto::{
    ConditionChanged, Definition, FeedCondition, FeedEvent, Quote, RowMark, RowReason, RowState,
    SubscribeMode, SubscribeResponse, Trade, TradingStatus, Update, feed_event, update,
};
use dataplane::limits::{FEEDS_MAX, INSTRUMENTS_MAX};
use std::collections::HashMap;

/// How much of an instrument's rate is of the last interval; the rest is of those before.
const RATE_WEIGHT: f64 = 0.5;
/// A rate below this is none.
const RATE_MIN_PER_S: f64 = 0.05;

#[derive(Clone, Debug, Default)]
pub struct Instruments {
    by_id: HashMap<u32, Instrument>,
    feeds: Vec<Feed>,
    /// Whether the worker vouches for the cache.
    pub is_writer_alive: bool,
    /// Updates that were left out because this client was too slow.
    pub skipped: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Instrument {
    pub symbol: String,
    pub price_decimals: u32,
    pub definition: Option<Definition>,
    pub quote: Option<Quote>,
    pub trade: Option<Trade>,
    pub status: Option<TradingStatus>,
    /// Updates a second, lately.
    pub per_s: f64,
    /// Since the rate was last taken.
    updates: u64,
    was_rated: bool,
    /// The first price of a trade that was seen in this session, in 1e-9.
    first_price_e9: Option<i64>,
}

/// What is known of a feed from its events.
#[derive(Clone, Debug)]
struct Feed {
    name: String,
    condition: FeedCondition,
    reason: RowReason,
    session_position: u64,
    proven_from: u64,
}

/// Whether something may be believed, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict {
    pub state: RowState,
    pub reason: RowReason,
}

impl Verdict {
    /// There is no such row.
    const NONE: Verdict = Verdict { state: RowState::Unspecified, reason: RowReason::Unspecified };

    fn stale(reason: RowReason) -> Verdict {
        Verdict { state: RowState::Stale, reason }
    }
}

/// The verdicts on an instrument: on all that tells its prices, and on its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The worst of definition, quote and trade, as `get` tells it.
    pub worst: Verdict,
    pub quote: RowState,
    pub trade: RowState,
}

impl Instrument {
    /// Ask − bid in basis points of their middle; `None` unless both are there and the middle is positive.
    pub fn spread_bp(&self) -> Option<f64> {
        let quote = self.quote.as_ref()?;
        let (bid, ask) = (quote.bid_price_e9? as f64, quote.ask_price_e9? as f64);
        let middle = (bid + ask) / 2.0;
        (middle > 0.0).then(|| (ask - bid) / middle * 1e4)
    }

    /// How far the last price is from the first that was seen, in percent.
    pub fn change_percent(&self) -> Option<f64> {
        let last = self.trade.as_ref()?.price_e9? as f64;
        let first = self.first_price_e9? as f64;
        (first > 0.0).then(|| (last - first) / first * 100.0)
    }

    fn marks(&self) -> impl Iterator<Item = &RowMark> {
        let marks = [
            self.definition.as_ref().and_then(|row| row.mark.as_ref()),
            self.quote.as_ref().and_then(|row| row.mark.as_ref()),
            self.trade.as_ref().and_then(|row| row.mark.as_ref()),
        ];
        marks.into_iter().flatten()
    }

    fn take(&mut self, update: Update) {
        if self.symbol != update.symbol {
            self.symbol = update.symbol;
        }
        self.price_decimals = update.price_decimals;
        match update.row {
            Some(update::Row::Quote(row)) => self.quote = Some(row),
            Some(update::Row::Trade(row)) => {
                self.first_price_e9 = self.first_price_e9.or(row.price_e9);
                self.trade = Some(row);
            }
            Some(update::Row::Status(row)) => self.status = Some(row),
            Some(update::Row::Definition(row)) => self.definition = Some(row),
            // Not asked for.
            Some(update::Row::ImpliedQuote(_) | update::Row::Contract(_)) | None => {}
        }
    }

    /// Forgets what is of a session before the one that began at `position`; false = all is.
    fn keep_from(&mut self, position: u64) -> bool {
        let is_before = |mark: &Option<RowMark>| mark.as_ref().is_none_or(|mark| mark.position < position);
        self.quote.take_if(|row| is_before(&row.mark));
        self.trade.take_if(|row| is_before(&row.mark));
        self.status.take_if(|row| is_before(&row.mark));
        self.definition.take_if(|row| is_before(&row.mark));
        if self.trade.is_none() {
            self.first_price_e9 = None;
        }
        self.definition.is_some()
    }
}

impl Instruments {
    /// Takes in a response. Nothing is kept for more instruments and feeds than a node can have.
    pub fn take(&mut self, response: SubscribeResponse) {
        self.is_writer_alive = response.writer_alive;
        self.skipped += response.skipped;
        let is_image = response.mode == i32::from(SubscribeMode::Image);
        if is_image && response.lapped {
            self.by_id.clear();
            self.feeds.clear();
        }
        for event in response.feed_events {
            self.take_event(event);
        }
        for update in response.updates {
            let id = update.instrument_id;
            if id as usize >= INSTRUMENTS_MAX {
                continue;
            }
            let instrument = self.by_id.entry(id).or_default();
            instrument.updates += u64::from(!is_image);
            instrument.take(update);
        }
    }

    fn take_event(&mut self, event: FeedEvent) {
        let known = self.feeds.iter().position(|feed| feed.name == event.feed);
        let index = match known {
            Some(index) => index,
            None if self.feeds.len() == FEEDS_MAX => return,
            None => {
                self.feeds.push(Feed {
                    name: event.feed,
                    condition: FeedCondition::Waiting,
                    reason: RowReason::Unspecified,
                    session_position: 0,
                    proven_from: 0,
                });
                self.feeds.len() - 1
            }
        };
        match event.event {
            Some(feed_event::Event::SessionStarted(_)) => self.start_session(index, event.position),
            Some(feed_event::Event::ConditionChanged(changed)) => {
                let ConditionChanged { proven_from, .. } = changed;
                let (condition, reason) = (changed.condition(), changed.reason());
                let feed = &mut self.feeds[index];
                (feed.condition, feed.reason, feed.proven_from) = (condition, reason, proven_from);
            }
            None => {}
        }
    }

    fn start_session(&mut self, index: usize, position: u64) {
        let feed = &mut self.feeds[index];
        if position <= feed.session_position {
            return;
        }
        feed.session_position = position;
        let name = &feed.name;
        self.by_id.retain(|_, instrument| {
            let is_of_feed = instrument.definition.as_ref().is_some_and(|row| row.feed == *name);
            !is_of_feed || instrument.keep_from(position)
        });
    }

    /// Takes the place of `before`, whose instruments were the same ones if they are called the same.
    pub fn succeed(&mut self, before: &Instruments) {
        for (id, instrument) in &mut self.by_id {
            let Some(earlier) = before.by_id.get(id).filter(|earlier| earlier.symbol == instrument.symbol)
            else {
                continue;
            };
            (instrument.per_s, instrument.was_rated) = (earlier.per_s, earlier.was_rated);
            if instrument.trade.is_some() {
                instrument.first_price_e9 = earlier.first_price_e9.or(instrument.first_price_e9);
            }
        }
        self.skipped += before.skipped;
    }

    /// Takes the rates over the `elapsed_s` since it was last called.
    pub fn rate(&mut self, elapsed_s: f64) {
        for instrument in self.by_id.values_mut() {
            let per_s = std::mem::take(&mut instrument.updates) as f64 / elapsed_s;
            let weight = if instrument.was_rated { RATE_WEIGHT } else { 1.0 };
            instrument.per_s += weight * (per_s - instrument.per_s);
            if instrument.per_s < RATE_MIN_PER_S {
                instrument.per_s = 0.0;
            }
            instrument.was_rated = true;
        }
    }

    pub fn get(&self, id: u32) -> Option<&Instrument> {
        self.by_id.get(&id)
    }

    /// All that have a name, as the subscription told it, in no order.
    pub fn named(&self) -> impl Iterator<Item = (u32, &Instrument)> {
        let named = self.by_id.iter().filter(|(_, instrument)| instrument.definition.is_some());
        named.map(|(id, instrument)| (*id, instrument))
    }

    /// The verdict on an instrument; `is_current` = the node is heard.
    pub fn judge(&self, instrument: &Instrument, is_current: bool) -> Judged {
        let name = instrument.definition.as_ref().map(|row| row.feed.as_str());
        let feed = name.and_then(|name| self.feeds.iter().find(|feed| feed.name == name));
        let of = |mark: Option<&RowMark>| match mark {
            Some(_) if !is_current => Verdict::stale(RowReason::Unspecified),
            Some(mark) => self.judge_row(feed, mark),
            None => Verdict::NONE,
        };
        let definition = of(instrument.definition.as_ref().and_then(|row| row.mark.as_ref()));
        let quote = of(instrument.quote.as_ref().and_then(|row| row.mark.as_ref()));
        let trade = of(instrument.trade.as_ref().and_then(|row| row.mark.as_ref()));
        Judged { worst: definition.max(quote).max(trade), quote: quote.state, trade: trade.state }
    }

    fn judge_row(&self, feed: Option<&Feed>, mark: &RowMark) -> Verdict {
        if !self.is_writer_alive {
            return Verdict::stale(RowReason::WriterGone);
        }
        let Some(feed) = feed else { return Verdict::stale(RowReason::Unspecified) };
        let told = Verdict { state: mark.state(), reason: mark.reason() };
        match feed.condition {
            FeedCondition::Stale => Verdict::stale(RowReason::FeedSilent),
            FeedCondition::Waiting | FeedCondition::Unspecified => Verdict::stale(RowReason::FeedWaiting),
            // What it was worth before is not known: it stays so until it is told again.
            _ if told.state == RowState::Stale => told,
            _ if mark.position < feed.proven_from => {
                Verdict { state: RowState::Suspect, reason: feed.reason }
            }
            _ => told,
        }
    }

    /// Whether it was told as stale, and nothing but that says that it still is: the node must be asked again.
    pub fn is_to_be_told_again(&self, instrument: &Instrument, judged: &Judged) -> bool {
        let is_told_stale = || instrument.marks().any(|mark| mark.state() == RowState::Stale);
        let name = instrument.definition.as_ref().map_or("", |row| row.feed.as_str());
        let feed_speaks = || {
            self.feeds.iter().filter(|feed| feed.name == name).any(|feed| {
                !matches!(
                    feed.condition,
                    FeedCondition::Stale | FeedCondition::Waiting | FeedCondition::Unspecified
                )
            })
        };
        judged.worst.state == RowState::Stale && self.is_writer_alive && is_told_stale() && feed_speaks()
    }
}
