//! The DPDK port on a real network interface: one end of a veth pair, a kernel with its sockets on the other, in a network
//! namespace of its own. Needs root.

use dataplane::cache::cell::Cell;
use dataplane::cache::region::Layout;
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Protocol};
use dataplane::hint::NoPrefetch;
use dataplane::host::{Host, HostConfig, IgmpVersion};
use dataplane::port::{Membership, Port};
use dataplane::time::Clock;
use dataplane::wire::datagram::{self, Parsed};
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker};
use drivers::clock::SystemClock;
use drivers::dpdk::{DpdkConfig, DpdkError, DpdkPort, Eal, EalConfig, EalMemory};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 7, 7, 7), 7_777);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 2);
/// What the driver's own sizes would take is more than the tests' memory.
const AF_PACKET: &str = ",blocksz=65536,framesz=2048,framecnt=512";
const PATIENCE: Duration = Duration::from_secs(30);

/// DPDK starts once a process; the tests are its threads. `None` = not root.
fn eal() -> Option<Arc<Eal>> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        eprintln!("skipped: laying a veth pair needs root");
        assert!(std::env::var_os("TICKPLANE_TEST_ROOT").is_none(), "root was promised");
        return None;
    }
    static EAL: OnceLock<Arc<Eal>> = OnceLock::new();
    let config = EalConfig { memory: EalMemory::NoHuge { megabytes: 512 }, pci_addresses: Vec::new() };
    Some(EAL.get_or_init(|| Eal::start(&config).unwrap_or_else(|error| panic!("{error}"))).clone())
}

/// A veth pair, its far end in a namespace; both go when it is dropped.
struct Link {
    netns: String,
    near: String,
    far: String,
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Link {
    fn new() -> Link {
        static LINKS: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), LINKS.fetch_add(1, Ordering::Relaxed));
        let (netns, near, far) = (format!("tpt{name}"), format!("tpn{name}"), format!("tpf{name}"));
        ip(&["netns", "add", &netns]);
        let link = Link { netns: netns.clone(), near: near.clone(), far: far.clone() };
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &netns]);
        // DPDK owns this end: the kernel should say nothing by it. Where it has no IPv6, it does not.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{near}/disable_ipv6"), "1");
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

/// The DPDK devices that poll a kernel interface, each on a link of its own.
fn on_each_device(check: impl Fn(&Link, DpdkPort)) {
    let Some(eal) = eal() else { return };
    let mut opened = 0;
    for (driver, options) in [("net_af_xdp", ""), ("net_af_packet", AF_PACKET)] {
        let link = Link::new();
        match open(&eal, &link, driver, options, 1) {
            Ok(port) => {
                opened += 1;
                eprintln!("{driver}: MAC {:?}, multicast by {:?}", port.mac(), port.multicast_filter());
                check(&link, port);
            }
            Err(error) => eprintln!("{driver} is not to be had here: {error}"),
        }
    }
    assert!(opened > 0, "neither AF_XDP nor af_packet");
}

fn open(
    eal: &Arc<Eal>,
    link: &Link,
    driver: &str,
    options: &str,
    rx_queues: u16,
) -> Result<DpdkPort, DpdkError> {
    static DEVICES: AtomicU32 = AtomicU32::new(0);
    let number = DEVICES.fetch_add(1, Ordering::Relaxed);
    let device = format!("{driver}{number},iface={}{options}", link.near);
    DpdkPort::open(eal, &DpdkConfig { mbufs: 8_191, rx_queues, ..DpdkConfig::new(&device) })
}

