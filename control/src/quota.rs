//! Quotas: what each client may use, what it uses, and what becomes of it when it asks for more.
//!
//! A client holds its [`ClientQuota`] from when it is made, so that whoever knows who calls has what the call is charged to in hand
//! ([`ClientQuota::charge_request`]). Subscriptions take their place by [`ClientQuota::open_subscription`], and what they send by
//! [`ClientQuota::charge_delivery`]. Other answers are [counted](Answers) until they are read, whether there are limits or not.
//! [`Quotas`] knows all clients by name.

mod answers;
mod client;
mod clients;
mod excess;
mod limits;

pub use answers::{Answers, WAITING_BYTES_MAX};
pub use client::{ClientQuota, HeldSubscription, Use};
pub use clients::{CLIENTS_MAX, NAME_BYTES_MAX, NoPlace, Quotas};
pub use excess::{Excess, RETRY_AFTER_MS};
pub use limits::{Limits, Meter, Policy, RoleLimits};
