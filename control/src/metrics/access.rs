//! Calls that were not let through.

use super::family;
use crate::node::Node;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::fmt;

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, node: &Node) -> fmt::Result {
    let refusals = &node.access.refusals;
    let reasons = [
        ("unauthenticated", &refusals.unauthenticated),
        ("guesses", &refusals.guesses),
        ("denied", &refusals.denied),
        ("unread", &refusals.unread),
    ];
    let counts = reasons.map(|(reason, counter)| ([("reason", reason)], counter.get() as f64));
    let help = "Calls that were refused: nobody knows who called (guesses: and its source has tried too often), or it may not, or (unread) too many of its answers wait";
    family(encoder, "calls_refused", help, MetricType::Counter, counts)
}
