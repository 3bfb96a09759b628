//! A group of nodes, its primary's log through all of its terms, and what must hold at every step.

use crate::history::{Entry, Names};
use crate::node::{Node, Role};
use crate::source::Speech;
use crate::truth::{SessionOf, Truth};
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::{Reader, State};
use dataplane::cache::tick::{FeedState, Kind, PRICE_ABSENT, Reason, Tick, Trade};
use dataplane::feed::{Misfit, Transferred};
use std::ops::{AddAssign, Range};

/// What the steps have seen: a test that saw none of something has not looked.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub hand_overs: u64,
    pub crashes: u64,
    /// Feeds that went on, with nothing to follow, with ticks that followed, and of these within a message's ticks.
    pub level: u64,
    pub ahead: u64,
    pub within: u64,
    /// Feeds of which a loss was declared, by [`Misfit`].
    pub misfits: [u64; 6],
    /// Ticks that were compared with the truth's, and rows that were live and were.
    pub exact: u64,
    pub live: u64,
    /// How often all rows were compared with the exchange's own books.
    pub compared: u64,
    pub not_live: u64,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, more: Seen) {
        self.hand_overs += more.hand_overs;
        self.crashes += more.crashes;
        self.level += more.level;
        self.ahead += more.ahead;
        self.within += more.within;
        self.misfits.iter_mut().zip(more.misfits).for_each(|(sum, more)| *sum += more);
        self.exact += more.exact;
        self.live += more.live;
        self.compared += more.compared;
        self.not_live += more.not_live;
    }
}

/// How the log of a feed stands to the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// So many ticks of the session are in it, each once and in their order.
    Exact(SessionOf, usize),
    /// A loss was declared: until the session's end nothing is known but that no row's sequence goes back.
    Lossy,
}

impl Course {
    /// That many ticks earlier.
    fn without(self, ticks: usize) -> Course {
        match self {
            Course::Exact(session, told) => Course::Exact(session, told - ticks),
            Course::Lossy => Course::Lossy,
        }
    }
}

struct Turn {
    at: u64,
    /// How long the log must be for it to have happened.
    holds_from: u64,
    feed: u16,
    course: Course,
}

pub struct Group<'m> {
    pub nodes: Vec<Option<Node<'m>>>,
    pub primary: usize,
    pub seen: Seen,
    names: Names,
    /// What of the log was compared.
    checked: u64,
    /// The group's log, as the present primary has it.
    log: Vec<Tick>,
    /// By feed.
    speeches: Vec<Speech>,
    courses: Vec<Course>,
    /// Where a course is another one, because a loss was declared there.
    turns: Vec<Turn>,
    states: Vec<FeedState>,
}

impl<'m> Group<'m> {
    pub fn new(nodes: Vec<Node<'m>>, speeches: &[Speech]) -> Group<'m> {
        let feeds = speeches.len();
        let mut group = Group {
            nodes: nodes.into_iter().map(Some).collect(),
            primary: 0,
            seen: Seen::default(),
            names: Names::default(),
            checked: 0,
            log: Vec::new(),
            speeches: speeches.into(),
            courses: vec![Course::Lossy; feeds],
            turns: Vec::new(),
            states: vec![bytemuck::Zeroable::zeroed(); feeds],
        };
        let Some(Role::Standby(follower)) = group.primary_mut().role.take() else {
            unreachable!("it is new")
        };
        group.lead(0, follower);
        group
    }

    pub fn primary_mut(&mut self) -> &mut Node<'m> {
        self.nodes[self.primary].as_mut().expect("the primary lives")
    }

