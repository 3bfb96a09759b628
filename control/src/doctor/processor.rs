//! The processor: the worker's core, who else may use it, and how fast it is there.

use super::case::{Attachment, Case};
use super::cores::Cores;
use super::finding::{Finding, Severity};
use super::mend;
use crate::config::PortConfig;

const CPU: &str = "/sys/devices/system/cpu";
/// A wake-up that takes longer shows in deliveries: subscribers are told ten thousand times a second.
const WAKEUP_US_MAX: u64 = 50;

pub fn check(case: &Case) -> Vec<Finding> {
    let mut findings = vec![core(case)];
    let is_online = |core: &usize| online(case).is_none_or(|online| online.contains(*core));
    match case.config.worker.core.filter(is_online) {
        Some(core) => {
            findings.extend([
                isolation(case, core),
                tickless(case, core),
                rcu(case, core),
                sibling(case, core),
            ]);
            findings.extend(numa(case, core));
        }
        None => {
            let ids = ["processor.isolation", "processor.tickless", "processor.rcu"];
            let unpinned = |id| {
                Finding::not_needed(id, "no core to look at", "the worker is tied to no core that is online")
            };
            findings.extend(ids.map(unpinned));
        }
    }
    findings.extend([governor(case), idle_states(case)]);
    findings
}

fn online(case: &Case) -> Option<Cores> {
    case.machine.cores(&format!("{CPU}/online")).filter(|cores| !cores.is_empty())
}

fn isolated(case: &Case) -> Cores {
    case.machine.cores(&format!("{CPU}/isolated")).unwrap_or_default()
}

fn core(case: &Case) -> Finding {
    let id = "processor.core";
    let Some(online) = online(case) else { return Finding::unknown(id, &format!("{CPU}/online")) };
    let Some(core) = case.config.worker.core else {
        let found = format!("the kernel chooses among {online}");
        if !case.spins() {
            return Finding::not_needed(id, found, "the worker sleeps or yields when there is nothing to do");
        }
        let why =
            "A worker that spins should have a core of its own: moved to another one, it finds cold caches.";
        let isolated = isolated(case);
        let best = isolated.iter().next().or_else(|| online.iter().next_back()).unwrap_or(0);
        let choose = mend::configure(&format!("[worker] core = {best}"));
        return Finding::new(id, Severity::Warning, found, why).mend(choose);
    };
    let why = "The worker is tied to this core.";
    if online.contains(core) {
        return Finding::ok(id, format!("core {core} is online, of {online}"), why);
    }
    let file = format!("{CPU}/cpu{core}");
    let why = "The worker is tied to this core, and does not start without it.";
    if case.machine.exists(&file) {
        let online = mend::write(1, &format!("{file}/online"));
        return Finding::failure(id, format!("core {core} is offline"), why).mend(online);
    }
    let best = online.iter().next_back().unwrap_or(0);
    let choose = mend::configure(&format!("[worker] core = {best}"));
    Finding::failure(id, format!("there is no core {core}, only {online}"), why).mend(choose)
}

fn isolation(case: &Case, core: usize) -> Finding {
    let id = "processor.isolation";
    let file = format!("{CPU}/isolated");
    let Some(isolated) = case.machine.cores(&file) else { return Finding::unknown(id, &file) };
    let why =
        "On a core that is not isolated the scheduler runs other tasks, too, and the worker waits for them.";
    if isolated.contains(core) {
        return Finding::ok(id, format!("core {core} is isolated, among {isolated}"), why);
    }
    let (found, mend) = match isolated.iter().next() {
        None => (
            format!("core {core} is not isolated, no core is"),
            mend::boot(case.machine, "isolcpus", &format!("managed_irq,domain,{core}")),
        ),
        Some(first) => (
            format!("core {core} is not isolated, {isolated} are"),
            mend::configure(&format!("[worker] core = {first}")),
        ),
    };
    Finding::new(id, case.slow(), found, why).mend(mend)
}

