//! TOPS 1.6: from the messages of one feed to the rows of its instruments.
//!
//! What proves a row: its own next message. A quote says both sides in full, a trade is the last trade, so after a loss
//! a row is right again as soon as it was told once more; until then it is suspect. Two things say less than
//! their row holds, and stay suspect for longer: a status, of which one message tells trading and another the
//! exchange's own halts, until both were told; and a trade that counts again because a later one was broken, until the
//! next trade. Joined late, a row is there once it was told, and live but for those two, which are partial.

mod instrument;
mod symbols;

use std::marker::PhantomData;
use std::sync::Arc;

use super::decoder::Decoder;
use super::delivery::{Delivery, Event};
use super::transport::{IexTp, SESSION_BYTES};
use super::{DecoderCounters, Proof, Publication, Renumbering, Stamp};
use crate::cache::tick::{self, PRICE_ABSENT, Quote, Reason, Trade, flag};
use crate::cache::writer::Writer;
use crate::hint::Prefetch;
use crate::wire::iextp::Stream;
use crate::wire::tops16::{self, Message, QuoteUpdate, TopsError, TradeBreak, TradeReport};
use bytemuck::Zeroable;
use instrument::{Half, Instrument};
use symbols::Symbols;
use zerocopy::FromBytes;

/// Decimals of TOPS's prices.
const PRICE_DECIMALS: u8 = 4;
/// One unit of TOPS's prices in the cache's.
const UNIT: i64 = tick::PRICE_SCALE / tops16::PRICE_SCALE as i64;

/// One feed's instruments.
pub struct Tops16<F> {
    publication: Publication,
    symbols: Symbols,
    /// By the symbols' places.
    instruments: Box<[Instrument]>,
    /// How often something was lost in this session.
    losses: u64,
    /// The session was joined late.
    late: bool,
    hints: PhantomData<F>,
}

/// An instrument that has a row.
#[derive(Clone, Copy)]
struct Known {
    index: usize,
    row: u32,
}

#[inline(always)]
fn price(price: i64) -> Option<i64> {
    if price > 0 { price.checked_mul(UNIT) } else { None }
}

/// One side of a quote; `None` = it can't be.
#[inline(always)]
fn side(wire_price: i64, size: u32) -> Option<(i64, u32)> {
    if size == 0 { Some((PRICE_ABSENT, 0)) } else { Some((price(wire_price)?, size)) }
}