#[test]
fn multicast_arrives_igmp_is_seen_and_arp_answered() {
    on_each_device(converse);
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

const VLAN: u16 = 42;

/// Sends to the group and asks for our address, by two VLANs and without one: heartbeats of a feed by the first VLAN, what is
/// none by the others. Prints every frame that comes: sender, VLAN, and the rest, in hex. It makes its frames itself, for
/// not every kernel knows VLANs.
const FAR_SIDE_OF_VLANS: &str = r#"
import socket, struct, sys, threading, time
interface, group, port, ours = sys.argv[1], socket.inet_aton(sys.argv[2]), int(sys.argv[3]), socket.inet_aton(sys.argv[4])
# The kernel takes tags off before it shows a frame, and tells them beside it.
SOL_PACKET, AUXDATA, VLAN_VALID, OUTGOING = 263, 8, 1 << 4, 4
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.setsockopt(SOL_PACKET, AUXDATA, 1)
tap.bind((interface, 0))
mac = tap.getsockname()[4]
def listen():
    while True:
        frame, notes, _, address = tap.recvmsg(2048, 64)
        if address[2] == OUTGOING: continue
        status, _, _, _, _, tag, _ = struct.unpack("IIIHHHH", notes[0][2])
        print(frame[6:12].hex(), tag & 0xfff if status & VLAN_VALID else "untagged", frame[12:].hex(), flush=True)
def send(to, vlan, ethertype, packet):
    tag = struct.pack(">HH", 0x8100, vlan) if vlan else b""
    tap.send(to + mac + tag + struct.pack(">H", ethertype) + packet)
def datagram(source, payload):
    header = struct.pack(">BBHIBBH", 0x45, 0, 28 + len(payload), 0, 1, 17, 0) + source + group
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xffff) + (total >> 16)
    header = header[:10] + struct.pack(">H", ~((total & 0xffff) + (total >> 16)) & 0xffff) + header[12:]
    return header + struct.pack(">HHHH", 5000, port, 8 + len(payload), 0) + payload
threading.Thread(target=listen, daemon=True).start()
print("ready", flush=True)
heartbeat = b"VLAN000042" + struct.pack(">QH", 1, 0)
while True:
    for vlan, payload in (42, heartbeat), (43, b"other"), (None, b"none"):
        source = socket.inet_aton("10.91.0.%d" % (vlan or 2))
        send(b"\x01\x00\x5e" + bytes([group[1] & 127]) + group[2:], vlan, 0x0800, datagram(source, payload))
        request = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + source + bytes(6) + ours
        send(b"\xff" * 6, vlan, 0x0806, request)
    time.sleep(0.01)
"#;

#[test]
fn by_a_vlan_its_data_arrives_and_all_that_is_sent_is_tagged() {
    on_each_device(converse_by_vlan);
}

