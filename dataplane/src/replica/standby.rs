//! The standby's side: a region that is another one's image.

use super::{Lineage, Message, PROTOCOL, Record, Refusal};
use crate::cache::follower::{Follower, Foreign};
use crate::cache::writer::Writer;

/// How often a standby that has nothing to acknowledge says that it is there.
const IDLE_ACK_INTERVAL_NS: u64 = 10_000_000;
/// No log gets as far: at a thousand million ticks a second that is 146 years.
const POSITION_MAX: u64 = 1 << 62;

/// What ends a connection, on the standby's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StandbyError {
    #[error("a primary of term {offered} was sent away: this node has heard of term {known}")]
    Fenced { offered: u64, known: u64 },
    #[error("the primary does not take this node: {0}")]
    Refused(Refusal),
    #[error("ticks at position {found} came where {expected} was next")]
    Hole { expected: u64, found: u64 },
    #[error(transparent)]
    Foreign(#[from] Foreign),
    #[error("term {term} could not be written down, so it can't be accepted")]
    NotWritten { term: u64 },
    #[error("the primary said something that it may not say now")]
    OutOfTurn,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandbyCounters {
    pub connections: u64,
    /// Images that were begun.
    pub images: u64,
    pub rows: u64,
    pub ticks: u64,
    /// Primaries of an earlier term that were sent away.
    pub fenced: u64,
}

/// Where a standby is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyStatus {
    pub term: u64,
    pub position: u64,
    /// The primary of the present connection has said where to begin.
    pub connected: bool,
    /// All rows are there.
    pub level: bool,
    /// The primary's tail when it last said how long this node may be believed.
    pub primary_tail: u64,
    /// All that the primary had published at that time of this node's clock is here; 0 = that is not known.
    pub complete_ns: u64,
}

/// What a primary has lent of belief: from `tail` on, for `valid_for_ns` from `echo_ns` of the standby's own clock.
#[derive(Clone, Copy, Debug)]
struct Loan {
    tail: u64,
    echo_ns: u64,
    valid_for_ns: u64,
}

/// Fills a region with what a primary sends, on one connection after the other.
#[derive(Debug)]
pub struct Standby<'m> {
    follower: Follower<'m>,
    /// Who this node is; 0 = it has no name.
    node: u64,
    /// The latest term that was heard of, and written down.
    term: u64,
    /// The session of the present connection; 0 = it has not begun.
    session: u64,
    /// The log that this region holds; 0 = none yet.
    log: u64,
    /// Of the log that comes, as its primary said it.
    lineage: Option<Lineage>,
    /// Where the region holds all rows; `None` = not known yet.
    level_at: Option<u64>,
    /// The node's own worker knows the feeds as well as the log does.
    whole: bool,
    /// Rows of an image came, or still come, without a trace in the log.
    is_filling: bool,
    /// From this position on belief may be extended.
    lent: Option<Loan>,
    complete_ns: u64,
    /// The term that the primary has handed over to this node.
    handed_over: Option<u64>,
    primary_tail: u64,
    acknowledged: u64,
    acknowledged_ns: u64,
    counters: StandbyCounters,
}

