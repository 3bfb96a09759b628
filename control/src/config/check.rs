//! Whether values make sense, and what to do if they don't.

use super::{Config, FeedConfig, PortConfig, PortKind, objective};
use dataplane::cache::region::Layout;
use dataplane::limits::{BURST_MAX, FEEDS_MAX, PORTS_MAX, RX_QUEUES_MAX};
use std::collections::HashSet;
use std::ops::RangeInclusive;

/// Publications whose time is remembered, for the latency of deliveries.
pub(crate) const BURSTS: u64 = 1 << 14;
const NAME_BYTES_MAX: usize = 40;
/// A record has 200 to 3,000 bytes.
const AUDIT_RECORDS: RangeInclusive<u64> = 1_000..=1_000_000_000;

/// Puts the nearest known key behind the parser's complaint about an unknown one.
pub(super) fn with_nearest_key(error: &toml::de::Error) -> String {
    let shown = error.to_string();
    let quoted: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = quoted.split_first().filter(|_| error.message().starts_with("unknown "))
    else {
        return shown;
    };
    let nearest = known.iter().max_by(|one, other| {
        strsim::jaro_winkler(unknown, one).total_cmp(&strsim::jaro_winkler(unknown, other))
    });
    match nearest {
        Some(nearest) => format!("{}\ndid you mean `{nearest}`?", shown.trim_end()),
        None => shown,
    }
}

pub(super) fn check_name(what: &str, name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) || name.starts_with('.') {
        let name: String = name.chars().take(NAME_BYTES_MAX).collect();
        return Err(format!(
            "{what} `{name}`: use 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`, the first no `.`"
        ));
    }
    Ok(())
}

pub(super) fn check_unique<'n>(what: &str, names: impl Iterator<Item = &'n str>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for name in names {
        check_name(what, name)?;
        if !seen.insert(name) {
            return Err(format!("{what} `{name}` is there twice: give each its own name"));
        }
    }
    Ok(())
}

