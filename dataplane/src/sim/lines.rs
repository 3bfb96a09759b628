//! The two redundant lines of a feed and what happens to packets on them: loss, duplication, reordering,
//! delay, each by its own chance, all by one seed.
//!
//! A packet that one line loses the other one carries, whatever the chances are: only `loss_both` takes it
//! from both. So without `loss_both` a receiver of both lines misses nothing.

use crate::sim::random::{Chance, Random};
use crate::time::NS_PER_MS;
use std::collections::VecDeque;

/// What happens on one line; probabilities are of one packet, 0.0 … 1.0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LineImpairment {
    pub loss: f64,
    pub duplicate: f64,
    /// A packet is held back until 1 ..= `reorder_packets_max` later ones have gone; so many are held at once at most.
    pub reorder: f64,
    pub reorder_packets_max: u32,
    /// How long every packet takes.
    pub delay_ns: u64,
}

impl LineImpairment {
    /// One by lot: up to a tenth of the packets meet each misfortune, and all take up to 2 ms.
    pub fn draw(random: &mut Random) -> LineImpairment {
        let mut probability = || random.below(100) as f64 / 1_000.0;
        LineImpairment {
            loss: probability(),
            duplicate: probability(),
            reorder: probability(),
            reorder_packets_max: 1 + random.below(8) as u32,
            delay_ns: random.below(3) * NS_PER_MS,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    pub lines: [LineImpairment; 2],
    /// A packet is lost on both lines.
    pub loss_both: f64,
}

/// What a line did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounters {
    pub packets: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Line {
    A = 0,
    B = 1,
}

impl Line {
    pub const ALL: [Line; 2] = [Line::A, Line::B];
}

/// Packets on their way on the two lines of a feed.
#[derive(Debug)]
pub struct Lines {
    random: Random,
    loss_both: Chance,
    lines: [Wire; 2],
    /// Buffers that have been given back.
    spare: Vec<Vec<u8>>,
    lost_on_both: u64,
}

/// Packets on their way on one line. Whose chance it is comes with each call, so that lines can share it.
#[derive(Debug)]
pub struct Wire {
    loss: Chance,
    duplicate: Chance,
    reorder: Chance,
    reorder_packets_max: u32,
    delay_ns: u64,
    queue: VecDeque<Pending>,
    held: Vec<Held>,
    /// Packets that have gone, those held back not counted.
    gone: u64,
    counters: LineCounters,
}

#[derive(Debug)]
struct Pending {
    due_ns: u64,
    packet: Vec<u8>,
}

#[derive(Debug)]
struct Held {
    /// Goes once that many have gone.
    after: u64,
    packet: Vec<u8>,
}

impl Wire {
    pub fn new(impairment: &LineImpairment) -> Wire {
        Wire {
            loss: Chance::new(impairment.loss),
            duplicate: Chance::new(impairment.duplicate),
            reorder: Chance::new(impairment.reorder),
            reorder_packets_max: impairment.reorder_packets_max,
            delay_ns: impairment.delay_ns,
            queue: VecDeque::new(),
            held: Vec::new(),
            gone: 0,
            counters: LineCounters::default(),
        }
    }

    pub fn counters(&self) -> LineCounters {
        self.counters
    }

    /// Whether the next packet is lost, should this line alone decide.
    pub fn draw_loss(&self, random: &mut Random) -> bool {
        random.chance(self.loss)
    }

    /// Puts a packet on the line, `buffer` being a copy of it; it is asked for as many as are needed, none if the packet
    /// is lost.
    pub fn send(
        &mut self,
        is_lost: bool,
        random: &mut Random,
        now_ns: u64,
        mut buffer: impl FnMut() -> Vec<u8>,
    ) {
        self.counters.packets += 1;
        let duplicate = random.chance(self.duplicate);
        let reorder = random.chance(self.reorder);
        if is_lost {
            self.counters.lost += 1;
            return;
        }
        let mut copies = 1;
        if duplicate {
            self.counters.duplicated += 1;
            copies = 2;
        }
        for copy in 0..copies {
            // Of a duplicated packet one copy goes straight, and so does what would be held back for nothing but packets
            // that are held back themselves.
            if reorder && copy == 0 && self.held.len() < self.reorder_packets_max as usize {
                self.counters.reordered += 1;
                let hold = 1 + random.below(u64::from(self.reorder_packets_max));
                self.held.push(Held { after: self.gone + hold, packet: buffer() });
            } else {
                self.queue(buffer(), now_ns);
            }
        }
        self.release_held(now_ns);
    }

    /// The next packet that has arrived at that time.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        if self.queue.front()?.due_ns > now_ns {
            return None;
        }
        self.queue.pop_front().map(|pending| pending.packet)
    }

