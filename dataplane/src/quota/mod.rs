//! Quotas: what may be taken a time (GCRA), and what was taken lately.

mod gcra;
mod usage;

pub use gcra::{Gcra, Limit, LimitError, NEVER_NS};
pub use usage::{History, Windows};
