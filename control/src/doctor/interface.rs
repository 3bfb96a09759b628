//! The kernel's interfaces that ports use.

use super::case::{Attachment, Case};
use super::finding::{Finding, Severity};
use super::machine::Machine;
use super::mend;
use crate::config::{LineConfig, PortConfig, PortKind};

const UP: u64 = 0x1;
const LOOPBACK: u64 = 0x8;
const MULTICAST: u64 = 0x1000;

pub fn check(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (port, attachment) in case.ports() {
        if let Attachment::NoInterface(wanted) = attachment {
            let present = case.machine.entries("/sys/class/net", |_| true).join(", ");
            let found = format!("no {wanted} among {present}");
            let why = "The port's interface must be there when the appliance starts.";
            let list = "ip -4 -brief address   # then, in the configuration: interface";
            findings.push(Finding::failure("interface.present", found, why).mend(list).on(&port.name));
        }
    }
    for name in case.interfaces() {
        let interface = Interface::new(case, name);
        let mut own = vec![interface.link()];
        if interface.is_kernels {
            own.extend([interface.multicast(), interface.reverse_path(), interface.igmp_version()]);
        }
        own.extend([interface.rings(), interface.coalescing()]);
        own.extend(interface.vlan_offload());
        findings.extend(own.into_iter().map(|finding| finding.on(name)));
    }
    if findings.is_empty() {
        let found = "no interface of the kernel's";
        findings.push(Finding::not_needed("interface.link", found, "no port receives through the kernel"));
    }
    findings
}

struct Interface<'a> {
    case: &'a Case<'a>,
    machine: &'a Machine,
    name: &'a str,
    folder: String,
    /// Whether the kernel's sockets receive from it, and not DPDK.
    is_kernels: bool,
    flags: Option<u64>,
}

