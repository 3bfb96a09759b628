//! `tickplane verify`: every row of the cache against the exchange's own book.

use super::{ClientError, ServerArgs, get};
use crate::row::Row;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Differences that are shown.
const SHOWN: usize = 10;
const EXAMPLES: &str = "\
Examples:
  After the flow has ended (tickplane exchange --dump book.jsonl --linger …):
      tickplane verify book.jsonl";

/// Compare every row of the cache, read over gRPC, with an exchange's dump
///
/// Succeeds if both have the same instruments, and every row is live and equal.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// What `tickplane exchange --dump` wrote
    pub dump: PathBuf,

    /// One JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub equal: usize,
    /// Rows that differ in a value, one text each.
    pub different: Vec<String>,
    /// Rows that are not live.
    pub doubtful: Vec<String>,
    /// Names that only one side has.
    pub missing: Vec<String>,
    pub unexpected: Vec<String>,
}

impl Comparison {
    pub fn is_good(&self) -> bool {
        let bad = [&self.different, &self.doubtful, &self.missing, &self.unexpected];
        self.equal != 0 && bad.iter().all(|rows| rows.is_empty())
    }

    pub fn of(expected: &[Row], found: &[Row]) -> Comparison {
        let mut comparison = Comparison::default();
        let mut found: BTreeMap<&str, &Row> =
            found.iter().map(|row| (row.instrument.as_str(), row)).collect();
        for row in expected {
            match found.remove(row.instrument.as_str()) {
                None => comparison.missing.push(row.instrument.clone()),
                Some(other) if other == row => comparison.equal += 1,
                Some(other) if other.state != row.state => {
                    comparison.doubtful.push(format!("{} is {}", other.instrument, other.state));
                }
                Some(other) => {
                    comparison.different.push(format!("{} instead of {}", other.json(), row.json()))
                }
            }
        }
        comparison.unexpected = found.into_keys().map(str::to_owned).collect();
        comparison
    }

    pub fn summary(&self) -> String {
        format!(
            "{} rows equal and live, {} different, {} not live, {} missing, {} unexpected",
            self.equal,
            self.different.len(),
            self.doubtful.len(),
            self.missing.len(),
            self.unexpected.len()
        )
    }

    fn json(&self) -> Value {
        json!({
            "good": self.is_good(), "equal": self.equal, "different": self.different.len(),
            "not_live": self.doubtful.len(), "missing": self.missing.len(), "unexpected": self.unexpected.len(),
        })
    }
}

/// The rows of a dump; its last line holds counters.
pub fn read_dump(path: &Path) -> Result<Vec<Row>, ClientError> {
    let error = |cause: String| ClientError::Differs(format!("{}: {cause}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|cause| error(cause.to_string()))?;
    let rows = text.lines().filter(|line| !line.starts_with("{\"counters\""));
    rows.map(|line| serde_json::from_str(line).map_err(|cause| error(cause.to_string()))).collect()
}

pub async fn compare(server: &ServerArgs, dump: &Path) -> Result<Comparison, ClientError> {
    let expected = read_dump(dump)?;
    let found = get::list(server.connect().await?, "*").await?;
    let found: Vec<Row> = found.iter().map(Row::from).collect();
    Ok(Comparison::of(&expected, &found))
}

pub async fn run(args: &VerifyArgs) -> Result<(), ClientError> {
    let comparison = compare(&args.server, &args.dump).await?;
    if args.json {
        println!("{}", comparison.json());
    } else {
        println!("{}", comparison.summary());
    }
    if comparison.is_good() {
        return Ok(());
    }
    let Comparison { different, doubtful, missing, unexpected, .. } = &comparison;
    let shown = different.iter().chain(doubtful).take(SHOWN).cloned();
    let absent = missing.iter().map(|name| format!("{name} is missing")).take(SHOWN);
    let extra = unexpected.iter().map(|name| format!("{name} was not expected")).take(SHOWN);
    let all: Vec<String> = shown.chain(absent).chain(extra).collect();
    Err(ClientError::Differs(format!("the cache is not the exchange's book:\n{}", all.join("\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(instrument: &str, bid_size: u64, state: &str) -> Row {
        Row {
            instrument: instrument.to_owned(),
            bid_price: Some("1.0000".to_owned()),
            bid_size: Some(bid_size),
            ask_price: None,
            ask_size: None,
            last_price: None,
            last_size: None,
            state: state.to_owned(),
            sequence: Some(1),
            exchange_ns: None,
            implied: None,
        }
    }

    #[test]
    fn every_kind_of_difference_is_told_apart() {
        let expected = ["A", "B", "C", "D"].map(|name| row(name, 1, "live"));
        let found = [row("A", 1, "live"), row("B", 2, "live"), row("C", 1, "suspect"), row("E", 1, "live")];
        let comparison = Comparison::of(&expected, &found);
        let summary = "1 rows equal and live, 1 different, 1 not live, 1 missing, 1 unexpected";
        assert_eq!((comparison.is_good(), comparison.summary().as_str()), (false, summary));
        assert!(Comparison::of(&expected, &expected).is_good());
        assert!(!Comparison::of(&[], &[]).is_good(), "nothing was compared");
    }
}
