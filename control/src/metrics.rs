//! `/metrics`: the same counters and latencies as Prometheus text.

mod access;
mod clock;
mod quotas;

use crate::client::reason_name;
use crate::client::status::stage_name;
use crate::latency::{self, Counts, Scope};
use crate::node::Node;
use crate::proto::{Objective, ObjectiveState, Role, RowReason};
use crate::service::{cluster, feeds, node as node_service};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use tokio::net::TcpListener;

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const NS_PER_S: f64 = 1e9;
/// Upper ends of the latency buckets, in ns: 1, 2 and 5 of each decade from a microsecond to ten seconds.
const BUCKETS_NS: [u64; 22] = {
    let mut ends = [0; 22];
    let (mut index, mut decade) = (0, 1_000);
    while index < 21 {
        ends[index] = decade;
        ends[index + 1] = 2 * decade;
        ends[index + 2] = 5 * decade;
        (index, decade) = (index + 3, decade * 10);
    }
    ends[21] = decade;
    ends
};

/// Why a feed's rows are not as good as they could be.
const REASONS: [RowReason; 5] =
    [RowReason::Gap, RowReason::LateStart, RowReason::Malformed, RowReason::LimitFull, RowReason::TakenOver];

/// Serves the page until it is aborted.
pub async fn serve(node: Arc<Node>, listener: TcpListener) {
    let page = move || {
        let node = node.clone();
        async move { ([(CONTENT_TYPE, TEXT)], text(node)).into_response() }
    };
    let routes = axum::Router::new().route("/metrics", get(page));
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!("the metrics page ended: {error}");
    }
}

/// The page.
pub fn text(node: Arc<Node>) -> String {
    let mut registry = Registry::with_prefix("tickplane");
    registry.register_collector(Box::new(Metrics(node)));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes it all");
    text
}

struct Metrics(Arc<Node>);

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Metrics")
    }
}

type Labels<'l, const N: usize> = [(&'static str, &'l str); N];

/// A family of counters or gauges, whose values come with their labels.
fn family<'l, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    values: impl IntoIterator<Item = (Labels<'l, N>, f64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        let one = metric.encode_family(&labels)?;
        match kind {
            MetricType::Counter if value.fract() == 0.0 => ConstCounter::new(value as u64).encode(one)?,
            MetricType::Counter => ConstCounter::new(value).encode(one)?,
            _ => ConstGauge::new(value).encode(one)?,
        }
    }
    Ok(())
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let node = &*self.0;
        self.encode_feeds(&mut encoder, node)?;
        self.encode_node(&mut encoder, node)?;
        clock::encode(&mut encoder)?;
        self.encode_objectives(&mut encoder, node)?;
        self.encode_cluster(&mut encoder, node)?;
        quotas::encode(&mut encoder, node)?;
        access::encode(&mut encoder, node)?;
        self.encode_spans(&mut encoder, node)?;
        self.encode_latencies(&mut encoder, node)
    }
}

