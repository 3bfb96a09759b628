//! Feeds: from the datagrams of redundant lines to one stream of messages, each once and in order.

pub mod arbiter;
mod config;
mod delivery;
pub mod itch50;
pub mod line;
mod stray;
mod window;

pub use arbiter::Arbiter;
pub use config::{ArbiterConfig, ConfigError};
pub use delivery::{Arrival, Delivery, Event, Sink};
pub use line::{FeedCounters, LineCounters};
