//! `Feeds`: every feed with its lines.

use super::rows::{condition, feed_reason};
use crate::access::Caller;
use crate::config::FeedConfig;
use crate::node::{Node, session_names};
use crate::proto::feeds_server::Feeds as Service;
use crate::proto::{Feed, FeedsListRequest, FeedsListResponse, Line};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct Feeds {
    node: Arc<Node>,
}

impl Feeds {
    pub fn new(node: Arc<Node>) -> Feeds {
        Feeds { node }
    }
}

fn counters(entries: impl IntoIterator<Item = (&'static str, u64)>) -> impl Iterator<Item = (String, u64)> {
    entries.into_iter().map(|(name, value)| (name.to_owned(), value))
}

fn feed(node: &Node, index: usize, config: &FeedConfig) -> Feed {
    let telemetry = &node.telemetry.feeds[index];
    let state = node.reader.feed(index as u16);
    let (session, day) = session_names(state.session);
    Feed {
        name: config.name.clone(),
        venue: config.venue.clone(),
        protocol: config.protocol.name().to_owned(),
        condition: condition(state.condition).into(),
        reason: feed_reason(state.reason).into(),
        session,
        day,
        next_sequence: telemetry.lines.next_sequence.get(),
        messages: telemetry.lines.messages.get(),
        messages_per_s: node.per_s(&[&config.name, "messages"]),
        missing: telemetry.lines.missing.get(),
        gaps: telemetry.lines.gaps.get(),
        // Before the first session nothing is proven, and nothing is there.
        proven_from: if state.session.is_some() { state.proven_from } else { 0 },
        ticks: telemetry.decoder.ticks.get(),
        ticks_per_s: node.per_s(&[&config.name, "ticks"]),
        counters: counters(telemetry.decoder.entries()).chain(counters(telemetry.lines.entries())).collect(),
        lines: (0..config.lines.len()).map(|line_index| line(node, index, config, line_index)).collect(),
        orders_max: if config.protocol.keeps_orders() { config.orders_max as u64 } else { 0 },
        held_packets_max: config.held_packets as u64,
    }
}

fn line(node: &Node, feed_index: usize, feed: &FeedConfig, index: usize) -> Line {
    let config = &feed.lines[index];
    let line = &node.telemetry.feeds[feed_index].lines.lines[index];
    let last_ns = line.last_packet_ns.get();
    Line {
        name: config.name.clone(),
        port: config.port.clone(),
        group: config.group.ip().to_string(),
        udp_port: config.group.port().into(),
        source: config.source.map(|source| source.to_string()).unwrap_or_default(),
        silent: line.silent.get() == 1,
        packets: line.packets.get(),
        packets_per_s: node.per_s(&[&feed.name, &config.name, "packets"]),
        next_sequence: match line.last_sequence.get() {
            0 => 0,
            last => last + 1,
        },
        gaps: line.gaps.get(),
        duplicates: line.duplicates.get(),
        last_received_ns: match last_ns {
            0 => 0,
            last_ns => node.unix_ns().saturating_sub(node.now_ns().saturating_sub(last_ns)),
        },
        counters: counters(line.entries()).collect(),
    }
}

pub fn all(node: &Node) -> Vec<Feed> {
    node.config.feeds.iter().enumerate().map(|(index, config)| feed(node, index, config)).collect()
}

#[tonic::async_trait]
impl Service for Feeds {
    async fn list(&self, request: Request<FeedsListRequest>) -> Result<Response<FeedsListResponse>, Status> {
        let caller = Caller::of(&request)?;
        let rows = &caller.entitlement().rows;
        let seen = all(&self.node).into_iter().zip(0..).filter(|(_, feed)| rows.has_feed(*feed));
        let feeds = seen.map(|(feed, _)| feed).collect();
        Ok(Response::new(FeedsListResponse { feeds, at_ns: self.node.unix_ns() }))
    }
}
