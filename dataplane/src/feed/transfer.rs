//! The transfer: a feed goes on in another region than the one that it was published in so far.
//!
//! A hot standby runs the very same worker as the primary, over a region of its own, while the group's region is a copy of
//! what the primary publishes. When it takes over, what it has published itself is put behind what the group has:
//!
//! - The group's newest row is looked for among what was published here. What came after it is what the group lacks, and
//!   follows as it was published, tick for tick; a copy may end within one message's ticks.
//! - That is so only if all other rows are the same in both regions, and as good. Otherwise ([`Misfit`]) a loss is declared,
//!   which makes all of the feed's rows suspect at once, and what is known here is published anew, behind it. A row that
//!   the group alone has stays suspect.
//!
//! No position, number of an instrument, or time of receipt is compared: they differ from region to region. Sequences,
//! the exchange's stamps and payloads must be the same, since a feed's ticks are a function of its messages.

use super::publication::{Publication, Stamp};
use super::renumbering::Renumbering;
use super::view::{ROWS, View};
use crate::cache::reader::Reader;
use crate::cache::tick::{Definition, FeedState, Kind, Reason, Tick, flag};
use crate::cache::writer::Writer;

/// What lies in the region where a feed goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// What another node published of the same feed, for readers who rely on it.
    Group,
    /// Nothing, and nobody reads it.
    Empty,
}

/// Why what is known here can't be put behind what the group has, so that a loss was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("the session is not the same")]
    Session,
    #[error("one of the two lost messages that the other one has")]
    Losses,
    #[error("there are instruments that are not known here")]
    Instruments,
    #[error("the newest row was not published here: this node is behind, or has missed something")]
    Behind,
    #[error("rows differ, or are not equally good")]
    Rows,
    #[error(
        "what followed is not in this node's own log: [region] log_ticks is too small, or it gave up just before"
    )]
    Log,
}

/// What became of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Ticks that the group lacked, and has now.
    pub followed: u64,
    /// Rows that were published anew, behind a declared loss.
    pub renewed: u64,
    /// Why a loss was declared, if one was.
    pub misfit: Option<Misfit>,
    /// Instruments for which the region has no place.
    pub without_place: u64,
}

impl Publication {
    /// Whether the group's region already has what is yet to come here. Another session there may be a later one.
    pub(super) fn is_behind(&self, own: Reader<'_>, group: Reader<'_>) -> bool {
        let (own, group) = (View::new(own, self.feed), View::new(group, self.feed));
        if group.session.is_none() || own.session != group.session {
            return group.session.is_some();
        }
        // Sequences do not go back, but for rows that were published anew. Looking at all rows takes a millisecond, in which the
        // group's log stands still.
        if let Some((_, newest)) = group.ticks_before(u64::MAX).find(|(_, tick)| is_new(tick)) {
            return newest.sequence >= self.sequence;
        }
        let mut rows = (0..group.instruments()).flat_map(|number| ROWS.map(|kind| group.row(number, kind)));
        rows.any(|row| row.is_some_and(|(_, tick)| tick.sequence >= self.sequence))
    }

    /// Goes on in the region of `writer`, and says how the instruments are numbered there. All that was published `before`
    /// is committed.
    pub(super) fn transfer(
        &mut self,
        before: Reader<'_>,
        writer: &mut Writer<'_>,
        target: Target,
    ) -> (Transferred, Renumbering) {
        let from = View::new(before, self.feed).since(self.own_from);
        let to = View::new(writer.reader(), self.feed);
        let numbers = Renumbering::new(&from, writer);
        let mut done = Transferred { without_place: numbers.without_place, ..Transferred::default() };
        match pending(&from, &to, &numbers, self.complete_from) {
            Ok(ticks) => {
                self.own_from = 0;
                done.followed = self.follow(&ticks, &numbers, writer);
                self.state = FeedState { proven_from: to.state().proven_from, ..self.state };
                if to.session.is_some() && to.state != Some(self.state) {
                    self.publish_state(self.sequence, self.received_ns(), writer);
                }
            }
            Err(misfit) => {
                done.misfit = (target == Target::Group).then_some(misfit);
                if done.misfit.is_some() {
                    self.state.reason = Reason::TakenOver as u8;
                }
                self.own_from = writer.position();
                done.renewed = self.renew_all(&from, &to, &numbers, writer);
            }
        }
        self.complete_from = writer.position();
        let stamp = Stamp { sequence: self.sequence, exchange_ns: 0, received_ns: self.received_ns() };
        for _ in 0..numbers.without_place {
            self.instruments_full(&stamp, writer);
        }
        (done, numbers)
    }