/// Stamps from before 1970 are none.
#[inline(always)]
fn exchange_ns(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

impl<F: Prefetch> Tops16<F> {
    /// For at most `symbols_max` symbols a session.
    pub fn new(feed: u16, symbols_max: usize, counters: Arc<DecoderCounters>) -> Tops16<F> {
        Tops16 {
            publication: Publication::new(feed, PRICE_DECIMALS, counters),
            symbols: Symbols::new(symbols_max),
            instruments: bytemuck::allocation::zeroed_slice_box(symbols_max),
            losses: 0,
            late: false,
            hints: PhantomData,
        }
    }

    /// True = it was a quote or a trade.
    #[inline(always)]
    fn message(&mut self, bytes: &[u8], sequence: u64, received_ns: u64, writer: &mut Writer<'_>) -> bool {
        let mut stamp = Stamp { sequence, exchange_ns: 0, received_ns };
        match Message::parse(bytes) {
            Ok(Message::QuoteUpdate(update)) => {
                stamp.exchange_ns = exchange_ns(update.timestamp.get());
                self.quote(update, &stamp, writer);
            }
            Ok(Message::TradeReport(report)) => {
                stamp.exchange_ns = exchange_ns(report.timestamp.get());
                self.trade(report, &stamp, writer);
            }
            other => {
                self.uncommon(other, stamp, writer);
                return false;
            }
        }
        self.publication.see_exchange_ns(stamp.exchange_ns);
        true
    }

    #[inline(always)]
    fn quote(&mut self, update: &QuoteUpdate, stamp: &Stamp, writer: &mut Writer<'_>) {
        let bid = side(update.bid_price.get(), update.bid_size.get());
        let ask = side(update.ask_price.get(), update.ask_size.get());
        let (Some((bid_price, bid_size)), Some((ask_price, ask_size))) = (bid, ask) else {
            return self.malformed(stamp, writer);
        };
        let Some(known) = self.instrument(&update.symbol, stamp, writer) else { return };
        let quote = Quote { bid_price, ask_price, bid_size, ask_size };
        self.publication.publish_row(known.row, 0, quote, stamp, writer);
    }

    #[inline(always)]
    fn trade(&mut self, report: &TradeReport, stamp: &Stamp, writer: &mut Writer<'_>) {
        let (price, size) = (price(report.price.get()), u64::from(report.size.get()));
        let (Some(price), 1..) = (price, size) else {
            return self.malformed(stamp, writer);
        };
        let Some(known) = self.instrument(&report.symbol, stamp, writer) else { return };
        let trade = Trade { price, size, trade_id: report.trade_id.get() as u64 };
        self.instruments[known.index].trades.record(trade);
        self.publication.publish_row(known.row, 0, trade, stamp, writer);
    }

    #[inline(always)]
    fn instrument(&mut self, symbol: &[u8; 8], stamp: &Stamp, writer: &mut Writer<'_>) -> Option<Known> {
        match self.symbols.find(u64::from_le_bytes(*symbol)) {
            Some((index, row)) => Some(Known { index, row }),
            None => self.introduce(symbol, stamp, writer),
        }
    }

    /// Gives a row to a symbol that is seen for the first time in this session.
    #[cold]
    #[inline(never)]
    fn introduce(&mut self, symbol: &[u8; 8], stamp: &Stamp, writer: &mut Writer<'_>) -> Option<Known> {
        let name = symbol.trim_ascii_end();
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            self.malformed(stamp, writer);
            return None;
        }
        if self.symbols.is_full() {
            self.publication.instruments_full(stamp, writer);
            return None;
        }
        let row = self.publication.row_for(name, stamp, writer).ok()?;
        let index = self.symbols.insert(u64::from_le_bytes(*symbol), row).ok()?;
        self.publication.define(row, 0, 0, name, stamp, writer);
        Some(Known { index, row })
    }

    /// What is neither a quote nor a trade, and bytes that are no message.
    #[cold]
    #[inline(never)]
    fn uncommon(
        &mut self,
        message: Result<Message<'_>, TopsError>,
        mut stamp: Stamp,
        writer: &mut Writer<'_>,
    ) {
        let counters = self.publication.counters();
        match message {
            Err(TopsError::UnknownType(_)) => return counters.unknown_types.add(1),
            Err(TopsError::TooShort { .. }) => return self.malformed(&stamp, writer),
            Ok(_) => counters.others.add(1),
        }
        match message {
            Ok(Message::TradeBreak(broken)) => {
                stamp.exchange_ns = exchange_ns(broken.timestamp.get());
                self.break_trade(broken, &stamp, writer);
            }
            Ok(Message::TradingStatus(told)) => {
                stamp.exchange_ns = exchange_ns(told.timestamp.get());
                let Some(known) = self.instrument(&told.symbol, &stamp, writer) else { return };
                let status = &mut self.instruments[known.index].status;
                (status.state, status.reason) = (told.status, told.reason);
                self.publish_status(known, Half::Trading, &stamp, writer);
            }
            Ok(Message::OperationalHaltStatus(told)) => {
                stamp.exchange_ns = exchange_ns(told.timestamp.get());
                let Some(known) = self.instrument(&told.symbol, &stamp, writer) else { return };
                self.instruments[known.index].status.operational_halt = told.status;
                self.publish_status(known, Half::OperationalHalt, &stamp, writer);
            }
            _ => {}
        }
    }

    fn break_trade(&mut self, broken: &TradeBreak, stamp: &Stamp, writer: &mut Writer<'_>) {
        let Some((index, row)) = self.symbols.find(u64::from_le_bytes(broken.symbol)) else { return };
        let trades = &mut self.instruments[index].trades;
        if trades.forget(Trade { trade_id: broken.trade_id.get() as u64, ..Trade::NONE }) {
            let last = trades.last().unwrap_or(Trade::NONE);
            // There may have been another trade among what was not seen.
            self.publication.publish_row(row, self.unseen(), last, stamp, writer);
        }
    }

    fn publish_status(&mut self, known: Known, half: Half, stamp: &Stamp, writer: &mut Writer<'_>) {
        let instrument = &mut self.instruments[known.index];
        instrument.tell(half, self.losses);
        let flags = if instrument.is_told_since(self.losses) { 0 } else { self.unseen() };
        let status = self.instruments[known.index].status;
        self.publication.publish_row(known.row, flags, status, stamp, writer);
    }

    /// The flags of a row that rests on more than the message at hand.
    fn unseen(&self) -> u8 {
        match (self.losses, self.late) {
            (0, false) => 0,
            (0, true) => flag::PARTIAL,
            (1.., _) => flag::SUSPECT,
        }
    }

    #[cold]
    fn malformed(&mut self, stamp: &Stamp, writer: &mut Writer<'_>) {
        self.publication.counters().malformed.add(1);
        self.publication.doubt(Reason::Malformed, Proof::EachRow, stamp, writer);
        self.losses += 1;
    }

    fn begin(&mut self, session: [u8; SESSION_BYTES], sequence: u64, late: bool, writer: &mut Writer<'_>) {
        self.instruments[..self.symbols.len()].fill(Instrument::zeroed());
        self.symbols.clear();
        (self.losses, self.late) = (0, late);
        let day_ns = self.publication.received_ns();
        self.publication.begin(session_name(&session), day_ns, sequence, late, writer);
        // Not every row of a late session is partial here.
        self.publication.flags = 0;
    }
}

