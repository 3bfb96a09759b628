//! The `tickplane` command.

use clap::{Parser, Subcommand};
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
}

fn main() -> ExitCode {
    let Command::Exchange(args) = Tickplane::parse().command;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).expect("SIGINT and SIGTERM may be handled");
    }
    match exchange::run(&args, &stop) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tickplane exchange: {error}");
            ExitCode::FAILURE
        }
    }
}
