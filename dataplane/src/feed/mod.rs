//! Feeds: from the datagrams of redundant lines to one stream of messages, each once and in order.

pub mod arbiter;
mod config;
mod counters;
mod decoder;
mod delivery;
pub mod itch50;
pub mod line;
pub mod mdp3;
mod number;
mod protocol;
mod publication;
pub mod records;
mod renumbering;
mod stray;
pub mod tops16;
mod trades;
mod transfer;
pub mod transport;
mod view;
mod window;

pub use arbiter::Arbiter;
pub use config::{ArbiterConfig, ConfigError};
pub use counters::DecoderCounters;
pub use decoder::Decoder;
pub use delivery::{Arrival, Delivery, Event, Sink};
pub use line::{FeedCounters, LineCounters};
pub use protocol::{Feed, Protocol};
pub use publication::{Proof, Publication, Stamp};
pub use renumbering::Renumbering;
pub use transfer::{Misfit, Target, Transferred};
