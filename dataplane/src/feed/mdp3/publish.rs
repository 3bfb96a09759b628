//! From what the decoder knows to ticks.

use super::instrument::{Book, Instrument, state};
use super::{Mdp3, Stamp, Writer};
use crate::cache::tick::{Contract, ImpliedQuote, Kind, PRICE_ABSENT, Payload, Quote, Reason, Trade, flag};
use crate::feed::number::decimal;
use crate::hint::Prefetch;
use crate::wire::mdp3::{Definition, DefinitionHead, EventHead, FeedTypeEntry};
use bytemuck::Zeroable;
use zerocopy::byteorder::little_endian::U64;

/// The rows that reports prove; no report tells the trading status.
const REPORTED: [Kind; 5] = [Kind::Definition, Kind::Contract, Kind::Trade, Kind::Quote, Kind::ImpliedQuote];

impl<F: Prefetch> Mdp3<F> {
    /// The flags of an instrument's rows, besides the session's: they are suspect until they are proven, and partial if its
    /// definition did not come before its book.
    #[inline(always)]
    fn flags(&self, instrument: &Instrument) -> u8 {
        let doubtful = instrument.has(state::SUSPECT) || instrument.losses != self.losses;
        let unmeasured = instrument.has(state::UNMEASURED);
        (u8::from(doubtful) * flag::SUSPECT) | (u8::from(unmeasured) * flag::PARTIAL)
    }

    #[inline(always)]
    fn publish_row<P: Payload>(&mut self, place: usize, payload: P, stamp: &Stamp, writer: &mut Writer<'_>) {
        let Some(row) = self.instruments[place].row().or_else(|| self.introduce(place, stamp, writer)) else {
            return;
        };
        let flags = self.flags(&self.instruments[place]);
        self.publication.publish_row(row, flags, payload, stamp, writer);
    }

    /// Publishes the top of a book, if it is not the one that was published last. True = it was.
    #[inline(always)]
    pub(super) fn publish_quote(
        &mut self,
        place: usize,
        book: Book,
        stamp: &Stamp,
        writer: &mut Writer<'_>,
    ) -> bool {
        let Some(quote) = self.instruments[place].take_quote(book) else { return false };
        match book {
            Book::Direct => self.publish_row(place, quote, stamp, writer),
            Book::Implied => self.publish_row(place, ImpliedQuote(quote), stamp, writer),
        }
        true
    }

    /// Publishes the last trade that still counts.
    pub(super) fn publish_trade(&mut self, place: usize, stamp: &Stamp, writer: &mut Writer<'_>) {
        let trade = self.instruments[place].trades.last().unwrap_or(Trade::NONE);
        self.publish_row(place, trade, stamp, writer);
    }

    /// Its rows are proven again: publishes those that were not published just now.
    #[cold]
    pub(super) fn renew(&mut self, place: usize, quoted: [bool; 2], writer: &mut Writer<'_>) {
        let instrument = &self.instruments[place];
        let Some(row) = instrument.row() else { return };
        let flags = self.flags(instrument);
        let is_due = |kind: &&Kind| match kind {
            Kind::Quote => !quoted[Book::Direct as usize],
            Kind::ImpliedQuote => !quoted[Book::Implied as usize],
            _ => true,
        };
        for kind in REPORTED.iter().filter(is_due) {
            self.publication.renew(row, &[*kind], flags, writer);
        }
    }

    /// Nothing that is known of the instrument can be trusted until the channel is reset.
    #[cold]
    pub(super) fn suspect(&mut self, place: usize, reason: Reason, stamp: &Stamp, writer: &mut Writer<'_>) {
        let instrument = &mut self.instruments[place];
        if !instrument.has(state::SUSPECT) {
            instrument.is |= state::SUSPECT;
            instrument.is &= !state::RENEWED;
            if let Some(row) = instrument.row() {
                self.publication.renew(row, &REPORTED, flag::SUSPECT, writer);
            }
            self.publication.tell_reason(reason, stamp, writer);
        }
        // It has a row from its first report on.
        self.touch(place, stamp, writer);
    }

    /// All books are empty, and all reports begin again at 1: what was doubtful is so no more.
    #[cold]
    pub(super) fn reset(&mut self, head: &EventHead, stamp: Stamp, writer: &mut Writer<'_>) -> EventHead {
        let stamp = &Stamp { exchange_ns: head.transact_time.get(), ..stamp };
        self.end_event(stamp, writer);
        self.publication.counters().channel_resets.add(1);
        self.publication.restart(stamp, writer);
        let losses = std::mem::take(&mut self.losses);
        for place in 0..self.instruments.len() {
            let instrument = &mut self.instruments[place];
            let proven = !instrument.has(state::SUSPECT) && instrument.losses == losses;
            instrument.reset();
            let Some(row) = instrument.row() else { continue };
            // After a loss the last trade may have been another one.
            let forgotten = !proven && instrument.trades.last().is_some();
            if forgotten {
                instrument.trades = Zeroable::zeroed();
                self.publish_trade(place, stamp, writer);
            }
            for book in [Book::Direct, Book::Implied] {
                if !self.publish_quote(place, book, stamp, writer) {
                    let kind = [Kind::Quote, Kind::ImpliedQuote][book as usize];
                    self.publication.renew(row, &[kind], 0, writer);
                }
            }
            let rest = [Kind::Definition, Kind::Contract, Kind::Trade];
            self.publication.renew(row, &rest[..rest.len() - usize::from(forgotten)], 0, writer);
        }
        *head
    }

