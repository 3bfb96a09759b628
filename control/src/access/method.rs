//! Which role each method needs, and whether it streams.

use super::Role;

/// What a method answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Once,
    Stream,
}

use Answer::{Once, Stream};

/// The role that each method needs, `None` = nobody has to say who they are, and what it answers with.
const METHODS: [(&str, Option<Role>, Answer); 42] = [
    ("/tickplane.v1.MarketData/Get", Some(Role::Reader), Once),
    ("/tickplane.v1.MarketData/List", Some(Role::Reader), Once),
    ("/tickplane.v1.MarketData/Subscribe", Some(Role::Reader), Stream),
    ("/tickplane.v1.Feeds/List", Some(Role::Reader), Once),
    ("/tickplane.v1.Node/GetStatus", Some(Role::Reader), Once),
    ("/tickplane.v1.Telemetry/GetLatency", Some(Role::Reader), Once),
    ("/tickplane.v1.Telemetry/WatchLatency", Some(Role::Reader), Stream),
    ("/tickplane.v1.Telemetry/Stalls", Some(Role::Reader), Once),
    ("/tickplane.v1.Cluster/Get", Some(Role::Reader), Once),
    ("/tickplane.v1.Cluster/Promote", Some(Role::Admin), Once),
    ("/tickplane.v1.Cluster/HandOver", Some(Role::Admin), Once),
    ("/tickplane.v1.Cluster/AddPeer", Some(Role::Admin), Once),
    ("/tickplane.v1.Cluster/RemovePeer", Some(Role::Admin), Once),
    ("/tickplane.v1.Admin/GetConfig", Some(Role::Admin), Once),
    ("/tickplane.v1.Admin/Apply", Some(Role::Admin), Once),
    ("/tickplane.v1.Audit/List", Some(Role::Admin), Once),
    ("/tickplane.v1.Audit/Watch", Some(Role::Admin), Stream),
    ("/tickplane.v1.Clients/Create", Some(Role::Admin), Once),
    ("/tickplane.v1.Clients/Update", Some(Role::Admin), Once),
    ("/tickplane.v1.Clients/Delete", Some(Role::Admin), Once),
    ("/tickplane.v1.Clients/RenewToken", Some(Role::Admin), Once),
    ("/tickplane.v1.Clients/Get", Some(Role::Admin), Once),
    ("/tickplane.v1.Clients/List", Some(Role::Admin), Once),
    ("/tickplane.v1.Clients/WhoAmI", Some(Role::Reader), Once),
    // A reader's own; the service refuses it what is another one's.
    ("/tickplane.v1.Subscriptions/Create", Some(Role::Reader), Once),
    ("/tickplane.v1.Subscriptions/Update", Some(Role::Reader), Once),
    ("/tickplane.v1.Subscriptions/Pause", Some(Role::Reader), Once),
    ("/tickplane.v1.Subscriptions/Resume", Some(Role::Reader), Once),
    ("/tickplane.v1.Subscriptions/Delete", Some(Role::Reader), Once),
    ("/tickplane.v1.Subscriptions/Get", Some(Role::Reader), Once),
    ("/tickplane.v1.Subscriptions/List", Some(Role::Reader), Once),
    ("/tickplane.v1.Subscriptions/Watch", Some(Role::Reader), Stream),
    ("/tickplane.v1.Subscriptions/Stream", Some(Role::Reader), Stream),
    ("/tickplane.v1.Quotas/Get", Some(Role::Reader), Once),
    ("/tickplane.v1.Quotas/List", Some(Role::Reader), Once),
    ("/tickplane.v1.Quotas/Set", Some(Role::Operator), Once),
    ("/tickplane.v1.Quotas/Reset", Some(Role::Operator), Once),
    ("/tickplane.v1.Quotas/Watch", Some(Role::Reader), Stream),
    // A probe, or a balancer, has no token.
    ("/grpc.health.v1.Health/Check", None, Once),
    ("/grpc.health.v1.Health/Watch", None, Stream),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Some(Role::Reader), Stream),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Some(Role::Reader), Stream),
];

/// Whether there is such a method (its path).
pub fn is_method(path: &str) -> bool {
    METHODS.iter().any(|(known, ..)| *known == path)
}

/// The role that a method (its path) needs, `None` = none, and what it answers with. One that is not known is for admins.
pub fn of(path: &str) -> (Option<Role>, Answer) {
    let found = METHODS.iter().find(|(known, ..)| *known == path);
    found.map_or((Some(Role::Admin), Stream), |(_, role, answer)| (*role, *answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;
    use std::collections::BTreeMap;

    #[test]
    fn every_method_is_in_the_table_and_no_other() {
        let mut pool = DescriptorPool::decode(crate::proto::DESCRIPTORS).unwrap();
        pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
        pool.decode_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET).unwrap();
        pool.decode_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET).unwrap();
        let mut served = BTreeMap::new();
        for service in pool.services() {
            for method in service.methods() {
                let answer = if method.is_server_streaming() { Stream } else { Once };
                served.insert(format!("/{}/{}", service.full_name(), method.name()), answer);
            }
        }
        assert!(served.len() >= 15);
        let known: BTreeMap<String, Answer> =
            METHODS.iter().map(|(path, _, answer)| ((*path).to_owned(), *answer)).collect();
        assert_eq!(known, served);
        assert_eq!(known.len(), METHODS.len(), "none is there twice");
    }

    #[test]
    fn what_is_not_known_is_for_admins() {
        assert_eq!(of("/tickplane.v1.MarketData/Nix"), (Some(Role::Admin), Stream));
        assert_eq!(of("/tickplane.v1.MarketData/Get/").0, Some(Role::Admin));
        assert_eq!(of("").0, Some(Role::Admin));
        assert_eq!(of("/grpc.health.v1.Health/Check"), (None, Once));
    }
}
