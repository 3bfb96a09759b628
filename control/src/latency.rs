//! Latencies as HdrHistograms: what the worker counted, made readable.

use dataplane::histogram::{Histogram, VALUE_NS_MAX};
use hdrhistogram::Histogram as Hdr;
use hdrhistogram::serialization::{Serializer, V2Serializer};

/// The worker's histogram tells values apart to within 1/128, so two digits lose nothing.
const SIGNIFICANT_DIGITS: u8 = 2;

/// What was counted up to some time, or between two times.
#[derive(Clone, Debug)]
pub struct Latencies {
    pub histogram: Hdr<u64>,
    pub negative: u64,
}

impl Latencies {
    pub fn of(histogram: &Histogram) -> Latencies {
        let mut hdr = Hdr::new_with_bounds(1, VALUE_NS_MAX, SIGNIFICANT_DIGITS).expect("constant bounds");
        for (value_ns, count) in histogram.counts() {
            hdr.saturating_record_n(value_ns, count);
        }
        Latencies { histogram: hdr, negative: histogram.negative() }
    }

    /// What came since `earlier`.
    pub fn since(mut self, earlier: &Latencies) -> Latencies {
        self.histogram.subtract(&earlier.histogram).expect("an earlier count of the same histogram");
        self.negative -= earlier.negative;
        self
    }

    /// HdrHistogram's V2 encoding, uncompressed.
    pub fn v2(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.histogram, &mut bytes).expect("a vector takes it all");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;

    #[test]
    fn counts_come_back_from_the_encoding_and_differences_are_exact() {
        let counted = Histogram::default();
        counted.record(1_000, 5);
        let earlier = Latencies::of(&counted);
        counted.record(2_000_000, 3);
        counted.record(u64::MAX, 1);
        let later = Latencies::of(&counted);
        let decoded: Hdr<u64> = Deserializer::new().deserialize(&mut later.v2().as_slice()).unwrap();
        assert_eq!(decoded, later.histogram);
        let since = later.since(&earlier);
        assert_eq!((since.histogram.len(), since.histogram.count_between(0, 1_100)), (4, 0));
        let p50_ns = since.histogram.value_at_quantile(0.5);
        assert!((2_000_000..2_020_000).contains(&p50_ns), "{p50_ns}");
    }
}
