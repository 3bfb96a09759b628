//! The DPDK port, counting only, against `dpdk-testpmd` in its mode rxonly, and against capsule if it was built, on the same
//! kind of device.

use crate::report::{Goal, Line};
use crate::sample::{Contender, Sample, take_turns};
use dataplane::port::Port;
use drivers::cpu::pin_to_core;
use drivers::dpdk::{DpdkConfig, DpdkPort, Eal, EalConfig, EalMemory, register_thread};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEVICE: &str = "net_null0,size=64,copy=0";
const BURST: usize = 32;
const SECONDS: u64 = 2;

/// Prints ns a frame of one round. A process of its own: DPDK starts once.
pub fn once(core: usize) {
    let eal = EalConfig { memory: EalMemory::Hugepages, pci_addresses: Vec::new() };
    let eal = Eal::start(&eal).unwrap_or_else(|error| panic!("{error}"));
    pin_to_core(core).unwrap_or_else(|error| panic!("{error}"));
    register_thread().unwrap_or_else(|error| panic!("{error}"));
    let config = DpdkConfig { burst: BURST, ..DpdkConfig::new(DEVICE) };
    let mut port = DpdkPort::open(&eal, &config).unwrap_or_else(|error| panic!("{error}"));
    let started = Instant::now();
    let mut frames = 0_u64;
    while started.elapsed() < Duration::from_secs(SECONDS) {
        for _ in 0..10_000 {
            frames += port.rx_burst() as u64;
        }
    }
    println!("{}", started.elapsed().as_nanos() as f64 / frames as f64);
}

/// ns a frame, as a program tells that measures one round.
fn told_by(program: &Path, args: &[&str]) -> f64 {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().parse().unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn ours(core: usize) -> f64 {
    let tool = std::env::current_exe().expect("this program has a path");
    told_by(&tool, &["receive-once", "--core", &core.to_string()])
}

/// `mode` is capsule's `executor`, or a plain `loop` over its port.
fn capsule(program: &Path, mode: &str, core: usize) -> f64 {
    let mbufs = DpdkConfig::new(DEVICE).mbufs.to_string();
    told_by(program, &[mode, &core.to_string(), DEVICE, &mbufs, &SECONDS.to_string()])
}

/// The median of the rates that testpmd shows each second, as ns a frame.
fn testpmd(core: usize) -> f64 {
    let main = if core == 0 { 1 } else { 0 };
    let mut process = Command::new("dpdk-testpmd")
        .args([
            "--in-memory",
            "--no-pci",
            "--no-telemetry",
            "--log-level=error",
            "-l",
            &format!("{main},{core}"),
        ])
        .args(["--main-lcore", &main.to_string(), &format!("--vdev={DEVICE}"), "--", "--forward-mode=rxonly"])
        .args(["--auto-start", "--stats-period=1", "--nb-cores=1", &format!("--burst={BURST}")])
        // As many as the port has: its own number takes more huge pages than there may be.
        .arg(format!("--total-num-mbufs={}", DpdkConfig::new(DEVICE).mbufs))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("dpdk-testpmd is installed (Debian: apt-get install dpdk)");
    let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let rates =
        lines.filter_map(|line| line.split("Rx-pps:").nth(1)?.split_whitespace().next()?.parse::<f64>().ok());
    // The first second is not a whole one.
    let mut rates: Vec<f64> = rates.skip(1).filter(|rate| *rate > 0.0).take(SECONDS as usize + 1).collect();
    let _ = process.kill();
    let _ = process.wait();
    assert!(
        !rates.is_empty(),
        "dpdk-testpmd ended without a rate: {DEVICE}, core {core}, are huge pages free?"
    );
    rates.sort_by(f64::total_cmp);
    1e9 / rates[rates.len() / 2]
}

/// `capsule_program` is what `bench/capsule` builds.
pub fn run(rounds: usize, core: usize, capsule_program: Option<&Path>) -> Vec<Line> {
    let mut contenders: Vec<Contender<'_>> =
        vec![("ours", Box::new(|| ours(core))), ("dpdk-testpmd rxonly", Box::new(|| testpmd(core)))];
    if let Some(program) = capsule_program {
        contenders
            .push(("capsule 0.1.5, its executor", Box::new(move || capsule(program, "executor", core))));
        contenders
            .push(("capsule 0.1.5, a loop on its port", Box::new(move || capsule(program, "loop", core))));
    }
    let mut samples = take_turns(rounds, contenders);
    let others = samples.split_off(1);
    let ours = samples.remove(0);
    let goals = [Goal::RateAtLeast(0.95), Goal::RateAtLeast(1.0), Goal::RateAtLeast(1.0)];
    let line = |(other, goal): (Sample, Goal)| Line {
        what: "RX of the DPDK port on net_null, ns a frame".to_owned(),
        theirs: Some((other.name.clone(), other.median_ns())),
        ours: ours.clone(),
        goal: Some(goal),
    };
    others.into_iter().zip(goals).map(line).collect()
}
