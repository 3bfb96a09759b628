//! Ports as the configuration names them.

use crate::config::{Config, PortConfig, PortKind};
use dataplane::hint::Prefetch;
use dataplane::port::{Frame, Medium, Membership, Port, PortCounters};
use dataplane::worker::PortSetup;
use drivers::capture::{CaptureError, CapturePort, open_capture};
use drivers::interface::{Interface, InterfaceError};
use drivers::udp::{Subscription, UdpConfig, UdpError, UdpPort};
use std::time::Duration;

/// A port that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("port `{name}`: {cause}")]
    Interface { name: String, cause: InterfaceError },
    #[error("port `{name}`: {cause}")]
    Udp { name: String, cause: UdpError },
    #[error("port `{name}`: {cause}")]
    Capture { name: String, cause: CaptureError },
    #[cfg(feature = "dpdk")]
    #[error("port `{name}`: {cause}")]
    Dpdk { name: String, cause: drivers::dpdk::DpdkError },
    #[cfg(feature = "dpdk")]
    #[error("port `{name}`: {cause}")]
    Host { name: String, cause: dataplane::host::HostError },
    #[error(
        "port `{name}` is for DPDK, which this tickplane was built without: build it with `--features dpdk`, \
         or use kind = \"udp\""
    )]
    NoDpdk { name: String },
}

/// Any port. The kind is the same for ever, so the branch costs next to nothing.
pub enum AnyPort {
    Udp(UdpPort),
    Capture(CapturePort),
    #[cfg(feature = "dpdk")]
    Dpdk(drivers::dpdk::DpdkPort),
}

/// The groups that come by this port, and their UDP ports.
fn subscriptions(config: &Config, name: &str) -> Vec<Subscription> {
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for line in config.feeds.iter().flat_map(|feed| &feed.lines).filter(|line| line.port == name) {
        let membership = Membership { group: *line.group.ip(), source: line.source };
        let subscription = Subscription { membership, port: line.group.port() };
        if !subscriptions.contains(&subscription) {
            subscriptions.push(subscription);
        }
    }
    subscriptions
}

/// Opens all ports and joins the groups of their lines: by the kernel, or by hosts that will.
pub fn open_all(config: &Config) -> Result<Vec<PortSetup<AnyPort>>, PortError> {
    #[cfg(feature = "dpdk")]
    let eal = dpdk::start(config)?;
    let open = |port: &PortConfig| -> Result<PortSetup<AnyPort>, PortError> {
        let without_host = |opened| PortSetup { port: opened, host: None, vlan: port.vlan };
        match port.kind {
            PortKind::Udp => open_udp(config, port).map(without_host),
            PortKind::Pcap => open_pcap(port).map(without_host),
            #[cfg(feature = "dpdk")]
            PortKind::Dpdk => dpdk::open(config, port, &eal),
            #[cfg(not(feature = "dpdk"))]
            PortKind::Dpdk => Err(PortError::NoDpdk { name: port.name.clone() }),
        }
    };
    config.ports.iter().map(open).collect()
}

fn open_udp(config: &Config, port: &PortConfig) -> Result<AnyPort, PortError> {
    let name = || port.name.clone();
    let interface = port.interface.as_deref().unwrap_or_default();
    let interface =
        Interface::find(interface).map_err(|cause| PortError::Interface { name: name(), cause })?;
    let mut udp = UdpConfig::new(interface);
    udp.subscriptions = subscriptions(config, &port.name);
    udp.burst = port.burst;
    udp.receive_buffer_bytes = port.receive_buffer_bytes.unwrap_or(udp.receive_buffer_bytes);
    let opened = UdpPort::new(&udp).map_err(|cause| PortError::Udp { name: name(), cause })?;
    if opened.receive_buffer_bytes() < udp.receive_buffer_bytes {
        tracing::warn!(
            port = port.name,
            "the kernel gave {} of {} bytes of receive buffer: raise net.core.rmem_max",
            opened.receive_buffer_bytes(),
            udp.receive_buffer_bytes
        );
    }
    Ok(AnyPort::Udp(opened))
}

