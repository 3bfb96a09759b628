//! A TOPS feed from datagrams to rows, against the market that made the messages.

mod directed;
mod hostile;
mod property;

use dataplane::cache::cell::Cell;
use dataplane::cache::reader::{Reader, Row, State};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Payload, Quote, Status, Trade};
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Arrival, Feed, Protocol};
use dataplane::hint::NoPrefetch;
use dataplane::sim::tops::TopsRows;
use dataplane::telemetry::FeedTelemetry;

const LAYOUT: Layout = Layout { instruments: 64, feeds: 1, log_ticks: 1 << 10, bursts: 1 << 4 };
const SECOND_NS: u64 = 1_000_000_000;

/// A feed, the region that it fills, and a clock.
struct Receiver<'m> {
    feed: Feed<NoPrefetch>,
    writer: Writer<'m>,
    telemetry: FeedTelemetry,
    reader: Reader<'m>,
    now_ns: u64,
}

fn cells() -> Vec<Cell> {
    (0..LAYOUT.cells()).map(|_| Cell::default()).collect()
}

impl<'m> Receiver<'m> {
    fn new(cells: &'m [Cell], symbols_max: usize, arbiter: ArbiterConfig) -> Receiver<'m> {
        let mut writer = Writer::format(cells, LAYOUT, 1).unwrap();
        writer.keep_alive(0, u64::MAX / 2);
        let telemetry = FeedTelemetry::default();
        let feed = Feed::new(0, Protocol::Tops16 { symbols_max }, arbiter, &telemetry).unwrap();
        Receiver { feed, writer, telemetry, reader: Reader::open(cells).unwrap(), now_ns: SECOND_NS }
    }

    fn receive(&mut self, line: usize, packet: &[u8]) {
        self.now_ns += 1_000;
        let arrival =
            Arrival { line, now_ns: self.now_ns, received_ns: 1_704_119_400 * SECOND_NS + self.now_ns };
        self.feed.accept(packet, arrival, &mut self.writer);
        self.feed.poll(self.now_ns, &mut self.writer);
        self.feed.flush(&mut self.writer);
        self.writer.commit();
    }

    fn finish(&mut self) {
        self.feed.finish(self.now_ns, &mut self.writer);
        self.writer.commit();
    }

    fn row<P: Payload>(&self, symbol: &[u8; 8]) -> Option<(P, Row)> {
        let instrument = self.reader.find(symbol.trim_ascii_end()).next()?;
        let row = self.reader.row::<P>(instrument, self.now_ns)?;
        Some((*row.tick.payload::<P>().unwrap(), row))
    }

    fn state<P: Payload>(&self, symbol: &[u8; 8]) -> Option<State> {
        self.row::<P>(symbol).map(|(_, row)| row.state)
    }

    /// Compares every row, and returns how many there are and how many of them are suspect.
    fn compare(&self, symbols: &[[u8; 8]], expected: &TopsRows) -> (usize, usize) {
        let mut seen = (0, 0);
        let mut count = |state: State| {
            seen = (seen.0 + 1, seen.1 + usize::from(state == State::Suspect));
            state == State::Live
        };
        for (symbol, rows) in symbols.iter().zip(&expected.symbols) {
            let name = String::from_utf8_lossy(symbol);
            let quote = self.row::<Quote>(symbol).map(|(quote, row)| (quote, count(row.state)));
            assert_eq!(quote, rows.quote.map(|held| (held.row, held.proven)), "{name}");
            let trade = self.row::<Trade>(symbol).map(|(trade, row)| (trade, count(row.state)));
            assert_eq!(trade, rows.trade.map(|held| (held.row, held.proven)), "{name}");
            let status = self.row::<Status>(symbol).map(|(status, row)| (status, count(row.state)));
            assert_eq!(status, rows.status.map(|held| (held.row, held.proven)), "{name}");
        }
        seen
    }
}
