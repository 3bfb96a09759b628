//! The alert rules that are delivered: read by promtool, compared with what nodes expose, and evaluated by a real server that
//! scrapes real nodes while they are damaged.

#[path = "../group/mod.rs"]
mod group;
#[path = "../process/mod.rs"]
mod process;
#[allow(dead_code, reason = "its node is not signalled here")]
#[path = "../telemetry/rig.rs"]
mod rig;
mod server;

use process::{field, tickplane, wait_for};
use server::Server;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const RULES: &str = include_str!("../../../configs/prometheus/tickplane.rules.yml");
const CONFIG: &str = include_str!("../../../configs/prometheus/prometheus.yml");
const TESTS: &str = include_str!("rules.test.yml");

/// Whether Debian's package `prometheus` is here; says so if not.
fn is_installed() -> bool {
    let runs = |program| Command::new(program).arg("--version").output().is_ok();
    let is_installed = runs("prometheus") && runs("promtool");
    if !is_installed {
        eprintln!("skipped: prometheus is not installed (apt-get install prometheus)");
    }
    is_installed
}

fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(file)
}

/// Whatever follows `prefix` on a line of the rules.
fn values_of(prefix: &str) -> Vec<&'static str> {
    RULES.lines().filter_map(|line| line.trim_start().strip_prefix(prefix)).map(str::trim).collect()
}

#[test]
fn promtool_takes_the_rules_the_configuration_and_their_tests() {
    if !is_installed() {
        return;
    }
    for (arguments, file) in [
        (["check", "rules"], "configs/prometheus/tickplane.rules.yml"),
        (["check", "config"], "configs/prometheus/prometheus.yml"),
        (["test", "rules"], "control/tests/prometheus/rules.test.yml"),
    ] {
        let output = Command::new("promtool").args(arguments).arg(repository(file)).output().unwrap();
        assert!(output.status.success(), "{arguments:?} {file}: {output:?}");
    }
}

#[test]
fn every_alert_is_tested_and_says_what_to_do() {
    let alerts = values_of("- alert: ");
    assert!(alerts.len() >= 30, "{alerts:?}");
    for alert in &alerts {
        assert!(TESTS.contains(&format!("alertname=\"{alert}\"")), "{alert} fires in none of rules.test.yml");
    }
    // promtool is content without any of these.
    for key in ["severity: ", "summary: ", "description: ", "for: "] {
        assert_eq!(values_of(key).len(), alerts.len(), "{key}");
    }
    let severities: BTreeSet<_> = values_of("severity: ").into_iter().collect();
    assert_eq!(severities, BTreeSet::from(["critical", "info", "warning"]));
}

const OBJECTIVE: &str = "[[objectives]]\nname = \"never\"\nstage = \"exchange_to_received\"\nquantile = 0.01\nlimit_us = 1\nover_s = 5\n";
/// Nobody listens at port 9, which is for discarding.
const TRACES: &str = "[traces]\notlp = \"http://127.0.0.1:9\"\n";

/// What is `tickplane_…` in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_name = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
    text.split(|byte| !is_name(byte)).filter(|name| name.starts_with("tickplane_")).collect()
}

#[test]
fn the_rules_name_only_what_nodes_expose() {
    let alone = rig::Rig::start(0, "", &format!("{OBJECTIVE}{TRACES}[quota.admin]\nsubscriptions = 9\n"));
    let group = group::Rig::new(1);
    let primary = group.primary("127.0.0.1:0");
    let standby = group.standby("early", primary.replica());
    primary.wait_cluster("a standby is connected", |seen| group::peer(seen, "early")["connected"] == true);
    alone.json(&["status"]);
    let pages = wait_for("each client, peer and stage is there", || {
        let pages = [alone.page(), primary.metrics(), standby.metrics()].concat();
        pages.contains("tickplane_quota_used_ratio{").then_some(pages)
    });
    // The clock's are only there where somebody keeps it; what a page can have is told by its TYPE lines either way.
    let typed = pages.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let exposed: BTreeSet<&str> = metrics_in(&pages).into_iter().chain(typed).collect();
    let named = metrics_in(RULES);
    assert!(named.len() >= 30, "{named:?}");
    let missing: Vec<_> = named.difference(&exposed).collect();
    assert!(missing.is_empty(), "no node exposes {missing:?}");
    // Nor do they ask for an event, a stage or a reason that there is not.
    let mut selected = 0;
    for label in ["event", "stage", "reason", "outcome"] {
        for value in RULES.split(&format!("{label}=")).skip(1) {
            let value = value.trim_start_matches('~').trim_start_matches('"').split('"').next().unwrap();
            for one in value.split('|') {
                assert!(pages.contains(&format!("{label}=\"{one}\"")), "{label}=\"{one}\" is on no page");
                selected += 1;
            }
        }
    }
    assert!(selected >= 15, "{selected}");
}

