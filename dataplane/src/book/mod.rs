//! The book: from orders to levels to the best of each side.

pub mod levels;
pub mod orders;

/// A side of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    Bid = 0,
    Ask = 1,
}

/// A limit that was full: what did not fit is counted, and its feed says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;
