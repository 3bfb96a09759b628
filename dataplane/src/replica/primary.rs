//! The primary's side: what one peer is sent, and when.

use super::{Copied, Link, Message, PROTOCOL, Record, Refusal};
use crate::cache::lineage::Lineage;
use crate::cache::reader::Reader;

/// Rows of an image that are sent before the log has its turn, and places that are looked at for them.
const IMAGE_BATCH: usize = 64;
const IMAGE_LOOKS: usize = 4_096;

/// How a peer is served.
#[derive(Clone, Copy, Debug)]
pub struct PrimaryLimits {
    /// Ticks that may be on their way; at most half of the log.
    pub window_ticks: u64,
    /// For how long, from its acknowledgement on, a standby may be believed.
    pub valid_for_ns: u64,
}

/// What has happened with one peer, over all of its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrimaryCounters {
    pub connections: u64,
    pub refused: u64,
    /// Images that were begun, and those of them because the log had gone past the peer.
    pub images: u64,
    pub lapped: u64,
    pub rows: u64,
    pub ticks: u64,
}

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryStatus {
    /// Everything below is at the peer.
    pub acknowledged: u64,
    /// Everything below is on its way.
    pub sent: u64,
    /// The peer has had all that an image consists of, and has said so.
    pub level: bool,
    pub connected: bool,
    /// It knows the feeds itself as well as the log does.
    pub whole: bool,
    /// A later term that the peer has heard of; 0 = none.
    pub later_term: u64,
    /// Who it says that it is; 0 = it has not said.
    pub node: u64,
    /// Why it was not taken on its last connection.
    pub refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The peer has not said who it is.
    Silent,
    /// It was told where to begin, and has not said yet that it has.
    Beginning,
    /// Rows from this one on are still to be sent.
    Image(usize),
    /// Only the log, and up to here it makes the peer level.
    Log(u64),
    Refused(Refusal),
}

/// One peer of a primary, on one connection after the other.
#[derive(Debug)]
pub struct Primary<'m> {
    reader: Reader<'m>,
    lineage: Lineage,
    limits: PrimaryLimits,
    phase: Phase,
    session: u64,
    with_image: bool,
    sent: u64,
    /// Above the position of every row of the image so far.
    newest_row: u64,
    acknowledged: u64,
    whole: bool,
    /// The peer's time in its last acknowledgement.
    echo_ns: u64,
    told_alive_ns: u64,
    told_echo_ns: u64,
    level_said: bool,
    later_term: u64,
    /// Who the peer says that it is; 0 = it has no name.
    node: u64,
    unsent: Option<Message>,
    counters: PrimaryCounters,
}

impl<'m> Primary<'m> {
    pub fn new(reader: Reader<'m>, lineage: Lineage, limits: PrimaryLimits) -> Primary<'m> {
        let window_ticks = limits.window_ticks.clamp(1, reader.layout().window_ticks_max());
        Primary {
            reader,
            lineage,
            limits: PrimaryLimits { window_ticks, ..limits },
            phase: Phase::Silent,
            session: 0,
            with_image: false,
            sent: 0,
            newest_row: 0,
            acknowledged: 0,
            whole: false,
            echo_ns: 0,
            told_alive_ns: 0,
            told_echo_ns: 0,
            level_said: false,
            later_term: 0,
            node: 0,
            unsent: None,
            counters: PrimaryCounters::default(),
        }
    }

    /// There is a new connection; what the last one carried may be lost.
    pub fn connected(&mut self) {
        self.counters.connections += 1;
        self.phase = Phase::Silent;
        self.unsent = None;
    }

    pub fn counters(&self) -> PrimaryCounters {
        self.counters
    }

    pub fn status(&self) -> PrimaryStatus {
        PrimaryStatus {
            acknowledged: self.acknowledged,
            sent: self.sent,
            level: matches!(self.phase, Phase::Log(level) if self.acknowledged >= level),
            connected: !matches!(self.phase, Phase::Silent | Phase::Refused(_)),
            whole: self.whole,
            later_term: self.later_term,
            node: self.node,
            refusal: match self.phase {
                Phase::Refused(refusal) => Some(refusal),
                _ => None,
            },
        }
    }

    /// One round: takes what the peer says, sends what there is to send. Returns how much was done.
    pub fn poll(&mut self, link: &mut impl Link, now_ns: u64) -> usize {
        let mut work = 0;
        while let Some(message) = link.receive() {
            work += 1;
            self.take(message);
        }
        if let Some(message) = self.unsent.take()
            && !link.send(message)
        {
            self.unsent = Some(message);
            return work;
        }
        if let Phase::Image(row) = self.phase {
            work += self.send_rows(link, row);
        }
        if matches!(self.phase, Phase::Image(_) | Phase::Log(_)) {
            work += self.send_log(link);
            self.send_belief(link, now_ns);
        }
        work
    }

    /// Takes what the peer says.
    pub fn take(&mut self, message: Message) {
        match message {
            Message::Hello { protocol, layout, heard, log, position, node } => {
                self.node = node;
                let refusal = if protocol != PROTOCOL {
                    Some(Refusal::Protocol)
                } else if layout != self.reader.layout().hash() {
                    Some(Refusal::Layout)
                } else if heard > self.lineage.term {
                    self.later_term = self.later_term.max(heard);
                    Some(Refusal::Term)
                } else {
                    None
                };
                if let Some(refusal) = refusal {
                    return self.refuse(refusal);
                }
                let tail = self.reader.tail();
                let reaches =
                    position == tail || (position < tail && self.reader.log_tick(position).is_some());
                if reaches && self.lineage.continues(log, position) {
                    self.begin(position, false);
                } else {
                    self.begin(tail, true);
                }
            }
            Message::Ack { session, position, clock_ns, whole } if session == self.session => {
                if self.phase == Phase::Beginning {
                    self.phase =
                        if self.with_image { Phase::Image(0) } else { Phase::Log(self.reader.tail()) };
                    self.acknowledged = self.sent;
                }
                if position <= self.sent {
                    self.acknowledged = self.acknowledged.max(position);
                    (self.echo_ns, self.whole) = (clock_ns, whole);
                }
            }
            _ => {}
        }
    }

    /// Sends the peer away, whatever it was told before.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.counters.refused += 1;
        self.phase = Phase::Refused(refusal);
        self.unsent = Some(Message::Refuse { refusal, term: self.lineage.term });
    }