fn converse_by_vlan(link: &Link, port: DpdkPort) {
    let (group, udp_port, ours) = (GROUP.ip().to_string(), GROUP.port().to_string(), OURS.to_string());
    let mut far =
        link.command(&["python3", "-u", "-c", FAR_SIDE_OF_VLANS, &link.far, &group, &udp_port, &ours]);
    let mut far = Far(far.stdout(Stdio::piped()).spawn().expect("python3 is installed"));
    let mut lines = BufReader::new(far.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    let from_us = port.mac().0.map(|byte| format!("{byte:02x}")).concat() + " ";
    let (sender, seen) = mpsc::channel();
    std::thread::spawn(move || {
        lines
            .filter_map(|line| Some(line.strip_prefix(&from_us)?.to_owned()))
            .try_for_each(|line| sender.send(line))
    });

    let layout = Layout { instruments: 1, feeds: 1, log_ticks: 64, bursts: 1 };
    let cells: Vec<Cell> = (0..layout.cells()).map(|_| Cell::default()).collect();
    let mut worker = worker_on_vlan(port, Writer::format(&cells, layout, 1).unwrap());
    let telemetry = worker.telemetry().clone();
    let (line, port) = (&telemetry.feeds[0].lines.lines[0], &telemetry.ports[0]);
    let mut frames: Vec<String> = Vec::new();
    let started = Instant::now();
    while started.elapsed() < PATIENCE
        && !(line.heartbeats.get() >= 50
            && port.other_vlan.get() >= 100
            && frames.iter().any(|frame| is_report(frame))
            && frames.iter().any(|frame| is_arp_reply(frame)))
    {
        worker.do_work();
        frames.extend(seen.try_iter());
    }
    drop(far);
    frames.extend(seen.iter());
    assert!(line.heartbeats.get() >= 50 && port.other_vlan.get() >= 100, "{line:?} {port:?}");
    assert_eq!(line.packets.get(), line.heartbeats.get(), "nothing but what its own VLAN sends: {line:?}");
    assert!(frames.iter().all(|frame| frame.starts_with("42 ")), "{frames:?}");
    let mut reports = frames.iter().filter(|frame| is_report(frame)).peekable();
    assert!(reports.peek().is_some() && reports.all(|report| report.contains("ef070707")), "{frames:?}");
    let mut replies = frames.iter().filter(|frame| is_arp_reply(frame)).peekable();
    // Sender and target address.
    let to_vlan = |reply: &String| reply[35..].starts_with("0a5b0001") && reply[55..].starts_with("0a5b002a");
    assert!(
        replies.peek().is_some() && replies.all(to_vlan),
        "only who asks by this VLAN is answered: {frames:?}"
    );
}

/// IPv4 on our VLAN; behind its 20 bytes and 4 of options (router alert) a version 3 report (RFC 3376, 4.2).
fn is_report(frame: &str) -> bool {
    frame.starts_with("42 080046") && frame[55..].starts_with("2200")
}

/// ARP on our VLAN, over Ethernet for IPv4, operation 2 (RFC 826).
fn is_arp_reply(frame: &str) -> bool {
    frame.starts_with("42 08060001080006040002")
}

fn worker_on_vlan(port: DpdkPort, writer: Writer<'_>) -> Worker<'_, DpdkPort, SystemClock, NoPrefetch> {
    let host =
        HostConfig { mac: port.mac(), address: OURS, vlan: Some(VLAN), igmp: IgmpVersion::V3, seed: 1 };
    let host = Host::new(&host, &[Membership { group: *GROUP.ip(), source: None }]).unwrap();
    let feed = FeedSetup {
        arbiter: ArbiterConfig::default(),
        lines: vec![LineSetup { port: 0, destination: GROUP, source: None }],
        protocol: Protocol::Itch50 { orders_max: 1, midnight: Box::new(|_| 0) },
    };
    let port = PortSetup { port, host: Some(host), vlan: Some(VLAN) };
    Worker::new(vec![port], vec![feed], writer, SystemClock, 1_000_000_000).unwrap()
}

/// Sends numbered datagrams to the group by as many sockets as are asked for, which the kernel takes for so many flows.
const FAR_SIDE_OF_FLOWS: &str = r#"
import socket, struct, sys, time
flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(int(sys.argv[3]))]
number = 0
while True:
    for index, flow in enumerate(flows):
        flow.sendto(struct.pack(">II", index, number), (sys.argv[1], int(sys.argv[2])))
    number += 1
    time.sleep(0.02)
"#;

#[test]
fn flows_come_by_two_queues_each_datagram_once() {
    const FLOWS: usize = 32;
    let Some(eal) = eal() else { return };
    let link = Link::new();
    let mut port = open(&eal, &link, "net_af_packet", &format!("{AF_PACKET},qpairs=2"), 2).unwrap();
    let (group, udp_port, flows) = (GROUP.ip().to_string(), GROUP.port().to_string(), FLOWS.to_string());
    let mut far = link.command(&["python3", "-u", "-c", FAR_SIDE_OF_FLOWS, &group, &udp_port, &flows]);
    let _far = Far(far.spawn().expect("python3 is installed"));
    let mut numbers = vec![Vec::new(); FLOWS];
    let started = Instant::now();
    while started.elapsed() < PATIENCE && numbers.iter().any(|numbers| numbers.len() < 50) {
        for index in 0..port.rx_burst() {
            let Ok(Parsed::Udp(datagram)) = datagram::parse(port.frame(index).bytes) else { continue };
            if datagram.destination == GROUP {
                let word = |at: usize| u32::from_be_bytes(datagram.payload[at..at + 4].try_into().unwrap());
                numbers[word(0) as usize].push(word(4));
            }
        }
    }
    // The kernel spreads the flows by their hash; what a queue has no room for goes to the other, so what comes first tells.
    for (flow, numbers) in numbers.iter().enumerate() {
        assert!(numbers.len() >= 50, "flow {flow}: {} datagrams", numbers.len());
        assert_eq!(numbers[0], 0, "flow {flow} is of a queue that is not polled: {numbers:?}");
        assert!(numbers.is_sorted_by(|one, next| one < next), "flow {flow}: {numbers:?}");
    }
}
