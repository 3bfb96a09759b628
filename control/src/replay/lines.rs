//! The lines of a capture: which of them are sent, where to, and what happens to their packets on the way.

use super::args::{LineName, LineProbability, ReplayArgs};
use dataplane::sim::lines::{LineCounters, LineImpairment, Wire};
use dataplane::sim::random::Random;
use std::collections::HashMap;
use std::net::SocketAddrV4;

/// Lines of one replay; further destinations are not sent.
const LINES_MAX: usize = 1_024;

/// Why a datagram is not one of a line that is sent; each is a counter.
pub const NOT_MULTICAST: &str = "not_multicast";
pub const NOT_SELECTED: &str = "not_selected";
pub const NO_TARGET: &str = "no_target";
pub const TOO_MANY_LINES: &str = "too_many_lines";

/// A packet on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub due_ns: u64,
    /// `None` for a frame that is of no line.
    pub line: Option<usize>,
    pub destination: SocketAddrV4,
    pub bytes: Vec<u8>,
}

/// A destination in the capture.
#[derive(Debug)]
pub struct Line {
    pub name: LineName,
    pub destination: SocketAddrV4,
    pub to: SocketAddrV4,
    /// What has gone, duplicates included.
    pub sent_packets: u64,
    wire: Wire,
    random: Random,
}

impl Line {
    pub fn counters(&self) -> LineCounters {
        self.wire.counters()
    }
}

/// The lines that are sent, in their order.
#[derive(Debug)]
pub struct Lines<'a> {
    args: &'a ReplayArgs,
    lines: Vec<Line>,
    index: HashMap<SocketAddrV4, usize>,
}

impl<'a> Lines<'a> {
    pub fn new(args: &'a ReplayArgs) -> Lines<'a> {
        let mut lines = Lines { args, lines: Vec::new(), index: HashMap::new() };
        for destination in &args.lines {
            // What has no target is counted packet by packet.
            let _ = lines.find(*destination);
        }
        lines
    }

    pub fn iter(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }

    pub fn get(&self, index: usize) -> &Line {
        &self.lines[index]
    }

    pub fn count_sent(&mut self, index: usize) {
        self.lines[index].sent_packets += 1;
    }

    /// The line that datagrams to `destination` are of; why there is none.
    pub fn find(&mut self, destination: SocketAddrV4) -> Result<usize, &'static str> {
        if let Some(index) = self.index.get(&destination) {
            return Ok(*index);
        }
        if !self.args.lines.is_empty() && !self.args.lines.contains(&destination) {
            return Err(NOT_SELECTED);
        }
        let is_mapped = || self.args.maps.iter().any(|map| map.line == LineName::Destination(destination));
        if self.args.lines.is_empty() && !destination.ip().is_multicast() && !is_mapped() {
            return Err(NOT_MULTICAST);
        }
        if self.lines.len() >= LINES_MAX {
            return Err(TOO_MANY_LINES);
        }
        let index = self.lines.len();
        let to = self.target(index, destination).ok_or(NO_TARGET)?;
        self.lines.push(self.line(index, destination, to));
        self.index.insert(destination, index);
        Ok(index)
    }

    fn target(&self, index: usize, destination: SocketAddrV4) -> Option<SocketAddrV4> {
        if !self.args.to.is_empty() {
            return self.args.to.get(index).copied();
        }
        let map = self.args.maps.iter().find(|map| map.line.is(index, destination));
        Some(map.map_or(destination, |map| map.to))
    }

