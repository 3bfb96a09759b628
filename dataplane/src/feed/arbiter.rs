//! The arbiter: makes one stream of messages, each once and in order, of the redundant lines of a feed, which number
//! their messages alike, but may pack them differently.
//!
//! - The line that brings a message first wins; what comes again is dropped, an overlap is cut.
//! - A packet from beyond a hole is held in a bounded [window](super::window) until the hole is filled. The
//!   hole is declared a gap when every line that speaks has sent `reorder_packets` packets from beyond it, when
//!   the window is full, or `gap_timeout_ns` after it was first seen. Heartbeats and ends of session, which
//!   carry the next number, show holes as packets do.
//! - A session that is first seen within `held_packets` messages of its beginning is waited for from message 1 on;
//!   otherwise it is joined late, where it is.
//! - Another session is followed at once if the present one has ended or is stale; otherwise a second packet
//!   must confirm it, as it must a jump of more than a million messages: one stray packet moves nothing.
//! - A line without a packet of the session for `silence_ns` is silent. The feed is stale when for so long no
//!   line brought or announced anything at or beyond the next number: lines that only repeat the past don't
//!   make it live. A stale feed that begins again at message 1 under the same name begins a new session; with some
//!   [transports](Transport::RESTARTS) a feed that speaks does so, too.
//!
//! No I/O, no allocation after construction; any bytes are borne.

use std::marker::PhantomData;
use std::sync::Arc;

use super::config::{ArbiterConfig, ConfigError};
use super::delivery::{Arrival, Delivery, Event, Sink};
use super::line::{FeedCounters, Leads, Line};
use super::stray::{JUMP_MESSAGES, RESTART_MESSAGES, Stray, StrayPacket};
use super::transport::{Packet, SESSION_BYTES, Transport};
use super::window::{Held, Hold, Window};
use crate::cache::tick::Condition;
use crate::limits::LINES_MAX;
use crate::times::FeedTimes;

/// One feed's arbitration.
#[derive(Debug)]
pub struct Arbiter<T> {
    session: [u8; SESSION_BYTES],
    /// The number that is delivered next; 0 = no session yet.
    next: u64,
    /// Nothing is held, awaited, stale or ended: what is next is delivered without further ado.
    settled: bool,
    ended: bool,
    stale: bool,
    /// When a line last brought or announced something at or beyond `next`.
    front_ns: u64,
    lines: [Line; LINES_MAX],
    /// Before this there is nothing to do for [`Arbiter::poll`].
    due_ns: u64,
    /// One above the last message of the last gap, and its first.
    gap_to: u64,
    gap_from: u64,
    counters: Arc<FeedCounters>,
    leads: Leads,
    window: Window,
    stray: Stray,
    /// The session that was left last.
    previous: Option<[u8; SESSION_BYTES]>,
    started_ns: u64,
    condition: Condition,
    config: ArbiterConfig,
    transport: PhantomData<T>,
}

/// A well-formed packet of the session.
#[derive(Clone, Copy)]
struct Offer<'p> {
    sequence: u64,
    /// One above its last message.
    next: u64,
    ends_session: bool,
    blocks: &'p [u8],
}

impl Offer<'_> {
    fn is_empty(&self) -> bool {
        self.sequence == self.next
    }
}

/// What an offer was, for its line's counters.
enum Outcome {
    Won,
    Duplicate,
    Late,
    Heartbeat,
}

/// How a packet stands to the session that is followed.
enum Relation {
    Own,
    New,
    Stray,
    Old,
}

impl<T: Transport> Arbiter<T> {
    pub fn new(config: ArbiterConfig, counters: Arc<FeedCounters>) -> Result<Self, ConfigError> {
        config.check()?;
        for line in &counters.lines[..config.lines] {
            line.silent.set(1);
        }
        Ok(Arbiter {
            session: [0; SESSION_BYTES],
            next: 0,
            settled: false,
            ended: false,
            stale: false,
            front_ns: 0,
            lines: [Line::NEW; LINES_MAX],
            due_ns: u64::MAX,
            gap_to: 0,
            gap_from: 0,
            counters,
            leads: Leads::new(),
            window: Window::new(&config),
            stray: Stray::new(config.slot_bytes),
            previous: None,
            started_ns: 0,
            condition: Condition::Waiting,
            config,
            transport: PhantomData,
        })
    }

    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// The session that is followed.
    pub fn session(&self) -> Option<[u8; SESSION_BYTES]> {
        (self.next != 0).then_some(self.session)
    }

