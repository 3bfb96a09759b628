//! Time comes in as an argument, so that a run can be repeated exactly.

/// The two clocks that the core reads. Stamps are taken once a burst, not once a message.
pub trait Clock {
    /// Nanoseconds of `CLOCK_MONOTONIC`, which every process of the machine shares: for timers, for
    /// `valid_until_ns` and for durations within the appliance.
    fn monotonic_ns(&self) -> u64;

    /// Nanoseconds of Unix UTC: to be compared with an exchange's stamps.
    fn unix_ns(&self) -> u64;
}

impl<C: Clock> Clock for &C {
    fn monotonic_ns(&self) -> u64 {
        (**self).monotonic_ns()
    }
    fn unix_ns(&self) -> u64 {
        (**self).unix_ns()
    }
}

pub const NS_PER_US: u64 = 1_000;
pub const NS_PER_MS: u64 = 1_000_000;
pub const NS_PER_S: u64 = 1_000_000_000;
pub const NS_PER_DAY: u64 = 86_400 * NS_PER_S;