/// The session's number as text; protocol and channel are not part of its name.
fn session_name(stream: &[u8; SESSION_BYTES]) -> [u8; SESSION_BYTES] {
    let mut rest = Stream::ref_from_bytes(stream).map_or(0, |stream| stream.session.get());
    let mut digits = [0; SESSION_BYTES];
    let mut first = digits.len();
    while rest != 0 || first == digits.len() {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits.rotate_left(first);
    digits
}

impl<F: Prefetch> Decoder for Tops16<F> {
    type Transport = IexTp;

    #[inline(always)]
    fn publication(&mut self) -> &mut Publication {
        &mut self.publication
    }

    #[inline(always)]
    fn messages(&mut self, delivery: Delivery<'_>, writer: &mut Writer<'_>) {
        let (mut sequence, mut actions) = (delivery.sequence, 0);
        for message in delivery.messages::<IexTp>() {
            actions += u64::from(self.message(message, sequence, delivery.received_ns, writer));
            sequence += 1;
        }
        self.publication.counters().actions.add(actions);
    }

    #[inline(always)]
    fn flush(&mut self, _writer: &mut Writer<'_>) {}

    fn event(&mut self, event: Event, writer: &mut Writer<'_>) {
        match event {
            Event::SessionStarted { session, sequence, late } => self.begin(session, sequence, late, writer),
            Event::Gap { from, to } => {
                self.publication.gap(from, to, Proof::EachRow, writer);
                self.losses += 1;
            }
            Event::Condition(condition) => self.publication.condition(condition, writer),
            Event::SessionEnded { .. } => {}
        }
    }

    fn renumber(&mut self, numbers: &Renumbering) {
        self.symbols.renumber(|row| numbers.row(row));
    }

    fn memory(&self) -> Vec<&[u8]> {
        vec![self.symbols.memory(), bytemuck::cast_slice(&self.instruments)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_called_by_its_number() {
        let name = |session: u32| {
            let stream = Stream { protocol: 0x8003.into(), channel: 1.into(), session: session.into() };
            session_name(zerocopy::transmute_ref!(&stream))
        };
        assert_eq!(&name(1_137_508_352), b"1137508352");
        assert_eq!(&name(u32::MAX), b"4294967295");
        assert_eq!(&name(42), b"42\0\0\0\0\0\0\0\0");
        assert_eq!(&name(0), b"0\0\0\0\0\0\0\0\0\0");
    }
}
