//! The writer: the one who fills a region.

use super::cell::Cell;
use super::directory;
use super::follower::Follower;
use super::reader::Reader;
use super::region::{Layout, Region, RegionError};
use super::tick::{Definition, FeedState, INSTRUMENT_NONE, Kind, Session, Tick, flag};
use crate::hint::Prefetch;
use crate::sync::Ordering;

/// Fills a region. There is one for a region: it is made where the region is made.
#[derive(Debug)]
pub struct Writer<'m> {
    region: Region<'m>,
    /// The position of the next tick; what readers know is the region's own tail.
    next: u64,
    committed: u64,
    bursts: u64,
    instruments: u32,
    renew_at_ns: u64,
}

/// The region has no place for one more instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstrumentsFull;

impl<'m> Writer<'m> {
    /// Lays out `cells`, which must all be zero, and becomes their writer. `generation` must differ from that
    /// of every earlier region that a reader may remember.
    pub fn format(cells: &'m [Cell], layout: Layout, generation: u64) -> Result<Writer<'m>, RegionError> {
        let region = Region::format(cells, layout, generation)?;
        Ok(Writer::over(region, 0, 0, 0))
    }

    pub(super) fn over(region: Region<'m>, next: u64, bursts: u64, instruments: u32) -> Writer<'m> {
        Writer { region, next, committed: next, bursts, instruments, renew_at_ns: 0 }
    }

    /// Gives the writing up to another node, and follows it from now on.
    pub fn into_follower(mut self) -> Follower<'m> {
        self.commit();
        self.region.valid_until_ns().store(0, Ordering::Release);
        Follower::over(self.region, self.next, self.bursts, self.instruments)
    }

    /// Reads what it has written.
    pub fn reader(&self) -> Reader<'m> {
        Reader::over(self.region)
    }

    /// The same region with nothing in it.
    pub fn emptied(self) -> Writer<'m> {
        if self.next == 0 {
            return self;
        }
        let mut follower = self.into_follower();
        follower.restart(0);
        follower.into_writer()
    }

    /// The position that the next tick will have.
    #[inline(always)]
    pub fn position(&self) -> u64 {
        self.next
    }

    pub fn layout(&self) -> Layout {
        self.region.layout
    }

    /// Asks for an instrument's quote row.
    #[inline(always)]
    pub fn prefetch_quote<F: Prefetch>(&self, instrument: Option<u32>) {
        let index = instrument.unwrap_or(0) as usize * Kind::ROWS + Kind::Quote as usize;
        F::prefetch(&self.region.table[index]);
    }

    /// Appends the tick to the log and stores it into its row. Readers of rows see it at once, followers of
    /// the log after [`Writer::commit`].
    #[inline(always)]
    pub fn publish(&mut self, tick: &Tick) -> u64 {
        let position = self.next;
        self.region.log_cell(position).store(position, tick);
        let row = usize::from(tick.kind);
        if row < Kind::ROWS {
            let index = tick.instrument as usize * Kind::ROWS + row;
            self.region.table[index].store(position, tick);
        } else {
            self.publish_feed(position, tick);
        }
        self.next = position + 1;
        position
    }

    /// Publishes a row of the present session again as it is, with other flags: what it says is proven, or doubted, by now.
    /// It keeps the stamps of its last change. False = there is no such row that was published at `since` or later.
    pub fn renew(&mut self, instrument: u32, kind: Kind, flags: u8, since: u64) -> bool {
        let Some((position, tick)) = self.region.row(instrument, kind).load().held() else { return false };
        let session = self.region.session_cell(tick.feed).load().held();
        if session.is_none_or(|(began, _)| position < began.max(since)) {
            return false;
        }
        self.publish(&Tick { flags: flags | flag::RENEWED, ..tick });
        true
    }

    #[cold]
    fn publish_feed(&mut self, position: u64, tick: &Tick) {
        assert_eq!(tick.instrument, INSTRUMENT_NONE, "a tick of a feed names no instrument");
        if tick.payload::<Session>().is_some() {
            self.region.session_cell(tick.feed).store(position, tick);
        }
        if tick.payload::<FeedState>().is_some() {
            self.region.feed_state_cell(tick.feed).store(position, tick);
        }
    }

    /// Tells the followers of the log what is new since the last call: once for each packet or burst, at a
    /// message boundary. Returns how many ticks that were.
    #[inline(always)]
    pub fn commit(&mut self) -> u64 {
        let fresh = self.next - self.committed;
        if fresh != 0 {
            self.committed = self.next;
            self.region.applied().store(self.next, Ordering::Release);
            self.region.tail().store(self.next, Ordering::Release);
        }
        fresh
    }

    /// Remembers when what was committed became readable, so that a delivery can tell how long it took.
    #[inline(always)]
    pub fn stamp_burst(&mut self, published_ns: u64) {
        self.region.stamp_burst(&mut self.bursts, self.committed, published_ns);
    }

    /// Says that the region may be believed until `valid_for_ns` from now; stores only when a quarter of that has passed.
    #[inline(always)]
    pub fn keep_alive(&mut self, now_ns: u64, valid_for_ns: u64) {
        if now_ns >= self.renew_at_ns {
            self.renew_at_ns = now_ns + valid_for_ns / 4;
            self.region.valid_until_ns().store(now_ns + valid_for_ns, Ordering::Release);
        }
    }

    /// The next [`Writer::keep_alive`] holds, whatever the one before it said.
    pub fn renew_now(&mut self) {
        if self.renew_at_ns != u64::MAX {
            self.renew_at_ns = 0;
        }
    }

    /// Makes every row stale at once: the orderly end.
    pub fn retire(&mut self) {
        self.region.valid_until_ns().store(0, Ordering::Release);
        self.renew_at_ns = u64::MAX;
    }

    /// The instrument of that feed and symbol, from whichever session, with what it was last defined as.
    pub fn find(&self, feed: u16, symbol: &[u8]) -> Option<(u32, Definition)> {
        directory::find(&self.region, symbol)
            .find(|(_, tick, _)| tick.feed == feed)
            .map(|(instrument, _, definition)| (instrument, definition))
    }

    /// Instruments that have a number.
    pub fn instruments(&self) -> u32 {
        self.instruments
    }

    /// Gives the next free number to an instrument; its Definition is still to be published by [`Writer::define`].
    pub fn allocate(&mut self) -> Result<u32, InstrumentsFull> {
        if self.instruments == self.region.layout.instruments {
            return Err(InstrumentsFull);
        }
        self.instruments += 1;
        Ok(self.instruments - 1)
    }

    /// Publishes the Definition of `instrument` with the head of `head`, and lets the directory find it.
    pub fn define(&mut self, instrument: u32, head: &Tick, definition: Definition) {
        // The directory has twice as many words as instruments. A name may change (a locate number gives way to its symbol
        // once in a session), so it can in theory fill; then the instrument is found by listing only.
        let _ = directory::insert(&self.region, definition.name(), instrument);
        self.publish(&Tick { instrument, ..*head }.with_payload(definition));
        let defined = u64::from(self.instruments);
        self.region.instruments_defined().store(defined, Ordering::Release);
    }
}
