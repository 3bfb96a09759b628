//! Which role each method needs.

use super::Role;

/// `None` = nobody has to say who they are. A method that is not here is for admins.
const NEEDS: [(&str, Option<Role>); 42] = [
    ("/tickplane.v1.MarketData/Get", Some(Role::Reader)),
    ("/tickplane.v1.MarketData/List", Some(Role::Reader)),
    ("/tickplane.v1.MarketData/Subscribe", Some(Role::Reader)),
    ("/tickplane.v1.Feeds/List", Some(Role::Reader)),
    ("/tickplane.v1.Node/GetStatus", Some(Role::Reader)),
    ("/tickplane.v1.Telemetry/GetLatency", Some(Role::Reader)),
    ("/tickplane.v1.Telemetry/WatchLatency", Some(Role::Reader)),
    ("/tickplane.v1.Telemetry/Stalls", Some(Role::Reader)),
    ("/tickplane.v1.Cluster/Get", Some(Role::Reader)),
    ("/tickplane.v1.Cluster/Promote", Some(Role::Admin)),
    ("/tickplane.v1.Cluster/HandOver", Some(Role::Admin)),
    ("/tickplane.v1.Cluster/AddPeer", Some(Role::Admin)),
    ("/tickplane.v1.Cluster/RemovePeer", Some(Role::Admin)),
    ("/tickplane.v1.Admin/GetConfig", Some(Role::Admin)),
    ("/tickplane.v1.Admin/Apply", Some(Role::Admin)),
    ("/tickplane.v1.Audit/List", Some(Role::Admin)),
    ("/tickplane.v1.Audit/Watch", Some(Role::Admin)),
    ("/tickplane.v1.Clients/Create", Some(Role::Admin)),
    ("/tickplane.v1.Clients/Update", Some(Role::Admin)),
    ("/tickplane.v1.Clients/Delete", Some(Role::Admin)),
    ("/tickplane.v1.Clients/RenewToken", Some(Role::Admin)),
    ("/tickplane.v1.Clients/Get", Some(Role::Admin)),
    ("/tickplane.v1.Clients/List", Some(Role::Admin)),
    ("/tickplane.v1.Clients/WhoAmI", Some(Role::Reader)),
    // A reader's own; the service refuses it what is another one's.
    ("/tickplane.v1.Subscriptions/Create", Some(Role::Reader)),
    ("/tickplane.v1.Subscriptions/Update", Some(Role::Reader)),
    ("/tickplane.v1.Subscriptions/Pause", Some(Role::Reader)),
    ("/tickplane.v1.Subscriptions/Resume", Some(Role::Reader)),
    ("/tickplane.v1.Subscriptions/Delete", Some(Role::Reader)),
    ("/tickplane.v1.Subscriptions/Get", Some(Role::Reader)),
    ("/tickplane.v1.Subscriptions/List", Some(Role::Reader)),
    ("/tickplane.v1.Subscriptions/Watch", Some(Role::Reader)),
    ("/tickplane.v1.Subscriptions/Stream", Some(Role::Reader)),
    ("/tickplane.v1.Quotas/Get", Some(Role::Reader)),
    ("/tickplane.v1.Quotas/List", Some(Role::Reader)),
    ("/tickplane.v1.Quotas/Set", Some(Role::Operator)),
    ("/tickplane.v1.Quotas/Reset", Some(Role::Operator)),
    ("/tickplane.v1.Quotas/Watch", Some(Role::Reader)),
    // A probe, or a balancer, has no token.
    ("/grpc.health.v1.Health/Check", None),
    ("/grpc.health.v1.Health/Watch", None),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Some(Role::Reader)),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Some(Role::Reader)),
];

/// Methods whose answer goes on and on.
const STREAMS: [&str; 9] = [
    "/tickplane.v1.MarketData/Subscribe",
    "/tickplane.v1.Telemetry/WatchLatency",
    "/tickplane.v1.Audit/Watch",
    "/tickplane.v1.Subscriptions/Watch",
    "/tickplane.v1.Subscriptions/Stream",
    "/tickplane.v1.Quotas/Watch",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Whether the answer to a method (its path) goes on and on.
pub fn is_stream(path: &str) -> bool {
    STREAMS.contains(&path)
}

/// Whether there is such a method (its path).
pub fn is_method(path: &str) -> bool {
    NEEDS.iter().any(|(known, _)| *known == path)
}

/// The role that a method (its path) needs; `None` = none.
pub fn needs(path: &str) -> Option<Role> {
    let found = NEEDS.iter().find(|(known, _)| *known == path);
    found.map_or(Some(Role::Admin), |(_, role)| *role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;
    use std::collections::BTreeSet;

    #[test]
    fn every_method_is_in_the_table_and_no_other() {
        let mut pool = DescriptorPool::decode(crate::proto::DESCRIPTORS).unwrap();
        pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
        pool.decode_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET).unwrap();
        pool.decode_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET).unwrap();
        let (mut served, mut streams) = (BTreeSet::new(), BTreeSet::new());
        for service in pool.services() {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                if method.is_server_streaming() {
                    streams.insert(path.clone());
                }
                served.insert(path);
            }
        }
        assert!(served.len() >= 15);
        let known: BTreeSet<String> = NEEDS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(known, served);
        assert_eq!(known.len(), NEEDS.len(), "none is there twice");
        assert_eq!(streams, STREAMS.map(str::to_owned).into());
    }

    #[test]
    fn what_is_not_known_is_for_admins() {
        assert_eq!(needs("/tickplane.v1.MarketData/Nix"), Some(Role::Admin));
        assert_eq!(needs("/tickplane.v1.MarketData/Get/"), Some(Role::Admin));
        assert_eq!(needs(""), Some(Role::Admin));
        assert_eq!(needs("/grpc.health.v1.Health/Check"), None);
    }
}
