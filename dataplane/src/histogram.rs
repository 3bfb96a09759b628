//! The histogram: counts of durations, written by one thread and read by others without a lock.

use crate::counters::Counter;

/// Places of one power of two: values are told apart to within 1/128 of themselves.
const PLACES_BITS: u32 = 7;
const PLACES: usize = 1 << PLACES_BITS;
/// 2^40 ns, 18 minutes; longer ones are counted as this.
const VALUE_BITS: u32 = 40;
/// Places of a histogram.
pub const BUCKETS: usize = (VALUE_BITS - PLACES_BITS + 1) as usize * PLACES;

/// The largest value that is told apart from larger ones.
pub const VALUE_NS_MAX: u64 = (1 << VALUE_BITS) - 1;

/// Durations in ns: linear up to 256, then 128 places for each power of two, as in an HdrHistogram of two
/// significant digits.
pub struct Histogram {
    counts: Box<[Counter]>,
    negative: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        let counts = (0..BUCKETS).map(|_| Counter::default()).collect();
        Histogram { counts, negative: Counter::default() }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Histogram").field("counts", &self.counts().count()).finish()
    }
}

#[inline(always)]
fn bucket(value_ns: u64) -> usize {
    let value_ns = value_ns.min(VALUE_NS_MAX);
    let power = (63 - (value_ns | (PLACES as u64)).leading_zeros()) - PLACES_BITS;
    power as usize * PLACES + (value_ns >> power) as usize
}

/// The largest value that is counted in `bucket`.
fn highest_ns(bucket: usize) -> u64 {
    if bucket < 2 * PLACES {
        return bucket as u64;
    }
    let power = bucket / PLACES - 1;
    (((bucket - power * PLACES) as u64 + 1) << power) - 1
}

/// The largest value that is counted at a place of [`Histogram::places`].
pub fn value_ns_at(place: u16) -> u64 {
    highest_ns(usize::from(place))
}

impl Histogram {
    /// Counts a duration `weight` times.
    #[inline(always)]
    pub fn record(&self, value_ns: u64, weight: u64) {
        self.counts[bucket(value_ns)].add(weight);
    }

    /// Counts what another one has counted, too.
    pub fn add(&self, other: &Histogram) {
        other.counts().for_each(|(value_ns, count)| self.record(value_ns, count));
        self.negative.add(other.negative());
    }

    /// Counts the time from `from_ns` to `to_ns`; one that is below zero (by two clocks) is counted apart.
    #[inline(always)]
    pub fn record_between(&self, from_ns: u64, to_ns: u64, weight: u64) {
        match to_ns.checked_sub(from_ns) {
            Some(value_ns) => self.record(value_ns, weight),
            None => self.negative.add(weight),
        }
    }

    pub fn negative(&self) -> u64 {
        self.negative.get()
    }

    /// Each place that has a count: the largest value that it stands for, and the count.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.places().map(|(place, count)| (value_ns_at(place), count))
    }

    /// Each place that has a count, in the order of their values: its number, which [`value_ns_at`] knows, and the count.
    pub fn places(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.counts
            .iter()
            .enumerate()
            .map(|(bucket, count)| (bucket as u16, count.get()))
            .filter(|(_, count)| *count != 0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_follow_each_other_without_a_hole() {
        assert_eq!(bucket(VALUE_NS_MAX), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for index in 0..BUCKETS - 1 {
            let highest_ns = highest_ns(index);
            assert_eq!((bucket(highest_ns), bucket(highest_ns + 1)), (index, index + 1));
        }
    }

    #[test]
    fn a_negative_duration_is_counted_apart() {
        let histogram = Histogram::default();
        histogram.record_between(7, 5, 3);
        histogram.record_between(5, 7, 4);
        assert_eq!(histogram.negative(), 3);
        assert_eq!(histogram.counts().collect::<Vec<_>>(), [(2, 4)]);
    }

    proptest! {
        #[test]
        fn a_value_is_known_to_within_a_hundredth(value_ns in 0..=VALUE_NS_MAX) {
            let highest_ns = highest_ns(bucket(value_ns));
            prop_assert!(highest_ns >= value_ns && highest_ns - value_ns <= value_ns / PLACES as u64);
        }
    }
}
