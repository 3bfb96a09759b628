//! Who calls, and what they may.
//!
//! A call passes the layer ([`AccessLayer`]): who calls is found by token or certificate, whether that client's role is
//! enough for the method by a table, the call is charged to the quota that the client holds, and the services find the [`Caller`] in
//! the request's extensions.

mod certificate;
mod change;
mod clients;
mod guesses;
mod kept;
mod layer;
mod method;
mod standing;
mod token;
mod unread;

pub use change::{Change, ClientError};
pub use clients::{Client, Clients, ClientsError};
pub use kept::{asked, told};
pub use layer::{Access, AccessLayer, Refusals, address_of};
pub use method::is_method;
pub use standing::Standing;
pub use token::{Token, TokenHash};

use crate::quota::ClientQuota;
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

/// The client that makes a call, as it was then; in the extensions of its request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Arc<Client>,
    pub from: Option<SocketAddr>,
}

/// The name of whoever calls over loopback, where nobody has to say who they are.
pub const ANONYMOUS: &str = "anonymous";

impl Caller {
    /// An error is why the client can't call as the node is configured now.
    pub fn new(client: &Arc<Client>, from: Option<SocketAddr>) -> Result<Caller, &str> {
        match &client.entitlement {
            Ok(_) => Ok(Caller { client: client.clone(), from }),
            Err(cause) => Err(cause),
        }
    }

    pub fn name(&self) -> &str {
        self.client.name()
    }

    pub fn role(&self) -> Role {
        self.client.role()
    }

    pub fn entitlement(&self) -> &Entitlement {
        self.client.entitlement.as_ref().expect("who has none is no caller")
    }

    /// Whether it is still who it was when it called; what goes on for long looks at it.
    pub fn standing(&self) -> &Standing {
        &self.client.standing
    }

    /// What it may use, and uses.
    pub fn quota(&self) -> &Arc<ClientQuota> {
        &self.client.quota
    }

    /// INTERNAL: the call did not come through the layer.
    #[allow(clippy::result_large_err, reason = "a Status is what a service answers with")]
    pub fn of<T>(request: &Request<T>) -> Result<Caller, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        caller.ok_or_else(|| Status::internal("nobody has looked who calls"))
    }
}
