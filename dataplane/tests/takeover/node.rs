//! A node: its own lines and worker, and its copy of the group's region, which it writes if it is the primary.

use crate::source::Speech;
use dataplane::cache::cell::Cell;
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::writer::Writer;
use dataplane::feed::ArbiterConfig;
use dataplane::hint::NoPrefetch;
use dataplane::limits::BURST_MAX;
use dataplane::port::{Frame, Medium, Port, PortCounters};
use dataplane::sim::clock::SimClock;
use dataplane::sim::lines::{Impairment, Line, Lines};
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;

pub const LAYOUT: Layout = Layout { instruments: 96, feeds: 2, log_ticks: 1 << 10, bursts: 1 << 4 };
pub const HOUR_NS: u64 = 3_600_000_000_000;
const FAR_NS: u64 = 1_000 * HOUR_NS;

const fn group(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, last), 26_477)
}

/// By feed and line.
pub const GROUPS: [[SocketAddrV4; 2]; 2] = [[group(1), group(2)], [group(3), group(4)]];

/// What has arrived.
pub type Packets = Rc<RefCell<VecDeque<(SocketAddrV4, Vec<u8>)>>>;

pub struct Inbox {
    packets: Packets,
    burst: Vec<(SocketAddrV4, Vec<u8>)>,
}

impl Port for Inbox {
    fn medium(&self) -> Medium {
        Medium::Udp
    }

    fn rx_burst(&mut self) -> usize {
        let mut packets = self.packets.borrow_mut();
        let count = packets.len().min(BURST_MAX);
        self.burst = packets.drain(..count).collect();
        count
    }

    fn frame(&self, index: usize) -> Frame<'_> {
        let (destination, bytes) = &self.burst[index];
        Frame { bytes, stamp_ns: 0, source: Ipv4Addr::LOCALHOST, destination: *destination }
    }

    fn tx(&mut self, _frame: &[u8]) -> bool {
        false
    }

    fn counters(&self) -> PortCounters {
        PortCounters::default()
    }
}

pub type Machine<'m> = Worker<'m, Inbox, &'m SimClock, NoPrefetch>;

pub fn machine<'m>(
    packets: &Packets,
    clock: &'m SimClock,
    speeches: &[Speech],
    writer: Writer<'m>,
) -> Machine<'m> {
    let port = Inbox { packets: packets.clone(), burst: Vec::new() };
    let feeds = speeches.iter().zip(GROUPS).map(|(speech, groups)| FeedSetup {
        arbiter: ArbiterConfig { held_packets: 256, ..ArbiterConfig::default() },
        lines: groups.map(|destination| LineSetup { port: 0, destination, source: None }).into(),
        protocol: speech.protocol(writer.layout().instruments as usize),
    });
    let feeds = feeds.collect();
    Worker::new(vec![PortSetup { port, host: None, vlan: None }], feeds, writer, clock, HOUR_NS).unwrap()
}

pub enum Role<'m> {
    /// With the writer of the region that it is to go on in once it gives up.
    Primary(Writer<'m>),
    Standby(Follower<'m>),
}

pub struct Node<'m> {
    pub machine: Machine<'m>,
    packets: Packets,
    /// By feed.
    lines: Vec<Lines>,
    /// The group's region, as this node has it.
    pub cells: &'m [Cell],
    /// `None` only while it changes.
    pub role: Option<Role<'m>>,
}

impl<'m> Node<'m> {
    /// A hot standby that has heard nothing yet.
    pub fn standby(
        [cells, shadow]: [&'m [Cell]; 2],
        clock: &'m SimClock,
        speeches: &[Speech],
        lines: Vec<Lines>,
    ) -> Node<'m> {
        let packets = Packets::default();
        let machine = machine(&packets, clock, speeches, Writer::format(shadow, LAYOUT, 1).unwrap());
        let role = Some(Role::Standby(Follower::format(cells, LAYOUT, 1).unwrap()));
        Node { machine, packets, lines, cells, role }
    }

    pub fn reader(&self) -> Reader<'m> {
        Reader::open(self.cells).unwrap()
    }

    /// Everything below is in its copy of the group's region.
    pub fn position(&self) -> u64 {
        match &self.role {
            Some(Role::Standby(follower)) => follower.position(),
            _ => self.reader().tail(),
        }
    }

    /// The next message of a feed.
    pub fn next_sequence(&self, feed: usize) -> u64 {
        self.machine.telemetry().feeds[feed].lines.next_sequence.get()
    }

    pub fn send(&mut self, feed: usize, packet: &[u8], now_ns: u64) {
        self.lines[feed].send(packet, now_ns);
    }

    /// From now on its lines bring everything, at once.
    pub fn heal(&mut self, now_ns: u64) {
        self.receive(now_ns, true);
        self.lines.iter_mut().for_each(|lines| *lines = Lines::new(1, &Impairment::default()));
    }

    /// Takes what has arrived by now; `all` = also what lines hold back for later packets.
    pub fn receive(&mut self, now_ns: u64, all: bool) {
        for (feed, lines) in self.lines.iter_mut().enumerate() {
            if all {
                lines.release(now_ns);
            }
            let now_ns = if all { u64::MAX } else { now_ns };
            for line in Line::ALL {
                while let Some(packet) = lines.pop_due(line, now_ns) {
                    self.packets.borrow_mut().push_back((GROUPS[feed][line as usize], packet));
                }
            }
        }
        while self.machine.do_work() != 0 {}
    }

    /// Copies so many ticks of the primary's log, or an image if it does not reach back far enough.
    pub fn follow(&mut self, primary: &Reader<'_>, ticks: u64) {
        let Some(Role::Standby(follower)) = &mut self.role else { panic!("it is a standby") };
        let end = primary.tail().min(follower.position().saturating_add(ticks));
        while follower.position() < end {
            match primary.log_tick(follower.position()) {
                Some(tick) => follower.tick(&tick).unwrap(),
                None => return self.copy(primary),
            }
        }
        follower.commit();
        // The primary lends more belief than it should: what is live is looked at all the harder.
        follower.believe_until(FAR_NS);
    }

    /// Takes an image, while nothing is written.
    pub fn copy(&mut self, primary: &Reader<'_>) {
        let Some(Role::Standby(follower)) = &mut self.role else { panic!("it is a standby") };
        follower.restart(primary.tail());
        for (position, tick) in (0..primary.image_rows()).filter_map(|index| primary.image_row(index)) {
            follower.row(position, &tick).unwrap();
        }
        follower.believe_until(FAR_NS);
    }
}
