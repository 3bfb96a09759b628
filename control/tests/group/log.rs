//! A node's log, as any local process can follow it.

use dataplane::cache::reader::{Cursor, Next, Reader};
use dataplane::cache::tick::{FeedState, Kind, Reason, Tick};
use drivers::region::RegionMapping;
use std::collections::HashSet;

/// Follows a node's log as any local process can.
pub struct Follower<'r> {
    reader: Reader<'r>,
    cursor: Cursor,
    pub ticks: Vec<Tick>,
    /// Where in `ticks` the log began anew: a standby that had more than its new primary forgets all, and is sent an image.
    pub restarts: Vec<usize>,
}

impl<'r> Follower<'r> {
    pub fn new(mapping: &'r RegionMapping) -> Follower<'r> {
        let reader = Reader::open(mapping.cells()).unwrap();
        Follower { cursor: reader.cursor(), reader, ticks: Vec::new(), restarts: Vec::new() }
    }

    /// Where the log goes on.
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// Takes all that there is.
    pub fn follow(&mut self) {
        loop {
            match self.cursor.next(&self.reader) {
                Next::Tick { tick, .. } => self.ticks.push(tick),
                Next::CaughtUp => return,
                Next::Lapped { .. } => self.restarts.push(self.ticks.len()),
            }
        }
    }

    /// Every tick came once and in the order of the feed's messages, or a gap was declared, or the log began anew; returns how many gaps that were.
    pub fn gaps(&self) -> usize {
        let (mut last, mut gaps, mut seen) = (0, 0, HashSet::new());
        for (index, tick) in self.ticks.iter().enumerate() {
            if self.restarts.contains(&index) {
                (last, seen) = (0, HashSet::new());
            }
            let is_taken_over = |state: &FeedState| {
                state.reason == Reason::TakenOver as u8 || state.reason == Reason::Gap as u8
            };
            if tick.payload::<FeedState>().is_some_and(is_taken_over) {
                gaps += 1;
                (last, seen) = (0, HashSet::new());
            } else if usize::from(tick.kind) < Kind::ROWS {
                assert!(tick.sequence >= last, "{tick:?} came after {last}");
                last = tick.sequence;
                assert!(
                    seen.insert((tick.sequence, tick.kind, tick.instrument, tick.payload)),
                    "{tick:?} came twice"
                );
            }
        }
        gaps
    }
}
