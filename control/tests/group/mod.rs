//! Nodes of a group as processes, their folders, and the lines that feed them.

#![allow(dead_code, reason = "not every test that has a group needs all of this")]

pub mod log;

use crate::process::{Process, field, metrics_page, start_node_in, tickplane_in, wait_for};
use dataplane::cache::reader::{Reader, State};
use dataplane::cache::tick::{Kind, Quote};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::region::RegionMapping;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub const LOG_TICKS: u64 = 65_536;

/// Nodes, their folders, and the lines that feed them.
pub struct Rig {
    pub folder: tempfile::TempDir,
    pub groups: [String; 2],
    /// What the feed speaks, on how many lines, and what else its section says.
    pub feed: (&'static str, usize, &'static str),
    /// What the name of each node's network namespace begins with; `None` = all are where the test is.
    pub netns: Option<String>,
}

pub struct Node {
    pub name: String,
    netns: Option<String>,
    pub process: Process,
    pub server: String,
    /// The line by which it said that it runs.
    pub line: String,
    pub region: PathBuf,
}

impl Rig {
    pub fn new(number: u32) -> Rig {
        let process = std::process::id() * 8 + number;
        let groups = [0, 1]
            .map(|line| format!("239.253.{}.{}:26477", process >> 7 & 0xff, (process & 0x7f) << 1 | line));
        Rig {
            folder: tempfile::tempdir().unwrap(),
            groups,
            feed: ("itch50", 2, "orders_max = 100000"),
            netns: None,
        }
    }

    fn netns_of(&self, name: &str) -> Option<String> {
        self.netns.as_ref().map(|netns| format!("{netns}{name}"))
    }

