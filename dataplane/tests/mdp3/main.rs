//! MDP 3.0 through arbiter, books and cache: a simulated channel, that knows its own books, is the oracle.

mod directed;
mod property;
mod receiver;
