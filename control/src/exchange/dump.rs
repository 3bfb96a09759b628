//! The exchange's book as JSON lines, in the shape that `tickplane decode --json` has.

use super::ExchangeError;
use crate::row::Values;
use dataplane::cache::tick::{self, PRICE_ABSENT, Quote};
use dataplane::sim::exchange::{Exchange, Row};
use dataplane::wire::itch50;
use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::NamedTempFile;

/// Decimals of ITCH's prices.
const PRICE_DECIMALS: u32 = 4;
/// One unit of them in the cache's.
const UNIT: i64 = tick::PRICE_SCALE / itch50::PRICE_SCALE as i64;

/// Writes the rows, sorted by name as bytes, and a last line of counters; `-` is the standard output, a file
/// appears whole or not at all.
pub fn write(exchange: &Exchange, file: &Path) -> Result<(), ExchangeError> {
    let error = |cause| ExchangeError::Dump { file: file.to_owned(), cause };
    if file.as_os_str() == "-" {
        return write_lines(exchange, io::stdout().lock()).map_err(ExchangeError::Output);
    }
    let temporary = temporary(file).map_err(error)?;
    write_lines(exchange, temporary.as_file()).map_err(error)?;
    temporary.persist(file).map_err(|failed| error(failed.error))?;
    Ok(())
}

/// Finds out before the flow whether the dump can be written after it.
pub fn check(file: &Path) -> Result<(), ExchangeError> {
    if file.as_os_str() == "-" {
        return Ok(());
    }
    let error = |cause| ExchangeError::Dump { file: file.to_owned(), cause };
    if file.is_dir() {
        return Err(error(io::ErrorKind::IsADirectory.into()));
    }
    temporary(file).map(drop).map_err(error)
}

/// A file beside the dump, which is to take its place.
fn temporary(file: &Path) -> io::Result<NamedTempFile> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let readable = Permissions::from_mode(0o644);
    tempfile::Builder::new().prefix(".tickplane-dump-").permissions(readable).tempfile_in(folder)
}

fn write_lines(exchange: &Exchange, out: impl Write) -> io::Result<()> {
    let mut rows: Vec<Row<'_>> = exchange.dump().collect();
    rows.sort_by_key(|row| row.symbol);
    let mut out = BufWriter::new(out);
    for row in rows {
        writeln!(out, "{}", line(&row).json())?;
    }
    writeln!(
        out,
        r#"{{"counters":{{"messages":{},"sequence_next":{},"orders":{}}}}}"#,
        exchange.sequence(),
        exchange.sequence() + 1,
        exchange.orders()
    )?;
    out.flush()
}

fn line(row: &Row<'_>) -> crate::row::Row {
    let price = |price: Option<u32>| price.map_or(PRICE_ABSENT, |price| i64::from(price) * UNIT);
    crate::row::Row::new(Values {
        instrument: String::from_utf8_lossy(row.symbol).into_owned(),
        price_decimals: PRICE_DECIMALS,
        quote: Quote {
            bid_price: price(row.bid_price_e4),
            ask_price: price(row.ask_price_e4),
            bid_size: row.bid_size as u32,
            ask_size: row.ask_size as u32,
        },
        implied: None,
        last: row.last_price_e4.map(|last| (price(Some(last)), row.last_size)),
        state: "live".to_owned(),
        change: row.sequence.zip(row.exchange_ns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::sim::exchange::Config;
    use serde_json::Value;

    #[test]
    fn a_dump_is_sorted_by_name_and_replaces_the_file() {
        let mut exchange = Exchange::new(Config { instruments: 40, ..Config::default() });
        let mut out = Vec::new();
        for _ in 0..2_000 {
            assert!(exchange.next_message(&mut out));
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("book.jsonl");
        std::fs::write(&file, "old").unwrap();
        write(&exchange, &file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 41);
        let names: Vec<&str> = lines[..40].iter().map(|line| line["instrument"].as_str().unwrap()).collect();
        assert!(names.is_sorted() && names.contains(&"AB") && names.contains(&"V.A"));
        assert_eq!(lines[40]["counters"]["messages"], 2_000);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = check(Path::new("/nowhere/book")).unwrap_err();
        assert!(error.to_string().starts_with("--dump /nowhere/book: "), "{error}");
        assert!(check(&std::env::temp_dir()).is_err(), "a folder is no file");
    }
}
