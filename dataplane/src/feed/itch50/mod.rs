//! ITCH 5.0: from the messages of one feed to the rows of its instruments.
//!
//! Messages are read at once and done a little later, in batches: by then the memory that they need, asked for when they
//! were read, has come. A batch ends when it is full, before anything that is not about an order or a trade, and with
//! the burst.
//!
//! What proves a row: every message of the session from its first one on was seen. Joined late, all rows are
//! partial; after a loss, or a message that can't be right, all of the feed's rows are suspect until the next session.

mod action;
mod instrument;
mod publish;

use std::marker::PhantomData;
use std::sync::Arc;

use super::transport::Moldudp64;
use super::{Decoder, DecoderCounters, Delivery, Event, Proof, Publication, Renumbering, Stamp};
use crate::book::levels::{Levels, PRICE_MAX};
use crate::book::orders::{Order, Orders};
use crate::book::{Full, Side};
use crate::cache::tick::{Reason, Trade};
use crate::cache::writer::Writer;
use crate::hint::Prefetch;
use crate::wire::itch50::{ItchError, Message};
use action::{Action, Entry};
use bytemuck::Zeroable;
use instrument::Instrument;
use publish::traded;

/// Messages that are read before the first of them is done.
const BATCH: usize = 32;
/// Messages ahead of the one at hand whose instrument has come, so that its row can be asked for.
const ROWS_AHEAD: usize = 6;
/// Decimals of ITCH's prices.
const PRICE_DECIMALS: u8 = 4;
/// Stock locates have 16 bits.
const NATIVE_IDS: usize = 1 << 16;

/// Tells the exchange's midnight (ns of Unix UTC) for a session that is seen at a time (ns of Unix UTC);
/// 0 = unknown, and so are then all of the exchange's stamps.
pub type Midnight = Box<dyn Fn(u64) -> u64 + Send>;

/// One feed's books and what is known of its instruments.
pub struct Itch50<F> {
    publication: Publication,
    batch: [Entry; BATCH],
    batched: usize,
    levels: Levels,
    orders: Orders,
    instruments: Box<[Instrument]>,
    midnight: Midnight,
    midnight_unix_ns: u64,
    hints: PhantomData<F>,
}

/// A stamp of the day as Unix UTC; 0 = the day is unknown.
#[inline(always)]
fn exchange_ns(midnight_unix_ns: u64, since_midnight_ns: u64) -> u64 {
    if midnight_unix_ns == 0 { 0 } else { midnight_unix_ns + since_midnight_ns }
}

impl<F: Prefetch> Itch50<F> {
    pub fn new(
        feed: u16,
        orders_max: usize,
        midnight: Midnight,
        counters: Arc<DecoderCounters>,
    ) -> Itch50<F> {
        Itch50 {
            publication: Publication::new(feed, PRICE_DECIMALS, counters),
            batch: [Entry::NONE; BATCH],
            batched: 0,
            levels: Levels::new(orders_max),
            orders: Orders::new(orders_max),
            instruments: bytemuck::allocation::zeroed_slice_box(NATIVE_IDS),
            midnight,
            midnight_unix_ns: 0,
            hints: PhantomData,
        }
    }

    #[inline(always)]
    fn message(&mut self, bytes: &[u8], sequence: u64, received_ns: u64, writer: &mut Writer<'_>) {
        let entry = &mut self.batch[self.batched];
        match action::read(bytes, entry) {
            Ok(None) => {}
            other => return self.uncommon(other, sequence, received_ns, writer),
        }
        // `read` has seen that there is a head.
        entry.native_id = u16::from_be_bytes([bytes[1], bytes[2]]);
        let stamp = [0, 0, bytes[5], bytes[6], bytes[7], bytes[8], bytes[9], bytes[10]];
        let exchange_ns = exchange_ns(self.midnight_unix_ns, u64::from_be_bytes(stamp));
        entry.stamp = Stamp { sequence, exchange_ns, received_ns };
        self.publication.see_exchange_ns(exchange_ns);
        // What the action will need is asked for.
        let entry = &self.batch[self.batched];
        self.orders.prefetch::<F>(entry.reference);
        if entry.action == Action::Replace {
            self.orders.prefetch::<F>(entry.other);
        }
        self.levels.prefetch::<F>(entry.native_id);
        F::prefetch(&self.instruments[usize::from(entry.native_id)]);
        self.batched += 1;
        if self.batched == BATCH {
            self.flush(writer);
        }
    }

