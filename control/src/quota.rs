//! Quotas: what each client may use, what it uses, and what becomes of it when it asks for more.
//!
//! Each call is charged by [`charge`], which finds its client's [`ClientQuota`] by name. Subscriptions take their
//! place by [`ClientQuota::open_subscription`], and what they send by [`ClientQuota::charge_delivery`]. Other answers are [counted](Answers) until
//! they are read, whether there are limits or not.

mod answers;
mod charge;
mod client;
mod clients;
mod excess;
mod limits;

pub use answers::{Answers, WAITING_BYTES_MAX};
pub use charge::charge;
pub use client::{ClientQuota, HeldSubscription, Use};
pub use clients::{CLIENTS_MAX, NAME_BYTES_MAX, NoPlace, Quotas};
pub use excess::{Excess, RETRY_AFTER_MS};
pub use limits::{Limits, Meter, Policy, RoleLimits};
