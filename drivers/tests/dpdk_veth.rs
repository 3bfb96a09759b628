//! The DPDK port on a real network interface: one end of a veth pair, a kernel with its sockets on the other, in a network
//! namespace of its own. Needs root.

use dataplane::host::{Host, HostConfig, IgmpVersion};
use dataplane::port::{Membership, Port};
use dataplane::time::Clock;
use dataplane::wire::datagram::{self, Parsed};
use drivers::clock::SystemClock;
use drivers::dpdk::{DpdkConfig, DpdkPort, Eal, EalConfig, EalMemory};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 7, 7, 7), 7_777);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 2);
const PATIENCE: Duration = Duration::from_secs(30);

/// A veth pair, its far end in a namespace; both go when it is dropped.
struct Link {
    netns: String,
    near: String,
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Link {
    fn new() -> Link {
        let process = std::process::id();
        let (netns, near, far) = (format!("tpt{process}"), format!("tpn{process}"), format!("tpf{process}"));
        ip(&["netns", "add", &netns]);
        let link = Link { netns: netns.clone(), near: near.clone() };
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &netns]);
        ip(&["link", "set", &near, "up"]);
        link.far(&["ip", "link", "set", "lo", "up"]);
        link.far(&["ip", "link", "set", &far, "up"]);
        link.far(&["ip", "address", "add", &format!("{THEIRS}/24"), "dev", &far]);
        link.far(&["ip", "route", "add", "224.0.0.0/4", "dev", &far]);
        link
    }

    fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns]).args(program);
        command
    }

    fn far(&self, program: &[&str]) -> String {
        let output = self.command(program).output().unwrap();
        assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.near]).output();
        let _ = Command::new("ip").args(["netns", "delete", &self.netns]).output();
    }
}

/// A program on the far side that ends with the test.
struct Far(Child);

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a numbered datagram to the group every 10 ms, and prints what IGMP it sees.
const FAR_SIDE: &str = r#"
import socket, struct, sys, threading, time
group, port = sys.argv[1], int(sys.argv[2])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
raw.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.0.0.22") + socket.inet_aton(sys.argv[3]))
def listen():
    while True:
        data, (source, _) = raw.recvfrom(2048)
        header = (data[0] & 15) * 4
        print(source, data[header:].hex(), flush=True)
print("ready", flush=True)
threading.Thread(target=listen, daemon=True).start()
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
number = 0
while True:
    out.sendto(struct.pack(">I", number), (group, port))
    number += 1
    time.sleep(0.01)
"#;

fn devices(near: &str) -> [(String, &'static str); 2] {
    [
        (format!("net_af_xdp0,iface={near}"), "AF_XDP"),
        (format!("net_af_packet0,iface={near},blocksz=65536,framesz=2048,framecnt=512"), "af_packet"),
    ]
}

#[test]
fn multicast_arrives_igmp_is_seen_and_arp_answered() {
    let is_root = std::fs::metadata("/proc/self/fd").is_ok()
        && Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        eprintln!("skipped: laying a veth pair needs root");
        assert!(std::env::var_os("TICKPLANE_TEST_ROOT").is_none(), "root was promised");
        return;
    }
    let config = EalConfig { memory: EalMemory::NoHuge { megabytes: 256 }, pci_addresses: Vec::new() };
    let eal = Eal::start(&config).unwrap_or_else(|error| panic!("{error}"));
    let mut opened = 0;
    for attempt in 0..2 {
        let link = Link::new();
        let (device, name) = devices(&link.near)[attempt].clone();
        match DpdkPort::open(&eal, &DpdkConfig { mbufs: 8_191, ..DpdkConfig::new(&device) }) {
            Ok(port) => {
                opened += 1;
                eprintln!("{name}: MAC {:?}, multicast by {:?}", port.mac(), port.multicast_filter());
                converse(&link, port);
            }
            Err(error) => eprintln!("{name} is not to be had here: {error}"),
        }
    }
    assert!(opened > 0, "neither AF_XDP nor af_packet");
}

fn converse(link: &Link, mut port: DpdkPort) {
    let membership = Membership { group: *GROUP.ip(), source: None };
    let host = HostConfig { mac: port.mac(), address: OURS, vlan: None, igmp: IgmpVersion::V3, seed: 1 };
    let mut host = Host::new(&host, &[membership]).unwrap();
    let (group, udp_port, address) = (GROUP.ip().to_string(), GROUP.port().to_string(), THEIRS.to_string());
    let mut far = link.command(&["python3", "-u", "-c", FAR_SIDE, &group, &udp_port, &address]);
    let mut far = Far(far.stdout(Stdio::piped()).spawn().expect("python3 is installed"));
    let mut lines = BufReader::new(far.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    // Reports come twice, and then only when asked for: it must listen before.
    assert_eq!(lines.next().as_deref(), Some("ready"));
    // The far side's kernel reports memberships of its own, too.
    let igmp = std::thread::spawn(move || {
        lines.find(|line| line.starts_with(&OURS.to_string())).unwrap_or_default()
    });
    let mut pinged = None;
    let mut numbers: Vec<u32> = Vec::new();
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let now_ns = SystemClock.monotonic_ns();
        let mut control = Vec::new();
        for index in 0..port.rx_burst() {
            let bytes = port.frame(index).bytes;
            match datagram::parse(bytes) {
                Ok(Parsed::Udp(datagram)) if datagram.destination == GROUP => {
                    assert_eq!(*datagram.source.ip(), THEIRS);
                    numbers.push(u32::from_be_bytes(datagram.payload.try_into().unwrap()));
                }
                Ok(Parsed::Arp { .. } | Parsed::Igmp { .. }) => control.push(bytes.to_vec()),
                _ => {}
            }
        }
        for frame in control {
            host.handle(&frame, now_ns, &mut |frame| port.tx(frame));
        }
        host.poll(now_ns, &mut |frame| port.tx(frame));
        if pinged.is_none() {
            // The far side asks by ARP before it can send this.
            let send = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('10.91.0.1', 9))";
            pinged = Some(Far(link.command(&["python3", "-c", send]).spawn().unwrap()));
        }
        if numbers.len() >= 50 && igmp.is_finished() && host.counters().arp_replies > 0 {
            break;
        }
    }
    assert!(numbers.len() >= 50, "{} datagrams", numbers.len());
    assert!(numbers.is_sorted(), "in order: {numbers:?}");
    assert!(host.counters().arp_replies > 0, "{:?}", host.counters());
    let neighbours = link.far(&["ip", "neighbour", "show", &OURS.to_string()]);
    let mac = port.mac().0.map(|byte| format!("{byte:02x}")).join(":");
    assert!(neighbours.contains(&mac), "{neighbours} has not {mac}");
    drop(far);
    let report = igmp.join().unwrap();
    // RFC 3376, 4.2: version 3 report, one record, to exclude nothing, of the group.
    assert!(report.starts_with(&format!("{OURS} 22")) && report.contains("ef070707"), "{report}");
}
