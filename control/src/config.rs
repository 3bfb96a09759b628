//! The configuration: a TOML file in which every key is known, and every value checked before anything starts.

mod check;
mod grpc;
mod objective;
mod replica;
mod traces;

use crate::idle::Idle;
use crate::protocol::Protocol;
use crate::quota::RoleLimits;
use dataplane::feed::ArbiterConfig;
use dataplane::limits::{BURST_MAX, FEEDS_MAX, FRAME_BYTES_MAX};
use dataplane::time::{NS_PER_MS, NS_PER_US};
use dataplane::times::{FeedTimes, WorkerTimes};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

pub use grpc::{ClientConfig, GrpcConfig, GrpcTlsConfig};
pub use objective::{ObjectiveConfig, StageName};
pub use replica::{EtcdConfig, PEERS_MAX, PeerConfig, RdmaConfig, ReplicaConfig, ReplicaRole, TlsConfig};
pub use traces::TracesConfig;

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {cause}", path = path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    /// The parser's message shows the line.
    #[error("{path}: {message}", path = path.display())]
    Parse { path: PathBuf, message: String },
    #[error("{path}: {message}", path = path.display())]
    Value { path: PathBuf, message: String },
}

/// The whole file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How the node calls itself, in the region's name and in what it reports.
    pub node: String,
    #[serde(default)]
    pub region: RegionConfig,
    #[serde(default)]
    pub worker: WorkerConfig,
    pub ports: Vec<PortConfig>,
    pub feeds: Vec<FeedConfig>,
    #[serde(default)]
    pub grpc: GrpcConfig,
    pub metrics: Option<MetricsConfig>,
    /// Where a trace of each call goes; without it there are none.
    pub traces: Option<TracesConfig>,
    /// What clients may use, by role; an operator may give one of them limits of its own.
    #[serde(default)]
    pub quota: RoleLimits,
    /// Who may call; without any, and on loopback, anybody.
    #[serde(default)]
    pub clients: Vec<ClientConfig>,
    #[serde(default)]
    pub store: StoreConfig,
    /// How fast the node is to be: what is missed is told by its status, health and metrics.
    #[serde(default)]
    pub objectives: Vec<ObjectiveConfig>,
    /// The other nodes of a group, and what this one is to them; without it the node is alone.
    pub replica: Option<ReplicaConfig>,
    #[serde(default)]
    pub log: LogConfig,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegionConfig {
    /// Where local processes map the cache; without it `/dev/shm/tickplane-<node>`.
    pub path: Option<PathBuf>,
    pub instruments_max: u32,
    /// Updates that the log holds; a power of two.
    pub log_ticks: u64,
}

