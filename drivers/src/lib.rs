//! The outside world, behind the core's traits.
//!
//! Linux only. All `unsafe` of the product is in this crate, each block under its `// SAFETY:`.

pub mod capture;
pub mod clock;
pub mod cpu;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod frame_sender;
pub mod hugepages;
pub mod interface;
pub mod itch_file;
pub mod mmsg;
pub mod pcap;
mod pcapng;
#[cfg(feature = "rdma")]
pub mod rdma;
pub mod region;
mod stream;
pub mod tcp_link;
pub mod udp;
pub mod udp_sender;
mod udp_socket;