    fn line(&self, index: usize, destination: SocketAddrV4, to: SocketAddrV4) -> Line {
        let of_line = |all: &[LineProbability]| LineProbability::of_line(all, index, destination);
        let impairment = LineImpairment {
            loss: of_line(&self.args.loss),
            duplicate: of_line(&self.args.duplicate),
            reorder: of_line(&self.args.reorder),
            reorder_packets_max: self.args.reorder_packets,
            delay_ns: 0,
        };
        // Its own numbers: what happens to a line does not depend on what else is sent.
        let address = u64::from(u32::from(*destination.ip())) << 16 | u64::from(destination.port());
        let seed = Random::new(self.args.seed).next_u64() ^ Random::new(address).next_u64();
        Line {
            name: LineName::of(index, destination),
            destination,
            to,
            sent_packets: 0,
            wire: Wire::new(&impairment),
            random: Random::new(seed),
        }
    }

    /// Puts a packet on its line; `out` gets what comes out of it now: nothing, or the packet, twice, or others that were
    /// held back for it.
    pub fn send(
        &mut self,
        index: usize,
        due_ns: u64,
        buffer: impl FnMut() -> Vec<u8>,
        out: &mut impl Extend<Outgoing>,
    ) {
        let Line { to, wire, random, .. } = &mut self.lines[index];
        let is_lost = wire.draw_loss(random);
        wire.send(is_lost, random, due_ns, buffer);
        drain(wire, index, *to, due_ns, out);
    }

    /// Lets go what was held back for packets that will not come.
    pub fn release(&mut self, due_ns: u64, out: &mut impl Extend<Outgoing>) {
        for (index, Line { to, wire, .. }) in self.lines.iter_mut().enumerate() {
            wire.release(due_ns);
            drain(wire, index, *to, due_ns, out);
        }
    }

    /// The options that name a line which the capture has not, or not among those that are sent.
    pub fn unmatched(&self) -> Vec<String> {
        let is_there = |name: &LineName| {
            let mut lines = self.lines.iter().enumerate();
            lines.any(|(index, line)| name.is(index, line.destination) && line.counters().packets > 0)
        };
        let unmatched = self.args.line_names().filter(|(_, name)| !is_there(name));
        unmatched
            .map(|(option, name)| format!("{option} {name}: no packet of such a line was there"))
            .collect()
    }
}

