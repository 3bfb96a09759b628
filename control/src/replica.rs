//! Static replication: one primary and its standbys, as they are configured. The thread `tickplane-replica` of each node
//! does it; a primary's worker does nothing for it, and a standby has none.

mod primary;
mod standby;
mod term;

pub use primary::PrimaryGroup;
pub use standby::StandbyNode;
pub use term::{TermError, TermFile};

use crate::idle::{Idle, Idler};
use crate::proto::ClusterGetResponse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// How often what the services show is brought up to date, and a primary looks for new connections.
const VIEW_INTERVAL_NS: u64 = 10_000_000;
/// A connection on which nothing is heard for so long is given up: both ends speak more often than that.
const SILENCE_MAX_NS: u64 = 5_000_000_000;

#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error("[replica] {0}")]
    Term(#[from] TermError),
    #[error(
        "[replica] listen = \"{address}\": {cause}: is another process there? choose another port, or 0 for any"
    )]
    Bind { address: SocketAddr, cause: std::io::Error },
    #[error("[replica] its thread: {0}")]
    Thread(std::io::Error),
}

/// What the replication's thread last said of itself; a node that is alone says nothing.
#[derive(Clone, Debug, Default)]
pub struct View(Arc<Mutex<ClusterGetResponse>>);

impl View {
    fn set(&self, seen: ClusterGetResponse) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = seen;
    }

    pub fn get(&self) -> ClusterGetResponse {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// One side of the replication, in its thread.
pub trait Round: Send + 'static {
    /// Does what can be done now; returns how much that was.
    fn round(&mut self) -> usize;

    fn end(&mut self) {}
}

/// Goes round until `end`.
pub fn start(mut side: impl Round, idle: Idle, end: Arc<AtomicBool>) -> Result<JoinHandle<()>, ReplicaError> {
    let live = move || {
        let mut idler = Idler::new(idle);
        while !end.load(Ordering::Relaxed) {
            idler.after(side.round());
        }
        side.end();
    };
    let builder = std::thread::Builder::new().name("tickplane-replica".to_owned());
    builder.spawn(live).map_err(ReplicaError::Thread)
}

fn counters<const N: usize>(entries: [(&str, u64); N]) -> BTreeMap<String, u64> {
    entries.map(|(name, value)| (name.to_owned(), value)).into()
}
