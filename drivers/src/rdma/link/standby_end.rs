//! The standby's end: takes what the primary's device has announced, acknowledges it by its own, and gives a [`Standby`] what comes
//! by the stream.

use super::acknowledgement;
use super::flight::Flight;
use super::introduction::Introduction;
use super::log_memory::LogMemory;
use super::turn::Turn;
use super::{ACKNOWLEDGEMENT_INTERVAL_NS, ACKNOWLEDGEMENTS, LinkError, RECEIVES};
use crate::rdma::{
    Completed, CompletionQueue, Device, QueuePair, QueuePairConfig, RdmaError, RemoteMemory, Source, Write,
};
use crate::region::{CELL_BYTES, RegionMapping};
use crate::tcp_link::{self, Channel, Received};
use dataplane::replica::{Message, Standby};
use std::sync::Arc;

/// The standby's end of one connection. It has a queue pair and a key of the log of its own, which nobody else was told.
///
/// Dropping it is the fence: once that has returned, its primary writes nothing any more, whatever it goes on posting. So
/// [`LinkedStandby`](super::LinkedStandby) drops it before another connection is made, before the node has heard of a later
/// term, and before it becomes a primary.
#[derive(Debug)]
pub struct StandbyEnd {
    // In the order in which they are dropped: first nothing comes any more, then the key goes.
    pair: QueuePair,
    _log: LogMemory,
    completions: CompletionQueue,
    words: tcp_link::StandbyEnd,
    /// The primary's memory for acknowledgements, once that has introduced itself.
    primary: Option<RemoteMemory>,
    /// Acknowledgements that are being written.
    flight: Flight,
    /// The newest one, if it was not sent yet.
    acknowledgement: Option<Message>,
    /// When another one may be written.
    next_ns: u64,
    /// When the stream is looked at again.
    turn: Turn,
}

impl StandbyEnd {
    /// Begins a connection of `standby`, whose region is in `mapping`: the introduction and its Hello are on their way after the
    /// next [`StandbyEnd::poll`]. Of `patience` the timeouts and retries count; the depths are the link's own.
    pub fn new(
        channel: impl Into<Channel>,
        device: &Arc<Device>,
        mapping: &Arc<RegionMapping>,
        standby: &mut Standby<'_>,
        patience: &QueuePairConfig,
    ) -> Result<StandbyEnd, LinkError> {
        // Before anybody can write.
        standby.allow_unmarked();
        let log = LogMemory::writable(device, mapping)?;
        let completions = CompletionQueue::new(device, RECEIVES + ACKNOWLEDGEMENTS)?;
        let (writes, inline_bytes) = (ACKNOWLEDGEMENTS, CELL_BYTES as u32);
        let config = QueuePairConfig { writes, receives: RECEIVES, inline_bytes, ..*patience };
        let mut pair = QueuePair::new(&completions, &config)?;
        pair.post_receives(RECEIVES as usize, 0)?;
        let mut words = tcp_link::StandbyEnd::silent(channel).map_err(tcp_link::LinkError::from)?;
        words.send(Introduction { endpoint: pair.endpoint(), memory: log.remote() }.to_message());
        words.send(standby.connected());
        Ok(StandbyEnd {
            pair,
            turn: Turn::default(),
            _log: log,
            completions,
            words,
            primary: None,
            flight: Flight::new(ACKNOWLEDGEMENTS),
            acknowledgement: None,
            next_ns: 0,
        })
    }

    /// Whether the primary's device writes into this one's memory; else its ticks come by the stream.
    pub fn is_connected(&self) -> bool {
        self.primary.is_some()
    }

    /// One round: takes what has come, gives it to the standby, and sends what that has to say. Returns how much came.
    /// `now_ns` tells the time (`CLOCK_MONOTONIC`); `write_down` makes a term outlast a crash. An error ends the
    /// connection; what came before is taken.
    pub fn poll(
        &mut self,
        standby: &mut Standby<'_>,
        now_ns: impl Fn() -> u64,
        write_down: &mut dyn FnMut(u64) -> bool,
    ) -> Result<usize, LinkError> {
        let announced = self.take_announced(standby);
        // Ticks are readable before anything else is done.
        let round_ns = now_ns();
        self.settle(standby, round_ns);
        let announced = announced?;
        self.acknowledge(round_ns)?;
        self.pair.post_receives(announced, 0)?;
        if self.is_connected() && !self.turn.is_due(round_ns) {
            return Ok(announced);
        }
        let filled = self.words.fill()?;
        let taken = self.take_words(standby, now_ns(), write_down);
        self.settle(standby, now_ns());
        taken?;
        self.acknowledge(now_ns())?;
        self.words.flush()?;
        self.turn.end(now_ns(), filled != 0);
        Ok(announced + filled)
    }

