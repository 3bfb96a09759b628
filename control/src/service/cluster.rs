//! `Cluster`: what the node is among others.

use super::telemetry::summary;
use super::waited;
use crate::access::Caller;
use crate::audit;
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

    /// Has an order carried out, and records what became of it; both are done even if the client goes away meanwhile.
    async fn order<T>(&self, request: &Request<T>, order: Order) -> Result<Response<OrderResponse>, Status> {
        let (caller, node) = (Caller::of(request)?, self.node.clone());
        let carried_out = tokio::spawn(async move {
            let (action, object) = named(&order, &node.config.node);
            let now = words(&order);
            let answer = node.group.orders.give(order).await;
            let record = |now| audit::record(&caller, node.unix_ns(), action, &object, now);
            let record = match &answer {
                Ok(term) => record(format!("{now}, term {term}")),
                Err(error) => audit::refused(record(String::new()), &error.to_string()),
            };
            waited(move || node.ledger.record_done(record)).await?;
            answer.map_err(|error| refusal(&error))
        });
        let answer = carried_out.await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(OrderResponse { term: answer? }))
    }
}

/// How an order is recorded: what is done, and with which node.
fn named(order: &Order, node: &str) -> (&'static str, String) {
    match order {
        Order::Promote { .. } => ("cluster.promote", node.to_owned()),
        Order::HandOver { to } => ("cluster.hand_over", to.clone()),
        Order::AddPeer(peer) => ("cluster.add_peer", peer.name.clone()),
        Order::RemovePeer { name } => ("cluster.remove_peer", name.clone()),
    }
}

/// What a node is once an order is carried out.
fn words(order: &Order) -> String {
    match order {
        Order::Promote { force: true } => "the primary, by force".to_owned(),
        Order::Promote { .. } | Order::HandOver { .. } => "the primary".to_owned(),
        Order::AddPeer(PeerConfig { address: Some(address), .. }) => format!("a peer at {address}"),
        Order::AddPeer(_) => "a peer without an address".to_owned(),
        Order::RemovePeer { .. } => "no peer".to_owned(),
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
        let force = request.get_ref().force;
        self.order(&request, Order::Promote { force }).await
    }

    async fn hand_over(&self, request: Request<HandOverRequest>) -> Result<Response<OrderResponse>, Status> {
        let to = request.get_ref().to.clone();
        self.order(&request, Order::HandOver { to }).await
    }

    async fn add_peer(&self, request: Request<AddPeerRequest>) -> Result<Response<OrderResponse>, Status> {
        let AddPeerRequest { name, address } = request.get_ref().clone();
        let address = Some(address).filter(|address| !address.is_empty());
        self.order(&request, Order::AddPeer(PeerConfig { name, address })).await
    }

    async fn remove_peer(
        &self,
        request: Request<RemovePeerRequest>,
    ) -> Result<Response<OrderResponse>, Status> {
        let name = request.get_ref().name.clone();
        self.order(&request, Order::RemovePeer { name }).await
    }
}