/// The rules that are delivered, but that none of them waits, and a server with its configuration, but that it looks more often, at
/// these nodes.
fn start_server(folder: &Path, nodes: &[&str]) -> Server {
    let waits = |line: &str| line.trim_start().starts_with("for: ");
    let at_once = |line: &'static str| if waits(line) { "        for: 0s" } else { line };
    let rules: Vec<&str> = RULES.lines().map(at_once).collect();
    std::fs::write(folder.join("tickplane.rules.yml"), rules.join("\n")).unwrap();
    let mut config = CONFIG.to_owned();
    let (first, rest) =
        CONFIG.split_once("targets: [\"127.0.0.1:9464\"").expect("the nodes that are delivered");
    assert!(first.contains("job_name: tickplane"));
    let targets = rest.split(']').next().unwrap();
    for (from, to) in [
        ("scrape_interval: 5s", "scrape_interval: 500ms".to_owned()),
        ("evaluation_interval: 5s", "evaluation_interval: 500ms".to_owned()),
        (&format!("[\"127.0.0.1:9464\"{targets}]"), format!("{nodes:?}")),
    ] {
        assert!(config.contains(from), "{from}");
        config = config.replace(from, &to);
    }
    std::fs::write(folder.join("prometheus.yml"), config).unwrap();
    Server::start(folder)
}

/// Alerts on a value that every node, or every primary, has.
const BOUNDED: [&str; 10] = [
    "TickplaneLatencyP99High",
    "TickplaneLatencyP999High",
    "TickplaneWorkerStalls",
    "TickplaneLogShort",
    "TickplaneInstrumentsNearlyFull",
    "TickplaneSubscriptionsNearlyFull",
    "TickplaneLineLosesPackets",
    "TickplaneFramesDropped",
    "TickplaneReplicationLag",
    "TickplaneLogHeadroomLow",
];

fn instance(address: &str) -> [(&str, &str); 1] {
    [("instance", address)]
}

#[test]
fn a_real_server_tells_what_is_done_to_real_nodes() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let quota = "[quota.admin]\nrequests_per_min = 60\nburst_ms = 1000\n";
    let alone = rig::Rig::start(2, "", &format!("{OBJECTIVE}{quota}"));
    let rig = group::Rig::new(3);
    let mut primary = rig.primary("127.0.0.1:0");
    let [mut early, late] = ["early", "late"].map(|name| rig.standby(name, primary.replica()));
    for standby in [&early, &late] {
        standby.wait_cluster("a standby is level", |seen| seen["level"] == true);
    }
    let pages = [&primary, &early, &late].map(|node| field(&node.line, "metrics").unwrap().to_owned());
    let [at_primary, at_early, at_late] = pages.each_ref().map(String::as_str);
    let server = start_server(folder.path(), &[&alone.metrics, at_primary, at_early, at_late]);
    wait_for("all nodes are read", || (server.count("up == 1") == 4).then_some(()));
    let rules = wait_for("all rules are evaluated", || server.rules());
    assert_eq!(rules.len(), values_of("- alert: ").len());

    let feed = [("instance", alone.metrics.as_str()), ("feed", "feed")];
    server.fires("TickplaneFeedWaiting", &feed);
    let is_quiet = |name: &str, labels: &[_]| assert_eq!(server.alert(name, labels), None, "{name}");
    // A feed with both lines is as it should be, and its updates take longer than an objective that nobody can meet.
    is_quiet("TickplaneObjectiveMissed", &instance(&alone.metrics));
    let exchange = alone.exchange(true, &[]);
    server.fires("TickplaneObjectiveMissed", &[("objective", "never")]);
    server.ends("TickplaneFeedWaiting", &feed);
    // What is compared with a bound that is not crossed here is there all the same: names and labels match.
    for name in BOUNDED {
        let rule = rules.iter().find(|rule| rule["name"] == name).unwrap();
        let left = rule["query"].as_str().unwrap().split(['<', '>']).next().unwrap();
        wait_for(&format!("{name}: {left}"), || (server.count(left) > 0).then_some(()));
    }
    is_quiet("TickplaneLineSilent", &feed);
    is_quiet("TickplaneGap", &feed);
    // Line B stops, and nobody makes up for what A loses.
    drop(exchange);
    let exchange = alone.exchange(false, &["--loss", "0.02"]);
    server.fires("TickplaneLineSilent", &[feed[0], feed[1], ("line", "B")]);
    is_quiet("TickplaneLineSilent", &[feed[0], feed[1], ("line", "A")]);
    server.fires("TickplaneGap", &feed);
    server.fires("TickplaneFeedSuspect", &[feed[0], feed[1], ("reason", "gap")]);
    is_quiet("TickplaneFeedStale", &feed);
    drop(exchange);
    server.fires("TickplaneFeedStale", &feed);
    server.ends("TickplaneLineSilent", &feed);

    is_quiet("TickplaneQuotaRefused", &[]);
    wait_for("a call is refused", || {
        let output = tickplane().args(["status", "--server", &alone.grpc]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).contains("requests_per_min = 60").then_some(())
    });
    let refused = [feed[0], ("role", "admin"), ("limit", "requests_per_min")];
    server.fires("TickplaneQuotaRefused", &refused);

    let peer = [("instance", at_primary), ("peer", "early")];
    is_quiet("TickplanePeerMissing", &peer);
    is_quiet("TickplaneNodeDown", &[]);
    early.kill();
    server.fires("TickplanePeerMissing", &peer);
    server.fires("TickplaneNodeDown", &instance(at_early));
    for name in ["TickplaneNotBelieved", "TickplaneStandbyCutOff", "TickplaneNoPrimary"] {
        is_quiet(name, &[]);
    }
    primary.kill();
    server.fires("TickplaneNodeDown", &instance(at_primary));
    server.fires("TickplaneNotBelieved", &instance(at_late));
    server.fires("TickplaneStandbyCutOff", &instance(at_late));
    server.fires("TickplaneNoPrimary", &[("group", "equities")]);
    is_quiet("TickplaneNodeDown", &instance(at_late));
}
