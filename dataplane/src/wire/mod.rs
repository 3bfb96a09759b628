//! Wire formats: one protocol a file, as zerocopy structs under the specification's own table.
//! Nothing here copies or allocates; a parser returns `None` or a reason, it never panics.

pub mod arp;
pub mod checksum;
pub mod datagram;
pub mod ethernet;
pub mod iextp;
pub mod igmp;
pub mod ipv4;
pub mod itch50;
pub mod mdp3;
pub mod moldudp64;
pub mod record;
pub mod tops16;
pub mod udp;
