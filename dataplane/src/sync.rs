//! The atomics that the cache is made of; under `--cfg loom` they are loom's, and the model checker sees
//! every order in which the cache's loads and stores may happen.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use loom::hint::spin_loop;
#[cfg(not(loom))]
pub use std::hint::spin_loop;

/// An acquiring load for memory that may be mapped read-only: Rust allows no more than a relaxed load there ("Atomic
/// accesses to read-only memory" in `std::sync::atomic`), and the fence behind it does the rest.
#[inline(always)]
pub fn load_acquire(atomic: &AtomicU64) -> u64 {
    let value = atomic.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}
