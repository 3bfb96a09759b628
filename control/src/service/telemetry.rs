//! `Telemetry`: latencies by stage, and whose they are.

use super::watch;
use crate::access::{Caller, Role};
use crate::latency::{self, Counts, Scope, Series, WORKER, v2};
use crate::node::Node;
use crate::proto::telemetry_server::Telemetry as Service;
use crate::proto::{
    self, GetLatencyRequest, GetLatencyResponse, Stage, StageLatency, Stall, StallsRequest, StallsResponse,
    WatchLatencyRequest, Window, WorkerStalls,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Scopes that can be asked for by name at once.
const SCOPES_MAX: usize = 64;

pub struct Telemetry {
    node: Arc<Node>,
}

impl Telemetry {
    pub fn new(node: Arc<Node>) -> Telemetry {
        Telemetry { node }
    }
}

/// What a client asked for.
struct Query {
    /// Empty = all.
    stages: Vec<Stage>,
    /// `None` = all.
    scopes: Option<Vec<Scope>>,
    window: Window,
    include_histogram: bool,
}

type All = BTreeMap<Series, Counts>;

impl Query {
    fn new(stages: &[i32], scopes: &[proto::Scope], all_scopes: bool, window: i32) -> Result<Query, Status> {
        let stage = |stage: &i32| {
            let known = Stage::try_from(*stage).ok().filter(|stage| *stage != Stage::Unspecified);
            known.ok_or_else(|| Status::invalid_argument(format!("there is no stage {stage}")))
        };
        if scopes.len() > SCOPES_MAX {
            return Err(Status::invalid_argument(format!("scopes: at most {SCOPES_MAX}, or all_scopes")));
        }
        let scopes = match scopes {
            _ if all_scopes => None,
            [] => Some(vec![Scope::Node]),
            some => Some(some.iter().map(Scope::from).collect()),
        };
        let window = Window::try_from(window)
            .map_err(|_| Status::invalid_argument(format!("there is no window {window}")))?;
        let stages = stages.iter().take(SCOPES_MAX).map(stage).collect::<Result<_, _>>()?;
        Ok(Query { stages, scopes, window, include_histogram: false })
    }

    /// The seconds of the window; `None` = it is none of those that the node keeps.
    fn over_s(&self) -> Option<u64> {
        match self.window {
            Window::Unspecified | Window::Start => None,
            Window::Second => Some(1),
            Window::TenSeconds => Some(10),
            Window::Minute => Some(60),
        }
    }

    /// Scopes that are asked for must be there.
    fn check(&self, all: &All) -> Result<(), Status> {
        let missing =
            self.scopes.iter().flatten().find(|scope| !all.keys().any(|series| series.scope == **scope));
        let Some(missing) = missing else { return Ok(()) };
        let mut known: Vec<String> = all.keys().map(|series| series.scope.to_string()).collect();
        known.dedup();
        Err(Status::not_found(format!(
            "there are no latencies of {missing}: there are those of {}",
            known.join(", ")
        )))
    }

    fn wants(&self, series: &Series) -> bool {
        (self.stages.is_empty() || self.stages.contains(&series.stage))
            && self.scopes.as_ref().is_none_or(|scopes| scopes.contains(&series.scope))
    }

    /// What is wanted of what is counted until `at_ns` (Unix UTC), of the time since `earlier` if that is given.
    fn response(
        &self,
        node: &Node,
        all: &All,
        at_ns: u64,
        earlier: Option<(&All, u64)>,
    ) -> GetLatencyResponse {
        let windows = node.windows();
        let counts = |series: &Series, counts: &Counts| match (self.over_s(), earlier) {
            (Some(over_s), _) => windows.counts(series, over_s).unwrap_or_default(),
            (None, Some((earlier, _))) if self.window == Window::Unspecified => {
                earlier.get(series).map_or_else(|| counts.clone(), |earlier| counts.since(earlier))
            }
            _ => counts.clone(),
        };
        let wanted = all.iter().filter(|(series, _)| self.wants(series));
        let stages =
            wanted.map(|(series, all)| summary(series, &counts(series, all), self.include_histogram));
        let since_ns = match earlier {
            Some((_, since_ns)) if self.window == Window::Unspecified => since_ns,
            _ => node.started_ns,
        };
        GetLatencyResponse {
            stages: stages.collect(),
            at_ns,
            interval_ns: self
                .over_s()
                .map_or(at_ns.saturating_sub(since_ns), |over_s| windows.interval_ns(over_s)),
        }
    }
}

/// What is counted now, but for what a reader may not see: what is other clients'.
fn counts(node: &Node, caller: &Caller) -> All {
    let mut all = latency::counts(node);
    if caller.role() == Role::Reader {
        all.retain(|series, _| match &series.scope {
            Scope::Client(name) => *name == caller.name(),
            Scope::Role(_) => false,
            Scope::Node | Scope::Worker(_) | Scope::Feed(_) | Scope::Peer(_) => true,
        });
    }
    all
}

pub fn summary(series: &Series, counts: &Counts, include_histogram: bool) -> StageLatency {
    let histogram = counts.hdr();
    let at = |quantile| if histogram.is_empty() { 0 } else { histogram.value_at_quantile(quantile) };
    StageLatency {
        stage: series.stage.into(),
        scope: Some(&series.scope).filter(|scope| **scope != Scope::Node).map(proto::Scope::from),
        count: histogram.len(),
        negative_count: counts.negative,
        p50_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        p99_9_ns: at(0.999),
        p99_99_ns: at(0.9999),
        max_ns: if histogram.is_empty() { 0 } else { histogram.max() },
        min_ns: if histogram.is_empty() { 0 } else { histogram.min() },
        mean_ns: if histogram.is_empty() { 0.0 } else { histogram.mean() },
        histogram_v2: if include_histogram { v2(&histogram) } else { Vec::new() },
    }
}

fn stall(node: &Node, stall: dataplane::stall::Stall) -> Stall {
    let dataplane::stall::Stall { ended_ns, duration_ns, frames, messages, port, feed } = stall;
    let port = port.and_then(|port| node.config.ports.get(usize::from(port)));
    Stall {
        ended_ns,
        duration_ns,
        idle: frames == 0,
        frames,
        messages,
        port: port.map_or_else(String::new, |port| port.name.clone()),
        feed: feed.map_or_else(String::new, |feed| node.feed_name(feed)),
    }
}

/// The stalls of the worker, if there is one.
fn stalls(node: &Node) -> Vec<WorkerStalls> {
    let worker = || {
        let stalls = &node.telemetry.stalls;
        WorkerStalls {
            worker: WORKER.to_owned(),
            limit_ns: stalls.limit_ns.get(),
            count: stalls.count.get(),
            total_ns: stalls.total_ns.get(),
            last: stalls.last().into_iter().map(|one| stall(node, one)).collect(),
        }
    };
    (!node.telemetry.ports.is_empty()).then(worker).into_iter().collect()
}

#[tonic::async_trait]
impl Service for Telemetry {
    async fn get_latency(
        &self,
        request: Request<GetLatencyRequest>,
    ) -> Result<Response<GetLatencyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let GetLatencyRequest { stages, include_histogram, window, scopes, all_scopes } =
            request.into_inner();
        let query = Query { include_histogram, ..Query::new(&stages, &scopes, all_scopes, window)? };
        let all = counts(&self.node, &caller);
        query.check(&all)?;
        Ok(Response::new(query.response(&self.node, &all, self.node.unix_ns(), None)))
    }

    async fn stalls(&self, _request: Request<StallsRequest>) -> Result<Response<StallsResponse>, Status> {
        Ok(Response::new(StallsResponse { workers: stalls(&self.node) }))
    }

    type WatchLatencyStream = ReceiverStream<Result<GetLatencyResponse, Status>>;

    async fn watch_latency(
        &self,
        request: Request<WatchLatencyRequest>,
    ) -> Result<Response<Self::WatchLatencyStream>, Status> {
        let caller = Caller::of(&request)?;
        let WatchLatencyRequest { stages, include_histogram, interval_ms, window, scopes, all_scopes } =
            request.into_inner();
        let query = Query { include_histogram, ..Query::new(&stages, &scopes, all_scopes, window)? };
        let interval = watch::interval(interval_ms)?;
        let mut earlier = counts(&self.node, &caller);
        query.check(&earlier)?;
        let place = watch::place(&self.node, &caller)?;
        let (sender, receiver) = mpsc::channel(1);
        let node = self.node.clone();
        tokio::spawn(async move {
            let mut since_ns = node.unix_ns();
            while place.pause(&node, interval, &sender).await {
                let (all, at_ns) = (counts(&node, &caller), node.unix_ns());
                let response = query.response(&node, &all, at_ns, Some((&earlier, since_ns)));
                if sender.send(Ok(response)).await.is_err() {
                    return;
                }
                (earlier, since_ns) = (all, at_ns);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
