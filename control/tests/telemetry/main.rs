//! What a node says of how it does, as a process.

mod objectives;
#[path = "../process/mod.rs"]
mod process;
mod rig;
mod stalls;
mod times;