    /// The number of the next message to be delivered; 0 before the first session.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// The first hole that is waited for: messages `from` until below `to`. What a recovery would ask for.
    pub fn hole(&self) -> Option<(u64, u64)> {
        self.window.first().map(|first| (self.next, first))
    }

    pub fn counters(&self) -> &Arc<FeedCounters> {
        &self.counters
    }

    /// Takes a UDP payload. Panics if `arrival.line` is not below [`LINES_MAX`].
    #[inline]
    pub fn accept<S: Sink>(&mut self, datagram: &[u8], arrival: Arrival, sink: &mut S) {
        let silent = self.lines[arrival.line].silent;
        let counters = &self.counters.lines[arrival.line];
        counters.packets.add(1);
        counters.bytes.add(datagram.len() as u64);
        let Some(packet) = T::parse(datagram) else {
            counters.malformed.add(1);
            return;
        };
        let Packet { sequence, count, blocks, .. } = packet;
        if self.settled && !silent && count != 0 && packet.session == self.session {
            if sequence == self.next && T::is_whole(&packet) {
                let next = packet.sequence_next();
                self.lines[arrival.line].speak(counters, sequence, next, arrival.now_ns);
                counters.won.add(1);
                self.leads.first(arrival.line, sequence, arrival.received_ns);
                self.front_ns = arrival.now_ns;
                self.next = next;
                self.counters.next_sequence.set(next);
                self.counters.messages.add(u64::from(count));
                let (line, received_ns) = (arrival.line, arrival.received_ns);
                sink.messages(Delivery { sequence, count, blocks, line, received_ns });
                return;
            }
            let may_restart = T::RESTARTS && sequence == 1;
            if self.is_past(sequence, count) && sequence >= self.gap_to && !may_restart {
                let next = packet.sequence_next();
                self.lines[arrival.line].speak(counters, sequence, next, arrival.now_ns);
                counters.duplicates.add(1);
                self.leads.again(&self.counters.lines, arrival.line, sequence, arrival.received_ns);
                return;
            }
        }
        self.accept_unsettled(packet, arrival, sink);
    }

    /// Sees to the timers. Cheap as long as none is due: call it once a duty cycle.
    #[inline]
    pub fn poll<S: Sink>(&mut self, now_ns: u64, sink: &mut S) {
        if now_ns >= self.due_ns {
            self.poll_due(now_ns, sink);
        }
    }

    /// Holes and lines are judged by these from the next [`Arbiter::poll`] on; neither is 0.
    pub fn set_times(&mut self, FeedTimes { gap_timeout_ns, silence_ns }: FeedTimes) {
        self.config = ArbiterConfig { gap_timeout_ns, silence_ns, ..self.config };
        debug_assert_eq!(self.config.check(), Ok(()), "whoever sets them has checked them");
        self.due_ns = 0;
    }

    /// Nothing will come any more (the end of a recording): what is missing is given up, and a stray packet that nothing
    /// has contradicted is believed.
    pub fn finish<S: Sink>(&mut self, now_ns: u64, sink: &mut S) {
        self.declare_all(sink);
        if let Some((stray, bytes, memory)) = self.stray.take() {
            let StrayPacket { session, sequence, next, ends_session, line, received_ns } = stray;
            if session != self.session || sequence < self.next {
                self.begin(&session, sequence, now_ns, sink);
            }
            if let Some(bytes) = bytes {
                let arrival = Arrival { line, now_ns, received_ns };
                self.admit(Offer { sequence, next, ends_session, blocks: &memory[..bytes] }, arrival, sink);
            }
            self.stray.put_back(memory);
            self.declare_all(sink);
        }
        self.settle();
    }

    fn declare_all<S: Sink>(&mut self, sink: &mut S) {
        while let Some(first) = self.window.first() {
            self.declare(first, sink);
        }
    }

    /// All of the packet's messages (at least one) are below `next`.
    #[inline(always)]
    fn is_past(&self, sequence: u64, count: u16) -> bool {
        sequence != 0 && sequence < self.next && u64::from(count) <= self.next - sequence
    }

