//! The clock: how it is read, and who keeps it right.

use super::case::{Attachment, Case};
use super::finding::{Finding, Severity};
use super::mend;

const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0";
/// Sources that a program reads without asking the kernel.
const FAST: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];
const TIMESYNCD: &str = "systemd-timesyn"; // names are cut after 15 bytes
const DAEMONS: [&str; 10] =
    ["ptp4l", "phc2sys", "ts2phc", "timemaster", "sfptpd", "ptpd", "chronyd", "ntpd", "openntpd", TIMESYNCD];

pub fn check(case: &Case) -> Vec<Finding> {
    vec![source(case), synchronisation(case), hardware(case)]
}

fn source(case: &Case) -> Finding {
    let id = "clock.source";
    let file = format!("{SOURCE}/current_clocksource");
    let Some(current) = case.machine.text(&file).filter(|current| !current.is_empty()) else {
        return Finding::unknown(id, &file);
    };
    let why = "The worker reads the clock in each round: from this source without a system call.";
    if FAST.contains(&current.as_str()) {
        return Finding::ok(id, current, why);
    }
    let available = case.machine.text(&format!("{SOURCE}/available_clocksource")).unwrap_or_default();
    let why =
        "The worker reads the clock in each round, and from this source each time takes about a microsecond.";
    let mend = match FAST.iter().find(|fast| available.split_whitespace().any(|name| name == **fast)) {
        Some(fast) => mend::write(fast, &file),
        None => "dmesg | grep -i tsc   # why the kernel does not trust it".to_owned(),
    };
    Finding::new(id, Severity::Warning, current, why).mend(mend)
}

/// Whether senders' clocks are others than this machine's.
fn has_far_senders(case: &Case) -> bool {
    case.ports().any(|(_, attachment)| match attachment {
        Attachment::Pci(_) | Attachment::NoInterface(_) => true,
        Attachment::Interface(name) => name != "lo",
        Attachment::Nothing => false,
    })
}

fn wants_hardware_stamps(case: &Case) -> bool {
    case.config.ports.iter().any(|port| port.hardware_timestamp == Some(true))
}

fn synchronisation(case: &Case) -> Finding {
    let id = "clock.synchronisation";
    let running = case.machine.running(&DAEMONS);
    let found = if running.is_empty() { "nobody".to_owned() } else { running.join(", ") };
    if !has_far_senders(case) {
        return Finding::not_needed(
            id,
            found,
            "the feeds' stamps come from this machine, or from a recording",
        );
    }
    let why = "The time from exchange to here is a difference of two clocks, and worth what they are.";
    let runs = |names: &[&str]| running.iter().any(|name| names.contains(name));
    if running.is_empty() {
        let mend = "apt-get install -y chrony && systemctl enable --now chrony";
        return Finding::new(id, Severity::Warning, found, why).mend(mend);
    }
    let sets_system_clock =
        runs(&["phc2sys", "ts2phc", "timemaster", "sfptpd", "ptpd", "chronyd", "ntpd", "openntpd"]);
    if runs(&["ptp4l"]) && !sets_system_clock && !clocks(case).is_empty() {
        let why =
            "ptp4l alone keeps the NIC's clock; what the appliance reads, the system's, is left to itself.";
        let mend = "phc2sys -a -r   # or: systemctl enable --now phc2sys";
        return Finding::new(id, Severity::Warning, found, why).mend(mend);
    }
    if running == [TIMESYNCD] {
        let why = "timesyncd keeps the clock within milliseconds: latencies below that say nothing.";
        let severity = if wants_hardware_stamps(case) { Severity::Warning } else { Severity::Note };
        let mend = "apt-get install -y chrony && systemctl enable --now chrony";
        return Finding::new(id, severity, found, why).mend(mend);
    }
    Finding::ok(id, found, why)
}

/// `ptp0 (mlx5_ptp)` for each clock in hardware.
fn clocks(case: &Case) -> Vec<String> {
    let folder = "/sys/class/ptp";
    let names = case.machine.entries(folder, |name| name.starts_with("ptp"));
    let text = |name: &String| match case.machine.text(&format!("{folder}/{name}/clock_name")) {
        Some(clock) => format!("{name} ({clock})"),
        None => name.clone(),
    };
    names.iter().map(text).collect()
}

fn hardware(case: &Case) -> Finding {
    let id = "clock.ptp";
    let clocks = clocks(case);
    let found = if clocks.is_empty() { "none".to_owned() } else { clocks.join(", ") };
    if !wants_hardware_stamps(case) {
        return Finding::not_needed(id, found, "no port takes its NIC's stamps");
    }
    if clocks.is_empty() {
        let why = "A NIC with vfio-pci hides its clock from the kernel; its stamps are measured against the system's clock.";
        return Finding::note(id, found, why);
    }
    Finding::ok(id, found, "ptp4l can keep these, and phc2sys the system's clock by them.")
}
