//! The transport: how a feed's datagrams are numbered and cut into messages.
//!
//! An arbiter needs to know no more of a protocol than this. Each transport is one file beside this one.

mod iextp;
mod mdp3;
mod moldudp64;

pub use iextp::IexTp;
pub use mdp3::Mdp3;
pub use moldudp64::Moldudp64;

use std::marker::PhantomData;

/// Bytes of a session's name; shorter names are padded with NUL, and a transport without sessions has none but NUL.
pub const SESSION_BYTES: usize = 10;

/// A datagram as every transport has it: some numbers in a row, and the bytes that they number.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'p> {
    pub session: [u8; SESSION_BYTES],
    /// The first number; the next one to come, if `count` is 0.
    pub sequence: u64,
    /// How many numbers it takes up: its messages as a rule, 1 where the packets themselves are numbered; 0 = a heartbeat,
    /// or the end of the session.
    pub count: u16,
    pub ends_session: bool,
    pub blocks: &'p [u8],
}

impl Packet<'_> {
    /// One above the last number.
    #[inline(always)]
    pub fn sequence_next(&self) -> u64 {
        self.sequence.wrapping_add(u64::from(self.count))
    }
}

/// Reads datagrams. Any bytes are borne.
pub trait Transport {
    /// A sequence that begins again at its first number under the session's old name is a new session, as soon as a second
    /// packet agrees. Otherwise only a stale feed may begin again so.
    const RESTARTS: bool;

    /// Takes the head; `None` = there is none of this transport. The blocks are not looked at.
    fn parse(datagram: &[u8]) -> Option<Packet<'_>>;

    /// Whether the blocks are exactly what the head announces, and the numbers fit into 64 bits.
    fn is_whole(packet: &Packet<'_>) -> bool;

    /// The bytes of the first number, and those of the numbers after it; `None` = there is no whole block.
    fn split(blocks: &[u8]) -> Option<(&[u8], &[u8])>;
}

/// The messages of some blocks, in order; they may be empty.
#[derive(Debug)]
pub struct Messages<'p, T> {
    remaining: u16,
    rest: &'p [u8],
    transport: PhantomData<T>,
}

impl<'p, T: Transport> Messages<'p, T> {
    /// The first `count` messages of `blocks`.
    #[inline(always)]
    pub fn new(count: u16, blocks: &'p [u8]) -> Self {
        Messages { remaining: count, rest: blocks, transport: PhantomData }
    }
}

impl<'p, T: Transport> Iterator for Messages<'p, T> {
    type Item = &'p [u8];

    #[inline(always)]
    fn next(&mut self) -> Option<&'p [u8]> {
        self.remaining = self.remaining.checked_sub(1)?;
        let (message, rest) = T::split(self.rest)?;
        self.rest = rest;
        Some(message)
    }
}
