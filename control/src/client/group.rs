//! `tickplane promote`, `handover` and `peer`: what changes a node's place in its group.

use super::cluster::may_lead;
use super::{ClientError, ServerArgs};
use crate::proto::cluster_client::ClusterClient;
use crate::proto::{
    AddPeerRequest, ClusterGetRequest, HandOverRequest, OrderResponse, PromoteRequest, RemovePeerRequest,
};
use serde_json::json;

const PROMOTE_EXAMPLES: &str = "\
Examples:
  The primary is dead; its standby takes its place:
      tickplane promote --server http://127.0.0.1:50052

  The primary answers still, but must be put aside:
      tickplane promote --force --server http://127.0.0.1:50052";

/// Make a standby the primary, where no etcd does it
///
/// Without a third party nobody can tell a dead primary from one that is only not reached: the node refuses while its primary
/// answers, and with --force tells it, if it can be reached, that its time is over. See that it is stopped.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = PROMOTE_EXAMPLES)]
pub struct PromoteArgs {
    /// Even if the primary answers
    #[arg(long)]
    pub force: bool,

    /// One JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

const HAND_OVER_EXAMPLES: &str = "\
Examples:
  The primary is to be upgraded; the standby that lacks least goes on:
      tickplane handover

  A certain one:
      tickplane handover node-b --server http://127.0.0.1:50051";

/// Move the primary's place to a standby, without a gap
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = HAND_OVER_EXAMPLES)]
pub struct HandOverArgs {
    /// The standby's name [default: of the level ones that can go on without a loss, the one that lacks least]
    #[arg(value_name = "NODE")]
    pub to: Option<String>,

    /// One JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

const PEER_EXAMPLES: &str = "\
Examples:
  A fourth node of the group; the same on every other node, and in their files:
      tickplane peer add node-d 127.0.0.1:7403

  One that is gone for good:
      tickplane peer remove node-c";

/// Add or remove a peer of a node, until the node ends
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = PEER_EXAMPLES)]
pub struct PeerArgs {
    #[command(subcommand)]
    pub change: PeerChange,

    /// One JSON object
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum PeerChange {
    /// Let a node connect, and look for the primary there
    Add {
        /// Its `node`
        name: String,
        /// Its `listen`, HOST:PORT; without it it is a copy
        address: Option<String>,
    },
    /// Send a node away
    Remove {
        /// Its `node`
        name: String,
    },
}

fn print(json: bool, done: &str, response: &OrderResponse) {
    match json {
        true => println!("{}", json!({ "done": done, "term": response.term })),
        false => println!("{done}; term {}", response.term),
    }
}

pub async fn promote(args: &PromoteArgs) -> Result<(), ClientError> {
    let mut client = ClusterClient::new(args.server.connect().await?);
    let response = client.promote(PromoteRequest { force: args.force }).await?.into_inner();
    print(args.json, "the node is the primary", &response);
    Ok(())
}

pub async fn hand_over(args: &HandOverArgs) -> Result<(), ClientError> {
    let mut client = ClusterClient::new(args.server.connect().await?);
    let to = match &args.to {
        Some(to) => to.clone(),
        None => {
            let seen = client.get(ClusterGetRequest {}).await?.into_inner();
            let ready = seen.peers.iter().filter(|peer| peer.level && may_lead(&seen, &peer.name));
            let best = ready.min_by_key(|peer| (!peer.whole, peer.lag_ticks));
            best.map(|peer| peer.name.clone()).ok_or_else(|| {
                ClientError::Differs(
                    "no standby could go on: see `tickplane cluster`, and ask the primary".to_owned(),
                )
            })?
        }
    };
    let response = client.hand_over(HandOverRequest { to: to.clone() }).await?.into_inner();
    print(args.json, &format!("{to} is the primary"), &response);
    Ok(())
}

pub async fn peer(args: &PeerArgs) -> Result<(), ClientError> {
    let mut client = ClusterClient::new(args.server.connect().await?);
    let (done, response) = match &args.change {
        PeerChange::Add { name, address } => {
            let address = address.clone().unwrap_or_default();
            let request = AddPeerRequest { name: name.clone(), address };
            (format!("{name} is a peer"), client.add_peer(request).await?)
        }
        PeerChange::Remove { name } => {
            let request = RemovePeerRequest { name: name.clone() };
            (format!("{name} is no peer any more"), client.remove_peer(request).await?)
        }
    };
    print(args.json, &done, &response.into_inner());
    Ok(())
}
