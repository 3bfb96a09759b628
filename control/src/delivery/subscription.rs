//! A subscription: one client's place in the log, and what it is owed.
//!
//! It begins with an image out of the table, taken after the log's end T was noted, and goes on with the log from T on.
//! A row that changed while the image was taken is in the image at a position of T or later: the log's ticks up to that
//! position are left out for it. So there is no hole between image and deltas, and nothing comes twice. Rows that are
//! conflated, since that was asked for or the client fell behind, are told out of the table in the same way.
//!
//! All that holds within one generation of the region. When that is another one (a standby began anew, or has come to the end
//! of an image), what was taken is void, and the subscription begins again: it is looked at before something is taken and
//! again before it is sent.

use super::bits::Bits;
use super::place::{self, Found};
use super::table::{Ahead, Telling};
use super::{Chunk, Plan, Response};
use crate::node::Node;
use crate::proto::{
    BehindPolicy, DeliveryMode, Gap, ImageReason, Notice, Place, SubscribeMode, SubscribeResponse,
};
use dataplane::cache::reader::Cursor;
use dataplane::cache::tick::{INSTRUMENT_NONE, Kind};
use std::sync::Arc;
use tonic::Status;

/// Bytes of updates after which a response ends.
pub(super) const BODY_BYTES: usize = 32 << 10;
/// Ticks of the log that are looked at before others have their turn.
const TICKS_MAX: u64 = 8_192;
/// A client this many ticks behind gets the latest values instead of them, unless its mode is another one.
const BEHIND_MAX: u64 = 16_384;
/// A conflated subscription to which nothing happens looks so many times a period whether something has.
const LOOKS: u64 = 8;
/// How long a place is waited for that this node's log has not reached, and how often it is looked for.
const REACH_MAX_NS: u64 = 1_000_000_000;
const REACH_INTERVAL_NS: u64 = 1_000_000;
/// How often who was told that nobody vouches for the cache looks whether somebody does again.
const DOUBT_INTERVAL_NS: u64 = 100_000_000;

/// For whom it is counted.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub name: String,
    pub role: &'static str,
}

pub struct Subscription {
    pub(super) node: Arc<Node>,
    client: Client,
    pub(super) plan: Arc<Plan>,
    /// Of the plan.
    fingerprint: u64,
    /// By the plan every row is delivered, and each of its ticks.
    takes_all: bool,
    /// Where it is to go on, and until when that is waited for.
    resume: Option<(Place, u64)>,
    /// Of the region, when it began; `None` = it has not.
    pub(super) generation: Option<u64>,
    /// Instruments that match by what they are called.
    pub(super) members: Bits,
    pub(super) cursor: Cursor,
    pub(super) ahead: Ahead,
    /// Rows that are to be told out of the table, by [`row_number`].
    pub(super) owed: Bits,
    pub(super) telling: Option<Telling>,
    /// When what is owed may be told.
    tell_at_ns: u64,
    /// Updates that something owed stands for.
    pub(super) left_out: u64,
    /// Something happened to a whole feed that was not told.
    pub(super) is_event_owed: bool,
    notice: Notice,
    was_alive: bool,
    /// It has passed over the log, and nothing of it was wanted.
    was_in_vain: bool,
    published_hint: u64,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    Send(Box<Response>),
    /// There may be more.
    Again,
    /// There is nothing before this time, or (if `is_prompt`) before the log grows.
    Wait {
        until_ns: u64,
        is_prompt: bool,
    },
    End(Status),
}

/// The number of an instrument's row among all rows.
pub(super) fn row_number(instrument: u32, kind: u8) -> usize {
    instrument as usize * Kind::ROWS + usize::from(kind)
}

fn takes_all(plan: &Plan) -> bool {
    plan.is_everything() && plan.mode != DeliveryMode::TradeSafe
}

impl Subscription {
    pub fn new(node: Arc<Node>, client: Client, plan: Arc<Plan>, resume: Option<Place>) -> Subscription {
        Subscription {
            cursor: node.reader.cursor(),
            node,
            client,
            fingerprint: plan.fingerprint(),
            takes_all: takes_all(&plan),
            resume: resume.map(|place| (place, 0)),
            generation: None,
            members: Bits::default(),
            ahead: Ahead::default(),
            owed: Bits::default(),
            telling: None,
            tell_at_ns: 0,
            left_out: 0,
            is_event_owed: false,
            notice: if plan.is_paused { Notice::Paused } else { Notice::Unspecified },
            was_alive: true,
            was_in_vain: false,
            published_hint: 0,
            plan,
        }
    }