    #[inline(always)]
    fn apply(&mut self, entry: &Entry, writer: &mut Writer<'_>) {
        match entry.action {
            Action::Add => {
                self.add(entry.reference, entry.native_id, entry.side, entry, writer);
                self.settle(entry.native_id, entry.side, entry, writer);
            }
            Action::Execute
            | Action::ExecuteAt
            | Action::ExecuteUnprinted
            | Action::Cancel
            | Action::Delete => self.reduce(entry, writer),
            Action::Replace => self.replace(entry, writer),
            Action::Trade if entry.size == 0 => {}
            Action::Trade => self.trade(entry.native_id, entry.price, entry.size, entry, writer),
        }
    }

    #[inline(always)]
    fn trade(&mut self, native_id: u16, price: u32, size: u64, entry: &Entry, writer: &mut Writer<'_>) {
        self.publish_trade(native_id, traded(entry.other, size, price), entry, writer);
    }

    /// Adds an order with the entry's price and size.
    #[inline(always)]
    fn add(&mut self, reference: u64, native_id: u16, side: Side, entry: &Entry, writer: &mut Writer<'_>) {
        let order = Order { price: entry.price, shares: entry.size as u32, native_id, side };
        let can_be = order.price <= PRICE_MAX && order.shares != 0 && native_id != 0;
        if !can_be || self.orders.find(reference).is_some() {
            return self.malformed(&entry.stamp, writer);
        }
        let added = self.orders.insert(reference, order).and_then(|()| {
            self.levels.add(native_id, side, order.price, order.shares).inspect_err(|Full| {
                if let Some((place, _)) = self.orders.find(reference) {
                    self.orders.remove(place);
                }
            })
        });
        if added == Err(Full) {
            self.publication.counters().orders_full.add(1);
            self.publication.doubt(Reason::LimitFull, Proof::Never, &entry.stamp, writer);
        }
    }

    /// Takes shares off an order, by a trade or without one.
    #[inline(always)]
    fn reduce(&mut self, entry: &Entry, writer: &mut Writer<'_>) {
        let Some((place, order)) = self.orders.find(entry.reference) else {
            return self.unknown_order(entry, writer);
        };
        let taken = entry.size.min(u64::from(order.shares)) as u32;
        if taken == order.shares {
            self.orders.remove(place);
        } else {
            self.orders.set_shares(place, order.shares - taken);
        }
        let reduced = taken == 0 || self.levels.reduce(order.native_id, order.side, order.price, taken);
        debug_assert!(reduced, "an order's shares are at its level");
        let is_too_much = u64::from(taken) < entry.size && entry.action != Action::Delete;
        if is_too_much || order.native_id != entry.native_id {
            self.malformed(&entry.stamp, writer);
        }
        self.settle(order.native_id, order.side, entry, writer);
        let price = match entry.action {
            Action::Execute => order.price,
            Action::ExecuteAt => entry.price,
            _ => return,
        };
        if taken != 0 {
            self.trade(order.native_id, price, taken.into(), entry, writer);
        }
    }

    #[inline(always)]
    fn replace(&mut self, entry: &Entry, writer: &mut Writer<'_>) {
        let Some((place, old)) = self.orders.find(entry.reference) else {
            return self.unknown_order(entry, writer);
        };
        self.orders.remove(place);
        let reduced = self.levels.reduce(old.native_id, old.side, old.price, old.shares);
        debug_assert!(reduced, "an order's shares are at its level");
        self.add(entry.other, old.native_id, old.side, entry, writer);
        self.settle(old.native_id, old.side, entry, writer);
    }

    /// After a side was touched: there is a new quote if its best is another one.
    #[inline(always)]
    fn settle(&mut self, native_id: u16, side: Side, entry: &Entry, writer: &mut Writer<'_>) {
        let best = self.levels.best(native_id, side);
        if self.instruments[usize::from(native_id)].set_best(side, best) {
            self.publish_quote(native_id, entry, writer);
        }
    }

