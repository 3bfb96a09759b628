//! `tickplane doctor` on machines that lie in `machines/`, whole and damaged.

mod damage;
mod machines;

use control::config::Config;
use control::doctor::{Finding, Severity};
use machines::Tree;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const FAILURE: Severity = Severity::Failure;
const WARNING: Severity = Severity::Warning;
const UNLIMITED: &str = "ulimit -l unlimited   # systemd: LimitMEMLOCK=infinity";

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn config_file(name: &str) -> PathBuf {
    workspace().join("configs").join(name)
}

/// A delivered configuration, with some of its text replaced.
fn config(name: &str, replaced: &[(&str, &str)]) -> Config {
    let mut text = fs::read_to_string(config_file(name)).unwrap();
    for (before, after) in replaced {
        assert!(text.contains(before), "{before}");
        text = text.replace(before, after);
    }
    Config::parse(Path::new(name), &text).unwrap()
}

fn embedded() -> Config {
    config("embedded.toml", &[])
}

fn find<'f>(findings: &'f [Finding], id: &str) -> &'f Finding {
    findings.iter().find(|finding| finding.id == id).unwrap_or_else(|| panic!("no {id} in {findings:#?}"))
}

/// These, and no other, are warnings or failures: id, subject, severity, mending command.
fn assert_bad(findings: &[Finding], known: &[(&str, &str, Severity, &str)]) {
    let bad = findings.iter().filter(|finding| finding.severity >= WARNING).map(|finding| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (finding.id, text(&finding.subject), finding.severity, text(&finding.mend))
    });
    let bad: Vec<_> = bad.collect();
    let known: Vec<_> = known
        .iter()
        .map(|(id, subject, severity, mend)| (*id, (*subject).to_owned(), *severity, (*mend).to_owned()))
        .collect();
    assert_eq!(bad, known, "{findings:#?}");
}

#[test]
fn a_tuned_server_is_fit_for_its_nics() {
    let findings = Tree::of("tuned-server").findings(&config("nic-pci.toml", &[]));
    assert_bad(&findings, &[]);
    let found = |id, text: &str| {
        let finding = find(&findings, id);
        assert!(finding.severity == Severity::Ok && finding.found.contains(text), "{finding:?}");
    };
    found("memory.huge_pages", "1024 of 1024 pages of 2 MiB");
    found("memory.node_huge_pages", "node 0, free: 512 of 512");
    found("memory.locked", "unlimited");
    found("memory.region", "/dev/shm (tmpfs), which holds 4 GiB");
    found("processor.isolation", "core 3 is isolated, among 3,11");
    found("processor.sibling", "the thread 11, which is isolated");
    found("processor.numa", "node 0");
    found("processor.idle_states", "POLL, which takes 0");
    found("nic.driver", "0000:3b:00.0 is with vfio-pci");
    found("nic.iommu", "group 42");
    found("clock.synchronisation", "ptp4l, phc2sys, chronyd");
    found("clock.ptp", "ptp0 (mlx5_ptp)");
    assert!(find(&findings, "rdma.devices").found.contains("mlx5_0 port 1 active, Ethernet 100 Gb/sec"));
    let drivers: Vec<&str> =
        findings.iter().filter(|f| f.id == "nic.driver").map(|f| f.found.as_str()).collect();
    assert_eq!(drivers, ["0000:3b:00.0 is with vfio-pci", "0000:5e:00.0 is with mlx5_core"]);
}

