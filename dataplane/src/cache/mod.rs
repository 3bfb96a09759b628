//! The cache: one mapping of cells that one writer fills and any number of readers follow without locks.

pub mod tick;
