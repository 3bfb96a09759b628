//! Seeds: all that can happen, in an order that the seed determines.

use crate::group::{Group, Seen};
use crate::node::{GROUPS, LAYOUT, Node};
use crate::oracle;
use crate::source::{Source, Speech};
use crate::truth::Truth;
use dataplane::cache::cell::Cell;
use dataplane::feed::Misfit;
use dataplane::sim::clock::SimClock;
use dataplane::sim::lines::{Impairment, LineImpairment, Lines};
use dataplane::sim::random::Random;
use dataplane::time::Clock;

const NODES: usize = 3;
const SESSIONS: u64 = 2;
const STEPS: usize = 100;
/// Regions of all nodes that will ever be.
const REGIONS: usize = 13;
const MS: u64 = 1_000_000;
const STARTED_UNIX_NS: u64 = 1_704_205_800_000_000_000;

/// Prints the seed if the test dies of it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let again = "cargo test -p dataplane --features sim --test takeover seeds";
            eprintln!("again: TICKPLANE_SEED={} TICKPLANE_SEEDS=1 {again}", self.0);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Who loses messages for good.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Losing {
    Nobody,
    /// Only the node of that number.
    Node(usize),
    Everybody,
}

struct Simulation<'m> {
    random: Random,
    clock: &'m SimClock,
    speeches: [Speech; 2],
    losing: Losing,
    sources: Vec<Source>,
    truth: Truth<'m>,
    group: Group<'m>,
    spare: Vec<&'m [Cell]>,
}

fn lines(random: &mut Random, loses: bool) -> Vec<Lines> {
    let lines = GROUPS.map(|_| {
        let impairment = Impairment {
            lines: [(); 2].map(|()| LineImpairment::draw(random)),
            loss_both: if loses { 0.01 } else { 0.0 },
        };
        Lines::new(random.next_u64(), &impairment)
    });
    lines.into()
}