impl Default for RegionConfig {
    fn default() -> Self {
        RegionConfig { path: None, instruments_max: 65_536, log_ticks: 1 << 20 }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// The core that the worker is pinned to; without it the kernel chooses.
    pub core: Option<usize>,
    pub idle: Idle,
    /// For how long rows may be believed after the worker's last round.
    pub valid_for_ms: u64,
    /// A round of the worker's loop that takes longer is counted as a stall, and the last ones are kept.
    pub stall_us: u64,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        WorkerConfig { core: None, idle: Idle::default(), valid_for_ms: 1_000, stall_us: 1_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// The kernel's UDP sockets.
    Udp,
    /// A device that DPDK polls.
    Dpdk,
    /// A recording.
    Pcap,
}

impl PortKind {
    pub fn name(self) -> &'static str {
        match self {
            PortKind::Udp => "udp",
            PortKind::Dpdk => "dpdk",
            PortKind::Pcap => "pcap",
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PortConfig {
    pub name: String,
    pub kind: PortKind,
    /// udp: the interface on which groups are joined, by name or address. dpdk: a kernel's interface to poll, by AF_XDP or
    /// else af_packet, instead of a `device`.
    pub interface: Option<String>,
    /// udp: what each socket's receive buffer is asked to hold.
    pub receive_buffer_bytes: Option<usize>,
    /// pcap: the recording.
    pub file: Option<PathBuf>,
    /// Frames of one burst.
    #[serde(default = "default_burst")]
    pub burst: usize,
    /// dpdk: an EAL device string (`net_af_xdp0,iface=eth1`) or a PCI address (`0000:3b:00.0`).
    pub device: Option<String>,
    /// dpdk: the IPv4 address that the appliance answers for on this port.
    pub address: Option<Ipv4Addr>,
    /// dpdk: the VLAN that the lines come by; pcap: only this VLAN is taken.
    pub vlan: Option<u16>,
    /// dpdk: receive queues, 1 to 4.
    pub rx_queues: Option<u16>,
    /// dpdk: descriptors of each receive queue.
    pub rx_descriptors: Option<u16>,
    /// dpdk: packet buffers of the port.
    pub mbufs: Option<u32>,
    /// dpdk: the longest IP packet.
    pub mtu: Option<u16>,
    /// dpdk: use the NIC's receive timestamps, if it has them.
    pub hardware_timestamp: Option<bool>,
    /// dpdk: memory from `hugepages` or, slower, without them (`no-huge`).
    pub memory: Option<EalMemory>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EalMemory {
    #[default]
    Hugepages,
    NoHuge,
}

fn default_burst() -> usize {
    64
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FeedConfig {
    pub name: String,
    #[serde(default)]
    pub venue: String,
    pub protocol: Protocol,
    /// The exchange's day, `YYYY-MM-DD`; without it the day on which the session is first seen.
    pub date: Option<String>,
    /// Orders that may be alive at once.
    #[serde(default = "default_orders_max")]
    pub orders_max: usize,
    /// A hole is a gap once every line that speaks has sent this many packets from beyond it.
    #[serde(default = "default_reorder_packets")]
    pub reorder_packets: u32,
    /// Packets from beyond a hole that are held.
    #[serde(default = "default_held_packets")]
    pub held_packets: usize,
    /// The longest packet that can be held.
    #[serde(default = "default_held_packet_bytes")]
    pub held_packet_bytes: usize,
    /// A hole is a gap after this long.
    #[serde(default = "default_gap_timeout_us")]
    pub gap_timeout_us: u64,
    /// A line that says nothing for so long is silent; if all are, the feed's rows are stale.
    #[serde(default = "default_silence_ms")]
    pub silence_ms: u64,
    pub lines: Vec<LineConfig>,
}

fn default_orders_max() -> usize {
    2_000_000
}
fn default_reorder_packets() -> u32 {
    ArbiterConfig::default().reorder_packets
}
fn default_held_packets() -> usize {
    ArbiterConfig::default().held_packets
}
fn default_held_packet_bytes() -> usize {
    ArbiterConfig::default().slot_bytes
}
fn default_gap_timeout_us() -> u64 {
    ArbiterConfig::default().gap_timeout_ns / 1_000
}
fn default_silence_ms() -> u64 {
    ArbiterConfig::default().silence_ns / 1_000_000
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LineConfig {
    pub name: String,
    /// The name of the port that it comes by.
    pub port: String,
    /// The multicast group and UDP port.
    pub group: SocketAddrV4,
    /// Only this sender (source-specific multicast); without it any.
    pub source: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    pub listen: SocketAddr,
}

/// What is made at run time, and the record of who did what. In a group that elects in etcd all nodes have the same.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// The folder in which it is kept, made if it is missing; without it, it is gone when the node ends, but for what its group has.
    pub folder: Option<PathBuf>,
    /// Audit records that are kept; the oldest of more are taken out, a thousand at once.
    pub audit_records_max: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig { folder: None, audit_records_max: 1_000_000 }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// error, warn, info, debug or trace; the environment's RUST_LOG goes before it.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { level: "info".to_owned() }
    }
}

impl Config {
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        Config::parse(path, &text)
    }

    /// Reads `text`, which errors call `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            message: check::with_nearest_key(&error),
        })?;
        config.check().map_err(|message| ConfigError::Value { path: path.to_owned(), message })?;
        Ok(config)
    }

    pub fn region_path(&self) -> PathBuf {
        self.region.path.clone().unwrap_or_else(|| PathBuf::from(format!("/dev/shm/tickplane-{}", self.node)))
    }

    /// Whether the cache is only ever filled by another node: then no port is opened.
    pub fn is_copy(&self) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.listen.is_none())
    }

    /// What the worker judges by, and may do otherwise while it runs.
    pub fn times(&self) -> WorkerTimes {
        let feeds = self.feeds.iter().map(FeedConfig::times).collect();
        WorkerTimes { valid_for_ns: self.worker.valid_for_ms * NS_PER_MS, feeds }
    }

    /// The keys of [`Config::times`].
    pub fn times_keys(&self) -> impl Iterator<Item = String> {
        let of_feed = |feed: &FeedConfig| {
            ["gap_timeout_us", "silence_ms"].map(|key| format!("feeds.{}.{key}", feed.name))
        };
        std::iter::once("worker.valid_for_ms".to_owned()).chain(self.feeds.iter().flat_map(of_feed))
    }

    /// The index of the port of that name.
    pub fn port(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }
}

impl FeedConfig {
    pub fn arbiter(&self) -> ArbiterConfig {
        let FeedTimes { gap_timeout_ns, silence_ns } = self.times();
        ArbiterConfig {
            lines: self.lines.len(),
            reorder_packets: self.reorder_packets,
            held_packets: self.held_packets,
            slot_bytes: self.held_packet_bytes,
            gap_timeout_ns,
            silence_ns,
        }
    }

    fn times(&self) -> FeedTimes {
        FeedTimes { gap_timeout_ns: self.gap_timeout_us * NS_PER_US, silence_ns: self.silence_ms * NS_PER_MS }
    }
}