fn drain(wire: &mut Wire, index: usize, to: SocketAddrV4, due_ns: u64, out: &mut impl Extend<Outgoing>) {
    out.extend(std::iter::from_fn(|| {
        let bytes = wire.pop_due(due_ns)?;
        Some(Outgoing { due_ns, line: Some(index), destination: to, bytes })
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ReplayArgs,
    }

    fn args(options: &str) -> ReplayArgs {
        Command::parse_from(["replay", "file"].into_iter().chain(options.split_whitespace())).args
    }

    fn destination(number: u8) -> SocketAddrV4 {
        SocketAddrV4::new([239, 0, 0, number].into(), 5_000)
    }

    /// What comes out of 300 packets, numbered, by turns of the lines 1 and 2: (due, line, number).
    fn plan(options: &str, of_lines: &[u8]) -> Vec<(u64, usize, u32)> {
        let args = args(options);
        let mut lines = Lines::new(&args);
        let mut out: Vec<Outgoing> = Vec::new();
        for number in 0..300_u32 {
            for line in of_lines {
                let Ok(index) = lines.find(destination(*line)) else { continue };
                lines.send(index, u64::from(number) * 10, || number.to_be_bytes().to_vec(), &mut out);
            }
        }
        lines.release(3_000, &mut out);
        let sent = out.len() as u64;
        let counted = lines.iter().map(|line| {
            let LineCounters { packets, lost, duplicated, .. } = line.counters();
            packets - lost + duplicated
        });
        assert_eq!(sent, counted.sum::<u64>());
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        out.iter().map(|out| (out.due_ns, out.line.unwrap(), number(&out.bytes))).collect()
    }

    fn of_line(plan: &[(u64, usize, u32)], line: usize) -> Vec<(u64, u32)> {
        plan.iter().filter(|one| one.1 == line).map(|one| (one.0, one.2)).collect()
    }

    #[test]
    fn without_impairments_everything_comes_out_in_order() {
        let all: Vec<_> =
            (0..300).flat_map(|number| [0, 1].map(|line| (u64::from(number) * 10, line, number))).collect();
        assert_eq!(plan("--seed 5", &[1, 2]), all);
    }

    #[test]
    fn a_seed_gives_the_same_sequence_and_another_one_another() {
        let rough = "--drop 10% --dup 5% --reorder 0.1";
        let first = plan(&format!("{rough} --seed 5"), &[1, 2]);
        assert!(first.is_sorted_by_key(|one| one.0), "packets are due in their order");
        assert_eq!(first, plan(&format!("{rough} --seed 5"), &[1, 2]));
        assert_ne!(first, plan(&format!("{rough} --seed 6"), &[1, 2]));
        assert_ne!(of_line(&first, 0), of_line(&first, 1), "lines do not lose the same packets");
    }

    #[test]
    fn a_line_fares_the_same_whatever_else_is_sent() {
        let rough = "--drop 10% --dup 5% --reorder 0.1";
        let both = plan(rough, &[1, 2]);
        assert_eq!(of_line(&plan(rough, &[2]), 0), of_line(&both, 1));
        let selected = plan(&format!("{rough} --line {}", destination(2)), &[1, 2]);
        assert_eq!(of_line(&selected, 0), of_line(&both, 1));
        assert!(of_line(&selected, 1).is_empty());
    }

    #[test]
    fn a_line_is_impaired_by_its_name() {
        let planned = plan(&format!("--drop A=100% --dup {}=1", destination(2)), &[1, 2]);
        assert!(of_line(&planned, 0).is_empty());
        let twice: Vec<_> = (0..300).flat_map(|number| [(u64::from(number) * 10, number); 2]).collect();
        assert_eq!(of_line(&planned, 1), twice);
    }

    #[test]
    fn lines_go_where_they_are_told_to() {
        let unicast = SocketAddrV4::new([10, 0, 0, 1].into(), 7);
        let find = |options: &str| {
            let args = args(options);
            let mut lines = Lines::new(&args);
            let found = [destination(1), unicast, destination(2)].map(|destination| {
                let index = lines.find(destination)?;
                Ok((index, *lines.get(index).to.ip()))
            });
            (found, lines.unmatched())
        };
        let group = |number| std::net::Ipv4Addr::from([239, 0, 0, number]);
        let (found, unmatched) = find("--drop A=1% --dup C=1%");
        assert_eq!(found, [Ok((0, group(1))), Err(NOT_MULTICAST), Ok((1, group(2)))]);
        assert_eq!(unmatched.len(), 2, "no packet was there: {unmatched:?}");
        let (found, _) = find("--to 239.0.0.9:1");
        assert_eq!(found, [Ok((0, group(9))), Err(NOT_MULTICAST), Err(NO_TARGET)]);
        let (found, _) = find("--map B=239.0.0.9:1");
        assert_eq!(found, [Ok((0, group(1))), Err(NOT_MULTICAST), Ok((1, group(9)))]);
        let (found, _) = find("--map 10.0.0.1:7=239.0.0.9:1");
        assert_eq!(found, [Ok((0, group(1))), Ok((1, group(9))), Ok((2, group(2)))]);
        let (found, _) = find("--line 239.0.0.2:5000,10.0.0.1:7 --to 239.0.0.8:1,239.0.0.9:1");
        assert_eq!(found, [Err(NOT_SELECTED), Ok((1, group(9))), Ok((0, group(8)))]);
    }

    #[test]
    fn there_are_never_more_lines_than_the_limit() {
        let args = args("");
        let mut lines = Lines::new(&args);
        let found = |port| lines.find(SocketAddrV4::new([239, 0, 0, 1].into(), port));
        let found: Vec<_> = (1..=LINES_MAX as u16 + 1).map(found).collect();
        assert!(found[..LINES_MAX].iter().all(Result::is_ok));
        assert_eq!(found[LINES_MAX], Err(TOO_MANY_LINES));
    }
}
