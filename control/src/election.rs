//! The group's leadership: a lease in etcd. Whoever holds it may be the primary, until a time that it knows by its own clock.
//!
//! ```text
//!  tickplane/<group>/leader      the leader's node, address and term, a line each; held by its lease
//!  tickplane/<group>/term        the latest term that was given, which stays
//!  tickplane/<group>/successor   who is to lead next; held by what is left of the lease of who named it
//! ```
//!
//! A term is given by the one transaction in which a node becomes the leader: it counts the terms on, so there is never a
//! second leader of one. A lease counts from the time *before* it was asked for, so the leader's own deadline is never later
//! than etcd's; a node that was paused finds by its clock that its time is over.

#[cfg(feature = "etcd")]
mod campaign;

use crate::config::EtcdConfig;
#[cfg(feature = "etcd")]
use campaign::Campaign;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, watch};

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
    /// This node leads `term` until that time (`CLOCK_MONOTONIC`), which moves on while etcd answers. It must look at its
    /// clock: this is not taken back in time if the process is paused.
    Leader { term: u64, until_ns: u64 },
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

/// One node's part in the election, which goes on in a thread of its own until this is dropped.
pub struct Election {
    pub leadership: watch::Receiver<Leadership>,
    wishes: watch::Sender<Wishes>,
    resignations: mpsc::Sender<Option<String>>,
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
        let (resignations, resigned) = mpsc::channel(1);
        let campaign = Campaign::new(config, node, address, shown, wished, resigned);
        let thread = std::thread::Builder::new()
            .name("election".to_owned())
            .spawn(move || runtime.block_on(campaign.live()))
            .map_err(ElectionError::Thread)?;
        Ok((Election { leadership, wishes, resignations }, thread))
    }

    #[cfg(not(feature = "etcd"))]
    pub fn start(_: &EtcdConfig, _: &str, _: &str) -> Result<(Election, JoinHandle<()>), ElectionError> {
        Err(ElectionError::NotBuilt)
    }

    /// Says what this node is fit for now.
    pub fn wish(&self, wishes: Wishes) {
        self.wishes.send_if_modified(|known| std::mem::replace(known, wishes) != wishes);
    }

    /// Gives the leadership up at once; others let the successor go first, for a moment.
    pub fn resign(&self, successor: Option<String>) {
        // One that waits already is enough.
        let _ = self.resignations.try_send(successor);
    }
}
