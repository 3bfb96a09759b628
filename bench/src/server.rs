//! A server in a process of its own, which the bench starts, and which ends with the bench.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

#[derive(Debug)]
pub struct Server {
    process: Child,
}

impl Server {
    /// Starts a program, and waits for the line of its output of which `ready` makes something; an error is what it said instead.
    /// What it says after that is for people.
    pub fn start<T>(
        program: &str,
        args: &[&str],
        environment: &[(&str, &str)],
        ready: impl Fn(&str) -> Option<T>,
    ) -> Result<(Server, T), String> {
        let (output, input) = std::io::pipe().map_err(|error| format!("a pipe: {error}"))?;
        let error_input = input.try_clone().map_err(|error| format!("a pipe: {error}"))?;
        // util-linux's `setpriv`: the kernel ends the server if the bench ends without a word.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(args)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(input)
            .stderr(error_input)
            .spawn()
            .map_err(|error| format!("setpriv (Debian: apt-get install util-linux): {error}"))?;
        let server = Server { process };
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let mut said = Vec::new();
        for line in lines.by_ref() {
            if let Some(found) = ready(&line) {
                std::thread::spawn(move || lines.for_each(|line| eprintln!("  {line}")));
                return Ok((server, found));
            }
            said.push(line);
        }
        Err(format!("{program} did not start: {}", said.join("\n")))
    }

    /// Its memory that is in use now (`VmRSS`), in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kibibytes << 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
