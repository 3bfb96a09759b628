//! `Cluster`: what the node is among others.

use crate::node::Node;
use crate::proto::cluster_server::Cluster as Service;
use crate::proto::{ClusterGetRequest, ClusterGetResponse, Role};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct Cluster {
    node: Arc<Node>,
}

impl Cluster {
    pub fn new(node: Arc<Node>) -> Cluster {
        Cluster { node }
    }
}

pub fn cluster(node: &Node) -> ClusterGetResponse {
    let mut seen = node.replica.get();
    if seen.role() == Role::Unspecified {
        seen.role = Role::Single.into();
    }
    seen.node = node.config.node.clone();
    seen.position = node.reader.tail();
    if seen.role() != Role::Standby {
        (seen.tail, seen.level) = (seen.position, true);
    }
    // A standby may be past what its primary last told.
    seen.tail = seen.tail.max(seen.position);
    seen.valid_for_ns = (node.reader.valid_until_ns() as i64).wrapping_sub(node.now_ns() as i64);
    seen
}

#[tonic::async_trait]
impl Service for Cluster {
    async fn get(
        &self,
        _request: Request<ClusterGetRequest>,
    ) -> Result<Response<ClusterGetResponse>, Status> {
        Ok(Response::new(cluster(&self.node)))
    }
}