#[test]
fn each_thing_that_is_missing_on_the_server_is_told_with_its_command() {
    let cpu = "/sys/devices/system/cpu";
    let nodes = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB";
    let pci = "/sys/bus/pci/devices";
    let limits = "Max locked memory         65536                65536                bytes     \n";
    let configure = |what: &str| format!("in the configuration: {what}");
    let cases: [(&str, &str, &str, Severity, String); 12] = [
        (&format!("{cpu}/isolated"), "11", "processor.isolation", WARNING, configure("[worker] core = 11")),
        (
            &format!("{cpu}/nohz_full"),
            "11",
            "processor.tickless",
            WARNING,
            grub(r"s/\bnohz_full=[^ \x22]*/nohz_full=3,11/"),
        ),
        (
            &format!("{cpu}/online"),
            "0-2,4-15",
            "processor.core",
            FAILURE,
            format!("echo 1 > {cpu}/cpu3/online"),
        ),
        (
            &format!("{cpu}/cpu3/topology/thread_siblings_list"),
            "3,12",
            "processor.sibling",
            WARNING,
            format!("echo 0 > {cpu}/cpu12/online"),
        ),
        (
            &format!("{cpu}/cpu3/cpufreq/scaling_governor"),
            "schedutil",
            "processor.governor",
            WARNING,
            format!("echo performance > {cpu}/cpu3/cpufreq/scaling_governor"),
        ),
        (
            &format!("{pci}/0000:3b:00.0/uevent"),
            "DRIVER=ice",
            "nic.driver",
            FAILURE,
            "modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0".to_owned(),
        ),
        (
            &format!("{pci}/0000:3b:00.0/uevent"),
            "DRIVER=igb_uio",
            "nic.driver",
            WARNING,
            "modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0".to_owned(),
        ),
        (
            &format!("{pci}/0000:5e:00.0/uevent"),
            "DRIVER=vfio-pci",
            "nic.driver",
            FAILURE,
            "modprobe mlx5_core && dpdk-devbind.py --bind=mlx5_core 0000:5e:00.0".to_owned(),
        ),
        (
            &format!("{pci}/0000:5e:00.0/numa_node"),
            "1",
            "processor.numa",
            WARNING,
            configure("[worker] core = 15"),
        ),
        (
            &format!("{nodes}/free_hugepages"),
            "79",
            "memory.node_huge_pages",
            FAILURE,
            format!("echo 513 > {nodes}/nr_hugepages"),
        ),
        ("/proc/self/limits", limits, "memory.locked", FAILURE, UNLIMITED.to_owned()),
        (
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet",
            "clock.source",
            WARNING,
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource".to_owned(),
        ),
    ];
    for (path, text, id, severity, mend) in cases {
        let findings = Tree::of("tuned-server").with(path, text).findings(&config("nic-pci.toml", &[]));
        let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.severity >= WARNING).collect();
        assert!(!bad.is_empty(), "{path} = {text} changes nothing");
        let told =
            bad.iter().any(|bad| (bad.id, bad.severity, bad.mend.as_ref()) == (id, severity, Some(&mend)));
        assert!(told, "{path} = {text}: {mend} is not in {bad:#?}");
        let limit = if id == "memory.node_huge_pages" { 2 } else { 1 };
        assert!(bad.iter().all(|bad| bad.id == id) && bad.len() <= limit, "{path} = {text}: {bad:#?}");
    }
}

fn grub(edit: &str) -> String {
    format!("sed -i '{}' /etc/default/grub && update-grub && reboot", edit.replace(r"\x22", "\""))
}

#[test]
fn virtual_functions_are_told_with_their_parent_or_how_to_make_them() {
    let server = Tree::of("tuned-server");
    let findings = server.findings(&config("sriov-vf.toml", &[]));
    assert_bad(
        &findings,
        &[("nic.device", "vf0", FAILURE, "echo 4 > /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs")],
    );
    let findings = server.findings(&config("sriov-vf.toml", &[("0000:3b:02.0", "5E:00.2")]));
    assert_bad(&findings, &[]);
    let function = find(&findings, "nic.sriov");
    assert_eq!(function.found, "function 0 of 0000:5e:00.0 (eth1), one of 1, at most 8");
    assert_eq!(function.mend.as_deref(), Some("ip link set eth1 vf 0 trust on spoofchk off"));
    assert_eq!((function.severity, function.needed), (Severity::Note, true));
}

