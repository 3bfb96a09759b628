//! What the kernel allows to sockets.

use super::case::Case;
use super::finding::{Finding, Severity};
use super::mend;
use crate::config::{PortConfig, PortKind};
use drivers::interface::Interface;
use drivers::udp::UdpConfig;

const CORE: &str = "/proc/sys/net/core";
const CAP_NET_ADMIN: u32 = 12;
/// The kernel's own default: less was set by somebody.
const BACKLOG_MIN: u64 = 1_000;

pub fn check(case: &Case) -> Vec<Finding> {
    let ports: Vec<&PortConfig> =
        case.config.ports.iter().filter(|port| port.kind == PortKind::Udp).collect();
    if ports.is_empty() {
        let ids = ["socket.receive_buffer", "socket.memberships", "socket.backlog"];
        let unused =
            |id| Finding::not_needed(id, "no socket", "no port receives through the kernel's sockets");
        return ids.map(unused).into();
    }
    vec![receive_buffer(case, &ports), memberships(case), backlog(case)]
}

fn receive_buffer(case: &Case, ports: &[&PortConfig]) -> Finding {
    let id = "socket.receive_buffer";
    let file = format!("{CORE}/rmem_max");
    let Some(max) = case.machine.number(&file) else { return Finding::unknown(id, &file) };
    let nowhere = Interface { name: String::new(), index: 0, address: None };
    let usual = UdpConfig::new(nowhere).receive_buffer_bytes;
    let wanted = ports.iter().map(|port| port.receive_buffer_bytes.unwrap_or(usual)).max().unwrap_or(usual);
    let found = format!("net.core.rmem_max is {max}; {wanted} bytes are asked for");
    let why = "A socket gets no more than rmem_max, and what a burst brings beyond that is lost.";
    if max >= wanted as u64 {
        return Finding::ok(id, found, why);
    }
    let mend = mend::sysctl("net.core.rmem_max", wanted);
    if case.is_capable(CAP_NET_ADMIN) {
        let why = "This user may go past rmem_max (CAP_NET_ADMIN); another one would get no more than that.";
        return Finding::note(id, found, why).mend(mend);
    }
    Finding::new(id, Severity::Warning, found, why).mend(mend)
}

/// The limit holds for each socket, and a port has a socket for each of its groups.
fn memberships(case: &Case) -> Finding {
    let id = "socket.memberships";
    for (name, wanted) in [("igmp_max_memberships", 1), ("igmp_max_msf", 1)] {
        let file = format!("/proc/sys/net/ipv4/{name}");
        let Some(max) = case.machine.number(&file) else { return Finding::unknown(id, &file) };
        if max < wanted {
            let why = "Each line's socket joins one group, of one source at most, and is not allowed to.";
            let mend = mend::sysctl(&format!("net.ipv4.{name}"), 20);
            return Finding::failure(id, format!("net.ipv4.{name} is {max}"), why).mend(mend);
        }
    }
    let why = "The limit holds for each socket, and each line has its own.";
    Finding::ok(id, "1 group a socket is allowed", why)
}

fn backlog(case: &Case) -> Finding {
    let id = "socket.backlog";
    let file = format!("{CORE}/netdev_max_backlog");
    let Some(max) = case.machine.number(&file) else { return Finding::unknown(id, &file) };
    // The second column counts, for each core, what its queue had no place for.
    let softnet = case.machine.text("/proc/net/softnet_stat").unwrap_or_default();
    let dropped = softnet.lines().filter_map(|line| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok());
    let dropped = dropped.fold(0, u64::saturating_add);
    let found = format!("net.core.netdev_max_backlog is {max}; {dropped} packets dropped since the start");
    let why = "Packets of loopback, veth and steered queues wait in a queue of this length for each core.";
    if dropped == 0 && max >= BACKLOG_MIN {
        return Finding::ok(id, found, why);
    }
    let wanted = max.saturating_mul(4).clamp(4_000, 64_000);
    let mend = mend::sysctl("net.core.netdev_max_backlog", wanted);
    Finding::new(id, Severity::Warning, found, why).mend(mend)
}
