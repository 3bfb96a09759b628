//! What an operator asks of a node's place in its group. The services pass it on to the replication's thread, which alone
//! may change it.

use crate::config::PeerConfig;
use tokio::sync::{mpsc, oneshot};

/// Orders that wait for their turn.
const WAITING_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Become the primary; `force` = even if the primary answers.
    Promote {
        force: bool,
    },
    /// Give the primary's place to that peer.
    HandOver {
        to: String,
    },
    AddPeer(PeerConfig),
    RemovePeer {
        name: String,
    },
}

/// Why an order was not carried out. The node is what it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("this node is not part of a group: give it [replica] in its configuration")]
    Alone,
    #[error("this node is the primary already, of term {0}")]
    IsPrimary(u64),
    #[error("this node is not the primary: ask the primary, which `tickplane cluster` names")]
    NotPrimary,
    #[error("this node is a copy, without `listen` in [replica]: it can't become the primary")]
    Copy,
    #[error("the group elects its primary in etcd: use `tickplane handover` on the primary")]
    Elected,
    #[error("the primary {0} answers: hand over instead, or use force if it must be put aside")]
    PrimaryAnswers(String),
    #[error("this node lacks rows still, so it can't become the primary: wait until it is level")]
    NotLevel,
    #[error("there is no peer `{0}`: `tickplane cluster` lists them")]
    NoSuchPeer(String),
    #[error("peer `{0}` is not connected, or not level: see `tickplane cluster`")]
    PeerNotReady(String),
    #[error("peer `{0}` is a copy: it has no address, so nobody could follow it")]
    PeerIsCopy(String),
    #[error("another hand-over is under way")]
    Busy,
    #[error("`{0}` did not get all updates in time: this node is still the primary")]
    NotDrained(String),
    #[error("`{0}` could not be named in etcd: {1}; this node is still the primary")]
    NotNamed(String, String),
    #[error("`{0}` was handed the primary's place, and did not take it in time: see `tickplane cluster`")]
    NotTaken(String),
    #[error("[replica] peers: {0}")]
    Peers(String),
    #[error("the term could not be written down: {0}")]
    Term(String),
    #[error("the node is about to stop")]
    Stopping,
}

pub type Answer = oneshot::Sender<Result<u64, OrderError>>;

/// Where orders are given. The default one is that of a node that is alone.
#[derive(Clone, Debug, Default)]
pub struct Orders(Option<mpsc::Sender<(Order, Answer)>>);

/// Where they come out.
pub type Waiting = mpsc::Receiver<(Order, Answer)>;

impl Orders {
    pub fn new() -> (Orders, Waiting) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        (Orders(Some(sender)), waiting)
    }

    /// Has an order carried out; `Ok` = the term of the group then, as far as this node knows.
    pub async fn give(&self, order: Order) -> Result<u64, OrderError> {
        let Some(orders) = &self.0 else { return Err(OrderError::Alone) };
        let (answer, answered) = oneshot::channel();
        orders.send((order, answer)).await.map_err(|_| OrderError::Stopping)?;
        answered.await.map_err(|_| OrderError::Stopping)?
    }
}