#[test]
fn a_laptop_runs_the_default_with_warnings() {
    let laptop = Tree::of("laptop");
    let findings = laptop.findings(&embedded());
    let clock = "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource";
    assert_bad(
        &findings,
        &[
            ("socket.receive_buffer", "", WARNING, "sysctl -w net.core.rmem_max=8388608"),
            ("socket.backlog", "", WARNING, "sysctl -w net.core.netdev_max_backlog=4000"),
            ("clock.source", "", WARNING, clock),
        ],
    );
    let note = |id, needed, mend: Option<&str>| {
        let finding = find(&findings, id);
        assert_eq!(
            (finding.severity, finding.needed, finding.mend.as_deref()),
            (Severity::Note, needed, mend)
        );
    };
    note("memory.huge_pages", false, None);
    note("memory.locked", false, None);
    note("processor.isolation", false, None);
    note("rdma.devices", false, None);
    note(
        "processor.governor",
        true,
        Some("echo performance | tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"),
    );
    let deep = "echo 1 | tee /sys/devices/system/cpu/cpu*/cpuidle/state2/disable \
                /sys/devices/system/cpu/cpu*/cpuidle/state3/disable";
    note("processor.idle_states", true, Some(deep));
    note(
        "memory.transparent_huge_pages",
        true,
        Some("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
    );
}

#[test]
fn a_laptops_wireless_and_wired_ports_have_their_faults() {
    let laptop = Tree::of("laptop");
    let bad = |config: &Config| -> Vec<(&str, Option<String>)> {
        let about =
            |finding: &Finding| finding.id.starts_with("interface.") || finding.id.starts_with("nic.");
        let findings = laptop.findings(config).into_iter();
        let findings = findings.filter(|finding| finding.severity >= WARNING && about(finding));
        findings.map(|finding| (finding.id, finding.mend)).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    // By its address; line B names a source, which IGMPv2 can't ask for.
    let wireless = config(
        "embedded.toml",
        &[("\"127.0.0.1\" ", "\"192.168.1.23\" "), ("# source = \"10.0.0.7\"", "source = \"10.0.0.7\" #")],
    );
    assert_eq!(
        bad(&wireless),
        [
            ("interface.rp_filter", some("sysctl -w net.ipv4.conf.wlan0.rp_filter=2")),
            ("interface.igmp_version", some("sysctl -w net.ipv4.conf.wlan0.force_igmp_version=0")),
        ]
    );
    let wired = config("embedded.toml", &[("\"127.0.0.1\" ", "\"eth0\" ")]);
    assert_eq!(
        bad(&wired),
        [("interface.link", some("ethtool eth0")), ("interface.rings", some("ethtool -G eth0 rx 4096"))]
    );
    let list = "ip -4 -brief address   # then, in the configuration: interface";
    for absent in ["eth7", "192.168.1.24", "..", "eth0/../lo", "$(reboot)"] {
        let absent = format!("\"{absent}\" ");
        let absent = config("embedded.toml", &[("\"127.0.0.1\" ", absent.as_str())]);
        assert_eq!(bad(&absent), [("interface.present", some(list))]);
    }
    // Given to DPDK, its driver is the kernel's, and its group holds the sound card.
    let given = config("demo.toml", &[("interface = \"tickplane0\"", "device = \"00:1f.6\"")]);
    let bind = |address| format!("modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {address}");
    assert_eq!(
        bad(&given),
        [("nic.driver", Some(bind("0000:00:1f.6"))), ("nic.iommu", Some(bind("0000:00:1f.3")))]
    );
}

#[test]
fn a_vlan_by_af_xdp_needs_its_tags_in_the_frame() {
    let told = |port: &str| {
        let config = config("demo.toml", &[("interface = \"tickplane0\"", port)]);
        let findings = Tree::of("laptop").findings(&config);
        let told = findings.into_iter().find(|finding| finding.id == "interface.vlan_offload");
        told.map(|finding| (finding.severity, finding.subject.unwrap(), finding.mend.unwrap()))
    };
    let note = Some((Severity::Note, "eth0".to_owned(), "ethtool -K eth0 rxvlan off".to_owned()));
    assert_eq!(told("interface = \"eth0\"\nvlan = 100"), note);
    assert_eq!(told("device = \"net_af_xdp0,iface=eth0\"\nvlan = 100"), note);
    assert_eq!(told("interface = \"eth0\""), None);
    assert_eq!(told("device = \"net_af_packet0,iface=eth0\"\nvlan = 100"), None);
    assert_eq!(told("device = \"00:1f.6\"\nvlan = 100"), None);
}

#[test]
fn a_bare_virtual_machine_runs_the_default_but_no_nic_of_dpdk() {
    let machine = Tree::of("virtual-machine");
    let findings = machine.findings(&embedded());
    assert_bad(&findings, &[]);
    // Root goes past the limit.
    let buffer = find(&findings, "socket.receive_buffer");
    assert_eq!(
        (buffer.severity, buffer.mend.as_deref()),
        (Severity::Note, Some("sysctl -w net.core.rmem_max=8388608"))
    );
    let pages = "echo 84 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let chrony = "apt-get install -y chrony && systemctl enable --now chrony";
    let findings = machine
        .findings(&config("demo.toml", &[("interface = \"tickplane0\"", "device = \"0000:00:03.0\"")]));
    let unsafe_mode = "modprobe vfio enable_unsafe_noiommu_mode=1   # or give the machine a virtual IOMMU";
    let bind = "modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci 0000:00:03.0";
    assert_bad(
        &findings,
        &[
            ("memory.huge_pages", "", FAILURE, pages),
            ("nic.driver", "veth", FAILURE, bind),
            ("nic.iommu", "veth", FAILURE, unsafe_mode),
            ("clock.synchronisation", "", WARNING, chrony),
        ],
    );
    // A disk is no NIC, and a core of its own is asked for.
    let disk = config(
        "demo.toml",
        &[
            ("interface = \"tickplane0\"", "device = \"0000:00:02.0\""),
            ("idle = \"yield\"", "idle = \"spin\"\ncore = 1"),
        ],
    );
    let findings = machine.findings(&disk);
    assert_eq!(find(&findings, "nic.device").severity, FAILURE);
    assert_eq!(
        find(&findings, "processor.isolation").mend,
        Some(grub("s/^GRUB_CMDLINE_LINUX=\"/&isolcpus=managed_irq,domain,1 /"))
    );
}

/// The number in a command, which must lie within.
fn assert_number(finding: &Finding, before: &str, after: &str, range: std::ops::Range<u64>) {
    let mend = finding.mend.as_deref().unwrap_or_default();
    let number = mend.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)?.parse().ok());
    assert!(number.is_some_and(|number| range.contains(&number)), "{finding:?}");
}

