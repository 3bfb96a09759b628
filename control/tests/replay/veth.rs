//! Whole frames onto one end of a veth pair, in a network namespace of its own, and datagrams on an interface that does not
//! segment them. Needs root, and TICKPLANE_TEST_ROOT=1.

use super::rig::{frame, pcap};
use dataplane::wire::datagram;
use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::process::{Child, Command, Stdio};

const GROUPS: [&str; 2] = ["239.7.7.7:7777", "239.7.7.8:7777"];
const ELSEWHERE: &str = "239.9.9.9:9999";

/// A namespace with a veth pair in it; both go when it is dropped.
struct Link {
    netns: String,
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Link {
    /// `None` where tests may not do that.
    fn new(name: &str) -> Option<Link> {
        if std::env::var_os("TICKPLANE_TEST_ROOT").is_none_or(|value| value != "1") {
            eprintln!("skipped: laying a veth pair needs root, and TICKPLANE_TEST_ROOT=1");
            return None;
        }
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        assert!(is_root, "root was promised");
        let link = Link { netns: format!("tp{name}{}", std::process::id()) };
        ip(&["netns", "add", &link.netns]);
        ip(&["-n", &link.netns, "link", "add", "near", "type", "veth", "peer", "name", "far"]);
        for end in ["near", "far"] {
            ip(&["-n", &link.netns, "link", "set", end, "addrgenmode", "none"]);
            ip(&["-n", &link.netns, "link", "set", end, "up"]);
        }
        Some(link)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns, program]);
        command
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.netns]).output();
    }
}

/// Who listens at the far end; ends with the test.
struct Far(Child);

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Prints so many frames of our source address; the outermost tag comes beside the frame (packet(7), PACKET_AUXDATA).
const FAR_SIDE: &str = r#"
import socket, struct, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.setsockopt(263, 8, 1)
raw.bind(("far", 0))
raw.settimeout(30)
print("ready", flush=True)
left = int(sys.argv[1])
while left > 0:
    frame, beside, _, _ = raw.recvmsg(70000, 1000)
    status, _, _, _, _, tag, kind = struct.unpack("IIIHHHH", beside[0][2][:20])
    if status & 16:
        frame = frame[:12] + struct.pack(">HH", kind if status & 64 else 0x8100, tag) + frame[12:]
    if frame[6:12] == b"\x02\0\0\0\0\1":
        print(frame.hex(), flush=True)
        left -= 1
"#;

/// Frames of many kinds; the first and the third go to the two groups.
fn frames() -> Vec<Vec<u8>> {
    let head = |kind: [u8; 2]| [&[0x01, 0, 0x5E, 7, 7, 7, 2, 0, 0, 0, 0, 1][..], &kind].concat();
    let mut tagged_twice = frame(GROUPS[1].parse().unwrap(), b"two tags");
    tagged_twice.splice(12..12, [0x88, 0xA8, 0, 9]);
    let mut untagged = frame(GROUPS[0].parse().unwrap(), b"no tag, and no checksum");
    untagged.drain(12..16);
    untagged[40..42].fill(0);
    vec![
        frame(GROUPS[0].parse().unwrap(), &[0xAB; 1_400]),
        [head([0x08, 0x06]), vec![0; 46]].concat(),
        tagged_twice,
        [head([0x86, 0xDD]), vec![0x60; 60]].concat(),
        untagged,
        [head([0x12, 0x34]), b"a kind that nobody knows".to_vec()].concat(),
    ]
}

#[test]
fn frames_arrive_byte_by_byte_as_they_were_recorded() {
    let Some(link) = Link::new("frames") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frames.pcap");
    let frames = frames();
    std::fs::write(&file, pcap(&frames)).unwrap();
    let replay = |options: &[&str], count: usize| {
        let mut far = link.command("python3");
        far.args(["-c", FAR_SIDE, &count.to_string()]).stdout(Stdio::piped());
        let mut far = Far(far.spawn().expect("python3 is installed"));
        let mut lines = BufReader::new(far.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert_eq!(lines.next().as_deref(), Some("ready"));
        let mut command = link.command(env!("CARGO_BIN_EXE_tickplane"));
        command.arg("replay").arg(&file).args(["--frames", "--interface", "near", "--json"]).args(options);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (lines.collect::<Vec<_>>(), summary)
    };
    let hex = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();

    for pace in ["--flat-out", "--pace=original"] {
        let (arrived, summary) = replay(&[pace], frames.len());
        assert_eq!(arrived, frames.iter().map(hex).collect::<Vec<_>>());
        assert_eq!((&summary["packets"], &summary["other_frames"]), (&6.into(), &3.into()));
    }

    let elsewhere: SocketAddrV4 = ELSEWHERE.parse().unwrap();
    let mut changed = frames.clone();
    for index in [0, 4] {
        datagram::readdress(&mut changed[index], elsewhere).unwrap();
        assert_ne!(changed[index], frames[index]);
    }
    let (arrived, _) = replay(&["--map", &format!("A={ELSEWHERE}")], frames.len());
    assert_eq!(arrived, changed.iter().map(hex).collect::<Vec<_>>());

    let (arrived, summary) = replay(&["--line", GROUPS[1], "--loop", "2"], 2);
    assert_eq!(arrived, [hex(&frames[2]), hex(&frames[2])]);
    assert_eq!(summary["not_sent"]["not_selected"], 4);
}

#[test]
fn datagrams_that_the_interface_does_not_segment_go_one_by_one() {
    let Some(link) = Link::new("gso") else { return };
    ip(&["-n", &link.netns, "link", "set", "lo", "up", "mtu", "1000"]);
    ip(&["-n", &link.netns, "route", "add", "224.0.0.0/4", "dev", "lo"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.pcap");
    let long = frame(GROUPS[0].parse().unwrap(), &[0xAB; 1_400]);
    std::fs::write(&file, pcap(&vec![long; 10])).unwrap();
    let replay = |options: &[&str]| {
        let mut command = link.command(env!("CARGO_BIN_EXE_tickplane"));
        command.arg("replay").arg(&file).args(["--flat-out", "--json"]).args(options).output().unwrap()
    };
    let output = replay(&[]);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && warning.contains("one by one"), "{warning}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["packets"], &summary["segments"]), (&10.into(), &0.into()));
    // In fragments they go, but not as frames.
    let error = String::from_utf8(replay(&["--frames"]).stderr).unwrap();
    assert!(error.contains("refused every packet") && error.contains("too long"), "{error}");
}
