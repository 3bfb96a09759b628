//! What a standby costs its primary, a tick: the same bursts published with one standby served in the same thread, and without.
//! The link is memory: it takes what the log holds, and acknowledges at once.

use crate::report::{Goal, Line};
use crate::sample::{Sample, take_turns};
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Definition, Quote, Tick};
use dataplane::cache::writer::Writer;
use dataplane::replica::{Copied, Lineage, Link, Message, PROTOCOL, Primary, PrimaryLimits, Record};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::region::RegionMapping;
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

const LAYOUT: Layout = Layout { instruments: 16_384, feeds: 1, log_ticks: 1 << 20, bursts: 1 << 14 };
const BURST: u64 = 32;
const LIMITS: PrimaryLimits = PrimaryLimits { window_ticks: 1 << 16, valid_for_ns: 100_000_000 };
/// As much as the TCP link buffers.
const BUFFER_RECORDS: usize = 4_096;
/// What a tick may cost more.
const COST_NS: f64 = 10.0;

/// A link into this thread's own memory, and the standby at its end.
struct MemoryLink {
    copied: Vec<Record>,
    answers: VecDeque<Message>,
    session: u64,
}

impl MemoryLink {
    fn new() -> MemoryLink {
        let hello = Message::Hello {
            protocol: PROTOCOL,
            layout: LAYOUT.hash(),
            heard: 0,
            log: 0,
            position: 0,
            node: 1,
        };
        let copied = vec![Record { position: 0, tick: Tick::default() }; BUFFER_RECORDS];
        MemoryLink { copied, answers: VecDeque::from([hello]), session: 0 }
    }

    fn acknowledge(&mut self, position: u64) {
        let clock_ns = SystemClock.monotonic_ns();
        self.answers.push_back(Message::Ack { session: self.session, position, clock_ns, whole: true });
    }
}

impl Link for MemoryLink {
    fn copy(&mut self, log: &Reader<'_>, from: u64, upto: u64) -> Copied {
        let places = self.copied.len() as u64;
        for position in from..upto {
            let Some(tick) = log.log_tick(position) else { return Copied::Lapped };
            self.copied[(position % places) as usize] = Record { position, tick };
        }
        if from != upto {
            self.acknowledge(upto);
        }
        Copied::Upto(upto)
    }

    fn rows(&mut self, rows: &[Record]) -> usize {
        black_box(rows);
        rows.len()
    }

    fn send(&mut self, message: Message) -> bool {
        if let Message::Begin { session, from, .. } = message {
            self.session = session;
            self.acknowledge(from);
        }
        true
    }

    fn receive(&mut self) -> Option<Message> {
        self.answers.pop_front()
    }
}

/// Publishes, and returns ns a tick; with a standby also serves it after each burst.
fn run(ticks: u64, with_standby: bool) -> f64 {
    let mapping =
        RegionMapping::create_anonymous("bench", LAYOUT.cells()).expect("memory for the bench's region");
    let mut writer = Writer::format(mapping.cells(), LAYOUT, 1).expect("constant layout");
    for index in 0..LAYOUT.instruments {
        let instrument = writer.allocate().expect("as many as there is room for");
        let name = format!("I{index}");
        writer.define(instrument, &Tick::default(), Definition::new(index, name.as_bytes()));
    }
    writer.commit();
    let reader = Reader::open(mapping.cells()).expect("it is laid out");
    let mut primary = Primary::new(reader, Lineage::first(1, 7), LIMITS);
    let mut link = MemoryLink::new();
    writer.keep_alive(SystemClock.monotonic_ns(), u64::MAX / 4);
    while !primary.status().level {
        primary.poll(&mut link, SystemClock.monotonic_ns());
    }
    let before = primary.status().acknowledged;
    let started = Instant::now();
    for burst in 0..ticks / BURST {
        for index in 0..BURST {
            let value = burst * BURST + index;
            let quote = Quote { bid_price: value as i64, ..Quote::EMPTY };
            let instrument = (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50) as u32;
            writer.publish(&Tick { instrument, sequence: value, ..Tick::default() }.with_payload(quote));
        }
        writer.commit();
        let now_ns = SystemClock.monotonic_ns();
        writer.stamp_burst(now_ns);
        if with_standby {
            primary.poll(&mut link, now_ns);
        }
    }
    let elapsed_ns = started.elapsed().as_nanos() as f64;
    primary.poll(&mut link, SystemClock.monotonic_ns());
    let expected = if with_standby { before + ticks / BURST * BURST } else { before };
    assert!(primary.status().acknowledged >= expected, "everything was carried: {:?}", primary.status());
    elapsed_ns / ticks as f64
}

pub fn lines(rounds: usize, ticks: u64) -> Vec<Line> {
    let samples = take_turns(
        rounds,
        vec![
            ("with one standby", Box::new(|| run(ticks, true))),
            ("without", Box::new(|| run(ticks, false))),
        ],
    );
    let [with, without] = <[Sample; 2]>::try_from(samples).expect("two contenders");
    let cost_ns = with.median_ns() - without.median_ns();
    let cost = take_turns(1, vec![("the difference", Box::new(|| cost_ns))]).remove(0);
    vec![
        Line {
            what: "publish, bursts of 32, one standby served".to_owned(),
            theirs: Some(("the same without".to_owned(), without.median_ns())),
            ours: with,
            goal: None,
        },
        Line {
            what: "what a standby costs its primary, a tick".to_owned(),
            theirs: Some(("the most that it may".to_owned(), COST_NS)),
            ours: cost,
            goal: Some(Goal::TimeAtMost(1.0)),
        },
    ]
}