    pub fn primary(&self) -> &Node<'m> {
        self.nodes[self.primary].as_ref().expect("the primary lives")
    }

    pub fn standbys(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| *node != self.primary && self.nodes[*node].is_some()).collect()
    }

    fn lead(&mut self, node: usize, follower: Follower<'m>) -> Vec<Transferred> {
        self.primary = node;
        let own = self.primary_mut();
        let (transferred, shadow) = own.machine.take_over(follower.into_writer());
        own.role = Some(Role::Primary(shadow));
        transferred
    }

    /// The primary dies, and the node that has most of its log takes over: within a message's ticks, maybe.
    pub fn crash(&mut self, truth: &Truth<'_>) {
        let position = |node: &usize| self.nodes[*node].as_ref().expect("it lives").position();
        let next = self.standbys().into_iter().max_by_key(position).expect("one is left");
        self.read_log(truth);
        self.nodes[self.primary] = None;
        self.seen.crashes += 1;
        self.take_over(next, truth);
    }

    /// The primary gives up, and is a hot standby from then on; another node has all of its log.
    pub fn give_up(&mut self, next: usize, truth: &Truth<'_>) {
        let own = self.primary_mut();
        let Some(Role::Primary(shadow)) = own.role.take() else { unreachable!("it is the primary") };
        own.role = Some(Role::Standby(own.machine.give_up(shadow).into_follower()));
        let reader = self.primary().reader();
        self.nodes[next].as_mut().expect("it lives").follow(&reader, u64::MAX);
        self.read_log(truth);
        self.seen.hand_overs += 1;
    }

    pub fn take_over(&mut self, next: usize, truth: &Truth<'_>) {
        let node = self.nodes[next].as_mut().expect("it lives");
        let Some(Role::Standby(follower)) = node.role.take() else { unreachable!("it is a standby") };
        let start = follower.position();
        self.log.truncate(start as usize);
        assert_eq!(start, self.log.len() as u64, "all of the log was read");
        let reader = node.reader();
        let feeds = self.lead(next, follower);
        let end = reader.tail();
        // What was not copied of the part that a primary before published when it took over, nobody will ever read.
        self.turns.retain(|turn| turn.holds_from <= start);
        for (feed, transferred) in (0..).zip(&feeds) {
            self.count(&reader, feed, start..end, transferred);
            let course = self.course_of_all_told(feed, truth);
            if transferred.misfit.is_none() {
                // A primary that knew nothing declared a loss, and this one goes on as if that one had not been.
                let before = self.log.iter().rfind(|tick| tick.feed == feed);
                let state = before.and_then(|tick| tick.payload::<FeedState>());
                if state.is_some_and(|state| state.reason == Reason::TakenOver as u8) {
                    let course = course.without(transferred.followed as usize);
                    self.turns.push(Turn { at: start, holds_from: start, feed, course });
                }
            } else {
                self.turns.push(Turn { at: start, holds_from: start + 1, feed, course: Course::Lossy });
                self.turns.push(Turn { at: end, holds_from: end, feed, course });
            }
        }
        self.check_rows(truth);
    }

    /// All was told up to where the primary is, if it missed nothing.
    fn course_of_all_told(&self, feed: u16, truth: &Truth<'_>) -> Course {
        let lines = &self.primary().machine.telemetry().feeds[usize::from(feed)].lines;
        let session = self.primary().reader().feed(feed).session;
        let Some(session) = session.filter(|_| lines.sessions.get() > 0) else { return Course::Lossy };
        let is_whole = lines.missing.get() == 0 && lines.late_starts.get() == 0;
        let session = (feed, session.session);
        let told = truth.accounts[&session].ticks_before(lines.next_sequence.get());
        if is_whole { Course::Exact(session, told) } else { Course::Lossy }
    }

    fn count(&mut self, reader: &Reader<'_>, feed: u16, taken: Range<u64>, done: &Transferred) {
        let state = reader.feed(feed);
        if let Some(misfit) = done.misfit {
            assert_eq!(state.reason, Reason::TakenOver, "it is declared");
            return self.seen.misfits[misfit as usize] += 1;
        }
        let rows = |tick: &Tick| tick.feed == feed && usize::from(tick.kind) < Kind::ROWS;
        let mut log = (0..taken.end).rev().map_while(|position| Some((position, reader.log_tick(position)?)));
        let before = log.find(|(position, tick)| *position < taken.start && rows(tick));
        let first = taken.filter_map(|position| reader.log_tick(position)).find(rows);
        assert_eq!(first.is_some(), done.followed > 0);
        self.seen.level += u64::from(first.is_none());
        self.seen.ahead += u64::from(first.is_some());
        if let (Some((_, before)), Some(first)) = (before, first) {
            self.seen.within += u64::from(before.sequence == first.sequence);
        }
    }

    /// Keeps what the primary has written, and compares what all nodes have of it with the truth: the rest may still be lost
    /// with those who have it.
    pub fn read_log(&mut self, truth: &Truth<'_>) {
        let reader = self.primary().reader();
        for position in self.log.len() as u64..reader.tail() {
            self.log.push(reader.log_tick(position).expect("the log is read before it comes round"));
        }
        let position = |node: &usize| self.nodes[*node].as_ref().expect("it lives").position();
        let copied = self.standbys().iter().map(position).min().unwrap_or(reader.tail());
        self.check_log(truth, copied);
    }

    /// Compares the log up to there with the truth.
    pub fn check_log(&mut self, truth: &Truth<'_>, end: u64) {
        for position in self.checked..end {
            self.turn(position);
            let tick = self.log[position as usize];
            let entry = self.names.read(&tick);
            self.check_entry(tick.feed, position, entry, truth);
        }
        self.checked = self.checked.max(end);
        self.turn(self.checked);
    }

    fn turn(&mut self, position: u64) {
        for turn in self.turns.extract_if(.., |turn| turn.at <= position) {
            self.courses[usize::from(turn.feed)] = turn.course;
        }
    }

    fn check_entry(&mut self, feed: u16, position: u64, entry: Entry, truth: &Truth<'_>) {
        let course = &mut self.courses[usize::from(feed)];
        match entry {
            Entry::Session(name) => {
                *course = Course::Exact((feed, name), 0);
                self.states[usize::from(feed)] = bytemuck::Zeroable::zeroed();
            }
            Entry::State(state) => {
                let before = std::mem::replace(&mut self.states[usize::from(feed)], state);
                let is_loss = state.missing != before.missing || state.proven_from != before.proven_from;
                if is_loss || state.reason == Reason::LateStart as u8 {
                    *course = Course::Lossy;
                }
            }
            Entry::Row(said) => {
                if let Course::Exact(session, told) = course {
                    let expected = truth.accounts[session].said.get(*told);
                    assert_eq!(Some(&said), expected, "feed {feed}, position {position}, tick {told} of it");
                    *told += 1;
                    self.seen.exact += 1;
                }
            }
        }
    }

    /// No row of the primary that is live is wrong.
    pub fn check_rows(&mut self, truth: &Truth<'_>) {
        let node = self.primary();
        let reader = node.reader();
        let (mut live, mut not_live) = (0, 0);
        // The worker has promised nothing yet in the round of a take-over: the worst is assumed, that it had.
        let now_ns = reader.valid_until_ns().saturating_sub(1);
        for instrument in 0..reader.instruments() {
            let Some((_, definition)) = reader.definition(instrument, now_ns) else { continue };
            for kind in Kind::ALL.into_iter().take(Kind::ROWS) {
                let Some((position, tick)) = reader.held(instrument, kind) else { continue };
                let Some(row) = reader.judge(position, tick, now_ns) else { continue };
                if row.state != State::Live {
                    not_live += 1;
                    continue;
                }
                live += 1;
                let session = (tick.feed, reader.feed(tick.feed).session.expect("it has rows").session);
                let next = node.next_sequence(usize::from(tick.feed));
                let account = &truth.accounts[&session];
                if !account.has(definition.name()) {
                    // Its definition was lost: what was told since stands under its number.
                    continue;
                }
                let expected = account.row(definition.name(), tick.kind, next);
                let is_none = tick.payload::<Trade>().is_some_and(|trade| trade.price == PRICE_ABSENT);
                // MDP 3.0: no report's number tells that a status or a definition was lost.
                let feed = usize::from(tick.feed);
                let is_lossy = node.machine.telemetry().feeds[feed].lines.missing.get() > 0;
                let is_numbered = !matches!(kind, Kind::Status | Kind::Definition | Kind::Contract);
                let is_untold = !is_numbered && self.speeches[feed] == Speech::Mdp3 && is_lossy;
                // A trade that may not be the last one any more is forgotten.
                if !is_none && !is_untold {
                    assert_eq!(
                        Some(tick.payload),
                        expected.map(|said| said.payload),
                        "{session:?} {kind:?} of {:?} before {next}: {tick:?}, {expected:?}",
                        String::from_utf8_lossy(definition.name())
                    );
                }
            }
        }
        self.seen.live += live;
        self.seen.not_live += not_live;
    }

    /// How many ticks of the present session are in the log, each once and in their order; `None` = a loss was declared.
    pub fn told(&self, feed: usize) -> Option<usize> {
        match self.courses[feed] {
            Course::Exact(_, told) => Some(told),
            Course::Lossy => None,
        }
    }

    pub fn declared(&self, misfit: Misfit) -> u64 {
        self.seen.misfits[misfit as usize]
    }
}
