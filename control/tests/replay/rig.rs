//! Captures made here, and who listens to them on loopback.

use clap::Parser;
use control::replay::{ReplayArgs, ReplayError, Summary, run};
use dataplane::port::{Membership, Port};
use dataplane::wire::datagram::{self, Datagram};
use dataplane::wire::ethernet::{MacAddress, multicast_mac};
use drivers::interface::Interface;
use drivers::udp::{Subscription, UdpConfig, UdpPort};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(60);
/// 2024-01-02 14:30 UTC.
const START_NS: u64 = 1_704_205_800_000_000_000;
pub const STEP_NS: u64 = 100_000;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: ReplayArgs,
}

/// A group that nobody else uses, and a port that nobody was bound to.
pub fn group() -> SocketAddrV4 {
    static NUMBER: AtomicU8 = AtomicU8::new(0);
    let pid = std::process::id();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 60;
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    SocketAddrV4::new(Ipv4Addr::new(239, 192 + number, (pid >> 8) as u8, pid as u8), port)
}

pub fn frame(destination: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let datagram = Datagram {
        vlan: Some(7),
        source: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4_000),
        destination,
        payload,
    };
    let mut frame = vec![0; payload.len() + 100];
    let macs = (MacAddress([2, 0, 0, 0, 0, 1]), multicast_mac(*destination.ip()));
    let length = datagram::write(&datagram, macs, 1, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

/// A capture of these frames, `STEP_NS` apart.
pub fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xA1B2_3C4D, 4 << 16 | 2, 0, 0, 65_535, 1]);
    for (index, frame) in (0..).zip(frames) {
        let stamp_ns: u64 = START_NS + index * STEP_NS;
        let length = frame.len() as u32;
        let stamp = [(stamp_ns / 1_000_000_000) as u32, (stamp_ns % 1_000_000_000) as u32];
        file.extend(words(&[stamp[0], stamp[1], length, length]));
        file.extend(frame);
    }
    file
}

/// A capture file, two lines in it, and who listens to them.
pub struct Rig {
    _folder: tempfile::TempDir,
    pub file: PathBuf,
    pub groups: [SocketAddrV4; 2],
    /// What the file holds for each line.
    pub payloads: [Vec<Vec<u8>>; 2],
    pub port: UdpPort,
}

pub fn listen(groups: &[SocketAddrV4]) -> UdpPort {
    let subscription = |group: &SocketAddrV4| Subscription {
        membership: Membership { group: *group.ip(), source: None },
        port: group.port(),
    };
    let interface = Interface::find("127.0.0.1").unwrap();
    let subscriptions = groups.iter().map(subscription).collect();
    UdpPort::new(&UdpConfig { subscriptions, ..UdpConfig::new(interface) }).unwrap()
}

impl Rig {
    /// Packets of each line, by turns but for runs of a few, of few lengths; in between traffic of other kinds.
    pub fn new(packets: u8) -> Rig {
        let groups = [group(), group()];
        let mut payloads = [Vec::new(), Vec::new()];
        let mut frames = Vec::new();
        for number in 0..packets {
            for line in [0, 1] {
                let length = 20 + usize::from(number / 8 % 4) * 60;
                let line = if number.is_multiple_of(4) { line } else { usize::from(number / 4 % 2) };
                let mut payload = vec![number; length];
                payload[0] = payloads[line].len() as u8;
                frames.push(frame(groups[line], &payload));
                payloads[line].push(payload);
            }
            if number == 1 {
                frames.push(frame(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9), b"unicast"));
                frames.push([&[0xFF; 6][..], &[2, 0, 0, 0, 0, 1, 0x08, 0x06], &[0; 10]].concat());
                frames.push(vec![1, 2, 3]);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("capture.pcap");
        std::fs::write(&file, pcap(&frames)).unwrap();
        Rig { _folder: folder, file, groups, payloads, port: listen(&groups) }
    }

    pub fn args(&self, options: &str) -> ReplayArgs {
        let words = ["replay", self.file.to_str().unwrap(), "--quiet"];
        Command::parse_from(words.into_iter().chain(options.split_whitespace())).args
    }

    pub fn run(&self, options: &str) -> Result<Summary, ReplayError> {
        run(&self.args(options), &AtomicBool::new(false))
    }

    pub fn receive(&mut self, count: u64) -> [Vec<Vec<u8>>; 2] {
        let got = receive(&mut self.port, &self.groups, count as usize);
        assert_eq!(self.port.rx_burst(), 0, "no more than that");
        got
    }
}

/// What arrives for each of two groups, until there are `count`.
pub fn receive(port: &mut UdpPort, groups: &[SocketAddrV4; 2], count: usize) -> [Vec<Vec<u8>>; 2] {
    let start = Instant::now();
    let mut got = [Vec::new(), Vec::new()];
    let mut left = count;
    while left > 0 && start.elapsed() < PATIENCE {
        let burst = port.rx_burst();
        if burst == 0 {
            port.wait(Duration::from_secs(1));
        }
        for frame in (0..burst).map(|index| port.frame(index)) {
            let line = groups.iter().position(|group| *group == frame.destination).unwrap();
            got[line].push(frame.bytes.to_vec());
        }
        left = left.saturating_sub(burst);
    }
    assert_eq!(got[0].len() + got[1].len(), count);
    got
}
