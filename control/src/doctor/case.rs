//! A configuration on a machine, and what the one asks of the other.

use super::finding::Severity;
use super::machine::Machine;
use super::mounts::Mount;
use crate::config::{Config, EalMemory, PortConfig, PortKind};
use crate::idle::Idle;
use drivers::region::CELL_BYTES;
use std::net::Ipv4Addr;

/// What a DPDK port has unless it is told otherwise (`DpdkConfig::new`).
const PACKET_BUFFERS: u32 = 16_383;
const MTU: u16 = 1_500;
/// Room for the longest usual frame; head of a buffer, of its place in the pool, and what alignment takes.
const BUFFER_ROOM_BYTES: u64 = 2_176;
const BUFFER_OWN_BYTES: u64 = 384;
/// Headroom, Ethernet header, VLAN tags and check sequence.
const FRAME_OWN_BYTES: u64 = 128 + 26;
/// What DPDK takes for itself: 74 MiB with one port of net_null (DPDK 22.11); a NIC's driver adds to it.
const DPDK_OWN_BYTES: u64 = 128 << 20;
pub const DPDK_SPARE_BYTES: u64 = DPDK_OWN_BYTES - (74 << 20);

/// Where a port's frames come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A device that DPDK drives, by its full PCI address.
    Pci(String),
    /// A kernel's interface.
    Interface(String),
    /// The configuration names an interface, or an address, that is not here.
    NoInterface(String),
    /// A virtual device of DPDK, or a recording.
    Nothing,
}

#[derive(Debug)]
pub struct Case<'a> {
    pub config: &'a Config,
    pub machine: &'a Machine,
    /// Of each port, in the configuration's order.
    attachments: Vec<Attachment>,
}

impl<'a> Case<'a> {
    pub fn new(config: &'a Config, machine: &'a Machine) -> Case<'a> {
        let attachments = config.ports.iter().map(|port| attachment(machine, port)).collect();
        Case { config, machine, attachments }
    }

    pub fn ports(&self) -> impl Iterator<Item = (&PortConfig, &Attachment)> {
        self.config.ports.iter().zip(&self.attachments)
    }

    /// The kernel's interfaces that ports use, each once.
    pub fn interfaces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for attachment in &self.attachments {
            if let Attachment::Interface(name) = attachment
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
        }
        names
    }

    /// Whether the worker is to have a core of its own, and every microsecond counts.
    pub fn spins(&self) -> bool {
        self.config.worker.idle == Idle::Spin
    }

    /// What only adds latency is a warning where that was asked for, else a note.
    pub fn slow(&self) -> Severity {
        if self.spins() { Severity::Warning } else { Severity::Note }
    }

    /// The NUMA node of what the port receives from, if the machine tells.
    pub fn numa_node(&self, attachment: &Attachment) -> Option<u64> {
        let device = match attachment {
            Attachment::Pci(address) => format!("/sys/bus/pci/devices/{address}"),
            Attachment::Interface(name) => format!("/sys/class/net/{name}/device"),
            _ => return None,
        };
        // −1, which is no such number: the machine does not tell.
        self.machine.number(&format!("{device}/numa_node"))
    }

    /// What DPDK needs of huge pages; 0 if no port is its, or one is to do without (as `port` starts it).
    pub fn dpdk_bytes(&self) -> u64 {
        let ports = || self.config.ports.iter().filter(|port| port.kind == PortKind::Dpdk);
        if ports().next().is_none() || ports().any(|port| port.memory == Some(EalMemory::NoHuge)) {
            return 0;
        }
        ports().map(packet_bytes).sum::<u64>() + DPDK_OWN_BYTES
    }

    pub fn region_bytes(&self) -> u64 {
        self.config.layout().cells() as u64 * CELL_BYTES as u64
    }

    /// The file system that the region's file will be on.
    pub fn region_mount(&self) -> Option<Mount> {
        Mount::of(self.machine, &self.config.region_path())
    }

    /// Whether the user that asks may do what needs this capability (capabilities(7)).
    pub fn is_capable(&self, capability: u32) -> bool {
        let held = self.machine.value("/proc/self/status", "CapEff");
        let held = held.and_then(|held| u64::from_str_radix(&held, 16).ok()).unwrap_or(0);
        held & (1 << capability) != 0
    }
}

