//! `tickplane status`: what the node is doing.

use super::{ClientError, ServerArgs, cluster, reason_name};
use crate::objective::state_name;
use crate::proto::cluster_client::ClusterClient;
use crate::proto::feeds_client::FeedsClient;
use crate::proto::node_client::NodeClient;
use crate::proto::telemetry_client::TelemetryClient;
use crate::proto::{
    ClusterGetRequest, ClusterGetResponse, Feed, FeedCondition, FeedsListRequest, GetLatencyRequest,
    GetStatusRequest, GetStatusResponse, Objective, Role, Stage, StageLatency,
};
use serde_json::{Value, json};
use std::io::{BufWriter, Write, stdout};

const EXAMPLES: &str = "\
Examples:
  The node, its ports, feeds, lines and latencies:
      tickplane status

  How many messages were lost for good:
      tickplane status --json | jq '.feeds[].missing'";

/// Show what the node is doing
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// One JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

/// Everything that a node says of itself.
pub struct Overview {
    pub node: GetStatusResponse,
    pub cluster: ClusterGetResponse,
    pub feeds: Vec<Feed>,
    pub latencies: Vec<StageLatency>,
}

pub async fn overview(server: &ServerArgs) -> Result<Overview, ClientError> {
    let channel = server.connect().await?;
    let node = NodeClient::new(channel.clone()).get_status(GetStatusRequest {}).await?.into_inner();
    let feeds = FeedsClient::new(channel.clone()).list(FeedsListRequest {}).await?.into_inner().feeds;
    let cluster = ClusterClient::new(channel.clone()).get(ClusterGetRequest {}).await?.into_inner();
    let request = GetLatencyRequest::default();
    let latencies = TelemetryClient::new(channel).get_latency(request).await?.into_inner().stages;
    Ok(Overview { node, cluster, feeds, latencies })
}

pub async fn run(args: &StatusArgs) -> Result<(), ClientError> {
    let overview = overview(&args.server).await?;
    let mut out = BufWriter::new(stdout().lock());
    if args.json {
        writeln!(out, "{}", json_of(&overview))?;
    } else {
        print(&overview, &mut out)?;
    }
    Ok(out.flush()?)
}

pub(crate) fn stage_name(stage: i32) -> String {
    let stage = Stage::try_from(stage).unwrap_or(Stage::Unspecified);
    stage.as_str_name().trim_start_matches("STAGE_").to_lowercase()
}

pub(crate) fn condition_name(condition: i32) -> String {
    let condition = FeedCondition::try_from(condition).unwrap_or(FeedCondition::Unspecified);
    condition.as_str_name().trim_start_matches("FEED_CONDITION_").to_lowercase()
}

fn json_of(overview: &Overview) -> Value {
    let node = &overview.node;
    let region = node.region.clone().unwrap_or_default();
    let worker = node.worker.clone().unwrap_or_default();
    let ports = node.ports.iter().map(|port| {
        json!({
            "name": port.name, "kind": port.kind, "device": port.device, "rx_frames_per_s": port.rx_frames_per_s,
            "counters": port.counters,
        })
    });
    let feeds = overview.feeds.iter().map(|feed| {
        let lines = feed.lines.iter().map(|line| {
            json!({
                "name": line.name, "port": line.port, "group": format!("{}:{}", line.group, line.udp_port),
                "source": line.source, "silent": line.silent, "packets_per_s": line.packets_per_s,
                "next_sequence": line.next_sequence, "last_received_ns": line.last_received_ns,
                "counters": line.counters,
            })
        });
        json!({
            "name": feed.name, "venue": feed.venue, "protocol": feed.protocol,
            "condition": condition_name(feed.condition), "reason": reason_name(feed.reason),
            "session": feed.session, "day": feed.day, "next_sequence": feed.next_sequence,
            "messages": feed.messages, "messages_per_s": feed.messages_per_s, "missing": feed.missing,
            "gaps": feed.gaps, "ticks": feed.ticks, "ticks_per_s": feed.ticks_per_s, "counters": feed.counters,
            "lines": lines.collect::<Vec<_>>(),
        })
    });
    let latencies = overview.latencies.iter().map(|stage| {
        json!({
            "stage": stage_name(stage.stage), "count": stage.count, "negative_count": stage.negative_count,
            "p50_ns": stage.p50_ns, "p90_ns": stage.p90_ns, "p99_ns": stage.p99_ns, "p99_9_ns": stage.p99_9_ns,
            "p99_99_ns": stage.p99_99_ns, "max_ns": stage.max_ns,
        })
    });
    json!({
        "node": node.node, "version": node.version, "uptime_ns": node.uptime_ns,
        "region": {
            "path": region.path, "generation": region.generation, "bytes": region.bytes,
            "instruments": region.instruments, "instruments_max": region.instruments_max,
            "log_ticks": region.log_ticks, "tail": region.tail, "valid_for_ns": region.valid_for_ns,
        },
        "worker": { "core": worker.core, "idle": worker.idle, "counters": worker.counters },
        "role": cluster::role_name(overview.cluster.role), "term": overview.cluster.term,
        "lag_ticks": cluster::lag_ticks(&overview.cluster),
        "objectives": node.objectives.iter().map(objective_json).collect::<Vec<_>>(),
        "subscriptions": node.subscriptions, "subscriptions_max": node.subscriptions_max,
        "delivered": node.delivered, "conflated": node.conflated,
        "ports": ports.collect::<Vec<_>>(), "feeds": feeds.collect::<Vec<_>>(),
        "latencies": latencies.collect::<Vec<_>>(),
    })
}