    #[cold]
    #[inline(never)]
    fn accept_unsettled<S: Sink>(&mut self, packet: Packet<'_>, arrival: Arrival, sink: &mut S) {
        let Packet { session, sequence, count, ends_session, blocks } = packet;
        let next = packet.sequence_next();
        let (line, now_ns) = (arrival.line, arrival.now_ns);
        let own = session == self.session;
        let offer = Offer { sequence, next, ends_session, blocks };
        let front = if own { self.next } else { 0 };
        let confirms = self.stray.is_confirmed_by(line, &session, sequence, next, front);
        let relation = self.relation(line, &session, &offer);
        // What is dropped as a duplicate is not walked: neither here nor when all is well.
        let past = count != 0 && self.is_past(sequence, count) && own;
        let dropped = past && !confirms && matches!(relation, Relation::Own);
        if sequence == 0 || (!dropped && !T::is_whole(&packet)) {
            self.counters.lines[line].malformed.add(1);
            return;
        }
        let outcome = if confirms {
            self.follow_stray(&session, offer, arrival, sink)
        } else {
            match relation {
                Relation::Own => self.stray.forget(line),
                Relation::New => self.begin(&session, sequence, now_ns, sink),
                Relation::Old => {
                    self.counters.lines[line].old_session.add(1);
                    return;
                }
                Relation::Stray => {
                    self.counters.lines[line].stray.add(1);
                    let received_ns = arrival.received_ns;
                    self.stray.keep(
                        StrayPacket { session, sequence, next, ends_session, line, received_ns },
                        blocks,
                    );
                    self.settle();
                    return;
                }
            }
            self.admit(offer, arrival, sink)
        };
        let counters = &self.counters.lines[line];
        match outcome {
            Outcome::Won => counters.won.add(1),
            Outcome::Duplicate => counters.duplicates.add(1),
            Outcome::Late => counters.late.add(1),
            Outcome::Heartbeat => counters.heartbeats.add(1),
        }
        self.settle();
    }

    fn relation(&self, line: usize, session: &[u8; SESSION_BYTES], offer: &Offer<'_>) -> Relation {
        if self.next == 0 {
            return Relation::New;
        }
        if *session == self.session {
            let beyond = self.window.last().unwrap_or(self.next);
            let jumps = offer.sequence > beyond && offer.sequence - beyond > JUMP_MESSAGES;
            let restarts = offer.sequence == 1
                && offer.next <= self.next
                && self.next > 1
                && (self.stale || (T::RESTARTS && self.lines[line].next > RESTART_MESSAGES));
            return if jumps || restarts { Relation::Stray } else { Relation::Own };
        }
        match (self.previous == Some(*session), self.stale, self.ended) {
            (true, false, _) => Relation::Old,
            (true, true, _) => Relation::Stray,
            (false, false, false) => Relation::Stray,
            (false, _, _) => Relation::New,
        }
    }

    /// Two packets agree that the feed is where the stray was.
    fn follow_stray<S: Sink>(
        &mut self,
        session: &[u8; SESSION_BYTES],
        offer: Offer<'_>,
        arrival: Arrival,
        sink: &mut S,
    ) -> Outcome {
        let (stray, bytes, memory) = self.stray.take().expect("it was confirmed");
        if *session != self.session || stray.sequence < self.next {
            self.begin(session, stray.sequence.min(offer.sequence), arrival.now_ns, sink);
        }
        let StrayPacket { sequence, next, ends_session, line, received_ns, .. } = stray;
        let kept = bytes.map(|bytes| Offer { sequence, next, ends_session, blocks: &memory[..bytes] });
        let kept_arrival = Arrival { line, received_ns, ..arrival };
        let (before, after) = if sequence <= offer.sequence { (kept, None) } else { (None, kept) };
        // The stray was counted when it came.
        if let Some(kept) = before {
            self.admit(kept, kept_arrival, sink);
        }
        let outcome = self.admit(offer, arrival, sink);
        if let Some(kept) = after {
            self.admit(kept, kept_arrival, sink);
        }
        self.stray.put_back(memory);
        outcome
    }

