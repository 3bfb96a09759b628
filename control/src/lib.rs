//! What the `tickplane` command is made of.

pub mod access;
pub mod audit;
pub mod bell;
pub mod client;
mod codec;
pub mod config;
pub mod connection;
pub mod decode;
pub mod delayed;
pub mod delivery;
pub mod demo;
pub mod doctor;
pub mod election;
pub mod exchange;
pub mod idle;
pub mod latency;
pub mod ledger;
pub mod log;
pub mod metrics;
pub mod midnight;
pub mod node;
mod notifier;
pub mod objective;
pub mod pattern;
pub mod port;
pub mod probability;
pub mod protocol;
pub mod quota;
pub mod replay;
pub mod replica;
pub mod retention;
pub mod row;
pub mod runner;
pub mod selection;
pub mod server;
pub mod service;
pub mod settings;
pub mod stop;
pub mod store;
pub mod subscriptions;
pub mod top;
pub mod trace;
pub mod window;
mod worker;

/// The protocol `tickplane.v1`, generated from `proto/`.
#[allow(clippy::doc_markdown, clippy::large_enum_variant)]
pub mod proto {
    pub use tickplane_client::proto::*;
    include!(concat!(env!("OUT_DIR"), "/servers/tickplane.v1.rs"));

    /// The definitions themselves, for the reflection service.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tickplane.v1.bin"));
}
