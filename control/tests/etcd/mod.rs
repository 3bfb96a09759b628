//! A real etcd, for one test.

#![allow(dead_code, reason = "not every test that has one needs all of this")]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A process that is killed with the test.
pub struct Process(pub Child);

impl Process {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Etcd {
    folder: tempfile::TempDir,
    /// Where it runs, and what it is called there; `None` = where the test is.
    netns: Option<String>,
    host: &'static str,
    ports: [u16; 2],
    pub process: Process,
    _turn: MutexGuard<'static, ()>,
}

/// One group at a time: on two cores more of them take each other's leases of a second or two.
static TURN: Mutex<()> = Mutex::new(());

impl Etcd {
    pub fn start() -> Etcd {
        let folder = tempfile::tempdir().unwrap();
        // Both are held until both are known.
        let free = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = free.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(free);
        Etcd::start_at(folder, None, "127.0.0.1", ports)
    }

    /// One in a network namespace that is the test's own, so its ports are free.
    pub fn start_in(netns: &str, host: &'static str) -> Etcd {
        Etcd::start_at(tempfile::tempdir().unwrap(), Some(netns.to_owned()), host, [2379, 2380])
    }

    fn start_at(
        folder: tempfile::TempDir,
        netns: Option<String>,
        host: &'static str,
        ports: [u16; 2],
    ) -> Etcd {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let process = Etcd::spawn(&folder, netns.as_deref(), host, ports);
        Etcd { folder, netns, host, ports, process, _turn: turn }
    }

    fn spawn(folder: &tempfile::TempDir, netns: Option<&str>, host: &str, ports: [u16; 2]) -> Process {
        let [client, peer] = ports.map(|port| format!("http://{host}:{port}"));
        let mut command = Command::new(if netns.is_some() { "ip" } else { "etcd" });
        if let Some(netns) = netns {
            command.args(["netns", "exec", netns, "etcd"]);
        }
        command.args(["--name", "one", "--data-dir"]).arg(folder.path());
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("one={peer}")]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Process(child.expect("etcd is installed: scripts/packages etcd"))
    }

    /// Kills it and starts it again, with what it had written down.
    pub fn restart(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
        self.process = Etcd::spawn(&self.folder, self.netns.as_deref(), self.host, self.ports);
    }

    /// Waits until a key's value begins so.
    pub fn wait_value(&self, key: &str, beginning: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = async {
            let mut client = etcd_client::Client::connect([self.endpoint()], None).await.unwrap();
            loop {
                let response = client.get(key, None).await.unwrap();
                if response.kvs().iter().any(|kv| kv.value().starts_with(beginning.as_bytes())) {
                    return;
                }
            }
        };
        let found = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), found).await });
        found.unwrap_or_else(|_| panic!("{key} begins with {beginning} within a minute"));
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}:{}", self.host, self.ports[0])
    }
}

/// Whether what etcd says is passed on.
#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

/// What stands between a node and etcd, and keeps back all that etcd says from the moment on that it is asked something certain.
pub struct Proxy {
    endpoint: String,
    gate: Arc<Gate>,
}

impl Proxy {
    /// Shuts once a request has all of `words`. Requests go through all the same.
    pub fn start(etcd: &Etcd, words: &'static [&'static str]) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (gate, port) = (Arc::<Gate>::default(), etcd.ports[0]);
        let shared = gate.clone();
        // It ends with the test's process, and its connections with either end's.
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (asks, says) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (watched, passed) = (shared.clone(), shared.clone());
                std::thread::spawn(move || {
                    copy(asks, far, |bytes| {
                        let text = String::from_utf8_lossy(bytes);
                        if words.iter().all(|word| text.contains(word)) {
                            *watched.is_shut.lock().unwrap() = true;
                        }
                    });
                });
                std::thread::spawn(move || {
                    copy(says, near, |_| {
                        let shut = passed.is_shut.lock().unwrap();
                        drop(passed.opened.wait_while(shut, |is_shut| *is_shut).unwrap());
                    });
                });
            }
        });
        Proxy { endpoint, gate }
    }

    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    pub fn is_shut(&self) -> bool {
        *self.gate.is_shut.lock().unwrap()
    }

    pub fn open(&self) {
        *self.gate.is_shut.lock().unwrap() = false;
        self.gate.opened.notify_all();
    }
}

/// Copies until either end is gone, which ends the other; `before` is called before bytes are passed on.
fn copy(mut from: TcpStream, mut to: TcpStream, before: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        before(&buffer[..bytes]);
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}
