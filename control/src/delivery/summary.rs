//! A summary: which rows changed in a block of the log, for those who want to know no more.

use dataplane::cache::reader::{Cursor, Next, Reader};
use dataplane::cache::tick::{INSTRUMENT_NONE, Kind};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Ticks of a block, which begins at a multiple of it.
pub const TICKS: u64 = 128;
/// Blocks whose summaries are kept: of 262,144 positions, 1 KiB each at most.
const BLOCKS: usize = 2_048;

#[derive(Debug)]
pub struct Summary {
    /// Of the region: positions mean nothing in another one.
    pub generation: u64,
    pub from: u64,
    /// By instrument; `None` = there is more than changes of rows (definitions, events of feeds), so that each tick is to be looked at.
    pub changes: Option<Vec<Change>>,
}

/// That a row changed by a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub instrument: u32,
    pub feed: u16,
    pub kind: u8,
    pub ticks: u8,
}

impl Summary {
    /// Of the block that begins at `from`; `None` = the log does not have all of it.
    fn read(reader: &Reader<'_>, from: u64) -> Option<Summary> {
        let generation = reader.generation();
        let mut cursor = Cursor::at(from);
        let (mut rows, mut is_plain) = (BTreeMap::<_, u8>::new(), true);
        while cursor.position() < from + TICKS {
            let Next::Tick { tick, .. } = cursor.next(reader) else { return None };
            is_plain &= tick.instrument != INSTRUMENT_NONE
                && usize::from(tick.kind) < Kind::ROWS
                && tick.kind != Kind::Definition as u8;
            *rows.entry((tick.instrument, tick.kind, tick.feed)).or_default() += 1;
        }
        let changes = rows.into_iter().map(|((instrument, kind, feed), ticks)| Change {
            instrument,
            feed,
            kind,
            ticks,
        });
        let changes = is_plain.then(|| changes.collect());
        (reader.generation() == generation).then_some(Summary { generation, from, changes })
    }

    pub fn upto(&self) -> u64 {
        self.from + TICKS
    }
}

/// The summaries of the last blocks that somebody passed over, each in the place of its number. A place's lock is held while its
/// summary is looked up or made.
#[derive(Debug)]
pub struct Summaries(Box<[Mutex<Option<Arc<Summary>>>]>);

impl Default for Summaries {
    fn default() -> Summaries {
        Summaries((0..BLOCKS).map(|_| Mutex::default()).collect())
    }
}

impl Summaries {
    /// Of the block that begins at `from` and ends at the log's tail or before; `None` = the log does not have all of it (any more).
    pub fn at(&self, reader: &Reader<'_>, from: u64) -> Option<Arc<Summary>> {
        let place = &self.0[(from / TICKS) as usize % BLOCKS];
        let mut kept = place.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let generation = reader.generation();
        let found = kept.as_ref().filter(|kept| kept.generation == generation && kept.from == from);
        if let Some(found) = found {
            // Who is lapped is to know it, whatever is kept here.
            return reader.log_tick(from).map(|_| found.clone());
        }
        let made = Arc::new(Summary::read(reader, from)?);
        // Far behind all others: what it needs, nobody else does.
        let is_old = kept.as_ref().is_some_and(|kept| kept.generation == generation && kept.from > from);
        if !is_old {
            *kept = Some(made.clone());
        }
        Some(made)
    }
}
