//! Replication: a node's place in a group of nodes with the same cache. The thread `tickplane-replica` of each node does
//! it; a primary's worker does nothing for it, and that of a standby writes to a shadow of its own, ready to take over.

mod arrival;
mod hand_over;
mod link;
mod member;
mod orders;
mod peer;
mod primary;
mod standby;
mod term;

pub use member::{Lead, Member, OwnRegion};
pub use orders::{Order, OrderError, Orders, Waiting};
pub use term::{TermError, TermFile};

use crate::idle::{Idle, Idler};
use crate::proto::ClusterGetResponse;
use dataplane::histogram::Histogram;
use drivers::tcp_link::IdentityError;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// How often what the services show is brought up to date.
const VIEW_INTERVAL_NS: u64 = 10_000_000;
/// A connection on which nothing is heard for so long is given up: both ends speak more often than that.
const SILENCE_MAX_NS: u64 = 5_000_000_000;

#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error("[replica] {0}")]
    Term(#[from] TermError),
    #[error("[replica.tls] {0}")]
    Identity(#[from] IdentityError),
    #[error(
        "[replica] listen = \"{address}\": {cause}: is another process there? choose another port, or 0 for any"
    )]
    Bind { address: SocketAddr, cause: std::io::Error },
    #[error(
        "[replica.rdma] this program was built without RDMA: build it with --features rdma, which takes libibverbs-dev \
         and librdmacm-dev"
    )]
    NoRdma,
    #[cfg(feature = "rdma")]
    #[error("[replica.rdma] {0}")]
    Rdma(#[from] drivers::rdma::RdmaError),
    #[error("[replica] its thread: {0}")]
    Thread(std::io::Error),
}

/// Latencies of each peer, from readable here to acknowledged by it.
pub type PeerLatencies = Vec<(String, Arc<Histogram>)>;

/// What the replication's thread last said of itself; a node that is alone says nothing.
#[derive(Clone, Default)]
pub struct View(Arc<Mutex<(ClusterGetResponse, PeerLatencies)>>);

impl View {
    fn lock(&self) -> MutexGuard<'_, (ClusterGetResponse, PeerLatencies)> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn set(&self, seen: ClusterGetResponse, latencies: PeerLatencies) {
        *self.lock() = (seen, latencies);
    }

    pub fn get(&self) -> (ClusterGetResponse, PeerLatencies) {
        self.lock().clone()
    }
}

/// The socket for standbys.
pub fn bind(address: SocketAddr) -> Result<TcpListener, ReplicaError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|cause| ReplicaError::Bind { address, cause })
}

/// One node's side of the replication, in its thread.
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
