//! The longest time that a node's log stood still: what a reader of that node sees of a fail-over or a hand-over.

use dataplane::cache::reader::Reader;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::region::RegionMapping;
use std::path::Path;
use std::time::Duration;

/// How often the log is looked at.
const LOOK: Duration = Duration::from_micros(50);

/// Watches a region for `watch_ms`, and returns in ns the longest time between two updates, or from the last one to the end.
/// An error if there was none.
pub fn longest_ns(region: &Path, watch_ms: u64) -> Result<u64, String> {
    let mapping = RegionMapping::open(region).map_err(|error| error.to_string())?;
    let reader = Reader::open(mapping.cells()).map_err(|error| error.to_string())?;
    let end_ns = SystemClock.monotonic_ns() + watch_ms * 1_000_000;
    let (mut tail, mut advanced_ns, mut longest_ns) = (reader.tail(), None, 0);
    loop {
        let (seen, now_ns) = (reader.tail(), SystemClock.monotonic_ns());
        if seen != tail {
            longest_ns = longest_ns.max(advanced_ns.map_or(0, |advanced_ns| now_ns - advanced_ns));
            (tail, advanced_ns) = (seen, Some(now_ns));
        }
        if now_ns >= end_ns {
            let advanced_ns = advanced_ns.ok_or("no update came")?;
            return Ok(longest_ns.max(now_ns - advanced_ns));
        }
        std::thread::sleep(LOOK);
    }
}
