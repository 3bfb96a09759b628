//! The stream's turn: when an end looks at its stream, and writes to it.

/// It takes system calls, for which ticks wait, and what the stream carries besides an image is not urgent.
pub const INTERVAL_NS: u64 = 1_000_000;

/// When the next one is due; the first one is at once.
#[derive(Debug, Default)]
pub struct Turn {
    next_ns: u64,
}

impl Turn {
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns
    }

    /// One has ended, which may itself have taken long. One that brought something is followed by another.
    pub fn end(&mut self, now_ns: u64, brought: bool) {
        self.next_ns = now_ns + if brought { 0 } else { INTERVAL_NS };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_after_a_while_or_news() {
        let mut turn = Turn::default();
        assert!(turn.is_due(0));
        turn.end(5, false);
        assert!(!turn.is_due(4 + INTERVAL_NS) && turn.is_due(5 + INTERVAL_NS));
        turn.end(7, true);
        assert!(turn.is_due(7));
    }
}
