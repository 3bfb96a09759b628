//! The reader: rows, feeds and the log of a region, from any thread or process that maps it.

use super::cell::Cell;
use super::directory;
use super::lineage::Lineage;
use super::region::{Layout, Region, RegionError};
use super::tick::{Condition, Definition, FeedState, Kind, Payload, Reason, Session, Tick, flag};
use crate::sync::load_acquire;

/// Whether a row may be believed. From good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Everything that could have changed it was seen.
    Live,
    /// Its past was not seen (a late start): orders from before may be missing from it.
    Partial,
    /// Something that could have changed it was missed.
    Suspect,
    /// Nothing has been heard for too long, by the feed or from the writer: it may be out of date.
    Stale,
}

/// A row of the table with the judgement on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where in the log the tick stands.
    pub position: u64,
    pub tick: Tick,
    pub state: State,
    /// Why it is not live, as far as the feed says.
    pub reason: Reason,
}

/// A feed, as the region tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Rows written below this position are of an earlier session.
    pub session_position: u64,
    /// `None` until the first packet.
    pub session: Option<Session>,
    pub condition: Condition,
    pub reason: Reason,
    pub proven_from: u64,
    /// Messages lost for good in this session.
    pub missing: u64,
}

/// Reads a region. Cheap to copy; holds no lock and leaves no trace.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'m> {
    region: Region<'m>,
}

