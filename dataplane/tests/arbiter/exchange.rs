//! The two sides of the arbiter: datagrams made for it, and a record of what it gave, which checks itself.

use std::sync::Arc;

use dataplane::cache::tick::Condition;
use dataplane::feed::transport::Moldudp64;
use dataplane::feed::{Arbiter, ArbiterConfig, Arrival, Delivery, Event, FeedCounters, Sink};

pub const ONE: &[u8; 10] = b"SESSION001";
pub const TWO: &[u8; 10] = b"SESSION002";
pub const END: u16 = 0xFFFF;

/// Message `sequence` of a session: its own number, and a tail whose length depends on it.
pub fn body(sequence: u64) -> Vec<u8> {
    let mut body = sequence.to_be_bytes().to_vec();
    body.resize(8 + (sequence % 5) as usize, 0xEE);
    body
}

pub fn header(session: &[u8; 10], sequence: u64, count: u16) -> Vec<u8> {
    let mut datagram = session.to_vec();
    datagram.extend_from_slice(&sequence.to_be_bytes());
    datagram.extend_from_slice(&count.to_be_bytes());
    datagram
}

pub fn datagram(session: &[u8; 10], sequence: u64, count: u16) -> Vec<u8> {
    let mut datagram = header(session, sequence, count);
    if count != END {
        for sequence in sequence..sequence + u64::from(count) {
            let body = body(sequence);
            datagram.extend_from_slice(&(body.len() as u16).to_be_bytes());
            datagram.extend_from_slice(&body);
        }
    }
    datagram
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    Message(u64),
    Event(Event),
}

/// Asserts of every delivery that it is what is next, and that its messages are their own.
#[derive(Debug, Default)]
pub struct Record {
    pub out: Vec<Out>,
    pub next: u64,
    pub deliveries: Vec<(u64, u16, usize, u64)>,
}

impl Sink for Record {
    fn messages(&mut self, delivery: Delivery<'_>) {
        assert_eq!(delivery.sequence, self.next, "not what is next: {delivery:?}");
        let mut count = 0;
        for message in delivery.messages::<Moldudp64>() {
            assert_eq!(message, body(self.next), "not message {}", self.next);
            self.out.push(Out::Message(self.next));
            self.next += 1;
            count += 1;
        }
        assert_eq!(count, delivery.count);
        assert!(count > 0);
        self.deliveries.push((delivery.sequence, delivery.count, delivery.line, delivery.received_ns));
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::SessionStarted { sequence, late, .. } => {
                assert_eq!(late, sequence != 1);
                self.next = sequence;
            }
            Event::Gap { from, to } => {
                assert_eq!(from, self.next);
                assert!(to > from);
                self.next = to;
            }
            Event::SessionEnded { next_sequence } => assert_eq!(next_sequence, self.next),
            Event::Condition(_) => {}
        }
        self.out.push(Out::Event(event));
    }
}

pub const CONFIG: ArbiterConfig = ArbiterConfig {
    lines: 2,
    reorder_packets: 3,
    held_packets: 16,
    slot_bytes: 256,
    gap_timeout_ns: 1_000,
    silence_ns: 100_000,
};

/// An arbiter with its surroundings; the clock moves only by [`Desk::wait`].
pub struct Desk {
    pub arbiter: Arbiter<Moldudp64>,
    pub record: Record,
    pub now_ns: u64,
}

pub const A: usize = 0;
pub const B: usize = 1;

impl Desk {
    pub fn new(config: ArbiterConfig) -> Desk {
        let arbiter = Arbiter::new(config, Arc::new(FeedCounters::default())).unwrap();
        Desk { arbiter, record: Record::default(), now_ns: 1_000_000 }
    }

    /// Both lines have delivered messages 1 and 2, and the record of it is cleared.
    pub fn started() -> Desk {
        Desk::started_with(CONFIG)
    }

    pub fn started_with(config: ArbiterConfig) -> Desk {
        let mut desk = Desk::new(config);
        desk.send(A, 1, 2);
        desk.send(B, 1, 2);
        let session = Event::SessionStarted { session: *ONE, sequence: 1, late: false };
        assert_eq!(
            desk.take(),
            [
                Out::Event(session),
                Out::Event(Event::Condition(Condition::Degraded)),
                Out::Message(1),
                Out::Message(2),
                Out::Event(Event::Condition(Condition::Live)),
            ]
        );
        desk
    }

    pub fn raw(&mut self, line: usize, datagram: &[u8]) {
        let arrival = Arrival { line, now_ns: self.now_ns, received_ns: self.now_ns + 7 };
        self.arbiter.accept(datagram, arrival, &mut self.record);
    }

    pub fn send_of(&mut self, session: &[u8; 10], line: usize, sequence: u64, count: u16) {
        self.raw(line, &datagram(session, sequence, count));
    }

    pub fn send(&mut self, line: usize, sequence: u64, count: u16) {
        self.send_of(ONE, line, sequence, count);
    }

    pub fn wait(&mut self, time_ns: u64) {
        self.now_ns += time_ns;
        self.arbiter.poll(self.now_ns, &mut self.record);
    }

    /// What came out since the last call.
    pub fn take(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.record.out)
    }

    pub fn counters(&self) -> &FeedCounters {
        self.arbiter.counters()
    }
}

pub fn messages(from: u64, to: u64) -> Vec<Out> {
    (from..to).map(Out::Message).collect()
}

pub fn gap(from: u64, to: u64) -> Out {
    Out::Event(Event::Gap { from, to })
}

pub fn condition(condition: Condition) -> Out {
    Out::Event(Event::Condition(condition))
}
