//! A real etcd, for one test.

#![allow(dead_code, reason = "not every test that has one needs all of this")]

use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

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
    ports: [u16; 2],
    pub process: Process,
}

impl Etcd {
    pub fn start() -> Etcd {
        let folder = tempfile::tempdir().unwrap();
        // Both are held until both are known.
        let free = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = free.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(free);
        let process = Etcd::spawn(&folder, ports);
        Etcd { folder, ports, process }
    }

    fn spawn(folder: &tempfile::TempDir, ports: [u16; 2]) -> Process {
        let [client, peer] = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new("etcd");
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
        self.process = Etcd::spawn(&self.folder, self.ports);
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }
}
