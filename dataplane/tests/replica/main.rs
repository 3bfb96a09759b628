//! Replication: a group of nodes over a network that delays, breaks and cuts, with nodes that die, pause and come back.
//!
//! `TICKPLANE_SEEDS` = how many (20), `TICKPLANE_SEED` = the first one, which a failure prints.

mod cluster;
mod directed;
mod history;
mod network;
mod seeds;