    /// Gives a row to an instrument whose definition was not seen: it is called by its number.
    #[cold]
    pub(super) fn introduce(&mut self, place: usize, stamp: &Stamp, writer: &mut Writer<'_>) -> Option<u32> {
        let (digits, start) = decimal(self.instruments[place].security_id);
        self.give_row(place, &digits[start..], stamp, writer)
    }

    fn give_row(&mut self, place: usize, name: &[u8], stamp: &Stamp, writer: &mut Writer<'_>) -> Option<u32> {
        let row = self.publication.row_for(name, stamp, writer).ok()?;
        self.instruments[place].set_row(Some(row));
        self.define_row(row, place, name, stamp, writer);
        Some(row)
    }

    fn define_row(&self, row: u32, place: usize, name: &[u8], stamp: &Stamp, writer: &mut Writer<'_>) {
        let instrument = &self.instruments[place];
        let (native_id, flags) = (instrument.security_id as u32, self.flags(instrument));
        self.publication.define(row, flags, native_id, name, stamp, writer);
    }

    /// Takes an instrument's definition: it is called by its symbol from now on.
    #[cold]
    pub(super) fn define(
        &mut self,
        definition: &Definition<'_>,
        stamp: Stamp,
        writer: &mut Writer<'_>,
    ) -> EventHead {
        let head = definition.head();
        let stamp = Stamp { exchange_ns: head.last_update_time.get(), ..stamp };
        self.take_definition(definition, &stamp, writer);
        // When it was changed last may be long ago: it does not tell how long it took to come here.
        EventHead { transact_time: U64::ZERO, match_event_indicator: head.match_event_indicator }
    }

    fn take_definition(&mut self, definition: &Definition<'_>, stamp: &Stamp, writer: &mut Writer<'_>) {
        let head = definition.head();
        let name = head.symbol.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii_end();
        if name.is_empty() {
            return self.publication.counters().malformed.add(1);
        }
        if head.update_action == DefinitionHead::DELETED {
            return self.undefine(head.security_id.get(), stamp, writer);
        }
        let Some(place) = self.meet(head.security_id.get(), stamp, writer) else { return };
        for entry in definition.feed_types().iter() {
            let depth = u8::try_from(entry.market_depth).unwrap_or(0);
            match entry.feed_type {
                FeedTypeEntry::DIRECT => self.instruments[place].set_depth(Book::Direct, depth),
                FeedTypeEntry::IMPLIED => self.instruments[place].set_depth(Book::Implied, depth),
                _ => {}
            }
        }
        self.instruments[place].asset = head.asset;
        if self.groups.enter(&mut self.instruments, place, head.security_group).is_err() {
            self.publication.instruments_full(stamp, writer);
        }
        self.name(place, name, stamp, writer);
        let told = |value: Option<i64>| value.unwrap_or(PRICE_ABSENT);
        let contract = Contract {
            price_increment: told(definition.min_price_increment()),
            display_factor: told(definition.display_factor()),
            security_group: head.security_group,
            reserved: [0; 2],
        };
        if self.instruments[place].contract != contract {
            self.instruments[place].contract = contract;
            self.publish_row(place, contract, stamp, writer);
        }
    }

    fn name(&mut self, place: usize, name: &[u8], stamp: &Stamp, writer: &mut Writer<'_>) {
        let row = self.instruments[place].row();
        let found = self.publication.find(name, writer);
        if let Some((named, definition)) = found {
            if row == Some(named) {
                return;
            }
            // Two instruments of one name would write the same row: the later one keeps its number.
            let owner = self.instruments.find(definition.native_id as i32);
            if owner.is_some_and(|owner| self.instruments[owner].row() == Some(named)) {
                return self.publication.counters().malformed.add(1);
            }
        }
        if let (Some(row), None) = (row, found) {
            return self.define_row(row, place, name, stamp, writer);
        }
        if self.give_row(place, name, stamp, writer).is_none() {
            return;
        }
        // The new row has no terms yet.
        self.instruments[place].contract = Contract::zeroed();
        if let Some(before) = row {
            // Its number names nothing any more; what is known moves to the row of its name.
            self.define_row(before, place, b"", stamp, writer);
            self.publish_all(place, stamp, writer);
        }
    }

    /// The instrument is no more: its row has no name.
    fn undefine(&mut self, security_id: i32, stamp: &Stamp, writer: &mut Writer<'_>) {
        self.end_event(stamp, writer);
        let Some(place) = self.instruments.find(security_id) else { return };
        let instrument = &mut self.instruments[place];
        instrument.clear_books();
        if let Some(row) = instrument.row() {
            for book in [Book::Direct, Book::Implied] {
                self.publish_quote(place, book, stamp, writer);
            }
            self.define_row(row, place, b"", stamp, writer);
            self.instruments[place].set_row(None);
        }
        self.groups.leave(&mut self.instruments, place);
    }

    fn publish_all(&mut self, place: usize, stamp: &Stamp, writer: &mut Writer<'_>) {
        let instrument = &self.instruments[place];
        let (quote, implied) = (instrument.quote(Book::Direct), instrument.quote(Book::Implied));
        let has_traded = instrument.trades.last().is_some();
        self.publish_row(place, quote, stamp, writer);
        if implied != Quote::EMPTY {
            self.publish_row(place, ImpliedQuote(implied), stamp, writer);
        }
        if has_traded {
            self.publish_trade(place, stamp, writer);
        }
        self.publish_status(place, stamp, writer);
    }
}
