//! A node on loopback, and an exchange that feeds it.

use super::process::{Process, field, metrics_page, start_node, tickplane};
use serde_json::Value;
use std::process::Stdio;

pub struct Rig {
    pub node: Process,
    pub grpc: String,
    pub metrics: String,
    groups: [String; 2],
    folder: tempfile::TempDir,
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
        Rig { node, grpc, metrics, groups, folder }
    }

    /// One that sends without an end, by these lines; `more` are further arguments.
    pub fn exchange(&self, line_b: bool, more: &[&str]) -> Process {
        let mut command = tickplane();
        let nowhere = "239.252.255.254:26477";
        let group_b = if line_b { &self.groups[1] } else { nowhere };
        command.arg("exchange").args(["--line-a", &self.groups[0], "--line-b", group_b]);
        command.args(["--instruments", "50", "--rate", "5000"]).args(more);
        Process(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.node.0), signal).unwrap();
    }

    /// Changes the configuration, and tells the node.
    pub fn reload(&self, from: &str, to: &str) {
        let file = self.folder.path().join("appliance.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        self.signal(rustix::process::Signal::HUP);
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = tickplane().args(arguments).args(["--json", "--server", &self.grpc]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    pub fn page(&self) -> String {
        metrics_page(&self.metrics)
    }
}
