//! The outside world, behind the core's traits.
