//! A steady flow of changes through a node: how long each takes from published to read, once all have their pace.

use crate::latencies::Latencies;
use crate::node::Node;
use crate::subscriber::Subscriber;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two bursts of changes.
pub const PERIOD: Duration = Duration::from_millis(1);
/// Nobody is behind by then, and those that were opened first have their pace.
pub const SETTLED: Duration = Duration::from_secs(2);
pub const MEASURED: Duration = Duration::from_secs(5);

pub struct Steady {
    changes_per_s: u64,
    /// Of the changes behind the first ones, which settle.
    pub latencies: Arc<Latencies>,
}

impl Steady {
    pub fn new(changes_per_s: u64) -> Steady {
        let latencies = Arc::new(Latencies::of(changes_per_s * MEASURED.as_secs()));
        Steady { changes_per_s, latencies }
    }

    /// The changes that are timed.
    pub fn measured(&self) -> u64 {
        self.changes_per_s * MEASURED.as_secs()
    }

    /// Publishes them all, to so many instruments in turn; returns when that began.
    pub fn publish(&self, node: &mut Node, instruments: u32) -> Instant {
        let (settled, measured) = (self.changes_per_s * SETTLED.as_secs(), self.measured());
        let burst = self.changes_per_s * PERIOD.as_millis() as u64 / 1_000;
        let started = Instant::now();
        for change in 0..settled + measured {
            if change % burst == 0 {
                node.commit();
                let due = Duration::from_nanos(change * 1_000_000_000 / self.changes_per_s);
                std::thread::sleep(due.saturating_sub(started.elapsed()));
            }
            // The first ones have numbers that are not timed.
            let number = if change < settled { measured + change } else { change - settled };
            self.latencies.published(number);
            node.publish((change % u64::from(instruments)) as u32, number);
        }
        node.commit();
        started
    }
}

/// Reads for as long as it is let.
pub async fn read(mut subscriber: impl Subscriber, latencies: Arc<Latencies>) {
    let mut numbers = Vec::new();
    loop {
        numbers.clear();
        subscriber.next(&mut numbers).await;
        let now_ns = SystemClock.monotonic_ns();
        numbers.iter().for_each(|number| latencies.read(*number, now_ns));
    }
}
