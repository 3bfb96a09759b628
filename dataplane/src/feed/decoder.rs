//! The decoder: what a protocol's messages mean. Each protocol is one folder beside this file.

use super::delivery::{Delivery, Event};
use super::publication::Publication;
use super::renumbering::Renumbering;
use super::transport::Transport;
use crate::cache::writer::Writer;

/// Takes a feed's messages, each once and in order, and publishes what they change.
///
/// What it knows it keeps in memory of its own, sized once; what it publishes goes through its [`Publication`].
pub trait Decoder {
    /// How the protocol's messages are numbered.
    type Transport: Transport;

    fn publication(&mut self) -> &mut Publication;

    /// Messages whose turn it is. They may be done later, but no later than [`Decoder::flush`].
    fn messages(&mut self, delivery: Delivery<'_>, writer: &mut Writer<'_>);

    /// Does what is left to do: called at the end of each burst, and before each event.
    fn flush(&mut self, writer: &mut Writer<'_>);

    /// What concerns the whole feed: a session, a loss, a condition.
    fn event(&mut self, event: Event, writer: &mut Writer<'_>);

    /// Sees to timers of its own, once a duty cycle; `now_ns` is monotonic.
    #[inline(always)]
    fn poll(&mut self, now_ns: u64, writer: &mut Writer<'_>) {
        let _ = (now_ns, writer);
    }

    /// Nothing will come any more: publishes what waits for something.
    fn finish(&mut self, writer: &mut Writer<'_>) {
        let _ = writer;
    }

    /// From now on the feed is published in another region, where its instruments have other numbers. What is published there
    /// is what was published before.
    fn renumber(&mut self, numbers: &Renumbering);

    /// The big tables' memory, for whoever wants to advise the kernel about it.
    fn memory(&self) -> Vec<&[u8]> {
        Vec::new()
    }
}
