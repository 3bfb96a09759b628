//! The region: how one slice of cells is laid out. It holds no address, so that every process may map it
//! where it likes, and everything in it is found by index.
//!
//! ```text
//! cell 0        identity   magic, layout hash, generation, instruments, feeds, log ticks, bursts, unmarked ticks
//!      1        liveness   valid_until_ns                           (read with every row), lineage: log, term, start, the one before
//!      2        positions  tail, applied, instruments defined       (written with every packet)
//!      3        feeds      a Session tick and a FeedState tick for each feed
//!      …        bursts     ring: what tail was published when
//!      …        directory  words: hash of symbol → instrument
//!      …        table      a row for each (instrument, kind)
//!      …        log        ring of the last ticks
//! ```

use super::cell::Cell;
use super::lineage::Lineage;
use super::tick::{Kind, Tick};
use crate::limits;
use crate::sync::{AtomicU64, Ordering, load_acquire};
use std::ops::Range;

/// "TICKPLAN", little-endian.
const MAGIC: u64 = u64::from_le_bytes(*b"TICKPLAN");
/// Changes with every change of what the bytes of a region mean.
const FORMAT: u64 = 4;
const HEADER_CELLS: usize = 3;
const FEED_CELLS: usize = 2;
const DIRECTORY_WORDS_PER_CELL: usize = 8;

/// The sizes that a region is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub instruments: u32,
    pub feeds: u16,
    /// Ticks that the log holds; a power of two.
    pub log_ticks: u64,
    /// Publications whose time is remembered; a power of two.
    pub bursts: u64,
}

/// Why cells can't be used as a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionError {
    /// A size is 0, not a power of two, or above its limit.
    Limit {
        what: &'static str,
        value: u64,
        max: u64,
    },
    /// The first cell is not a region's.
    NotARegion,
    /// Written by another version of Tickplane, or its sizes do not agree with each other.
    OtherLayout {
        found: u64,
        expected: u64,
    },
    TooSmall {
        cells: usize,
        needed: usize,
    },
}

impl std::fmt::Display for RegionError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RegionError::Limit { what, value, max } => {
                write!(out, "{what} = {value}: must be 1 to {max}, rings a power of two")
            }
            RegionError::NotARegion => write!(out, "this memory is not a Tickplane region"),
            RegionError::OtherLayout { found, expected } => write!(
                out,
                "the region was made by another version of Tickplane (layout {found:016x}, this one reads \
                 {expected:016x}): use readers of the writer's version"
            ),
            RegionError::TooSmall { cells, needed } => {
                write!(out, "the region has {cells} cells of 64 bytes where its header asks for {needed}")
            }
        }
    }
}

impl std::error::Error for RegionError {}

impl Layout {
    pub fn check(&self) -> Result<(), RegionError> {
        let within = |what, value: u64, max: usize, ring: bool| {
            let max = max as u64;
            let fits = (1..=max).contains(&value) && (!ring || value.is_power_of_two());
            fits.then_some(()).ok_or(RegionError::Limit { what, value, max })
        };
        within("instruments", u64::from(self.instruments), limits::INSTRUMENTS_MAX, false)?;
        within("feeds", u64::from(self.feeds), limits::FEEDS_MAX, false)?;
        within("log_ticks", self.log_ticks, limits::LOG_TICKS_MAX, true)?;
        within("bursts", self.bursts, limits::LOG_TICKS_MAX, true)
    }

    /// Words of the directory: at most half of them are used, so a search is short.
    fn directory_words(&self) -> usize {
        (self.instruments as usize * 2).next_power_of_two().max(DIRECTORY_WORDS_PER_CELL)
    }

    fn directory_cells(&self) -> usize {
        self.directory_words() / DIRECTORY_WORDS_PER_CELL
    }

    fn table_cells(&self) -> usize {
        self.instruments as usize * Kind::ROWS
    }

    /// Cells of 64 bytes that the whole region takes.
    pub fn cells(&self) -> usize {
        HEADER_CELLS
            + usize::from(self.feeds) * FEED_CELLS
            + self.bursts as usize
            + self.directory_cells()
            + self.table_cells()
            + self.log_ticks as usize
    }

    /// Which of the region's cells are the log; the tick of a position is at position modulo `log_ticks`.
    pub fn log_cells(&self) -> Range<usize> {
        let end = self.cells();
        end - self.log_ticks as usize..end
    }

