//! Quotas on the page: the busiest clients one by one, all others summed up by role.

use super::family;
use crate::access::Role;
use crate::node::Node;
use crate::quota::{Meter, Use};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::fmt;

/// Clients that have lines of their own: those with the most requests and updates in the last minute.
const BUSIEST: usize = 20;
const ROLES: [Role; 3] = [Role::Reader, Role::Operator, Role::Admin];

type Count = fn(&Use) -> u64;
const IN_MINUTE: [(&str, Count); 3] = [
    ("requests", |client| client.requests.minute),
    ("updates", |client| client.updates.minute),
    ("bytes", |client| client.bytes.minute),
];

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, node: &Node) -> fmt::Result {
    let mut clients = node.quotas.usage(node.now_ns());
    clients.sort_by_key(|client| std::cmp::Reverse(client.requests.minute + client.updates.minute));
    let (busiest, others) = clients.split_at(clients.len().min(BUSIEST));
    let shares = busiest.iter().flat_map(|client| {
        let shares = Meter::ALL.into_iter().filter_map(|meter| Some((meter, client.share(meter)?)));
        shares.map(|(meter, share)| ([("client", client.name.as_str()), ("limit", meter.name())], share))
    });
    let help = "How much of a limit a client uses, 1 = all of it; of the busiest clients";
    family(encoder, "quota_used_ratio", help, MetricType::Gauge, shares)?;
    let refusals = busiest.iter().flat_map(|client| {
        let labels = move |meter: Meter| [("client", client.name.as_str()), ("limit", meter.name())];
        Meter::ALL.map(|meter| (labels(meter), client.refusals[meter as usize] as f64))
    });
    let help = "What was refused to a client, by limit; of the busiest clients";
    family(encoder, "quota_client_refusals", help, MetricType::Counter, refusals)?;
    // Of all of them, since a sum of the others would fall whenever one of them becomes one of the busiest.
    let refusals = ROLES.iter().flat_map(|role| {
        let of_role = || clients.iter().filter(move |client| client.role == *role);
        Meter::ALL.map(|meter| {
            let sum: u64 = of_role().map(|client| client.refusals[meter as usize]).sum();
            ([("role", role.name()), ("limit", meter.name())], sum as f64)
        })
    });
    let help = "What was refused to all clients of a role, by limit";
    family(encoder, "quota_refusals", help, MetricType::Counter, refusals)?;
    let used = ROLES.iter().flat_map(|role| {
        IN_MINUTE.map(|(what, of)| {
            let sum: u64 = others.iter().filter(|client| client.role == *role).map(of).sum();
            ([("role", role.name()), ("of", what)], sum as f64)
        })
    });
    let help = "What all but the busiest clients of a role used in the last minute";
    family(encoder, "quota_others_last_minute", help, MetricType::Gauge, used)?;
    let counts = ROLES.iter().map(|role| {
        ([("role", role.name())], clients.iter().filter(|client| client.role == *role).count() as f64)
    });
    family(encoder, "quota_clients", "Clients that have a quota, by role", MetricType::Gauge, counts)
}
