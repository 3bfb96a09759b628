//! The publication: what every feed tells the cache, whatever it speaks: its session, its state, its instruments' rows.

use std::sync::Arc;

use super::counters::DecoderCounters;
use super::transport::SESSION_BYTES;
use crate::cache::tick::{
    Condition, Definition, FeedState, INSTRUMENT_NONE, Kind, Payload, Reason, Session, Tick, flag,
};
use crate::cache::writer::{InstrumentsFull, Writer};
use crate::time::NS_PER_DAY;
use bytemuck::Zeroable;

/// Where what is published comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The feed's own number of the message (or packet).
    pub sequence: u64,
    /// Unix UTC; 0 = unknown.
    pub exchange_ns: u64,
    /// Unix UTC.
    pub received_ns: u64,
}

/// One feed's voice.
#[derive(Debug)]
pub struct Publication {
    pub(super) feed: u16,
    /// Decimals that the feed's prices have at least.
    price_decimals: u8,
    /// [`flag::PARTIAL`] in a session that was joined late.
    pub flags: u8,
    pub(super) state: FeedState,
    /// What is published before this position is another node's, and none of what is known here.
    pub(super) own_from: u64,
    /// From this position on the log has each tick; before it, what was transferred: the last tick of each row.
    pub(super) complete_from: u64,
    /// The number that comes next, for the ticks that concern the whole feed.
    pub sequence: u64,
    received_ns: u64,
    /// The oldest stamp of the exchange since [`Publication::take_oldest`]; `u64::MAX` = none.
    oldest_exchange_ns: u64,
    counters: Arc<DecoderCounters>,
}

impl Publication {
    pub fn new(feed: u16, price_decimals: u8, counters: Arc<DecoderCounters>) -> Publication {
        Publication {
            feed,
            price_decimals,
            flags: 0,
            state: FeedState::zeroed(),
            own_from: 0,
            complete_from: 0,
            sequence: 0,
            received_ns: 0,
            oldest_exchange_ns: u64::MAX,
            counters,
        }
    }

    #[inline(always)]
    pub fn counters(&self) -> &DecoderCounters {
        &self.counters
    }

    /// When the packet at hand was received: Unix UTC.
    pub fn received_ns(&self) -> u64 {
        self.received_ns
    }

    /// A packet has come, at that time of Unix UTC: what the arbiter makes of it is stamped so.
    #[inline(always)]
    pub fn arrive(&mut self, received_ns: u64) {
        self.received_ns = received_ns;
    }

    /// The exchange's stamp of a message, for the latency from there to here; 0 = unknown.
    #[inline(always)]
    pub fn see_exchange_ns(&mut self, exchange_ns: u64) {
        if exchange_ns != 0 {
            self.oldest_exchange_ns = self.oldest_exchange_ns.min(exchange_ns);
        }
    }

    /// The oldest of the exchange's stamps since the last call.
    #[inline(always)]
    pub fn take_oldest(&mut self) -> Option<u64> {
        let oldest_ns = std::mem::replace(&mut self.oldest_exchange_ns, u64::MAX);
        (oldest_ns != u64::MAX).then_some(oldest_ns)
    }

    #[inline(always)]
    pub fn head(&self, instrument: u32, stamp: &Stamp) -> Tick {
        Tick {
            sequence: stamp.sequence,
            exchange_ns: stamp.exchange_ns,
            received_ns: stamp.received_ns,
            instrument,
            feed: self.feed,
            flags: self.flags,
            ..Tick::default()
        }
    }

    #[inline(always)]
    pub fn publish(&self, tick: &Tick, writer: &mut Writer<'_>) {
        writer.publish(tick);
        self.counters.ticks.add(1);
    }

    /// Publishes an instrument's row. `flags` come to those that all rows of the session have.
    #[inline(always)]
    pub fn publish_row<P: Payload>(
        &self,
        row: u32,
        flags: u8,
        payload: P,
        stamp: &Stamp,
        writer: &mut Writer<'_>,
    ) {
        let mut tick = self.head(row, stamp).with_payload(payload);
        tick.flags |= flags;
        self.publish(&tick, writer);
        match P::KIND {
            Kind::Quote | Kind::ImpliedQuote => self.counters.quotes.add(1),
            Kind::Trade => self.counters.trades.add(1),
            Kind::Status => self.counters.statuses.add(1),
            Kind::Definition | Kind::Contract => self.counters.definitions.add(1),
            Kind::Session | Kind::FeedState => {}
        }
    }

    /// Publishes rows of an instrument again as they are, with `flags` on top of those that all rows of the session have.
    pub fn renew(&self, row: u32, kinds: &[Kind], flags: u8, writer: &mut Writer<'_>) {
        for kind in kinds {
            self.counters.ticks.add(u64::from(writer.renew(row, *kind, self.flags | flags, self.own_from)));
        }
    }

