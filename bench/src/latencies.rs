//! How long updates take from published to read, by their numbers.

use control::latency::Counts;
use dataplane::histogram::Histogram;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One thread publishes, and one reads.
#[derive(Default)]
pub struct Latencies {
    /// When (`CLOCK_MONOTONIC`) each update was published.
    published_ns: Vec<AtomicU64>,
    histogram: Histogram,
}

impl Latencies {
    /// Of the updates below a number; all others are passed over.
    pub fn of(updates: u64) -> Latencies {
        let published_ns = (0..updates).map(|_| AtomicU64::new(0)).collect();
        Latencies { published_ns, histogram: Histogram::default() }
    }

    /// To be called just before.
    pub fn published(&self, number: u64) {
        if let Some(published_ns) = self.published_ns.get(number as usize) {
            published_ns.store(SystemClock.monotonic_ns(), Ordering::Relaxed);
        }
    }

    pub fn read(&self, number: u64, now_ns: u64) {
        if let Some(published_ns) = self.published_ns.get(number as usize) {
            self.histogram.record_between(published_ns.load(Ordering::Relaxed), now_ns, 1);
        }
    }

    pub fn count(&self) -> u64 {
        Counts::from(&self.histogram).hdr().len()
    }

    /// Of the slowest but one in a hundred.
    pub fn p99_ns(&self) -> f64 {
        let all = Counts::from(&self.histogram).hdr();
        assert!(!all.is_empty(), "something was delivered");
        all.value_at_quantile(0.99) as f64
    }
}
