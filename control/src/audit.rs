//! Who changed what.

use crate::access::Caller;
use crate::proto::AuditRecord;

/// What is kept beside a change; `now` is what the object is from then on, in words, empty = it is gone.
pub fn record(caller: &Caller, at_ns: u64, action: &str, object: &str, now: String) -> AuditRecord {
    AuditRecord {
        at_ns,
        client: caller.name.clone(),
        from: caller.from.map(|from| from.to_string()).unwrap_or_default(),
        action: action.to_owned(),
        object: object.to_owned(),
        now,
    }
}
