//! The cache: one mapping of cells that one writer fills and any number of readers follow without locks.
//!
//! The log is the truth, the table is derived: each accepted update is one [`tick::Tick`], appended to the
//! log at the next *position* and stored into the table's row of its (instrument, kind).

pub mod cell;
pub mod delayed;
mod directory;
pub mod follower;
pub mod lineage;
pub mod reader;
pub mod region;
pub mod tick;
pub mod writer;