    /// What an exchange and nodes take for their lines.
    fn interface(&self) -> &'static str {
        if self.netns.is_some() { "eth0" } else { "127.0.0.1" }
    }

    pub fn start(&self, name: &str, log_ticks: u64, replica: &str) -> Node {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (region, state) = (folder.join("region"), folder.join("state"));
        let (protocol, lines, more) = self.feed;
        let (netns, interface) = (self.netns_of(name), self.interface());
        let line = |(name, group): (&str, &String)| {
            format!("[[feeds.lines]]\nname = \"{name}\"\nport = \"lo\"\ngroup = \"{group}\"\n")
        };
        let lines: String = ["A", "B"].into_iter().zip(&self.groups).take(lines).map(line).collect();
        let text = format!(
            "node = \"{name}\"\n[region]\npath = {region:?}\ninstruments_max = 16384\nlog_ticks = {log_ticks}\n\
             [worker]\nvalid_for_ms = 1000\n[[ports]]\nname = \"lo\"\nkind = \"udp\"\ninterface = \"{interface}\"\n\
             [[feeds]]\nname = \"feed\"\nprotocol = \"{protocol}\"\n{more}\n{lines}[grpc]\nlisten = \"127.0.0.1:0\"\n\
             [metrics]\nlisten = \"127.0.0.1:0\"\n[replica]\nstate = {state:?}\n{replica}\n"
        );
        let (process, line) = start_node_in(netns.as_deref(), &folder, &text);
        let server = format!("http://{}", field(&line, "grpc").unwrap());
        Node { name: name.to_owned(), netns, process, server, line, region }
    }

    /// A primary whose peers may be any of those that tests start.
    pub fn primary(&self, listen: &str) -> Node {
        let peers =
            ["early", "late", "one", "two", "other", "good"].map(|name| format!("{{ name = \"{name}\" }}"));
        let replica = format!(
            "role = \"primary\"\nlisten = \"{listen}\"\nvalid_for_ms = 400\nwindow_ticks = 4096\npeers = [{}]",
            peers.join(", ")
        );
        self.start("primary", LOG_TICKS, &replica)
    }

    /// A copy, which never takes over.
    pub fn standby(&self, name: &str, primary: &str) -> Node {
        self.start(name, LOG_TICKS, &copy_of(primary))
    }

    /// Nodes that may all be the primary, each of which knows the others; the first is.
    pub fn group(&self, names: &[&str]) -> Vec<Node> {
        let start = |role: &str, name: &str| {
            let replica = format!("role = \"{role}\"\nlisten = \"127.0.0.1:0\"\nvalid_for_ms = 400\n");
            self.start(name, LOG_TICKS, &replica)
        };
        let mut nodes = vec![start("primary", names[0])];
        for name in &names[1..] {
            let first = format!("peers = [{{ name = {:?}, address = {:?} }}]", names[0], nodes[0].replica());
            let replica =
                format!("role = \"standby\"\nlisten = \"127.0.0.1:0\"\nvalid_for_ms = 400\n{first}");
            nodes.push(self.start(name, LOG_TICKS, &replica));
        }
        for node in &nodes {
            for peer in nodes.iter().filter(|peer| peer.name != node.name) {
                node.obeys(&["peer", "add", &peer.name, peer.replica()]);
            }
        }
        for node in &nodes[1..] {
            node.wait_cluster("a standby is level", |seen| {
                seen["level"] == true && seen["source"]["connected"] == true
            });
        }
        nodes
    }

    /// One of the nodes `names`, which elect their primary in the etcd at `endpoint`; `more` goes on in `[replica.etcd]`.
    pub fn elected(&self, name: &str, names: &[&str], listen: &str, endpoint: &str, more: &str) -> Node {
        let peers = names.iter().filter(|peer| **peer != name);
        let peers: Vec<String> = peers.map(|peer| format!("{{ name = \"{peer}\" }}")).collect();
        // Of their own network, where nobody else is.
        let plaintext = if self.netns.is_some() { "plaintext = true\n" } else { "" };
        let replica = format!(
            "role = \"elected\"\nlisten = \"{listen}\"\n{plaintext}valid_for_ms = 400\npeers = [{}]\n[replica.etcd]\n\
             endpoints = [{endpoint:?}]\ngroup = \"g\"\n{more}",
            peers.join(", "),
        );
        self.start(name, LOG_TICKS, &replica)
    }

    pub fn exchange(&self, session: &str, dump: &Path) -> Process {
        self.exchange_at(10_000, session, dump)
    }

    /// The same at so many messages a second.
    pub fn exchange_at(&self, rate: u32, session: &str, dump: &Path) -> Process {
        let mut command = tickplane_in(self.netns_of("exchange").as_deref());
        command.arg("exchange").args(["--line-a", &self.groups[0], "--line-b", &self.groups[1]]);
        command.args(["--interface", self.interface(), "--rate", &rate.to_string()]);
        command.args(["--session", session, "--instruments", "50", "--messages", "20000"]);
        command.args(["--loss", "0.01", "--linger"]).arg("--dump").arg(dump);
        Process(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    pub fn dump(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub fn copy_of(primary: &str) -> String {
    format!("role = \"standby\"\npeers = [{{ name = \"primary\", address = \"{primary}\" }}]")
}

impl Node {
    /// Runs a command at this node, which must succeed.
    pub fn obeys(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        assert!(output.status.success(), "{arguments:?} at {}: {output:?}", self.name);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command at this node, which must be refused, and returns why.
    pub fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        assert!(!output.status.success(), "{arguments:?} at {}: {output:?}", self.name);
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn client(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = tickplane_in(self.netns.as_deref());
        command.args(arguments).args(["--server", &self.server]).output().unwrap()
    }

    /// Where its standbys connect to.
    pub fn replica(&self) -> &str {
        field(&self.line, "replica").expect("a primary says where it listens")
    }

    pub fn cluster(&self) -> Value {
        serde_json::from_slice(&self.client(&["cluster", "--json"]).stdout).unwrap_or_default()
    }

    /// Waits until `tickplane cluster` says so.
    pub fn wait_cluster(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        wait_for(what, || {
            last = self.cluster();
            is_so(&last).then(|| last.clone())
        })
    }

    /// The positions of rows in the node's log, from the one to the other, both included.
    pub fn rows_between(&self, from: u64, to: u64) -> Vec<u64> {
        let mapping = RegionMapping::open(&self.region).unwrap();
        let reader = Reader::open(mapping.cells()).unwrap();
        let is_row = |position: &u64| usize::from(reader.log_tick(*position).unwrap().kind) < Kind::ROWS;
        (from..=to).filter(is_row).collect()
    }

    /// Every row is what the exchange's own book says, and live.
    pub fn is_right(&self, dump: &Path) -> bool {
        dump.exists() && self.client(&["verify", dump.to_str().unwrap()]).status.success()
    }

    pub fn signal(&mut self, signal: rustix::process::Signal) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::kill_process(pid, signal).unwrap();
        wait_for("the process ends", || self.process.0.try_wait().unwrap())
    }

    /// Stops the process, or lets it go on.
    pub fn pause(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn kill(&mut self) {
        self.signal(rustix::process::Signal::KILL);
    }

    pub fn metrics(&self) -> String {
        metrics_page(field(&self.line, "metrics").unwrap())
    }
}

/// The first of three nodes, the primary, is killed, the second takes its place, and both that are left are right in the end.
pub fn fail_over(nodes: &mut [Node], dump: &Path) {
    nodes[0].kill();
    nodes[1].wait_cluster("the loss is told", |seen| seen["source"]["connected"] == false);
    assert!(nodes[1].obeys(&["promote"]).contains("the node is the primary; term 2"));
    nodes[2].wait_cluster("the third follows", |seen| {
        seen["term"] == 2 && seen["level"] == true && seen["source"]["name"] == nodes[1].name.as_str()
    });
    for node in &nodes[1..] {
        wait_for("the node is the exchange's book", || node.is_right(dump).then_some(()));
    }
}

/// What a node says of one of its peers.
pub fn peer<'s>(seen: &'s Value, name: &str) -> &'s Value {
    let peers = seen["peers"].as_array().map_or(&[][..], Vec::as_slice);
    peers.iter().find(|peer| peer["name"] == name).unwrap_or(&Value::Null)
}

/// Both regions have the same rows at the same positions, and their logs the same ticks where both have them; returns
/// how many rows and ticks were compared.
pub fn compare(primary: &Node, standby: &Node) -> Option<(usize, usize)> {
    let mappings = [primary, standby].map(|node| RegionMapping::open(&node.region).unwrap());
    let [primary, standby] = mappings.each_ref().map(|mapping| Reader::open(mapping.cells()).unwrap());
    let tail = primary.tail();
    if standby.tail() != tail || standby.image_rows() != primary.image_rows() {
        return None;
    }
    let mut rows = 0;
    for index in 0..primary.image_rows() {
        let row = primary.image_row(index);
        if standby.image_row(index) != row {
            return None;
        }
        rows += usize::from(row.is_some());
    }
    let both = (tail.saturating_sub(LOG_TICKS)..tail)
        .filter_map(|position| Some((primary.log_tick(position)?, standby.log_tick(position)?)));
    let mut ticks = 0;
    for (ours, theirs) in both {
        assert_eq!(ours, theirs);
        ticks += 1;
    }
    (primary.tail() == tail).then_some((rows, ticks))
}

/// Quotes of the region that may be believed, and all of them.
pub fn live_of(reader: &Reader<'_>) -> (usize, usize) {
    let now_ns = SystemClock.monotonic_ns();
    let rows: Vec<_> =
        (0..reader.instruments()).filter_map(|index| reader.row::<Quote>(index, now_ns)).collect();
    (rows.iter().filter(|row| row.state == State::Live).count(), rows.len())
}

pub fn roles(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| node.cluster()["role"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until one of these nodes is the primary and the others are level with it; returns which.
pub fn primary_of(nodes: &[Node], among: &[usize]) -> usize {
    wait_for("one leads, and the others are level with it", || {
        let seen: Vec<_> = among.iter().map(|index| (*index, nodes[*index].cluster())).collect();
        let (primary, of_primary) = seen.iter().find(|(_, seen)| seen["role"] == "primary")?;
        let follows = |seen: &serde_json::Value| {
            seen["role"] == "standby"
                && seen["level"] == true
                && seen["source"]["connected"] == true
                && seen["term"] == of_primary["term"]
        };
        let all = seen.iter().filter(|(index, _)| index != primary).all(|(_, seen)| follows(seen));
        all.then_some(*primary)
    })
}

pub fn is_right(node: &Node, dump: &std::path::Path) {
    wait_for(&format!("{} is the exchange's book", node.name), || node.is_right(dump).then_some(()));
}
