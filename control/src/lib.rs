//! What the `tickplane` command is made of.

pub mod client;
pub mod config;
pub mod decode;
pub mod demo;
pub mod exchange;
pub mod latency;
pub mod metrics;
pub mod midnight;
pub mod node;
pub mod pattern;
pub mod port;
pub mod row;
pub mod runner;
pub mod server;
pub mod service;
pub mod stop;

/// The protocol `tickplane.v1`, generated from `proto/`.
#[allow(clippy::doc_markdown, clippy::large_enum_variant)]
pub mod proto {
    tonic::include_proto!("tickplane.v1");

    /// The definitions themselves, for the reflection service.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tickplane.v1.bin"));
}
