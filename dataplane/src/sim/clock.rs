//! A clock that stands still until it is told to move.

use crate::time::Clock;
use std::cell::Cell;

/// Both clocks of a simulated machine; they advance together.
#[derive(Debug)]
pub struct SimClock {
    monotonic_ns: Cell<u64>,
    unix_offset_ns: u64,
}

impl SimClock {
    /// A clock at monotonic time 0, when the time of day is `unix_ns`.
    pub fn new(unix_ns: u64) -> SimClock {
        SimClock { monotonic_ns: Cell::new(0), unix_offset_ns: unix_ns }
    }

    pub fn advance(&self, duration_ns: u64) {
        self.monotonic_ns.set(self.monotonic_ns.get() + duration_ns);
    }

    /// Moves to a monotonic time that is not before the present one.
    pub fn set_monotonic_ns(&self, monotonic_ns: u64) {
        assert!(monotonic_ns >= self.monotonic_ns.get(), "time does not go back");
        self.monotonic_ns.set(monotonic_ns);
    }
}

impl Clock for SimClock {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.get()
    }

    fn unix_ns(&self) -> u64 {
        self.unix_offset_ns + self.monotonic_ns.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_advance_together() {
        let clock = SimClock::new(1_000);
        clock.advance(5);
        clock.set_monotonic_ns(7);
        assert_eq!((clock.monotonic_ns(), clock.unix_ns()), (7, 1_007));
    }
}
