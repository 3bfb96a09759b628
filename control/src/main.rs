//! The `tickplane` command.

use clap::{Parser, Subcommand};
use control::client::{
    self, audit, clients, cluster, config, get, group, latency, quota, status, subscription, verify, watch,
};
use control::decode::{self, DecodeArgs};
use control::demo::{self, DemoArgs};
use control::doctor::{self, DoctorArgs};
use control::exchange::{self, ExchangeArgs};
use control::replay::{self, ReplayArgs};
use control::runner::{self, RunArgs};
use control::stop;
use control::top::{self, TopArgs};
use std::process::ExitCode;

/// A market-data caching appliance.
#[derive(Parser)]
///
/// Without a subcommand it shows itself: see `tickplane demo --help`.
#[command(version)]
struct Tickplane {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Run(RunArgs),
    Exchange(Box<ExchangeArgs>),
    Replay(Box<ReplayArgs>),
    Decode(DecodeArgs),
    Get(get::GetArgs),
    Watch(watch::WatchArgs),
    Status(status::StatusArgs),
    Subscription(subscription::SubscriptionArgs),
    Latency(latency::LatencyArgs),
    Audit(audit::AuditArgs),
    Client(clients::ClientArgs),
    Cluster(cluster::ClusterArgs),
    Config(config::ConfigArgs),
    Promote(group::PromoteArgs),
    #[command(name = "handover")]
    HandOver(group::HandOverArgs),
    Peer(group::PeerArgs),
    Quota(quota::QuotaArgs),
    Top(TopArgs),
    Verify(verify::VerifyArgs),
    Demo(DemoArgs),
    Doctor(DoctorArgs),
}

fn main() -> ExitCode {
    let command = match Tickplane::try_parse() {
        Ok(parsed) => parsed.command.unwrap_or_else(default_command),
        Err(error) => {
            // Help goes to the standard output and is no error; clap's own status for one, 2, says other things here.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let (name, result) = run(command);
    match result {
        Ok(status) => status,
        Err(error) => {
            eprintln!("tickplane {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The demo as it is without options.
fn default_command() -> Command {
    Tickplane::parse_from(["tickplane", "demo"]).command.expect("a subcommand is given")
}

fn run(command: Command) -> (&'static str, Result<ExitCode, String>) {
    let text = |error: client::ClientError| error.to_string();
    let (name, result) = match command {
        Command::Doctor(args) => {
            return ("doctor", doctor::run(&args).map(ExitCode::from).map_err(|error| error.to_string()));
        }
        Command::Run(args) => {
            ("run", runner::run(&args, &stop::on_signals()).map_err(|error| error.to_string()))
        }
        Command::Exchange(args) => {
            let result = exchange::run(&args, &stop::on_signals());
            ("exchange", result.map(drop).map_err(|error| error.to_string()))
        }
        Command::Replay(args) => {
            let result = replay::run(&args, &stop::on_signals());
            ("replay", result.map(drop).map_err(|error| error.to_string()))
        }
        Command::Decode(args) => ("decode", decode::run(&args).map_err(|error| error.to_string())),
        Command::Get(args) => ("get", client::block_on(get::run(&args)).map_err(text)),
        Command::Watch(args) => {
            let stop = stop::on_signals();
            ("watch", client::block_on(watch::run(&args, &stop)).map_err(text))
        }
        Command::Subscription(args) => {
            let stop = stop::on_signals();
            ("subscription", client::block_on(subscription::run(&args, &stop)).map_err(text))
        }
        Command::Status(args) => ("status", client::block_on(status::run(&args)).map_err(text)),
        Command::Latency(args) => {
            let stop = stop::on_signals();
            ("latency", client::block_on(latency::run(&args, &stop)).map_err(text))
        }
        Command::Audit(args) => {
            let stop = stop::on_signals();
            ("audit", client::block_on(audit::run(&args, &stop)).map_err(text))
        }
        Command::Client(args) => ("client", client::block_on(clients::run(&args)).map_err(text)),
        Command::Cluster(args) => {
            let stop = stop::on_signals();
            ("cluster", client::block_on(cluster::run(&args, &stop)).map_err(text))
        }
        Command::Config(args) => ("config", client::block_on(config::run(&args)).map_err(text)),
        Command::Promote(args) => ("promote", client::block_on(group::promote(&args)).map_err(text)),
        Command::HandOver(args) => ("handover", client::block_on(group::hand_over(&args)).map_err(text)),
        Command::Peer(args) => ("peer", client::block_on(group::peer(&args)).map_err(text)),
        Command::Quota(args) => ("quota", client::block_on(quota::run(&args)).map_err(text)),
        Command::Top(args) => {
            let stop = stop::on_signals();
            ("top", client::block_on(top::run(&args, &stop)).map_err(text))
        }
        Command::Demo(args) => {
            ("demo", demo::run(&args, &stop::on_signals()).map_err(|error| error.to_string()))
        }
        Command::Verify(args) => ("verify", client::block_on(verify::run(&args)).map_err(text)),
    };
    (name, result.map(|()| ExitCode::SUCCESS))
}