    /// Leaves the present session, if there is one, and begins another.
    fn begin<S: Sink>(&mut self, session: &[u8; SESSION_BYTES], sequence: u64, now_ns: u64, sink: &mut S) {
        self.declare_all(sink);
        if self.next != 0 && self.session != *session {
            self.previous = Some(self.session);
        }
        let late = sequence - 1 > self.config.held_packets as u64;
        self.session = *session;
        self.next = if late { sequence } else { 1 };
        (self.ended, self.stale) = (false, false);
        (self.front_ns, self.started_ns) = (now_ns, now_ns);
        (self.gap_from, self.gap_to) = (0, 0);
        self.leads.clear();
        self.stray.clear();
        for (line, counters) in self.lines.iter_mut().zip(&self.counters.lines) {
            line.next = 0;
            counters.last_sequence.set(0);
        }
        self.counters.sessions.add(1);
        self.counters.late_starts.add(u64::from(late));
        sink.event(Event::SessionStarted { session: *session, sequence: self.next, late });
    }

    /// A packet of the session.
    fn admit<S: Sink>(&mut self, offer: Offer<'_>, arrival: Arrival, sink: &mut S) -> Outcome {
        let line = &mut self.lines[arrival.line];
        let counters = &self.counters.lines[arrival.line];
        line.speak(counters, offer.sequence, offer.next, arrival.now_ns);
        line.silent = false;
        counters.silent.set(0);
        // The last packet once more is the past, too; a heartbeat that announces the next number is not.
        if offer.next > self.next || (offer.is_empty() && offer.next == self.next) {
            self.front_ns = arrival.now_ns;
            if self.stale {
                self.stale = false;
                self.stray.clear();
            }
        }
        self.tell_condition(sink);
        let outcome = self.place(offer, arrival, sink);
        self.give_up(arrival.now_ns, sink);
        outcome
    }

    /// Delivers it, holds it, or drops it.
    fn place<S: Sink>(&mut self, offer: Offer<'_>, arrival: Arrival, sink: &mut S) -> Outcome {
        let Arrival { line, now_ns, received_ns } = arrival;
        let Offer { sequence, next, ends_session, blocks } = offer;
        let packet = Held::new(line, sequence, next, ends_session, now_ns, received_ns);
        let new = if offer.is_empty() { Outcome::Heartbeat } else { Outcome::Won };
        while sequence > self.next {
            match self.window.hold(packet, blocks) {
                Hold::Held => {
                    self.counters.held.add(1);
                    self.leads.first(line, sequence, received_ns);
                    return new;
                }
                Hold::Known if offer.is_empty() => return Outcome::Heartbeat,
                Hold::Known => {
                    self.leads.again(&self.counters.lines, line, sequence, received_ns);
                    return Outcome::Duplicate;
                }
                // One gap makes room for it, or makes it the next.
                Hold::Full => {
                    self.counters.window_full.add(1);
                    self.declare(self.window.first().map_or(sequence, |first| first.min(sequence)), sink);
                }
                Hold::Oversized => {
                    self.counters.oversized.add(1);
                    while self.next < sequence {
                        self.declare(self.window.first().map_or(sequence, |first| first.min(sequence)), sink);
                    }
                }
            }
        }
        if offer.is_empty() {
            if ends_session && sequence == self.next {
                self.end(sink);
            }
            return Outcome::Heartbeat;
        }
        if next <= self.next {
            if sequence < self.gap_to && next > self.gap_from {
                return Outcome::Late;
            }
            self.leads.again(&self.counters.lines, line, sequence, received_ns);
            return Outcome::Duplicate;
        }
        self.leads.first(line, sequence, received_ns);
        self.resume(sink);
        hand_over::<T, _>(&mut self.next, &self.counters, &packet, blocks, sink);
        self.drain(sink);
        Outcome::Won
    }

    /// Declares everything below `to` missing and goes on from there.
    fn declare<S: Sink>(&mut self, to: u64, sink: &mut S) {
        self.resume(sink);
        let from = self.next;
        self.counters.gaps.add(1);
        self.counters.missing.add(to - from);
        (self.gap_from, self.gap_to) = (from, to);
        self.next = to;
        sink.event(Event::Gap { from, to });
        self.drain(sink);
    }

    /// Delivers what is held and whose turn has come.
    fn drain<S: Sink>(&mut self, sink: &mut S) {
        let held_before = self.window.len();
        while let Some(held) = self.window.pop(self.next) {
            if held.next > self.next {
                self.resume(sink);
                hand_over::<T, _>(&mut self.next, &self.counters, &held, self.window.blocks(&held), sink);
            } else if held.ends_session && held.next == self.next {
                self.end(sink);
            }
        }
        if self.window.len() != held_before {
            self.window.see_hole();
        }
    }