const _: () = assert!(BURST_MAX >= 64 && FEEDS_MAX >= 1 && FRAME_BYTES_MAX >= 1_514);

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
node = "n"
[[ports]]
name = "a"
kind = "udp"
interface = "lo"
[[feeds]]
name = "f"
protocol = "itch50"
[[feeds.lines]]
name = "A"
port = "a"
group = "239.1.1.1:26477"
"#;

    fn error_of(text: &str) -> String {
        Config::parse(Path::new("x.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn the_smallest_configuration_is_filled_up_with_defaults() {
        let config = Config::parse(Path::new("x.toml"), SMALLEST).unwrap();
        assert_eq!(config.region_path(), Path::new("/dev/shm/tickplane-n"));
        assert_eq!(config.feeds[0].arbiter(), ArbiterConfig { lines: 1, ..ArbiterConfig::default() });
        assert_eq!((config.worker.idle, config.grpc.listen.port()), (Idle::Park, 50_051));
    }

    const OBJECTIVE: &str = r#"
[[objectives]]
name = "fast"
stage = "received_to_published"
feed = "f"
quantile = 0.99
limit_us = 50
over_s = 10
"#;

    #[test]
    fn objectives_that_can_not_be_judged_are_refused_with_a_cure() {
        let text = format!("{SMALLEST}{OBJECTIVE}");
        let objectives = Config::parse(Path::new("x.toml"), &text).unwrap().objectives;
        assert_eq!((objectives.len(), objectives[0].quantile), (1, 0.99));
        let refused = [
            ("quantile = 0.99", "quantile = 99.0", "above 0 and below 1"),
            ("limit_us = 50", "limit_us = 0", "limit_us"),
            ("over_s = 10", "over_s = 61", "1 to 60"),
            ("feed = \"f\"", "feed = \"g\"", "no feed is called `g`"),
            ("received_to_published", "published_to_delivered", "take `feed` out"),
            ("received_to_published", "received_to_publish", "did you mean `received_to_published`?"),
            ("feed = \"f\"\nq", "q", ""),
            ("received_to_published\"\nfeed = \"f\"", "published_to_acknowledged\"", "[replica]"),
            ("name = \"fast\"", "name = \"a/b\"", "objective `a/b`"),
        ];
        for (from, to, expected) in refused {
            assert!(text.contains(from));
            let changed = text.replace(from, to);
            match Config::parse(Path::new("x.toml"), &changed) {
                Ok(_) => assert_eq!(expected, "", "{changed}"),
                Err(error) => {
                    assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}")
                }
            }
        }
        let error = error_of(&format!("{text}{OBJECTIVE}"));
        assert!(error.contains("objective `fast` is there twice"), "{error}");
    }

    #[test]
    fn every_configuration_that_is_delivered_is_good() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("configs");
        let mut read = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                Config::read(&path).unwrap_or_else(|error| panic!("{error}"));
                read += 1;
            }
        }
        assert!(read >= 9);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        let error = error_of(&SMALLEST.replace("interface = ", "interfcae = "));
        assert!(error.contains("line 6") && error.contains("did you mean `interface`?"), "{error}");
        let error = error_of(&format!("{SMALLEST}\n[grcp]\nlisten = \"1.2.3.4:5\""));
        assert!(error.contains("did you mean `grpc`?"), "{error}");
    }

    #[test]
    fn values_that_can_not_be_are_refused_with_a_cure() {
        let refused = [
            ("kind = \"udp\"\ninterface = \"lo\"", "kind = \"udp\"", "interface"),
            ("kind = \"udp\"\ninterface = \"lo\"", "kind = \"dpdk\"\naddress = \"10.0.0.1\"", "device"),
            ("interface = \"lo\"", "interface = \"lo\"\nmtu = 1500", "`mtu`"),
            ("port = \"a\"", "port = \"b\"", "no port is called `b`"),
            ("239.1.1.1", "10.1.1.1", "multicast"),
            ("node = \"n\"", "node = \"n/../x\"", "node"),
            ("node = \"n\"", "node = \"n\"\n[region]\nlog_ticks = 1000", "power of two"),
            ("node = \"n\"", "node = \"n\"\n[worker]\nstall_us = 0", "stall_us"),
            ("node = \"n\"", "node = \"n\"\n[store]\naudit_records_max = 999", "audit_records_max"),
            ("name = \"f\"", "name = \"f\"\nheld_packets = 0", "held_packets"),
            ("name = \"f\"", "name = \"f\"\ndate = \"2024-02-30\"", "2024-02-30"),
        ];
        for (from, to, expected) in refused {
            assert!(SMALLEST.contains(from));
            let error = error_of(&SMALLEST.replace(from, to));
            assert!(error.starts_with("x.toml: ") && error.contains(expected), "{error}");
        }
    }
}
