//! What an arbiter takes and what it gives.

use super::transport::{Messages, SESSION_BYTES, Transport};
use crate::cache::tick::Condition;

/// By which way and when a datagram came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Below [`LINES_MAX`](crate::limits::LINES_MAX). Lines from
    /// [`ArbiterConfig::lines`](super::ArbiterConfig::lines) on are neither waited for nor watched: a place
    /// for packets that were recovered by request.
    pub line: usize,
    /// Monotonic: for timers.
    pub now_ns: u64,
    /// The frame's stamp, Unix UTC: handed on with its messages, and for the lines' lead.
    pub received_ns: u64,
}

/// Messages whose turn it is.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'p> {
    /// The number of the first message; the others follow without a hole.
    pub sequence: u64,
    /// At least 1.
    pub count: u16,
    /// Exactly `count` blocks, as the transport has them.
    pub blocks: &'p [u8],
    pub line: usize,
    pub received_ns: u64,
}

impl<'p> Delivery<'p> {
    #[inline(always)]
    pub fn messages<T: Transport>(&self) -> Messages<'p, T> {
        Messages::new(self.count, self.blocks)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session begins; the next message or gap is at `sequence`, which is 1 unless it was joined late.
    SessionStarted { session: [u8; SESSION_BYTES], sequence: u64, late: bool },
    /// The messages `from` until below `to` will not be delivered.
    Gap { from: u64, to: u64 },
    /// Everything below `next_sequence` was delivered or declared missing, and nothing follows.
    SessionEnded { next_sequence: u64 },
    /// Not the condition that it was.
    Condition(Condition),
}

/// Takes what the arbiter lets through, in order.
pub trait Sink {
    fn messages(&mut self, delivery: Delivery<'_>);
    fn event(&mut self, event: Event);
}