    /// Instruments that it delivers.
    pub fn instruments(&self) -> u64 {
        self.members.count() as u64
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Goes on by another plan.
    pub fn change(&mut self, plan: Arc<Plan>, now_ns: u64) {
        let before = std::mem::replace(&mut self.plan, plan);
        if *before == *self.plan {
            return;
        }
        self.notice = match (before.is_paused, self.plan.is_paused) {
            (false, true) => Notice::Paused,
            (true, false) => Notice::Continued,
            _ => Notice::Changed,
        };
        self.fingerprint = self.plan.fingerprint();
        self.takes_all = takes_all(&self.plan);
        self.ahead.plan_changed();
        // What the plan before held back is told before anything else.
        self.tell_at_ns = 0;
        if !self.is_of_this_generation() {
            return;
        }
        if self.has_grown(&before, now_ns) {
            self.begin(ImageReason::Changed, now_ns);
            if self.notice == Notice::Changed {
                self.notice = Notice::Unspecified;
            }
        } else {
            self.join_all(now_ns);
        }
    }

    /// What is in the log by now is told by its latest, if the mode promises no more: the client had to wait for its quota, and would
    /// else be told what is older and older.
    pub fn conflate(&mut self, now_ns: u64) {
        let is_at_the_log = self.telling.is_none() && self.is_of_this_generation();
        if self.plan.mode == DeliveryMode::Unspecified && !self.plan.is_paused && is_at_the_log {
            self.pass_over(now_ns);
        }
    }

    /// Does the next piece of work at `now_ns` (`CLOCK_MONOTONIC`).
    pub fn step(&mut self, now_ns: u64) -> Step {
        if self.plan.is_paused {
            return match self.notice {
                Notice::Unspecified => Step::Wait { until_ns: u64::MAX, is_prompt: false },
                _ => self.send(Response::default(), now_ns),
            };
        }
        if !self.is_of_this_generation()
            && let Some(step) = self.set_out(now_ns)
        {
            return step;
        }
        if self.telling.is_none() {
            self.look_behind(now_ns);
        }
        let response = match self.telling.is_some() {
            true => Some(self.tell(now_ns)),
            false => match self.deltas(now_ns) {
                Ok(response) => response,
                Err(lapped) => return self.fall_behind(lapped, now_ns),
            },
        };
        if !self.is_of_this_generation() {
            return Step::Again;
        }
        let is_news = self.notice != Notice::Unspecified
            || self.was_alive != (now_ns < self.node.reader.valid_until_ns());
        match response {
            Some(response) => self.send(response, now_ns),
            None if is_news => self.send(Response::default(), now_ns),
            None => self.rest(now_ns),
        }
    }

    fn is_of_this_generation(&self) -> bool {
        self.generation == Some(self.node.reader.generation())
    }

    /// Begins where it is to go on, or with an image.
    fn set_out(&mut self, now_ns: u64) -> Option<Step> {
        let reason = match (&mut self.resume, self.generation) {
            (Some((place, until_ns)), None) => {
                if *until_ns == 0 {
                    *until_ns = now_ns + REACH_MAX_NS;
                }
                match place::find(&self.node.reader, place, self.fingerprint) {
                    Found::Here { generation } => {
                        let position = place.position;
                        self.go_on(generation, position, now_ns);
                        return None;
                    }
                    Found::NotYet if now_ns < *until_ns => {
                        return Some(Step::Wait { until_ns: now_ns + REACH_INTERVAL_NS, is_prompt: true });
                    }
                    Found::NotYet => ImageReason::NotReached,
                    Found::Nowhere(reason) => reason,
                }
            }
            (None, None) => ImageReason::First,
            (_, Some(_)) => ImageReason::CacheBegan,
        };
        self.begin(reason, now_ns);
        None
    }

    /// Goes on with the log at `position`.
    fn go_on(&mut self, generation: u64, position: u64, now_ns: u64) {
        self.generation = Some(generation);
        self.cursor = Cursor::at(position);
        self.join_all(now_ns);
        self.notice = Notice::Resumed;
        let plan = self.plan.clone();
        self.owe_all(|kind| plan.conflates(kind));
    }

    /// Begins with what all rows are now, and nothing of what was before.
    fn begin(&mut self, reason: ImageReason, now_ns: u64) {
        self.generation = Some(self.node.reader.generation());
        self.cursor = Cursor::at(self.node.reader.tail());
        self.ahead = Ahead::default();
        (self.left_out, self.is_event_owed, self.was_in_vain) = (0, false, false);
        self.join_all(now_ns);
        self.owe_all(|_| true);
        let head = SubscribeResponse {
            mode: SubscribeMode::Image.into(),
            feed_events: self.feeds_now(),
            lapped: reason == ImageReason::CacheBegan,
            image_reason: reason.into(),
            ..SubscribeResponse::default()
        };
        self.telling = Some(Telling::new(SubscribeMode::Image, 0, false, head));
    }

    /// Decides whether something is to be told out of the table now.
    fn look_behind(&mut self, now_ns: u64) {
        let reader = &self.node.reader;
        let behind = reader.tail().saturating_sub(self.cursor.position());
        let is_due = now_ns >= self.tell_at_ns;
        let passes = match self.plan.mode {
            DeliveryMode::Conflated => is_due && behind != 0,
            DeliveryMode::Unspecified => behind > BEHIND_MAX.min(reader.layout().log_ticks / 2),
            DeliveryMode::TradeSafe | DeliveryMode::EveryTick => false,
        };
        if passes {
            self.pass_over(now_ns);
        }
        self.was_in_vain = passes && self.owed.is_empty();
        if self.telling.is_none() && (self.is_event_owed || (is_due && !self.owed.is_empty())) {
            self.begin_telling(0, false, now_ns);
        }
    }

    pub(super) fn begin_telling(&mut self, since: u64, lapped: bool, now_ns: u64) {
        self.tell_at_ns = now_ns + self.plan.period_ns;
        let feed_events = match std::mem::take(&mut self.is_event_owed) || lapped {
            true => self.feeds_now(),
            false => Vec::new(),
        };
        let mode = SubscribeMode::Conflated;
        let head = SubscribeResponse { mode: mode.into(), feed_events, ..SubscribeResponse::default() };
        self.telling = Some(Telling::new(mode, since, lapped, head));
    }

    /// The log does not have all that was since: whatever changed is owed.
    pub(super) fn pass_over_lapped(&mut self, since: u64, now_ns: u64) {
        self.cursor = Cursor::at(self.node.reader.tail());
        self.join_all(now_ns);
        self.owe_all(|_| true);
        self.left_out += self.cursor.position() - since;
        self.begin_telling(since, true, now_ns);
    }

    /// The log does not have what is next.
    fn fall_behind(&mut self, from: u64, now_ns: u64) -> Step {
        if !self.is_of_this_generation() {
            return Step::Again;
        }
        if !self.plan.promises_updates() {
            self.pass_over_lapped(from, now_ns);
        } else if self.plan.policy == BehindPolicy::End {
            let tail = self.node.reader.tail();
            return Step::End(Status::out_of_range(format!(
                "the log has been overwritten at position {from}, {} ticks behind its end: read faster, ask for less, or \
                 give [region] log_ticks more room",
                tail.saturating_sub(from)
            )));
        } else {
            self.begin(ImageReason::Gap, now_ns);
            let to = self.cursor.position();
            let gap = Gap { from, to, count: to.saturating_sub(from) };
            let telling = self.telling.as_mut().expect("an image was begun");
            telling.head.gap = Some(gap);
        }
        Step::Again
    }

    /// Whether a tick is one of a wanted row, and not told yet.
    pub(super) fn is_owed_tick(&self, position: u64, instrument: u32, feed: u16, kind: u8) -> bool {
        self.members.has(instrument as usize)
            && self.plan.has_row(feed, kind)
            && !self.ahead.has(position, row_number(instrument, kind))
    }

    /// What the log has for this client, up to a response's worth; an error is the position that it does not have.
    fn deltas(&mut self, now_ns: u64) -> Result<Option<Response>, u64> {
        if self.plan.mode == DeliveryMode::Conflated {
            return Ok(None);
        }
        let mut response = Response::default();
        response.head.mode = SubscribeMode::Delta.into();
        let (from, tail) = (self.cursor.position(), self.node.reader.tail());
        while self.cursor.position() < tail.min(from + TICKS_MAX) && response.body_bytes() < BODY_BYTES {
            let next = self.cursor.position();
            let chunk = self.node.chunks.at(&self.node, next, now_ns);
            match chunk.filter(|chunk| Some(chunk.generation) == self.generation) {
                Some(chunk) => self.take(&chunk, now_ns, &mut response),
                None if next > from => break,
                None => return Err(next),
            }
        }
        self.ahead.leave_behind(self.cursor.position());
        Ok((response.body_bytes() != 0).then_some(response))
    }

    /// Takes what is wanted of a chunk, from the cursor on.
    fn take(&mut self, chunk: &Chunk, now_ns: u64, response: &mut Response) {
        let from = self.cursor.position();
        self.cursor = Cursor::at(chunk.upto());
        let is_whole = self.takes_all && from == chunk.from && !chunk.has_definitions;
        if is_whole && self.ahead.is_behind(from) {
            response.push(chunk.bytes().clone());
            response.updates += chunk.updates;
            response.first.get_or_insert(from);
            return;
        }
        let mut run = 0..0;
        for (position, piece, bytes) in chunk.pieces(from) {
            let is_wanted = if piece.instrument == INSTRUMENT_NONE {
                self.plan.has_feed(piece.feed)
            } else {
                if piece.kind == Kind::Definition as u8 && self.see_name(piece.instrument, now_ns) {
                    let earlier = self.earlier_rows(piece.instrument, position, now_ns, response);
                    response.push(chunk.bytes().slice(std::mem::take(&mut run)));
                    response.push(earlier);
                }
                self.is_owed_tick(position, piece.instrument, piece.feed, piece.kind)
            };
            if !is_wanted {
                continue;
            }
            if piece.instrument != INSTRUMENT_NONE && self.plan.conflates(piece.kind) {
                self.owed.insert(row_number(piece.instrument, piece.kind));
                self.left_out += 1;
                continue;
            }
            if run.end == bytes.start {
                run.end = bytes.end;
            } else {
                response.push(chunk.bytes().slice(std::mem::replace(&mut run, bytes.clone())));
            }
            if !bytes.is_empty() && piece.instrument != INSTRUMENT_NONE {
                response.updates += 1;
                response.first.get_or_insert(position);
            }
        }
        response.push(chunk.bytes().slice(run));
    }

    /// What is to be done once a response was sent, as far as that is known without another look at the log.
    pub fn after_response(&self, now_ns: u64) -> Step {
        let has_more = self.telling.is_some() || self.is_event_owed;
        match self.plan.is_paused || has_more || !self.is_of_this_generation() {
            true => Step::Again,
            false => self.rest(now_ns),
        }
    }

    fn rest(&self, now_ns: u64) -> Step {
        let is_conflated = self.plan.mode == DeliveryMode::Conflated;
        let is_held_back = now_ns < self.tell_at_ns;
        let has_seen_all = self.cursor.position() >= self.node.reader.tail();
        match (is_conflated && is_held_back, !self.owed.is_empty()) {
            (true, _) => Step::Wait { until_ns: self.tell_at_ns, is_prompt: false },
            (false, true) if has_seen_all && is_held_back => {
                Step::Wait { until_ns: self.tell_at_ns, is_prompt: true }
            }
            // Others change all the time: it need not look each time that they do.
            (false, false)
                if is_conflated && has_seen_all && self.was_in_vain && self.plan.period_ns != 0 =>
            {
                Step::Wait { until_ns: now_ns + self.plan.period_ns / LOOKS, is_prompt: false }
            }
            (false, false) if has_seen_all => {
                // A moment in which nobody did may be too short for whoever watches over the node: a client must not
                // believe in it for ever.
                let until_ns = if self.was_alive { u64::MAX } else { now_ns + DOUBT_INTERVAL_NS };
                Step::Wait { until_ns, is_prompt: true }
            }
            _ => Step::Again,
        }
    }

    /// Finishes a response.
    fn send(&mut self, mut response: Response, now_ns: u64) -> Step {
        let is_alive = now_ns < self.node.reader.valid_until_ns();
        self.was_alive = is_alive;
        let head = &mut response.head;
        head.writer_alive = is_alive;
        head.notice = std::mem::replace(&mut self.notice, Notice::Unspecified).into();
        if self.generation.is_some() && self.telling.is_none() {
            let place = place::of(&self.node.reader, self.cursor.position(), self.fingerprint);
            head.position = self.cursor.position();
            // Rows that are owed are told again to whoever goes on there, if its mode is to conflate them.
            let can_part = self.ahead.can_part_at(place.position);
            head.place = (can_part && Some(place.generation) == self.generation).then_some(place);
        }
        if head.mode == 0 {
            head.mode = SubscribeMode::Delta.into();
        }
        self.count(&response, now_ns);
        Step::Send(Box::new(response))
    }

    fn count(&mut self, response: &Response, now_ns: u64) {
        let delivery = &self.node.delivery;
        delivery.delivered.add(response.updates);
        delivery.conflated.add(response.head.skipped);
        // A client that wants to wait says nothing about how fast the node is.
        if let Some(first) = response.first
            && self.plan.interval.is_zero()
            && let Some(published_ns) = self.node.reader.published_ns(first, &mut self.published_hint)
        {
            let Client { name, role } = &self.client;
            delivery.record(name, role, published_ns, now_ns, response.updates);
        }
    }
}
