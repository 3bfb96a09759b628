//! CME MDP 3.0: from the packets of one channel to the rows of its instruments.
//!
//! What proves a row: the reports of an instrument are numbered through all templates (RptSeq), so the next number says
//! that nothing of it was missed.
//! - A number that is not the next one makes the instrument suspect until the channel is reset.
//! - A lost packet makes all rows suspect; those of an instrument are published again, as they are, when its next report
//!   is the next one.
//! - Joined late, all rows are partial until the channel is reset: what they say was told, what they lack was not.
//! - So are those of an instrument whose book began before its definition: how deep the book is was not known, and a level
//!   that fell out at its end may have stayed.
//!
//! Single orders (templates 43 and 47) are not kept, and have no report's number.
//!
//! A quote is published when the exchange's event ends: what it shows was on offer all at once.

mod book;
mod events;
mod instrument;
mod publish;
mod security_status;

use std::marker::PhantomData;
use std::sync::Arc;

use super::transport::Mdp3 as Packets;
use super::{Decoder, DecoderCounters, Delivery, Event, Proof, Publication, Renumbering, Stamp};
use crate::cache::tick::{Reason, Trade, flag};
use crate::cache::writer::Writer;
use crate::hint::Prefetch;
use crate::wire::mdp3::{
    Block, BookEntry, BookLongQtyEntry, EventHead, Field, INT32_NULL, Incremental, Message, Messages, Report,
    TradeEntry, TradeLongQtyEntry, UINT32_NULL, UINT64_NULL, entry_type, event_bit, price, update_action,
};
use book::{Impossible, Update};
use events::OpenEvent;
use instrument::{Instruments, state};
use security_status::Groups;

/// Decimals that CME's prices are shown with at least: they differ by instrument.
const PRICE_DECIMALS: u8 = 0;

/// One channel's books and what is known of its instruments.
pub struct Mdp3<F> {
    publication: Publication,
    instruments: Instruments,
    groups: Groups,
    event: OpenEvent,
    /// How often something was lost since the session began, or the channel was reset.
    losses: u32,
    hints: PhantomData<F>,
}

impl<F: Prefetch> Mdp3<F> {
    pub fn new(feed: u16, instruments_max: usize, counters: Arc<DecoderCounters>) -> Mdp3<F> {
        Mdp3 {
            publication: Publication::new(feed, PRICE_DECIMALS, counters),
            instruments: Instruments::new(instruments_max),
            groups: Groups::new(instruments_max),
            event: OpenEvent::new(),
            losses: 0,
            hints: PhantomData,
        }
    }

    #[inline(always)]
    fn message(&mut self, bytes: &[u8], stamp: Stamp, writer: &mut Writer<'_>) {
        let head = match Message::parse(bytes) {
            Ok(Message::Book(book)) => self.book(book, stamp, writer),
            Ok(Message::TradeSummary(trades)) => self.trades(trades, stamp, writer),
            Ok(message) => match self.uncommon(message, stamp, writer) {
                Some(head) => head,
                None => return,
            },
            Err(_) => {
                self.publication.counters().malformed.add(1);
                return self.lose(Reason::Malformed, &stamp, writer);
            }
        };
        let exchange_ns = head.transact_time.get();
        self.publication.see_exchange_ns(exchange_ns);
        if head.match_event_indicator & event_bit::END_OF_EVENT != 0 {
            self.end_event(&Stamp { exchange_ns, ..stamp }, writer);
        }
    }

