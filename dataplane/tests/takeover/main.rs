//! A hot standby takes over: nodes that hear the same feeds by lines of their own, one of which is the primary, and a copy of
//! whose region the others hold. Primaries die, also within one message's ticks, or hand over.
//!
//! `TICKPLANE_SEEDS` = how many (500), `TICKPLANE_SEED` = the first one, which a failure prints.

#[path = "../capture/mod.rs"]
mod capture;
mod captures;
mod directed;
mod group;
mod history;
mod node;
#[path = "../oracle/mod.rs"]
mod oracle;
mod seeds;
mod source;
mod truth;
