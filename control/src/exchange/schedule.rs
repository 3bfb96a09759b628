//! When messages are due, at an even rate.

use dataplane::time::{NS_PER_MS, NS_PER_S};

/// What may be made up for after a pause; what is older is dropped, as a burst would only overrun receivers.
const CREDIT_NS_MAX: u64 = 20 * NS_PER_MS;

/// A rate and how much of it has been used.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Messages a second; 0 = as many as go.
    rate: u64,
    /// Since then `used` messages were sent.
    start_ns: u64,
    used: u64,
}

impl Schedule {
    /// The first message is due at `now_ns`.
    pub fn new(rate: u64, now_ns: u64) -> Schedule {
        Schedule { rate, start_ns: now_ns, used: 0 }
    }

    /// How many messages may be sent now.
    pub fn due(&mut self, now_ns: u64) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        let late_ns = now_ns.saturating_sub(self.next_due_ns());
        if late_ns > CREDIT_NS_MAX {
            self.start_ns += late_ns - CREDIT_NS_MAX;
        }
        let elapsed_ns = u128::from(now_ns.saturating_sub(self.start_ns));
        let allowed = elapsed_ns * u128::from(self.rate) / u128::from(NS_PER_S) + 1;
        u64::try_from(allowed).unwrap_or(u64::MAX).saturating_sub(self.used)
    }

    pub fn use_up(&mut self, messages: u64) {
        self.used += messages;
    }

    /// When the next message is due.
    pub fn next_due_ns(&self) -> u64 {
        if self.rate == 0 {
            return self.start_ns;
        }
        let after_ns = (u128::from(self.used) * u128::from(NS_PER_S)).div_ceil(u128::from(self.rate));
        self.start_ns.saturating_add(u64::try_from(after_ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_one_by_one() {
        let mut schedule = Schedule::new(1, 100);
        assert_eq!(schedule.due(100), 1);
        schedule.use_up(1);
        assert_eq!(schedule.due(100 + NS_PER_S - 1), 0);
        assert_eq!(schedule.next_due_ns(), 100 + NS_PER_S);
        assert_eq!(schedule.due(schedule.next_due_ns()), 1);
    }

    #[test]
    fn a_rate_that_divides_unevenly_is_kept() {
        let mut schedule = Schedule::new(3_000_007, 0);
        let mut now_ns = 0;
        while now_ns < NS_PER_S {
            let due = schedule.due(now_ns);
            assert!(due >= 1, "something is due when it was said to be");
            schedule.use_up(due);
            now_ns = schedule.next_due_ns().max(now_ns + 50_000);
        }
        assert!((2_999_000..=3_000_008).contains(&schedule.used), "{}", schedule.used);
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let mut schedule = Schedule::new(1_000, 0);
        assert_eq!(schedule.due(10 * NS_PER_S), 21);
        schedule.use_up(21);
        assert_eq!(schedule.due(10 * NS_PER_S), 0);
        assert_eq!(schedule.due(10 * NS_PER_S + NS_PER_MS), 1);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut schedule = Schedule::new(0, 5);
        schedule.use_up(1 << 40);
        assert_eq!((schedule.due(5), schedule.next_due_ns()), (u64::MAX, 5));
    }
}
