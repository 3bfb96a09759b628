//! Hints to the processor. They change when memory arrives, never what is read, so the core can be run
//! without them; the real ones need `unsafe` (`_mm_prefetch`) and live in the drivers.

pub trait Prefetch {
    /// Asks for the cache line at `target` ahead of its use.
    fn prefetch<T>(target: &T);
}

/// Asks for nothing: where the time does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPrefetch;

impl Prefetch for NoPrefetch {
    #[inline(always)]
    fn prefetch<T>(_target: &T) {}
}
