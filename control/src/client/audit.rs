//! `tickplane audit`: who changed what.

use super::{ClientError, Connection, RESPONSE_BYTES_MAX, ServerArgs};
use crate::proto::audit_client::AuditClient;
use crate::proto::{AuditFilter, AuditListRequest, AuditRecord, AuditWatchRequest};
use crate::stop;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::io::{BufWriter, Write, stdout};
use std::sync::atomic::AtomicBool;

const PAGE: u32 = 1_000;
const EXAMPLES: &str = "\
Examples:
  The last twenty changes; all since the day before:
      tickplane audit
      tickplane audit --since 24h

  What one client did, as it comes, until ^C:
      tickplane audit --client desk-7 --watch

  Who changed quotas, from record 1000 on:
      tickplane audit --action quota. --from 1000

  Who handed over to whom, and how that went:
      tickplane audit --action cluster.hand_over --from 1 --json | jq -c '[.at, .client, .object, .refused]'";

/// Show who changed what; takes an admin
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditArgs {
    /// Only what this client changed; SIGHUP = the signal to read the configuration again
    #[arg(long, value_name = "NAME")]
    pub client: Option<String>,

    /// Only actions that begin so, as in `subscription.`
    #[arg(long, value_name = "PREFIX")]
    pub action: Option<String>,

    /// Only what is called so
    #[arg(long, value_name = "NAME")]
    pub object: Option<String>,

    /// So many of the last ones [default: 20]
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "since"])]
    pub last: Option<usize>,

    /// All from this number on
    #[arg(long, value_name = "NUMBER")]
    pub from: Option<u64>,

    /// All since then: `2026-01-31T09:30:00Z`, or so long ago: `90min`, `24h`
    #[arg(long, value_name = "TIME", value_parser = since, conflicts_with = "watch")]
    pub since: Option<u64>,

    /// Then each one that comes, until ^C
    #[arg(long)]
    pub watch: bool,

    /// One JSON object a record
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

const LAST_DEFAULT: usize = 20;

/// A time in ns of Unix UTC.
fn since(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?}: give a time like 2026-01-31T09:30:00Z, or a length like 90min or 24h");
    let ago = |length: SignedDuration| (SystemClock.unix_ns() as i128).checked_sub(length.as_nanos());
    let at_ns = match (text.parse::<SignedDuration>(), text.parse::<Timestamp>()) {
        (Ok(length), _) => ago(length),
        (_, Ok(at)) => Some(at.as_nanosecond()),
        _ => None,
    };
    at_ns.and_then(|at_ns| u64::try_from(at_ns).ok()).ok_or_else(bad)
}

impl AuditArgs {
    fn filter(&self) -> Option<AuditFilter> {
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        Some(AuditFilter {
            client: text(&self.client),
            action: text(&self.action),
            object: text(&self.object),
        })
    }
}

pub async fn run(args: &AuditArgs, stop: &AtomicBool) -> Result<(), ClientError> {
    let connection = args.server.connect().await?;
    let mut client = AuditClient::new(connection).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let mut out = BufWriter::new(stdout().lock());
    if !args.json {
        writeln!(out, "{HEAD}")?;
    }
    let mut next = args.from;
    if next.is_none() && args.since.is_none() {
        for record in last(&mut client, args).await? {
            next = Some(record.number + 1);
            show(&record, args.json, &mut out)?;
        }
    } else if !args.watch {
        all(&mut client, args, &mut out).await?;
    }
    out.flush()?;
    if !args.watch {
        return Ok(());
    }
    let request = AuditWatchRequest { filter: args.filter(), from: next.unwrap_or(0) };
    let mut records = client.watch(request).await?.into_inner();
    loop {
        let record = tokio::select! {
            () = stop::requested(stop) => return Ok(()),
            record = records.message() => record?,
        };
        let Some(record) = record else { return Ok(()) };
        show(&record, args.json, &mut out)?;
        out.flush()?;
    }
}

