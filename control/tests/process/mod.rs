//! The command itself, as a process that ends with the test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub fn tickplane() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tickplane"))
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
pub fn start_appliance(folder: &Path, config: &str) -> (Process, String) {
    let file = folder.join("appliance.toml");
    std::fs::write(&file, config).unwrap();
    let mut child = tickplane().arg("run").arg("--config").arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let process = Process(child);
    let grpc = lines.by_ref().map_while(Result::ok).find_map(|line| {
        eprintln!("{line}");
        Some(line.split("grpc=").nth(1)?.split(' ').next()?.to_owned())
    });
    // What it says later must not stop it.
    std::thread::spawn(move || lines.for_each(drop));
    (process, format!("http://{}", grpc.expect("it says where it serves")))
}
