//! For how long a node's log stood still: what a reader of that node sees of a fail-over or a hand-over.

use dataplane::cache::reader::Reader;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::region::RegionMapping;
use std::path::Path;
use std::time::Duration;

/// How often the log is looked at.
const LOOK: Duration = Duration::from_micros(50);

/// Watches a region for `watch_ms`, and returns in ns for how long its log stood still when another node became its primary: from
/// the last update of one log to the first one of the next; if there was no such change, the longest time between two
/// updates. An error if there was no update.
pub fn pause_ns(region: &Path, watch_ms: u64) -> Result<u64, String> {
    let mapping = RegionMapping::open(region).map_err(|error| error.to_string())?;
    let reader = Reader::open(mapping.cells()).map_err(|error| error.to_string())?;
    let begun_ns = SystemClock.monotonic_ns();
    let mut pauses = Pauses { tail: reader.tail(), log: log_of(&reader), ..Pauses::default() };
    loop {
        let now_ns = SystemClock.monotonic_ns();
        pauses.look(reader.tail(), log_of(&reader), now_ns);
        if now_ns - begun_ns >= watch_ms * 1_000_000 {
            return pauses.end(now_ns).ok_or_else(|| "no update came".to_owned());
        }
        std::thread::sleep(LOOK);
    }
}

/// The log's number; 0 = none.
fn log_of(reader: &Reader<'_>) -> u64 {
    reader.lineage().map_or(0, |lineage| lineage.log)
}

#[derive(Default)]
struct Pauses {
    tail: u64,
    log: u64,
    /// When the last update was seen.
    advanced_ns: Option<u64>,
    longest_ns: u64,
    /// The longest of the pauses beside a change of the log.
    at_change_ns: Option<u64>,
    /// The log changed lately: its last update may have been seen with that, so the pause behind it counts, too.
    has_changed: bool,
}

impl Pauses {
    fn look(&mut self, tail: u64, log: u64, now_ns: u64) {
        if tail == self.tail {
            return;
        }
        if let Some(advanced_ns) = self.advanced_ns {
            let pause_ns = now_ns - advanced_ns;
            self.longest_ns = self.longest_ns.max(pause_ns);
            let changes = log != self.log;
            if changes || self.has_changed {
                self.at_change_ns = Some(self.at_change_ns.unwrap_or(0).max(pause_ns));
            }
            self.has_changed = changes;
        }
        (self.tail, self.log, self.advanced_ns) = (tail, log, Some(now_ns));
    }

    /// `None` = nothing was seen.
    fn end(self, now_ns: u64) -> Option<u64> {
        let last_ns = now_ns - self.advanced_ns?;
        Some(self.at_change_ns.unwrap_or(self.longest_ns.max(last_ns)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(looks: &[(u64, u64, u64)], end_ns: u64) -> Option<u64> {
        let mut pauses = Pauses { tail: 1, log: 7, ..Pauses::default() };
        looks.iter().for_each(|(tail, log, now_ns)| pauses.look(*tail, *log, *now_ns));
        pauses.end(end_ns)
    }

    #[test]
    fn the_pause_beside_a_change_counts_and_else_the_longest() {
        assert_eq!(seen(&[], 100), None);
        assert_eq!(seen(&[(1, 7, 5), (2, 7, 10), (3, 7, 50), (4, 7, 60)], 70), Some(40));
        assert_eq!(seen(&[(2, 7, 10), (3, 7, 20)], 90), Some(70), "up to the end");
        // The other log is there before its first update.
        assert_eq!(seen(&[(2, 7, 10), (3, 7, 60), (3, 8, 70), (4, 8, 90), (5, 8, 91)], 99), Some(30));
        // The last update of the one was seen together with the other log.
        assert_eq!(seen(&[(2, 7, 10), (3, 8, 11), (4, 8, 31), (5, 8, 90)], 99), Some(20));
    }
}
