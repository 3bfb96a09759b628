//! A recorded TOPS day against what two other decoders made of it; skipped where the recording is not.

mod answers {
    #[path = "../../../dataplane/tests/capture/mod.rs"]
    pub mod capture;
    pub mod tops16;
}

use answers::capture::capture;
use answers::tops16::{CAPTURE, Held, checkpoints};
use dataplane::cache::cell::Cell;
use dataplane::cache::reader::{Reader, State};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Condition, Payload, Quote, Status, Trade};
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Arrival, Feed, Protocol};
use dataplane::hint::NoPrefetch;
use dataplane::port::Port;
use dataplane::telemetry::FeedTelemetry;
use dataplane::wire::datagram::{Parsed, parse};
use drivers::capture::open_capture;
use serde_json::Value;

const LAYOUT: Layout = Layout { instruments: 1 << 13, feeds: 1, log_ticks: 1 << 16, bursts: 1 << 4 };

/// The row, which must be live, and its stamp.
fn row<P: Payload>(reader: &Reader<'_>, instrument: u32) -> Option<(P, u64)> {
    let row = reader.row::<P>(instrument, 1)?;
    assert_eq!(row.state, State::Live, "{instrument}");
    Some((*row.tick.payload::<P>().unwrap(), row.tick.exchange_ns))
}

fn held(reader: &Reader<'_>) -> Held {
    let mut held = Held::default();
    for instrument in 0..reader.instruments() {
        let (_, definition) = reader.definition(instrument, 1).expect("every instrument has a name");
        assert!(reader.find(definition.name()).eq([instrument]));
        let symbol = std::str::from_utf8(definition.name()).unwrap();
        if let Some((quote, exchange_ns)) = row::<Quote>(reader, instrument) {
            held.quote(symbol, &quote, exchange_ns);
        }
        if let Some((trade, exchange_ns)) = row::<Trade>(reader, instrument) {
            held.trade(symbol, &trade, exchange_ns);
        }
    }
    held
}

#[test]
fn a_recorded_day_has_its_known_rows_at_every_checkpoint() {
    let Some(file) = capture(CAPTURE) else { return };
    let known = checkpoints(&file);
    let cells: Vec<Cell> = (0..LAYOUT.cells()).map(|_| Cell::default()).collect();
    let mut writer = Writer::format(&cells, LAYOUT, 1).unwrap();
    writer.keep_alive(0, u64::MAX / 2);
    let reader = Reader::open(&cells).unwrap();
    let telemetry = FeedTelemetry::default();
    let config = ArbiterConfig { lines: 1, ..ArbiterConfig::default() };
    let mut feed: Feed<NoPrefetch> =
        Feed::new(0, Protocol::Tops16 { symbols_max: 8_000 }, config, &telemetry).unwrap();
    let mut port = open_capture(&file, None).unwrap();
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
                held(&reader).compare(checkpoints.next().unwrap());
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
    let (status, _) = row::<Status>(&reader, reader.find(b"AAPL").next().unwrap()).unwrap();
    assert_eq!((status.state, &status.reason, status.operational_halt), (b'T', b"    ", b'N'));
    assert_eq!(reader.feed(0).condition, Condition::Live);
    assert_eq!(&reader.feed(0).session.unwrap().session, b"1137508352");
}

#[test]
fn the_recorded_day_is_decoded_by_the_command() {
    let Some(file) = capture(CAPTURE) else { return };
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tickplane"));
    command.arg("decode").arg(file);
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