    /// Publishes what a row's instrument is, and lets it be found by its name.
    pub fn define(
        &self,
        row: u32,
        flags: u8,
        native_id: u32,
        name: &[u8],
        stamp: &Stamp,
        writer: &mut Writer<'_>,
    ) {
        let mut head = self.head(row, stamp);
        head.flags |= flags;
        writer.define(row, &head, Definition::new(native_id, name));
        self.counters.ticks.add(1);
        self.counters.definitions.add(1);
    }

    /// The feed's row of that name, from whichever session, with the instrument that it was last defined as.
    pub fn find(&self, name: &[u8], writer: &Writer<'_>) -> Option<(u32, Definition)> {
        writer.find(self.feed, name)
    }

    /// A row for an instrument of that name: the one that it had, or a new one; it is still to be defined.
    pub fn row_for(
        &mut self,
        name: &[u8],
        stamp: &Stamp,
        writer: &mut Writer<'_>,
    ) -> Result<u32, InstrumentsFull> {
        match self.find(name, writer) {
            Some((row, _)) => Ok(row),
            None => writer.allocate().inspect_err(|InstrumentsFull| self.instruments_full(stamp, writer)),
        }
    }

    /// An instrument did not fit a limit. The rows that there are stay as good as they were.
    #[cold]
    pub fn instruments_full(&mut self, stamp: &Stamp, writer: &mut Writer<'_>) {
        self.counters.instruments_full.add(1);
        self.tell_reason(Reason::LimitFull, stamp, writer);
    }

    /// Some rows are not live, for that reason; nothing new if there is one already.
    #[cold]
    pub fn tell_reason(&mut self, reason: Reason, stamp: &Stamp, writer: &mut Writer<'_>) {
        if self.state.reason == Reason::None as u8 {
            self.state.reason = reason as u8;
            self.publish_state(stamp.sequence, stamp.received_ns, writer);
        }
    }

    /// Begins a session: no row of an earlier one counts any more. `day_ns` is its midnight; 0 = unknown.
    pub fn begin(
        &mut self,
        name: [u8; SESSION_BYTES],
        day_ns: u64,
        sequence: u64,
        late: bool,
        writer: &mut Writer<'_>,
    ) {
        self.flags = if late { flag::PARTIAL } else { 0 };
        self.sequence = sequence;
        let reason = if late { Reason::LateStart } else { Reason::None };
        self.state =
            FeedState { reason: reason as u8, condition: self.state.condition, ..FeedState::zeroed() };
        let session = Session {
            session: name,
            price_decimals: self.price_decimals,
            day: u32::try_from(day_ns / NS_PER_DAY).unwrap_or(0),
            ..Session::zeroed()
        };
        let head = self.feed_head(sequence, self.received_ns);
        self.publish(&head.with_payload(session), writer);
        self.publish_state(sequence, self.received_ns, writer);
    }

    /// Messages `from` until below `to` are lost: every row is suspect at once.
    pub fn gap(&mut self, from: u64, to: u64, proof: Proof, writer: &mut Writer<'_>) {
        self.state.missing += to - from;
        self.sequence = to;
        self.prove_nothing(Reason::Gap, proof, to, self.received_ns, writer);
    }

    /// Something could not be right: every row is suspect from here on. Nothing new where nothing can prove them any more.
    #[cold]
    pub fn doubt(&mut self, reason: Reason, proof: Proof, stamp: &Stamp, writer: &mut Writer<'_>) {
        if self.state.proven_from != u64::MAX {
            self.prove_nothing(reason, proof, stamp.sequence, stamp.received_ns, writer);
        }
    }

    fn prove_nothing(
        &mut self,
        reason: Reason,
        proof: Proof,
        sequence: u64,
        received_ns: u64,
        writer: &mut Writer<'_>,
    ) {
        self.state.proven_from = match proof {
            Proof::Never => u64::MAX,
            Proof::EachRow => writer.position() + 1,
        };
        self.state.reason = reason as u8;
        self.publish_state(sequence, received_ns, writer);
    }

    /// The feed begins anew within its session: what is published from now on lacks nothing.
    #[cold]
    pub fn restart(&mut self, stamp: &Stamp, writer: &mut Writer<'_>) {
        self.flags = 0;
        self.state.reason = Reason::None as u8;
        self.publish_state(stamp.sequence, stamp.received_ns, writer);
    }

    pub fn condition(&mut self, condition: Condition, writer: &mut Writer<'_>) {
        self.state.condition = condition as u8;
        // Before the first session there are no rows to speak of.
        if condition != Condition::Waiting {
            self.publish_state(self.sequence, self.received_ns, writer);
        }
    }

    pub(super) fn feed_head(&self, sequence: u64, received_ns: u64) -> Tick {
        self.head(INSTRUMENT_NONE, &Stamp { sequence, exchange_ns: 0, received_ns })
    }

    pub(super) fn publish_state(&self, sequence: u64, received_ns: u64, writer: &mut Writer<'_>) {
        self.publish(&self.feed_head(sequence, received_ns).with_payload(self.state), writer);
    }
}

/// What proves a row again after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing in the protocol: the session's rows stay suspect.
    Never,
    /// Its being published again: the decoder does so once it knows it to be right.
    EachRow,
}
