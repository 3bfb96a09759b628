//! `tickplane quota`: what clients may use, and what they use.

use super::{ClientError, Connection, RESPONSE_BYTES_MAX, ServerArgs};
use crate::proto::quotas_client::QuotasClient;
use crate::proto::{
    ClientQuota, ExcessPolicy, QuotaLimits, QuotasGetRequest, QuotasListRequest, ResetQuotaRequest,
    SetQuotaRequest, Usage,
};
use serde_json::{Value, json};
use std::io::{BufWriter, Write, stdout};

const PAGE: u32 = 5_000;
const EXAMPLES: &str = "\
Examples:
  What I may use, and what I use; another client:
      tickplane quota get
      tickplane quota get desk-7

  All clients; those to whom something was refused:
      tickplane quota list
      tickplane quota list --json | jq -c 'select(.refusals | add > 0) | {name, refusals}'

  Other limits for one client at once, the rest as it has it; its role's limits again:
      tickplane quota set desk-7 --requests-per-min 6000 --updates-per-s none --on-excess conflate
      tickplane quota reset desk-7";

/// Show or change what clients may use
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct QuotaArgs {
    #[command(subcommand)]
    pub command: QuotaCommand,

    /// One JSON object a client
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum QuotaCommand {
    /// Show a client's limits, and what it uses
    Get {
        /// The client [default: the caller]
        #[arg(value_name = "CLIENT")]
        name: Option<String>,
    },
    /// Show all clients
    List,
    /// Give a client limits of its own; it need not be there yet
    Set {
        /// The client
        #[arg(value_name = "CLIENT")]
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Give a client its role's limits again
    Reset {
        /// The client
        #[arg(value_name = "CLIENT")]
        name: String,
    },
}

/// What is not given stays as the client has it.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub struct LimitArgs {
    /// Calls a minute
    #[arg(long, value_name = "N|none", value_parser = limit)]
    pub requests_per_min: Option<Limit>,

    /// Streams that are open at once
    #[arg(long, value_name = "N|none", value_parser = limit)]
    pub subscriptions: Option<Limit>,

    /// Instruments of all open subscriptions
    #[arg(long, value_name = "N|none", value_parser = limit)]
    pub instruments: Option<Limit>,

    /// Updates sent, a second
    #[arg(long, value_name = "N|none", value_parser = limit)]
    pub updates_per_s: Option<Limit>,

    /// Bytes of subscriptions' responses, a second
    #[arg(long, value_name = "N|none", value_parser = limit)]
    pub bytes_per_s: Option<Limit>,

    /// For how long a rate may be taken at once
    #[arg(long, value_name = "MS")]
    pub burst_ms: Option<u32>,

    /// What becomes of a subscription that is to be sent more
    #[arg(long, value_enum)]
    pub on_excess: Option<OnExcess>,
}

/// A limit that is asked for; `None` = without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(Option<u64>);

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        number => match number.parse() {
            Ok(number) => Ok(Limit(Some(number))),
            Err(_) => Err("give a whole number, or none for no limit".to_owned()),
        },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnExcess {
    /// It ends
    Refuse,
    /// It gets the latest values as often as the limits allow
    Conflate,
    /// All of the client's subscriptions end
    Disconnect,
}

impl LimitArgs {
    /// What changes, and the names of it; the others stay as the client has them.
    fn request(&self, name: &str) -> SetQuotaRequest {
        let limit = |given: Option<Limit>| given.and_then(|Limit(given)| given);
        let mut limits = QuotaLimits {
            requests_per_min: limit(self.requests_per_min),
            subscriptions: limit(self.subscriptions),
            instruments: limit(self.instruments),
            updates_per_s: limit(self.updates_per_s),
            bytes_per_s: limit(self.bytes_per_s),
            burst_ms: self.burst_ms.unwrap_or(0),
            on_excess: 0,
        };
        if let Some(on_excess) = self.on_excess {
            limits.set_on_excess(match on_excess {
                OnExcess::Refuse => ExcessPolicy::Refuse,
                OnExcess::Conflate => ExcessPolicy::Conflate,
                OnExcess::Disconnect => ExcessPolicy::Disconnect,
            });
        }
        let given = [
            ("requests_per_min", self.requests_per_min.is_some()),
            ("subscriptions", self.subscriptions.is_some()),
            ("instruments", self.instruments.is_some()),
            ("updates_per_s", self.updates_per_s.is_some()),
            ("bytes_per_s", self.bytes_per_s.is_some()),
            ("burst_ms", self.burst_ms.is_some()),
            ("on_excess", self.on_excess.is_some()),
        ];
        let only = given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name.to_owned());
        SetQuotaRequest { name: name.to_owned(), limits: Some(limits), only: only.collect() }
    }
}

