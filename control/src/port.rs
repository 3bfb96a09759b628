//! Ports as the configuration names them.

use crate::config::{Config, PortConfig, PortKind};
use dataplane::port::{Frame, Medium, Membership, Port, PortCounters};
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

impl AnyPort {
    /// Opens the port and joins the groups of its lines.
    pub fn open(config: &Config, port: &PortConfig) -> Result<AnyPort, PortError> {
        let name = || port.name.clone();
        match port.kind {
            PortKind::Udp => {
                let interface = port.interface.as_deref().unwrap_or_default();
                let interface = Interface::find(interface)
                    .map_err(|cause| PortError::Interface { name: name(), cause })?;
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
            PortKind::Pcap => {
                let file = port.file.as_deref().unwrap_or_else(|| std::path::Path::new(""));
                let capture =
                    open_capture(file, None).map_err(|cause| PortError::Capture { name: name(), cause })?;
                Ok(AnyPort::Capture(capture))
            }
            PortKind::Dpdk => Err(PortError::NoDpdk { name: name() }),
        }
    }

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
            AnyPort::Capture(_) => std::thread::sleep(timeout),
        }
    }
}

impl Port for AnyPort {
    fn medium(&self) -> Medium {
        match self {
            AnyPort::Udp(port) => port.medium(),
            AnyPort::Capture(port) => port.medium(),
        }
    }

    #[inline]
    fn rx_burst(&mut self) -> usize {
        match self {
            AnyPort::Udp(port) => port.rx_burst(),
            AnyPort::Capture(port) => port.rx_burst(),
        }
    }

    #[inline]
    fn frame(&self, index: usize) -> Frame<'_> {
        match self {
            AnyPort::Udp(port) => port.frame(index),
            AnyPort::Capture(port) => port.frame(index),
        }
    }

    fn tx(&mut self, frame: &[u8]) -> bool {
        match self {
            AnyPort::Udp(port) => port.tx(frame),
            AnyPort::Capture(port) => port.tx(frame),
        }
    }

    fn counters(&self) -> PortCounters {
        match self {
            AnyPort::Udp(port) => port.counters(),
            AnyPort::Capture(port) => port.counters(),
        }
    }

    fn is_exhausted(&self) -> bool {
        match self {
            AnyPort::Udp(port) => port.is_exhausted(),
            AnyPort::Capture(port) => port.is_exhausted(),
        }
    }
}