    /// All but books and trades. `Some` = what it says of its event.
    #[inline(never)]
    fn uncommon(&mut self, message: Message<'_>, stamp: Stamp, writer: &mut Writer<'_>) -> Option<EventHead> {
        let counters = self.publication.counters();
        match message {
            Message::Unknown(_) => counters.unknown_types.add(1),
            Message::BookLongQty(_) | Message::TradeSummaryLongQty(_) => {}
            _ => counters.others.add(1),
        }
        Some(match message {
            Message::BookLongQty(book) => self.book(book, stamp, writer),
            Message::TradeSummaryLongQty(trades) => self.trades(trades, stamp, writer),
            Message::DailyStatistics(reports) => self.reports(reports, stamp, writer),
            Message::LimitsBanding(reports) => self.reports(reports, stamp, writer),
            Message::SessionStatistics(reports) => self.reports(reports, stamp, writer),
            Message::SessionStatisticsLongQty(reports) => self.reports(reports, stamp, writer),
            Message::Volume(reports) => self.reports(reports, stamp, writer),
            Message::VolumeLongQty(reports) => self.reports(reports, stamp, writer),
            Message::Definition(definition) => self.define(&definition, stamp, writer),
            Message::SecurityStatus(status) => self.security_status(status, stamp, writer),
            Message::ChannelReset(head) => self.reset(head, stamp, writer),
            Message::OrderBook(head) => *head,
            _ => return None,
        })
    }

    #[inline(always)]
    fn book<E: BookLevel>(
        &mut self,
        book: Incremental<'_, E>,
        stamp: Stamp,
        writer: &mut Writer<'_>,
    ) -> EventHead {
        let stamp = Stamp { exchange_ns: book.head.transact_time.get(), ..stamp };
        self.publication.counters().actions.add(1);
        for entry in book.entries.iter() {
            let Some(place) = self.follow(&*entry, &stamp, writer) else { continue };
            let (update, entry_type) = entry.update(book.price_unit);
            self.update(place, &update, entry_type, &stamp, writer);
        }
        *book.head
    }

    #[inline(always)]
    fn trades<E: TradeTerms>(
        &mut self,
        trades: Incremental<'_, E>,
        stamp: Stamp,
        writer: &mut Writer<'_>,
    ) -> EventHead {
        let stamp = Stamp { exchange_ns: trades.head.transact_time.get(), ..stamp };
        self.publication.counters().actions.add(1);
        for entry in trades.entries.iter() {
            let Some(place) = self.follow(&*entry, &stamp, writer) else { continue };
            let (trade, action) = E::terms(&entry, trades.price_unit);
            self.trade(place, trade, action, &stamp, writer);
        }
        *trades.head
    }

    /// Entries of which only the numbers matter.
    fn reports<E: Field + Report>(
        &mut self,
        reports: Incremental<'_, E>,
        stamp: Stamp,
        writer: &mut Writer<'_>,
    ) -> EventHead {
        let stamp = Stamp { exchange_ns: reports.head.transact_time.get(), ..stamp };
        for entry in reports.entries.iter() {
            self.follow(&*entry, &stamp, writer);
        }
        *reports.head
    }

    /// Takes the number of a report. `Some` = the report is to be done, for the instrument at that place.
    #[inline(always)]
    fn follow(&mut self, report: &impl Report, stamp: &Stamp, writer: &mut Writer<'_>) -> Option<usize> {
        let rpt_seq = report.rpt_seq();
        if let Some(place) = self.instruments.find(report.security_id()) {
            let instrument = &mut self.instruments[place];
            let next = instrument.rpt_seq.wrapping_add(1) == rpt_seq;
            if next && instrument.losses == self.losses && instrument.has(state::NUMBERED) {
                instrument.rpt_seq = rpt_seq;
                return Some(place);
            }
        }
        self.follow_first(report.security_id(), rpt_seq, stamp, writer)
    }

    /// The first report of an instrument, the first after a loss, or one whose number is not the next.
    #[cold]
    #[inline(never)]
    fn follow_first(
        &mut self,
        security_id: i32,
        rpt_seq: u32,
        stamp: &Stamp,
        writer: &mut Writer<'_>,
    ) -> Option<usize> {
        let place = self.meet(security_id, stamp, writer)?;
        let losses = self.losses;
        let counters = self.publication.counters();
        let instrument = &mut self.instruments[place];
        let proven = instrument.losses == losses;
        if !instrument.has(state::NUMBERED) {
            // Joined late: its past is unknown, which its rows say. A loss since then may have been one of it.
            instrument.is |= state::NUMBERED;
            (instrument.rpt_seq, instrument.losses) = (rpt_seq, losses);
            if proven {
                self.touch(place, stamp, writer)
            } else {
                self.suspect(place, Reason::Gap, stamp, writer)
            }
            return Some(place);
        }
        if rpt_seq <= instrument.rpt_seq {
            counters.old_reports.add(1);
            // Behind a loss it is nothing old: what was lost reset the channel.
            if !proven {
                self.suspect(place, Reason::Gap, stamp, writer);
            }
            return None;
        }
        let is_next = rpt_seq - 1 == instrument.rpt_seq;
        (instrument.rpt_seq, instrument.losses) = (rpt_seq, losses);
        if !is_next {
            counters.report_gaps.add(1);
            self.suspect(place, Reason::Gap, stamp, writer);
        } else if !self.instruments[place].has(state::SUSPECT) {
            self.instruments[place].is |= state::RENEWED;
            self.touch(place, stamp, writer);
        }
        Some(place)
    }

