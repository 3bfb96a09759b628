//! What a polling thread does when there is nothing to do.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Rounds without work before a thread idles.
const IDLE_ROUNDS: u32 = 64;
/// How long a thread sleeps that nothing wakes.
const NAP: Duration = Duration::from_micros(50);

/// How a thread idles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Polls on: the shortest latency, a whole core.
    Spin,
    /// Polls on, but lets others run first.
    Yield,
    /// Sleeps until something comes (kernel UDP), or for 50 µs.
    #[default]
    Park,
}

impl Idle {
    pub fn name(self) -> &'static str {
        match self {
            Idle::Spin => "spin",
            Idle::Yield => "yield",
            Idle::Park => "park",
        }
    }
}

/// Counts a thread's rounds without work.
#[derive(Debug)]
pub struct Idler {
    idle: Idle,
    idle_rounds: u32,
}

impl Idler {
    pub fn new(idle: Idle) -> Idler {
        Idler { idle, idle_rounds: 0 }
    }

    /// Ends a round in which so much was done.
    pub fn after(&mut self, work: usize) {
        self.after_or_park(work, nap);
    }

    /// The same for a thread that something can wake: `park` sleeps until then, but not for long.
    pub fn after_or_park(&mut self, work: usize, park: impl FnOnce()) {
        if work != 0 {
            self.idle_rounds = 0;
            return;
        }
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        match self.idle {
            _ if self.idle_rounds < IDLE_ROUNDS => std::hint::spin_loop(),
            Idle::Spin => std::hint::spin_loop(),
            Idle::Yield => std::thread::yield_now(),
            Idle::Park => park(),
        }
    }
}

/// Sleeps where nothing wakes.
pub fn nap() {
    std::thread::sleep(NAP);
}