impl<'a> Interface<'a> {
    fn new(case: &'a Case<'a>, name: &'a str) -> Interface<'a> {
        let machine = case.machine;
        let folder = format!("/sys/class/net/{name}");
        let flags = machine.text(&format!("{folder}/flags"));
        let flags = flags.and_then(|flags| u64::from_str_radix(flags.strip_prefix("0x")?, 16).ok());
        let is_here = |attachment: &Attachment| *attachment == Attachment::Interface(name.to_owned());
        let is_kernels = case.ports().any(|(port, there)| port.kind == PortKind::Udp && is_here(there));
        Interface { case, machine, name, folder, is_kernels, flags }
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.machine.number(&format!("{}/{file}", self.folder))
    }

    fn has(&self, flag: u64) -> bool {
        self.flags.is_some_and(|flags| flags & flag != 0)
    }

    /// Loopback, veth, VLANs and bridges have no device of their own.
    fn driver(&self) -> Option<String> {
        self.machine.value(&format!("{}/device/uevent", self.folder), "DRIVER")
    }

    /// The value for all interfaces, and that for this one.
    fn sysctls(&self, name: &str) -> Option<(u64, u64)> {
        let of = |interface| self.machine.number(&format!("/proc/sys/net/ipv4/conf/{interface}/{name}"));
        Some((of("all")?, of(self.name)?))
    }

    fn lines(&self) -> impl Iterator<Item = &LineConfig> {
        let here = Attachment::Interface(self.name.to_owned());
        let ports = self.case.ports().filter(move |(_, attachment)| **attachment == here);
        let ports: Vec<&str> = ports.map(|(port, _)| port.name.as_str()).collect();
        let lines = self.case.config.feeds.iter().flat_map(|feed| &feed.lines);
        lines.filter(move |line| ports.contains(&line.port.as_str()))
    }

    fn link(&self) -> Finding {
        let id = "interface.link";
        let file = format!("{}/flags", self.folder);
        let name = self.name;
        if self.flags.is_none() {
            return Finding::unknown(id, &file);
        }
        if !self.has(UP) {
            let why = "An interface that is down receives nothing, and joins no group.";
            return Finding::failure(id, "down", why).mend(format!("ip link set {name} up"));
        }
        if self.number("carrier") == Some(0) {
            let why =
                "The interface is up, but there is no signal: look at cable, module and the switch's port.";
            return Finding::failure(id, "no carrier", why).mend(format!("ethtool {name}"));
        }
        let speed = self.number("speed").map_or_else(String::new, |mbit| format!(", {mbit} Mbit/s"));
        Finding::ok(id, format!("up{speed}"), "Frames can come.")
    }

    fn multicast(&self) -> Finding {
        let id = "interface.multicast";
        let why = "Without the flag the interface passes no multicast groups on to its NIC.";
        if self.flags.is_none() {
            return Finding::unknown(id, &format!("{}/flags", self.folder));
        }
        if self.has(LOOPBACK) {
            return Finding::ok(id, "loopback", "Loopback delivers groups with and without the flag.");
        }
        if self.has(MULTICAST) {
            return Finding::ok(id, "on", why);
        }
        Finding::failure(id, "off", why).mend(format!("ip link set {} multicast on", self.name))
    }

    fn reverse_path(&self) -> Finding {
        let id = "interface.rp_filter";
        let Some((all, own)) = self.sysctls("rp_filter") else {
            return Finding::unknown(id, &format!("/proc/sys/net/ipv4/conf/{}/rp_filter", self.name));
        };
        // The stricter of both holds (ip-sysctl).
        let found = match all.max(own) {
            0 => "off",
            1 => "strict",
            _ => "loose",
        };
        if all.max(own) != 1 {
            return Finding::ok(id, found, "Senders need no route back through this interface.");
        }
        if self.has(LOOPBACK) {
            return Finding::ok(id, found, "Loopback's own addresses have their route.");
        }
        let why = "Packets of a sender to whom no route leads back through this interface are dropped without a trace.";
        let mend = format!(
            "sysctl -w net.ipv4.conf.{0}.rp_filter=2",
            self.name.replace('.', "/") // sysctl takes the dot for its own
        );
        Finding::new(id, Severity::Warning, found, why).mend(mend)
    }

    fn igmp_version(&self) -> Finding {
        let id = "interface.igmp_version";
        let Some((all, own)) = self.sysctls("force_igmp_version") else {
            return Finding::unknown(
                id,
                &format!("/proc/sys/net/ipv4/conf/{}/force_igmp_version", self.name),
            );
        };
        let forced = |version| all == version || own == version;
        let version = [1, 2].into_iter().find(|version| forced(*version));
        let Some(version) = version else {
            return Finding::ok(
                id,
                "3, or what the network's querier speaks",
                "Groups are joined by their sources.",
            );
        };
        let found = format!("forced to {version}");
        let which = if all == version { "all".to_owned() } else { self.name.replace('.', "/") };
        let mend = mend::sysctl(&format!("net.ipv4.conf.{which}.force_igmp_version"), 0);
        if self.lines().any(|line| line.source.is_some()) {
            let why = "Lines name their sources, and only IGMPv3 can ask the network for a source.";
            return Finding::new(id, Severity::Warning, found, why).mend(mend);
        }
        Finding::note(id, found, "No line names a source, so an older version will do.").mend(mend)
    }

    fn rings(&self) -> Finding {
        let (id, name) = ("interface.rings", self.name);
        let Some(driver) = self.driver() else {
            return Finding::not_needed(id, "no device beneath it", "it has no ring");
        };
        let queues =
            self.machine.entries(&format!("{}/queues", self.folder), |queue| queue.starts_with("rx-"));
        let lost = |counter| self.number(&format!("statistics/{counter}")).unwrap_or(0);
        let lost = lost("rx_missed_errors").saturating_add(lost("rx_fifo_errors"));
        let found = format!("{driver}, {} receive queues; {lost} frames lost since its start", queues.len());
        let mend = format!("ethtool -G {name} rx 4096");
        if lost > 0 {
            let why = format!(
                "The ring was full when they came: `ethtool -g {name}` shows its size and how large it may be."
            );
            return Finding::new(id, Severity::Warning, found, &why).mend(mend);
        }
        let why = format!("Files do not tell the ring's size: `ethtool -g {name}` does; a burst must fit.");
        Finding::note(id, found, &why).mend(mend)
    }

    fn coalescing(&self) -> Finding {
        let (id, name) = ("interface.coalescing", self.name);
        if self.driver().is_none() {
            return Finding::not_needed(id, "no device beneath it", "it has no interrupts");
        }
        let shown = |file| self.number(file).map_or_else(|| "?".to_owned(), |number| number.to_string());
        let found = format!(
            "gro_flush_timeout {} ns, napi_defer_hard_irqs {}",
            shown("gro_flush_timeout"),
            shown("napi_defer_hard_irqs")
        );
        let why = format!(
            "A NIC that waits before it interrupts adds that to each packet; files do not tell its wait: `ethtool -c {name}` does."
        );
        Finding::note(id, found, &why).mend(format!("ethtool -C {name} adaptive-rx off rx-usecs 0"))
    }
    /// Only of a port that takes a VLAN by AF_XDP: af_packet is told the tag beside the frame, and puts it back.
    fn vlan_offload(&self) -> Option<Finding> {
        let here = Attachment::Interface(self.name.to_owned());
        let is_af_xdp = |port: &PortConfig| {
            let device = port.device.as_deref();
            port.kind == PortKind::Dpdk && device.is_none_or(|device| device.starts_with("net_af_xdp"))
        };
        let mut ports = self.case.ports().filter(|(port, there)| **there == here && is_af_xdp(port));
        let vlan = ports.find_map(|(port, _)| port.vlan)?;
        let name = self.name;
        let why = format!(
            "AF_XDP sees a tag only where the NIC leaves it in the frame, and the port drops what has none; files do not tell \
             whether it does: `ethtool -k {name}` does (rx-vlan-offload)."
        );
        let found = format!("VLAN {vlan} comes by AF_XDP");
        let finding = Finding::note("interface.vlan_offload", found, &why);
        Some(finding.mend(format!("ethtool -K {name} rxvlan off")))
    }
}
