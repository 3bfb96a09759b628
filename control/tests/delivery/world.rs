//! A region that a real writer fills, and a plain memory of everything that was ever published.

use control::config::Config;
use control::delivery::Plan;
use control::node::Node;
use control::proto::{BehindPolicy, DeliveryMode};
use control::runner::{GroupAccess, ServedCache};
use control::selection::Selection;
use control::settings::Settings;
use control::store::Store;
use dataplane::cache::cell::Cell;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{
    Condition, Definition, FeedState, INSTRUMENT_NONE, Kind, Quote, Session, Tick, Trade,
};
use dataplane::cache::writer::Writer;
use dataplane::telemetry::{FeedTelemetry, Telemetry};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// So short that clients are lapped all the time.
pub const LAYOUT: Layout = Layout { instruments: 8, feeds: 1, log_ticks: 64, bursts: 64 };
const FOR_EVER_NS: u64 = u64::MAX / 2;
pub const MS: u64 = 1_000_000;
const CONFIG: &str = r#"
node = "test"
[[ports]]
name = "a"
kind = "udp"
interface = "lo"
[[feeds]]
name = "nasdaq"
protocol = "itch50"
[[feeds.lines]]
name = "A"
port = "a"
group = "239.1.1.1:26477"
"#;
const NAMES: [&str; 8] = ["A0", "A1", "B0", "B1", "A2", "B2", "C0", "C1"];

pub type Row = (u32, u8);

pub struct World {
    writer: Writer<'static>,
    pub node: Arc<Node>,
    pub now_ns: u64,
    /// By position: the row and the number that its tick has; `None` = it concerns a whole feed.
    pub log: Vec<Option<(Row, u64)>>,
    /// Where the present session began.
    pub session: u64,
}

impl World {
    pub fn new() -> World {
        let cells = (0..LAYOUT.cells()).map(|_| Cell::default()).collect::<Vec<_>>().leak();
        let mut writer = Writer::format(cells, LAYOUT, 7).unwrap();
        writer.keep_alive(0, FOR_EVER_NS);
        let settings = Settings::new(Arc::new(Config::parse(Path::new("test.toml"), CONFIG).unwrap()), None);
        let telemetry = Arc::new(Telemetry { feeds: vec![FeedTelemetry::default()], ..Telemetry::default() });
        let stopping = watch::channel(false).1;
        let (reader, group) = (writer.reader(), GroupAccess::default());
        let cache = ServedCache { reader, telemetry, region_bytes: 0, group };
        let node = Node::new(settings, cache, Arc::new(Store::in_memory().unwrap()), stopping);
        let mut world =
            World { writer, node: Arc::new(node.unwrap()), now_ns: MS, log: Vec::new(), session: 0 };
        world.begin_session();
        world
    }

    fn publish(&mut self, tick: &Tick) {
        let position = self.writer.publish(tick);
        assert_eq!(position, self.log.len() as u64);
        let is_row = usize::from(tick.kind) < Kind::ROWS;
        self.log.push(is_row.then_some(((tick.instrument, tick.kind), tick.sequence)));
    }

    /// All that was is gone; instruments keep their names.
    pub fn begin_session(&mut self) {
        self.session = self.tail();
        let head = Tick { instrument: INSTRUMENT_NONE, ..Tick::default() };
        self.publish(&head.with_payload(Session { day: 19_724, ..bytemuck::Zeroable::zeroed() }));
        let live = FeedState { condition: Condition::Live as u8, ..bytemuck::Zeroable::zeroed() };
        self.publish(&head.with_payload(live));
        for instrument in 0..self.writer.instruments() {
            self.define(instrument);
        }
        self.writer.commit();
    }

    fn define(&mut self, instrument: u32) {
        let sequence = self.tail();
        let head = Tick { instrument, sequence, ..Tick::default() };
        let definition = Definition::new(instrument, NAMES[instrument as usize].as_bytes());
        self.writer.define(instrument, &head, definition);
        self.log.push(Some(((instrument, Kind::Definition as u8), sequence)));
    }

    /// One more instrument, if there is room.
    pub fn add(&mut self) {
        if let Ok(instrument) = self.writer.allocate() {
            self.define(instrument);
            self.writer.commit();
        }
    }

    /// Ticks of instruments that are there, taken in turn from `seed`.
    pub fn tick(&mut self, count: u64, seed: u64) {
        for number in 0..count {
            let instruments = u64::from(self.writer.instruments());
            if instruments == 0 {
                break;
            }
            let drawn = (seed + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let sequence = self.tail();
            let head = Tick { instrument: (drawn % instruments) as u32, sequence, ..Tick::default() };
            let tick = if (drawn >> 8).is_multiple_of(3) {
                head.with_payload(Trade { price: sequence as i64, size: 1, trade_id: sequence })
            } else {
                head.with_payload(Quote { bid_price: sequence as i64, bid_size: 1, ..Quote::EMPTY })
            };
            self.publish(&tick);
        }
        self.writer.commit();
    }

    pub fn tail(&self) -> u64 {
        self.log.len() as u64
    }

    /// The first position that the log still has.
    pub fn oldest(&self) -> u64 {
        self.tail().saturating_sub(LAYOUT.log_ticks)
    }

    pub fn instruments(&self) -> u32 {
        self.writer.instruments()
    }

    /// Rows of the present session that changed below a position, each with its last position there.
    pub fn ticks_below(&self, below: u64) -> impl Iterator<Item = (u64, Row)> + '_ {
        let positions = self.session..below.min(self.tail());
        positions.filter_map(|position| Some((position, self.log[position as usize]?.0)))
    }
}

/// A plan, and whether a row is in it in the plainest words.
#[derive(Clone, Debug)]
pub struct Wish {
    pub mode: DeliveryMode,
    pub policy: BehindPolicy,
    pub symbols: &'static [&'static str],
    pub kinds: &'static [Kind],
    pub rate_per_s: u32,
    pub is_paused: bool,
}

impl Wish {
    pub fn has(&self, (instrument, kind): Row) -> bool {
        let name = NAMES[instrument as usize];
        let is_named = self.symbols.iter().any(|symbol| match symbol.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *symbol,
        });
        is_named && (self.kinds.is_empty() || self.kinds.iter().any(|one| *one as u8 == kind))
    }

    /// Whether every change of it is to be delivered.
    pub fn promises(&self, (_, kind): Row) -> bool {
        match self.mode {
            DeliveryMode::EveryTick => true,
            DeliveryMode::TradeSafe => kind != Kind::Quote as u8,
            _ => false,
        }
    }

    pub fn plan(&self, node: &Node) -> Plan {
        let patterns: Vec<String> = self.symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
        let wanted = Selection::new(&node.config, &[], &[], &patterns, self.kinds).unwrap();
        let is_bounded = matches!(self.mode, DeliveryMode::EveryTick | DeliveryMode::TradeSafe);
        let is_conflating = matches!(self.mode, DeliveryMode::Conflated | DeliveryMode::TradeSafe);
        let policy = if is_bounded { self.policy } else { BehindPolicy::Unspecified };
        let rate_per_s = if is_conflating { self.rate_per_s } else { 0 };
        let plan = Plan::new(wanted).delivered(self.mode.into(), policy.into(), rate_per_s, 0).unwrap();
        Plan { is_paused: self.is_paused, ..plan }
    }
}
