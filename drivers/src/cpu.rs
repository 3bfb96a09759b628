//! The processor: prefetching, and tying a thread to a core.

use dataplane::hint::Prefetch;
use std::io;

/// Prefetching by the processor's own instruction, into every level of its cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Prefetch for Cpu {
    #[inline(always)]
    fn prefetch<T>(target: &T) {
        let address = std::ptr::from_ref(target).cast::<i8>();
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch is a hint: it reads nothing the program could see and faults at no address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(address);
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above; the instruction touches neither registers, flags nor the stack.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags));
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = address;
    }
}

/// Why a thread could not be tied to a core.
#[derive(Debug, thiserror::Error)]
pub enum AffinityError {
    #[error(
        "core {core} is not among the cores that this process may use ({allowed:?}): choose one of these, \
             or widen the process's cpuset (systemd: AllowedCPUs=, containers: --cpuset-cpus)"
    )]
    NotAllowed { core: usize, allowed: Vec<usize> },
    #[error("the kernel refused to tie the thread to core {core}: {cause}")]
    Refused { core: usize, cause: io::Error },
    #[error("the kernel did not tell which cores this process may use: {0}")]
    Unknown(io::Error),
}

/// Ties the calling thread to one core, be it among those that the thread has now or not: with `isolcpus` every process
/// begins without the isolated cores, and takes them by name. Only a cpuset keeps it from that.
pub fn pin_to_core(core: usize) -> Result<(), AffinityError> {
    let not_allowed = || {
        allowed_cores()
            .map_or_else(AffinityError::Unknown, |allowed| AffinityError::NotAllowed { core, allowed })
    };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(not_allowed());
    }
    // SAFETY: an all-zero `cpu_set_t` is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is below `CPU_SETSIZE`.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` lives through the call and its true size is given; 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // None of the set exists, or the cpuset holds none of it.
        cause if cause.raw_os_error() == Some(libc::EINVAL) => Err(not_allowed()),
        cause => Err(AffinityError::Refused { core, cause }),
    }
}

/// The cores that the calling thread may run on, ascending.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for the write of its own size.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let cores = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: `core` is below `CPU_SETSIZE`.
    Ok(cores.filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_its_core_alone() {
        let core = *allowed_cores().unwrap().last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_to_core(core).unwrap();
            allowed_cores().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [core]);
    }

    #[test]
    fn a_core_that_the_thread_does_not_have_yet_can_be_taken() {
        let cores = allowed_cores().unwrap();
        let (first, last) = (cores[0], *cores.last().unwrap());
        let pinned = std::thread::spawn(move || {
            pin_to_core(first).unwrap();
            pin_to_core(last).unwrap();
            allowed_cores().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
    }

    #[test]
    fn an_absent_core_is_named_with_those_that_exist() {
        for core in [1_000, 1_000_000] {
            let message = pin_to_core(core).unwrap_err().to_string();
            assert!(message.contains(&core.to_string()) && message.contains("AllowedCPUs"), "{message}");
        }
    }

    #[test]
    fn prefetch_changes_nothing() {
        let line = [7u64; 8];
        Cpu::prefetch(&line);
        assert_eq!(line, [7; 8]);
    }
}