#[test]
fn a_region_that_does_not_fit_is_told() {
    let mounts = "/proc/self/mounts";
    let of = |mount: &str, id| {
        let findings = Tree::of("laptop").with(mounts, mount).findings(&embedded());
        find(&findings, id).clone()
    };
    // The default's region is 64 MiB of log, and tables.
    let small = of("shm /dev/shm tmpfs rw,size=65536k 0 0\n", "memory.region");
    assert_eq!(small.severity, FAILURE);
    assert_number(&small, "mount -o remount,size=", "M /dev/shm", 64..256);
    assert_eq!(of("/dev/sda1 / ext4 rw 0 0\n", "memory.region").severity, WARNING);
    let pages = of("none /dev/shm hugetlbfs rw,pagesize=2M 0 0\n", "memory.huge_pages");
    assert_eq!(pages.severity, FAILURE);
    assert_number(&pages, "echo ", " > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", 32..128);
}

#[test]
fn huge_pages_may_be_enough_tight_held_or_missing() {
    let pool = "/sys/kernel/mm/hugepages/hugepages-2048kB";
    // 40 MiB of packet buffers, 74 to 128 MiB of DPDK's own: 57 to 84 pages.
    let cases =
        [(84, 84, Severity::Ok), (83, 83, WARNING), (57, 57, WARNING), (56, 56, FAILURE), (10, 200, WARNING)];
    for (free, reserved, severity) in cases {
        let machine = Tree::of("virtual-machine").with(&format!("{pool}/free_hugepages"), &free.to_string());
        let machine = machine.with(&format!("{pool}/nr_hugepages"), &reserved.to_string());
        let findings = machine.findings(&config("demo.toml", &[]));
        let pages = find(&findings, "memory.huge_pages");
        assert_eq!(pages.severity, severity, "{free} of {reserved}");
        let mend = (severity != Severity::Ok)
            .then(|| format!("echo {} > {pool}/nr_hugepages", reserved + 84 - free));
        assert_eq!(pages.mend, mend);
    }
}

