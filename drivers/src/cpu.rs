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

/// Ties the calling thread to one core.
pub fn pin_to_core(core: usize) -> Result<(), AffinityError> {
    let allowed = allowed_cores().map_err(AffinityError::Unknown)?;
    if !allowed.contains(&core) {
        return Err(AffinityError::NotAllowed { core, allowed });
    }
    // SAFETY: an all-zero `cpu_set_t` is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is in the set that the kernel gave, so it lies within `CPU_SETSIZE`.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` lives through the call and its true size is given; 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } != 0 {
        return Err(AffinityError::Refused { core, cause: io::Error::last_os_error() });
    }
    Ok(())
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
    fn an_absent_core_is_named_with_those_that_exist() {
        let message = pin_to_core(1_000_000).unwrap_err().to_string();
        assert!(message.contains("1000000") && message.contains("AllowedCPUs"), "{message}");
    }

    #[test]
    fn prefetch_changes_nothing() {
        let line = [7u64; 8];
        Cpu::prefetch(&line);
        assert_eq!(line, [7; 8]);
    }
}
