//! Machines of which any file may be missing, or hold anything.

use super::machines::{Tree, garbage};
use super::{WARNING, config, embedded};
use control::config::Config;
use control::doctor::{Finding, Severity};

fn assert_whole(findings: &[Finding], path: &str) {
    assert!(findings.len() >= 20, "{path}: only {} findings", findings.len());
    for finding in findings {
        assert!(
            (1..=401).contains(&finding.found.chars().count()) && finding.why.ends_with('.'),
            "{path}: {finding:?}"
        );
        assert!(finding.severity < WARNING || finding.mend.is_some(), "{path}: {finding:?}");
        assert!(finding.needed || finding.severity == Severity::Note, "{path}: {finding:?}");
    }
}

/// Every file in turn is missing, empty, garbage, a folder or a dangling link.
fn damage(machine: &str, configs: &[Config]) {
    let tree = Tree::of(machine);
    let mut differences = 0;
    let whole: Vec<Vec<Finding>> = configs.iter().map(|config| tree.findings(config)).collect();
    for (path, entry) in &tree.entries {
        for instead in garbage() {
            tree.remove(path);
            if let Some(instead) = &instead {
                tree.put(path, instead);
            }
            for (config, whole) in configs.iter().zip(&whole) {
                let findings = tree.findings(config);
                assert_whole(&findings, path);
                differences += usize::from(findings != *whole);
            }
            if instead.is_some() {
                tree.remove(path);
            }
            tree.put(path, entry);
        }
    }
    // That it was looked at at all.
    assert!(differences > 5 * tree.entries.len(), "{differences}");
    let again: Vec<Vec<Finding>> = configs.iter().map(|config| tree.findings(config)).collect();
    assert_eq!(again, whole);
}

#[test]
fn a_damaged_server_harms_nobody() {
    damage(
        "tuned-server",
        &[config("nic-pci.toml", &[]), config("sriov-vf.toml", &[("0000:3b:02.0", "0000:5e:00.2")])],
    );
}

#[test]
fn a_damaged_laptop_harms_nobody() {
    let address = config("embedded.toml", &[("\"127.0.0.1\" ", "\"192.168.1.23\" ")]);
    let given = config("demo.toml", &[("interface = \"tickplane0\"", "device = \"00:1f.6\"")]);
    damage("laptop", &[address, given]);
}

#[test]
fn a_damaged_virtual_machine_harms_nobody() {
    damage("virtual-machine", &[embedded(), config("embedded.toml", &[("\"127.0.0.1\" ", "\"eth0\" ")])]);
}

#[test]
fn an_empty_machine_harms_nobody() {
    let nothing = Tree::parse("/proc/\n");
    for name in ["embedded.toml", "demo.toml", "nic-pci.toml", "sriov-vf.toml", "cme.toml", "iex.toml"] {
        let findings = nothing.findings(&config(name, &[]));
        assert!(findings.iter().all(|finding| !finding.found.is_empty()), "{findings:#?}");
    }
}