impl<'m> Reader<'m> {
    pub(super) fn over(region: Region<'m>) -> Reader<'m> {
        Reader { region }
    }

    pub fn open(cells: &'m [Cell]) -> Result<Reader<'m>, RegionError> {
        Ok(Reader { region: Region::open(cells)? })
    }

    pub fn layout(&self) -> Layout {
        self.region.layout
    }

    /// Differs between any two regions: instruments and positions hold within one generation.
    pub fn generation(&self) -> u64 {
        self.region.generation()
    }

    /// Which log this is, in a group of nodes; `None` while it is not known, or not all of the log's rows are here.
    pub fn lineage(&self) -> Option<Lineage> {
        self.region.lineage()
    }

    /// Every position below is in the log and in the table.
    #[inline]
    pub fn tail(&self) -> u64 {
        load_acquire(self.region.tail())
    }

    /// Until when (`CLOCK_MONOTONIC`) the writer vouches for the region.
    #[inline]
    pub fn valid_until_ns(&self) -> u64 {
        load_acquire(self.region.valid_until_ns())
    }

    /// Instruments 0 … this − 1 exist.
    pub fn instruments(&self) -> u32 {
        load_acquire(self.region.instruments_defined()).min(u64::from(self.layout().instruments)) as u32
    }

    /// The instruments that are called `symbol` in the present session, one for each feed that has it.
    pub fn find<'r>(&'r self, symbol: &'r [u8]) -> impl Iterator<Item = u32> + use<'r, 'm> {
        directory::find(&self.region, symbol).map(|(instrument, ..)| instrument)
    }

    /// The row of `instrument` for the kind of `P`, judged at `now_ns` (`CLOCK_MONOTONIC`); `None` if there
    /// is none in the present session.
    #[inline]
    pub fn row<P: Payload>(&self, instrument: u32, now_ns: u64) -> Option<Row> {
        if P::KIND as usize >= Kind::ROWS || instrument >= self.region.layout.instruments {
            return None;
        }
        // The row first, the feed after: what the feed then says is at least as new as the row.
        let (position, tick) = self.region.row(instrument, P::KIND).load().held()?;
        if tick.feed >= self.region.layout.feeds {
            return None;
        }
        self.judge(position, tick, now_ns)
    }

    /// A row with its position, from whichever session; `None` if nothing was ever there.
    #[inline]
    pub fn held(&self, instrument: u32, kind: Kind) -> Option<(u64, Tick)> {
        let is_row = (kind as usize) < Kind::ROWS && instrument < self.region.layout.instruments;
        is_row.then(|| self.region.row(instrument, kind).load().held()).flatten()
    }

    /// What instrument this is, with the judgement on its feed.
    pub fn definition(&self, instrument: u32, now_ns: u64) -> Option<(Row, Definition)> {
        let row = self.row::<Definition>(instrument, now_ns)?;
        let definition = *row.tick.payload::<Definition>()?;
        (!definition.name().is_empty()).then_some((row, definition))
    }

    /// The state of a tick that was read from the log or the table; `None` if it is of an earlier session.
    #[inline]
    pub fn judge(&self, position: u64, tick: Tick, now_ns: u64) -> Option<Row> {
        let feed = self.feed(tick.feed);
        if position < feed.session_position {
            return None;
        }
        let (state, reason) = if now_ns >= self.valid_until_ns()
            || matches!(feed.condition, Condition::Stale | Condition::Waiting)
        {
            (State::Stale, feed.reason)
        } else if position < feed.proven_from || tick.flags & flag::SUSPECT != 0 {
            (State::Suspect, feed.reason)
        } else if tick.flags & flag::PARTIAL != 0 {
            (State::Partial, Reason::LateStart)
        } else {
            (State::Live, Reason::None)
        };
        Some(Row { position, tick, state, reason })
    }

    /// What the region says of a feed; a feed that does not exist is waiting for ever.
    #[inline]
    pub fn feed(&self, feed: u16) -> Feed {
        let mut view = Feed {
            session_position: 0,
            session: None,
            condition: Condition::Waiting,
            reason: Reason::None,
            proven_from: u64::MAX,
            missing: 0,
        };
        if feed >= self.region.layout.feeds {
            return view;
        }
        if let Some((position, tick)) = self.region.session_cell(feed).load().held() {
            view.session_position = position;
            view.session = tick.payload::<Session>().copied();
        }
        let state = self.region.feed_state_cell(feed).load().held();
        if let Some(state) = state.as_ref().and_then(|(_, tick)| tick.payload::<FeedState>()) {
            view.condition = Condition::from_u8(state.condition).unwrap_or(Condition::Stale);
            view.reason = Reason::from_u8(state.reason).unwrap_or(Reason::None);
            view.proven_from = state.proven_from;
            view.missing = state.missing;
        }
        view
    }

    /// The tick of the log at `position`; `None` once the ring has gone past it, or before it is there.
    #[inline]
    pub fn log_tick(&self, position: u64) -> Option<Tick> {
        self.region.log_tick(position)
    }

    /// What a feed said last of its session and of its state, with the positions.
    pub(crate) fn feed_held(&self, feed: u16) -> [Option<(u64, Tick)>; 2] {
        [self.region.session_cell(feed), self.region.feed_state_cell(feed)].map(|cell| cell.load().held())
    }

    /// Rows of an image of everything: what each feed says of itself, then the table.
    pub fn image_rows(&self) -> usize {
        self.region.feeds.len() + self.instruments() as usize * Kind::ROWS
    }

    /// One row of an image with its position, from whichever session; `None` if nothing was ever there.
    pub fn image_row(&self, index: usize) -> Option<(u64, Tick)> {
        let feeds = self.region.feeds.len();
        let cell = if index < feeds { &self.region.feeds[index] } else { &self.region.table[index - feeds] };
        cell.load().held()
    }

    /// A cursor at the end of the log: it will see what is published from now on.
    pub fn cursor(&self) -> Cursor {
        Cursor { next: self.tail() }
    }

    /// When (`CLOCK_MONOTONIC`) the tick at `position` became readable; `None` once the ring of bursts has gone
    /// past it. `hint` is where the last call ended, so that following the log costs one step a burst.
    pub fn published_ns(&self, position: u64, hint: &mut u64) -> Option<u64> {
        let stamped = load_acquire(self.region.bursts_stamped());
        let ring = self.region.bursts.len() as u64;
        *hint = (*hint).max(stamped.saturating_sub(ring)).min(stamped);
        while *hint < stamped {
            let words: [u64; 7] =
                bytemuck::cast(self.region.bursts[(*hint & (ring - 1)) as usize].load_at(*hint)?);
            if words[0] > position {
                return Some(words[1]);
            }
            *hint += 1;
        }
        None
    }
}

/// One reader's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    next: u64,
}

