//! Records of one's own over MoldUDP64: from each record to the row that it is.
//!
//! What proves a row: its own next record, since each says all of its row. So after a loss a row is suspect until it was
//! told again, and joined late a row is live once it was told.

use std::sync::Arc;

use super::decoder::Decoder;
use super::delivery::{Delivery, Event};
use super::transport::{Moldudp64, SESSION_BYTES};
use super::{DecoderCounters, Proof, Publication, Renumbering, Stamp};
use crate::cache::tick::{PRICE_ABSENT, Payload, Quote, Reason, Status, Trade};
use crate::cache::writer::Writer;
use crate::wire::record::{Body, Record, RecordError};
use bytemuck::Zeroable;

/// One feed's records.
pub struct Records {
    publication: Publication,
    /// By the region's number of the instrument: it was defined in this session.
    defined: Box<[bool]>,
}

impl Records {
    /// For a region of at most `instruments_max` instruments.
    pub fn new(feed: u16, instruments_max: usize, counters: Arc<DecoderCounters>) -> Records {
        Records {
            publication: Publication::new(feed, 0, counters),
            defined: vec![false; instruments_max].into(),
        }
    }

    fn record(&mut self, bytes: &[u8], sequence: u64, received_ns: u64, writer: &mut Writer<'_>) {
        let mut stamp = Stamp { sequence, exchange_ns: 0, received_ns };
        let (record, name, body) = match Record::parse(bytes) {
            Ok(parsed) => parsed,
            Err(RecordError::Unknown { .. }) => {
                return self.publication.counters().unknown_types.add(1);
            }
            Err(RecordError::BadLength { .. } | RecordError::BadName) => {
                return self.malformed(&stamp, writer);
            }
        };
        stamp.exchange_ns = record.stamp_ns.get();
        self.publication.see_exchange_ns(stamp.exchange_ns);
        match body {
            Body::Quote(quote) => {
                let (bid_price, ask_price) = (quote.bid_price.get(), quote.ask_price.get());
                let (bid_size, ask_size) = (quote.bid_size.get(), quote.ask_size.get());
                let ghost = |price, size| price == PRICE_ABSENT && size != 0;
                if ghost(bid_price, bid_size) || ghost(ask_price, ask_size) {
                    return self.malformed(&stamp, writer);
                }
                self.publish(name, Quote { bid_price, ask_price, bid_size, ask_size }, &stamp, writer);
            }
            Body::Trade(trade) => {
                let (price, size, trade_id) = (trade.price.get(), trade.size.get(), trade.trade_id.get());
                self.publish(name, Trade { price, size, trade_id }, &stamp, writer);
            }
            Body::Status(status) => {
                let (state, reason) = (status.state, status.reason);
                self.publish(name, Status { state, reason, ..Status::zeroed() }, &stamp, writer);
            }
        }
        self.publication.counters().actions.add(1);
    }

    fn publish<P: Payload>(&mut self, name: &str, payload: P, stamp: &Stamp, writer: &mut Writer<'_>) {
        let Ok(row) = self.publication.row_for(name.as_bytes(), stamp, writer) else { return };
        let Some(defined) = self.defined.get_mut(row as usize) else {
            return self.publication.instruments_full(stamp, writer);
        };
        if !std::mem::replace(defined, true) {
            self.publication.define(row, 0, 0, name.as_bytes(), stamp, writer);
        }
        self.publication.publish_row(row, 0, payload, stamp, writer);
    }

    #[cold]
    fn malformed(&mut self, stamp: &Stamp, writer: &mut Writer<'_>) {
        self.publication.counters().malformed.add(1);
        self.publication.doubt(Reason::Malformed, Proof::EachRow, stamp, writer);
    }

    fn begin(&mut self, session: [u8; SESSION_BYTES], sequence: u64, late: bool, writer: &mut Writer<'_>) {
        self.defined.fill(false);
        let day_ns = self.publication.received_ns();
        self.publication.begin(session, day_ns, sequence, late, writer);
        // A row of a late session is no worse than others.
        self.publication.flags = 0;
    }
}

impl Decoder for Records {
    type Transport = Moldudp64;

    #[inline(always)]
    fn publication(&mut self) -> &mut Publication {
        &mut self.publication
    }

    fn messages(&mut self, delivery: Delivery<'_>, writer: &mut Writer<'_>) {
        for (message, sequence) in delivery.messages::<Moldudp64>().zip(delivery.sequence..) {
            self.record(message, sequence, delivery.received_ns, writer);
        }
    }

    fn renumber(&mut self, numbers: &Renumbering) {
        let before = self.defined.clone();
        self.defined.fill(false);
        for row in (0..).zip(&before).filter(|(_, defined)| **defined).filter_map(|(row, _)| numbers.row(row))
        {
            if let Some(defined) = self.defined.get_mut(row as usize) {
                *defined = true;
            }
        }
    }

    #[inline(always)]
    fn flush(&mut self, _writer: &mut Writer<'_>) {}

    fn event(&mut self, event: Event, writer: &mut Writer<'_>) {
        match event {
            Event::SessionStarted { session, sequence, late } => self.begin(session, sequence, late, writer),
            Event::Gap { from, to } => self.publication.gap(from, to, Proof::EachRow, writer),
            Event::Condition(condition) => self.publication.condition(condition, writer),
            Event::SessionEnded { .. } => {}
        }
    }
}
