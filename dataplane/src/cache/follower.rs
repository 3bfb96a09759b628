//! The follower: fills a region from another region's log, at the same positions.
//!
//! A row is whatever was last written of it, and "last" is told by its position. So rows may come in any order, from an
//! image or from the log, some of them twice: the newer position stays. That is why an image needs no staging and no
//! pause of its source.

use super::cell::Cell;
use super::directory;
use super::lineage::Lineage;
use super::region::{Layout, Region, RegionError};
use super::tick::{Definition, FeedState, INSTRUMENT_NONE, Kind, Session, Tick};
use super::writer::Writer;
use crate::sync::Ordering;

/// Fills a region from ticks whose positions another one gave. There is one for a region, and while there is one there
/// is no [`Writer`].
#[derive(Debug)]
pub struct Follower<'m> {
    region: Region<'m>,
    next: u64,
    committed: u64,
    bursts: u64,
    instruments: u32,
}

/// A tick that has no place in a region of this layout: it comes from another one, or its bytes were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tick at position {position} has no place in this region (instrument {instrument}, feed {feed}, kind {kind})"
)]
pub struct Foreign {
    pub position: u64,
    pub instrument: u32,
    pub feed: u16,
    pub kind: u8,
}

impl<'m> Follower<'m> {
    /// Lays out `cells`, which must all be zero. `generation` must differ from that of every earlier region that a
    /// reader may remember.
    pub fn format(cells: &'m [Cell], layout: Layout, generation: u64) -> Result<Follower<'m>, RegionError> {
        let region = Region::format(cells, layout, generation)?;
        Ok(Follower::over(region, 0, 0, 0))
    }

    pub(super) fn over(region: Region<'m>, next: u64, bursts: u64, instruments: u32) -> Follower<'m> {
        Follower { region, next, committed: next, bursts, instruments }
    }

    /// Becomes the writer: the next tick is the region's own.
    pub fn into_writer(mut self) -> Writer<'m> {
        self.commit();
        Writer::over(self.region, self.next, self.bursts, self.instruments)
    }

    /// The position of the next tick of the log; everything below is done, or not to be had.
    pub fn position(&self) -> u64 {
        self.next
    }

    pub fn layout(&self) -> Layout {
        self.region.layout
    }

    /// Forgets everything, and goes on at `from`. Readers learn by the region's generation that what they know is void.
    pub fn restart(&mut self, from: u64) {
        self.region.valid_until_ns().store(0, Ordering::Release);
        self.region.renew_generation();
        self.region.forget_lineage();
        let Region { feeds, bursts, directory, table, log, .. } = self.region;
        for cell in feeds.iter().chain(bursts).chain(table).chain(log) {
            cell.clear();
        }
        for word in directory.iter().flat_map(|cell| (0..8).map(|index| cell.word(index))) {
            word.store(0, Ordering::Relaxed);
        }
        (self.next, self.committed, self.bursts, self.instruments) = (from, from, 0, 0);
        self.region.instruments_defined().store(0, Ordering::Release);
        self.region.bursts_stamped().store(0, Ordering::Release);
        self.region.applied().store(from, Ordering::Release);
        self.region.tail().store(from, Ordering::Release);
    }

    /// Tells readers that what they know is void: rows came that the log does not tell of.
    pub fn renew_generation(&self) {
        self.region.renew_generation();
    }

    pub fn generation(&self) -> u64 {
        self.region.generation()
    }

    pub fn lineage(&self) -> Option<Lineage> {
        self.region.lineage()
    }

    /// Tells readers which log this is, from the position on where it is.
    pub fn set_lineage(&self, lineage: Lineage) {
        self.region.set_lineage(lineage);
    }

    /// Takes the next tick of the log. Followers of this log see it after [`Follower::commit`].
    pub fn tick(&mut self, tick: &Tick) -> Result<(), Foreign> {
        let position = self.next;
        self.check(position, tick)?;
        self.region.log_cell(position).store(position, tick);
        self.place(position, tick);
        self.next = position + 1;
        Ok(())
    }

    /// Takes a row of an image.
    pub fn row(&mut self, position: u64, tick: &Tick) -> Result<(), Foreign> {
        self.check(position, tick)?;
        self.place(position, tick);
        Ok(())
    }

    /// From now on somebody else (a network card) may store ticks into the window of the log above the tail, without
    /// marking a cell while it does. Readers have so much less of the log, for good.
    pub fn allow_unmarked(&self) {
        self.region.allow_unmarked();
    }

    /// Takes a tick of the log that somebody else (a network card) has stored at its place; false = it is not there.
    pub fn tick_in_place(&mut self) -> Result<bool, Foreign> {
        let position = self.next;
        let Some(tick) = self.region.log_cell(position).load_at(position) else { return Ok(false) };
        self.check(position, &tick)?;
        self.place(position, &tick);
        self.next = position + 1;
        Ok(true)
    }

    fn check(&self, position: u64, tick: &Tick) -> Result<(), Foreign> {
        let Layout { instruments, feeds, .. } = self.region.layout;
        let fits = match Kind::from_u8(tick.kind) {
            Some(kind) if (kind as usize) < Kind::ROWS => tick.instrument < instruments,
            Some(_) => tick.instrument == INSTRUMENT_NONE,
            None => false,
        };
        let Tick { instrument, feed, kind, .. } = *tick;
        if fits && feed < feeds { Ok(()) } else { Err(Foreign { position, instrument, feed, kind }) }
    }

    fn place(&mut self, position: u64, tick: &Tick) {
        if let Some(definition) = tick.payload::<Definition>() {
            // As with the writer: an instrument that the directory has no room for is found by listing only.
            let _ = directory::insert(&self.region, definition.name(), tick.instrument);
        }
        let cell = if usize::from(tick.kind) < Kind::ROWS {
            &self.region.table[tick.instrument as usize * Kind::ROWS + usize::from(tick.kind)]
        } else if tick.payload::<Session>().is_some() {
            self.region.session_cell(tick.feed)
        } else {
            debug_assert!(tick.payload::<FeedState>().is_some());
            self.region.feed_state_cell(tick.feed)
        };
        if cell.load().held().is_none_or(|(held, _)| held < position) {
            cell.store(position, tick);
        }
        if tick.kind == Kind::Definition as u8 {
            self.instruments = self.instruments.max(tick.instrument + 1);
            self.region.instruments_defined().store(u64::from(self.instruments), Ordering::Release);
        }
    }

    /// Tells the followers of this log what is new since the last call, and returns how many ticks that were.
    pub fn commit(&mut self) -> u64 {
        let fresh = self.next - self.committed;
        if fresh != 0 {
            self.committed = self.next;
            self.region.applied().store(self.next, Ordering::Release);
            self.region.tail().store(self.next, Ordering::Release);
        }
        fresh
    }

    /// Remembers when what was committed became readable here.
    pub fn stamp_burst(&mut self, published_ns: u64) {
        self.region.stamp_burst(&mut self.bursts, self.committed, published_ns);
    }

    /// Until when (`CLOCK_MONOTONIC`) the region may be believed; what was said before holds no longer.
    pub fn believe_until(&self, valid_until_ns: u64) {
        self.region.valid_until_ns().store(valid_until_ns, Ordering::Release);
    }
}
