//! What an arbiter is made with.

use crate::limits::{FRAME_BYTES_MAX, HELD_PACKETS_MAX, LINES_MAX};

/// Sizes and times of one feed's arbitration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArbiterConfig {
    /// Redundant lines, 1 … [`LINES_MAX`].
    pub lines: usize,
    /// A hole is a gap once every line that speaks has sent this many packets from beyond it; at least 1.
    /// It bounds the reordering within one line that is borne: a packet may be overtaken by fewer than that.
    pub reorder_packets: u32,
    /// Packets from beyond a hole that are held until it is filled or declared, 1 … [`HELD_PACKETS_MAX`].
    /// It must cover what the faster line sends during the slower one's lag.
    pub held_packets: usize,
    /// The longest held packet, without its header, 2 … [`FRAME_BYTES_MAX`]; held_packets × slot_bytes are
    /// allocated.
    pub slot_bytes: usize,
    /// A hole is a gap this long after it was first seen, whatever the lines do.
    pub gap_timeout_ns: u64,
    /// A line that says nothing for so long is silent. The exchange's heartbeats (MoldUDP64: one a second
    /// as a rule) must come more often.
    pub silence_ns: u64,
}

impl Default for ArbiterConfig {
    /// Two lines of Nasdaq's kind: 1.5 MB, 50 ms for a hole, three heartbeats for a line.
    fn default() -> Self {
        ArbiterConfig {
            lines: 2,
            reorder_packets: 16,
            held_packets: 1_024,
            slot_bytes: 1_480,
            gap_timeout_ns: 50_000_000,
            silence_ns: 3_000_000_000,
        }
    }
}

/// A value that an arbiter can't be made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("a feed has {0} lines: give it 1 to {LINES_MAX}")]
    Lines(usize),
    #[error("reorder_packets is 0, which makes every reordered packet a loss: set it to at least 1")]
    ReorderPackets,
    #[error("held_packets is {0}: set it to 1 to {HELD_PACKETS_MAX}")]
    HeldPackets(usize),
    #[error("slot_bytes is {0}: set it to 2 to {FRAME_BYTES_MAX}, the longest packet that the lines carry")]
    SlotBytes(usize),
    #[error("{0} is 0: set it to a time in nanoseconds above that")]
    Time(&'static str),
}

impl ArbiterConfig {
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(1..=LINES_MAX).contains(&self.lines) {
            return Err(ConfigError::Lines(self.lines));
        }
        if self.reorder_packets == 0 {
            return Err(ConfigError::ReorderPackets);
        }
        if !(1..=HELD_PACKETS_MAX).contains(&self.held_packets) {
            return Err(ConfigError::HeldPackets(self.held_packets));
        }
        if !(2..=FRAME_BYTES_MAX).contains(&self.slot_bytes) {
            return Err(ConfigError::SlotBytes(self.slot_bytes));
        }
        for (name, time_ns) in [("gap_timeout_ns", self.gap_timeout_ns), ("silence_ns", self.silence_ns)] {
            if time_ns == 0 {
                return Err(ConfigError::Time(name));
            }
        }
        Ok(())
    }
}
