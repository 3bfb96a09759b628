//! From what the decoder knows to ticks.

use super::{Entry, Itch50, NATIVE_IDS};
use crate::book::levels::Best;
use crate::cache::tick::{self, PRICE_ABSENT, Payload, Quote, Status, Trade};
use crate::cache::writer::{InstrumentsFull, Writer};
use crate::feed::number::decimal;
use crate::hint::Prefetch;
use crate::wire::itch50;
use bytemuck::Zeroable;

/// One unit of ITCH's prices in the cache's.
const UNIT: i64 = tick::PRICE_SCALE / itch50::PRICE_SCALE as i64;

#[inline(always)]
fn price_and_size(best: Best) -> (i64, u32) {
    let price = if best.shares == 0 { PRICE_ABSENT } else { i64::from(best.price) * UNIT };
    // A level of more than 4,294,967,295 shares is shown as that.
    (price, u32::try_from(best.shares).unwrap_or(u32::MAX))
}

#[inline(always)]
pub(super) fn traded(trade_id: u64, size: u64, price: u32) -> Trade {
    Trade { price: i64::from(price) * UNIT, size, trade_id }
}

impl<F: Prefetch> Itch50<F> {
    #[inline(always)]
    pub(super) fn publish_row<P: Payload>(
        &mut self,
        native_id: u16,
        payload: P,
        entry: &Entry,
        writer: &mut Writer<'_>,
    ) {
        let row = match self.instruments[usize::from(native_id)].row() {
            Some(row) => row,
            None => match self.introduce(native_id, entry, writer) {
                Ok(row) => row,
                Err(InstrumentsFull) => return,
            },
        };
        self.publication.publish_row(row, 0, payload, &entry.stamp, writer);
    }

    #[inline(always)]
    pub(super) fn publish_quote(&mut self, native_id: u16, entry: &Entry, writer: &mut Writer<'_>) {
        let [(bid_price, bid_size), (ask_price, ask_size)] =
            self.instruments[usize::from(native_id)].best().map(price_and_size);
        let quote = Quote { bid_price, ask_price, bid_size, ask_size };
        self.publish_row(native_id, quote, entry, writer);
    }

    #[inline(always)]
    pub(super) fn publish_trade(
        &mut self,
        native_id: u16,
        trade: Trade,
        entry: &Entry,
        writer: &mut Writer<'_>,
    ) {
        self.instruments[usize::from(native_id)].trades.record(trade);
        self.publish_row(native_id, trade, entry, writer);
    }

    pub(super) fn publish_status(
        &mut self,
        state: u8,
        reason: [u8; 4],
        entry: &Entry,
        writer: &mut Writer<'_>,
    ) {
        let instrument = &mut self.instruments[usize::from(entry.native_id)];
        (instrument.trading_state, instrument.reason) = (state, reason);
        self.publish_row(entry.native_id, Status { state, reason, ..Status::zeroed() }, entry, writer);
    }

    /// Gives a row to an instrument whose definition was not seen: it is called by its number.
    #[cold]
    fn introduce(
        &mut self,
        native_id: u16,
        entry: &Entry,
        writer: &mut Writer<'_>,
    ) -> Result<u32, InstrumentsFull> {
        let (digits, start) = decimal(native_id.into());
        self.give_row(native_id, &digits[start..], entry, writer)
    }

    fn give_row(
        &mut self,
        native_id: u16,
        name: &[u8],
        entry: &Entry,
        writer: &mut Writer<'_>,
    ) -> Result<u32, InstrumentsFull> {
        let row = self.publication.row_for(name, &entry.stamp, writer)?;
        self.instruments[usize::from(native_id)].set_row(Some(row));
        self.define_row(row, native_id, name, entry, writer);
        Ok(row)
    }

    fn define_row(&self, row: u32, native_id: u16, name: &[u8], entry: &Entry, writer: &mut Writer<'_>) {
        self.publication.define(row, 0, u32::from(native_id), name, &entry.stamp, writer);
    }

    /// Takes a stock's definition: it is called by its symbol from now on.
    pub(super) fn define(&mut self, stock: &[u8; 8], entry: &Entry, writer: &mut Writer<'_>) {
        let native_id = entry.native_id;
        let name = stock.trim_ascii_end();
        if native_id == 0 || name.is_empty() || name.contains(&0) {
            return self.malformed(&entry.stamp, writer);
        }
        let instrument = self.instruments[usize::from(native_id)];
        let found = self.publication.find(name, writer);
        if let Some((row, definition)) = found {
            if instrument.row() == Some(row) {
                return;
            }
            // Two stocks of one name would write the same row.
            let owner = self.instruments[definition.native_id as usize % NATIVE_IDS];
            if owner.row() == Some(row) {
                return self.malformed(&entry.stamp, writer);
            }
        }
        match (instrument.row(), found) {
            (Some(row), None) => self.define_row(row, native_id, name, entry, writer),
            (before, _) => {
                if self.give_row(native_id, name, entry, writer).is_err() {
                    return;
                }
                if let Some(before) = before {
                    // Its number names nothing any more; what is known moves to the row of its name.
                    self.define_row(before, native_id, b"", entry, writer);
                    self.publish_all(native_id, entry, writer);
                }
            }
        }
    }

    fn publish_all(&mut self, native_id: u16, entry: &Entry, writer: &mut Writer<'_>) {
        let instrument = self.instruments[usize::from(native_id)];
        self.publish_quote(native_id, entry, writer);
        if let Some(trade) = instrument.trades.last() {
            self.publish_row(native_id, trade, entry, writer);
        }
        if instrument.trading_state != 0 {
            self.publish_status(instrument.trading_state, instrument.reason, entry, writer);
        }
    }
}
