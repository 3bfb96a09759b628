//! The machine's clocks.

use dataplane::time::{Clock, NS_PER_S};

/// `CLOCK_MONOTONIC` and `CLOCK_REALTIME` by `clock_gettime`, which the vDSO answers without entering the
/// kernel (some 20 ns). The monotonic clock is the same in every process of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[inline]
    fn monotonic_ns(&self) -> u64 {
        now_ns(libc::CLOCK_MONOTONIC)
    }

    #[inline]
    fn unix_ns(&self) -> u64 {
        now_ns(libc::CLOCK_REALTIME)
    }
}

#[inline]
fn now_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for the write, and both clocks exist on every Linux, so the call cannot fail.
    let result = unsafe { libc::clock_gettime(clock, &mut now) };
    debug_assert_eq!(result, 0);
    now.tv_sec as u64 * NS_PER_S + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn monotonic_never_goes_back() {
        let mut before_ns = SystemClock.monotonic_ns();
        assert!(before_ns > 0);
        for _ in 0..10_000 {
            let now_ns = SystemClock.monotonic_ns();
            assert!(now_ns >= before_ns);
            before_ns = now_ns;
        }
    }

    #[test]
    fn unix_time_lies_between_two_readings_of_the_standard_library() {
        let std_ns = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let (before_ns, now_ns, after_ns) = (std_ns(), SystemClock.unix_ns(), std_ns());
        assert!(before_ns <= now_ns && now_ns <= after_ns, "{before_ns} {now_ns} {after_ns}");
    }
}
