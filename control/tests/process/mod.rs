//! The command itself, as a process that ends with the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

pub fn tickplane() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tickplane"))
}

/// The same in a network namespace; `None` = where the test itself is.
#[allow(dead_code, reason = "not every test that has processes lays a network")]
pub fn tickplane_in(netns: Option<&str>) -> Command {
    let Some(netns) = netns else { return tickplane() };
    // It becomes the command itself, so that can be ended by its id.
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, env!("CARGO_BIN_EXE_tickplane")]);
    command
}

/// A process that is killed with the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an appliance on a configuration, which is kept in `folder`, and returns the URL where it serves.
#[allow(dead_code, reason = "not every test that has processes starts one of these")]
pub fn start_appliance(folder: &Path, config: &str) -> (Process, String) {
    let (process, line) = start_node(folder, config);
    (process, format!("http://{}", field(&line, "grpc").expect("it says where it serves")))
}

/// A field of the line by which a node says that it runs.
pub fn field<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    line.split(&format!(" {name}=")).nth(1)?.split(' ').next()
}

/// Starts a node on a configuration, which is kept in `folder`, and returns the line by which it says that it runs.
pub fn start_node(folder: &Path, config: &str) -> (Process, String) {
    start_node_in(None, folder, config)
}

/// The same in a network namespace.
pub fn start_node_in(netns: Option<&str>, folder: &Path, config: &str) -> (Process, String) {
    let file = folder.join("appliance.toml");
    std::fs::write(&file, config).unwrap();
    let mut child =
        tickplane_in(netns).arg("run").arg("--config").arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let process = Process(child);
    let line = lines.by_ref().map_while(Result::ok).find(|line| {
        eprintln!("{line}");
        line.contains(" grpc=")
    });
    // What it says later must not stop it.
    std::thread::spawn(move || lines.for_each(drop));
    (process, line.expect("it says that it runs"))
}

/// A token that `tickplane client hash` makes, and its hash.
#[allow(dead_code, reason = "not every test that has processes has clients")]
pub fn token() -> (String, String) {
    let output = tickplane().args(["client", "hash", "--json"]).output().unwrap();
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    (made["token"].as_str().unwrap().to_owned(), made["token_sha256"].as_str().unwrap().to_owned())
}

/// What a node's metrics page says.
#[allow(dead_code, reason = "not every test that has processes looks there")]
pub fn metrics_page(address: &str) -> String {
    let mut page = TcpStream::connect(address).unwrap();
    page.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    text
}

/// Waits for what must come within a minute.
#[allow(dead_code, reason = "not every test that has processes waits for what they do")]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} within {PATIENCE:?}");
}