fn open_pcap(port: &PortConfig) -> Result<AnyPort, PortError> {
    let file = port.file.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let capture = open_capture(file, None);
    capture.map(AnyPort::Capture).map_err(|cause| PortError::Capture { name: port.name.clone(), cause })
}

#[cfg(feature = "dpdk")]
mod dpdk {
    use super::{AnyPort, PortError, subscriptions};
    use crate::config::{Config, EalMemory, PortConfig, PortKind};
    use dataplane::host::{Host, HostConfig, IgmpVersion};
    use dataplane::time::Clock;
    use dataplane::worker::PortSetup;
    use drivers::clock::SystemClock;
    use drivers::dpdk::{self, DpdkConfig, DpdkPort, Eal, EalConfig};
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    /// Bytes of a packet buffer, rounded up, and of what DPDK takes for itself.
    const MBUF_BYTES: u32 = 2_560;
    const OWN_MEGABYTES: u32 = 128;

    /// Starts DPDK if a port needs it.
    pub fn start(config: &Config) -> Result<Option<Arc<Eal>>, PortError> {
        let ports: Vec<&PortConfig> =
            config.ports.iter().filter(|port| port.kind == PortKind::Dpdk).collect();
        let Some(first) = ports.first() else { return Ok(None) };
        let no_huge = ports.iter().any(|port| port.memory == Some(EalMemory::NoHuge));
        let mbufs: u32 = ports.iter().map(|port| settings(port, "").mbufs).sum();
        let megabytes = OWN_MEGABYTES + ((u64::from(mbufs) * u64::from(MBUF_BYTES)) >> 20) as u32;
        let devices = ports.iter().filter_map(|port| port.device.clone());
        let eal = EalConfig {
            memory: match no_huge {
                true => dpdk::EalMemory::NoHuge { megabytes },
                false => dpdk::EalMemory::Hugepages,
            },
            pci_addresses: devices.filter(|device| dpdk::is_pci_address(device)).collect(),
        };
        let eal = Eal::start(&eal).map_err(|cause| PortError::Dpdk { name: first.name.clone(), cause })?;
        tracing::info!("{}", eal.version());
        Ok(Some(eal))
    }

    fn settings(port: &PortConfig, device: &str) -> DpdkConfig {
        let usual = DpdkConfig::new(device);
        DpdkConfig {
            rx_queues: port.rx_queues.unwrap_or(usual.rx_queues),
            rx_descriptors: port.rx_descriptors.unwrap_or(usual.rx_descriptors),
            mbufs: port.mbufs.unwrap_or(usual.mbufs),
            mtu: port.mtu.unwrap_or(usual.mtu),
            burst: port.burst,
            hardware_timestamp: port.hardware_timestamp.unwrap_or(usual.hardware_timestamp),
            ..usual
        }
    }

    /// The device, or the ways to poll a kernel's interface: the faster first.
    fn devices(port: &PortConfig, index: usize) -> Vec<String> {
        match (&port.device, &port.interface) {
            (Some(device), _) => vec![device.clone()],
            (None, interface) => {
                let interface = interface.as_deref().unwrap_or_default();
                vec![
                    format!("net_af_xdp{index},iface={interface}"),
                    format!(
                        "net_af_packet{index},iface={interface},blocksz=65536,framesz=2048,framecnt=8192"
                    ),
                ]
            }
        }
    }

