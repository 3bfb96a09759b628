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
/// How often a stream that rests looks whether its client was cut off.
const CUT_INTERVAL: Duration = Duration::from_secs(1);

/// A request's `interval_ms`: 100 ms to an hour, 0 = a second.
pub fn interval(interval_ms: u32) -> Result<Duration, Status> {
    match interval_ms {
        0 => Ok(Duration::from_millis(INTERVAL_MS_DEFAULT.into())),
        100..=3_600_000 => Ok(Duration::from_millis(interval_ms.into())),
        _ => Err(Status::invalid_argument("interval_ms: must be 100 to 3600000")),
    }
}

/// A stream's place among all that are open, and in its client's quota; given back when it is dropped.
pub struct Place {
    pub open: OpenSubscription,
    pub held: HeldSubscription,
}

/// Takes a place for one more stream of a client.
pub fn place(node: &Arc<Node>, caller: &Caller) -> Result<Place, Status> {
    let open = node.open_subscription().ok_or_else(|| {
        let max = node.delivery.subscriptions_max.load(Ordering::Relaxed);
        Status::resource_exhausted(format!("{max} subscriptions are open: [grpc] subscriptions_max"))
    })?;
    let held = caller.quota().open_subscription().map_err(|excess| excess.status())?;
    Ok(Place { open, held })
}

impl Place {
    /// Until the stream has to end, whatever it waits for; returns what its client is told.
    pub async fn over(&self, node: &Node) -> Status {
        let mut stopping = node.stopping.clone();
        while !self.held.is_cut() {
            tokio::select! {
                () = tokio::time::sleep(CUT_INTERVAL) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return Status::unavailable("the node shuts down");
                }
            }
        }
        Status::resource_exhausted("the client asked for more than its limits")
    }

    /// Waits until it is told again; false = the client is gone, or was told why there is no more.
    pub async fn pause<T>(
        &self,
        node: &Node,
        interval: Duration,
        sender: &Sender<Result<T, Status>>,
    ) -> bool {
        tokio::select! {
            () = tokio::time::sleep(interval) => true,
            () = sender.closed() => false,
            end = self.over(node) => {
                // What was told before it may be unread yet; whoever never reads it has the place until its connection ends.
                let _ = sender.send(Err(end)).await;
                false
            }
        }
    }
}
