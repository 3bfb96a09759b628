//! The stream's turn: when an end looks at its stream, and writes to it.

/// It takes system calls, for which ticks wait, and what the stream carries (acknowledgements, belief) is not urgent.
pub const INTERVAL_NS: u64 = 1_000_000;
/// After so large a part of the log, of which a window may be a half, the turn comes early: acknowledgements make room.
const LOG_PARTS: u64 = 16;

/// When the next one is due.
#[derive(Debug)]
pub struct Turn {
    log_ticks: u64,
    next_ns: u64,
    position: u64,
}

impl Turn {
    /// Due at once.
    pub fn new(log_ticks: u64) -> Turn {
        Turn { log_ticks, next_ns: 0, position: 0 }
    }

    /// At `now_ns`, with all ticks below `position` dealt with.
    pub fn is_due(&self, now_ns: u64, position: u64) -> bool {
        now_ns >= self.next_ns || position.abs_diff(self.position) >= self.log_ticks / LOG_PARTS
    }

    /// One has ended, which may itself have taken long. One that brought something is followed by another.
    pub fn end(&mut self, now_ns: u64, position: u64, brought: bool) {
        self.position = position;
        self.next_ns = now_ns + if brought { 0 } else { INTERVAL_NS };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_after_a_while_or_many_ticks_or_news() {
        let mut turn = Turn::new(1_024);
        assert!(turn.is_due(0, 0));
        turn.end(5, 100, false);
        assert!(!turn.is_due(5, 100) && !turn.is_due(4 + INTERVAL_NS, 163));
        assert!(turn.is_due(5 + INTERVAL_NS, 100));
        assert!(turn.is_due(5, 164));
        assert!(turn.is_due(5, 36), "an image begins anew");
        turn.end(7, 164, true);
        assert!(turn.is_due(7, 164));
    }
}
