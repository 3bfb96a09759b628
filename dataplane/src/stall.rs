//! Stalls: rounds of the worker's loop that took too long.

use crate::counters::Counter;
use crate::time::NS_PER_MS;
use std::collections::VecDeque;
use std::sync::{Mutex, TryLockError};

/// Stalls that are kept: the last.
pub const STALLS_KEPT: usize = 16;
/// How long a round may take unless somebody says otherwise.
pub const LIMIT_NS_DEFAULT: u64 = NS_PER_MS;

/// A round that took longer than the worker allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When it was noticed, at its end: Unix UTC.
    pub ended_ns: u64,
    pub duration_ns: u64,
    /// Frames that the round found. None = it was not work that took so long: the thread was kept from running, or the worker
    /// took a region over.
    pub frames: u64,
    /// Messages that were delivered to feeds in it.
    pub messages: u64,
    /// The index of the port that had the most of the frames.
    pub port: Option<u16>,
    /// The index of the feed that had the most of the messages.
    pub feed: Option<u16>,
}

/// Counted by the worker's thread, read by anyone.
#[derive(Debug)]
pub struct Stalls {
    /// A round that takes longer is a stall. One thread at a time sets it, whichever; the next round is judged by it.
    pub limit_ns: Counter,
    pub count: Counter,
    /// How long they were together.
    pub total_ns: Counter,
    /// Oldest first. The worker does not wait for who reads it: a stall that comes meanwhile is counted only.
    last: Mutex<VecDeque<Stall>>,
}

impl Default for Stalls {
    fn default() -> Self {
        let last = Mutex::new(VecDeque::with_capacity(STALLS_KEPT));
        let limit_ns = Counter::default();
        limit_ns.set(LIMIT_NS_DEFAULT);
        Stalls { limit_ns, count: Counter::default(), total_ns: Counter::default(), last }
    }
}

impl Stalls {
    #[cold]
    pub fn note(&self, stall: Stall) {
        self.count.add(1);
        self.total_ns.add(stall.duration_ns);
        let mut last = match self.last.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if last.len() == STALLS_KEPT {
            last.pop_front();
        }
        last.push_back(stall);
    }

    /// The last of them, oldest first.
    pub fn last(&self) -> Vec<Stall> {
        let last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        last.iter().copied().collect()
    }
}