/// What a cursor finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Tick {
        position: u64,
        tick: Tick,
    },
    /// Everything published has been seen.
    CaughtUp,
    /// The ring has gone past the cursor: `skipped` ticks are gone from the log, the cursor stands at the tail, and the
    /// table has the latest of each row.
    Lapped {
        skipped: u64,
    },
}

impl Cursor {
    /// A cursor whose next tick is that of `position`.
    pub fn at(position: u64) -> Cursor {
        Cursor { next: position }
    }

    /// The position of the next tick that it will see.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Gives up what lies between here and the tail, and returns how many ticks that is.
    pub fn skip_to_tail(&mut self, reader: &Reader<'_>) -> u64 {
        let tail = reader.tail();
        let skipped = tail.saturating_sub(self.next);
        self.next = self.next.max(tail);
        skipped
    }

    #[inline]
    pub fn next(&mut self, reader: &Reader<'_>) -> Next {
        let position = self.next;
        if position >= reader.tail() {
            return Next::CaughtUp;
        }
        match reader.region.log_tick(position) {
            Some(tick) => {
                self.next += 1;
                Next::Tick { position, tick }
            }
            None => Next::Lapped { skipped: self.skip_to_tail(reader) },
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cache::follower::Follower;
    use crate::sync::Ordering;

    const LAYOUT: Layout = Layout { instruments: 1, feeds: 1, log_ticks: 64, bursts: 4 };

    /// A network card stores the words of a cell in whatever order.
    #[test]
    fn a_cell_that_a_network_card_may_be_writing_is_not_taken() {
        for is_unmarked in [false, true] {
            let cells: Vec<Cell> = (0..LAYOUT.cells()).map(|_| Cell::default()).collect();
            let mut follower = Follower::format(&cells, LAYOUT, 1).unwrap();
            if is_unmarked {
                follower.allow_unmarked();
            }
            for sequence in 0..100 {
                follower.tick(&Tick { sequence, ..Tick::default() }).unwrap();
            }
            follower.commit();
            let reader = Reader::open(&cells).unwrap();
            let log = &cells[LAYOUT.log_cells()];
            // It may write 32 ticks above the tail, over positions 36 to 67: the last word of each comes first.
            for position in 100..132u64 {
                log[(position % 64) as usize].word(7).store(u64::MAX, Ordering::Relaxed);
            }
            let whole = |position: &u64| reader.log_tick(*position).is_some_and(|tick| tick.payload[2] == 0);
            assert!((68..100).all(|position| whole(&position)), "what it can't be at is read as ever");
            assert_eq!(
                (36..68).filter(|position| reader.log_tick(*position).is_some()).count(),
                if is_unmarked { 0 } else { 32 }
            );
            let mut cursor = Cursor::at(67);
            let found = cursor.next(&reader);
            assert_eq!(found == Next::Lapped { skipped: 33 }, is_unmarked, "{found:?}");
            // All of a tick is there, but nobody has said so.
            let next = Cell::words(100, &Tick { sequence: 100, ..Tick::default() });
            for (index, word) in next.into_iter().enumerate() {
                log[100 % 64].word(index).store(word, Ordering::Relaxed);
            }
            assert_eq!(reader.log_tick(100).is_none(), is_unmarked);
            assert_eq!((follower.tick_in_place(), follower.commit()), (Ok(true), 1));
            assert!(whole(&100) && (reader.log_tick(68).is_none() == is_unmarked));
        }
    }
}
