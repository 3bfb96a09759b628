//! The gRPC services.

pub mod admin;
pub mod clients;
pub mod cluster;
pub mod feeds;
pub mod market_data;
pub mod node;
pub mod quotas;
pub(crate) mod rows;
pub mod subscriptions;
pub mod telemetry;
mod watch;

pub use rows::{condition, feed_reason, kind_name, kind_named, kind_of};
