//! The core of Tickplane, free of I/O: wire formats, feeds, books, the cache and the worker's loop.
//!
//! It is a deterministic function of (frames, time): frames come through [`port::Port`], time through
//! [`time::Clock`]. It starts no thread, does no I/O, and allocates only while it is constructed.

pub mod book;
pub mod cache;
pub mod counters;
pub mod feed;
pub mod hint;
pub mod histogram;
pub mod host;
pub mod limits;
pub mod port;
pub mod quota;
pub mod replica;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stall;
pub mod sync;
pub mod telemetry;
pub mod time;
pub mod times;
pub mod wire;
pub mod worker;
