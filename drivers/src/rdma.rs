//! RDMA: writing into the memory of another machine, past its processor.
//!
//! Verbs of libibverbs, reliable connections (RC) only. What is made of a device holds on to it, and so does a queue pair to
//! its completion queues and a registration to its memory: in whatever order they are dropped, each goes before what it
//! needs.
//!
//! ```text
//! Device ── MemoryRegion       bytes of a RegionMapping that the device may read, and peers perhaps write
//!        ├─ CompletionQueue    what became of the work
//!        └─ QueuePair          one end of a connection: posts writes, takes immediates
//! ```
//!
//! Over them the two ends of replication: [`link`].
//!
//! Of the crate `rdma-sys` only the basic verbs are used: the extended ones look for their entry points in the wrong place.

mod completion_queue;
mod device;
pub mod link;
mod memory_region;
mod queue_pair;
mod status;
mod write;

pub use completion_queue::{Completed, Completion, CompletionQueue};
pub use device::{Device, DeviceConfig, device_names};
pub use memory_region::{Access, MemoryRegion, RemoteMemory};
pub use queue_pair::{Endpoint, QueuePair, QueuePairConfig};
pub use status::Status;
pub use write::{PostError, Source, WRITES_PER_POST_MAX, Write};

use dataplane::cache::region::RegionError;
use std::io;

/// Why something could not be set up, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RdmaError {
    #[error(
        "this machine has no RDMA device ({cause}): load its driver (rdma link shows what there is); any Ethernet \
         interface becomes one in software by `rdma link add rxe0 type rxe netdev eth0`, if the kernel has rdma_rxe"
    )]
    NoDevice { cause: String },
    #[error("no RDMA device `{device}`: this machine has {present}")]
    Absent { device: String, present: String },
    #[error("RDMA device `{device}` can't be opened: {cause}: may this user open /dev/infiniband/uverbs*?")]
    Open { device: String, cause: io::Error },
    #[error("RDMA device `{device}`, port {port}: {cause}: ports are counted from 1")]
    Port { device: String, port: u8, cause: io::Error },
    #[error("RDMA device `{device}`, port {port} is not active: is its interface up, and its cable in?")]
    Down { device: String, port: u8 },
    #[error(
        "RDMA device `{device}`, port {port} has no address that a peer could reach: give its interface an IP address, \
         or name the index of a GID"
    )]
    NoAddress { device: String, port: u8 },
    #[error(
        "RDMA device `{device}`: bytes {from}..{upto} are not within the memory's {bytes}, or not whole words of 8"
    )]
    Range { device: String, from: usize, upto: usize, bytes: usize },
    #[error(
        "RDMA device `{device}`: {bytes} bytes can't be registered: {cause}: locked memory may be limited (ulimit -l, \
         LimitMEMLOCK=), and what peers write must be mapped to be written"
    )]
    Register { device: String, bytes: usize, cause: io::Error },
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error("RDMA device `{device}`: {step}: {cause}")]
    Setup { device: String, step: &'static str, cause: io::Error },
    #[error(
        "RDMA device `{device}`: the completion queue overflowed or broke: make it anew, for all the work there can be"
    )]
    CompletionQueue { device: String },
    #[error("the peer's {what} = {value} can't be: is it a Tickplane of another version?")]
    Endpoint { what: &'static str, value: u64 },
}
