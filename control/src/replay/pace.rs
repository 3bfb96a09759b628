//! When packets are due.

use dataplane::time::{NS_PER_MS, NS_PER_S};
use std::fmt;

/// How fast a capture is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tempo {
    /// So many times as fast as the capture's stamps.
    Speed(f64),
    /// Packets a second.
    Rate(f64),
    /// Megabits a second, of the frames as recorded.
    Mbps(f64),
    FlatOut,
}

impl Tempo {
    pub fn name(self) -> &'static str {
        match self {
            Tempo::Speed(_) => "speed",
            Tempo::Rate(_) => "rate",
            Tempo::Mbps(_) => "mbps",
            Tempo::FlatOut => "flat_out",
        }
    }

    /// The number that was asked for; none at flat out.
    pub fn asked(self) -> Option<f64> {
        match self {
            Tempo::Speed(asked) | Tempo::Rate(asked) | Tempo::Mbps(asked) => Some(asked),
            Tempo::FlatOut => None,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Tempo::Speed(_) => "× the capture's speed",
            Tempo::Rate(_) => "packets/s",
            Tempo::Mbps(_) => "Mbit/s as recorded",
            Tempo::FlatOut => "",
        }
    }
}

impl fmt::Display for Tempo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked() {
            Some(asked) => write!(f, "{asked} {}", self.unit()),
            None => write!(f, "as fast as they go"),
        }
    }
}

/// Says of packet after packet when it is due, never before the one in front of it.
#[derive(Clone, Debug)]
pub struct Pace {
    tempo: Tempo,
    silence_ns_max: u64,
    /// When the first packet was due.
    start_ns: Option<u64>,
    packets: u64,
    /// Of the packets in front.
    bytes: u64,
    /// Of the capture, silences cut.
    elapsed_ns: u64,
    pass: u64,
    stamp_ns: u64,
}

impl Pace {
    pub fn new(tempo: Tempo, silence_max_ms: Option<u64>) -> Pace {
        Pace {
            tempo,
            silence_ns_max: silence_max_ms.map_or(u64::MAX, |ms| ms.saturating_mul(NS_PER_MS)),
            start_ns: None,
            packets: 0,
            bytes: 0,
            elapsed_ns: 0,
            pass: 0,
            stamp_ns: 0,
        }
    }

    /// When the first packet was due, once there was one.
    pub fn start_ns(&self) -> Option<u64> {
        self.start_ns
    }

    /// When the next packet is due, which is of the `pass`th pass, has that stamp (0 = none) and so many bytes. The first
    /// is due now.
    pub fn due_ns(&mut self, pass: u64, stamp_ns: u64, bytes: usize, now_ns: u64) -> u64 {
        let start_ns = *self.start_ns.get_or_insert(now_ns);
        self.follow(pass, stamp_ns);
        let after_ns = match self.tempo {
            Tempo::Speed(speed) => self.elapsed_ns as f64 / speed,
            Tempo::Rate(rate) => self.packets as f64 * NS_PER_S as f64 / rate,
            // Bits by megabits a second are microseconds.
            Tempo::Mbps(mbps) => self.bytes as f64 * 8.0 * 1_000.0 / mbps,
            Tempo::FlatOut => 0.0,
        };
        self.packets += 1;
        self.bytes += bytes as u64;
        // Casts saturate.
        start_ns.saturating_add(after_ns as u64)
    }

    /// Stamps that go back, and those of a new pass, are taken as no time at all.
    fn follow(&mut self, pass: u64, stamp_ns: u64) {
        if self.packets == 0 || pass != self.pass {
            (self.pass, self.stamp_ns) = (pass, stamp_ns);
        }
        if self.stamp_ns == 0 {
            self.stamp_ns = stamp_ns;
        }
        let silence_ns = stamp_ns.saturating_sub(self.stamp_ns).min(self.silence_ns_max);
        self.elapsed_ns = self.elapsed_ns.saturating_add(silence_ns);
        self.stamp_ns = self.stamp_ns.max(stamp_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP_NS: u64 = 1_704_171_600_000_000_000;

    fn dues(tempo: Tempo, silence_max_ms: Option<u64>, packets: &[(u64, u64)]) -> Vec<u64> {
        let mut pace = Pace::new(tempo, silence_max_ms);
        packets.iter().map(|(pass, stamp_ns)| pace.due_ns(*pass, *stamp_ns, 125, 1_000) - 1_000).collect()
    }

    #[test]
    fn stamps_are_followed_at_any_speed() {
        let packets = [0, 100, 100, 1_000_000_000].map(|after_ns| (0, STAMP_NS + after_ns));
        assert_eq!(dues(Tempo::Speed(1.0), None, &packets), [0, 100, 100, 1_000_000_000]);
        assert_eq!(dues(Tempo::Speed(10.0), None, &packets), [0, 10, 10, 100_000_000]);
        assert_eq!(dues(Tempo::Speed(0.5), None, &packets), [0, 200, 200, 2_000_000_000]);
        assert_eq!(dues(Tempo::Speed(1.0), Some(2), &packets), [0, 100, 100, 2_000_100]);
        assert_eq!(dues(Tempo::FlatOut, None, &packets), [0; 4]);
    }

    #[test]
    fn a_stamp_that_goes_back_or_is_missing_takes_no_time() {
        let packets = [(0, STAMP_NS), (0, STAMP_NS + 50), (0, STAMP_NS + 20), (0, 0), (0, STAMP_NS + 60)];
        assert_eq!(dues(Tempo::Speed(1.0), None, &packets), [0, 50, 50, 50, 60]);
        let packets = [(0, 0), (0, STAMP_NS), (0, STAMP_NS + 5)];
        assert_eq!(dues(Tempo::Speed(1.0), None, &packets), [0, 0, 5], "the first has no stamp");
    }

    #[test]
    fn the_next_pass_follows_the_one_before() {
        let packets = [(0, STAMP_NS), (0, STAMP_NS + 50), (1, STAMP_NS), (1, STAMP_NS + 50), (2, STAMP_NS)];
        assert_eq!(dues(Tempo::Speed(1.0), None, &packets), [0, 50, 50, 100, 100]);
    }

    #[test]
    fn rates_are_even() {
        let packets = [(0, STAMP_NS), (0, STAMP_NS + 9), (1, STAMP_NS), (1, STAMP_NS + 9)];
        assert_eq!(dues(Tempo::Rate(1_000.0), None, &packets), [0, 1_000_000, 2_000_000, 3_000_000]);
        assert_eq!(dues(Tempo::Rate(0.5), None, &packets)[1], 2_000_000_000);
        // 125 bytes are 1,000 bits.
        assert_eq!(dues(Tempo::Mbps(1.0), None, &packets), [0, 1_000_000, 2_000_000, 3_000_000]);
    }

    #[test]
    fn what_takes_for_ever_does_not_overflow() {
        let packets = [(0, 1), (0, u64::MAX), (0, u64::MAX)];
        assert_eq!(dues(Tempo::Speed(1e-6), None, &packets)[2], u64::MAX - 1_000);
    }
}