    /// When the next packet arrives, if one is on its way; packets that are held back are not.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.queue.front().map(|pending| pending.due_ns)
    }

    /// Lets go what is held back for later packets, when there will be none.
    pub fn release(&mut self, now_ns: u64) {
        for held in std::mem::take(&mut self.held) {
            self.queue(held.packet, now_ns);
        }
    }

    /// True when nothing is on its way or held back.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.held.is_empty()
    }

    fn queue(&mut self, packet: Vec<u8>, now_ns: u64) {
        self.queue.push_back(Pending { due_ns: now_ns + self.delay_ns, packet });
        self.gone += 1;
    }

    fn release_held(&mut self, now_ns: u64) {
        while let Some(index) = self.held.iter().position(|held| held.after <= self.gone) {
            let held = self.held.remove(index);
            // Counting it as gone would let those that wait for it go too early.
            self.queue.push_back(Pending { due_ns: now_ns + self.delay_ns, packet: held.packet });
        }
    }
}

impl Lines {
    pub fn new(seed: u64, impairment: &Impairment) -> Lines {
        Lines {
            random: Random::new(seed),
            loss_both: Chance::new(impairment.loss_both),
            lines: impairment.lines.each_ref().map(Wire::new),
            spare: Vec::new(),
            lost_on_both: 0,
        }
    }

    pub fn counters(&self, line: Line) -> LineCounters {
        self.lines[line as usize].counters()
    }

    /// Packets that no receiver can have seen.
    pub fn lost_on_both(&self) -> u64 {
        self.lost_on_both
    }

    /// Puts a packet on both lines.
    pub fn send(&mut self, packet: &[u8], now_ns: u64) {
        let lost = self.draw_losses();
        let spare = &mut self.spare;
        for (wire, is_lost) in self.lines.iter_mut().zip(lost) {
            wire.send(is_lost, &mut self.random, now_ns, || {
                let mut buffer = spare.pop().unwrap_or_default();
                buffer.clear();
                buffer.extend_from_slice(packet);
                buffer
            });
        }
    }

    /// On which lines the next packet is lost: never on both, but by `loss_both`.
    fn draw_losses(&mut self) -> [bool; 2] {
        let both = self.random.chance(self.loss_both);
        let [a, b] = self.lines.each_ref().map(|wire| wire.draw_loss(&mut self.random));
        let survivor = self.random.below(2) as usize;
        let mut lost = [a, b];
        if both {
            self.lost_on_both += 1;
            return [true, true];
        }
        if a && b {
            lost[survivor] = false;
        }
        lost
    }

    /// The next packet of a line that has arrived at that time. Give its buffer back by [`Lines::recycle`].
    pub fn pop_due(&mut self, line: Line, now_ns: u64) -> Option<Vec<u8>> {
        self.lines[line as usize].pop_due(now_ns)
    }

    /// When the next packet of a line arrives, if one is on its way; packets that are held back are not.
    pub fn next_due_ns(&self, line: Line) -> Option<u64> {
        self.lines[line as usize].next_due_ns()
    }

    /// Lets go what is held back for later packets, when there will be none.
    pub fn release(&mut self, now_ns: u64) {
        self.lines.iter_mut().for_each(|wire| wire.release(now_ns));
    }

