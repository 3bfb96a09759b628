//! The link: what carries a primary's log to one peer.

use super::Message;
use crate::cache::reader::Reader;
use crate::cache::tick::Tick;
use bytemuck::{Pod, Zeroable};

/// A tick with its position: one cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Record {
    pub position: u64,
    pub tick: Tick,
}

const _: () = assert!(size_of::<Record>() == 64);

/// How far [`Link::copy`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// Everything below is on its way; `from` = there is no room now.
    Upto(u64),
    /// The log has gone past what was to be copied.
    Lapped,
}

/// The primary's end of a connection to a standby. It keeps the order of messages and rows, and that of ticks; between the
/// two there is none, except that a Begin comes after all ticks that were copied before it. When it loses something, it is down,
/// and a new one begins anew.
pub trait Link {
    /// Copies the ticks of the log at [from, upto) to the same places of the peer's log, or some of the first ones, and
    /// tells it then how far they go. With nothing to copy (`from` = `upto`) it only tells whether earlier ones have lapped,
    /// which a link may learn late.
    fn copy(&mut self, log: &Reader<'_>, from: u64, upto: u64) -> Copied;

    /// Sends rows of an image; returns how many there was room for.
    fn rows(&mut self, rows: &[Record]) -> usize;

    /// False = there is no room now.
    fn send(&mut self, message: Message) -> bool;

    fn receive(&mut self) -> Option<Message>;
}
