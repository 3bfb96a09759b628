//! `tickplane cluster`: the node among those with the same cache.

use super::status::duration;
use super::{ClientError, ServerArgs};
use crate::proto::cluster_client::ClusterClient;
use crate::proto::{ClusterGetRequest, ClusterGetResponse, Peer, Role, Source};
use serde_json::{Value, json};
use std::io::{BufWriter, Write, stdout};

const EXAMPLES: &str = "\
Examples:
  A primary with its standbys, or a standby with its primary:
      tickplane cluster
      tickplane cluster --server http://127.0.0.1:50052

  How far the standbys are behind:
      tickplane cluster --json | jq '.peers[].lag_ticks'";

/// Show the node's role, and the nodes it copies to or from
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ClusterArgs {
    /// One JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

pub async fn run(args: &ClusterArgs) -> Result<(), ClientError> {
    let mut client = ClusterClient::new(args.server.connect().await?);
    let seen = client.get(ClusterGetRequest {}).await?.into_inner();
    let mut out = BufWriter::new(stdout().lock());
    match args.json {
        true => writeln!(out, "{}", json_of(&seen))?,
        false => print(&seen, &mut out)?,
    }
    Ok(out.flush()?)
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
        Some(Source { address, connected, lag_ticks, .. }) => {
            let connected = if *connected { "connected" } else { "NOT CONNECTED" };
            let level = if seen.level { "level" } else { "NOT LEVEL" };
            format!(
                "{role} of {address}, term {term}: {connected}, {level}, {lag_ticks} updates behind{later}"
            )
        }
        None => {
            let connected = seen.peers.iter().filter(|peer| peer.connected).count();
            format!("{role}, term {term}: {connected} standbys, {} updates behind{later}", lag_ticks(seen))
        }
    }
}

fn json_of(seen: &ClusterGetResponse) -> Value {
    let peer = |peer: &Peer| {
        json!({
            "address": peer.address, "connected": peer.connected, "level": peer.level,
            "acknowledged": peer.acknowledged, "lag_ticks": peer.lag_ticks, "error": peer.error,
            "counters": peer.counters,
        })
    };
    let source = |source: &Source| {
        json!({
            "address": source.address, "connected": source.connected, "tail": source.tail,
            "lag_ticks": source.lag_ticks, "error": source.error, "counters": source.counters,
        })
    };
    json!({
        "node": seen.node, "role": role_name(seen.role), "term": seen.term, "later_term": seen.later_term,
        "position": seen.position, "tail": seen.tail, "level": seen.level, "valid_for_ns": seen.valid_for_ns,
        "counters": seen.counters, "peers": seen.peers.iter().map(peer).collect::<Vec<_>>(),
        "source": seen.source.as_ref().map(source),
    })
}

fn print(seen: &ClusterGetResponse, out: &mut impl Write) -> std::io::Result<()> {
    let valid = match seen.valid_for_ns {
        valid_for_ns @ 1.. => format!("valid for {}", duration(valid_for_ns as u64)),
        _ => "NOT VALID".to_owned(),
    };
    writeln!(out, "node {}: {}", seen.node, summary(seen))?;
    writeln!(out, "cache: {} of {} updates, {valid}", seen.position, seen.tail)?;
    if let Some(source) = &seen.source {
        print_end("primary", &source.address, &source.error, &source.counters, out)?;
    }
    for peer in &seen.peers {
        let state = match (peer.connected, peer.level) {
            (false, _) => "NOT CONNECTED".to_owned(),
            (true, false) => format!("NOT LEVEL, {} updates behind", peer.lag_ticks),
            (true, true) => format!("level, {} updates behind", peer.lag_ticks),
        };
        let title = format!("{}: {state}", peer.address);
        print_end("standby", &title, &peer.error, &peer.counters, out)?;
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