    fn settle(&mut self, standby: &mut Standby<'_>, now_ns: u64) {
        // The newest says all that those before it would have.
        self.acknowledgement = standby.settle_round(now_ns).or(self.acknowledgement.take());
    }

    /// Sends the newest acknowledgement, by the device once the primary has told where to. If that is still at so many that there is
    /// no room, or one was written only just now, it waits, and gives way to a newer one.
    fn acknowledge(&mut self, now_ns: u64) -> Result<(), LinkError> {
        if self.is_connected() && (self.flight.room() == 0 || now_ns < self.next_ns) {
            return Ok(());
        }
        let Some(message) = self.acknowledgement.take() else { return Ok(()) };
        let Some(to) = self.primary else {
            self.words.send(message);
            return Ok(());
        };
        let words = acknowledgement::to_words(message);
        let (work, signalled) = (self.flight.next(), self.flight.is_due(1));
        let source = Source::Words(&words);
        self.pair.post(&[Write { source, to, offset: 0, immediate: None, work, signalled }])?;
        self.flight.post(1, signalled);
        self.next_ns = now_ns + ACKNOWLEDGEMENT_INTERVAL_NS;
        Ok(())
    }

    /// The primary has introduced itself: its memory can be written from now on.
    fn meet(&mut self, words: [u64; 6]) -> Result<(), LinkError> {
        let Introduction { endpoint, memory } = Introduction::from_words(words);
        if self.is_connected() {
            return Err(LinkError::OutOfTurn);
        }
        if memory.bytes != CELL_BYTES as u64 {
            let (what, value) = ("acknowledgement memory", memory.bytes);
            return Err(RdmaError::Endpoint { what, value }.into());
        }
        self.pair.connect(&endpoint)?;
        self.primary = Some(memory);
        Ok(())
    }

    /// Takes the announcements that are there, and what became of acknowledgements. Returns for how many announcements there is no
    /// receive any more.
    fn take_announced(&mut self, standby: &mut Standby<'_>) -> Result<usize, LinkError> {
        let (mut announced, mut newest) = (0, 0);
        while let Some(completion) = self.completions.poll()? {
            match completion.result? {
                Completed::Immediate { immediate, .. } => {
                    newest = immediate;
                    announced += 1;
                }
                Completed::Write => self.flight.complete(completion.work),
                Completed::Other => {}
            }
        }
        if announced != 0 {
            let upto = position_near(standby.status().position, newest);
            standby.announced(upto).map_err(tcp_link::LinkError::from)?;
        }
        Ok(announced)
    }

    fn take_words(
        &mut self,
        standby: &mut Standby<'_>,
        now_ns: u64,
        write_down: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), LinkError> {
        while let Some(received) = self.words.next()? {
            match received {
                Received::Message(Message::Link(words)) => self.meet(words)?,
                Received::Message(message @ Message::Begin { .. }) => {
                    // What was announced before it belongs to what was before it.
                    let announced = self.take_announced(standby)?;
                    self.pair.post_receives(announced, 0)?;
                    standby.take(message, now_ns, write_down).map_err(tcp_link::LinkError::from)?;
                }
                other => other.give(standby, now_ns, write_down).map_err(tcp_link::LinkError::from)?,
            }
        }
        Ok(())
    }
}

/// The position whose low half is `low`, of all the one that is nearest to `position`. An announcement that is older than the
/// present image is so at or below where that began, and tells nothing.
fn position_near(position: u64, low: u32) -> u64 {
    let ahead = low.wrapping_sub(position as u32) as i32;
    position.saturating_add_signed(i64::from(ahead))
}

#[cfg(test)]
mod tests {
    use super::position_near;

    #[test]
    fn half_a_position_tells_all_of_it() {
        for position in [0, 5, u64::from(u32::MAX) - 3, 1 << 32, (1 << 40) + 7] {
            for ahead in [0, 1, 4, 1 << 25, (1 << 31) - 1] {
                assert_eq!(position_near(position, (position + ahead) as u32), position + ahead);
            }
        }
        assert_eq!(position_near((7 << 32) + 2, u32::MAX), (7 << 32) - 1, "an old one is old");
        assert_eq!(position_near(3, 0), 0);
        assert_eq!(position_near(3, u32::MAX), 0, "no position is below 0");
    }
}