/// The last records, in their order.
async fn last(
    client: &mut AuditClient<Connection>,
    args: &AuditArgs,
) -> Result<Vec<AuditRecord>, ClientError> {
    let wanted = args.last.unwrap_or(LAST_DEFAULT);
    let mut request =
        AuditListRequest { filter: args.filter(), newest_first: true, ..AuditListRequest::default() };
    let mut found = Vec::new();
    while found.len() < wanted {
        request.page_size = PAGE.min(u32::try_from(wanted - found.len()).unwrap_or(PAGE));
        let page = client.list(request.clone()).await?.into_inner();
        found.extend(page.records);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    found.reverse();
    Ok(found)
}

/// All records from where they are asked for.
async fn all(
    client: &mut AuditClient<Connection>,
    args: &AuditArgs,
    out: &mut impl Write,
) -> Result<(), ClientError> {
    let mut request = AuditListRequest {
        filter: args.filter(),
        from: args.from.unwrap_or(0),
        since_ns: args.since.unwrap_or(0),
        page_size: PAGE,
        ..AuditListRequest::default()
    };
    loop {
        let page = client.list(request.clone()).await?.into_inner();
        page.records.iter().try_for_each(|record| show(record, args.json, out))?;
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

const HEAD: &str = "  NUMBER  TIME (UTC)                   NODE          CLIENT            ACTION               OBJECT            NOW";

/// The time as RFC 3339 has it.
fn time(at_ns: u64) -> String {
    Timestamp::from_nanosecond(at_ns.into()).map_or_else(|_| at_ns.to_string(), |at| format!("{at:.3}"))
}

fn show(record: &AuditRecord, is_json: bool, out: &mut impl Write) -> std::io::Result<()> {
    if is_json {
        return writeln!(out, "{}", json_of(record));
    }
    let AuditRecord { at_ns, client, action, object, now, number, node, refused, .. } = record;
    let what = match (refused.is_empty(), now.is_empty()) {
        (false, _) => format!("REFUSED: {refused}"),
        (true, true) => "-".to_owned(),
        (true, false) => now.clone(),
    };
    let at = time(*at_ns);
    writeln!(out, "{number:>8}  {at:<27}  {node:<12}  {client:<16}  {action:<19}  {object:<16}  {what}")
}

fn json_of(record: &AuditRecord) -> Value {
    let AuditRecord { at_ns, client, from, action, object, now, number, node, refused } = record;
    json!({
        "number": number, "at": time(*at_ns), "at_ns": at_ns, "node": node, "client": client, "from": from,
        "action": action, "object": object, "now": now, "refused": refused,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_given_as_it_is_or_as_long_ago() {
        assert_eq!(since("1970-01-02T00:00:00Z"), Ok(86_400_000_000_000));
        let hour_ago = since("1h").unwrap();
        let now_ns = SystemClock.unix_ns();
        assert!(hour_ago <= now_ns - 3_600_000_000_000 && hour_ago > now_ns - 3_700_000_000_000);
        for bad in ["", "yesterday", "1960-01-01T00:00:00Z", "1"] {
            assert!(since(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_record_is_a_line() {
        let record = AuditRecord {
            at_ns: 86_400_000_000_000,
            number: 7,
            client: "ann".to_owned(),
            action: "cluster.promote".to_owned(),
            object: "node-b".to_owned(),
            refused: "it is the primary".to_owned(),
            ..AuditRecord::default()
        };
        let mut out = Vec::new();
        show(&record, false, &mut out).unwrap();
        let line = String::from_utf8(out).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..5], ["7", "1970-01-02T00:00:00.000Z", "ann", "cluster.promote", "node-b"]);
        assert!(line.ends_with("REFUSED: it is the primary\n"), "{line}");
        assert_eq!(json_of(&record)["at"], "1970-01-02T00:00:00.000Z");
    }
}