    /// Publishes what the group lacks.
    fn follow(&self, ticks: &[Tick], numbers: &Renumbering, writer: &mut Writer<'_>) -> u64 {
        let known = ticks.iter().filter_map(|tick| Some((numbers.row(tick.instrument)?, tick)));
        known.map(|(row, tick)| self.publish_as(row, tick, writer)).count() as u64
    }

    /// Declares that something may be missing, and publishes all rows behind that.
    fn renew_all(
        &mut self,
        from: &View<'_>,
        to: &View<'_>,
        numbers: &Renumbering,
        writer: &mut Writer<'_>,
    ) -> u64 {
        if from.session != to.session
            && let Some(session) = from.session
        {
            let head = self.feed_head(self.sequence, self.received_ns());
            self.publish(&head.with_payload(session), writer);
        }
        let is_provable = self.state.proven_from != u64::MAX;
        self.state.proven_from = if is_provable { writer.position() + 1 } else { u64::MAX };
        self.publish_state(self.sequence, self.received_ns(), writer);
        // In the order in which they were published, so that the newest is the newest here, too; but an instrument that got
        // its name late has it from the beginning.
        let mut rows: Vec<(u64, bool, u32, Tick)> = Vec::new();
        for (before, row) in numbers.rows() {
            let held = ROWS.map(|kind| from.row(before, kind));
            let first = held.iter().flatten().map(|(position, _)| *position).min();
            for (position, mut tick) in held.into_iter().flatten() {
                let is_named = tick.kind == Kind::Definition as u8;
                tick.flags |= u8::from(from.is_suspect(position, &tick)) * flag::SUSPECT;
                rows.push((first.filter(|_| is_named).unwrap_or(position), !is_named, row, tick));
            }
        }
        rows.sort_unstable_by_key(|(position, is_other, ..)| (*position, *is_other));
        for (.., row, tick) in &rows {
            self.publish_as(*row, tick, writer);
        }
        rows.len() as u64
    }

    /// Publishes a tick of another region for the instrument that is called the same here.
    fn publish_as(&self, row: u32, tick: &Tick, writer: &mut Writer<'_>) {
        match tick.payload::<Definition>() {
            Some(definition) => writer.define(row, tick, *definition),
            None => drop(writer.publish(&Tick { instrument: row, ..*tick })),
        }
        self.counters().ticks.add(1);
    }
}

/// The ticks of rows that were published here behind all that the group has, in their order.
fn pending(
    from: &View<'_>,
    to: &View<'_>,
    numbers: &Renumbering,
    complete_from: u64,
) -> Result<Vec<Tick>, Misfit> {
    if from.session != to.session {
        return Err(Misfit::Session);
    }
    let (own, group) = (from.state(), to.state());
    let is_lost = |state: &FeedState| state.proven_from == u64::MAX;
    if own.missing != group.missing || is_lost(&own) != is_lost(&group) {
        return Err(Misfit::Losses);
    }
    if to.named().any(|(number, _)| numbers.row_before(number).is_none()) {
        return Err(Misfit::Instruments);
    }
    let proven_from = if is_lost(&own) { 0 } else { own.proven_from };
    let compared = Compared::new(from, to, numbers, proven_from)?;
    let cut = match &compared.newest {
        Some((_, newest)) => position_of(from, newest).ok_or(Misfit::Behind)? + 1,
        None => from.begins,
    };
    // What was doubted since would be believed there.
    if compared.different_from < cut || compared.doubted_to > cut {
        return Err(Misfit::Rows);
    }
    if compared.own_to <= cut {
        return Ok(Vec::new());
    }
    if cut < complete_from.max(from.log_from()) {
        return Err(Misfit::Log);
    }
    Ok(from.ticks_from(cut).collect())
}

