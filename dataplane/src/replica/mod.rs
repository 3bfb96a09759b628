//! Replication: a node's log is copied to its peers, each of which derives the same table of it.
//!
//! ```text
//!  primary's region                                standby's region
//!    log ── [sent, tail) ──► Link::copy ──► log ──► table, directory
//!    table ── rows, by position ──► (only when the log does not reach back far enough)
//!        ◄── Ack: position, the standby's own time
//!        ──► Alive: that time, sent back, and until how long after it the region may be believed
//! ```
//!
//! - **One reader a peer.** [`Primary`] follows the log like any other reader: the worker does nothing for it, and a slow
//!   or dead peer slows neither the worker nor other peers.
//! - **An image is rows with positions.** Log and image may overlap: a row keeps the newest position. A standby is
//!   *level* when it has all rows and every tick up to where the log stood when the last row was read. Until then all
//!   that it holds is stale to its readers.
//! - **A term** is the time of one primary. A standby that has heard of a term takes nothing of an earlier one. What it
//!   holds of an earlier log it keeps if that is a beginning of the new term's log; else it takes an image.
//! - **Belief is lent by the standby's own clock.** The time of an acknowledgement comes back with how long the region may
//!   be believed from then on: however late that arrives, it can't lend more. It counts once the standby has reached
//!   the position at which it was said.
//!
//! No I/O here: a [`Link`] carries messages, a driver or the simulator is behind it.

mod link;
mod message;
mod primary;
mod standby;

pub use crate::cache::lineage::Lineage;
pub use link::{Copied, Link, Record};
pub use message::{Message, Refusal};
pub use primary::{Primary, PrimaryCounters, PrimaryLimits, PrimaryStatus};
pub use standby::{Standby, StandbyCounters, StandbyError, StandbyStatus};

/// Changes with every change of what is said between nodes.
pub const PROTOCOL: u64 = 5;

/// What a node is called on the wire: FNV-1a of its name, 64 bits, never 0.
pub fn node_id(name: &str) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, hash).max(1)
}
