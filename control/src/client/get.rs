//! `tickplane get`: the latest of some instruments.

use super::{ClientError, Connection, RESPONSE_BYTES_MAX, ServerArgs};
use crate::proto::market_data_client::MarketDataClient;
use crate::proto::{GetRequest, Instrument, ListRequest};
use crate::row::Row;
use std::io::{BufWriter, Write, stdout};

const PAGE: u32 = 5_000;
const EXAMPLES: &str = "\
Examples:
  Two instruments as a table:
      tickplane get AAPL MSFT

  All whose name begins with A, one JSON object a line:
      tickplane get --json 'A*'";

/// Show the latest of some instruments
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct GetArgs {
    /// Symbols, or patterns: * stands for any characters, ? for one
    #[arg(required = true, value_name = "SYMBOL")]
    pub symbols: Vec<String>,

    /// One JSON object a line
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

pub async fn run(args: &GetArgs) -> Result<(), ClientError> {
    let channel = args.server.connect().await?;
    let (patterns, symbols): (Vec<String>, Vec<String>) =
        args.symbols.iter().cloned().partition(|symbol| symbol.contains(['*', '?']));
    let mut instruments = Vec::new();
    if !symbols.is_empty() {
        let mut client = client(channel.clone());
        instruments.extend(client.get(GetRequest { symbols }).await?.into_inner().instruments);
    }
    for pattern in patterns {
        instruments.extend(list(channel.clone(), &pattern).await?);
    }
    let mut out = BufWriter::new(stdout().lock());
    if !args.json {
        writeln!(out, "{}", Row::heading())?;
    }
    for instrument in &instruments {
        let row = Row::from(instrument);
        let reason = super::reason_name(instrument.reason);
        match (args.json, reason.as_str()) {
            (true, _) => writeln!(out, "{}", row.json())?,
            (false, "") => writeln!(out, "{}", row.line())?,
            (false, reason) => writeln!(out, "{}  {reason}", row.line())?,
        }
    }
    Ok(out.flush()?)
}

fn client(channel: Connection) -> MarketDataClient<Connection> {
    MarketDataClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
}

/// All instruments that match a pattern, page by page.
pub async fn list(channel: Connection, pattern: &str) -> Result<Vec<Instrument>, ClientError> {
    let mut client = client(channel);
    let mut instruments = Vec::new();
    let mut request = ListRequest { pattern: pattern.to_owned(), page_size: PAGE, page_token: String::new() };
    loop {
        let page = client.list(request.clone()).await?.into_inner();
        instruments.extend(page.instruments);
        if page.next_page_token.is_empty() {
            return Ok(instruments);
        }
        request.page_token = page.next_page_token;
    }
}
