//! `Cluster`: what the node is among others.

use super::telemetry::summary;
use crate::config::PeerConfig;
use crate::latency::{Counts, Scope, Series};
use crate::node::Node;
use crate::proto::cluster_server::Cluster as Service;
use crate::proto::{
    AddPeerRequest, ClusterGetRequest, ClusterGetResponse, HandOverRequest, OrderResponse, PromoteRequest,
    RemovePeerRequest, Role, Stage,
};
use crate::replica::{Order, OrderError};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct Cluster {
    node: Arc<Node>,
}

impl Cluster {
    pub fn new(node: Arc<Node>) -> Cluster {
        Cluster { node }
    }

    async fn order(&self, order: Order) -> Result<Response<OrderResponse>, Status> {
        match self.node.group.orders.give(order).await {
            Ok(term) => Ok(Response::new(OrderResponse { term })),
            Err(error) => Err(refusal(&error)),
        }
    }
}

fn refusal(error: &OrderError) -> Status {
    let text = error.to_string();
    match error {
        OrderError::NoSuchPeer(_) => Status::not_found(text),
        OrderError::Peers(_) => Status::invalid_argument(text),
        OrderError::NotDrained(_) | OrderError::NotNamed(..) | OrderError::NotTaken(_) => {
            Status::aborted(text)
        }
        OrderError::Term(_) => Status::internal(text),
        OrderError::Stopping => Status::unavailable(text),
        _ => Status::failed_precondition(text),
    }
}

pub fn cluster(node: &Node) -> ClusterGetResponse {
    let (mut seen, _) = node.group.view.get();
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
        let mut seen = cluster(&self.node);
        let (_, latencies) = self.node.group.view.get();
        for (name, histogram) in latencies {
            let series = Series { scope: Scope::Peer(name.clone()), stage: Stage::PublishedToAcknowledged };
            let latency = summary(&series, &Counts::from(&*histogram), false);
            let peer = seen.peers.iter_mut().find(|peer| peer.name == name);
            peer.into_iter().for_each(|peer| peer.published_to_acknowledged = Some(latency.clone()));
        }
        Ok(Response::new(seen))
    }

    async fn promote(&self, request: Request<PromoteRequest>) -> Result<Response<OrderResponse>, Status> {
        self.order(Order::Promote { force: request.into_inner().force }).await
    }

    async fn hand_over(&self, request: Request<HandOverRequest>) -> Result<Response<OrderResponse>, Status> {
        self.order(Order::HandOver { to: request.into_inner().to }).await
    }

    async fn add_peer(&self, request: Request<AddPeerRequest>) -> Result<Response<OrderResponse>, Status> {
        let AddPeerRequest { name, address } = request.into_inner();
        let address = Some(address).filter(|address| !address.is_empty());
        self.order(Order::AddPeer(PeerConfig { name, address })).await
    }

    async fn remove_peer(
        &self,
        request: Request<RemovePeerRequest>,
    ) -> Result<Response<OrderResponse>, Status> {
        self.order(Order::RemovePeer { name: request.into_inner().name }).await
    }
}
