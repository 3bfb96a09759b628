//! Replication by RDMA: ticks go from log to log past the standby's processor, all else by a stream beside them.
//!
//! ```text
//!  primary                                              standby
//!    PrimaryEnd ◄── Link: queue pair, log's key ──────── StandbyEnd        introduction, over the stream
//!               ─── Link: queue pair ──────────────────►
//!               ◄── Hello, Ack ── Begin, rows, Level, Alive ──►            over the stream (tcp_link)
//!    log ─────────── WRITE [from, upto), same places ──► log               by the queue pair
//!               ─── immediate: low half of upto ───────► announced         by the queue pair
//! ```
//!
//! - **Few ticks are sent eagerly.** They are copied into the requests, whole, and the last one announces them.
//! - **Many are read by the device out of the log**, with no copy. The worker does not wait for that, and may come round to
//!   them meanwhile; a device may also read them twice. So they are announced once the writes are done and the oldest tick is
//!   still in its cell. If not, the standby never takes them, and begins anew with an image.
//! - **The stream has its turn** once in a millisecond, or a sixteenth of the log: while an end is at it, ticks wait. So
//!   acknowledgements come late, several as one.
//! - **A key for each connection.** The standby registers its log, and nothing else, when a connection begins, and takes the key
//!   back when it ends: whoever wrote before can't any more. [`LinkedStandby`] sees that it ends before anything later begins.
//! - **A Begin comes after all writes.** An announcement that is seen later still is at or below where it began.
//! - **Without a device at the other end** the introduction is not answered, or never comes, and ticks go by the stream.

mod flight;
mod introduction;
mod linked_standby;
mod log_memory;
mod primary_end;
mod standby_end;
mod turn;

use super::{PostError, RdmaError, Status};
use crate::tcp_link;
pub use linked_standby::LinkedStandby;
pub use log_memory::LogMemory;
pub use primary_end::PrimaryEnd;

/// Writes of a primary under way at most.
const WRITES: u32 = 128;
/// Announcements that a standby has room for; more of them wait at the primary.
const RECEIVES: u32 = 512;

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Words(#[from] tcp_link::LinkError),
    #[error(transparent)]
    Device(#[from] RdmaError),
    #[error("ticks were not written: {0}")]
    Write(#[from] Status),
    #[error("the RDMA device takes no work: {0}")]
    Post(#[from] PostError),
    #[error("the other end introduced itself when it was not its turn")]
    OutOfTurn,
}
