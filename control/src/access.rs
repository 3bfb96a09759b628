//! Who calls, and what they may.
//!
//! A call passes the layer ([`AccessLayer`]): who calls is found by token or certificate, whether that client's role is
//! enough for the method by a table, and the services find the [`Caller`] in the request's extensions.

mod certificate;
mod change;
mod clients;
mod guesses;
mod kept;
mod layer;
mod method;
mod standing;
mod token;

pub use change::{Change, ClientError};
pub use clients::{Client, Clients, ClientsError};
pub use kept::{asked, told};
pub use layer::{Access, AccessLayer, Refusals};
pub use standing::{FinalAnswer, Standing};
pub use token::{Token, TokenHash};

use crate::selection::Selection;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Status};

/// What a client may do. Each may also do what those before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[default]
    /// Read market data within its entitlement, and its own subscriptions, quota and latencies.
    Reader,
    /// See and change what clients have: subscriptions, quotas.
    Operator,
    /// Change who the clients are, the configuration, and the group.
    Admin,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

/// What market data a client may see, and how late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    pub rows: Selection,
    /// Zero = in real time.
    pub delay: Duration,
}

impl Entitlement {
    /// Everything, in real time.
    pub fn everything() -> Entitlement {
        Entitlement { rows: Selection::everything(), delay: Duration::ZERO }
    }
}

/// The client that makes a call; in the extensions of its request.
#[derive(Clone, Debug)]
pub struct Caller {
    pub name: String,
    pub role: Role,
    pub entitlement: Arc<Entitlement>,
    pub from: Option<SocketAddr>,
    /// Whether it is still who it was when it called; what goes on for long looks at it.
    pub standing: Standing,
}

/// The name of whoever calls over loopback, where nobody has to say who they are.
pub const ANONYMOUS: &str = "anonymous";

impl Caller {
    /// INTERNAL: the call did not come through the layer.
    #[allow(clippy::result_large_err, reason = "a Status is what a service answers with")]
    pub fn of<T>(request: &Request<T>) -> Result<Caller, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        caller.ok_or_else(|| Status::internal("nobody has looked who calls"))
    }
}