impl Metrics {
    fn encode_feeds(&self, encoder: &mut DescriptorEncoder<'_>, node: &Node) -> fmt::Result {
        let feeds = feeds::all(node);
        let conditions = feeds.iter().map(|feed| ([("feed", feed.name.as_str())], f64::from(feed.condition)));
        let help = "Feed condition: 1 waiting, 2 live, 3 degraded, 4 stale, 5 ended";
        family(encoder, "feed_condition", help, MetricType::Gauge, conditions)?;
        let names = REASONS.map(|reason| (reason, reason_name(reason.into())));
        let reasons = feeds.iter().flat_map(|feed| {
            names.iter().map(|(reason, name)| {
                let is_it = f64::from(u8::from(feed.reason() == *reason));
                ([("feed", feed.name.as_str()), ("reason", name.as_str())], is_it)
            })
        });
        let help = "1 = rows of the feed that were not told since are partial or suspect, for this reason";
        family(encoder, "feed_reason", help, MetricType::Gauge, reasons)?;
        let sequences = feeds.iter().map(|feed| ([("feed", feed.name.as_str())], feed.next_sequence as f64));
        let help = "Number of the next message expected";
        family(encoder, "feed_next_sequence", help, MetricType::Gauge, sequences)?;
        let events = feeds.iter().flat_map(|feed| {
            let name = feed.name.as_str();
            feed.counters
                .iter()
                .map(move |(event, value)| ([("feed", name), ("event", event.as_str())], *value as f64))
        });
        let help = "What happened on a feed, by event";
        family(encoder, "feed_events", help, MetricType::Counter, events)?;
        let lines = || feeds.iter().flat_map(|feed| feed.lines.iter().map(move |line| (feed, line)));
        let silent = lines().map(|(feed, line)| {
            ([("feed", feed.name.as_str()), ("line", line.name.as_str())], f64::from(u8::from(line.silent)))
        });
        family(encoder, "line_silent", "1 = the line is silent", MetricType::Gauge, silent)?;
        let events = lines().flat_map(|(feed, line)| {
            let names = (feed.name.as_str(), line.name.as_str());
            line.counters.iter().map(move |(event, value)| {
                ([("feed", names.0), ("line", names.1), ("event", event.as_str())], *value as f64)
            })
        });
        family(encoder, "line_events", "What happened on a line, by event", MetricType::Counter, events)
    }

    fn encode_node(&self, encoder: &mut DescriptorEncoder<'_>, node: &Node) -> fmt::Result {
        let status = node_service::status(node);
        let ports = status.ports.iter().flat_map(|port| {
            let name = port.name.as_str();
            port.counters
                .iter()
                .map(move |(event, value)| ([("port", name), ("event", event.as_str())], *value as f64))
        });
        family(encoder, "port_events", "What happened on a port, by event", MetricType::Counter, ports)?;
        let region = status.region.unwrap_or_default();
        let worker = status.worker.unwrap_or_default();
        let cycles = |name: &str| worker.counters.get(name).copied().unwrap_or(0) as f64;
        let gauges = [
            ("region_instruments", "Instruments that there are", region.instruments as f64),
            ("region_instruments_max", "Instruments that fit the region", region.instruments_max as f64),
            ("region_tail", "Log position that the next update gets", region.tail as f64),
            ("region_log_ticks", "Updates that the log holds", region.log_ticks as f64),
            ("region_bytes", "Size of the region's mapping", region.bytes as f64),
            (
                "region_valid_seconds",
                "For how long rows may be believed",
                region.valid_for_ns as f64 / NS_PER_S,
            ),
            ("subscriptions", "Subscriptions that are open", f64::from(status.subscriptions)),
            ("subscriptions_max", "Subscriptions that may be open", f64::from(status.subscriptions_max)),
            ("grpc_connections", "gRPC connections that are open", node.connections.open() as f64),
            (
                "worker_stall_seconds_max",
                "Longest round of the worker's loop",
                cycles("stall_ns_max") / NS_PER_S,
            ),
            ("uptime_seconds", "Time since the start", status.uptime_ns as f64 / NS_PER_S),
        ];
        for (name, help, value) in gauges {
            family(encoder, name, help, MetricType::Gauge, [([], value)])?;
        }
        let counters = [
            ("delivered_updates", "Updates handed to subscribers", status.delivered as f64),
            ("conflated_updates", "Updates left out for slow subscribers", status.conflated as f64),
            (
                "grpc_connections_refused",
                "gRPC connections for which [grpc] connections_max had no place",
                node.connections.refused.get() as f64,
            ),
            (
                "audit_records_pruned",
                "Audit records that were taken out: [store] audit_records_max",
                node.ledger.pruned.get() as f64,
            ),
            ("worker_cycles", "Rounds of the worker's loop", cycles("duty_cycles")),
            ("worker_busy_cycles", "Rounds that found frames", cycles("busy_cycles")),
            ("worker_stalls", "Rounds that took longer than [worker] stall_us", cycles("stalls")),
            (
                "worker_stalled_seconds",
                "How long those took together",
                node.telemetry.stalls.total_ns.get() as f64 / NS_PER_S,
            ),
            ("published_ticks", "Updates published to the cache", cycles("ticks")),
        ];
        for (name, help, value) in counters {
            family(encoder, name, help, MetricType::Counter, [([], value)])?;
        }
        Ok(())
    }

