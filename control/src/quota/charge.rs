//! The layer around all services that charges each call to its client.

use super::client::ClientQuota;
use crate::access::Caller;
use crate::node::Node;
use crate::trace::Findings;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use tonic::Status;

/// What is charged: all but health and reflection, which belong to whoever looks after the node.
const CHARGED: &str = "/tickplane.";

/// Charges the call to its client, and puts the client's quota into the request's extensions; a call too many is answered here. The
/// layer that says who calls must be around this one.
pub async fn charge(State(node): State<Arc<Node>>, mut request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with(CHARGED) {
        return next.run(request).await;
    }
    let now_ns = node.now_ns();
    let Some(caller) = request.extensions().get::<Caller>() else {
        return Status::internal("nobody has looked who calls").into_http();
    };
    let quota: &Arc<ClientQuota> = node.quotas.of(&caller.name, caller.role, now_ns);
    match quota.charge_request(now_ns) {
        Ok(()) => {
            if let Some(findings) = request.extensions().get::<Findings>() {
                findings.charged();
            }
            let quota = quota.clone();
            request.extensions_mut().insert(quota);
            next.run(request).await
        }
        Err(excess) => excess.status().into_http(),
    }
}