    /// Whether the peer has all that there is.
    pub fn has_all(&self) -> bool {
        let is_level =
            matches!(self.phase, Phase::Log(level) if self.level_said && self.acknowledged >= level);
        is_level && self.unsent.is_none() && self.acknowledged == self.reader.tail()
    }

    /// Makes the peer the primary of `term`, a later one. Nothing may be published any more. False = the peer lacks
    /// something still.
    pub fn hand_over(&mut self, term: u64) -> bool {
        let (session, at) = (self.session, self.acknowledged);
        let has_all = self.has_all();
        if has_all {
            self.unsent = Some(Message::HandOver { session, term, at });
        }
        has_all
    }

    fn begin(&mut self, from: u64, image: bool) {
        self.session += 1;
        self.counters.images += u64::from(image);
        (self.phase, self.with_image, self.sent, self.acknowledged) = (Phase::Beginning, image, from, from);
        (self.echo_ns, self.told_echo_ns, self.level_said, self.newest_row) = (0, 0, false, 0);
        self.unsent = Some(Message::Begin { session: self.session, lineage: self.lineage, from, image });
    }

    fn send_rows(&mut self, link: &mut impl Link, first: usize) -> usize {
        let rows = self.reader.image_rows();
        let mut batch = [Record { position: 0, tick: Default::default() }; IMAGE_BATCH];
        let mut indices = [0; IMAGE_BATCH];
        let (mut next, mut filled) = (first, 0);
        while next < rows.min(first + IMAGE_LOOKS) && filled < IMAGE_BATCH {
            if let Some((position, tick)) = self.reader.image_row(next) {
                batch[filled] = Record { position, tick };
                indices[filled] = next;
                filled += 1;
            }
            next += 1;
        }
        let sent = link.rows(&batch[..filled]).min(filled);
        self.counters.rows += sent as u64;
        let newest = batch[..sent].iter().map(|record| record.position + 1).max();
        self.newest_row = self.newest_row.max(newest.unwrap_or(0));
        // A row may be newer than the log: the writer stores it before it commits. The level lies above all that was read.
        self.phase = if sent < filled {
            Phase::Image(indices[sent])
        } else if next < rows {
            Phase::Image(next)
        } else {
            Phase::Log(self.reader.tail().max(self.newest_row))
        };
        sent
    }

    fn send_log(&mut self, link: &mut impl Link) -> usize {
        let tail = self.reader.tail();
        let upto = tail.min(self.acknowledged + self.limits.window_ticks);
        debug_assert!(self.sent <= upto);
        match link.copy(&self.reader, self.sent, upto) {
            Copied::Upto(position) => {
                let ticks = position - self.sent;
                self.sent = position;
                self.counters.ticks += ticks;
                ticks as usize
            }
            Copied::Lapped => {
                self.counters.lapped += 1;
                self.begin(tail, true);
                0
            }
        }
    }

    /// Tells the peer that it is level, and for how long it may be believed.
    fn send_belief(&mut self, link: &mut impl Link, now_ns: u64) {
        let session = self.session;
        let Phase::Log(level) = self.phase else { return };
        if !self.level_said {
            self.level_said = link.send(Message::Level { session, at: level });
        }
        let own_ns = self.reader.valid_until_ns().saturating_sub(now_ns);
        let valid_for_ns = self.limits.valid_for_ns.min(own_ns);
        let is_due = now_ns.saturating_sub(self.told_alive_ns) >= self.limits.valid_for_ns / 4;
        if self.level_said && valid_for_ns != 0 && self.echo_ns > self.told_echo_ns && is_due {
            let (tail, echo_ns) = (self.reader.tail(), self.echo_ns);
            if link.send(Message::Alive { session, tail, echo_ns, valid_for_ns }) {
                (self.told_alive_ns, self.told_echo_ns) = (now_ns, echo_ns);
            }
        }
    }
}