    /// The place of an instrument that may be new; `None` = there is no room for it.
    fn meet(&mut self, security_id: i32, stamp: &Stamp, writer: &mut Writer<'_>) -> Option<usize> {
        if let Some(place) = self.instruments.find(security_id) {
            return Some(place);
        }
        let Ok(place) = self.instruments.find_or_add(security_id) else {
            self.publication.instruments_full(stamp, writer);
            return None;
        };
        if self.is_complete() {
            // Its first number is 1.
            self.instruments[place].is |= state::NUMBERED;
            self.touch(place, stamp, writer);
        }
        Some(place)
    }

    /// All that the channel told since its books were empty was seen, but for what was lost.
    #[inline(always)]
    fn is_complete(&self) -> bool {
        self.publication.flags & flag::PARTIAL == 0
    }

    #[inline(always)]
    fn update(&mut self, place: usize, update: &Update, kind: u8, stamp: &Stamp, writer: &mut Writer<'_>) {
        let complete = self.is_complete();
        let instrument = &mut self.instruments[place];
        let applied = if kind == entry_type::BOOK_RESET {
            instrument.clear_books();
            Ok(())
        } else {
            instrument.apply(kind, update, complete)
        };
        match applied {
            // Only the top is published.
            Ok(()) if update.level > 1 && update.action < update_action::DELETE_THRU => {}
            Ok(()) => self.touch(place, stamp, writer),
            Err(Impossible) => self.impossible(place, stamp, writer),
        }
    }

    #[inline(always)]
    fn trade(
        &mut self,
        place: usize,
        trade: Option<Trade>,
        action: u8,
        stamp: &Stamp,
        writer: &mut Writer<'_>,
    ) {
        let trades = &mut self.instruments[place].trades;
        let was_last = match (action, trade) {
            (update_action::NEW, Some(trade)) => {
                trades.record(trade);
                true
            }
            (update_action::CHANGE, Some(trade)) => trades.correct(trade),
            (update_action::DELETE, Some(trade)) => trades.forget(trade),
            _ => return self.impossible(place, stamp, writer),
        };
        if was_last {
            self.publish_trade(place, stamp, writer);
        }
    }

    /// An entry can't be right, so the book that it is about isn't either.
    #[cold]
    fn impossible(&mut self, place: usize, stamp: &Stamp, writer: &mut Writer<'_>) {
        self.publication.counters().malformed.add(1);
        self.suspect(place, Reason::Malformed, stamp, writer);
    }

    /// Something was lost, of whichever instruments: their next reports will tell.
    #[cold]
    fn lose(&mut self, reason: Reason, stamp: &Stamp, writer: &mut Writer<'_>) {
        self.end_open_event(writer);
        self.losses += 1;
        self.publication.doubt(reason, Proof::EachRow, stamp, writer);
    }

    fn begin(&mut self, session: [u8; 10], sequence: u64, late: bool, writer: &mut Writer<'_>) {
        self.event.clear();
        self.instruments.clear();
        self.groups.clear();
        self.losses = 0;
        self.publication.begin(session, 0, sequence, late, writer);
    }
}

impl<F: Prefetch> Decoder for Mdp3<F> {
    type Transport = Packets;

    #[inline(always)]
    fn publication(&mut self) -> &mut Publication {
        &mut self.publication
    }

