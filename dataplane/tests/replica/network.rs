//! A simulated connection: ordered, delayed, of bounded room; it can stall in each direction, and break.

use dataplane::cache::reader::Reader;
use dataplane::replica::{Copied, Link, Message, Record};
use std::collections::VecDeque;

/// Packets that are on their way at most.
const ROOM: usize = 8;
/// Ticks of one packet.
const TICKS_MAX: usize = 24;

#[derive(Clone, Debug)]
pub enum Packet {
    Message(Message),
    Rows(Vec<Record>),
    Ticks(Vec<Record>),
}

/// One direction.
#[derive(Default, Debug)]
pub struct Pipe {
    packets: VecDeque<(u64, Packet)>,
    pub stalled: bool,
}

impl Pipe {
    fn push(&mut self, due_ns: u64, packet: Packet) -> bool {
        if self.packets.len() == ROOM {
            return false;
        }
        let due_ns = self.packets.back().map_or(due_ns, |(last, _)| due_ns.max(*last));
        self.packets.push_back((due_ns, packet));
        true
    }

    pub fn pop(&mut self, now_ns: u64) -> Option<Packet> {
        let due = !self.stalled && self.packets.front().is_some_and(|(due_ns, _)| *due_ns <= now_ns);
        due.then(|| self.packets.pop_front().expect("there is one").1)
    }
}

#[derive(Default, Debug)]
pub struct Connection {
    pub to_standby: Pipe,
    pub to_primary: Pipe,
}

impl Connection {
    /// The standby's end.
    pub fn answer(&mut self, message: Message, due_ns: u64) {
        // An acknowledgement for which there is no room is followed by one that says more.
        self.to_primary.push(due_ns, Packet::Message(message));
    }
}

/// The primary's end, in one round.
pub struct PrimaryEnd<'c> {
    pub connection: &'c mut Connection,
    pub now_ns: u64,
    pub delay_ns: u64,
}

impl Link for PrimaryEnd<'_> {
    fn copy(&mut self, log: &Reader<'_>, from: u64, upto: u64) -> Copied {
        if from == upto {
            return Copied::Upto(from);
        }
        let upto = upto.min(from + TICKS_MAX as u64);
        let ticks: Option<Vec<Record>> = (from..upto)
            .map(|position| log.log_tick(position).map(|tick| Record { position, tick }))
            .collect();
        let Some(ticks) = ticks else { return Copied::Lapped };
        let sent = self.connection.to_standby.push(self.now_ns + self.delay_ns, Packet::Ticks(ticks));
        Copied::Upto(if sent { upto } else { from })
    }

    fn rows(&mut self, rows: &[Record]) -> usize {
        let rows = &rows[..rows.len().min(TICKS_MAX)];
        let sent = self.connection.to_standby.push(self.now_ns + self.delay_ns, Packet::Rows(rows.to_vec()));
        if sent { rows.len() } else { 0 }
    }

    fn send(&mut self, message: Message) -> bool {
        self.connection.to_standby.push(self.now_ns + self.delay_ns, Packet::Message(message))
    }

    fn receive(&mut self) -> Option<Message> {
        match self.connection.to_primary.pop(self.now_ns)? {
            Packet::Message(message) => Some(message),
            other => panic!("a standby sends messages only: {other:?}"),
        }
    }
}
