//! A line: one of the redundant streams of a feed, and what was counted on it.

use crate::cache::tick::Condition;
use crate::counters::Counter;
use crate::limits::LINES_MAX;

/// What one line did. Every datagram is counted in `packets` and in exactly one of `won`, `duplicates`,
/// `late`, `heartbeats`, `malformed`, `old_session`, `stray`.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct LineCounters {
    pub packets: Counter,
    /// Bytes of the UDP payloads.
    pub bytes: Counter,
    /// Messages in well-formed packets of the session, duplicates included.
    pub messages: Counter,
    /// Packets of which at least one message was new.
    pub won: Counter,
    /// Packets of which every message had been delivered, or was held already.
    pub duplicates: Counter,
    /// Packets whose messages had just been declared missing: a longer timeout or window would have borne it.
    pub late: Counter,
    /// Heartbeats and ends of session.
    pub heartbeats: Counter,
    /// Datagrams that are not of the transport: headers cut short, sequence 0, blocks that do not fit the datagram.
    pub malformed: Counter,
    /// Packets of a session that was left.
    pub old_session: Counter,
    /// Packets of another session, or implausibly far ahead, that nothing has confirmed (yet).
    pub stray: Counter,
    /// Holes in this line's own sequence; reordering shows as one, too.
    pub gaps: Counter,
    /// The number of the last message that this line has announced in this session.
    pub last_sequence: Counter,
    /// When it last spoke in the session, monotonic; 0 = never.
    pub last_packet_ns: Counter,
    /// 1 = silent.
    pub silent: Counter,
    /// By how much this line's packets came before the same packets of other lines: sum and number of
    /// samples, by the frames' stamps.
    pub lead_ns: Counter,
    pub lead_samples: Counter,
    /// Samples whose stamps say that the later packet came first (clocks of two devices).
    pub lead_negative: Counter,
}

impl LineCounters {
    /// Every counter by name, for whoever shows them all.
    pub fn entries(&self) -> [(&'static str, u64); 13] {
        [
            ("packets", self.packets.get()),
            ("bytes", self.bytes.get()),
            ("messages", self.messages.get()),
            ("won", self.won.get()),
            ("duplicates", self.duplicates.get()),
            ("late", self.late.get()),
            ("heartbeats", self.heartbeats.get()),
            ("malformed", self.malformed.get()),
            ("old_session", self.old_session.get()),
            ("stray", self.stray.get()),
            ("gaps", self.gaps.get()),
            ("lead_ns", self.lead_ns.get()),
            ("lead_samples", self.lead_samples.get()),
        ]
    }
}

/// What a feed did: written by its arbiter, read by telemetry.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct FeedCounters {
    pub lines: [LineCounters; LINES_MAX],
    /// Messages given to the sink.
    pub messages: Counter,
    /// Gaps declared, and the messages missing in them.
    pub gaps: Counter,
    pub missing: Counter,
    /// Packets that were held because they came before their turn.
    pub held: Counter,
    /// Entries of the window in use now.
    pub held_now: Counter,
    /// Gaps that were declared because the window was full.
    pub window_full: Counter,
    /// Packets that came before their turn and were too long for a slot.
    pub oversized: Counter,
    /// Sessions begun, and those of them that were joined late.
    pub sessions: Counter,
    pub late_starts: Counter,
    /// Sessions that went on after their end had been told.
    pub resumed: Counter,
    /// The sequence number that is delivered next; 0 = no session.
    pub next_sequence: Counter,
    /// A [`Condition`].
    pub condition: Counter,
}

impl FeedCounters {
    /// Every counter of the feed itself by name, for whoever shows them all.
    pub fn entries(&self) -> [(&'static str, u64); 10] {
        [
            ("messages", self.messages.get()),
            ("gaps", self.gaps.get()),
            ("missing", self.missing.get()),
            ("held", self.held.get()),
            ("held_now", self.held_now.get()),
            ("window_full", self.window_full.get()),
            ("oversized", self.oversized.get()),
            ("sessions", self.sessions.get()),
            ("late_starts", self.late_starts.get()),
            ("resumed", self.resumed.get()),
        ]
    }

    pub fn condition(&self) -> Condition {
        u8::try_from(self.condition.get()).ok().and_then(Condition::from_u8).unwrap_or(Condition::Waiting)
    }
}

/// A line's own state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub silent: bool,
    /// One above the highest number that it announced in this session; 0 = none.
    pub next: u64,
    pub last_packet_ns: u64,
}

impl Line {
    /// A line that was never heard is silent.
    pub const NEW: Line = Line { silent: true, next: 0, last_packet_ns: 0 };

    /// A packet of the session with messages `sequence` until below `next`.
    #[inline(always)]
    pub fn speak(&mut self, counters: &LineCounters, sequence: u64, next: u64, now_ns: u64) {
        self.last_packet_ns = now_ns;
        counters.last_packet_ns.set(now_ns);
        counters.messages.add(next - sequence);
        if sequence > self.next && self.next != 0 {
            counters.gaps.add(1);
        }
        if next > self.next {
            self.next = next;
            counters.last_sequence.set(next - 1);
        }
    }
}

/// Who brought the latest packets first, and when: what is compared with when they come again.
#[derive(Debug)]
pub(super) struct Leads(Box<[Lead]>);

#[derive(Clone, Copy, Debug)]
struct Lead {
    sequence: u64,
    received_ns: u64,
    line: usize,
}

impl Leads {
    /// By a message's number modulo this: a line may lag by that many messages and still be compared.
    const ENTRIES: usize = 1_024;
    /// Sequence 0 is no packet's.
    const NONE: Lead = Lead { sequence: 0, received_ns: 0, line: 0 };

    pub fn new() -> Leads {
        Leads(vec![Self::NONE; Self::ENTRIES].into())
    }

    pub fn clear(&mut self) {
        self.0.fill(Self::NONE);
    }

    #[inline(always)]
    pub fn first(&mut self, line: usize, sequence: u64, received_ns: u64) {
        self.0[sequence as usize % Self::ENTRIES] = Lead { sequence, received_ns, line };
    }

    #[inline(always)]
    pub fn again(&self, counters: &[LineCounters; LINES_MAX], line: usize, sequence: u64, received_ns: u64) {
        let first = &self.0[sequence as usize % Self::ENTRIES];
        if first.sequence != sequence || first.line == line {
            return;
        }
        let counters = &counters[first.line];
        match received_ns.checked_sub(first.received_ns) {
            Some(lead_ns) => {
                counters.lead_ns.add(lead_ns);
                counters.lead_samples.add(1);
            }
            None => counters.lead_negative.add(1),
        }
    }
}
