//! Line arbitration, through its public interface.

mod directed;
mod exchange;
mod property;
mod session;
