//! `tickplane cluster`: the node among those with the same cache.

use super::status::duration;
use super::{ClientError, ServerArgs};
use crate::proto::cluster_client::ClusterClient;
use crate::proto::{ClusterGetRequest, ClusterGetResponse, Peer, Role, Source};
use crate::stop;
use serde_json::{Value, json};
use std::io::{BufWriter, IsTerminal, Write, stdout};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How often `--watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Clears the terminal, and begins at its top (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

const EXAMPLES: &str = "\
Examples:
  A primary with its standbys, or a standby with its primary:
      tickplane cluster
      tickplane cluster --server http://127.0.0.1:50052

  Live, once a second:
      tickplane cluster --watch

  How far the standbys are behind:
      tickplane cluster --json | jq '.peers[].lag_ticks'";

/// Show the node's role, and the nodes it copies to or from
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ClusterArgs {
    /// One JSON object a look
    #[arg(long)]
    pub json: bool,

    /// Look again every second, until ^C
    #[arg(long)]
    pub watch: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

pub async fn run(args: &ClusterArgs, stop: &AtomicBool) -> Result<(), ClientError> {
    let mut client = ClusterClient::new(args.server.connect().await?);
    let clear = if args.watch && stdout().is_terminal() { CLEAR } else { "" };
    loop {
        let seen = client.get(ClusterGetRequest {}).await?.into_inner();
        let mut out = BufWriter::new(stdout().lock());
        match args.json {
            true => writeln!(out, "{}", json_of(&seen))?,
            false => {
                write!(out, "{clear}")?;
                print(&seen, &mut out)?;
            }
        }
        out.flush()?;
        if !args.watch {
            return Ok(());
        }
        tokio::select! {
            () = stop::requested(stop) => return Ok(()),
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
    }
}

/// single, primary or standby.
pub(super) fn role_name(role: i32) -> String {
    let role = Role::try_from(role).unwrap_or(Role::Unspecified);
    role.as_str_name().trim_start_matches("ROLE_").to_lowercase()
}

/// How far a standby is behind its primary; of a primary, how far the last of its connected standbys is.
pub(super) fn lag_ticks(seen: &ClusterGetResponse) -> u64 {
    let connected = seen.peers.iter().filter(|peer| peer.connected);
    match &seen.source {
        Some(source) => source.lag_ticks,
        None => connected.map(|peer| peer.lag_ticks).max().unwrap_or(0),
    }
}

/// One line.
pub(super) fn summary(seen: &ClusterGetResponse) -> String {
    let (role, term) = (role_name(seen.role), seen.term);
    let later = match seen.later_term {
        0 => String::new(),
        later => format!(", A LATER TERM IS KNOWN: {later}"),
    };
    match &seen.source {
        Some(Source { name, link, connected, lag_ticks, .. }) => {
            let connected = if *connected { "connected" } else { "NOT CONNECTED" };
            let level = if seen.level { "level" } else { "NOT LEVEL" };
            format!(
                "{role} of {name} by {link}, term {term}: {connected}, {level}, {lag_ticks} updates behind{later}"
            )
        }
        None => {
            let connected = seen.peers.iter().filter(|peer| peer.connected).count();
            format!("{role}, term {term}: {connected} standbys, {} updates behind{later}", lag_ticks(seen))
        }
    }
}

/// Whether a node of the group may be the primary.
pub(super) fn may_lead(seen: &ClusterGetResponse, name: &str) -> bool {
    seen.members.iter().any(|member| member.name == name && member.may_lead)
}

fn json_of(seen: &ClusterGetResponse) -> Value {
    let peer = |peer: &Peer| {
        json!({
            "name": peer.name, "address": peer.address, "link": peer.link, "connected": peer.connected, "level": peer.level,
            "whole": peer.whole, "acknowledged": peer.acknowledged, "lag_ticks": peer.lag_ticks, "lag_ns": peer.lag_ns,
            "headroom_ticks": peer.headroom_ticks, "error": peer.error,
            "counters": peer.counters,
            "published_to_acknowledged": peer.published_to_acknowledged.as_ref().map(|latency| json!({
                "count": latency.count, "p50_ns": latency.p50_ns, "p99_ns": latency.p99_ns, "p99_9_ns": latency.p99_9_ns,
                "max_ns": latency.max_ns,
            })),
        })
    };
    let source = |source: &Source| {
        json!({
            "name": source.name, "address": source.address, "link": source.link, "connected": source.connected,
            "tail": source.tail,
            "lag_ticks": source.lag_ticks, "lag_ns": source.lag_ns, "error": source.error, "counters": source.counters,
        })
    };
    json!({
        "node": seen.node, "role": role_name(seen.role), "term": seen.term, "later_term": seen.later_term,
        "position": seen.position, "tail": seen.tail, "level": seen.level, "valid_for_ns": seen.valid_for_ns,
        "counters": seen.counters, "peers": seen.peers.iter().map(peer).collect::<Vec<_>>(),
        "source": seen.source.as_ref().map(source),
        "members": seen.members.iter().map(|member| json!({ "name": member.name, "address": member.address, "may_lead": member.may_lead }))
            .collect::<Vec<_>>(),
    })
}

fn print(seen: &ClusterGetResponse, out: &mut impl Write) -> std::io::Result<()> {
    let valid = match seen.valid_for_ns {
        valid_for_ns @ 1.. => format!("valid for {}", duration(valid_for_ns as u64)),
        _ => "NOT VALID".to_owned(),
    };
    writeln!(out, "node {}: {}", seen.node, summary(seen))?;
    writeln!(out, "cache: {} of {} updates, {valid}", seen.position, seen.tail)?;
    if let Some(source) = seen.source.as_ref().filter(|source| !source.name.is_empty()) {
        let title = format!("{} at {} by {}", source.name, source.address, source.link);
        print_end("primary", &title, &source.error, &source.counters, out)?;
    }
    for peer in &seen.peers {
        let state = match (peer.connected, peer.level) {
            (false, _) => "NOT CONNECTED".to_owned(),
            (true, false) => format!("NOT LEVEL, {} updates behind", peer.lag_ticks),
            (true, true) if !peer.whole && may_lead(seen, &peer.name) => {
                format!("level, {} updates behind, could lead with a declared loss only", peer.lag_ticks)
            }
            (true, true) => format!("level, {} updates behind", peer.lag_ticks),
        };
        let title = match peer.address.as_str() {
            "" => format!("{}: {state}", peer.name),
            address => format!("{} at {address} by {}: {state}", peer.name, peer.link),
        };
        print_end("standby", &title, &peer.error, &peer.counters, out)?;
        if let Some(latency) = peer.published_to_acknowledged.as_ref().filter(|latency| latency.count != 0) {
            writeln!(
                out,
                "  published → acknowledged: p50 {}  p99 {}  p99.9 {}  max {}",
                duration(latency.p50_ns),
                duration(latency.p99_ns),
                duration(latency.p99_9_ns),
                duration(latency.max_ns)
            )?;
        }
    }
    Ok(())
}

fn print_end(
    what: &str,
    title: &str,
    error: &str,
    counters: &std::collections::BTreeMap<String, u64>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    writeln!(out, "\n{what} {title}")?;
    if !error.is_empty() {
        writeln!(out, "  {error}")?;
    }
    let counted: Vec<String> = counters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    writeln!(out, "  {}", counted.join("  "))
}
