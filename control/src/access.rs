//! Who calls, and what they may.

use crate::selection::Selection;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Status};

/// What a client may do. Each may also do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
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

/// The client that makes a call; in the extensions of its request.
#[derive(Clone, Debug)]
pub struct Caller {
    pub name: String,
    pub role: Role,
    pub entitlement: Arc<Entitlement>,
    pub from: Option<SocketAddr>,
}

/// The name of whoever calls over loopback, where nobody has to say who they are.
pub const ANONYMOUS: &str = "anonymous";

impl Caller {
    pub fn of<T>(request: &Request<T>) -> Caller {
        request.extensions().get::<Caller>().cloned().unwrap_or_else(|| Caller {
            name: ANONYMOUS.to_owned(),
            role: Role::Admin,
            entitlement: Arc::new(Entitlement { rows: Selection::everything(), delay: Duration::ZERO }),
            from: request.remote_addr(),
        })
    }

    /// Refuses a symbol that is asked for by name and may not be seen; patterns stand for what may be seen of them.
    pub fn may_see(&self, wanted: &Selection) -> Result<(), Status> {
        let allowed = &self.entitlement.rows;
        let refused =
            wanted.symbols().unwrap_or_default().into_iter().find(|symbol| !allowed.has_symbol(symbol));
        match refused {
            None => Ok(()),
            Some(symbol) => Err(Status::permission_denied(format!(
                "{} may not see {}: it is not among what it is entitled to",
                self.name,
                String::from_utf8_lossy(symbol)
            ))),
        }
    }
}
