//! Delivery: from the log to those who subscribed.
//!
//! ```text
//!  log ──► Chunk: each update encoded, once ──► Subscription ──► Response: head, and pieces of chunks ──► connection
//!  table ─────────────────────────────────────► (images, and rows that are conflated)
//! ```
//!
//! A [`Chunk`] is a run of the log as fields of a `SubscribeResponse`: a message's repeated field may come in any number of
//! pieces, so what a subscription wants of it is a concatenation of slices, and all of it if it wants everything. The first who
//! needs a run encodes it, and [`Chunks`] keeps the last ones for all others. A [`Subscription`] is one client's place in the
//! log and what it is owed; it does nothing by itself: [`run`] asks it for the next response when there is room for one.

mod bits;
mod chunk;
mod chunks;
mod counters;
mod pass;
mod place;
mod plan;
mod response;
mod run;
mod subscription;
mod summary;
mod table;

pub use chunk::Chunk;
pub use chunks::Chunks;
pub use counters::Delivery;
pub use plan::{Plan, PlanError};
pub use response::Response;
pub use run::{Plans, Responses, fixed, open};
pub use subscription::{Client, Step, Subscription};
pub use summary::Summaries;
