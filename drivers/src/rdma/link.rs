//! Replication by RDMA: ticks go from log to log past the standby's processor, all else by a stream beside them.
//!
//! ```text
//!  primary                                              standby
//!    PrimaryEnd ◄── Link: queue pair, log's key ──────── StandbyEnd        introduction, over the stream
//!               ─── Link: queue pair, cell's key ──────►
//!               ◄── Hello ──── Begin, rows, Level, Alive ──►               over the stream (tcp_link)
//!    log ─────────── WRITE [from, upto), same places ──► log               by the queue pair
//!               ─── immediate: low half of upto ───────► announced         by the queue pair
//!    cell ◄───────── WRITE Ack ─────────────────────────                   by the queue pair
//! ```
//!
//! - **Few ticks are sent eagerly.** They are copied into the requests, whole, and the last one announces them.
//! - **Many are read by the device out of the log**, with no copy. The worker does not wait for that, and may come round to
//!   them meanwhile; a device may also read them twice. So they are announced once the writes are done and the oldest tick is
//!   still in its cell. If not, the standby never takes them, and begins anew with an image.
//! - **An acknowledgement is a write, too,** into a cell of the primary's that proves itself (acknowledgement.rs); the primary looks
//!   there in each round. A newer one replaces one that was not looked at, or was not posted: the queue was full, or the one before was 200 µs
//!   ago at most, since ticks wait while a device is at it.
//! - **The stream has its turn** once in a millisecond: while an end is at it, ticks wait.
//! - **A key for each connection.** The standby registers its log, the primary a cell, and neither anything else, when a
//!   connection begins. They take the keys back when it ends: whoever wrote before can't any more, nor acknowledge for its
//!   successor. [`LinkedStandby`] sees that it ends before anything later begins.
//! - **A Begin comes after all writes.** An announcement that is seen later still is at or below where it began.
//! - **Without a device at the other end** the introduction is not answered, or never comes, and ticks go by the stream.

mod acknowledgement;
mod flight;
mod introduction;
mod linked_standby;
mod log_memory;
mod primary_end;
mod standby_end;
mod turn;

use super::{PostError, RdmaError, Status};
use crate::{region, tcp_link};
pub use linked_standby::LinkedStandby;
pub use log_memory::LogMemory;
pub use primary_end::PrimaryEnd;

/// Writes of a primary under way at most.
const WRITES: u32 = 128;
/// Announcements that a standby has room for; more of them wait at the primary.
const RECEIVES: u32 = 512;
/// Acknowledgements under way at most.
const ACKNOWLEDGEMENTS: u32 = 64;

/// Between two acknowledgements: while a card, or what stands for one, is at the one, a tick that comes waits.
const ACKNOWLEDGEMENT_INTERVAL_NS: u64 = 200_000;

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Words(#[from] tcp_link::LinkError),
    #[error(transparent)]
    Device(#[from] RdmaError),
    #[error("the memory for acknowledgements: {0}")]
    Memory(#[from] region::RegionError),
    #[error("the other end's memory was not written: {0}")]
    Write(#[from] Status),
    #[error("the RDMA device takes no work: {0}")]
    Post(#[from] PostError),
    #[error("the other end introduced itself when it was not its turn")]
    OutOfTurn,
}
