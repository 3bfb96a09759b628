//! Why something was refused, and when to come back.

use super::limits::{Meter, Policy};
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, QuotaViolation, StatusExt};

/// The metadata key of the time to wait, in ms, rounded up.
pub const RETRY_AFTER_MS: &str = "retry-after-ms";

/// More than a client may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    pub client: String,
    pub meter: Meter,
    pub limit: u64,
    /// After that it would have been admitted, if the client asks for nothing else meanwhile; `None` = when it gives back what it
    /// holds.
    pub retry_after: Option<Duration>,
    pub policy: Policy,
}

impl Excess {
    /// RESOURCE_EXHAUSTED with google.rpc.RetryInfo and QuotaFailure, and the time to wait as metadata `retry-after-ms`.
    pub fn status(&self) -> Status {
        let Excess { client, meter, limit, .. } = self;
        let limit_name = meter.name();
        let more = format!("or ask an operator for more: `tickplane quota set {client}`");
        let message = match self.retry_after {
            Some(wait) => {
                format!(
                    "client {client:?}: {limit_name} = {limit} is used up: wait {} ms, {more}",
                    millis(wait)
                )
            }
            None => {
                format!("client {client:?}: {limit_name} = {limit} is all in use: end a subscription, {more}")
            }
        };
        let violation = QuotaViolation::new(format!("client:{client}"), format!("{limit_name} = {limit}"));
        let mut details = ErrorDetails::with_quota_failure(vec![violation]);
        let mut metadata = MetadataMap::new();
        if let Some(wait) = self.retry_after {
            details.set_retry_info(Some(wait));
            metadata.insert(RETRY_AFTER_MS, millis(wait).into());
        }
        Status::with_error_details_and_metadata(Code::ResourceExhausted, message, details, metadata)
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
