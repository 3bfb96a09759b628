//! `tickplane subscription`: subscriptions that the node keeps.

use super::watch::{Place, Sink};
use super::{ClientError, Connection, RESPONSE_BYTES_MAX, ServerArgs};
use crate::proto::subscriptions_client::SubscriptionsClient;
use crate::proto::{
    BehindPolicy, CreateSubscriptionRequest, DeliveryMode, ListSubscriptionsRequest, ManagedSubscription,
    RowKind, StreamSubscriptionRequest, SubscriptionPlan, SubscriptionRequest, UpdateSubscriptionRequest,
};
use crate::service::{kind_name, kind_named};
use crate::stop;
use serde_json::{Value, json};
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
Examples:
  Every trade and the latest quotes, ten a second, of two symbols:
      tickplane subscription create desk AAPL MSFT --mode trade-safe --max-updates-per-s 10

  For another client, everything of a venue:
      tickplane subscription create all --client risk --venue XNAS

  Have it delivered; go on where the last time ended:
      tickplane subscription stream desk --resume desk.place

  Change it while it delivers, and stop it for a while:
      tickplane subscription update desk 'A*' --mode every-tick
      tickplane subscription pause desk
      tickplane subscription resume desk";

/// Subscriptions that the node keeps: make, change, pause, delete, list and deliver them
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct SubscriptionArgs {
    #[command(subcommand)]
    pub what: What,

    /// One JSON object a line
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum What {
    /// Make one
    Create {
        /// Its name
        id: String,
        /// Whose it is to be [default: the caller's]
        #[arg(long, value_name = "CLIENT")]
        client: Option<String>,
        #[command(flatten)]
        plan: PlanArgs,
    },
    /// Replace what it delivers
    Update {
        id: String,
        /// Only if it is at this revision
        #[arg(long, value_name = "N", default_value_t = 0)]
        revision: u64,
        #[command(flatten)]
        plan: PlanArgs,
    },
    /// Stop what it delivers, until it is resumed
    Pause { id: String },
    /// Go on with what was paused
    Resume { id: String },
    /// End and forget it
    Delete { id: String },
    /// Show one, or all of them
    List {
        id: Option<String>,
        /// Of one client
        #[arg(long, value_name = "CLIENT", conflicts_with = "id")]
        client: Option<String>,
    },
    /// What there is, then every change, until ^C
    Watch {
        /// Of one client
        #[arg(long, value_name = "CLIENT")]
        client: Option<String>,
    },
    /// Have it delivered, until ^C
    Stream {
        id: String,
        /// Begin where this file says that the last time ended, and keep it up to date
        #[arg(long, value_name = "FILE")]
        resume: Option<PathBuf>,
        /// Stop after so many updates
        #[arg(long, value_name = "N")]
        updates: Option<u64>,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Mode {
    /// Every change; the latest values if it does not keep up
    Default,
    /// The latest values
    Conflated,
    /// The latest quotes, and every trade
    TradeSafe,
    /// Every change, or it is told what is missing
    EveryTick,
}

impl From<Mode> for DeliveryMode {
    fn from(mode: Mode) -> DeliveryMode {
        match mode {
            Mode::Default => DeliveryMode::Unspecified,
            Mode::Conflated => DeliveryMode::Conflated,
            Mode::TradeSafe => DeliveryMode::TradeSafe,
            Mode::EveryTick => DeliveryMode::EveryTick,
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// Symbols, or patterns: * stands for any characters, ? for one [default: all]
    #[arg(value_name = "PATTERN")]
    pub patterns: Vec<String>,

    /// Instruments of this venue
    #[arg(long = "venue", value_name = "VENUE")]
    pub venues: Vec<String>,

    /// Instruments of this feed
    #[arg(long = "feed", value_name = "FEED")]
    pub feeds: Vec<String>,

    /// quote, trade, status, definition, implied_quote or contract [default: all]
    #[arg(long = "kind", value_name = "KIND", value_parser = kind_named)]
    pub kinds: Vec<RowKind>,

    /// What is delivered
    #[arg(long, value_enum, default_value = "default")]
    pub mode: Mode,

    /// End the delivery when it fell behind, instead of a gap and an image
    #[arg(long)]
    pub end_behind: bool,

    /// How often a row that is conflated is told at most
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_updates_per_s: u32,
}

impl From<PlanArgs> for SubscriptionPlan {
    fn from(args: PlanArgs) -> SubscriptionPlan {
        let policy = if args.end_behind { BehindPolicy::End } else { BehindPolicy::Unspecified };
        SubscriptionPlan {
            patterns: args.patterns,
            venues: args.venues,
            feeds: args.feeds,
            kinds: args.kinds.into_iter().map(i32::from).collect(),
            mode: DeliveryMode::from(args.mode).into(),
            policy: policy.into(),
            max_updates_per_s: args.max_updates_per_s,
            interval_ms: 0,
        }
    }
}

pub async fn run(args: &SubscriptionArgs, stop: &AtomicBool) -> Result<(), ClientError> {
    let channel = args.server.connect().await?;
    let mut client = SubscriptionsClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let one = |id: &String| SubscriptionRequest { id: id.clone() };
    let shown = match args.what.clone() {
        What::Create { id, client: of, plan } => {
            let plan = Some(plan.into());
            let request = CreateSubscriptionRequest { id, client: of.unwrap_or_default(), plan };
            vec![client.create(request).await?.into_inner()]
        }
        What::Update { id, revision, plan } => {
            let request = UpdateSubscriptionRequest { id, plan: Some(plan.into()), revision };
            vec![client.update(request).await?.into_inner()]
        }
        What::Pause { id } => vec![client.pause(one(&id)).await?.into_inner()],
        What::Resume { id } => vec![client.resume(one(&id)).await?.into_inner()],
        What::Delete { id } => vec![client.delete(one(&id)).await?.into_inner()],
        What::List { id: Some(id), .. } => vec![client.get(one(&id)).await?.into_inner()],
        What::List { id: None, client: of } => {
            let request = ListSubscriptionsRequest { client: of.unwrap_or_default() };
            client.list(request).await?.into_inner().subscriptions
        }
        What::Watch { client: of } => return watch(client, of, args.json, stop).await,
        What::Stream { id, resume, updates } => {
            let place = Place::read(resume)?;
            let request = StreamSubscriptionRequest { id, resume: place.known };
            let responses = client.stream(request).await?.into_inner();
            return Sink::new(args.json, updates, place).take_all(responses, stop).await;
        }
    };
    let mut out = BufWriter::new(stdout().lock());
    if !args.json {
        writeln!(out, "{HEAD}")?;
    }
    for subscription in &shown {
        match args.json {
            true => writeln!(out, "{}", json_of(subscription))?,
            false => writeln!(out, "{}", text(subscription))?,
        }
    }
    Ok(out.flush()?)
}

async fn watch(
    mut client: SubscriptionsClient<Connection>,
    of: Option<String>,
    json: bool,
    stop: &AtomicBool,
) -> Result<(), ClientError> {
    let request = ListSubscriptionsRequest { client: of.unwrap_or_default() };
    let mut events = client.watch(request).await?.into_inner();
    if !json {
        writeln!(stdout(), "{HEAD}")?;
    }
    loop {
        let event = tokio::select! {
            () = stop::requested(stop) => return Ok(()),
            event = events.message() => event?,
        };
        let Some(event) = event else { return Ok(()) };
        let subscription = event.subscription.unwrap_or_default();
        match json {
            true => {
                let mut object = json_of(&subscription);
                object["deleted"] = event.deleted.into();
                writeln!(stdout(), "{object}")?;
            }
            false => {
                let gone = if event.deleted { "  DELETED" } else { "" };
                writeln!(stdout(), "{}{gone}", text(&subscription))?;
            }
        }
    }
}

const HEAD: &str =
    "ID               CLIENT           STATE    MODE         A SECOND  STREAMS  REVISION  WHAT";

fn mode_name(plan: &SubscriptionPlan) -> String {
    match plan.mode() {
        DeliveryMode::Unspecified => "default".to_owned(),
        mode => mode.as_str_name().trim_start_matches("DELIVERY_MODE_").to_lowercase(),
    }
}

fn kind_names(plan: &SubscriptionPlan) -> Vec<String> {
    plan.kinds().map(kind_name).collect()
}

fn text(subscription: &ManagedSubscription) -> String {
    let plan = subscription.plan.clone().unwrap_or_default();
    let rate = match plan.max_updates_per_s {
        0 => "-".to_owned(),
        rate => rate.to_string(),
    };
    let state = if subscription.paused { "paused" } else { "active" };
    let all = [plan.patterns.clone(), plan.venues.clone(), plan.feeds.clone(), kind_names(&plan)].concat();
    let what = if all.is_empty() { "everything".to_owned() } else { all.join(" ") };
    let ManagedSubscription { id, client, streams, revision, .. } = subscription;
    let mode = mode_name(&plan);
    format!("{id:<16} {client:<16} {state:<8} {mode:<12} {rate:>8} {streams:>8} {revision:>9}  {what}")
}

fn json_of(subscription: &ManagedSubscription) -> Value {
    let plan = subscription.plan.clone().unwrap_or_default();
    json!({
        "id": subscription.id, "client": subscription.client, "paused": subscription.paused,
        "patterns": plan.patterns, "venues": plan.venues, "feeds": plan.feeds, "kinds": kind_names(&plan),
        "mode": mode_name(&plan), "end_behind": plan.policy() == BehindPolicy::End,
        "max_updates_per_s": plan.max_updates_per_s, "streams": subscription.streams,
        "revision": subscription.revision, "created_ns": subscription.created_ns,
        "changed_ns": subscription.changed_ns,
    })
}
