//! Limits on everything. What is sized at start-up is bounded here; what does not fit is a counter and a
//! status, never a crash.

/// Instruments of one region. ITCH's locate codes are 16 bits, so one feed has at most 65,536 of them.
pub const INSTRUMENTS_MAX: usize = 1 << 20;
/// Feeds of one worker.
pub const FEEDS_MAX: usize = 16;
/// Redundant lines of one feed (A, B, and what else an exchange sends).
pub const LINES_MAX: usize = 4;
/// Packets that one feed holds while it waits for a hole to be filled.
pub const HELD_PACKETS_MAX: usize = 4_096;
/// Ports that one worker polls.
pub const PORTS_MAX: usize = 4;
/// RX queues of one DPDK port.
pub const RX_QUEUES_MAX: usize = 4;
/// Frames of one burst.
pub const BURST_MAX: usize = 256;
/// Ticks that the log holds, a power of two.
pub const LOG_TICKS_MAX: usize = 1 << 26;
/// The longest frame that any port delivers: a jumbo frame with its VLAN tag.
pub const FRAME_BYTES_MAX: usize = 9_216;
/// Bytes of an instrument's symbol.
pub const SYMBOL_BYTES_MAX: usize = 20;
