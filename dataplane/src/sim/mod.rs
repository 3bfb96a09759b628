//! The simulator: an exchange that knows its own book, the lossy lines that carry its packets, a clock and
//! a port of plain memory. Everything is a function of its seed, so that a failure can be repeated.
//!
//! The exchange is also the oracle of the tests: nothing here uses the feed, the book or the cache.

pub mod clock;
pub mod exchange;
pub mod lines;
pub mod mdp3;
pub mod memory_port;
pub mod packetizer;
pub mod random;
pub mod tops;
