//! The terminal clients: `get`, `watch`, `status`, `latency`, `verify`, `cluster`, `config`, `client`, `quota`, `audit`, and those
//! that change a group.

pub mod audit;
pub mod clients;
pub mod cluster;
pub mod config;
pub mod get;
pub mod group;
pub mod latency;
pub mod quota;
mod server;
mod stalls;
pub mod status;
pub mod subscription;
pub mod verify;
pub mod watch;

use crate::proto::{Instrument, Quote};
use crate::row::{Row, Values};
use dataplane::cache::tick::{self, PRICE_ABSENT};
use std::io;
use tonic::Status;

pub use server::{Connection, ServerArgs};

/// A page of 10,000 instruments is some megabytes.
pub(crate) const RESPONSE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("--server {server}: {cause}: give it as http://ADDRESS:PORT or https://NAME:PORT")]
    Url { server: String, cause: String },
    #[error(
        "no answer from {server} ({cause}): is `tickplane run` running there? name another node by --server"
    )]
    Connect { server: String, cause: String },
    #[error("the node answered {code:?}: {message}", code = .0.code(), message = .0.message())]
    Status(#[from] Status),
    #[error("the output can't be written: {0}")]
    Output(#[from] io::Error),
    #[error("{0}")]
    Differs(String),
}

/// Runs a client to its end.
pub fn block_on<T>(client: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(client) {
        // Whoever read the output has seen enough.
        Err(ClientError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result,
    }
}

/// live, partial, suspect, stale or absent.
pub(crate) fn state_name(state: i32) -> String {
    use crate::proto::RowState;
    let name = RowState::try_from(state).unwrap_or(RowState::Unspecified).as_str_name();
    name.trim_start_matches("ROW_STATE_").to_lowercase()
}

/// gap, late_start, feed_silent, …; empty = none.
pub(crate) fn reason_name(reason: i32) -> String {
    use crate::proto::RowReason;
    match RowReason::try_from(reason) {
        Ok(RowReason::Unspecified) | Err(_) => String::new(),
        Ok(reason) => reason.as_str_name().trim_start_matches("ROW_REASON_").to_lowercase(),
    }
}

impl From<&Instrument> for Row {
    fn from(instrument: &Instrument) -> Row {
        let top = |quote: Option<&Quote>| {
            quote.map_or(tick::Quote::EMPTY, |quote| tick::Quote {
                bid_price: quote.bid_price_e9.unwrap_or(PRICE_ABSENT),
                ask_price: quote.ask_price_e9.unwrap_or(PRICE_ABSENT),
                bid_size: u32::try_from(quote.bid_size).unwrap_or(u32::MAX),
                ask_size: u32::try_from(quote.ask_size).unwrap_or(u32::MAX),
            })
        };
        let Instrument { quote, trade, status, implied_quote, .. } = instrument;
        let last = trade.as_ref().and_then(|trade| Some((trade.price_e9?, trade.size)));
        let marks = [
            quote.as_ref().and_then(|quote| quote.mark.as_ref()),
            trade.as_ref().and_then(|trade| trade.mark.as_ref()),
            status.as_ref().and_then(|status| status.mark.as_ref()),
            implied_quote.as_ref().and_then(|quote| quote.mark.as_ref()),
        ];
        let latest = marks.into_iter().flatten().max_by_key(|mark| mark.sequence);
        Row::new(Values {
            instrument: instrument.symbol.clone(),
            price_decimals: instrument.price_decimals,
            quote: top(quote.as_ref()),
            implied: implied_quote.as_ref().map(|quote| top(Some(quote))),
            last,
            state: state_name(instrument.state),
            change: latest.map(|mark| (mark.sequence, mark.exchange_ns)),
        })
    }
}