pub async fn run(args: &QuotaArgs) -> Result<(), ClientError> {
    let mut client =
        QuotasClient::new(args.server.connect().await?).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let clients = match &args.command {
        QuotaCommand::Get { name } => {
            let request = QuotasGetRequest { name: name.clone().unwrap_or_default() };
            vec![client.get(request).await?.into_inner()]
        }
        QuotaCommand::List => list(&mut client).await?,
        QuotaCommand::Set { name, limits } => vec![client.set(limits.request(name)).await?.into_inner()],
        QuotaCommand::Reset { name } => {
            vec![client.reset(ResetQuotaRequest { name: name.clone() }).await?.into_inner()]
        }
    };
    let mut out = BufWriter::new(stdout().lock());
    match args.json {
        true => clients.iter().try_for_each(|client| writeln!(out, "{}", json_of(client)))?,
        false => print(&clients, &mut out)?,
    }
    Ok(out.flush()?)
}

async fn list(client: &mut QuotasClient<Connection>) -> Result<Vec<ClientQuota>, ClientError> {
    let mut clients = Vec::new();
    let mut request = QuotasListRequest { page_size: PAGE, page_token: String::new() };
    loop {
        let page = client.list(request.clone()).await?.into_inner();
        clients.extend(page.clients);
        if page.next_page_token.is_empty() {
            return Ok(clients);
        }
        request.page_token = page.next_page_token;
    }
}

fn policy_name(limits: &QuotaLimits) -> String {
    limits.on_excess().as_str_name().trim_start_matches("EXCESS_POLICY_").to_lowercase()
}

fn json_of(client: &ClientQuota) -> Value {
    let usage = |usage: &Option<Usage>| {
        let Usage { second, minute, hour, peak_second, total } = usage.unwrap_or_default();
        json!({ "second": second, "minute": minute, "hour": hour, "peak_second": peak_second, "total": total })
    };
    let limits = client.limits.unwrap_or_default();
    json!({
        "name": client.name, "role": client.role, "is_own": client.is_own,
        "limits": {
            "requests_per_min": limits.requests_per_min, "subscriptions": limits.subscriptions,
            "instruments": limits.instruments, "updates_per_s": limits.updates_per_s,
            "bytes_per_s": limits.bytes_per_s, "burst_ms": limits.burst_ms, "on_excess": policy_name(&limits),
        },
        "requests": usage(&client.requests), "updates": usage(&client.updates), "bytes": usage(&client.bytes),
        "subscriptions": client.subscriptions, "instruments": client.instruments, "refusals": client.refusals,
    })
}

/// What is used, of what may be: `12/1000`, or `12` without a limit.
fn used(used: u64, limit: Option<u64>) -> String {
    limit.map_or_else(|| used.to_string(), |limit| format!("{used}/{limit}"))
}

fn print(clients: &[ClientQuota], out: &mut impl Write) -> std::io::Result<()> {
    const HEADINGS: [&str; 10] = [
        "CLIENT",
        "ROLE",
        "LIMITS",
        "REQUESTS/min",
        "SUBSCR.",
        "INSTRUMENTS",
        "UPDATES/s",
        "BYTES/s",
        "ON EXCESS",
        "REFUSED",
    ];
    let row = |client: &ClientQuota| {
        let limits = client.limits.unwrap_or_default();
        let window = |usage: &Option<Usage>| usage.unwrap_or_default();
        [
            client.name.clone(),
            client.role.clone(),
            if client.is_own { "its own" } else { "its role's" }.to_owned(),
            used(window(&client.requests).minute, limits.requests_per_min),
            used(client.subscriptions, limits.subscriptions),
            used(client.instruments, limits.instruments),
            used(window(&client.updates).second, limits.updates_per_s),
            used(window(&client.bytes).second, limits.bytes_per_s),
            policy_name(&limits),
            client.refusals.values().sum::<u64>().to_string(),
        ]
    };
    let rows: Vec<[String; 10]> =
        std::iter::once(HEADINGS.map(str::to_owned)).chain(clients.iter().map(row)).collect();
    let widths: [usize; 10] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_and_none_lifts_a_limit() {
        let given = LimitArgs {
            requests_per_min: Some(limit("none").unwrap()),
            subscriptions: Some(limit("7").unwrap()),
            instruments: None,
            updates_per_s: None,
            bytes_per_s: None,
            burst_ms: None,
            on_excess: Some(OnExcess::Conflate),
        };
        let request = given.request("ann");
        assert_eq!(request.only, ["requests_per_min", "subscriptions", "on_excess"]);
        let limits = request.limits.unwrap();
        assert_eq!((limits.requests_per_min, limits.subscriptions), (None, Some(7)));
        assert_eq!(policy_name(&limits), "conflate");
        assert!(limit("-1").is_err() && limit("many").is_err());
    }

    #[test]
    fn the_table_shows_what_is_used_of_what_may_be() {
        let client = ClientQuota {
            name: "desk-7".to_owned(),
            role: "reader".to_owned(),
            limits: Some(QuotaLimits { requests_per_min: Some(1_000), ..QuotaLimits::default() }),
            requests: Some(Usage { minute: 12, ..Usage::default() }),
            subscriptions: 3,
            refusals: [("requests_per_min".to_owned(), 4)].into(),
            ..ClientQuota::default()
        };
        let mut out = Vec::new();
        print(&[client], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let cells: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(cells[..2], ["desk-7", "reader"]);
        assert!(cells.contains(&"12/1000") && cells.contains(&"3") && cells.ends_with(&["4"]), "{text}");
    }
}