fn objective_json(objective: &Objective) -> Value {
    json!({
        "name": objective.name, "stage": stage_name(objective.stage), "feed": objective.feed,
        "quantile": objective.quantile, "limit_ns": objective.limit_ns, "over_s": objective.over_s,
        "state": state_name(objective.state()), "value_ns": objective.value_ns, "count": objective.count,
        "since_ns": objective.since_ns,
    })
}

/// A duration with the unit in which it is short.
pub(crate) fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

fn print(overview: &Overview, out: &mut impl Write) -> std::io::Result<()> {
    let node = &overview.node;
    let region = node.region.clone().unwrap_or_default();
    let valid = match region.valid_for_ns {
        valid_for_ns @ 1.. => format!("valid for {}", duration(valid_for_ns as u64)),
        _ if overview.cluster.role() == Role::Standby => {
            "NOT VALID: the primary does not vouch for it".to_owned()
        }
        _ => "NOT VALID: the worker is gone".to_owned(),
    };
    writeln!(out, "node {} {}, up {}", node.node, node.version, duration(node.uptime_ns))?;
    writeln!(
        out,
        "cache {}: {} of {} instruments, {} updates, {valid}",
        region.path, region.instruments, region.instruments_max, region.tail
    )?;
    if overview.cluster.role() != Role::Single {
        writeln!(out, "{}", cluster::summary(&overview.cluster))?;
    }
    writeln!(
        out,
        "subscriptions {} of {}: {} updates delivered, {} conflated",
        node.subscriptions, node.subscriptions_max, node.delivered, node.conflated
    )?;
    for objective in &node.objectives {
        writeln!(
            out,
            "objective {}: {}, {} of at most {} ({} updates in {} s)",
            objective.name,
            state_name(objective.state()).to_uppercase(),
            duration(objective.value_ns),
            duration(objective.limit_ns),
            objective.count,
            objective.over_s
        )?;
    }
    for port in &node.ports {
        writeln!(
            out,
            "\nport {} ({} {}): {} frames, {:.0} a second, {} missed, {} oversized",
            port.name,
            port.kind,
            port.device,
            port.rx_frames,
            port.rx_frames_per_s,
            port.missed,
            port.oversized
        )?;
    }
    for feed in &overview.feeds {
        writeln!(
            out,
            "\nfeed {} ({}): {} {}  session {} {}",
            feed.name,
            feed.protocol,
            condition_name(feed.condition).to_uppercase(),
            reason_name(feed.reason),
            feed.session,
            feed.day
        )?;
        writeln!(
            out,
            "  next {}, {:.0} messages a second, {} gaps, {} messages missing, {} updates",
            feed.next_sequence, feed.messages_per_s, feed.gaps, feed.missing, feed.ticks
        )?;
        for line in &feed.lines {
            let silent = if line.silent { "  SILENT" } else { "" };
            writeln!(
                out,
                "  line {:<4} {:>21}  next {:>12}  {:>8} packets  {:>8} duplicates  {:>6} holes{silent}",
                line.name,
                format!("{}:{}", line.group, line.udp_port),
                line.next_sequence,
                line.packets,
                line.duplicates,
                line.gaps
            )?;
        }
    }
    writeln!(
        out,
        "\n{:<24} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "LATENCY", "UPDATES", "p50", "p90", "p99", "p99.9", "MAX"
    )?;
    for stage in &overview.latencies {
        writeln!(
            out,
            "{:<24} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
            stage_name(stage.stage).replace("_to_", " → "),
            stage.count,
            duration(stage.p50_ns),
            duration(stage.p90_ns),
            duration(stage.p99_ns),
            duration(stage.p99_9_ns),
            duration(stage.max_ns)
        )?;
    }
    Ok(())
}