#[test]
fn the_exit_status_is_the_severity() {
    let server = config_file("nic-pci.toml");
    let server = server.to_str().unwrap();
    let cases: [(&str, &[&str], i32); 5] = [
        ("virtual-machine", &[], 0),
        ("tuned-server", &["--config", server], 0),
        ("laptop", &[], 2),
        ("laptop", &["--config", server], 3),
        ("laptop", &["--config", "no-such.toml"], 1),
    ];
    for (machine, arguments, status) in cases {
        let output = Tree::of(machine).doctor(arguments);
        assert_eq!(output.status.code(), Some(status), "{machine} {arguments:?}");
        assert_eq!(output.stderr.is_empty(), status != 1);
    }
    // A wrong command line must not look like warnings.
    assert_eq!(Tree::of("laptop").doctor(&["--no-such-option"]).status.code(), Some(1));
    assert_eq!(Tree::of("laptop").doctor(&["--help"]).status.code(), Some(0));
    assert_eq!(Tree::parse("/x\t1").doctor(&[]).status.code(), Some(1));
}

#[test]
fn json_has_its_shape_and_text_fits_eighty_columns() {
    let laptop = Tree::of("laptop");
    let output = laptop.doctor(&["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&report), ["config", "root", "severity", "exit_status", "counts", "findings"]);
    assert_eq!((&report["severity"], &report["exit_status"]), (&"warning".into(), &2.into()));
    assert_eq!(keys(&report["counts"]), ["ok", "note", "warning", "failure"]);
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), laptop.findings(&embedded()).len());
    for finding in findings {
        assert_eq!(keys(finding), ["id", "subject", "severity", "needed", "found", "why", "mend"]);
    }
    let output = laptop.doctor(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\x1b'), "no colours: this is no terminal");
    for line in text.lines().skip(1).filter(|line| !line.trim_start().starts_with('→')) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(text.ends_with("fit, with warnings: 0 failures, 3 warnings, 18 notes, 6 ok\n"), "{text}");
}

#[test]
fn what_was_recorded_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machine.txt");
    let server = config_file("nic-pci.toml");
    let config = config("nic-pci.toml", &[]);
    for machine in ["tuned-server", "laptop", "virtual-machine"] {
        let tree = Tree::of(machine);
        tree.doctor(&["--config", server.to_str().unwrap(), "--record", file.to_str().unwrap()]);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(Tree::parse(&text).findings(&config), tree.findings(&config));
        // Neither other programs nor other words of the command line.
        assert!(!text.contains("sshd") && !text.contains("firefox") && !text.contains("root="), "{text}");
    }
    let nowhere = folder.path().join("no/such/folder");
    assert_eq!(Tree::of("laptop").doctor(&["--record", nowhere.to_str().unwrap()]).status.code(), Some(1));
}
