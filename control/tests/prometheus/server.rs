//! A Prometheus server of the test's own, and what it says over HTTP.

use super::process::{Process, wait_for};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

/// Listening, as /proc/net/tcp tells it (TCP_LISTEN of the kernel's tcp_states.h).
const LISTEN: &str = "0A";

pub struct Server {
    _process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts one on `prometheus.yml` in `folder`, where it also keeps what it scrapes.
    pub fn start(folder: &Path) -> Server {
        let log = folder.join("prometheus.log");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        // It does not say which port it got; the kernel does.
        command.arg("--web.listen-address=127.0.0.1:0").stderr(File::create(&log).unwrap());
        let mut process = Process(command.spawn().unwrap());
        let address = wait_for("Prometheus listens", || {
            if process.0.try_wait().unwrap().is_some() {
                panic!("Prometheus ended: {}", std::fs::read_to_string(&log).unwrap());
            }
            listens_at(process.0.id())
        });
        Server { _process: process, address }
    }

    /// What the API answers; `None` = nothing yet.
    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        // Of HTTP/1.0 a body comes in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// All its alerting rules; `None` = they were not all evaluated yet.
    pub fn rules(&self) -> Option<Vec<Value>> {
        let groups = self.get("/api/v1/rules?type=alert")?;
        let rules = groups["groups"].as_array()?.iter().flat_map(|group| group["rules"].as_array());
        let rules: Vec<Value> = rules.flatten().cloned().collect();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    }

    /// How many series an expression gives now.
    pub fn count(&self, expression: &str) -> usize {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let count = || Some(self.get(&format!("/api/v1/query?query={encoded}"))?["result"].as_array()?.len());
        count().unwrap_or(0)
    }

    /// The alert of that name that fires with these labels.
    pub fn alert(&self, name: &str, labels: &[(&str, &str)]) -> Option<Value> {
        let alerts = wait_for("alerts are told", || self.get("/api/v1/alerts"));
        let is_it = |alert: &&Value| {
            let has = |(key, value): &(&str, &str)| alert["labels"][key] == *value;
            alert["state"] == "firing" && has(&("alertname", name)) && labels.iter().all(has)
        };
        alerts["alerts"].as_array().expect("a list of alerts").iter().find(is_it).cloned()
    }

    /// Waits until it fires, and sees that its texts are whole.
    pub fn fires(&self, name: &str, labels: &[(&str, &str)]) {
        let alert = wait_for(&format!("{name} {labels:?} fires"), || self.alert(name, labels));
        for key in ["summary", "description"] {
            let text = alert["annotations"][key].as_str().unwrap();
            let is_whole = !text.is_empty()
                && !text.contains("{{")
                && !text.contains("<error")
                && !text.contains("<no value>");
            assert!(is_whole, "{name}: {key}: {text}");
        }
        eprintln!("{name}: {}", alert["annotations"]["summary"]);
    }

    pub fn ends(&self, name: &str, labels: &[(&str, &str)]) {
        wait_for(&format!("{name} {labels:?} ends"), || self.alert(name, labels).is_none().then_some(()));
    }
}

/// Where a process listens: the socket among its files that the kernel says is listening.
fn listens_at(process: u32) -> Option<SocketAddr> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let sockets: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_its = sockets.contains(&format!("socket:[{}]", columns[9]));
        let port = u16::from_str_radix(columns[1].split_once(':')?.1, 16).ok()?;
        (columns[3] == LISTEN && is_its).then(|| SocketAddr::from(([127, 0, 0, 1], port)))
    })
}
