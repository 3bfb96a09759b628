//! Passing over: what a subscription that is told the latest leaves out of the log.

use super::subscription::{Subscription, row_number};
use super::summary::{self, Change, Summary};
use dataplane::cache::reader::{Cursor, Next};
use dataplane::cache::tick::{Definition, INSTRUMENT_NONE};
use std::sync::Arc;

/// A member is looked up in a block if that has so many times as many changes as there are members.
const LOOK_UP_COST: usize = 8;

impl Subscription {
    /// Passes over what is in the log by now, and owes the latest of what changed in it: whole blocks by their summaries.
    pub(super) fn pass_over(&mut self, now_ns: u64) {
        let (since, tail) = (self.cursor.position(), self.node.reader.tail());
        while self.cursor.position() < tail {
            if let Some(summary) = self.summary_ahead(tail) {
                self.pass_block(&summary);
                self.cursor = Cursor::at(summary.upto());
                continue;
            }
            let end = (self.cursor.position() / summary::TICKS + 1) * summary::TICKS;
            match self.pass_ticks(end.min(tail), now_ns) {
                None => {}
                Some(Next::Lapped { .. }) => return self.pass_over_lapped(since, now_ns),
                Some(_) => return,
            }
        }
    }

    /// Of the block that begins at the cursor, if it says all that is to be known of it.
    fn summary_ahead(&self, tail: u64) -> Option<Arc<Summary>> {
        let from = self.cursor.position();
        let is_whole = from.is_multiple_of(summary::TICKS) && from + summary::TICKS <= tail;
        // Rows that were told ahead are left out by the position of each tick.
        if !is_whole || !self.ahead.is_behind(from) {
            return None;
        }
        let summary = self.node.summaries.at(&self.node.reader, from)?;
        (Some(summary.generation) == self.generation && summary.changes.is_some()).then_some(summary)
    }

    fn pass_block(&mut self, summary: &Summary) {
        let changes = summary.changes.as_deref().unwrap_or_default();
        if self.members.count() * LOOK_UP_COST >= changes.len() {
            changes.iter().for_each(|change| self.pass_change(change));
            return;
        }
        let mut member = self.members.next(0);
        while let Some(instrument) = member {
            let first = changes.partition_point(|change| (change.instrument as usize) < instrument);
            let of_member =
                changes[first..].iter().take_while(|change| change.instrument as usize == instrument);
            of_member.for_each(|change| self.pass_change(change));
            member = self.members.next(instrument + 1);
        }
    }

    fn pass_change(&mut self, change: &Change) {
        let Change { instrument, feed, kind, ticks } = *change;
        if self.members.has(instrument as usize) && self.plan.has_row(feed, kind) {
            self.owed.insert(row_number(instrument, kind));
            self.left_out += u64::from(ticks);
        }
    }

    /// Passes over each tick up to `upto`, or what is returned.
    fn pass_ticks(&mut self, upto: u64, now_ns: u64) -> Option<Next> {
        while self.cursor.position() < upto {
            match self.cursor.next(&self.node.reader) {
                Next::Tick { tick, .. } if tick.instrument == INSTRUMENT_NONE => {
                    self.is_event_owed |= self.plan.has_feed(tick.feed);
                }
                Next::Tick { position, tick } => {
                    if tick.payload::<Definition>().is_some() && self.see_name(tick.instrument, now_ns) {
                        self.owe(tick.instrument, |_| true);
                    }
                    if self.is_owed_tick(position, tick.instrument, tick.feed, tick.kind) {
                        self.owed.insert(row_number(tick.instrument, tick.kind));
                        self.left_out += 1;
                    }
                }
                ended => return Some(ended),
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