    /// An order that was never shown, or in a past that was not seen: the top of the book can't depend on it.
    #[cold]
    fn unknown_order(&mut self, entry: &Entry, writer: &mut Writer<'_>) {
        self.publication.counters().unknown_orders.add(1);
        // The trade is told in full where it has a price of its own.
        if entry.action == Action::ExecuteAt {
            self.trade(entry.native_id, entry.price, entry.size, entry, writer);
        }
    }

    #[cold]
    fn malformed(&mut self, stamp: &Stamp, writer: &mut Writer<'_>) {
        self.publication.counters().malformed.add(1);
        self.publication.doubt(Reason::Malformed, Proof::Never, stamp, writer);
    }

    /// Messages that are not about orders, and bytes that are no message.
    #[cold]
    #[inline(never)]
    fn uncommon(
        &mut self,
        message: Result<Option<Message<'_>>, ItchError>,
        sequence: u64,
        received_ns: u64,
        writer: &mut Writer<'_>,
    ) {
        self.flush(writer);
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(ItchError::UnknownType(_)) => return self.publication.counters().unknown_types.add(1),
            Err(ItchError::BadLength { .. }) => {
                return self.malformed(&Stamp { sequence, exchange_ns: 0, received_ns }, writer);
            }
        };
        self.publication.counters().others.add(1);
        let head = message.head();
        let stamp = Stamp {
            sequence,
            exchange_ns: exchange_ns(self.midnight_unix_ns, head.timestamp.ns()),
            received_ns,
        };
        let entry = Entry { stamp, native_id: head.stock_locate.get(), ..Entry::NONE };
        match message {
            Message::StockDirectory(directory) => self.define(&directory.stock, &entry, writer),
            Message::StockTradingAction(action) => {
                self.publish_status(action.trading_state, action.reason, &entry, writer);
            }
            Message::BrokenTrade(broken) => {
                let trades = &mut self.instruments[usize::from(entry.native_id)].trades;
                if trades.forget(traded(broken.match_number.get(), 0, 0)) {
                    let last = trades.last().unwrap_or(Trade::NONE);
                    self.publish_row(entry.native_id, last, &entry, writer);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, session: [u8; 10], sequence: u64, late: bool, writer: &mut Writer<'_>) {
        self.levels.clear();
        self.orders.clear();
        for instrument in &mut self.instruments {
            if instrument.is_known() {
                *instrument = Instrument::zeroed();
            }
        }
        self.midnight_unix_ns = (self.midnight)(self.publication.received_ns());
        self.publication.begin(session, self.midnight_unix_ns, sequence, late, writer);
    }
}

impl<F: Prefetch> Decoder for Itch50<F> {
    type Transport = Moldudp64;

    #[inline(always)]
    fn publication(&mut self) -> &mut Publication {
        &mut self.publication
    }

    #[inline(always)]
    fn messages(&mut self, delivery: Delivery<'_>, writer: &mut Writer<'_>) {
        for (sequence, message) in (delivery.sequence..).zip(delivery.messages::<Moldudp64>()) {
            self.message(message, sequence, delivery.received_ns, writer);
        }
    }

    #[inline]
    fn flush(&mut self, writer: &mut Writer<'_>) {
        let batched = std::mem::take(&mut self.batched);
        if batched == 0 {
            return;
        }
        for index in 0..batched {
            if index + ROWS_AHEAD < batched {
                let ahead = usize::from(self.batch[index + ROWS_AHEAD].native_id);
                writer.prefetch_quote::<F>(self.instruments[ahead].row());
            }
            let entry = self.batch[index];
            self.apply(&entry, writer);
        }
        self.publication.counters().actions.add(batched as u64);
        self.publication.counters().orders.set(self.orders.live() as u64);
    }

    fn event(&mut self, event: Event, writer: &mut Writer<'_>) {
        match event {
            Event::SessionStarted { session, sequence, late } => self.begin(session, sequence, late, writer),
            Event::Gap { from, to } => self.publication.gap(from, to, Proof::Never, writer),
            Event::Condition(condition) => self.publication.condition(condition, writer),
            Event::SessionEnded { .. } => {}
        }
    }

    fn renumber(&mut self, numbers: &Renumbering) {
        for instrument in &mut self.instruments {
            if let Some(row) = instrument.row() {
                instrument.set_row(numbers.row(row));
            }
        }
    }

    fn memory(&self) -> Vec<&[u8]> {
        vec![self.orders.memory(), self.levels.memory(), bytemuck::cast_slice(&self.instruments)]
    }
}
