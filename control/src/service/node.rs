//! `Node`: what the node is, and how it does.

use crate::node::Node;
use crate::port::AnyPort;
use crate::proto::node_server::Node as Service;
use crate::proto::{GetStatusRequest, GetStatusResponse, Port, Region, Worker};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::{Request, Response, Status};

pub struct NodeService {
    node: Arc<Node>,
}

impl NodeService {
    pub fn new(node: Arc<Node>) -> NodeService {
        NodeService { node }
    }
}

pub fn status(node: &Node) -> GetStatusResponse {
    let (config, reader, delivery) = (&node.config, &node.reader, &node.delivery);
    let layout = reader.layout();
    let counters = &node.telemetry.worker;
    let worker_counters = [
        ("duty_cycles", counters.duty_cycles.get()),
        ("busy_cycles", counters.busy_cycles.get()),
        ("stall_ns_max", counters.stall_ns_max.get()),
        ("stalls", node.telemetry.stalls.count.get()),
        ("ticks", counters.ticks.get()),
    ];
    GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: config.node.clone(),
        started_ns: node.started_ns,
        uptime_ns: node.unix_ns().saturating_sub(node.started_ns),
        region: Some(Region {
            path: config.region_path().display().to_string(),
            generation: reader.generation(),
            bytes: node.region_bytes as u64,
            instruments_max: layout.instruments.into(),
            instruments: reader.instruments().into(),
            log_ticks: layout.log_ticks,
            tail: reader.tail(),
            valid_for_ns: (reader.valid_until_ns() as i64).wrapping_sub(node.now_ns() as i64),
        }),
        worker: Some(Worker {
            core: config.worker.core.map(|core| core as u32),
            idle: config.worker.idle.name().to_owned(),
            counters: worker_counters.map(|(name, value)| (name.to_owned(), value)).into(),
        }),
        // A copy opens none of those that are configured.
        ports: (0..node.telemetry.ports.len()).map(|index| port(node, index)).collect(),
        subscriptions: delivery.subscriptions.load(Ordering::Relaxed) as u32,
        subscriptions_max: delivery.subscriptions_max.load(Ordering::Relaxed) as u32,
        delivered: delivery.delivered.get(),
        conflated: delivery.conflated.get(),
        objectives: node.objectives(),
    }
}

fn port(node: &Node, index: usize) -> Port {
    let (config, counters) = (&node.config.ports[index], &node.telemetry.ports[index]);
    Port {
        name: config.name.clone(),
        kind: config.kind.name().to_owned(),
        device: AnyPort::device(config),
        rx_frames: counters.rx_frames.get(),
        rx_bytes: counters.rx_bytes.get(),
        rx_frames_per_s: node.per_s(&[&config.name, "rx_frames"]),
        missed: counters.missed.get(),
        oversized: counters.oversized.get(),
        tx_frames: counters.tx_frames.get(),
        tx_dropped: counters.tx_dropped.get(),
        counters: counters.entries().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

#[tonic::async_trait]
impl Service for NodeService {
    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(status(&self.node)))
    }
}
