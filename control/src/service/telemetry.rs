//! `Telemetry`: latencies by stage.

use crate::latency::Latencies;
use crate::node::Node;
use crate::proto::telemetry_server::Telemetry as Service;
use crate::proto::{GetLatencyRequest, GetLatencyResponse, Stage, StageLatency, WatchLatencyRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

const STAGES: [Stage; 3] =
    [Stage::ExchangeToReceived, Stage::ReceivedToPublished, Stage::PublishedToDelivered];

pub struct Telemetry {
    node: Arc<Node>,
}

impl Telemetry {
    pub fn new(node: Arc<Node>) -> Telemetry {
        Telemetry { node }
    }
}

pub fn latencies(node: &Node, stage: Stage) -> Latencies {
    Latencies::of(match stage {
        Stage::Unspecified | Stage::ExchangeToReceived => &node.telemetry.exchange_to_received,
        Stage::ReceivedToPublished => &node.telemetry.received_to_published,
        // Of each peer there is one of its own, in `Cluster.Get`.
        Stage::PublishedToDelivered | Stage::PublishedToAcknowledged => &node.delivery.published_to_delivered,
    })
}

fn stages(asked: &[i32]) -> Result<Vec<Stage>, Status> {
    if asked.is_empty() {
        return Ok(STAGES.into());
    }
    let stage = |stage: &i32| {
        let known = Stage::try_from(*stage).ok().filter(|stage| STAGES.contains(stage));
        known.ok_or_else(|| Status::invalid_argument(format!("there is no stage {stage}")))
    };
    asked.iter().take(STAGES.len() + 1).map(stage).collect()
}

pub fn summary(stage: Stage, latencies: &Latencies, include_histogram: bool) -> StageLatency {
    let histogram = &latencies.histogram;
    let at = |quantile| if histogram.is_empty() { 0 } else { histogram.value_at_quantile(quantile) };
    StageLatency {
        stage: stage.into(),
        count: histogram.len(),
        negative_count: latencies.negative,
        p50_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        p99_9_ns: at(0.999),
        p99_99_ns: at(0.9999),
        max_ns: if histogram.is_empty() { 0 } else { histogram.max() },
        min_ns: if histogram.is_empty() { 0 } else { histogram.min() },
        mean_ns: if histogram.is_empty() { 0.0 } else { histogram.mean() },
        histogram_v2: if include_histogram { latencies.v2() } else { Vec::new() },
    }
}

#[tonic::async_trait]
impl Service for Telemetry {
    async fn get_latency(
        &self,
        request: Request<GetLatencyRequest>,
    ) -> Result<Response<GetLatencyResponse>, Status> {
        let GetLatencyRequest { stages: asked, include_histogram } = request.into_inner();
        let stages = stages(&asked)?;
        let stage = |stage: &Stage| summary(*stage, &latencies(&self.node, *stage), include_histogram);
        let at_ns = self.node.unix_ns();
        let interval_ns = at_ns.saturating_sub(self.node.started_ns);
        Ok(Response::new(GetLatencyResponse {
            stages: stages.iter().map(stage).collect(),
            at_ns,
            interval_ns,
        }))
    }

    type WatchLatencyStream = ReceiverStream<Result<GetLatencyResponse, Status>>;

    async fn watch_latency(
        &self,
        request: Request<WatchLatencyRequest>,
    ) -> Result<Response<Self::WatchLatencyStream>, Status> {
        let WatchLatencyRequest { stages: asked, include_histogram, interval_ms } = request.into_inner();
        let stages = stages(&asked)?;
        let interval_ms = if interval_ms == 0 { 1_000 } else { u64::from(interval_ms) };
        if !(100..=3_600_000).contains(&interval_ms) {
            return Err(Status::invalid_argument("interval_ms: must be 100 to 3600000"));
        }
        let open = self.node.open_subscription().ok_or_else(|| {
            Status::resource_exhausted("too many subscriptions are open: [grpc] subscriptions_max")
        })?;
        let (sender, receiver) = mpsc::channel(1);
        let node = self.node.clone();
        tokio::spawn(async move {
            let _open = open;
            let mut stopping = node.stopping.clone();
            let mut earlier: Vec<Latencies> = stages.iter().map(|stage| latencies(&node, *stage)).collect();
            let mut since_ns = node.unix_ns();
            loop {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(interval_ms)) => {}
                    () = sender.closed() => return,
                    _ = stopping.wait_for(|stopping| *stopping) => {
                        let _ = sender.try_send(Err(Status::unavailable("the node shuts down")));
                        return;
                    }
                }
                let now: Vec<Latencies> = stages.iter().map(|stage| latencies(&node, *stage)).collect();
                let at_ns = node.unix_ns();
                let changes = now.iter().zip(&earlier).map(|(now, earlier)| now.clone().since(earlier));
                let summaries = stages
                    .iter()
                    .zip(changes)
                    .map(|(stage, change)| summary(*stage, &change, include_histogram));
                let interval_ns = at_ns.saturating_sub(since_ns);
                let response = GetLatencyResponse { stages: summaries.collect(), at_ns, interval_ns };
                if sender.send(Ok(response)).await.is_err() {
                    return;
                }
                (earlier, since_ns) = (now, at_ns);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
