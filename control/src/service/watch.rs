//! What streams have in common that tell something again and again.

use crate::access::Caller;
use crate::node::{Node, OpenSubscription};
use crate::quota::HeldSubscription;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tonic::Status;

const INTERVAL_MS_DEFAULT: u32 = 1_000;

/// A request's `interval_ms`: 100 ms to an hour, 0 = a second.
pub fn interval(interval_ms: u32) -> Result<Duration, Status> {
    match interval_ms {
        0 => Ok(Duration::from_millis(INTERVAL_MS_DEFAULT.into())),
        100..=3_600_000 => Ok(Duration::from_millis(interval_ms.into())),
        _ => Err(Status::invalid_argument("interval_ms: must be 100 to 3600000")),
    }
}

/// Takes a place for one more stream.
pub fn place(node: &Arc<Node>) -> Result<OpenSubscription, Status> {
    node.open_subscription().ok_or_else(|| {
        let max = node.delivery.subscriptions_max.load(Ordering::Relaxed);
        Status::resource_exhausted(format!("{max} subscriptions are open: [grpc] subscriptions_max"))
    })
}

/// Takes one more stream out of the client's quota.
pub fn held(caller: &Caller) -> Result<HeldSubscription, Status> {
    caller.quota().open_subscription().map_err(|excess| excess.status())
}

/// Waits until it is told again; false = the client is gone, or was told that the node ends.
pub async fn pause<T>(node: &Node, interval: Duration, sender: &Sender<Result<T, Status>>) -> bool {
    let mut stopping = node.stopping.clone();
    tokio::select! {
        () = tokio::time::sleep(interval) => true,
        () = sender.closed() => false,
        _ = stopping.wait_for(|stopping| *stopping) => {
            let _ = sender.try_send(Err(Status::unavailable("the node shuts down")));
            false
        }
    }
}
