//! What a subscription tells out of the table: images, and the latest of rows that are conflated.

use super::subscription::{BODY_BYTES, Subscription, row_number};
use super::{Plan, Response, response};
use crate::proto::{FeedEvent, SubscribeMode, SubscribeResponse};
use crate::service::rows;
use bytes::{Bytes, BytesMut};
use dataplane::cache::reader::Row;
use dataplane::cache::tick::Kind;
use std::collections::HashMap;

/// Rows that were told at a position which the cursor has not reached.
#[derive(Debug, Default)]
pub struct Ahead {
    rows: HashMap<usize, u64>,
    /// Where the cursor leaves all of them behind.
    until: u64,
    /// The same of those whose kind is not conflated: whoever went on before it would be told them twice.
    once_until: u64,
}

impl Ahead {
    fn insert(&mut self, row: usize, position: u64, is_conflated: bool) {
        self.rows.insert(row, position);
        self.until = self.until.max(position + 1);
        if !is_conflated {
            self.once_until = self.once_until.max(position + 1);
        }
    }

    /// From now on no kind is conflated, or another one.
    pub fn plan_changed(&mut self) {
        self.once_until = self.until;
    }

    /// Whether a client can go on at the cursor and be told nothing twice.
    pub fn can_part_at(&self, cursor: u64) -> bool {
        cursor >= self.once_until
    }

    pub fn has(&self, position: u64, row: usize) -> bool {
        position < self.until && self.rows.get(&row).is_some_and(|told| position <= *told)
    }

    pub fn is_behind(&self, cursor: u64) -> bool {
        cursor >= self.until
    }

    pub fn leave_behind(&mut self, cursor: u64) {
        if self.is_behind(cursor) {
            self.rows.clear();
        }
    }
}

/// What is owed, on its way, response by response.
#[derive(Debug)]
pub struct Telling {
    mode: SubscribeMode,
    /// Rows that changed at this position or later.
    since: u64,
    lapped: bool,
    /// The row that is looked at next.
    next: usize,
    told: u64,
    /// Of the next response.
    pub head: SubscribeResponse,
}

impl Telling {
    pub fn new(mode: SubscribeMode, since: u64, lapped: bool, head: SubscribeResponse) -> Telling {
        Telling { mode, since, lapped, next: 0, told: 0, head }
    }
}

impl Subscription {
    /// The next response of what is being told.
    pub(super) fn tell(&mut self, now_ns: u64) -> Response {
        let mut telling = self.telling.take().expect("something is being told");
        let mut bytes = BytesMut::new();
        let mut response = Response::default();
        let mut named: Option<(u32, String)> = None;
        let mut next = self.owed.next(telling.next);
        while let Some(row) = next.filter(|_| bytes.len() < BODY_BYTES) {
            self.owed.remove(row);
            let instrument = (row / Kind::ROWS) as u32;
            if named.as_ref().is_none_or(|(of, _)| *of != instrument) {
                named = rows::symbol(&self.node, instrument, now_ns).map(|name| (instrument, name));
            }
            if let Some((_, name)) = &named
                && let Some(held) = self.row(row, now_ns)
                && held.position >= telling.since
                && !self.ahead.has(held.position, row)
                && let Some(update) = rows::update(&self.node, name, &held)
            {
                if held.position >= self.cursor.position() {
                    let is_conflated = self.plan.conflates(held.tick.kind);
                    self.ahead.insert(row, held.position, is_conflated);
                }
                response::put_update(&update, &mut bytes);
                response.updates += 1;
            }
            telling.next = row + 1;
            next = self.owed.next(telling.next);
        }
        telling.told += response.updates;
        response.push(bytes.freeze());
        let later = SubscribeResponse { mode: telling.mode.into(), ..SubscribeResponse::default() };
        response.head = std::mem::replace(&mut telling.head, later);
        if next.is_some() {
            self.telling = Some(telling);
            return response;
        }
        let left_out = std::mem::take(&mut self.left_out);
        response.head.image_complete = telling.mode == SubscribeMode::Image;
        if telling.mode == SubscribeMode::Conflated {
            response.head.skipped = left_out.saturating_sub(telling.told);
            response.head.lapped = telling.lapped;
        }
        response
    }

