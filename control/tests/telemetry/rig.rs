//! A node on loopback.

use super::process::{Process, field, start_node, tickplane};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

pub struct Rig {
    pub node: Process,
    pub grpc: String,
    pub metrics: String,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// `number` keeps the tests' groups apart; `more` comes to the end of the configuration.
    pub fn start(number: u32, worker: &str, more: &str) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let region = folder.path().join("region");
        let process = std::process::id() * 8 + number;
        let groups = [0, 1]
            .map(|line| format!("239.253.{}.{}:26477", process >> 7 & 0xff, (process & 0x7f) << 1 | line));
        let text = format!(
            "node = \"test\"\n[region]\npath = {region:?}\ninstruments_max = 1000\nlog_ticks = 65536\n\
             [worker]\n{worker}\n[[ports]]\nname = \"lo\"\nkind = \"udp\"\ninterface = \"127.0.0.1\"\n\
             [[feeds]]\nname = \"feed\"\nprotocol = \"itch50\"\norders_max = 100000\nsilence_ms = 500\n\
             [[feeds.lines]]\nname = \"A\"\nport = \"lo\"\ngroup = \"{}\"\n\
             [[feeds.lines]]\nname = \"B\"\nport = \"lo\"\ngroup = \"{}\"\n[grpc]\nlisten = \"127.0.0.1:0\"\n\
             [metrics]\nlisten = \"127.0.0.1:0\"\n{more}\n",
            groups[0], groups[1]
        );
        let (node, line) = start_node(folder.path(), &text);
        let grpc = format!("http://{}", field(&line, "grpc").unwrap());
        let metrics = field(&line, "metrics").unwrap().to_owned();
        Rig { node, grpc, metrics, _folder: folder }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.node.0), signal).unwrap();
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = tickplane().args(arguments).args(["--json", "--server", &self.grpc]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    pub fn page(&self) -> String {
        let mut page = TcpStream::connect(&self.metrics).unwrap();
        page.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        page.read_to_string(&mut text).unwrap();
        text
    }
}
