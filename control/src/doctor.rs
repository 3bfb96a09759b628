//! `tickplane doctor`: whether this machine is fit for this configuration.
//!
//! Everything is read from files below a root directory, nothing is changed. `--json` prints one object:
//!
//! ```text
//! {
//!   "config":      "configs/nic-pci.toml",
//!   "root":        "/",
//!   "severity":    "failure",           the worst of the findings: ok, note, warning, failure
//!   "exit_status": 3,
//!   "counts":      { "ok": 12, "note": 9, "warning": 1, "failure": 1 },
//!   "findings": [
//!     {
//!       "id":       "memory.huge_pages",  topic and check; stable
//!       "subject":  null,                 the port or interface, where a check is done for each
//!       "severity": "failure",
//!       "needed":   true,                 false: this configuration does not need it (always a note)
//!       "found":    "0 of 0 pages of 2048 kB are free; 168 MiB are needed",
//!       "why":      "DPDK keeps its packet buffers there.",
//!       "mend":     "echo 84 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"   or null
//!     }
//!   ]
//! }
//! ```
//!
//! Every key is always there. A `mend` is a shell command, or begins with `in the configuration: ` and says what to write there.

mod case;
mod clock;
mod cores;
mod finding;
mod interface;
mod machine;
mod memory;
mod mend;
mod mounts;
mod nic;
mod processor;
mod rdma;
mod recording;
mod report;
mod socket;

pub use case::Case;
pub use finding::{Finding, Severity};
pub use machine::Machine;

use crate::config::{Config, ConfigError};
use crate::runner::read_config;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Exit status: 0 = fit (notes at most), 1 = the doctor itself failed, 2 = warnings, 3 = failures.

--json prints one object: config, root, severity, exit_status, counts (of ok, note, warning,
failure) and findings, each with id, subject, severity, needed, found, why and mend. The subject is
a port or interface, or null; mend is a command (or begins with \"in the configuration: \"), or null.

Examples:
  This machine, for the embedded default and for an appliance:
      tickplane doctor
      tickplane doctor --config configs/nic-pci.toml

  What there is to do, as a list of commands:
      tickplane doctor --config nic.toml --json | jq -r '.findings[] |
          select(.severity == \"failure\" or .severity == \"warning\") | .mend'

  For a support case, what was looked at, and nothing else (read it before you send it):
      tickplane doctor --config nic.toml --record machine.txt";

/// Tell whether this machine is fit for a configuration, and what to do if it is not
///
/// Looks at huge pages, cores, NICs, sockets, clocks and limits as the configuration needs them. Each finding is ok, a note,
/// a warning (it works, but slower or not for all) or a failure (it can't work), with the reason and the command that mends
/// it. Only reads; run it as the user that runs the appliance.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// The configuration [default: configs/embedded.toml, built in]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// One JSON object
    #[arg(long)]
    pub json: bool,

    /// Where the machine's /proc, /sys and /dev lie
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Write what was looked at, file by file, to one text file
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error(
        "--root {}: there is neither proc nor sys in it: name the directory in which they lie",
        root.display()
    )]
    Root { root: PathBuf },
    #[error("--record {}: {cause}; name a file in a folder that exists and is writable", file.display())]
    Record { file: PathBuf, cause: io::Error },
    #[error("the output can't be written: {0}")]
    Output(#[from] io::Error),
}

/// Examines, prints, and returns how bad it is.
pub fn run(args: &DoctorArgs) -> Result<Severity, DoctorError> {
    let config = read_config(args.config.as_deref())?;
    let machine = Machine::at(&args.root);
    if !machine.exists("/proc") && !machine.exists("/sys") {
        return Err(DoctorError::Root { root: args.root.clone() });
    }
    let findings = examine(&config, &machine);
    if let Some(file) = &args.record {
        std::fs::write(file, machine.recording())
            .map_err(|cause| DoctorError::Record { file: file.clone(), cause })?;
    }
    let severity = worst(&findings);
    let mut out = io::stdout().lock();
    let written = match args.json {
        true => writeln!(out, "{}", report::json(args, &findings)),
        false => report::print(args, &findings, has_colours(), &mut out),
    };
    match written.and_then(|()| out.flush()) {
        // Whoever read the output has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(severity),
    }
}

/// All checks, topic by topic.
pub fn examine(config: &Config, machine: &Machine) -> Vec<Finding> {
    let case = Case::new(config, machine);
    let topics = [
        memory::check(&case),
        processor::check(&case),
        nic::check(&case),
        interface::check(&case),
        socket::check(&case),
        clock::check(&case),
        rdma::check(&case),
    ];
    topics.into_iter().flatten().collect()
}

pub(crate) fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

/// On a terminal, unless told otherwise (<https://no-color.org>).
fn has_colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