impl Config {
    pub(crate) fn layout(&self) -> Layout {
        Layout {
            instruments: self.region.instruments_max,
            feeds: self.feeds.len() as u16,
            log_ticks: self.region.log_ticks,
            bursts: BURSTS,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        check_name("node", &self.node)?;
        if !(1..=PORTS_MAX).contains(&self.ports.len()) {
            return Err(format!("{} [[ports]]: a worker polls 1 to {PORTS_MAX}", self.ports.len()));
        }
        if !(1..=FEEDS_MAX).contains(&self.feeds.len()) {
            return Err(format!("{} [[feeds]]: a worker has 1 to {FEEDS_MAX}", self.feeds.len()));
        }
        self.layout().check().map_err(|error| format!("[region]: {error}"))?;
        if !(10..=60_000).contains(&self.worker.valid_for_ms) {
            return Err("[worker] valid_for_ms: must be 10 to 60000".to_owned());
        }
        self.quota.check()?;
        if !(1..=60_000_000).contains(&self.worker.stall_us) {
            return Err("[worker] stall_us: must be 1 to 60000000; without it, it is 1000".to_owned());
        }
        if !AUDIT_RECORDS.contains(&self.store.audit_records_max) {
            let (least, most) = (AUDIT_RECORDS.start(), AUDIT_RECORDS.end());
            return Err(format!(
                "[store] audit_records_max: must be {least} to {most}; without it, it is 1000000"
            ));
        }
        self.replica.as_ref().map_or(Ok(()), |replica| replica.check(&self.node))?;
        check_unique("port", self.ports.iter().map(|port| port.name.as_str()))?;
        check_unique("feed", self.feeds.iter().map(|feed| feed.name.as_str()))?;
        self.ports.iter().try_for_each(PortConfig::check)?;
        self.feeds.iter().try_for_each(|feed| feed.check(self))?;
        self.check_grpc()?;
        self.check_traces()?;
        objective::check(self)
    }
}

impl PortConfig {
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let given = [
            ("receive_buffer_bytes", self.receive_buffer_bytes.is_some(), PortKind::Udp),
            ("file", self.file.is_some(), PortKind::Pcap),
            ("device", self.device.is_some(), PortKind::Dpdk),
            ("address", self.address.is_some(), PortKind::Dpdk),
            ("rx_queues", self.rx_queues.is_some(), PortKind::Dpdk),
            ("rx_descriptors", self.rx_descriptors.is_some(), PortKind::Dpdk),
            ("mbufs", self.mbufs.is_some(), PortKind::Dpdk),
            ("mtu", self.mtu.is_some(), PortKind::Dpdk),
            ("hardware_timestamp", self.hardware_timestamp.is_some(), PortKind::Dpdk),
            ("memory", self.memory.is_some(), PortKind::Dpdk),
        ];
        if self.interface.is_some() && self.kind == PortKind::Pcap {
            return Err(format!("port `{name}`: a recording has no `interface`: take it out"));
        }
        if let Some((key, _, kind)) = given.iter().find(|(_, given, kind)| *given && *kind != self.kind) {
            return Err(format!(
                "port `{name}`: `{key}` is for kind = \"{}\", not \"{}\": take it out",
                kind.name(),
                self.kind.name()
            ));
        }
        let needed: &[&str] = match self.kind {
            PortKind::Udp => &[],
            PortKind::Pcap => &["file"],
            PortKind::Dpdk => &["address"],
        };
        match (self.kind, &self.interface, &self.device) {
            (PortKind::Udp, None, _) => {
                return Err(format!("port `{name}` of kind = \"udp\" needs `interface`"));
            }
            (PortKind::Dpdk, None, None) => {
                return Err(format!(
                    "port `{name}` of kind = \"dpdk\" needs `device`, or `interface` for a kernel's interface"
                ));
            }
            (PortKind::Dpdk, Some(_), Some(_)) => {
                return Err(format!("port `{name}` has both `device` and `interface`: take one out"));
            }
            _ => {}
        }
        if let Some((key, ..)) = given.iter().find(|(key, given, _)| !given && needed.contains(key)) {
            return Err(format!("port `{name}` of kind = \"{}\" needs `{key}`", self.kind.name()));
        }
        if self.vlan.is_some() && self.kind == PortKind::Udp {
            return Err(format!(
                "port `{name}`: a kernel port has its VLAN by its interface: name that (eth1.100) and take `vlan` out"
            ));
        }
        if self.vlan.is_some_and(|vlan| !(1..=4_094).contains(&vlan)) {
            return Err(format!("port `{name}`: vlan must be 1 to 4094"));
        }
        if !(1..=BURST_MAX).contains(&self.burst) {
            return Err(format!("port `{name}`: burst must be 1 to {BURST_MAX}"));
        }
        if self.rx_queues.is_some_and(|queues| !(1..=RX_QUEUES_MAX as u16).contains(&queues)) {
            return Err(format!("port `{name}`: rx_queues must be 1 to {RX_QUEUES_MAX}"));
        }
        Ok(())
    }
}

impl FeedConfig {
    fn check(&self, config: &Config) -> Result<(), String> {
        let name = &self.name;
        check_unique("line", self.lines.iter().map(|line| line.name.as_str()))?;
        if self.gap_timeout_us > 3_600_000_000 || self.silence_ms > 3_600_000 {
            return Err(format!("feed `{name}`: gap_timeout_us and silence_ms must be at most an hour"));
        }
        self.arbiter().check().map_err(|error| {
            let text = error.to_string().replace("slot_bytes", "held_packet_bytes");
            format!(
                "feed `{name}`: {}",
                text.replace("gap_timeout_ns", "gap_timeout_us").replace("silence_ns", "silence_ms")
            )
        })?;
        if !(1..=100_000_000).contains(&self.orders_max) {
            return Err(format!("feed `{name}`: orders_max must be 1 to 100000000"));
        }
        if let Some(date) = &self.date {
            crate::midnight::midnight_of(date).map_err(|error| format!("feed `{name}`: date: {error}"))?;
        }
        for line in &self.lines {
            if config.port(&line.port).is_none() {
                return Err(format!(
                    "feed `{name}`, line `{}`: no port is called `{}`",
                    line.name, line.port
                ));
            }
            let group = line.group.ip();
            if !group.is_multicast() && !group.is_loopback() {
                return Err(format!(
                    "feed `{name}`, line `{}`: {group} is no multicast group (224.0.0.0 to 239.255.255.255)",
                    line.name
                ));
            }
        }
        Ok(())
    }
}
