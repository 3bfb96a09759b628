//! The window: packets from beyond a hole, held by sequence until the hole is filled or declared.

use std::collections::VecDeque;

use super::config::ArbiterConfig;
use crate::limits::LINES_MAX;

/// What is known of a packet that can't be delivered yet; a heartbeat is one without messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub sequence: u64,
    /// One above the last message.
    pub next: u64,
    pub ends_session: bool,
    /// The line that brought it first.
    pub line: u8,
    pub received_ns: u64,
    /// One bit for each line that has brought it.
    lines: u8,
    held_ns: u64,
    slot: u32,
    bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Held,
    /// All of it is held already.
    Known,
    /// Every entry is in use.
    Full,
    /// Longer than a slot.
    Oversized,
}

/// Memory for `held_packets` packets; nothing is allocated after construction.
#[derive(Debug)]
pub(super) struct Window {
    /// Ordered by (sequence, next).
    held: VecDeque<Held>,
    held_max: usize,
    slots: Box<[u8]>,
    slot_bytes: usize,
    free: Vec<u32>,
    /// How many of `held` each line has brought.
    beyond: [u32; LINES_MAX],
    /// When the first of `held` came: since then the hole in front of them is known.
    since_ns: u64,
}

impl Window {
    pub fn new(config: &ArbiterConfig) -> Window {
        Window {
            held: VecDeque::with_capacity(config.held_packets),
            held_max: config.held_packets,
            slots: vec![0; config.held_packets * config.slot_bytes].into(),
            slot_bytes: config.slot_bytes,
            free: (0..config.held_packets as u32).rev().collect(),
            beyond: [0; LINES_MAX],
            since_ns: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// The sequence of the first held packet.
    pub fn first(&self) -> Option<u64> {
        self.held.front().map(|held| held.sequence)
    }

    /// The sequence of the last held packet.
    pub fn last(&self) -> Option<u64> {
        self.held.back().map(|held| held.sequence)
    }

    /// When the first hole was first seen.
    pub fn since_ns(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.since_ns)
    }

    /// Different packets of this line from beyond the first hole.
    pub fn beyond(&self, line: usize) -> u32 {
        self.beyond[line]
    }

    /// Keeps a copy of a packet, or notes that this line has brought it, too.
    pub fn hold(&mut self, packet: Held, blocks: &[u8]) -> Hold {
        let index =
            self.held.partition_point(|held| (held.sequence, held.next) <= (packet.sequence, packet.next));
        // Lines that are cut alike meet at the entry in front; one cut longer may be in front or behind.
        for near in [index.checked_sub(1), Some(index)].into_iter().flatten() {
            if self.held.get(near).is_some_and(|held| covers(held, &packet)) {
                let held = &mut self.held[near];
                held.ends_session |= packet.ends_session;
                if held.lines & packet.lines == 0 {
                    held.lines |= packet.lines;
                    self.beyond[usize::from(packet.line)] += 1;
                }
                return Hold::Known;
            }
        }
        if blocks.len() > self.slot_bytes {
            return Hold::Oversized;
        }
        if self.held.len() == self.held_max {
            return Hold::Full;
        }
        let slot = self.free.pop().expect("there are as many slots as entries");
        let start = slot as usize * self.slot_bytes;
        self.slots[start..start + blocks.len()].copy_from_slice(blocks);
        if self.held.is_empty() {
            self.since_ns = packet.held_ns;
        }
        self.held.insert(index, Held { slot, bytes: blocks.len() as u32, ..packet });
        self.beyond[usize::from(packet.line)] += 1;
        Hold::Held
    }

    /// Takes the first held packet if it begins at or below `next`. Its slot is free from now on, and its
    /// [`Window::blocks`] stay until the next [`Window::hold`].
    pub fn pop(&mut self, next: u64) -> Option<Held> {
        let held = *self.held.front().filter(|held| held.sequence <= next)?;
        self.held.pop_front();
        self.free.push(held.slot);
        for (line, beyond) in self.beyond.iter_mut().enumerate() {
            *beyond -= u32::from(held.lines >> line & 1);
        }
        Some(held)
    }

    pub fn blocks(&self, held: &Held) -> &[u8] {
        let start = held.slot as usize * self.slot_bytes;
        &self.slots[start..start + held.bytes as usize]
    }

    /// To be called once some were taken: the first hole is another one now.
    pub fn see_hole(&mut self) {
        self.since_ns = self.held.iter().map(|held| held.held_ns).min().unwrap_or(0);
    }
}

impl Held {
    pub fn new(
        line: usize,
        sequence: u64,
        next: u64,
        ends_session: bool,
        held_ns: u64,
        received_ns: u64,
    ) -> Held {
        let lines = 1 << line;
        Held {
            sequence,
            next,
            ends_session,
            line: line as u8,
            received_ns,
            lines,
            held_ns,
            slot: 0,
            bytes: 0,
        }
    }
}

/// A heartbeat is only known by one of the same number: what it proves is that its line has come so far.
fn covers(held: &Held, packet: &Held) -> bool {
    if packet.sequence == packet.next {
        return (held.sequence, held.next) == (packet.sequence, packet.next);
    }
    held.sequence <= packet.sequence && packet.next <= held.next
}
