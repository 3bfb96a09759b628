//! `tickplane replay`: a capture onto an interface again.

mod args;
mod lines;
mod output;
mod pace;
mod progress;
mod session;
mod source;
mod summary;

pub use args::{LineName, ReplayArgs};
pub use pace::Tempo;
pub use summary::{LineSummary, Summary};

use drivers::capture::CaptureError;
use drivers::interface::InterfaceError;
use drivers::udp_sender::SenderError;
use session::Session;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{0}")]
    Capture(#[from] CaptureError),
    #[error("--interface: {0}")]
    Interface(#[from] InterfaceError),
    #[error(transparent)]
    Sender(#[from] SenderError),
    #[error("--to is given {targets} times for {lines} --line: one each, in the same order")]
    Targets { lines: usize, targets: usize },
    #[error("{}: an ITCH file has no frames, so --frames needs a packet capture", .0.display())]
    NoFrames(PathBuf),
    #[error("{}: an ITCH file has neither stamps nor frames to go by: choose --rate or --flat-out", .0.display())]
    NoStamps(PathBuf),
    #[error(
        "{path}: nothing to send in {frames} frames ({reasons}); datagrams that are not multicast go only if --line or \
         --map names them, other frames with --frames alone",
        path = path.display()
    )]
    Nothing { path: PathBuf, frames: u64, reasons: String },
    #[error("the kernel refused every packet, the first: {0}; is the interface up, and do they fit it?")]
    Refused(String),
    #[error("sending failed after {packets} packets: {cause}; is the interface up?")]
    Send { packets: u64, cause: io::Error },
    #[error("writing to the standard output: {0}")]
    Output(io::Error),
}

/// Sends the capture until it ends, or until `stop` is set, and prints a summary. What went wrong with the capture itself,
/// but only after its beginning, is a warning.
pub fn run(args: &ReplayArgs, stop: &AtomicBool) -> Result<Summary, ReplayError> {
    let (lines, targets) = (args.lines.len(), args.to.len());
    if lines > 0 && targets > 0 && lines != targets {
        return Err(ReplayError::Targets { lines, targets });
    }
    let summary = Session::new(args)?.run(stop)?;
    for warning in &summary.warnings {
        eprintln!("tickplane replay: {}: {warning}", args.file.display());
    }
    let text = if args.json { summary.json().to_string() } else { summary.text() };
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ReplayError::Output(error)),
        _ => Ok(summary),
    }
}