impl<'m> Standby<'m> {
    /// `term` is the latest that this node has written down; 0 = none.
    pub fn new(follower: Follower<'m>, term: u64) -> Standby<'m> {
        Standby {
            follower,
            node: 0,
            term,
            session: 0,
            log: 0,
            lineage: None,
            level_at: None,
            whole: false,
            is_filling: false,
            lent: None,
            complete_ns: 0,
            handed_over: None,
            primary_tail: 0,
            acknowledged: 0,
            acknowledged_ns: 0,
            counters: StandbyCounters::default(),
        }
    }

    /// A node that was the primary of `term`, and whose region is still what it wrote.
    pub fn after_primary(follower: Follower<'m>, term: u64) -> Standby<'m> {
        let (level_at, log) = (Some(follower.position()), follower.lineage().map_or(0, |own| own.log));
        Standby { log, level_at, ..Standby::new(follower, term) }
    }

    /// The same with a name: [`node_id`](super::node_id) of it.
    pub fn named(self, node: u64) -> Standby<'m> {
        Standby { node, ..self }
    }

    pub fn counters(&self) -> StandbyCounters {
        self.counters
    }

    pub fn status(&self) -> StandbyStatus {
        StandbyStatus {
            term: self.term,
            position: self.follower.position(),
            connected: self.session != 0,
            level: self.is_level(),
            primary_tail: self.primary_tail,
            complete_ns: self.complete_ns,
        }
    }

    /// The term of which the primary wants this node to be the primary: it has given up, and holds no more than is here.
    pub fn handed_over(&self) -> Option<u64> {
        self.handed_over
    }

    /// The log that the region holds; 0 = none yet.
    pub fn log(&self) -> u64 {
        self.log
    }

    /// Whether this node knows the feeds itself as well as the log does; it is told with the next acknowledgement.
    pub fn set_whole(&mut self, whole: bool) {
        self.whole = whole;
    }

    fn is_level(&self) -> bool {
        self.level_at.is_some_and(|level| self.follower.position() >= level)
    }

    /// From now on a network card may store ticks into the log, before they are [announced](Standby::announced).
    pub fn allow_unmarked(&self) {
        self.follower.allow_unmarked();
    }

    /// There is a new connection: what is to be said first.
    pub fn connected(&mut self) -> Message {
        self.counters.connections += 1;
        self.session = 0;
        (self.lent, self.handed_over) = (None, None);
        // Short of the level, rows may be missing, or be newer than any log that this node will ever see.
        let log = if self.is_level() { self.log } else { 0 };
        let (layout, position) = (self.follower.layout().hash(), self.follower.position());
        Message::Hello { protocol: PROTOCOL, layout, heard: self.term, log, position, node: self.node }
    }

    /// Accepts a term, and with it no earlier one any more. `write_down` makes it outlast a crash.
    pub fn hear_of(
        &mut self,
        term: u64,
        write_down: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), StandbyError> {
        if term > self.term {
            if !write_down(term) {
                return Err(StandbyError::NotWritten { term });
            }
            self.term = term;
            // Whoever sent until now is fenced.
            (self.session, self.lent, self.handed_over) = (0, None, None);
        }
        Ok(())
    }

    /// Takes a message of the primary.
    pub fn take(
        &mut self,
        message: Message,
        now_ns: u64,
        write_down: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), StandbyError> {
        match message {
            Message::Begin { session, lineage, from, image } => {
                let term = lineage.term;
                if term < self.term {
                    self.counters.fenced += 1;
                    return Err(StandbyError::Fenced { offered: term, known: self.term });
                }
                self.hear_of(term, write_down)?;
                self.begin(session, lineage, from, image)
            }
            Message::Level { session, at } if session == self.session => {
                self.level_at = Some(at);
                Ok(())
            }
            Message::Alive { session, tail, echo_ns, valid_for_ns } if session == self.session => {
                if echo_ns > now_ns {
                    return Err(StandbyError::OutOfTurn);
                }
                self.primary_tail = tail;
                self.lent = Some(Loan { tail, echo_ns, valid_for_ns });
                self.settle();
                Ok(())
            }
            Message::HandOver { session, term, at } if session == self.session => {
                let has_all = at == self.follower.position() && self.is_level();
                self.handed_over = (has_all && term > self.term).then_some(term);
                self.handed_over.map(drop).ok_or(StandbyError::OutOfTurn)
            }
            Message::Refuse { refusal, .. } => Err(StandbyError::Refused(refusal)),
            _ => Err(StandbyError::OutOfTurn),
        }
    }

    fn begin(&mut self, session: u64, lineage: Lineage, from: u64, image: bool) -> Result<(), StandbyError> {
        let expected = self.follower.position();
        let is_next = if image { from <= POSITION_MAX } else { from == expected };
        if session == 0 || session <= self.session || !is_next {
            return Err(StandbyError::OutOfTurn);
        }
        if image {
            self.counters.images += 1;
            self.follower.restart(from);
            self.level_at = None;
            self.is_filling = true;
        }
        self.lineage = Some(lineage);
        if !self.is_filling {
            self.follower.set_lineage(lineage);
        }
        (self.session, self.log, self.lent) = (session, lineage.log, None);
        // The acknowledgement says that the place is ready.
        self.acknowledged = u64::MAX;
        Ok(())
    }

    /// Takes rows of an image.
    pub fn rows(&mut self, rows: &[Record]) -> Result<(), StandbyError> {
        if self.session == 0 {
            return Err(StandbyError::OutOfTurn);
        }
        for Record { position, tick } in rows {
            self.follower.row(*position, tick)?;
        }
        self.counters.rows += rows.len() as u64;
        Ok(())
    }

    /// Takes ticks of the log.
    pub fn ticks(&mut self, ticks: &[Record]) -> Result<(), StandbyError> {
        if self.session == 0 {
            return Err(StandbyError::OutOfTurn);
        }
        for Record { position, tick } in ticks {
            let expected = self.follower.position();
            if *position != expected {
                return Err(StandbyError::Hole { expected, found: *position });
            }
            self.follower.tick(tick)?;
        }
        self.counters.ticks += ticks.len() as u64;
        Ok(())
    }

    /// Takes the ticks below `upto` that a network card has stored into the log.
    pub fn announced(&mut self, upto: u64) -> Result<(), StandbyError> {
        if self.session == 0 {
            return Err(StandbyError::OutOfTurn);
        }
        while self.follower.position() < upto {
            if !self.follower.tick_in_place()? {
                let expected = self.follower.position();
                return Err(StandbyError::Hole { expected, found: upto });
            }
            self.counters.ticks += 1;
        }
        Ok(())
    }

    /// Ends a round: what came can be read, and is acknowledged. The message is to be sent; if there is no room for it, it
    /// may be dropped, since a later one says more.
    pub fn settle_round(&mut self, now_ns: u64) -> Option<Message> {
        if self.follower.commit() != 0 {
            self.follower.stamp_burst(now_ns);
        }
        self.settle();
        let position = self.follower.position();
        let is_due = self.acknowledged != position
            || now_ns.saturating_sub(self.acknowledged_ns) >= IDLE_ACK_INTERVAL_NS;
        if self.session == 0 || !is_due {
            return None;
        }
        (self.acknowledged, self.acknowledged_ns) = (position, now_ns);
        Some(Message::Ack { session: self.session, position, clock_ns: now_ns, whole: self.whole })
    }

    fn settle(&mut self) {
        if self.is_filling && self.is_level() {
            // A reader that began in the midst of the image can't know which rows came after it had looked.
            self.follower.renew_generation();
            self.is_filling = false;
            // Behind the generation: who took a part of the image must not think that it has all of a term.
            if let Some(lineage) = self.lineage {
                self.follower.set_lineage(lineage);
            }
        }
        if let Some(Loan { tail, echo_ns, valid_for_ns }) = self.lent
            && self.follower.position() >= tail
            && self.is_level()
        {
            self.follower.believe_until(echo_ns.saturating_add(valid_for_ns));
            (self.lent, self.complete_ns) = (None, echo_ns);
        }
    }

    /// Makes every row stale at once: the orderly end.
    pub fn retire(&mut self) {
        self.lent = None;
        self.follower.believe_until(0);
    }

    /// Whether nothing has ever been taken: no other node has a log that this one could go on with, as far as it knows.
    pub fn is_fresh(&self) -> bool {
        self.log == 0 && self.follower.position() == 0
    }

    /// Begins the group's first log, of `term`, in a region that is [fresh](Standby::is_fresh); else as
    /// [`Standby::into_primary`].
    pub fn into_first_primary(self, term: u64) -> Result<(Writer<'m>, Lineage), Box<Standby<'m>>> {
        match self.is_fresh() && term > self.term {
            true => {
                let lineage = Lineage::first(term, self.follower.generation());
                Ok(self.writer_of(lineage))
            }
            false => self.into_primary(term),
        }
    }

    /// Becomes the primary of `term`, which must be later than all that were heard of, and is to be written down before any
    /// peer hears of it: the log goes on where
    /// it ends here. `Err` = not all rows are there, or the term is not later.
    pub fn into_primary(self, term: u64) -> Result<(Writer<'m>, Lineage), Box<Standby<'m>>> {
        if !self.is_level() || term <= self.term {
            return Err(Box::new(self));
        }
        let Standby { follower, log, .. } = &self;
        let lineage = Lineage::after(*log, follower.position(), term, follower.generation());
        Ok(self.writer_of(lineage))
    }

    /// Readers know the term before its first tick.
    fn writer_of(self, lineage: Lineage) -> (Writer<'m>, Lineage) {
        self.follower.set_lineage(lineage);
        (self.follower.into_writer(), lineage)
    }
}