    /// Declares the holes that no line is going to fill.
    fn give_up<S: Sink>(&mut self, now_ns: u64, sink: &mut S) {
        while let Some(first) = self.window.first() {
            let mut waited_for = 0;
            for (index, line) in self.lines[..self.config.lines].iter().enumerate() {
                // Lines that have not spoken yet are given their time at the start of a session.
                let heard_ns = line.last_packet_ns.max(self.started_ns);
                if now_ns.saturating_sub(heard_ns) < self.config.silence_ns {
                    waited_for += 1;
                    if self.window.beyond(index) < self.config.reorder_packets {
                        return;
                    }
                }
            }
            if waited_for == 0 {
                return;
            }
            self.declare(first, sink);
        }
    }

    fn end<S: Sink>(&mut self, sink: &mut S) {
        if !self.ended {
            (self.ended, self.stale) = (true, false);
            sink.event(Event::SessionEnded { next_sequence: self.next });
            self.tell_condition(sink);
        }
    }

    /// The end was none: there is more.
    fn resume<S: Sink>(&mut self, sink: &mut S) {
        if self.ended {
            self.ended = false;
            self.counters.resumed.add(1);
            self.tell_condition(sink);
        }
    }

    #[cold]
    #[inline(never)]
    fn poll_due<S: Sink>(&mut self, now_ns: u64, sink: &mut S) {
        let silence_ns = self.config.silence_ns;
        for (line, counters) in self.lines.iter_mut().zip(&self.counters.lines) {
            if !line.silent && now_ns.saturating_sub(line.last_packet_ns) >= silence_ns {
                line.silent = true;
                counters.silent.set(1);
            }
        }
        while let Some((first, since_ns)) = self.window.first().zip(self.window.since_ns()) {
            if now_ns.saturating_sub(since_ns) < self.config.gap_timeout_ns {
                break;
            }
            self.declare(first, sink);
        }
        self.give_up(now_ns, sink);
        if self.next != 0 && !self.ended && now_ns.saturating_sub(self.front_ns) >= silence_ns {
            self.stale = true;
        }
        self.tell_condition(sink);
        self.settle();
    }

    fn tell_condition<S: Sink>(&mut self, sink: &mut S) {
        let silent = self.lines[..self.config.lines].iter().any(|line| line.silent);
        let condition = match (self.next, self.ended, self.stale, silent) {
            (0, ..) => Condition::Waiting,
            (_, true, ..) => Condition::Ended,
            (_, _, true, _) => Condition::Stale,
            (_, _, _, true) => Condition::Degraded,
            _ => Condition::Live,
        };
        if condition != self.condition {
            self.condition = condition;
            self.counters.condition.set(condition as u64);
            sink.event(Event::Condition(condition));
        }
    }

    /// To be called last wherever something may have changed that [`Arbiter::accept`] and
    /// [`Arbiter::poll`] take for granted.
    fn settle(&mut self) {
        let open = self.next != 0 && !self.ended && !self.stale;
        self.settled = open && self.window.is_empty() && self.stray.is_none();
        let silence_ns = self.config.silence_ns;
        let spoke_ns = self.lines.iter().filter(|line| !line.silent).map(|line| line.last_packet_ns).min();
        let silent_ns = spoke_ns.map_or(u64::MAX, |spoke_ns| spoke_ns.saturating_add(silence_ns));
        let stale_ns = if open { self.front_ns.saturating_add(silence_ns) } else { u64::MAX };
        let hole_ns = self
            .window
            .since_ns()
            .map_or(u64::MAX, |since_ns| since_ns.saturating_add(self.config.gap_timeout_ns));
        self.due_ns = silent_ns.min(stale_ns).min(hole_ns);
        self.counters.held_now.set(self.window.len() as u64);
        self.counters.next_sequence.set(self.next);
    }
}

/// Delivers what of a packet is at or above `next`; there is some.
fn hand_over<T: Transport, S: Sink>(
    next: &mut u64,
    counters: &FeedCounters,
    packet: &Held,
    mut blocks: &[u8],
    sink: &mut S,
) {
    for _ in packet.sequence..*next {
        blocks = T::split(blocks).map_or(&[], |(_, rest)| rest);
    }
    let sequence = std::mem::replace(next, packet.next);
    let count = (packet.next - sequence) as u16;
    counters.messages.add(u64::from(count));
    let (line, received_ns) = (usize::from(packet.line), packet.received_ns);
    sink.messages(Delivery { sequence, count, blocks, line, received_ns });
}