    #[inline(always)]
    fn messages(&mut self, delivery: Delivery<'_>, writer: &mut Writer<'_>) {
        // Packets are numbered, so the sequence is theirs.
        let stamp = Stamp { sequence: delivery.sequence, exchange_ns: 0, received_ns: delivery.received_ns };
        for message in Messages::new(delivery.blocks) {
            // A size that can't be is no message either; the transport lets none pass.
            self.message(message.unwrap_or_default(), stamp, writer);
        }
        if self.event.waits_too_long() {
            self.force_event(writer);
        }
    }

    #[inline(always)]
    fn flush(&mut self, _writer: &mut Writer<'_>) {}

    fn event(&mut self, event: Event, writer: &mut Writer<'_>) {
        match event {
            Event::SessionStarted { session, sequence, late } => self.begin(session, sequence, late, writer),
            Event::Gap { from, to } => {
                self.end_open_event(writer);
                self.losses += 1;
                self.publication.gap(from, to, Proof::EachRow, writer);
            }
            Event::Condition(condition) => self.publication.condition(condition, writer),
            Event::SessionEnded { .. } => {}
        }
    }

    #[inline(always)]
    fn poll(&mut self, now_ns: u64, writer: &mut Writer<'_>) {
        if self.event.is_overdue(now_ns) {
            self.force_event(writer);
        }
    }

    fn finish(&mut self, writer: &mut Writer<'_>) {
        self.end_open_event(writer);
    }

    fn renumber(&mut self, numbers: &Renumbering) {
        for place in 0..self.instruments.len() {
            let instrument = &mut self.instruments[place];
            instrument.set_row(instrument.row().and_then(|row| numbers.row(row)));
        }
    }

    fn memory(&self) -> Vec<&[u8]> {
        self.instruments.memory().into()
    }
}

/// A book's entry, whatever the width of its size.
trait BookLevel: Field + Report {
    /// What it says, and of which side.
    fn update(&self, price_unit: i64) -> (Update, u8);
}

impl BookLevel for BookEntry {
    #[inline(always)]
    fn update(&self, price_unit: i64) -> (Update, u8) {
        let size = Some(self.size.get()).filter(|size| *size != INT32_NULL);
        let size = size.and_then(|size| u32::try_from(size).ok());
        let price = price(self.price.get(), price_unit);
        (Update { action: self.action, level: self.level, price, size }, self.entry_type)
    }
}

impl BookLevel for BookLongQtyEntry {
    #[inline(always)]
    fn update(&self, price_unit: i64) -> (Update, u8) {
        let size = Some(self.size.get()).filter(|size| *size != UINT64_NULL);
        // A level of more than 4,294,967,295 is shown as that.
        let size = size.map(|size| u32::try_from(size).unwrap_or(u32::MAX));
        let price = price(self.price.get(), price_unit);
        (Update { action: self.action, level: self.level, price, size }, self.entry_type)
    }
}

/// A trade's entry, whatever the width of its size.
trait TradeTerms: Field + Report {
    /// The trade (`None` = it can't be one) and the action.
    fn terms(entry: &Block<'_, Self>, price_unit: i64) -> (Option<Trade>, u8)
    where
        Self: Sized;
}

impl TradeTerms for TradeEntry {
    #[inline(always)]
    fn terms(entry: &Block<'_, Self>, price_unit: i64) -> (Option<Trade>, u8) {
        let size = u64::try_from(entry.size.get()).ok();
        let price = price(entry.price.get(), price_unit);
        let trade_id = entry.trade_id().unwrap_or(0).into();
        (price.zip(size).map(|(price, size)| Trade { price, size, trade_id }), entry.action)
    }
}

impl TradeTerms for TradeLongQtyEntry {
    #[inline(always)]
    fn terms(entry: &Block<'_, Self>, price_unit: i64) -> (Option<Trade>, u8) {
        let id = Some(entry.trade_id.get()).filter(|id| *id != UINT32_NULL);
        let (trade_id, size) = (id.unwrap_or(0).into(), entry.size.get());
        (price(entry.price.get(), price_unit).map(|price| Trade { price, size, trade_id }), entry.action)
    }
}