    /// True when nothing is on its way or held back.
    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(Wire::is_empty)
    }

    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.spare.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Sends `packets` numbered ones, 10 ns apart, and returns what each line delivered, in order.
    fn deliver(seed: u64, impairment: &Impairment, packets: u32) -> [Vec<u32>; 2] {
        let mut lines = Lines::new(seed, impairment);
        let mut delivered = [Vec::new(), Vec::new()];
        let number = |packet: &Vec<u8>| u32::from_be_bytes(packet[..].try_into().unwrap());
        for sent in 0..packets {
            let now_ns = u64::from(sent) * 10;
            lines.send(&sent.to_be_bytes(), now_ns);
            for line in Line::ALL {
                while let Some(packet) = lines.pop_due(line, now_ns) {
                    delivered[line as usize].push(number(&packet));
                    lines.recycle(packet);
                }
            }
        }
        lines.release(0);
        for line in Line::ALL {
            while let Some(packet) = lines.pop_due(line, u64::MAX) {
                delivered[line as usize].push(number(&packet));
            }
        }
        assert!(lines.is_empty());
        delivered
    }

    fn rough(loss_both: f64) -> Impairment {
        let line =
            LineImpairment { loss: 0.3, duplicate: 0.1, reorder: 0.2, reorder_packets_max: 4, delay_ns: 0 };
        Impairment { lines: [line; 2], loss_both }
    }

    #[test]
    fn no_packet_is_lost_on_both_lines() {
        for seed in 0..20 {
            let [a, b] = deliver(seed, &rough(0.0), 2_000);
            let [a, b]: [BTreeSet<u32>; 2] = [a, b].map(|line| line.into_iter().collect());
            assert!(a.len() < 1_800 && b.len() < 1_800, "both lines did lose packets");
            assert_eq!(a.union(&b).count(), 2_000);
        }
        let mut certain = rough(0.0);
        certain.lines[0].loss = 1.0;
        certain.lines[1].loss = 1.0;
        let [a, b] = deliver(1, &certain, 500);
        assert_eq!(a.iter().chain(&b).collect::<BTreeSet<_>>().len(), 500);
    }

    #[test]
    fn packets_are_lost_on_both_lines_when_that_is_asked_for() {
        let [a, b] = deliver(3, &rough(0.1), 2_000);
        let seen: BTreeSet<u32> = a.into_iter().chain(b).collect();
        assert!((1_650..1_900).contains(&seen.len()), "{}", seen.len());
    }

    #[test]
    fn a_packet_is_overtaken_by_no_more_than_it_is_held_back_for() {
        let mut impairment = Impairment::default();
        impairment.lines[0] =
            LineImpairment { reorder: 0.2, reorder_packets_max: 4, ..LineImpairment::default() };
        let [a, b] = deliver(5, &impairment, 5_000);
        assert_eq!(b, (0..5_000).collect::<Vec<_>>(), "line B is not impaired");
        assert_ne!(a, b);
        for (place, number) in a.iter().enumerate() {
            // Later packets that came before it; those between may be held back themselves.
            let overtaken_by = a[..place].iter().filter(|before| *before > number).count();
            assert!(overtaken_by <= 4 + 4, "{number} was overtaken by {overtaken_by}");
        }
    }

    #[test]
    fn where_every_packet_should_be_held_back_they_still_go() {
        let mut impairment = Impairment::default();
        impairment.lines[0] =
            LineImpairment { reorder: 1.0, reorder_packets_max: 3, ..LineImpairment::default() };
        let mut lines = Lines::new(5, &impairment);
        for sent in 0..100_u32 {
            lines.send(&sent.to_be_bytes(), 0);
            assert!(lines.lines[0].held.len() <= 3);
        }
        assert!(lines.counters(Line::A).reordered > 3);
        let [mut a, b] = deliver(5, &impairment, 100);
        assert_ne!(a, b);
        a.sort_unstable();
        assert_eq!(a, b);
    }

    #[test]
    fn a_delay_is_kept() {
        let mut impairment = Impairment::default();
        impairment.lines[1].delay_ns = 25;
        let mut lines = Lines::new(1, &impairment);
        lines.send(b"x", 100);
        assert_eq!((lines.next_due_ns(Line::A), lines.next_due_ns(Line::B)), (Some(100), Some(125)));
        assert!(lines.pop_due(Line::A, 100).is_some());
        assert!(lines.pop_due(Line::B, 124).is_none());
        assert!(lines.pop_due(Line::B, 125).is_some());
    }

    #[test]
    fn a_seed_repeats_itself() {
        assert_eq!(deliver(9, &rough(0.01), 500), deliver(9, &rough(0.01), 500));
        assert_ne!(deliver(9, &rough(0.01), 500), deliver(10, &rough(0.01), 500));
    }
}
