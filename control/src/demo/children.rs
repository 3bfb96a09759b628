//! The processes of the demo.

use super::{DemoArgs, DemoError};
use crate::config::Config;
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a child may take to end before it is killed.
const END_MAX: Duration = Duration::from_secs(6);

/// What is run.
pub struct Commands;

impl Commands {
    pub fn appliance(config: &Path) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg("--config").arg(config);
        Ok(command)
    }

    pub fn exchange(
        args: &DemoArgs,
        config: &Config,
        dump: &Path,
        start_delay_ms: u64,
    ) -> io::Result<Command> {
        let tickplane = std::env::current_exe()?;
        let mut command = match &args.netns {
            Some(netns) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", netns]).arg(tickplane);
                command
            }
            None => Command::new(tickplane),
        };
        command.arg("exchange").args(["--interface", &args.interface]);
        let lines = config.feeds[0].lines.iter().map(|line| line.group);
        for (option, group) in ["--line-a", "--line-b"].into_iter().zip(lines) {
            command.arg(option).arg(group.to_string());
        }
        let options = [
            ("--instruments", args.instruments.to_string()),
            ("--rate", args.rate.to_string()),
            ("--duration", args.duration.to_string()),
            ("--seed", args.seed.to_string()),
            ("--loss", args.loss.to_string()),
            ("--loss-both", args.loss_both.to_string()),
            ("--duplicate", "0.01".to_owned()),
            ("--reorder", "0.01".to_owned()),
            ("--delay-us", "0,100".to_owned()),
            ("--start-delay-ms", start_delay_ms.to_string()),
        ];
        for (option, value) in options {
            command.arg(option).arg(value);
        }
        command.arg("--linger").arg("--dump").arg(dump);
        Ok(command)
    }

    /// The command as one would type it.
    pub fn text(command: &Command) -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// A process that ends with its owner.
pub struct Child {
    name: &'static str,
    process: std::process::Child,
}

impl Child {
    pub fn start(name: &'static str, command: &mut Command) -> io::Result<Child> {
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        Ok(Child { name, process })
    }

    /// An error if it has ended.
    pub fn check(&mut self) -> Result<(), DemoError> {
        match self.process.try_wait()? {
            Some(status) => Err(DemoError::Ended(self.name, status)),
            None => Ok(()),
        }
    }

    /// Asks it to end, and sees that it does.
    pub fn end(&mut self) {
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        let pid = Pid::from_child(&self.process);
        let _ = kill_process(pid, Signal::INT);
        let asked = Instant::now();
        while asked.elapsed() < END_MAX {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("the {} does not end: it is killed", self.name);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
