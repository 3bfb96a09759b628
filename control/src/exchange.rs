//! `tickplane exchange`: the simulated exchange on two multicast lines.

mod args;
mod dump;
mod schedule;
mod session;
mod summary;

pub use args::{ExchangeArgs, PerLine};
pub use summary::Summary;

use drivers::interface::{Interface, InterfaceError};
use drivers::udp_sender::{SenderError, UdpSender};
use session::Session;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("--interface: {0}")]
    Interface(#[from] InterfaceError),
    #[error(transparent)]
    Sender(#[from] SenderError),
    #[error("--date {0}")]
    Date(#[from] crate::midnight::DateError),
    #[error("sending failed: {0}; is the interface up, and has it a route for the groups of the lines?")]
    Send(io::Error),
    #[error("--dump {}: {cause}; name a file in a folder that exists and is writable", file.display())]
    Dump { file: PathBuf, cause: io::Error },
    #[error("writing to the standard output: {0}")]
    Output(io::Error),
}

/// Runs the exchange until its flow ends, or until `stop` is set; then ends the session, writes the dump and
/// prints a summary.
pub fn run(args: &ExchangeArgs, stop: &AtomicBool) -> Result<(), ExchangeError> {
    if let Some(file) = &args.dump {
        dump::check(file)?;
    }
    let interface = Interface::find(&args.interface)?;
    let sender = UdpSender::new(&interface, args.hops)?;
    let summary = Session::new(args, sender)?.run(stop)?;
    summary.print(args)
}
