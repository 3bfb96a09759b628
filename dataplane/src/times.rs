//! Times by which a worker judges what it sees, and that may change while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Of one feed; see [`ArbiterConfig`](crate::feed::ArbiterConfig).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedTimes {
    pub gap_timeout_ns: u64,
    pub silence_ns: u64,
}

/// Of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerTimes {
    /// For how long the region may be believed after each round.
    pub valid_for_ns: u64,
    /// In the order of the worker's feeds.
    pub feeds: Vec<FeedTimes>,
}

/// Those that are to hold, set by whoever changes the configuration. The worker sees by one number whether there are others.
#[derive(Debug, Default)]
pub struct Times {
    changes: AtomicU64,
    latest: Mutex<WorkerTimes>,
}

impl Times {
    /// They hold from the worker's next round on.
    pub fn set(&self, times: WorkerTimes) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = times;
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Whether they were set since `seen`.
    #[inline(always)]
    pub(crate) fn have_changed(&self, seen: u64) -> bool {
        self.changes.load(Ordering::Relaxed) != seen
    }

    /// Hands over the latest, and returns what has been seen with them. Does not wait: while somebody sets them, nothing changes.
    #[cold]
    pub(crate) fn take(&self, seen: u64, take: impl FnOnce(&WorkerTimes)) -> u64 {
        let Ok(latest) = self.latest.try_lock() else { return seen };
        take(&latest);
        self.changes.load(Ordering::Acquire)
    }
}
