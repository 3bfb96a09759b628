//! A primary and a standby on two devices, and what must be equal.

use crate::nodes::{PATIENCE, devices};
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Definition, Quote, Tick};
use dataplane::cache::writer::Writer;
use dataplane::replica::{Lineage, Primary, PrimaryLimits, Standby, StandbyCounters, StandbyStatus};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::rdma::link::{LinkError, LinkedStandby, LogMemory, PrimaryEnd};
use drivers::rdma::{Device, QueuePairConfig};
use drivers::region::RegionMapping;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

pub const LAYOUT: Layout = Layout { instruments: 32, feeds: 1, log_ticks: 256, bursts: 16 };
pub const LIMITS: PrimaryLimits = PrimaryLimits { window_ticks: 100, valid_for_ns: 2_000_000_000 };
/// What the window leaves of a standby's log.
const READABLE_TICKS: u64 = LAYOUT.log_ticks / 2;

pub fn now_ns() -> u64 {
    SystemClock.monotonic_ns()
}

pub fn mapping() -> Arc<RegionMapping> {
    mapping_of(LAYOUT)
}

pub fn mapping_of(layout: Layout) -> Arc<RegionMapping> {
    Arc::new(RegionMapping::create_anonymous("rdma-test", layout.cells()).unwrap())
}

/// Both ends of one stream: the primary's and the standby's.
pub fn stream() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

/// So few tries that a peer that is gone is noticed soon.
pub fn impatient() -> QueuePairConfig {
    QueuePairConfig { retries: 2, ..QueuePairConfig::default() }
}

/// A tick all of whose words tell the same.
pub fn tick(instrument: u32, value: u64) -> Tick {
    let quote = Quote {
        bid_price: value as i64,
        ask_price: value as i64,
        bid_size: value as u32,
        ask_size: value as u32,
    };
    let (sequence, exchange_ns, received_ns) = (value, value, value);
    Tick { instrument, sequence, exchange_ns, received_ns, ..Tick::default() }.with_payload(quote)
}

/// Goes round until it is so.
pub fn until(what: &str, mut round: impl FnMut() -> bool) {
    let started = Instant::now();
    while !round() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// A primary with its region, on a device.
pub struct Main<'m> {
    pub writer: Writer<'m>,
    pub reader: Reader<'m>,
    pub primary: Primary<'m>,
    pub log: Arc<LogMemory>,
    pub value: u64,
}

impl<'m> Main<'m> {
    pub fn new(device: &Arc<Device>, mapping: &'m Arc<RegionMapping>, term: u64) -> Main<'m> {
        let mut writer = Writer::format(mapping.cells(), LAYOUT, 1).unwrap();
        for index in 0..LAYOUT.instruments {
            let instrument = writer.allocate().unwrap();
            let name = format!("I{index}");
            writer.define(instrument, &Tick::default(), Definition::new(index, name.as_bytes()));
        }
        writer.commit();
        let reader = Reader::open(mapping.cells()).unwrap();
        let primary = Primary::new(reader, Lineage::first(term, 7), LIMITS);
        let log = Arc::new(LogMemory::local(device, mapping).unwrap());
        Main { writer, reader, primary, log, value: term << 32 }
    }

    pub fn write(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.value += 1;
            self.writer.publish(&tick((self.value * 7 % 32) as u32, self.value));
        }
        self.writer.commit();
    }

    pub fn poll(&mut self, end: &mut PrimaryEnd) -> Result<(), LinkError> {
        self.writer.keep_alive(now_ns(), 60_000_000_000);
        end.fill()?;
        self.primary.poll(end, now_ns());
        end.flush()?;
        Ok(())
    }
}

/// A standby with its region, on a device.
pub struct Copy<'m> {
    pub linked: LinkedStandby<'m>,
    pub reader: Reader<'m>,
    pub mapping: &'m Arc<RegionMapping>,
}

impl<'m> Copy<'m> {
    pub fn new(device: &Arc<Device>, mapping: &'m Arc<RegionMapping>) -> Copy<'m> {
        Copy::with_layout(device, mapping, LAYOUT)
    }

    pub fn with_layout(device: &Arc<Device>, mapping: &'m Arc<RegionMapping>, layout: Layout) -> Copy<'m> {
        let standby = Standby::new(Follower::format(mapping.cells(), layout, 1).unwrap(), 0);
        let reader = Reader::open(mapping.cells()).unwrap();
        Copy { linked: LinkedStandby::new(standby, device, mapping, &impatient()), reader, mapping }
    }

    pub fn poll(&mut self) -> Result<(), LinkError> {
        self.linked.poll(now_ns, &mut |_| true).map(|_| ())
    }

    pub fn status(&self) -> StandbyStatus {
        self.linked.standby().status()
    }

    pub fn counters(&self) -> StandbyCounters {
        self.linked.standby().counters()
    }
}

/// A new connection, the primary's end of it.
pub fn connect(main: &mut Main<'_>, copy: &mut Copy<'_>) -> PrimaryEnd {
    let (one, other) = stream();
    main.primary.connected();
    copy.linked.connect(other).unwrap();
    PrimaryEnd::new(one, &main.log, &impatient()).unwrap()
}

/// Runs a test with a primary and a standby that are level.
pub fn with_level(test: impl FnOnce(Main<'_>, Copy<'_>, PrimaryEnd)) {
    let Some(devices) = devices() else { return };
    let mappings = [mapping(), mapping()];
    let mut main = Main::new(&devices[0], &mappings[0], 1);
    let mut copy = Copy::new(&devices[1], &mappings[1]);
    let mut end = connect(&mut main, &mut copy);
    until_level(&mut main, &mut copy, &mut end);
    test(main, copy, end);
}

/// The standby has everything, and may be believed.
pub fn is_level(main: &Main<'_>, copy: &Copy<'_>) -> bool {
    let (status, tail) = (copy.status(), main.reader.tail());
    status.level
        && status.position == tail
        && copy.reader.valid_until_ns() > now_ns()
        && main.primary.status().acknowledged == tail
}

pub fn until_level(main: &mut Main<'_>, copy: &mut Copy<'_>, end: &mut PrimaryEnd) {
    until("the standby is level, believed and acknowledged", || {
        main.poll(end).unwrap();
        copy.poll().unwrap();
        is_level(main, copy)
    });
    assert!(end.is_connected() && copy.linked.is_by_device());
}

/// Both regions hold the same, the standby's log from `log_from` on as far as its window leaves it to readers.
pub fn compare(main: &Reader<'_>, copy: &Reader<'_>, log_from: u64) {
    let tail = main.tail();
    assert_eq!(copy.tail(), tail);
    for position in tail.saturating_sub(READABLE_TICKS).max(log_from)..tail {
        assert!(copy.log_tick(position).is_some(), "position {position} of {tail}");
        assert_eq!(copy.log_tick(position), main.log_tick(position));
    }
    assert_eq!(copy.log_tick(tail), None);
    assert_eq!(copy.image_rows(), main.image_rows());
    let mut rows = 0;
    for index in 0..main.image_rows() {
        assert_eq!(copy.image_row(index), main.image_row(index), "row {index}");
        rows += u32::from(main.image_row(index).is_some());
    }
    assert!(rows >= LAYOUT.instruments);
    for index in 0..LAYOUT.instruments {
        assert_eq!(copy.find(format!("I{index}").as_bytes()).collect::<Vec<_>>(), [index]);
    }
}
