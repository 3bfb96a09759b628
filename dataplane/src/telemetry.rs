//! What the worker counted: written by its thread alone, read by anyone.

use std::sync::Arc;

use crate::counters::Counter;
use crate::feed::{DecoderCounters, FeedCounters};
use crate::histogram::Histogram;
use crate::host::HostCounters;
use crate::port::PortCounters;
use crate::stall::Stalls;
use crate::times::Times;
use crate::wire::datagram::Reject;

/// One worker's counters and latencies. Stamps are taken once a burst and weighted by its ticks.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// In the order of the configuration.
    pub feeds: Vec<FeedTelemetry>,
    pub ports: Vec<PortTelemetry>,
    pub worker: WorkerCounters,
    pub stalls: Stalls,
    /// Not counted, but heard: what the worker is to judge by.
    pub times: Times,
}

/// What a feed counted, and how long its ticks took; the worker's latencies are the sum of its feeds'.
#[derive(Debug, Default)]
pub struct FeedTelemetry {
    pub lines: Arc<FeedCounters>,
    pub decoder: Arc<DecoderCounters>,
    /// The exchange's stamp of the oldest message in a burst → the burst was received.
    pub exchange_to_received: Histogram,
    /// A burst was received → its ticks can be read.
    pub received_to_published: Histogram,
}

/// What a port and the host on it counted; the device's own counters are looked at ten times a second.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PortTelemetry {
    pub rx_frames: Counter,
    pub rx_bytes: Counter,
    pub missed: Counter,
    pub oversized: Counter,
    pub tx_frames: Counter,
    pub tx_dropped: Counter,
    /// Frames that are not UDP over IPv4, ARP or IGMP, by [`Reject`].
    pub rejected: [Counter; Reject::ALL.len()],
    /// Datagrams of another VLAN than the port's.
    pub other_vlan: Counter,
    /// Datagrams that belong to no line.
    pub unrouted: Counter,
    pub arp_replies: Counter,
    pub arp_conflicts: Counter,
    pub igmp_queries: Counter,
    pub igmp_reports: Counter,
    pub igmp_malformed: Counter,
}

#[derive(Debug, Default)]
#[repr(align(64))]
pub struct WorkerCounters {
    /// Rounds of the loop, and those of them that found frames.
    pub duty_cycles: Counter,
    pub busy_cycles: Counter,
    /// The longest round, in ns; what the thread slept of its own will is not of it.
    pub stall_ns_max: Counter,
    /// Ticks published.
    pub ticks: Counter,
}

impl PortTelemetry {
    pub(crate) fn set_device(&self, device: &PortCounters) {
        self.rx_frames.set(device.rx_frames);
        self.rx_bytes.set(device.rx_bytes);
        self.missed.set(device.missed);
        self.oversized.set(device.oversized);
        self.tx_frames.set(device.tx_frames);
        self.tx_dropped.set(device.tx_dropped);
    }

    pub(crate) fn set_host(&self, host: &HostCounters) {
        self.arp_replies.set(host.arp_replies);
        self.arp_conflicts.set(host.arp_conflicts);
        self.igmp_queries.set(host.igmp_queries);
        self.igmp_reports.set(host.igmp_reports);
        self.igmp_malformed.set(host.igmp_malformed);
    }

    /// Every counter by name, for whoever shows them all.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let own = [
            ("rx_frames", &self.rx_frames),
            ("rx_bytes", &self.rx_bytes),
            ("missed", &self.missed),
            ("oversized", &self.oversized),
            ("tx_frames", &self.tx_frames),
            ("tx_dropped", &self.tx_dropped),
            ("other_vlan", &self.other_vlan),
            ("unrouted", &self.unrouted),
            ("arp_replies", &self.arp_replies),
            ("arp_conflicts", &self.arp_conflicts),
            ("igmp_queries", &self.igmp_queries),
            ("igmp_reports", &self.igmp_reports),
            ("igmp_malformed", &self.igmp_malformed),
        ];
        let rejected = Reject::ALL.iter().map(|reject| (reject.name(), &self.rejected[*reject as usize]));
        own.into_iter().chain(rejected).map(|(name, counter)| (name, counter.get()))
    }
}
