//! The truth: one node that misses nothing, and all that it publishes.

use crate::history::{Entry, Names, Said};
use crate::node::{GROUPS, LAYOUT, Machine, Packets, machine};
use crate::source::Speech;
use dataplane::cache::cell::Cell;
use dataplane::cache::reader::{Cursor, Next, Reader};
use dataplane::cache::tick::Kind;
use dataplane::cache::writer::Writer;
use dataplane::sim::clock::SimClock;
use std::collections::HashMap;

/// A feed's session.
pub type SessionOf = (u16, [u8; 10]);

/// The ticks of a session's rows.
#[derive(Default)]
pub struct Account {
    pub said: Vec<Said>,
    /// After each packet: the next message, and how many ticks there were.
    packets: Vec<(u64, usize)>,
    /// By row, which of them are its own.
    of_row: HashMap<Vec<u8>, [Vec<usize>; Kind::ROWS]>,
}

impl Account {
    /// What a row says before the message `next`.
    pub fn row(&self, name: &[u8], kind: u8, next: u64) -> Option<&Said> {
        let own = &self.of_row.get(name)?[usize::from(kind)];
        let before = own.partition_point(|index| self.said[*index].sequence < next);
        Some(&self.said[own[before.checked_sub(1)?]])
    }

    /// Whether it knows an instrument of that name.
    pub fn has(&self, name: &[u8]) -> bool {
        self.of_row.contains_key(name)
    }

    /// How many ticks there are before the message `next`, with which a packet begins.
    pub fn ticks_before(&self, next: u64) -> usize {
        let packets = self.packets.partition_point(|(of, _)| *of <= next);
        packets.checked_sub(1).map_or(0, |last| self.packets[last].1)
    }
}

pub struct Truth<'m> {
    machine: Machine<'m>,
    packets: Packets,
    reader: Reader<'m>,
    cursor: Cursor,
    names: Names,
    sessions: Vec<Option<SessionOf>>,
    pub accounts: HashMap<SessionOf, Account>,
}

impl<'m> Truth<'m> {
    pub fn new(cells: &'m [Cell], clock: &'m SimClock, speeches: &[Speech]) -> Truth<'m> {
        let packets = Packets::default();
        let machine = machine(&packets, clock, speeches, Writer::format(cells, LAYOUT, 1).unwrap());
        Truth {
            machine,
            packets,
            reader: Reader::open(cells).unwrap(),
            cursor: Cursor::at(0),
            names: Names::default(),
            sessions: vec![None; speeches.len()],
            accounts: HashMap::new(),
        }
    }

    /// The feed's present session.
    pub fn session(&self, feed: u16) -> Option<[u8; 10]> {
        self.sessions[usize::from(feed)].map(|(_, name)| name)
    }

    pub fn take(&mut self, feed: usize, packet: &[u8]) {
        for destination in GROUPS[feed] {
            self.packets.borrow_mut().push_back((destination, packet.to_vec()));
        }
        self.machine.do_work();
        loop {
            let tick = match self.cursor.next(&self.reader) {
                Next::Tick { tick, .. } => tick,
                Next::CaughtUp => break,
                Next::Lapped { .. } => panic!("the log holds more than a packet's ticks"),
            };
            let session = &mut self.sessions[usize::from(tick.feed)];
            match self.names.read(&tick) {
                Entry::Session(name) => *session = Some((tick.feed, name)),
                Entry::State(state) => assert_eq!(state.missing, 0, "the truth misses nothing"),
                Entry::Row(said) => {
                    let account = self.accounts.entry(session.expect("it began")).or_default();
                    let rows = account.of_row.entry(said.name.clone()).or_default();
                    rows[usize::from(said.kind)].push(account.said.len());
                    account.said.push(said);
                }
            }
        }
        if let Some(session) = self.sessions[feed] {
            let next = self.machine.telemetry().feeds[feed].lines.next_sequence.get();
            let account = self.accounts.entry(session).or_default();
            account.packets.push((next, account.said.len()));
        }
    }
}