impl<'m> Simulation<'m> {
    fn new(seed: u64, clock: &'m SimClock, arena: &'m [Vec<Cell>]) -> Simulation<'m> {
        let mut random = Random::new(seed);
        let mut spare: Vec<&[Cell]> = arena.iter().map(Vec::as_slice).collect();
        let losing = match seed % 4 {
            0 | 1 => Losing::Nobody,
            2 => Losing::Node(random.below(NODES as u64) as usize),
            _ => Losing::Everybody,
        };
        let speeches = [seed / 4, seed / 16].map(|index| Speech::ALL[(index % 4) as usize]);
        let sources = speeches.iter().map(|speech| speech.begin(0, &mut random)).collect();
        let truth = Truth::new(spare.pop().unwrap(), clock, &speeches);
        let nodes = (0..NODES).map(|node| {
            let loses = losing == Losing::Everybody || losing == Losing::Node(node);
            let regions = [spare.pop().unwrap(), spare.pop().unwrap()];
            Node::standby(regions, clock, &speeches, lines(&mut random, loses))
        });
        let group = Group::new(nodes.collect(), &speeches);
        Simulation { random, clock, speeches, losing, sources, truth, group, spare }
    }

    fn send(&mut self, feed: usize, packet: &[u8]) {
        self.truth.take(feed, packet);
        let now_ns = self.clock.monotonic_ns();
        for node in self.group.nodes.iter_mut().flatten() {
            node.send(feed, packet, now_ns);
        }
    }

    /// Each node has its turn, more often than not.
    fn step(&mut self, patience_percent: u64) {
        self.clock.advance(self.random.below(300_000));
        let now_ns = self.clock.monotonic_ns();
        for node in self.group.nodes.iter_mut().flatten() {
            if self.random.percent(patience_percent) {
                node.receive(now_ns, false);
            }
        }
        let reader = self.group.primary().reader();
        for standby in self.group.standbys() {
            if self.random.percent(patience_percent) {
                let ticks = if self.random.percent(30) { 1_000 } else { self.random.below(24) };
                self.group.nodes[standby].as_mut().unwrap().follow(&reader, ticks);
            }
        }
        self.group.read_log(&self.truth);
    }

    fn happen(&mut self) {
        let standbys = self.group.standbys();
        let picked =
            (!standbys.is_empty()).then(|| standbys[self.random.below(standbys.len() as u64) as usize]);
        match (self.random.below(100), picked) {
            (0..3, Some(next)) => {
                self.group.give_up(next, &self.truth);
                self.wait_for(next);
                self.group.take_over(next, &self.truth);
            }
            (3..6, Some(_)) => {
                let position = |node: &usize| self.group.nodes[*node].as_ref().unwrap().position();
                // The primary may have written more than anybody else has: that dies with it.
                let next = standbys.iter().copied().max_by_key(position).unwrap();
                self.wait_for(next);
                self.group.crash(&self.truth);
            }
            (6..12, _) => self.revive(),
            _ => {}
        }
    }

    /// Lets a standby poll on until it is where the group's region is, if it can and may.
    fn wait_for(&mut self, next: usize) {
        if self.losing != Losing::Nobody && self.random.percent(50) {
            return;
        }
        for _ in 0..40 {
            let node = self.group.nodes[next].as_mut().unwrap();
            if !node.machine.is_behind(&node.reader()) {
                return;
            }
            self.clock.advance(MS);
            node.receive(self.clock.monotonic_ns(), true);
        }
        // Who is in the next session already waits in vain.
        let group = self.group.nodes[next].as_ref().unwrap().reader();
        let is_past =
            (0..2).any(|feed| group.feed(feed).session.map(|own| own.session) != self.truth.session(feed));
        assert!(self.losing != Losing::Nobody || is_past, "what the group has must come");
    }

    /// A dead node comes back, and hears the feeds from now on only.
    fn revive(&mut self) {
        // Who joins late misses what was before.
        let Some(dead) = self.group.nodes.iter().position(Option::is_none) else { return };
        if self.losing == Losing::Nobody || self.spare.len() < 2 {
            return;
        }
        let regions = [self.spare.pop().unwrap(), self.spare.pop().unwrap()];
        let lines = lines(&mut self.random, self.losing == Losing::Everybody);
        let mut node = Node::standby(regions, self.clock, &self.speeches, lines);
        node.copy(&self.group.primary().reader());
        self.group.nodes[dead] = Some(node);
    }

    fn run(&mut self) {
        let mut packet = Vec::new();
        for session in 0..SESSIONS {
            for _ in 0..STEPS {
                for feed in 0..self.sources.len() {
                    if self.random.percent(70) {
                        let messages = 1 + self.random.below(6) as u16;
                        self.sources[feed].next_packet(messages, &mut packet);
                        self.send(feed, &packet);
                    }
                }
                self.step(80);
                self.happen();
                if self.random.percent(10) {
                    self.group.check_rows(&self.truth);
                }
            }
            if session + 1 < SESSIONS {
                self.end_sessions(session + 1);
            }
        }
        self.settle();
    }

    /// Everything that is on its way arrives, and other sessions begin.
    fn end_sessions(&mut self, session: u64) {
        let mut packet = Vec::new();
        for _ in 0..20 {
            for feed in 0..self.sources.len() {
                if self.sources[feed].heartbeat(&mut packet) {
                    self.send(feed, &packet);
                }
            }
            self.clock.advance(10 * MS);
            let now_ns = self.clock.monotonic_ns();
            for node in self.group.nodes.iter_mut().flatten() {
                node.receive(now_ns, true);
            }
            self.step(100);
        }
        for (source, speech) in self.sources.iter_mut().zip(self.speeches) {
            if speech != Speech::Mdp3 {
                *source = speech.begin(session, &mut self.random);
            }
        }
    }

    /// Nothing is lost any more: at the end each row is right, or not live.
    fn settle(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        self.group.nodes.iter_mut().flatten().for_each(|node| node.heal(now_ns));
        let mut packet = Vec::new();
        for _ in 0..60 {
            for feed in 0..self.sources.len() {
                self.sources[feed].next_packet(4, &mut packet);
                self.send(feed, &packet);
            }
            self.clock.advance(10 * MS);
            self.step(100);
        }
        self.group.check_rows(&self.truth);
        self.group.read_log(&self.truth);
        let tail = self.group.primary().reader().tail();
        self.group.check_log(&self.truth, tail);
        let primary = self.group.primary();
        let reader = primary.reader();
        if let Source::Itch50 { exchange, .. } = &self.sources[0] {
            assert_eq!(primary.next_sequence(0), exchange.sequence() + 1, "all is taken in, or given up");
            let not_live = oracle::compare(&reader, exchange, self.clock.monotonic_ns());
            assert!(self.losing != Losing::Nobody || not_live == 0, "nothing was lost");
            self.group.seen.compared += 1;
        }
        if self.losing == Losing::Nobody {
            let declared: u64 = self.group.seen.misfits.iter().sum();
            assert_eq!(
                declared,
                self.group.declared(Misfit::Session),
                "there was no loss to be declared: {:?}",
                self.group.seen
            );
            for feed in 0..self.sources.len() {
                let session = (feed as u16, reader.feed(feed as u16).session.unwrap().session);
                let told = self.group.told(feed).expect("nothing was lost");
                assert_eq!(told, self.truth.accounts[&session].said.len(), "all was told");
            }
        }
    }
}

fn run(seed: u64) -> Seen {
    let _seed = Seed(seed);
    let clock = SimClock::new(STARTED_UNIX_NS);
    clock.advance(1);
    let arena: Vec<Vec<Cell>> =
        (0..REGIONS).map(|_| (0..LAYOUT.cells()).map(|_| Cell::default()).collect()).collect();
    let mut simulation = Simulation::new(seed, &clock, &arena);
    simulation.run();
    simulation.group.seen.clone()
}

#[test]
fn whoever_takes_over_goes_on_where_the_group_was_or_declares_a_loss() {
    let (first, count) = (number("TICKPLANE_SEED", 1), number("TICKPLANE_SEEDS", 500));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds = |thread: usize| (first + thread as u64..first + count).step_by(threads);
    let all = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    seeds(thread).map(run).fold(Seen::default(), |mut sum, seen| {
                        sum += seen;
                        sum
                    })
                })
            })
            .collect();
        let mut all = Seen::default();
        running.into_iter().for_each(|run| all += run.join().expect("its seed is printed above"));
        all
    });
    eprintln!("{count} seeds: {all:?}");
    if count >= 100 {
        let misfits: u64 = all.misfits.iter().sum();
        for (what, times) in [
            ("hand-overs", all.hand_overs),
            ("crashes", all.crashes),
            ("feeds that were level", all.level),
            ("feeds that were ahead", all.ahead),
            ("take-overs within a message", all.within),
            ("declared losses", misfits),
            ("nodes that were behind", all.misfits[Misfit::Behind as usize]),
            ("ticks", all.exact),
            ("books of the exchange", all.compared),
            ("live rows", all.live),
            ("rows that are not live", all.not_live),
        ] {
            assert!(times > 0, "{what} were never seen");
        }
    }
}