    fn encode_objectives(&self, encoder: &mut DescriptorEncoder<'_>, node: &Node) -> fmt::Result {
        let objectives = node.objectives();
        let all = |value: fn(&Objective) -> f64| {
            objectives.iter().map(move |one| ([("objective", one.name.as_str())], value(one)))
        };
        let missed = all(|one| f64::from(u8::from(one.state() == ObjectiveState::Missed)));
        family(encoder, "objective_missed", "1 = the objective is missed", MetricType::Gauge, missed)?;
        let value = all(|one| one.value_ns as f64 / NS_PER_S);
        let help = "What the objective's part of the updates took at most; 0 = nothing was measured";
        family(encoder, "objective_seconds", help, MetricType::Gauge, value)?;
        let limit = all(|one| one.limit_ns as f64 / NS_PER_S);
        family(encoder, "objective_limit_seconds", "The objective's limit", MetricType::Gauge, limit)
    }

    /// Nothing for a node that is alone.
    fn encode_cluster(&self, encoder: &mut DescriptorEncoder<'_>, node: &Node) -> fmt::Result {
        let seen = cluster::cluster(node);
        if seen.role() == Role::Single {
            return Ok(());
        }
        let source = seen.source.clone().unwrap_or_default();
        let lag_ticks = if seen.role() == Role::Standby { source.lag_ticks } else { 0 };
        let gauges = [
            ("replica_role", "What the node is: 2 primary, 3 standby", f64::from(seen.role)),
            ("replica_term", "The term of the primary, or the latest accepted", seen.term as f64),
            ("replica_later_term", "A later term that a peer has heard of; 0 = none", seen.later_term as f64),
            ("replica_level", "1 = all rows are here", f64::from(u8::from(seen.level))),
            ("replica_primary_tail", "End of the primary's log as last told", seen.tail as f64),
            (
                "replica_lag_ticks",
                "Updates that this node lacked when the primary last told",
                lag_ticks as f64,
            ),
            (
                "replica_lag_seconds",
                "All that the primary had published so long ago is here; 0 = not known",
                source.lag_ns as f64 / NS_PER_S,
            ),
            ("replica_connected", "1 = connected to the primary", f64::from(u8::from(source.connected))),
        ];
        for (name, help, value) in gauges {
            family(encoder, name, help, MetricType::Gauge, [([], value)])?;
        }
        let own = seen.counters.iter().chain(&source.counters);
        let events = own.map(|(event, value)| ([("event", event.as_str())], *value as f64));
        family(encoder, "replica_events", "What happened, by event", MetricType::Counter, events)?;
        let peers = || seen.peers.iter().map(|peer| (&peer.name, peer));
        let connected =
            peers().map(|(name, peer)| ([("peer", name.as_str())], u8::from(peer.connected).into()));
        let help = "1 = the standby is connected, and was taken";
        family(encoder, "replica_peer_connected", help, MetricType::Gauge, connected)?;
        let level = peers().map(|(name, peer)| ([("peer", name.as_str())], u8::from(peer.level).into()));
        family(encoder, "replica_peer_level", "1 = the standby has all rows", MetricType::Gauge, level)?;
        let lags = peers().map(|(name, peer)| ([("peer", name.as_str())], peer.lag_ticks as f64));
        let help = "Updates that the standby has not acknowledged";
        family(encoder, "replica_peer_lag_ticks", help, MetricType::Gauge, lags)?;
        let lags = peers().map(|(name, peer)| ([("peer", name.as_str())], peer.lag_ns as f64 / NS_PER_S));
        let help = "How long the oldest update that the standby has not acknowledged has been readable here";
        family(encoder, "replica_peer_lag_seconds", help, MetricType::Gauge, lags)?;
        let headroom = peers().map(|(name, peer)| ([("peer", name.as_str())], peer.headroom_ticks as f64));
        let help = "Updates until the log goes past what the standby has acknowledged";
        family(encoder, "replica_peer_log_headroom_ticks", help, MetricType::Gauge, headroom)?;
        let events = peers().flat_map(|(name, peer)| {
            peer.counters.iter().map(move |(event, value)| {
                ([("peer", name.as_str()), ("event", event.as_str())], *value as f64)
            })
        });
        let help = "What happened with a standby, by event";
        family(encoder, "replica_peer_events", help, MetricType::Counter, events)
    }