    /// Ticks that may be on their way to a region at most: half of its log.
    pub fn window_ticks_max(&self) -> u64 {
        (self.log_ticks / 2).max(1)
    }

    /// Two regions can be copied into each other only if this is the same of both.
    pub fn hash(&self) -> u64 {
        hash(&[FORMAT, u64::from(self.instruments), u64::from(self.feeds), self.log_ticks, self.bursts])
    }
}

/// A hash that two nodes agree on: of words that differ in one place only it is always another.
#[inline]
pub fn hash(words: &[u64]) -> u64 {
    words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| mix(hash ^ word))
}

/// A finaliser that spreads every bit of `value` over all bits (splitmix64's).
#[inline(always)]
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The sections of a region, as slices of its cells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region<'m> {
    pub layout: Layout,
    identity: &'m Cell,
    liveness: &'m Cell,
    positions: &'m Cell,
    pub feeds: &'m [Cell],
    pub bursts: &'m [Cell],
    pub directory: &'m [Cell],
    pub table: &'m [Cell],
    pub log: &'m [Cell],
}

impl<'m> Region<'m> {
    fn over(cells: &'m [Cell], layout: Layout) -> Result<Region<'m>, RegionError> {
        layout.check()?;
        let needed = layout.cells();
        if cells.len() < needed {
            return Err(RegionError::TooSmall { cells: cells.len(), needed });
        }
        let (header, rest) = cells.split_at(HEADER_CELLS);
        let (feeds, rest) = rest.split_at(usize::from(layout.feeds) * FEED_CELLS);
        let (bursts, rest) = rest.split_at(layout.bursts as usize);
        let (directory, rest) = rest.split_at(layout.directory_cells());
        let (table, rest) = rest.split_at(layout.table_cells());
        let log = &rest[..layout.log_ticks as usize];
        let [identity, liveness, positions] = header else { unreachable!("split at HEADER_CELLS") };
        Ok(Region { layout, identity, liveness, positions, feeds, bursts, directory, table, log })
    }

    /// Lays out cells that are all zero. The magic is stored last: who sees it sees the rest.
    pub fn format(cells: &'m [Cell], layout: Layout, generation: u64) -> Result<Region<'m>, RegionError> {
        let region = Region::over(cells, layout)?;
        let words = [
            layout.hash(),
            generation,
            u64::from(layout.instruments),
            u64::from(layout.feeds),
            layout.log_ticks,
            layout.bursts,
        ];
        for (index, word) in words.into_iter().enumerate() {
            region.identity.word(index + 1).store(word, Ordering::Relaxed);
        }
        region.identity.word(0).store(MAGIC, Ordering::Release);
        Ok(region)
    }

    /// Reads the layout from the first cell and checks it against everything else.
    pub fn open(cells: &'m [Cell]) -> Result<Region<'m>, RegionError> {
        let identity = cells.first().ok_or(RegionError::TooSmall { cells: 0, needed: HEADER_CELLS })?;
        if load_acquire(identity.word(0)) != MAGIC {
            return Err(RegionError::NotARegion);
        }
        let word = |index: usize| identity.word(index).load(Ordering::Relaxed);
        let layout = Layout {
            instruments: u32::try_from(word(3)).unwrap_or(0),
            feeds: u16::try_from(word(4)).unwrap_or(0),
            log_ticks: word(5),
            bursts: word(6),
        };
        if word(1) != layout.hash() {
            return Err(RegionError::OtherLayout { found: word(1), expected: layout.hash() });
        }
        Region::over(cells, layout)
    }

    pub fn generation(&self) -> u64 {
        load_acquire(self.identity.word(2))
    }

    /// Makes everything that readers know of the region void.
    pub fn renew_generation(&self) {
        let next = self.identity.word(2).load(Ordering::Relaxed).wrapping_add(1);
        self.identity.word(2).store(next, Ordering::Release);
    }

    /// Cells of the log from the tail on, so many, may be overwritten without an odd version, by a network card; 0 = every
    /// store is marked.
    #[inline(always)]
    fn unmarked_ticks(&self) -> &'m AtomicU64 {
        self.identity.word(7)
    }

    /// Allows for unmarked writes within the window; for good, since readers may be in the midst of a cell.
    pub fn allow_unmarked(&self) {
        self.unmarked_ticks().store(self.layout.window_ticks_max(), Ordering::Release);
    }

    /// The tick of the log at `position`, if it is there.
    ///
    /// Where a network card writes, a version says nothing of the other words. What is at or above the tail may be half written,
    /// and so may the cells that the window above the tail comes round to. The card gets as far only after the tail has,
    /// so a tail that is read behind the copy tells.
    #[inline]
    pub fn log_tick(&self, position: u64) -> Option<Tick> {
        if self.unmarked_ticks().load(Ordering::Relaxed) != 0 && position >= load_acquire(self.tail()) {
            return None;
        }
        let tick = self.log_cell(position).load_at(position)?;
        // Behind the acquire fence of the copy.
        let unmarked = self.unmarked_ticks().load(Ordering::Relaxed);
        let is_whole =
            unmarked == 0 || position + self.layout.log_ticks >= load_acquire(self.tail()) + unmarked;
        is_whole.then_some(tick)
    }

    /// Remembers when everything below `upto` became readable; `bursts` counts.
    #[inline(always)]
    pub fn stamp_burst(&self, bursts: &mut u64, upto: u64, published_ns: u64) {
        let cell = &self.bursts[(*bursts & (self.bursts.len() as u64 - 1)) as usize];
        cell.store_words(*bursts, &[upto, published_ns, 0, 0, 0, 0, 0]);
        *bursts += 1;
        // Not the tail: a follower looks here only when it wants the time.
        self.bursts_stamped().store(*bursts, Ordering::Release);
    }

    /// Until when (monotonic clock) what the region says may be believed.
    #[inline(always)]
    pub fn valid_until_ns(&self) -> &'m AtomicU64 {
        self.liveness.word(0)
    }

    /// Says which log this is.
    pub fn set_lineage(&self, lineage: Lineage) {
        self.forget_lineage();
        // What a log began with never changes, so its number alone tells whether the words belong together.
        let Lineage { term, log, start, before } = lineage;
        for (index, word) in [(2, term), (3, start), (4, before), (1, log)] {
            self.liveness.word(index).store(word, Ordering::Release);
        }
    }

    /// What the region holds is no log, or not all of one.
    pub fn forget_lineage(&self) {
        self.liveness.word(1).store(0, Ordering::Release);
    }

    pub fn lineage(&self) -> Option<Lineage> {
        let words = [1, 2, 3, 4, 1].map(|index| load_acquire(self.liveness.word(index)));
        let [log, term, start, before, again] = words;
        (log != 0 && log == again).then_some(Lineage { term, log, start, before })
    }

    /// Every position below is in the log.
    #[inline(always)]
    pub fn tail(&self) -> &'m AtomicU64 {
        self.positions.word(0)
    }

