//! The `tickplane` command.

use clap::{Parser, Subcommand};
use control::decode::{self, DecodeArgs};
use control::exchange::{self, ExchangeArgs};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A market-data caching appliance.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Tickplane {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Exchange(Box<ExchangeArgs>),
    Decode(DecodeArgs),
}

fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let (name, result) = match Tickplane::parse().command {
        Command::Exchange(args) => {
            handle_signals(&stop);
            ("exchange", exchange::run(&args, &stop).map(drop).map_err(|error| error.to_string()))
        }
        Command::Decode(args) => ("decode", decode::run(&args).map_err(|error| error.to_string())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tickplane {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// From now on SIGINT and SIGTERM ask for an orderly end.
fn handle_signals(stop: &Arc<AtomicBool>) {
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).expect("SIGINT and SIGTERM may be handled");
    }
}
