//! A feed in memory, and the comparison of what it has published with what the channel knows.

use dataplane::cache::cell::Cell;
use dataplane::cache::reader::{Reader, State};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Contract as Terms, ImpliedQuote, PRICE_ABSENT, Payload, Quote, Status, Trade};
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Arrival, DecoderCounters, Feed, Protocol};
use dataplane::hint::NoPrefetch;
use dataplane::sim::mdp3::{Channel, Contract, Level};
use dataplane::telemetry::FeedTelemetry;

pub const LAYOUT: Layout = Layout { instruments: 256, feeds: 1, log_ticks: 1 << 12, bursts: 1 << 4 };
const HOUR_NS: u64 = 3_600_000_000_000;

pub fn cells() -> Vec<Cell> {
    (0..LAYOUT.cells()).map(|_| Cell::default()).collect()
}

pub struct Receiver<'m> {
    feed: Feed<NoPrefetch>,
    writer: Writer<'m>,
    reader: Reader<'m>,
    telemetry: FeedTelemetry,
    pub now_ns: u64,
}

impl<'m> Receiver<'m> {
    /// One line; a hole is declared as soon as there is a packet behind it.
    pub fn new(cells: &'m [Cell], instruments_max: usize) -> Receiver<'m> {
        let mut writer = Writer::format(cells, LAYOUT, 1).unwrap();
        writer.keep_alive(0, HOUR_NS);
        let config =
            ArbiterConfig { lines: 1, reorder_packets: 1, held_packets: 64, ..ArbiterConfig::default() };
        let telemetry = FeedTelemetry::default();
        let feed = Feed::new(0, Protocol::Mdp3 { instruments_max }, config, &telemetry).unwrap();
        Receiver { feed, writer, reader: Reader::open(cells).unwrap(), telemetry, now_ns: 1 }
    }

    /// Takes a packet, and does what a worker does after it.
    pub fn take(&mut self, packet: &[u8]) {
        let arrival = Arrival { line: 0, now_ns: self.now_ns, received_ns: self.now_ns };
        self.feed.accept(packet, arrival, &mut self.writer);
        self.feed.flush(&mut self.writer);
        self.wait(1_000);
    }

    pub fn wait(&mut self, ns: u64) {
        self.now_ns += ns;
        self.feed.poll(self.now_ns, &mut self.writer);
        self.writer.commit();
    }

    pub fn finish(&mut self) {
        self.feed.finish(self.now_ns, &mut self.writer);
        self.writer.commit();
    }

    pub fn counters(&self) -> &DecoderCounters {
        &self.telemetry.decoder
    }

    pub fn lines(&self) -> &dataplane::feed::FeedCounters {
        &self.telemetry.lines
    }

    pub fn reader(&self) -> &Reader<'m> {
        &self.reader
    }

    pub fn find(&self, name: &[u8]) -> Option<u32> {
        self.reader.find(name).next()
    }

    pub fn row<P: Payload>(&self, name: &[u8]) -> Option<(P, State)> {
        let row = self.reader.row::<P>(self.find(name)?, self.now_ns)?;
        Some((*row.tick.payload::<P>()?, row.state))
    }

    /// The worst of an instrument's rows but its trading status; `None` = it is not there.
    pub fn state(&self, name: &[u8]) -> Option<State> {
        let instrument = self.find(name)?;
        let (definition, _) = self.reader.definition(instrument, self.now_ns)?;
        let rows = [
            Some(definition),
            self.reader.row::<Quote>(instrument, self.now_ns),
            self.reader.row::<ImpliedQuote>(instrument, self.now_ns),
            self.reader.row::<Trade>(instrument, self.now_ns),
        ];
        rows.into_iter().flatten().map(|row| row.state).max()
    }

    /// Compares both tops.
    pub fn compare_quotes(&self, contract: &Contract) {
        let name = name(contract);
        let what = String::from_utf8_lossy(name);
        let quote = self.row::<Quote>(name).map_or(Quote::EMPTY, |(quote, _)| quote);
        assert_eq!(quote, top(&contract.sides[0], &contract.sides[1]), "{what}");
        let implied = self.row::<ImpliedQuote>(name).map_or(Quote::EMPTY, |(implied, _)| implied.0);
        assert_eq!(implied, top(&contract.sides[2], &contract.sides[3]), "{what} implied");
    }

    /// Compares the last trade; one that was `forgotten` may be absent.
    pub fn compare_trade(&self, contract: &Contract, forgotten: bool) {
        let name = name(contract);
        let trade =
            self.row::<Trade>(name).map(|(trade, _)| trade).filter(|trade| trade.price != PRICE_ABSENT);
        if forgotten && trade.is_none() {
            return;
        }
        let seen = trade.map(|trade| (trade.price, trade.size, trade.trade_id));
        let last = contract.last_trade();
        let last = last.map(|trade| (trade.price, trade.size.into(), trade.trade_id.into()));
        assert_eq!(seen, last, "{}", String::from_utf8_lossy(name));
    }

    /// Compares the trading status and the terms.
    fn compare_rest(&self, contract: &Contract) {
        let name = name(contract);
        let letter = match contract.trading_status {
            2 => b'H',
            4 => b'C',
            15 => b'I',
            17 => b'T',
            18 => b'N',
            21 => b'o',
            24 => b'x',
            25 => b'X',
            26 => b'c',
            other => other,
        };
        let status = self.row::<Status>(name).map_or(0, |(status, _)| status.state);
        assert_eq!(status, letter, "{}", String::from_utf8_lossy(name));
        let (terms, _) = self.row::<Terms>(name).expect("it was defined");
        assert_eq!(terms.security_group, contract.group);
    }

    /// All contracts are as the channel knows them, and `state` is theirs.
    pub fn compare_all(&self, channel: &Channel, state: State) {
        for contract in channel.contracts() {
            self.compare_quotes(contract);
            self.compare_trade(contract, false);
            self.compare_rest(contract);
            assert_eq!(
                self.state(name(contract)),
                Some(state),
                "{}",
                String::from_utf8_lossy(name(contract))
            );
        }
    }
}

pub fn name(contract: &Contract) -> &[u8] {
    contract.symbol.split(|byte| *byte == 0).next().unwrap()
}

fn top(bids: &[Level], asks: &[Level]) -> Quote {
    let best = |side: &[Level]| side.first().map_or((PRICE_ABSENT, 0), |level| (level.price, level.size));
    let ((bid_price, bid_size), (ask_price, ask_size)) = (best(bids), best(asks));
    Quote { bid_price, ask_price, bid_size, ask_size }
}