/// Cores that the kernel's command line names by `key`; `None` where it is said in a way not known here.
fn told(case: &Case, key: &str) -> Option<Cores> {
    match case.machine.boot_parameter(key)?.as_str() {
        "all" => online(case),
        cores => Cores::parse(cores),
    }
}

fn tickless_cores(case: &Case) -> Option<Cores> {
    case.machine.cores(&format!("{CPU}/nohz_full")).or_else(|| told(case, "nohz_full"))
}

fn tickless(case: &Case, core: usize) -> Finding {
    let id = "processor.tickless";
    let Some(cores) = tickless_cores(case) else { return Finding::unknown(id, "/proc/cmdline") };
    let why = "Without nohz_full the timer interrupts the core 100 to 1000 times a second, for some microseconds each.";
    if cores.contains(core) {
        return Finding::ok(id, format!("nohz_full holds core {core}"), why);
    }
    let found = match cores.is_empty() {
        true => "no core is in nohz_full".to_owned(),
        false => format!("nohz_full holds {cores}, not core {core}"),
    };
    let mend = mend::boot(case.machine, "nohz_full", &cores.with(core).to_string());
    Finding::new(id, case.slow(), found, why).mend(mend)
}

fn rcu(case: &Case, core: usize) -> Finding {
    let id = "processor.rcu";
    let why = "Callbacks of the kernel's RCU run on the core that made them, unless it is in rcu_nocbs.";
    // A core without ticks is offloaded by itself.
    if tickless_cores(case).is_some_and(|cores| cores.contains(core)) {
        return Finding::ok(id, format!("nohz_full takes callbacks off core {core}"), why);
    }
    let Some(cores) = told(case, "rcu_nocbs") else { return Finding::unknown(id, "/proc/cmdline") };
    if cores.contains(core) {
        return Finding::ok(id, format!("rcu_nocbs holds core {core}"), why);
    }
    let mend = mend::boot(case.machine, "rcu_nocbs", &cores.with(core).to_string());
    Finding::new(id, case.slow(), format!("core {core} is not in rcu_nocbs"), why).mend(mend)
}

fn sibling(case: &Case, core: usize) -> Finding {
    let id = "processor.sibling";
    let file = format!("{CPU}/cpu{core}/topology/thread_siblings_list");
    let Some(threads) = case.machine.cores(&file) else {
        return Finding::unknown(id, &file);
    };
    let why = "Two threads of one core share its units: each is slower while the other one works.";
    let others: Vec<usize> = threads.iter().filter(|other| *other != core).collect();
    let isolated = isolated(case);
    let Some(busy) = others.iter().find(|other| !isolated.contains(**other)) else {
        let found = match others.first() {
            None => format!("core {core} has no other thread"),
            Some(other) => format!("core {core} has the thread {other}, which is isolated"),
        };
        return Finding::ok(id, found, why);
    };
    let found = format!("core {core} shares its units with {busy}, which anyone may use");
    let offline = mend::write(0, &format!("{CPU}/cpu{busy}/online"));
    Finding::new(id, case.slow(), found, why).mend(offline)
}

fn numa(case: &Case, core: usize) -> Vec<Finding> {
    let id = "processor.numa";
    let folder = "/sys/devices/system/node";
    let is_node = |name: &str| name.strip_prefix("node").is_some_and(|number| number.parse::<u64>().is_ok());
    let nodes: Vec<(u64, Cores)> = case
        .machine
        .entries(folder, is_node)
        .iter()
        .filter_map(|name| {
            let cores = case.machine.cores(&format!("{folder}/{name}/cpulist"))?;
            Some((name.strip_prefix("node")?.parse().ok()?, cores))
        })
        .collect();
    let why = "Each access of the other node's memory and devices takes about twice as long.";
    let finding = |(port, attachment): (&PortConfig, &Attachment)| {
        let node = case.numa_node(attachment)?;
        let (own, _) = nodes.iter().find(|(_, cores)| cores.contains(core))?;
        if *own == node {
            return Some(
                Finding::ok(id, format!("core {core} and the NIC are on node {node}"), why).on(&port.name),
            );
        }
        let found = format!("core {core} is on node {own}, the NIC on node {node}");
        let finding = Finding::new(id, case.slow(), found, why).on(&port.name);
        let (_, near) = nodes.iter().find(|(number, _)| *number == node)?;
        let isolated = isolated(case);
        let best = near.iter().find(|core| isolated.contains(*core)).or_else(|| near.iter().next_back())?;
        Some(finding.mend(mend::configure(&format!("[worker] core = {best}"))))
    };
    if nodes.len() < 2 {
        return vec![Finding::ok(id, "one node", why)];
    }
    let findings: Vec<Finding> = case.ports().filter_map(finding).collect();
    if findings.is_empty() {
        let found = format!("{} nodes", nodes.len());
        return vec![Finding::not_needed(id, found, "no port's device tells that it is on one of them")];
    }
    findings
}

