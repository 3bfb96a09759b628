//! A hand-over: in a group that elects, etcd names the successor first, while the primary goes on; then the worker gives the
//! region up, and the successor gets what it lacks of it, and is told.

use super::orders::{Answer, OrderError};
use super::primary::PrimaryGroup;
use crate::election::{Election, ElectionError};
use dataplane::time::NS_PER_MS;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

/// How long the successor may take to get everything, and then to hear that it is its turn.
const DRAIN_MAX_NS: u64 = 1_000 * NS_PER_MS;

/// A hand-over before anything is given up.
pub struct Asked {
    pub to: String,
    pub answer: Answer,
    since_ns: u64,
    /// Where the log was then.
    upto: u64,
    /// What etcd says, once it was asked.
    named: Option<oneshot::Receiver<Result<(), ElectionError>>>,
}

impl Asked {
    pub fn new(group: &PrimaryGroup, to: String, answer: Answer, now_ns: u64) -> Asked {
        Asked { to, answer, since_ns: now_ns, upto: group.tail(), named: None }
    }

    /// `Ok(true)` = the successor is named, so it is time to go. An error = this node is the primary still.
    pub fn step(
        &mut self,
        group: &mut PrimaryGroup,
        election: &Election,
        now_ns: u64,
    ) -> Result<bool, OrderError> {
        if let Some(named) = &mut self.named {
            return match named.try_recv() {
                Ok(Ok(())) => Ok(true),
                Ok(Err(error)) => Err(OrderError::NotNamed(self.to.clone(), error.to_string())),
                Err(TryRecvError::Empty) => Ok(false),
                Err(TryRecvError::Closed) => Err(OrderError::Stopping),
            };
        }
        // Whoever would not get what is there in time, since it hangs, is not even named.
        let peer = group.peer(&self.to).filter(|peer| peer.is_level());
        let is_late = now_ns.saturating_sub(self.since_ns) > DRAIN_MAX_NS;
        match peer {
            Some(peer) if peer.has_said(self.upto, self.since_ns) => {
                self.named = Some(election.hand_over(&self.to));
                Ok(false)
            }
            Some(_) if !is_late => Ok(false),
            _ => Err(OrderError::NotDrained(self.to.clone())),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Wait,
    /// The successor was told, and this node is the primary no longer.
    Done,
    /// It does not get everything: this node is the primary still.
    Back,
}

pub struct HandOver {
    pub group: PrimaryGroup,
    pub to: String,
    pub answer: Answer,
    since_ns: u64,
    is_told: bool,
    /// The successor is named in etcd: this node can't go on.
    is_named: bool,
}

impl HandOver {
    pub fn new(group: PrimaryGroup, to: String, answer: Answer, is_named: bool, now_ns: u64) -> HandOver {
        HandOver { group, to, answer, since_ns: now_ns, is_told: false, is_named }
    }

    /// `is_final` = nothing more is published in the group's region.
    pub fn step(&mut self, is_final: bool, now_ns: u64) -> Step {
        let term = self.group.term();
        let is_late = now_ns.saturating_sub(self.since_ns) > DRAIN_MAX_NS;
        // A successor that is named takes what it has, once this node has gone.
        let in_vain = if self.is_named { Step::Done } else { Step::Back };
        let Some(peer) = self.group.peer(&self.to) else { return in_vain };
        if self.is_told {
            // It ends its connection as the first thing that it does as the primary.
            return if !peer.is_connected() || is_late { Step::Done } else { Step::Wait };
        }
        if !is_final {
            return Step::Wait;
        }
        if peer.hand_over(term + 1) {
            (self.is_told, self.since_ns) = (true, now_ns);
        } else if is_late || !peer.is_connected() {
            return in_vain;
        }
        Step::Wait
    }
}
