//! `tickplane config`: the configuration of a node that runs.

use super::{ClientError, ServerArgs};
use crate::proto::admin_client::AdminClient;
use crate::proto::{ApplyRequest, ApplyResponse, GetConfigRequest};
use serde_json::json;
use std::io::{BufWriter, Write, stdout};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  What the node runs with, defaults included:
      tickplane config show

  What another file would change, and whether it can without a restart:
      tickplane config diff node.toml

  Make it so; the node's own file becomes this one:
      tickplane config apply node.toml

  The file was changed in its place:
      kill -HUP PID";

/// Show and change the configuration of a node that runs
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub what: ConfigWhat,

    /// One JSON object
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum ConfigWhat {
    /// The configuration that runs, with all defaults
    Show,
    /// What a file would change
    Diff { file: PathBuf },
    /// Replace the node's configuration by a file's, all of it or nothing
    Apply { file: PathBuf },
}

pub async fn run(args: &ConfigArgs) -> Result<(), ClientError> {
    let mut client = AdminClient::new(args.server.connect().await?);
    let mut out = BufWriter::new(stdout().lock());
    let (file, dry_run) = match &args.what {
        ConfigWhat::Show => {
            let shown = client.get_config(GetConfigRequest {}).await?.into_inner();
            if args.json {
                let all = json!({
                    "toml": shown.toml, "file": shown.file, "live_keys": shown.live_keys, "revision": shown.revision
                });
                writeln!(out, "{all}")?;
            } else {
                let file = if shown.file.is_empty() { "built in" } else { &shown.file };
                let live = shown.live_keys.join(", ");
                writeln!(out, "# {file}, revision {}; can change while it runs: {live}", shown.revision)?;
                write!(out, "{}", shown.toml)?;
            }
            return Ok(out.flush()?);
        }
        ConfigWhat::Diff { file } => (file, true),
        ConfigWhat::Apply { file } => (file, false),
    };
    let response = client.apply(ApplyRequest { toml: read(file)?, dry_run, revision: 0 }).await?.into_inner();
    print(args.json, &response, &mut out)?;
    Ok(out.flush()?)
}

fn read(file: &Path) -> Result<String, ClientError> {
    std::fs::read_to_string(file).map_err(|cause| {
        ClientError::Differs(format!("{}: {cause}: name a configuration file", file.display()))
    })
}

fn print(json: bool, response: &ApplyResponse, out: &mut impl Write) -> Result<(), ClientError> {
    let differences = &response.differences;
    if json {
        let one = |one: &crate::proto::ConfigDifference| json!({ "key": one.key, "from": one.from, "to": one.to, "is_live": one.is_live });
        let all: Vec<_> = differences.iter().map(one).collect();
        let all = json!({ "applied": response.applied, "revision": response.revision, "differences": all });
        return Ok(writeln!(out, "{all}")?);
    }
    if differences.is_empty() {
        writeln!(out, "no difference")?;
    }
    for one in differences {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not there)".to_owned());
        let when = if one.is_live { "" } else { "   (needs a restart)" };
        writeln!(out, "{}: {} → {}{when}", one.key, shown(&one.from), shown(&one.to))?;
    }
    if response.applied {
        writeln!(out, "applied; revision {}", response.revision)?;
    }
    Ok(())
}