/// The group's newest row.
struct Newest {
    tick: Tick,
    /// The number of its instrument here.
    instrument: u32,
    /// The highest of all rows: renewed ones have older sequences.
    sequence: u64,
}

/// All rows of both regions, seen once, since each look at them takes its time while the group's log stands still. Positions are
/// this node's own.
struct Compared {
    /// With its position there.
    newest: Option<(u64, Newest)>,
    /// The first row that is not the same there, or not as good.
    different_from: u64,
    /// Behind the last row.
    own_to: u64,
    /// Behind the last row that is not proven.
    doubted_to: u64,
}

impl Compared {
    /// What is published from `proven_from` on is proven.
    fn new(
        from: &View<'_>,
        to: &View<'_>,
        numbers: &Renumbering,
        proven_from: u64,
    ) -> Result<Compared, Misfit> {
        let mut compared = Compared { newest: None, different_from: u64::MAX, own_to: 0, doubted_to: 0 };
        for (before, after) in numbers.rows() {
            for kind in ROWS {
                let (here, there) = (from.row(before, kind), to.row(after, kind));
                if let Some((position, tick)) = there {
                    compared.see_there(position, tick, before);
                }
                let Some((position, tick)) = here else {
                    // The group alone has it.
                    if there.is_some() {
                        return Err(Misfit::Rows);
                    }
                    continue;
                };
                let is_same = there.is_some_and(|(at, other)| {
                    is_same(&tick, &other) && from.is_suspect(position, &tick) == to.is_suspect(at, &other)
                });
                compared.see_here(position, is_same, position >= proven_from);
            }
        }
        Ok(compared)
    }

    fn see_there(&mut self, position: u64, tick: Tick, instrument: u32) {
        let sequence = self.newest.as_ref().map_or(0, |(_, newest)| newest.sequence).max(tick.sequence);
        match &mut self.newest {
            Some((last, newest)) if position < *last => newest.sequence = sequence,
            _ => self.newest = Some((position, Newest { tick, instrument, sequence })),
        }
    }

    fn see_here(&mut self, position: u64, is_same: bool, is_proven: bool) {
        self.own_to = self.own_to.max(position + 1);
        if !is_same {
            self.different_from = self.different_from.min(position);
        }
        if !is_proven {
            self.doubted_to = self.doubted_to.max(position + 1);
        }
    }
}

/// Where the group's newest tick was published here.
fn position_of(from: &View<'_>, newest: &Newest) -> Option<u64> {
    let Newest { tick, instrument, sequence } = newest;
    let is_it = |own: &Tick| is_same(own, tick) && own.flags == tick.flags;
    let (last, own) = from.row(*instrument, Kind::from_u8(tick.kind)?)?;
    if is_it(&own) && is_within(from, last, &own, *sequence) {
        return Some(last);
    }
    // It was another one's turn since. The sequence of a row does not go back.
    let of_row = from
        .ticks_before(last)
        .filter(|(_, own)| (own.instrument, own.kind) == (*instrument, tick.kind))
        .take_while(|(_, own)| own.sequence >= tick.sequence);
    let mut its = of_row.filter(|(_, own)| is_it(own));
    its.find(|(position, own)| is_within(from, *position, own, *sequence)).map(|(position, _)| position)
}

/// Whether nothing beyond that sequence was published before a tick: one that is renewed may have been so again later on.
fn is_within(from: &View<'_>, position: u64, tick: &Tick, sequence: u64) -> bool {
    is_new(tick)
        || from
            .ticks_before(position)
            .find(|(_, own)| is_new(own))
            .is_some_and(|(_, own)| own.sequence <= sequence)
}

/// Not one that was published anew.
fn is_new(tick: &Tick) -> bool {
    tick.flags & flag::RENEWED == 0
}

/// Whether two ticks of a row say the same, wherever they were received and published.
fn is_same(one: &Tick, other: &Tick) -> bool {
    let said =
        |tick: &Tick| (tick.sequence, tick.exchange_ns, tick.kind, tick.flags & flag::PARTIAL, tick.payload);
    said(one) == said(other)
}
