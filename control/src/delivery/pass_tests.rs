//! Passing over by summaries is the same as passing over tick by tick.

use super::*;
use crate::config::Config;
use crate::delivery::{Client, Plan};
use crate::node::Node;
use crate::proto::DeliveryMode;
use crate::runner::{GroupAccess, ServedCache};
use crate::selection::Selection;
use crate::settings::Settings;
use crate::store::Store;
use dataplane::cache::cell::Cell;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Kind, Quote, Session, Tick, Trade};
use dataplane::cache::writer::Writer;
use dataplane::telemetry::{FeedTelemetry, Telemetry};
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner};
use std::path::Path;
use tokio::sync::watch;

const LAYOUT: Layout = Layout { instruments: 64, feeds: 2, log_ticks: 1_024, bursts: 64 };
const INSTRUMENTS: u32 = 48;
const CONFIG: &str = r#"
node = "test"
[[ports]]
name = "a"
kind = "udp"
interface = "lo"
[[feeds]]
name = "one"
protocol = "itch50"
[[feeds.lines]]
name = "A"
port = "a"
group = "239.1.1.1:26477"
[[feeds]]
name = "two"
protocol = "itch50"
[[feeds.lines]]
name = "A"
port = "a"
group = "239.1.1.2:26477"
"#;

#[derive(Clone, Debug)]
enum Happening {
    Ticks {
        count: u64,
        seed: u64,
    },
    Named {
        instrument: u32,
        is_wanted: bool,
    },
    Event {
        feed: u16,
    },
    /// Somebody else passes over all that is there.
    Other,
    Pass,
    /// What is owed is told, and so much is published between.
    Tell {
        between: u64,
    },
    Anew,
}

struct World {
    cells: &'static [Cell],
    writer: Writer<'static>,
    generation: u64,
    node: Arc<Node>,
}

impl World {
    fn new() -> World {
        let cells: &'static [Cell] = (0..LAYOUT.cells()).map(|_| Cell::default()).collect::<Vec<_>>().leak();
        let writer = Writer::format(cells, LAYOUT, 1).unwrap();
        let settings = Settings::new(Arc::new(Config::parse(Path::new("test.toml"), CONFIG).unwrap()), None);
        let feeds = vec![FeedTelemetry::default(), FeedTelemetry::default()];
        let telemetry = Arc::new(Telemetry { feeds, ..Telemetry::default() });
        let (reader, group) = (writer.reader(), GroupAccess::default());
        let cache = ServedCache { reader, telemetry, region_bytes: 0, group };
        let store = Arc::new(Store::in_memory().unwrap());
        let node = Node::new(settings, cache, store, watch::channel(false).1).unwrap();
        let mut world = World { cells, writer, generation: 1, node: Arc::new(node) };
        world.fill();
        world
    }

    fn fill(&mut self) {
        self.writer.keep_alive(0, u64::MAX / 2);
        (0..LAYOUT.feeds).for_each(|feed| self.event(feed));
        for _ in 0..INSTRUMENTS {
            let instrument = self.writer.allocate().unwrap();
            self.name(instrument, instrument.is_multiple_of(2));
        }
    }

    fn event(&mut self, feed: u16) {
        let head = Tick { instrument: INSTRUMENT_NONE, feed, ..Tick::default() };
        self.writer.publish(&head.with_payload(Session { day: 19_724, ..bytemuck::Zeroable::zeroed() }));
        self.writer.commit();
    }

    fn name(&mut self, instrument: u32, is_wanted: bool) {
        let name = format!("{}{instrument}", if is_wanted { "A" } else { "B" });
        let head = Tick { instrument, feed: (instrument % 2) as u16, ..Tick::default() };
        self.writer.define(instrument, &head, Definition::new(instrument, name.as_bytes()));
        self.writer.commit();
    }

