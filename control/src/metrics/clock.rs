//! The clock on the page: what the kernel knows of it, and no more.

use super::{NS_PER_S, family};
use drivers::clock::discipline;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::fmt;

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let known = discipline().ok();
    let synchronised = known.map_or(-1.0, |known| f64::from(u8::from(known.is_synchronised)));
    let help = "1 = somebody keeps the machine's clock, and says that it is right; 0 = nobody does, -1 = the kernel does not tell";
    family(encoder, "clock_synchronised", help, MetricType::Gauge, [([], synchronised)])?;
    // Of a clock that nobody keeps the kernel has no more than what was once.
    let kept = known.filter(|known| known.is_synchronised);
    let offset = kept.map(|kept| ([], kept.offset_ns as f64 / NS_PER_S));
    let help = "What the kernel has still to correct; 0 where a daemon steers the clock's rate itself";
    family(encoder, "clock_offset_seconds", help, MetricType::Gauge, offset)?;
    let error = kept.map(|kept| ([], kept.error_ns_max as f64 / NS_PER_S));
    let help = "By how much the clock may be wrong at most, as who keeps it has told the kernel";
    family(encoder, "clock_error_seconds_max", help, MetricType::Gauge, error)
}
