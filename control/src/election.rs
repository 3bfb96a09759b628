//! The group's leadership: a lease in etcd. Whoever holds it may be the primary, until a time that it knows by its own clock.
//!
//! ```text
//!  tickplane/<group>/leader           the leader's node, address and term, a line each; held by its lease
//!  tickplane/<group>/term             the latest term that was given, which stays
//!  tickplane/<group>/standing/<node>  a node that can be made the leader: its address; held by its lease
//!  tickplane/<group>/leaving          the leader before, which has not gone yet; held by its lease
//! ```
//!
//! A term is given by the one transaction in which a node becomes the leader: it counts the terms on, so there is never a
//! second leader of one. A lease counts from the time *before* it was asked for, so the leader's own deadline is never later
//! than etcd's; a node that was paused finds by its clock that its time is over.
//!
//! A leader names its successor before it goes: one transaction puts the leader's key under the successor's lease, which that one
//! has had all the time, and `leaving` under its own. Until it says so to the successor itself, or `leaving` is gone, it is the
//! primary of its own term still, and nobody else can lead. So nobody waits for etcd between the two.

#[cfg(feature = "etcd")]
mod campaign;
#[cfg(feature = "etcd")]
pub(crate) mod etcd;
#[cfg(feature = "etcd")]
mod store;

use crate::config::EtcdConfig;
#[cfg(feature = "etcd")]
use campaign::Campaign;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};

/// A hand-over, of which there is one at most, and a resignation, can wait at once.
#[cfg(feature = "etcd")]
const REQUESTS_MAX: usize = 2;

/// Another node that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub node: String,
    /// Where it listens for standbys, `HOST:PORT`.
    pub address: String,
    pub term: u64,
}

/// What is known of the leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// etcd can't be asked.
    Unknown { why: String },
    /// This node does not lead; `None` = nobody does at the moment.
    Follower { leader: Option<Leader> },
    /// This node is to lead `term` until that time, but only once its predecessor has said that it has gone.
    Successor { term: u64, until_ns: u64 },
    /// This node leads `term` until that time (`CLOCK_MONOTONIC`), which moves on while etcd answers. It must look at its
    /// clock: this is not taken back in time if the process is paused.
    Leader { term: u64, until_ns: u64 },
}

impl Leadership {
    /// Of a node whose lease holds the leader's key; `waits` = its predecessor has not gone yet.
    #[cfg(feature = "etcd")]
    fn of(term: u64, until_ns: u64, waits: bool) -> Leadership {
        if waits { Leadership::Successor { term, until_ns } } else { Leadership::Leader { term, until_ns } }
    }

    /// The term that is this node's to lead, at once or as the successor.
    pub fn term_at(&self, now_ns: u64) -> Option<u64> {
        match *self {
            Leadership::Leader { term, until_ns } | Leadership::Successor { term, until_ns } => {
                (now_ns < until_ns).then_some(term)
            }
            _ => None,
        }
    }
}

/// Whether a node would lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Candidacy {
    /// It lacks something.
    #[default]
    No,
    /// It has nothing at all, or knows less of the feeds than the group: it leads only where nobody ever did, or if nobody
    /// else does for a while.
    Last,
    Yes,
}

/// What a node says of itself to its election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub candidacy: Candidacy,
    /// The latest term that it has heard of: it leads only later ones.
    pub heard: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    #[error("etcd at {endpoints}: {cause}: is it running there? see [replica.etcd] endpoints")]
    Etcd { endpoints: String, cause: String },
    #[error("etcd at {endpoints} does not answer: is it running there? see [replica.etcd] endpoints")]
    Silent { endpoints: String },
    #[error(
        "the key {key} in etcd holds {value:?}, which is none of Tickplane's: choose another [replica.etcd] group"
    )]
    Foreign { key: String, value: String },
    #[error("the lease ran out")]
    Expired,
    #[error("the lease or the leader's key was taken out of etcd: it stands again")]
    Taken,
    #[error(
        "{node} has no lease in etcd by which it could lead, or this node leads no more: does {node} reach etcd?"
    )]
    NotStanding { node: String },
    #[error("this node does not lead")]
    NotLeading,
    #[error(
        "no term is left after 2^64 - 1, which etcd or another node told: choose another [replica.etcd] group, and new \
         [replica] state folders"
    )]
    TermsAreOut,
    #[error(
        "[replica] role = \"elected\": this program was built without etcd: build it with --features etcd, which takes \
         protobuf-compiler"
    )]
    NotBuilt,
    #[error("[replica.etcd] its thread: {0}")]
    Thread(std::io::Error),
}

/// What a node asks of its election.
#[cfg_attr(not(feature = "etcd"), allow(dead_code, reason = "nobody takes it"))]
enum Request {
    /// Give the leadership up at once.
    Resign,
    /// Name the next leader.
    HandOver { to: String, answer: oneshot::Sender<Result<(), ElectionError>> },
}

#[cfg(feature = "etcd")]
impl Request {
    /// Asked of a node that does not lead.
    fn refuse(self) {
        if let Request::HandOver { answer, .. } = self {
            let _ = answer.send(Err(ElectionError::NotLeading));
        }
    }
}

/// One node's part in the election, which goes on in a thread of its own until this is dropped.
pub struct Election {
    pub leadership: watch::Receiver<Leadership>,
    wishes: watch::Sender<Wishes>,
    requests: mpsc::Sender<Request>,
}

impl Election {
    /// `address` is where others reach this node when it leads.
    #[cfg(feature = "etcd")]
    pub fn start(
        config: &EtcdConfig,
        node: &str,
        address: &str,
    ) -> Result<(Election, JoinHandle<()>), ElectionError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ElectionError::Thread)?;
        let unknown = Leadership::Unknown { why: "etcd was not asked yet".to_owned() };
        let (shown, leadership) = watch::channel(unknown);
        let (wishes, wished) = watch::channel(Wishes::default());
        let (requests, requested) = mpsc::channel(REQUESTS_MAX);
        let campaign = Campaign::new(config, node, address, shown, wished, requested);
        let thread = std::thread::Builder::new()
            .name("election".to_owned())
            .spawn(move || runtime.block_on(campaign.live()))
            .map_err(ElectionError::Thread)?;
        Ok((Election { leadership, wishes, requests }, thread))
    }

    #[cfg(not(feature = "etcd"))]
    pub fn start(_: &EtcdConfig, _: &str, _: &str) -> Result<(Election, JoinHandle<()>), ElectionError> {
        Err(ElectionError::NotBuilt)
    }

    /// Says what this node is fit for now.
    pub fn wish(&self, wishes: Wishes) {
        self.wishes.send_if_modified(|known| std::mem::replace(known, wishes) != wishes);
    }

    /// Gives the leadership up at once.
    pub fn resign(&self) {
        // One that waits already is enough.
        let _ = self.requests.try_send(Request::Resign);
    }

    /// Makes another node the leader of the next term. `Ok` = it is, but waits for this one, whose lease is renewed no more: it
    /// has as long as that lasts to go, and then [resigns](Election::resign). After an error this node leads on, as
    /// `leadership` says.
    pub fn hand_over(&self, to: &str) -> oneshot::Receiver<Result<(), ElectionError>> {
        let (answer, answered) = oneshot::channel();
        let _ = self.requests.try_send(Request::HandOver { to: to.to_owned(), answer });
        answered
    }
}
