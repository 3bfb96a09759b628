//! The exchange's event at hand: what it has changed is published when it ends.

use super::instrument::{Book, state};
use super::{Mdp3, Stamp, Writer};
use crate::hint::Prefetch;
use crate::time::NS_PER_MS;

/// Instruments that one event changes before what it changed so far is published.
const TOUCHED_MAX: usize = 256;
/// Packets that are waited for an event's end.
const PACKETS_MAX: u32 = 32;
/// How long an event's end is waited for.
const WAIT_NS: u64 = 5 * NS_PER_MS;

/// What has been changed since the last event's end.
pub(super) struct OpenEvent {
    touched: [u32; TOUCHED_MAX],
    count: usize,
    /// Packets since the first change.
    packets: u32,
    /// When it was first seen to be open, monotonic; 0 = not yet.
    seen_ns: u64,
    /// Of the last change.
    stamp: Stamp,
}

impl OpenEvent {
    pub fn new() -> OpenEvent {
        OpenEvent { touched: [0; TOUCHED_MAX], count: 0, packets: 0, seen_ns: 0, stamp: Stamp::default() }
    }

    pub fn clear(&mut self) {
        (self.count, self.packets, self.seen_ns) = (0, 0, 0);
    }

    /// To be asked once a packet.
    #[inline(always)]
    pub fn waits_too_long(&mut self) -> bool {
        self.packets += u32::from(self.count != 0);
        self.packets >= PACKETS_MAX
    }

    #[inline(always)]
    pub fn is_overdue(&mut self, now_ns: u64) -> bool {
        if self.count == 0 {
            return false;
        }
        if self.seen_ns == 0 {
            self.seen_ns = now_ns;
        }
        now_ns.saturating_sub(self.seen_ns) >= WAIT_NS
    }
}

impl<F: Prefetch> Mdp3<F> {
    /// Notes that an instrument's rows may have to be published when the event ends.
    #[inline(always)]
    pub(super) fn touch(&mut self, place: usize, stamp: &Stamp, writer: &mut Writer<'_>) {
        self.event.stamp = *stamp;
        if self.instruments[place].has(state::TOUCHED) {
            return;
        }
        if self.event.count == TOUCHED_MAX {
            self.force_event(writer);
        }
        let instrument = &mut self.instruments[place];
        instrument.is |= state::TOUCHED;
        writer.prefetch_quote::<F>(instrument.row());
        self.event.touched[self.event.count] = place as u32;
        self.event.count += 1;
    }

    /// The event's end has not come, and will not be waited for any more.
    #[cold]
    pub(super) fn force_event(&mut self, writer: &mut Writer<'_>) {
        self.publication.counters().events_cut.add(1);
        self.end_open_event(writer);
    }

    pub(super) fn end_open_event(&mut self, writer: &mut Writer<'_>) {
        let stamp = self.event.stamp;
        self.end_event(&stamp, writer);
    }

    #[inline(always)]
    pub(super) fn end_event(&mut self, stamp: &Stamp, writer: &mut Writer<'_>) {
        let count = self.event.count;
        self.event.clear();
        for at in 0..count {
            let place = self.event.touched[at] as usize;
            let instrument = &mut self.instruments[place];
            let renewed = instrument.has(state::RENEWED);
            instrument.is &= !(state::TOUCHED | state::RENEWED);
            if instrument.row().is_none() {
                self.introduce(place, stamp, writer);
            }
            let quoted =
                [Book::Direct, Book::Implied].map(|book| self.publish_quote(place, book, stamp, writer));
            if renewed {
                self.renew(place, quoted, writer);
            }
        }
    }
}