    /// Nothing for a node that traces no calls.
    fn encode_spans(&self, encoder: &mut DescriptorEncoder<'_>, node: &Node) -> fmt::Result {
        if node.config.traces.is_none() {
            return Ok(());
        }
        let spans = node.spans.entries();
        let spans = spans.iter().map(|(outcome, count)| ([("outcome", *outcome)], *count as f64));
        family(encoder, "trace_spans", "What became of the traces of calls", MetricType::Counter, spans)
    }

    fn encode_latencies(&self, encoder: &mut DescriptorEncoder<'_>, node: &Node) -> fmt::Result {
        let all: Vec<(Scope, String, Counts)> = latency::counts(node)
            .into_iter()
            .map(|(series, counts)| (series.scope, stage_name(series.stage.into()), counts))
            .collect();
        let of = |scope: fn(&Scope) -> Option<&str>| {
            all.iter().filter_map(move |(of, stage, counts)| Some((scope(of)?, stage.as_str(), counts)))
        };
        let of_node = || of(|scope| matches!(scope, Scope::Node).then_some(""));
        histograms(
            encoder,
            "latency_seconds",
            "Time that updates took, by stage",
            of_node().map(|(_, stage, counts)| ([("stage", stage)], counts)),
        )?;
        let negative = of_node().map(|(_, stage, counts)| ([("stage", stage)], counts.negative as f64));
        let help = "Updates whose stamps say that they arrived before they were sent";
        family(encoder, "latency_negative", help, MetricType::Counter, negative)?;
        histograms(
            encoder,
            "feed_latency_seconds",
            "Time that updates took, by feed and stage",
            of(|scope| if let Scope::Feed(name) = scope { Some(name) } else { None })
                .map(|(feed, stage, counts)| ([("feed", feed), ("stage", stage)], counts)),
        )?;
        histograms(
            encoder,
            "worker_latency_seconds",
            "Time that updates took, by worker and stage",
            of(|scope| if let Scope::Worker(name) = scope { Some(name) } else { None })
                .map(|(worker, stage, counts)| ([("worker", worker), ("stage", stage)], counts)),
        )?;
        let help = "Time from an update's being readable here to its acknowledgement, by standby";
        histograms(
            encoder,
            "replica_peer_acknowledged_seconds",
            help,
            of(|scope| if let Scope::Peer(name) = scope { Some(name) } else { None })
                .map(|(peer, _, counts)| ([("peer", peer)], counts)),
        )
    }
}

/// A family of histograms, which come with their labels.
fn histograms<'l, const N: usize, I: Iterator<Item = (Labels<'l, N>, &'l Counts)>>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: I,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, counts) in all {
        encode_histogram(&mut metric, labels, counts)?;
    }
    Ok(())
}

fn encode_histogram<const N: usize>(
    metric: &mut MetricEncoder<'_>,
    labels: Labels<'_, N>,
    counts: &Counts,
) -> fmt::Result {
    let histogram = &counts.hdr();
    let mut buckets: Vec<(f64, u64)> =
        BUCKETS_NS.iter().map(|end_ns| (*end_ns as f64 / NS_PER_S, 0)).collect();
    buckets.push((f64::INFINITY, 0));
    // A place of the histogram counts for the bucket in which it begins.
    for place in histogram.iter_recorded() {
        let value_ns = histogram.lowest_equivalent(place.value_iterated_to());
        let bucket = BUCKETS_NS.partition_point(|end_ns| *end_ns < value_ns);
        buckets[bucket].1 += place.count_at_value();
    }
    let sum = if histogram.is_empty() { 0.0 } else { histogram.mean() * histogram.len() as f64 / NS_PER_S };
    let mut one = metric.encode_family(&labels)?;
    one.encode_histogram::<[(&str, &str); 0]>(sum, histogram.len(), &buckets, None)
}
