//! What a call takes of its client's quota.

use super::Quotas;
use crate::access::Caller;
use crate::trace::Findings;
use tonic::Status;
use tonic::codegen::http::Request;

/// What is charged: all but health and reflection, which belong to whoever looks after the node.
const CHARGED: &str = "/tickplane.";

/// Charges a call to who makes it; an error is what a call too many is answered with.
pub fn charge<B>(
    quotas: &Quotas,
    request: &Request<B>,
    caller: &Caller,
    now_ns: u64,
) -> Result<(), Box<Status>> {
    if !request.uri().path().starts_with(CHARGED) {
        return Ok(());
    }
    let charged = quotas.of(&caller.name, caller.role, now_ns).charge_request(now_ns);
    charged.map_err(|excess| Box::new(excess.status()))?;
    if let Some(findings) = request.extensions().get::<Findings>() {
        findings.charged();
    }
    Ok(())
}
