//! Windows: latencies of the last seconds, from what was counted at the end of each.
//!
//! Of each series there is a ring of the last minute's differences. A difference holds 8 bytes for each of the histogram's
//! places that it has counts at: some hundred as a rule, 4,352 at most, so a series' minute takes 2 MB at most and 100 kB
//! as a rule. Series are bounded by what there can be of feeds, peers, clients and roles.

use crate::latency::{Counts, Series};
use std::collections::{BTreeMap, VecDeque};

/// Samples that are kept: one a second.
pub const SAMPLES_MAX: usize = 60;
/// Samples come about once a second: one that is short of a window's end by less is left out.
const SLACK_NS: u64 = 500_000_000;
const NS_PER_S: u64 = 1_000_000_000;

#[derive(Debug, Default)]
pub struct Windows {
    series: BTreeMap<Series, Ring>,
    /// When each sample was taken, by the monotonic clock, oldest first; one more than there are differences.
    sampled_ns: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    latest: Counts,
    /// Oldest first; the last one ends at the last sample.
    differences: VecDeque<Difference>,
}

#[derive(Debug)]
struct Difference {
    places: Box<[(u16, u32)]>,
    negative: u64,
}

impl Difference {
    fn counts(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.places.iter().map(|(place, count)| (*place, u64::from(*count)))
    }
}

impl Windows {
    /// Takes what is counted by `now_ns`. A series that is not there any more is forgotten.
    pub fn sample(&mut self, now_ns: u64, counts: BTreeMap<Series, Counts>) {
        let is_first = self.sampled_ns.is_empty();
        self.series.retain(|series, _| counts.contains_key(series));
        for (series, counts) in counts {
            let Some(ring) = self.series.get_mut(&series) else {
                // What was counted before the first sample is of no known time; a series that comes later began since the last.
                let mut ring = Ring::default();
                if !is_first {
                    ring.take(counts.clone());
                }
                ring.latest = counts;
                self.series.insert(series, ring);
                continue;
            };
            ring.take(counts);
        }
        self.sampled_ns.push_back(now_ns);
        if self.sampled_ns.len() > SAMPLES_MAX + 1 {
            self.sampled_ns.pop_front();
        }
    }

    /// What a series counted in the last `over_s` seconds before the last sample, as far as there are samples.
    pub fn counts(&self, series: &Series, over_s: u64) -> Option<Counts> {
        let differences = &self.series.get(series)?.differences;
        let mut sum = Counts::default();
        for difference in differences.iter().rev().take(self.samples(over_s)) {
            sum.add(difference.counts(), difference.negative);
        }
        Some(sum)
    }

    /// The length of the time that such a window covers, in ns.
    pub fn interval_ns(&self, over_s: u64) -> u64 {
        let Some(last_ns) = self.sampled_ns.back() else { return 0 };
        last_ns - self.sampled_ns[self.sampled_ns.len() - 1 - self.samples(over_s)]
    }

    /// Differences in such a window.
    fn samples(&self, over_s: u64) -> usize {
        let Some(last_ns) = self.sampled_ns.back() else { return 0 };
        let until_ns = last_ns.saturating_sub((over_s * NS_PER_S).saturating_sub(SLACK_NS));
        let starts = self.sampled_ns.iter().rev().skip(1);
        // The one that reaches past the window's start is the last that belongs to it.
        let within = starts.take_while(|start_ns| **start_ns > until_ns).count();
        (within + 1).min(self.sampled_ns.len() - 1)
    }
}

impl Ring {
    fn take(&mut self, counts: Counts) {
        let since = counts.since(&self.latest);
        let places =
            since.places.iter().map(|(place, count)| (*place, u32::try_from(*count).unwrap_or(u32::MAX)));
        self.differences.push_back(Difference { places: places.collect(), negative: since.negative });
        if self.differences.len() > SAMPLES_MAX {
            self.differences.pop_front();
        }
        self.latest = counts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Scope;
    use crate::proto::Stage;
    use dataplane::histogram::Histogram;

    fn series(name: &str) -> Series {
        Series { scope: Scope::Feed(name.to_owned()), stage: Stage::ReceivedToPublished }
    }

    fn total(windows: &Windows, name: &str, over_s: u64) -> u64 {
        windows.counts(&series(name), over_s).unwrap().hdr().len()
    }

    #[test]
    fn a_window_holds_what_came_within_it() {
        let (mut windows, counted) = (Windows::default(), Histogram::default());
        counted.record(5, 1_000_000);
        for second in 0..200 {
            counted.record(1_000 * (second + 1), second);
            windows.sample(second * NS_PER_S, [(series("a"), Counts::from(&counted))].into());
        }
        for over_s in [1, 10, 60] {
            assert_eq!(total(&windows, "a", over_s), (200 - over_s..200).sum::<u64>());
            assert_eq!(windows.interval_ns(over_s), over_s * NS_PER_S);
        }
        // More is not kept.
        assert_eq!(
            (total(&windows, "a", 1_000), windows.interval_ns(1_000)),
            (total(&windows, "a", 60), 60 * NS_PER_S)
        );
        let max_ns = windows.counts(&series("a"), 1).unwrap().hdr().max();
        assert!((200_000..202_000).contains(&max_ns), "{max_ns}");
    }

    #[test]
    fn a_late_sampler_is_told_by_the_interval() {
        let (mut windows, counted) = (Windows::default(), Histogram::default());
        assert_eq!((windows.interval_ns(10), windows.counts(&series("a"), 10)), (0, None));
        for second in [0, 1, 2, 9, 10, 11] {
            counted.record(1_000, 1);
            windows.sample(second * NS_PER_S, [(series("a"), Counts::from(&counted))].into());
        }
        assert_eq!((windows.interval_ns(1), total(&windows, "a", 1)), (NS_PER_S, 1));
        assert_eq!((windows.interval_ns(3), total(&windows, "a", 3)), (9 * NS_PER_S, 3));
        assert_eq!((windows.interval_ns(60), total(&windows, "a", 60)), (11 * NS_PER_S, 5));
    }

    #[test]
    fn series_come_and_go() {
        let (mut windows, counted) = (Windows::default(), Histogram::default());
        windows.sample(0, BTreeMap::new());
        counted.record(1_000, 7);
        windows.sample(NS_PER_S, [(series("a"), Counts::from(&counted))].into());
        assert_eq!(total(&windows, "a", 10), 7);
        windows.sample(2 * NS_PER_S, BTreeMap::new());
        assert_eq!(windows.counts(&series("a"), 10), None);
    }
}
