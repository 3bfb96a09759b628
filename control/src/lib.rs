//! What the `tickplane` command is made of.

pub mod exchange;
