//! A recorded TOPS day against what two other decoders made of it; skipped where the recording is not.

use dataplane::cache::cell::Cell;
use dataplane::cache::reader::{Reader, State};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Condition, PRICE_ABSENT, Payload, Quote, Status, Tick, Trade};
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Arrival, Feed, Protocol};
use dataplane::hint::NoPrefetch;
use dataplane::port::Port;
use dataplane::telemetry::FeedTelemetry;
use dataplane::wire::datagram::{Parsed, parse};
use drivers::capture::open_capture;
use serde_json::Value;
use std::path::{Path, PathBuf};

const LAYOUT: Layout = Layout { instruments: 1 << 13, feeds: 1, log_ticks: 1 << 16, bursts: 1 << 4 };

fn recordings() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let beside = ["../shared/captures", "../../shared/captures"].map(|folder| workspace.join(folder));
    let folders = std::env::var_os("TICKPLANE_CAPTURES").map(PathBuf::from).into_iter().chain(beside);
    let found = folders.map(|folder| folder.join("iex")).find(|path| path.join("tops16.pcapng.gz").exists());
    if found.is_none() {
        eprintln!("skipped: no iex/tops16.pcapng.gz; set TICKPLANE_CAPTURES to the folder of the recordings");
    }
    found
}

/// Price as the recording's answers have it: 4 decimals, 0 = none.
fn price_e4(price_e9: i64) -> i64 {
    if price_e9 == PRICE_ABSENT {
        return 0;
    }
    assert_eq!(price_e9 % 100_000, 0);
    price_e9 / 100_000
}

fn row<P: Payload>(reader: &Reader<'_>, symbol: &str) -> Option<(P, Tick)> {
    let instrument = reader.find(symbol.as_bytes()).next()?;
    let row = reader.row::<P>(instrument, 1)?;
    assert_eq!(row.state, State::Live, "{symbol}");
    Some((*row.tick.payload::<P>().unwrap(), row.tick))
}

fn compare(reader: &Reader<'_>, known: &Value) {
    let quotes = known["tob"].as_object().unwrap();
    for (symbol, known) in quotes {
        let (quote, tick) = row::<Quote>(reader, symbol).expect("every symbol has a quote");
        let held = serde_json::json!([
            quote.bid_size,
            price_e4(quote.bid_price),
            price_e4(quote.ask_price),
            quote.ask_size,
            tick.exchange_ns
        ]);
        assert_eq!(held, *known, "{symbol}");
    }
    let trades = known["last"].as_object().unwrap();
    for (symbol, known) in trades {
        let (trade, tick) = row::<Trade>(reader, symbol).expect("it has traded");
        let held = serde_json::json!([price_e4(trade.price), trade.size, trade.trade_id, tick.exchange_ns]);
        assert_eq!(held, *known, "{symbol}");
    }
    let count = |named: &dyn Fn(u32) -> bool| (0..reader.instruments()).filter(|index| named(*index)).count();
    assert_eq!(count(&|index| reader.row::<Quote>(index, 1).is_some()), quotes.len());
    assert_eq!(count(&|index| reader.row::<Trade>(index, 1).is_some()), trades.len());
}

#[test]
fn a_recorded_day_has_its_known_rows_at_every_checkpoint() {
    let Some(folder) = recordings() else { return };
    let known = std::fs::read(folder.join("tops16.checkpoints.json")).expect("the answers lie beside it");
    let known: Vec<Value> = serde_json::from_slice(&known).unwrap();
    assert_eq!(known.len(), 4);
    let cells: Vec<Cell> = (0..LAYOUT.cells()).map(|_| Cell::default()).collect();
    let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    writer.keep_alive(0, u64::MAX / 2);
    let reader = Reader::open(&cells).unwrap();
    let telemetry = FeedTelemetry::default();
    let config = ArbiterConfig { lines: 1, ..ArbiterConfig::default() };
    let mut feed: Feed<NoPrefetch> =
        Feed::new(0, Protocol::Tops16 { symbols_max: 8_000 }, config, &telemetry).unwrap();
    let mut port = open_capture(&folder.join("tops16.pcapng.gz"), None).unwrap();
    let (mut packets, mut checkpoints) = (0_u64, known.iter().peekable());
    loop {
        let frames = port.rx_burst();
        if frames == 0 {
            break;
        }
        for index in 0..frames {
            let frame = port.frame(index);
            let Ok(Parsed::Udp(datagram)) = parse(frame.bytes) else { panic!("packet {packets}") };
            let arrival = Arrival { line: 0, now_ns: 1, received_ns: frame.stamp_ns };
            feed.accept(datagram.payload, arrival, &mut writer);
            feed.flush(&mut writer);
            packets += 1;
            if checkpoints.peek().is_some_and(|known| known["packets"] == packets) {
                writer.commit();
                compare(&reader, checkpoints.next().unwrap());
            }
        }
    }
    assert_eq!((packets, checkpoints.next()), (13_022, None), "every checkpoint was looked at");
    let (line, decoder) = (&telemetry.lines.lines[0], &telemetry.decoder);
    assert_eq!((line.heartbeats.get(), line.malformed.get(), line.gaps.get()), (237, 0, 0));
    assert_eq!((telemetry.lines.messages.get(), telemetry.lines.sessions.get()), (57_674, 1));
    assert_eq!((decoder.actions.get(), decoder.others.get()), (27_217 + 6_390, 24_067));
    assert_eq!((decoder.unknown_types.get(), decoder.malformed.get()), (0, 0));
    assert_eq!(decoder.trades.get(), 6_390, "none of the three broken trades was the last of its symbol");
    let (status, _) = row::<Status>(&reader, "AAPL").unwrap();
    assert_eq!((status.state, &status.reason, status.operational_halt), (b'T', b"    ", b'N'));
    assert_eq!(reader.feed(0).condition, Condition::Live);
    assert_eq!(&reader.feed(0).session.unwrap().session, b"1137508352");
}

#[test]
fn the_recorded_day_is_decoded_by_the_command() {
    let Some(folder) = recordings() else { return };
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tickplane"));
    command.arg("decode").arg(folder.join("tops16.pcapng.gz"));
    let output = command.args(["--feed", "tops16", "--packets", "9766", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.pop().unwrap()["counters"]["packets"], 9_766);
    assert_eq!(lines.len(), 7_799);
    let apple = lines.iter().find(|row| row["instrument"] == "AAPL").unwrap();
    assert_eq!((&apple["bid_price"], &apple["ask_price"]), (&"148.9200".into(), &"149.0000".into()));
    assert_eq!((&apple["last_price"], &apple["state"]), (&"148.9200".into(), &"live".into()));
}