fn governor(case: &Case) -> Finding {
    let id = "processor.governor";
    let policies = format!("{CPU}/cpufreq");
    let files: Vec<String> = match case.config.worker.core {
        Some(core) => vec![format!("{CPU}/cpu{core}/cpufreq/scaling_governor")],
        None => case
            .machine
            .entries(&policies, |name| name.starts_with("policy"))
            .iter()
            .map(|name| format!("{policies}/{name}/scaling_governor"))
            .collect(),
    };
    let mut governors: Vec<String> = files.iter().filter_map(|file| case.machine.text(file)).collect();
    governors.retain(|governor| !governor.is_empty());
    governors.sort();
    governors.dedup();
    if governors.is_empty() {
        let why = "There is no governor to choose: firmware or hypervisor set the frequency.";
        return Finding::note(id, "none", why);
    }
    let found = governors.join(", ");
    let why = "Other governors lower the frequency, and raise it again only some milliseconds after a burst has begun.";
    if found == "performance" {
        return Finding::ok(id, found, why);
    }
    let mend = match case.config.worker.core {
        Some(_) => mend::write("performance", &files[0]),
        None => format!("echo performance | tee {policies}/policy*/scaling_governor"),
    };
    Finding::new(id, case.slow(), found, why).mend(mend)
}

/// The first core stands for all: the states are the same, and not the worker sleeps, but those who serve.
fn idle_states(case: &Case) -> Finding {
    let id = "processor.idle_states";
    let folder = format!("{CPU}/cpu0/cpuidle");
    let limit_us = case.machine.wakeup_limit_us().unwrap_or(u64::MAX);
    let states = case.machine.entries(&folder, |name| name.starts_with("state"));
    let number = |state: &str, file| case.machine.number(&format!("{folder}/{state}/{file}"));
    let used: Vec<(&String, u64)> = states
        .iter()
        .filter(|state| number(state, "disable") != Some(1))
        .filter_map(|state| Some((state, number(state, "latency")?)))
        .filter(|(_, latency_us)| *latency_us <= limit_us)
        .collect();
    let Some((deepest, latency_us)) = used.iter().max_by_key(|(_, latency_us)| *latency_us) else {
        return Finding::note(
            id,
            "none",
            "There are no idle states to choose: firmware or hypervisor have them.",
        );
    };
    let name = case.machine.text(&format!("{folder}/{deepest}/name")).unwrap_or_default();
    let found = format!("the deepest in use is {name}, which takes {latency_us} µs to wake up from");
    let why = "A worker that spins never sleeps; the threads that serve gRPC do, as do workers that park, and wake up so late.";
    if *latency_us <= WAKEUP_US_MAX {
        return Finding::ok(id, found, why);
    }
    let deep = used.iter().filter(|(_, latency_us)| *latency_us > WAKEUP_US_MAX);
    let files: Vec<String> = deep.map(|(state, _)| format!("{CPU}/cpu*/cpuidle/{state}/disable")).collect();
    Finding::new(id, case.slow(), found, why).mend(format!("echo 1 | tee {}", files.join(" ")))
}