    /// A wanted row as it is now.
    fn row(&self, row: usize, now_ns: u64) -> Option<Row> {
        let (instrument, kind) = ((row / Kind::ROWS) as u32, (row % Kind::ROWS) as u8);
        let (position, tick) = self.node.reader.held(instrument, Kind::from_u8(kind)?)?;
        let is_wanted = self.members.has(instrument as usize) && self.plan.has_row(tick.feed, kind);
        is_wanted.then(|| self.node.reader.judge(position, tick, now_ns)).flatten()
    }

    /// What an instrument that joins had before `position`.
    pub(super) fn earlier_rows(
        &mut self,
        instrument: u32,
        position: u64,
        now_ns: u64,
        response: &mut Response,
    ) -> Bytes {
        let mut bytes = BytesMut::new();
        let Some(name) = rows::symbol(&self.node, instrument, now_ns) else { return Bytes::new() };
        for kind in 0..Kind::ROWS as u8 {
            let row = row_number(instrument, kind);
            let earlier = self.row(row, now_ns).filter(|held| held.position < position);
            if let Some(update) = earlier.and_then(|held| rows::update(&self.node, &name, &held)) {
                response::put_update(&update, &mut bytes);
                response.updates += 1;
            }
        }
        bytes.freeze()
    }

    /// Owes the rows of all members that are of these kinds.
    pub(super) fn owe_all(&mut self, is_kind: impl Fn(u8) -> bool) {
        self.owed.clear();
        let mut member = self.members.next(0);
        while let Some(instrument) = member {
            self.owe(instrument as u32, &is_kind);
            member = self.members.next(instrument + 1);
        }
    }

    pub(super) fn owe(&mut self, instrument: u32, is_kind: impl Fn(u8) -> bool) {
        for kind in (0..Kind::ROWS as u8).filter(|kind| is_kind(*kind)) {
            self.owed.insert(row_number(instrument, kind));
        }
    }

    /// Finds out what matches by what it is called now.
    pub(super) fn join_all(&mut self, now_ns: u64) {
        self.members.clear();
        for instrument in self.candidates() {
            self.see_name(instrument, now_ns);
        }
    }

    /// Instruments that may match: all of them, unless every pattern is a symbol.
    fn candidates(&self) -> Vec<u32> {
        let reader = &self.node.reader;
        match self.plan.wanted.symbols() {
            Some(symbols) => {
                symbols.into_iter().flat_map(|symbol| reader.find(symbol).collect::<Vec<_>>()).collect()
            }
            None => (0..reader.instruments()).collect(),
        }
    }

    /// Takes an instrument in, or out, by what it is called now; true = it is new.
    pub(super) fn see_name(&mut self, instrument: u32, now_ns: u64) -> bool {
        let definition = self.node.reader.definition(instrument, now_ns);
        match definition.is_some_and(|(_, definition)| self.plan.has_symbol(definition.name())) {
            true => self.members.insert(instrument as usize),
            false => {
                self.members.remove(instrument as usize);
                false
            }
        }
    }

    /// Whether there is a row that the present plan has, and the one before had not.
    pub(super) fn has_grown(&self, before: &Plan, now_ns: u64) -> bool {
        let reader = &self.node.reader;
        self.candidates().into_iter().any(|instrument| {
            let Some((_, definition)) = reader.definition(instrument, now_ns) else { return false };
            let (has_name, had_name) =
                (self.plan.has_symbol(definition.name()), before.has_symbol(definition.name()));
            has_name
                && rows::rows(&self.node, instrument, now_ns).iter().flatten().any(|row| {
                    let (feed, kind) = (row.tick.feed, row.tick.kind);
                    self.plan.has_row(feed, kind) && !(had_name && before.has_row(feed, kind))
                })
        })
    }

    /// What all feeds are now.
    pub(super) fn feeds_now(&self) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        for feed in (0..self.node.reader.layout().feeds).filter(|feed| self.plan.has_feed(*feed)) {
            let state = self.node.reader.feed(feed);
            if let Some(session) = state.session {
                events.push(rows::session_started(&self.node, feed, state.session_position, session));
            }
            events.push(rows::condition_changed(&self.node, feed, state.session_position, &state));
        }
        events
    }
}