/// The packet buffers of a port.
pub fn packet_bytes(port: &PortConfig) -> u64 {
    let room_bytes = (u64::from(port.mtu.unwrap_or(MTU)) + FRAME_OWN_BYTES).max(BUFFER_ROOM_BYTES);
    u64::from(port.mbufs.unwrap_or(PACKET_BUFFERS)) * (room_bytes + BUFFER_OWN_BYTES)
}

fn attachment(machine: &Machine, port: &PortConfig) -> Attachment {
    let named = port.device.as_deref().and_then(|device| {
        let mut words = device.split(',');
        let address = pci_address(words.next().unwrap_or_default()).map(Attachment::Pci);
        address.or_else(|| {
            words.find_map(|word| word.strip_prefix("iface=")).map(|name| interface(machine, name))
        })
    });
    match (named, &port.interface) {
        (Some(named), _) => named,
        (None, Some(name)) => interface(machine, name),
        (None, None) => Attachment::Nothing,
    }
}

fn interface(machine: &Machine, wanted: &str) -> Attachment {
    let is_name = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
        (1..16).contains(&name.len()) && name.bytes().all(allowed) && name.bytes().any(|byte| byte != b'.')
    };
    let name = match wanted.parse() {
        Ok(address) => interface_of(machine, address),
        Err(_) => Some(wanted.to_owned()),
    };
    match name.filter(|name| is_name(name) && machine.exists(&format!("/sys/class/net/{name}"))) {
        Some(name) => Attachment::Interface(name),
        None => Attachment::NoInterface(wanted.to_owned()),
    }
}

/// The interface with this address. Files tell the machine's addresses, and which network is on which interface.
fn interface_of(machine: &Machine, address: Ipv4Addr) -> Option<String> {
    if address.is_loopback() {
        return Some("lo".to_owned());
    }
    let tree = machine.text("/proc/net/fib_trie")?;
    let leaf = format!("|-- {address}");
    let mut pairs = tree.lines().zip(tree.lines().skip(1));
    if !pairs.any(|(line, next)| line.trim() == leaf && next.contains("host LOCAL")) {
        return None;
    }
    let routes = machine.text("/proc/net/route")?;
    let connected = routes.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Written as the machine holds them in memory, so read as little-endian.
        let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok().map(u32::swap_bytes);
        let (network, gateway, mask) = (number(1)?, number(2)?, number(7)?);
        let holds = gateway == 0 && mask != 0 && u32::from(address) & mask == network;
        holds.then(|| (mask, (*fields.first().unwrap_or(&"")).to_owned()))
    });
    connected.max_by_key(|(mask, _)| *mask).map(|(_, name)| name)
}

/// `3b:00.0` or `0000:3b:00.0`, as the latter.
fn pci_address(device: &str) -> Option<String> {
    let full = if device.len() == 7 { format!("0000:{device}") } else { device.to_lowercase() };
    let is_address = full.len() == 12
        && full.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b':',
            10 => byte == b'.',
            _ => byte.is_ascii_hexdigit(),
        });
    is_address.then(|| full.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_device_strings() {
        assert_eq!(pci_address("0000:3B:00.0").as_deref(), Some("0000:3b:00.0"));
        assert_eq!(pci_address("3b:02.7").as_deref(), Some("0000:3b:02.7"));
        for other in
            ["net_null0", "net_af_xdp0", "0000:3b:00", "zz:00.0", "", "3b-02.7", "äöü.0", "../../../../x"]
        {
            assert_eq!(pci_address(other), None, "{other}");
        }
    }

    #[cfg(feature = "dpdk")]
    #[test]
    fn a_port_has_what_the_driver_gives_it() {
        let usual = drivers::dpdk::DpdkConfig::new("");
        assert_eq!((usual.mbufs, usual.mtu), (PACKET_BUFFERS, MTU));
    }
}
