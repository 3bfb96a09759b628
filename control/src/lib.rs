//! What the `tickplane` command is made of.

pub mod config;
pub mod decode;
pub mod exchange;
pub mod midnight;
pub mod row;
