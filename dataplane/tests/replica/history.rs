//! What was truly written: the log of every term, and when.

use dataplane::cache::lineage::Lineage;
use dataplane::cache::tick::{Kind, Tick};
use std::collections::BTreeMap;

#[derive(Default)]
struct Term {
    log: u64,
    start: u64,
    /// The term whose log goes before; 0 = none.
    before: u64,
    ticks: Vec<Tick>,
    /// (time, tail) of each commit.
    commits: Vec<(u64, u64)>,
}

/// The logs of all terms; a term's log begins with that of the term before it, up to where it started.
#[derive(Default)]
pub struct History {
    terms: BTreeMap<u64, Term>,
}

/// What a tick is the newest of: a row, or a feed's session or state.
pub type Key = (u32, u16, u8);

pub fn key(tick: &Tick) -> Key {
    let feed = if usize::from(tick.kind) < Kind::ROWS { 0 } else { tick.feed };
    (tick.instrument, feed, tick.kind)
}

impl History {
    pub fn begin(&mut self, lineage: Lineage) {
        let Lineage { term, log, start, before } = lineage;
        let before = self.term_of(before);
        let old = self.terms.insert(term, Term { log, start, before, ..Term::default() });
        assert!(old.is_none(), "term {term} has two primaries");
    }

    /// Whose log that is; 0 = nobody's.
    pub fn term_of(&self, log: u64) -> u64 {
        let found = self.terms.iter().find(|(_, term)| term.log == log);
        found.map_or(0, |(term, _)| *term)
    }

    pub fn append(&mut self, term: u64, tick: Tick) {
        self.terms.get_mut(&term).unwrap().ticks.push(tick);
    }

    pub fn commit(&mut self, term: u64, now_ns: u64) {
        let tail = self.tail(term);
        self.terms.get_mut(&term).unwrap().commits.push((now_ns, tail));
    }

    pub fn tail(&self, term: u64) -> u64 {
        let term = &self.terms[&term];
        term.start + term.ticks.len() as u64
    }

    pub fn at(&self, mut term: u64, position: u64) -> Tick {
        while position < self.terms[&term].start {
            term = self.terms[&term].before;
        }
        self.terms[&term].ticks[(position - self.terms[&term].start) as usize]
    }

    /// The newest of everything in the log of `term` below `position`.
    pub fn table(&self, term: u64, position: u64) -> BTreeMap<Key, (u64, Tick)> {
        (0..position)
            .map(|position| (position, self.at(term, position)))
            .map(|(at, tick)| (key(&tick), (at, tick)))
            .collect()
    }

    /// Where the log of `term` ended, for its readers, at a time; before it began: where that of the term before it did.
    pub fn tail_at(&self, term: u64, time_ns: u64) -> u64 {
        let Some(held) = self.terms.get(&term) else { return 0 };
        match held.commits.iter().rev().find(|(at_ns, _)| *at_ns <= time_ns) {
            Some((_, tail)) => *tail,
            None => self.tail_at(held.before, time_ns).min(held.start),
        }
    }

    pub fn last_term(&self) -> u64 {
        self.terms.last_key_value().map_or(0, |(term, _)| *term)
    }
}