    fn tick(&mut self, count: u64, seed: u64) {
        for number in 0..count {
            let drawn = (seed + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let instrument = (drawn % u64::from(INSTRUMENTS)) as u32;
            let head = Tick { instrument, feed: (drawn >> 8) as u16 % 2, ..Tick::default() };
            let tick = match (drawn >> 12) % 3 {
                0 => head.with_payload(Trade { price: 1, size: 1, trade_id: number }),
                _ => head.with_payload(Quote { bid_price: number as i64, bid_size: 1, ..Quote::EMPTY }),
            };
            self.writer.publish(&tick);
            self.writer.commit();
        }
    }

    fn subscription(&self, patterns: &[&str], feeds: &[&str], kinds: &[Kind]) -> Subscription {
        let [patterns, feeds] = [patterns, feeds].map(|names| names.iter().map(|name| (*name).to_owned()));
        let (patterns, feeds): (Vec<_>, Vec<_>) = (patterns.collect(), feeds.collect());
        let wanted = Selection::new(&self.node.config, &[], &feeds, &patterns, kinds).unwrap();
        let plan = Plan::new(wanted).delivered(DeliveryMode::Conflated.into(), 0, 0, 0).unwrap();
        Subscription::new(self.node.clone(), Client::default(), Arc::new(plan), None)
    }
}

/// What was looked at.
#[derive(Debug, Default)]
struct Seen {
    blocks: u64,
    left_out: u64,
    laps: u64,
    events: u64,
    ahead: u64,
    /// Summaries that somebody else made, or found.
    others: u64,
}

/// Blocks that are passed over by their summaries.
fn blocks(one: &Subscription) -> u64 {
    let (from, reader) = (one.cursor.position(), &one.node.reader);
    let starts = (from.next_multiple_of(summary::TICKS)..).step_by(summary::TICKS as usize);
    let whole = starts.take_while(|start| start + summary::TICKS <= reader.tail());
    let told =
        whole.filter(|start| one.ahead.is_behind(*start) && one.generation == Some(reader.generation()));
    let summaries = told.filter_map(|start| one.node.summaries.at(reader, start));
    summaries.filter(|summary| summary.changes.is_some()).count() as u64
}

fn look(world: &World) -> u64 {
    let reader = &world.node.reader;
    let starts = (0..reader.tail() / summary::TICKS).map(|block| block * summary::TICKS);
    starts.filter(|start| world.node.summaries.at(reader, *start).is_some()).count() as u64
}

fn pass(one: &mut Subscription, plain: &mut Subscription, seen: &mut Seen) {
    seen.ahead += u64::from(!one.ahead.is_behind(one.cursor.position()));
    seen.blocks += blocks(one);
    let (since, tail) = (plain.cursor.position(), plain.node.reader.tail());
    if let Some(Next::Lapped { .. }) = plain.pass_ticks(tail, 1) {
        plain.pass_over_lapped(since, 1);
        seen.laps += 1;
    }
    one.pass_over(1);
    check_same(one, plain);
    seen.left_out += one.left_out;
    seen.events += u64::from(one.is_event_owed);
}

fn check_same(one: &Subscription, plain: &Subscription) {
    let numbers = |of: &crate::delivery::bits::Bits| {
        std::iter::successors(of.next(0), |last| of.next(last + 1)).collect::<Vec<_>>()
    };
    assert_eq!(one.cursor, plain.cursor);
    assert_eq!(one.left_out, plain.left_out);
    assert_eq!(one.is_event_owed, plain.is_event_owed);
    assert_eq!(numbers(&one.owed), numbers(&plain.owed));
    assert_eq!(numbers(&one.members), numbers(&plain.members));
    assert_eq!(one.telling.is_some(), plain.telling.is_some());
}

fn tell(world: &mut World, pair: [&mut Subscription; 2], between: u64) {
    world.tick(between, 7);
    let told = pair.map(|one| {
        if one.telling.is_none() {
            one.begin_telling(0, false, 1);
        }
        let mut told = Vec::new();
        while one.telling.is_some() {
            let response = one.tell(1);
            told.push((response.updates, response.head.skipped, response.head.lapped));
        }
        told
    });
    assert_eq!(told[0], told[1]);
}

fn begin(world: &World, one: &mut Subscription) {
    one.step(1);
    while one.telling.is_some() {
        one.tell(1);
    }
    assert_eq!(one.generation, Some(world.generation));
}

fn live(choice: usize, happenings: Vec<Happening>, seen: &mut Seen) {
    let mut world = World::new();
    let of = |world: &World| match choice {
        0 => world.subscription(&["A4"], &[], &[]),
        1 => world.subscription(&["A*"], &["two"], &[]),
        2 => world.subscription(&["A1", "A2", "A3"], &["one"], &[Kind::Quote]),
        _ => world.subscription(&["*"], &[], &[Kind::Trade]),
    };
    let (mut one, mut plain) = (of(&world), of(&world));
    begin(&world, &mut one);
    begin(&world, &mut plain);
    let mut others = 0;
    for happening in happenings {
        match happening {
            Happening::Ticks { count, seed } => world.tick(count, seed),
            Happening::Named { instrument, is_wanted } => world.name(instrument, is_wanted),
            Happening::Event { feed } => world.event(feed),
            Happening::Other => others += look(&world),
            Happening::Pass => pass(&mut one, &mut plain, seen),
            Happening::Tell { between } => {
                pass(&mut one, &mut plain, seen);
                tell(&mut world, [&mut one, &mut plain], between);
            }
            Happening::Anew => {
                world.generation += 1;
                world.writer = Writer::format(world.cells, LAYOUT, world.generation).unwrap();
                world.fill();
                pass(&mut one, &mut plain, seen);
                begin(&world, &mut one);
                begin(&world, &mut plain);
            }
        }
    }
    pass(&mut one, &mut plain, seen);
    seen.others += others;
}

#[test]
fn by_summaries_is_the_same_as_tick_by_tick() {
    let happening = prop_oneof![
        10 => (1..700_u64, any::<u32>()).prop_map(|(count, seed)| Happening::Ticks { count, seed: seed.into() }),
        2 => (0..INSTRUMENTS, any::<bool>())
            .prop_map(|(instrument, is_wanted)| Happening::Named { instrument, is_wanted }),
        1 => (0..LAYOUT.feeds).prop_map(|feed| Happening::Event { feed }),
        5 => Just(Happening::Other),
        5 => Just(Happening::Pass),
        4 => (0..300_u64).prop_map(|between| Happening::Tell { between }),
        1 => Just(Happening::Anew),
    ];
    let config = Runs { cases: 150, failure_persistence: None, ..Runs::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let seen = std::cell::RefCell::new(Seen::default());
    let lives = (0..4_usize, prop::collection::vec(happening, 1..60));
    let ran = TestRunner::new_with_rng(config, rng).run(&lives, |(choice, happenings)| {
        live(choice, happenings, &mut seen.borrow_mut());
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    let seen = seen.into_inner();
    println!("{seen:?}");
    let Seen { blocks, left_out, laps, events, ahead, others } = seen;
    assert!(
        others > 500 && blocks > 500 && left_out > 10_000 && laps > 20 && events > 20 && ahead > 20,
        "{seen:?}"
    );
}

/// At a block's beginning, where no single tick is looked at before the block's summary.
#[test]
fn who_is_lapped_is_told_so_whatever_summaries_others_made() {
    let mut world = World::new();
    let (mut one, mut plain) = (world.subscription(&["A4"], &[], &[]), world.subscription(&["A4"], &[], &[]));
    let tail = world.node.reader.tail();
    world.tick(tail.next_multiple_of(summary::TICKS) - tail, 1);
    begin(&world, &mut one);
    begin(&world, &mut plain);
    assert!(one.cursor.position().is_multiple_of(summary::TICKS) && one.cursor == plain.cursor);
    world.tick(summary::TICKS, 2);
    assert!(look(&world) > 0);
    world.tick(LAYOUT.log_ticks, 3);
    let mut seen = Seen::default();
    pass(&mut one, &mut plain, &mut seen);
    assert_eq!(seen.laps, 1);
    tell(&mut world, [&mut one, &mut plain], 0);
}
