//! Whether a client is still who it was when it called.

use super::Caller;
use tokio::sync::{mpsc, watch};
use tonic::Status;

/// True once the client was deleted, or its role, what it may see, or its token changed. Cheap to look at.
#[derive(Clone, Debug)]
pub struct Standing(watch::Receiver<bool>);

impl Standing {
    /// A standing, and what ends it.
    pub fn new() -> (watch::Sender<bool>, Standing) {
        let (sender, receiver) = watch::channel(false);
        (sender, Standing(receiver))
    }

    pub fn is_revoked(&self) -> bool {
        *self.0.borrow()
    }

    /// Until it is; never, if nobody can revoke it any more.
    pub async fn revoked(&mut self) {
        if self.0.wait_for(|revoked| *revoked).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Runs a stream until it ends, or the caller may not have it any more, which is the last that the client is told.
pub async fn watch_standing<T>(
    caller: Caller,
    responses: mpsc::Sender<Result<T, Status>>,
    stream: impl Future<Output = ()>,
) {
    let mut standing = caller.standing;
    tokio::select! {
        () = stream => {}
        () = standing.revoked() => {
            let what = "was deleted, or what it may do was changed: call again, if it still may";
            let status = Status::permission_denied(format!("{} {what}", caller.name));
            // A client that does not read is told by the end alone.
            let _ = responses.try_send(Err(status));
        }
    }
}
