//! `tickplane client`: who may call.

use super::ClientError;
use crate::access::Token;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  A token for a client of the configuration file, and the line that goes there:
      tickplane client hash";

/// Who may call a node
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ClientArgs {
    #[command(subcommand)]
    pub what: ClientWhat,

    /// One JSON object
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum ClientWhat {
    /// Make a token, and the line for [[clients]] in the configuration; asks no node
    Hash,
}

pub fn run(args: &ClientArgs) -> Result<(), ClientError> {
    match args.what {
        ClientWhat::Hash => {
            let token = Token::generate();
            let (text, hash) = (token.text(), token.hash().to_string());
            match args.json {
                true => println!("{}", json!({ "token": text, "token_sha256": hash })),
                false => println!("token, for the client alone: {text}\ntoken_sha256 = \"{hash}\""),
            }
            Ok(())
        }
    }
}