    /// Every position below is in the table too.
    #[inline(always)]
    pub fn applied(&self) -> &'m AtomicU64 {
        self.positions.word(1)
    }

    /// Instruments 0 … this − 1 have been defined.
    #[inline(always)]
    pub fn instruments_defined(&self) -> &'m AtomicU64 {
        self.positions.word(2)
    }

    /// Publications whose time the ring of bursts has been told, in all.
    #[inline(always)]
    pub fn bursts_stamped(&self) -> &'m AtomicU64 {
        self.positions.word(3)
    }

    #[inline(always)]
    pub fn row(&self, instrument: u32, kind: Kind) -> &'m Cell {
        &self.table[instrument as usize * Kind::ROWS + kind as usize]
    }

    #[inline(always)]
    pub fn log_cell(&self, position: u64) -> &'m Cell {
        &self.log[(position & (self.log.len() as u64 - 1)) as usize]
    }

    pub fn session_cell(&self, feed: u16) -> &'m Cell {
        &self.feeds[usize::from(feed) * FEED_CELLS]
    }

    pub fn feed_state_cell(&self, feed: u16) -> &'m Cell {
        &self.feeds[usize::from(feed) * FEED_CELLS + 1]
    }

    pub fn directory_slots(&self) -> usize {
        self.directory.len() * DIRECTORY_WORDS_PER_CELL
    }

    pub fn directory_word(&self, slot: usize) -> &'m AtomicU64 {
        self.directory[slot / DIRECTORY_WORDS_PER_CELL].word(slot % DIRECTORY_WORDS_PER_CELL)
    }
}
