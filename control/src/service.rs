//! The gRPC services.

pub mod admin;
pub mod audit;
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

use tonic::Status;

/// How many a page has: as many as are asked for, 0 = `usual`.
fn page_size(asked: u32, usual: usize, most: usize) -> Result<usize, Status> {
    match asked as usize {
        0 => Ok(usual),
        asked if asked <= most => Ok(asked),
        _ => Err(Status::invalid_argument(format!("page_size: at most {most}"))),
    }
}

/// What waits for a disk, in a thread where nobody else waits for it. It is done even if the client goes away meanwhile.
async fn waited<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))
}