    pub fn open(
        config: &Config,
        port: &PortConfig,
        eal: &Option<Arc<Eal>>,
    ) -> Result<PortSetup<AnyPort>, PortError> {
        let eal = eal.as_ref().expect("DPDK was started for its ports");
        let subscriptions = subscriptions(config, &port.name);
        let groups: Vec<Ipv4Addr> = subscriptions.iter().map(|line| line.membership.group).collect();
        let devices = devices(port, config.port(&port.name).unwrap_or(0));
        let mut failed = None;
        let opened = devices.iter().find_map(|device| {
            let settings = DpdkConfig { groups: groups.clone(), ..settings(port, device) };
            DpdkPort::open(eal, &settings).map_err(|cause| failed = Some(cause)).ok()
        });
        let Some(opened) = opened else {
            let cause = failed.expect("there is at least one device");
            return Err(PortError::Dpdk { name: port.name.clone(), cause });
        };
        tracing::info!(
            port = port.name,
            device = opened.name(),
            mac = ?opened.mac(),
            multicast = ?opened.multicast_filter(),
            hardware_timestamps = opened.has_hardware_timestamps(),
            "polling"
        );
        let host = HostConfig {
            mac: opened.mac(),
            address: port.address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            vlan: port.vlan,
            igmp: IgmpVersion::V3,
            seed: SystemClock.unix_ns(),
        };
        let memberships: Vec<_> = subscriptions.iter().map(|line| line.membership).collect();
        let host = Host::new(&host, &memberships)
            .map_err(|cause| PortError::Host { name: port.name.clone(), cause })?;
        Ok(PortSetup { port: AnyPort::Dpdk(opened), host: Some(host), vlan: port.vlan })
    }
}

/// Prepares the thread that is going to poll.
pub fn prepare_thread(config: &Config) {
    #[cfg(feature = "dpdk")]
    if config.ports.iter().any(|port| port.kind == PortKind::Dpdk)
        && let Err(error) = drivers::dpdk::register_thread()
    {
        tracing::warn!("the worker has no cache of packet buffers of its own: {error}");
    }
    let _ = config;
}

impl AnyPort {
    /// What it receives from, for people.
    pub fn device(port: &PortConfig) -> String {
        let file = port.file.as_ref().map(|file| file.display().to_string());
        port.device.clone().or_else(|| port.interface.clone()).or(file).unwrap_or_default()
    }

    /// Sleeps until something may have come, or so long.
    pub fn wait(&self, timeout: Duration) {
        match self {
            AnyPort::Udp(port) => {
                port.wait(timeout);
            }
            _ => std::thread::sleep(timeout),
        }
    }
}

impl Port for AnyPort {
    fn medium(&self) -> Medium {
        match self {
            AnyPort::Udp(port) => port.medium(),
            AnyPort::Capture(port) => port.medium(),
            #[cfg(feature = "dpdk")]
            AnyPort::Dpdk(port) => port.medium(),
        }
    }

    #[inline]
    fn rx_burst(&mut self) -> usize {
        match self {
            AnyPort::Udp(port) => port.rx_burst(),
            AnyPort::Capture(port) => port.rx_burst(),
            #[cfg(feature = "dpdk")]
            AnyPort::Dpdk(port) => port.rx_burst(),
        }
    }

    #[inline]
    fn frame(&self, index: usize) -> Frame<'_> {
        match self {
            AnyPort::Udp(port) => port.frame(index),
            AnyPort::Capture(port) => port.frame(index),
            #[cfg(feature = "dpdk")]
            AnyPort::Dpdk(port) => port.frame(index),
        }
    }

    #[inline]
    fn prefetch<F: Prefetch>(&self, index: usize) {
        match self {
            AnyPort::Udp(port) => port.prefetch::<F>(index),
            AnyPort::Capture(port) => port.prefetch::<F>(index),
            #[cfg(feature = "dpdk")]
            AnyPort::Dpdk(port) => port.prefetch::<F>(index),
        }
    }

    fn tx(&mut self, frame: &[u8]) -> bool {
        match self {
            AnyPort::Udp(port) => port.tx(frame),
            AnyPort::Capture(port) => port.tx(frame),
            #[cfg(feature = "dpdk")]
            AnyPort::Dpdk(port) => port.tx(frame),
        }
    }

    fn counters(&self) -> PortCounters {
        match self {
            AnyPort::Udp(port) => port.counters(),
            AnyPort::Capture(port) => port.counters(),
            #[cfg(feature = "dpdk")]
            AnyPort::Dpdk(port) => port.counters(),
        }
    }

    fn is_exhausted(&self) -> bool {
        match self {
            AnyPort::Udp(port) => port.is_exhausted(),
            AnyPort::Capture(port) => port.is_exhausted(),
            #[cfg(feature = "dpdk")]
            AnyPort::Dpdk(port) => port.is_exhausted(),
        }
    }
}
