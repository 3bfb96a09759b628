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

/// What the kernel knows of how right its `CLOCK_REALTIME` is: what whoever keeps it (chronyd, ntpd, phc2sys) has told it, by
/// adjtimex(2). No clock is compared with another here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discipline {
    /// Somebody keeps the clock, and says that it is right (`STA_UNSYNC` is clear). The rest says nothing without that.
    pub is_synchronised: bool,
    /// What the kernel has still to correct, in ns. Where a daemon steers the clock's rate itself, as chronyd and phc2sys do, it is 0.
    pub offset_ns: i64,
    /// By how much the clock may be wrong at most, in ns: as the daemon told last, and grown by 500 ppm since.
    pub error_ns_max: u64,
}

/// Asks the kernel; anybody may, unless a seccomp filter forbids it.
pub fn discipline() -> std::io::Result<Discipline> {
    // SAFETY: `timex` is made of integers alone, for which zeroes are values.
    let mut kept: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `kept` is valid for reads and writes, and its `modes` are 0, so nothing is set.
    if unsafe { libc::adjtimex(&mut kept) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let unit_ns = if kept.status & libc::STA_NANO != 0 { 1 } else { 1_000 };
    Ok(Discipline {
        is_synchronised: kept.status & libc::STA_UNSYNC == 0,
        offset_ns: kept.offset * unit_ns,
        error_ns_max: kept.maxerror.max(0) as u64 * 1_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn a_clock_that_is_kept_is_off_by_no_more_than_the_kernel_bears() {
        match discipline() {
            // The kernel itself takes back that a clock is kept once it may be wrong by 16 s.
            Ok(kept) if kept.is_synchronised => assert!(kept.error_ns_max <= 17 * NS_PER_S, "{kept:?}"),
            Ok(_) => {}
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}"),
        }
    }

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
