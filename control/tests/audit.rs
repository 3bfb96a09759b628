//! What operators change at a node in a process of its own: it is recorded, and outlasts the process.

mod process;

use process::{Process, start_appliance, tickplane, token, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::Path;
use std::process::{Output, Stdio};

/// A node with a store, and who may call it.
struct Rig {
    folder: tempfile::TempDir,
    config: String,
    node: Process,
    server: String,
    /// Of `ann`, an admin, and of `rob`, a reader.
    tokens: [String; 2],
    hashes: [String; 2],
}

impl Rig {
    fn start() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let ((ann, ann_hash), (rob, rob_hash)) = (token(), token());
        let group = format!("239.251.{}.{}", std::process::id() >> 8 & 0xff, std::process::id() & 0xff);
        let file = |name: &str| folder.path().join(name);
        let config = format!(
            "node = \"audited\"\n[region]\npath = {:?}\ninstruments_max = 64\nlog_ticks = 65536\n[[ports]]\nname = \"lo\"\n\
             kind = \"udp\"\ninterface = \"127.0.0.1\"\n[[feeds]]\nname = \"one\"\nprotocol = \"itch50\"\norders_max = 100\n\
             [[feeds.lines]]\nname = \"A\"\nport = \"lo\"\ngroup = \"{group}:26477\"\n\
             [grpc]\nlisten = \"127.0.0.1:0\"\nsubscriptions_max = 9\n[store]\nfolder = {:?}\n\
             [quota.reader]\nupdates_per_s = 500\n\
             [[clients]]\nname = \"ann\"\nrole = \"admin\"\ntoken_sha256 = \"{ann_hash}\"\n\
             [[clients]]\nname = \"rob\"\nrole = \"reader\"\ntoken_sha256 = \"{rob_hash}\"\n",
            file("region"),
            file("store"),
        );
        let (node, server) = start_appliance(folder.path(), &config);
        Rig { folder, config, node, server, tokens: [ann, rob], hashes: [ann_hash, rob_hash] }
    }

    /// Kills it, and starts it again.
    fn restart(&mut self) {
        self.node.0.kill().unwrap();
        self.node.0.wait().unwrap();
        (self.node, self.server) = start_appliance(self.folder.path(), &self.config);
    }

    fn call(&self, client: usize, arguments: &[&str]) -> Output {
        let who = ["--server", &self.server, "--token", &self.tokens[client]];
        tickplane().args(arguments).args(who).output().unwrap()
    }

    fn obeys(&self, arguments: &[&str]) -> String {
        let output = self.call(0, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn records(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.obeys(&[&["audit", "--json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn file(&self, text: &str) -> std::path::PathBuf {
        let file = self.folder.path().join("next.toml");
        std::fs::write(&file, text).unwrap();
        file
    }
}

fn told(records: &[Value]) -> Vec<[&str; 3]> {
    records
        .iter()
        .map(|record| ["client", "action", "object"].map(|key| record[key].as_str().unwrap()))
        .collect()
}

fn reload(rig: &Rig) {
    kill_process(Pid::from_child(&rig.node.0), Signal::HUP).unwrap();
}

#[test]
fn what_was_changed_is_recorded_and_outlasts_a_node_that_is_killed() {
    let mut rig = Rig::start();
    // He has not called yet: what is not given he has of his role.
    rig.obeys(&["quota", "set", "rob", "--requests-per-min", "6000"]);
    rig.obeys(&["subscription", "create", "desk", "A*", "--client", "rob"]);
    let limits = |rig: &Rig| -> Value {
        let shown = rig.call(1, &["quota", "get", "--json"]);
        serde_json::from_slice::<Value>(&shown.stdout).unwrap()
    };
    let before = limits(&rig);
    assert_eq!((&before["is_own"], &before["limits"]["updates_per_s"]), (&true.into(), &500.into()));
    assert_eq!(before["limits"]["requests_per_min"], 6_000);
    let refused = rig.call(1, &["audit"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("role admin is needed"), "{refused:?}");
    let records = rig.records(&[]);
    let expected = [["ann", "quota.set", "rob"], ["ann", "subscription.create", "desk"]];
    assert_eq!(told(&records), expected);
    rig.restart();
    assert_eq!(rig.records(&[]), records);
    assert_eq!(limits(&rig)["limits"], before["limits"]);
    rig.obeys(&["quota", "reset", "rob"]);
    rig.restart();
    assert_eq!(limits(&rig)["is_own"], false);
    let records = rig.records(&["--action", "quota.", "--from", "1"]);
    assert_eq!(told(&records), [["ann", "quota.set", "rob"], ["ann", "quota.reset", "rob"]]);
    assert_eq!((&records[1]["number"], &records[1]["node"]), (&3.into(), &"audited".into()));
    let table = rig.obeys(&["audit", "--last", "1"]);
    assert!(table.contains("quota.reset") && !table.contains("quota.set"), "{table}");
    assert_eq!(rig.records(&["--since", "1h"]).len(), 3);
    assert_eq!(rig.records(&["--client", "nobody"]).len(), 0);
}

#[test]
fn changes_of_the_configuration_are_recorded_without_secrets() {
    let rig = Rig::start();
    let (_, other_hash) = token();
    let changed = rig
        .config
        .replace("subscriptions_max = 9", "subscriptions_max = 12")
        .replace(&rig.hashes[1], &other_hash);
    let next = |text: &str| rig.file(text).to_str().unwrap().to_owned();
    rig.obeys(&["config", "diff", &next(&changed)]);
    // One that is refused, and one that changes nothing.
    let refused =
        rig.call(0, &["config", "apply", &next(&rig.config.replace("orders_max = 100", "orders_max = 200"))]);
    assert!(!refused.status.success());
    rig.obeys(&["config", "apply", &next(&rig.config)]);
    assert_eq!(rig.records(&[]).len(), 0);
    rig.obeys(&["config", "apply", &next(&changed)]);
    let file = rig.folder.path().join("appliance.toml");
    std::fs::write(&file, changed.replace("updates_per_s = 500", "updates_per_s = 700")).unwrap();
    reload(&rig);
    let records = wait_for("the signal's is recorded", || {
        Some(rig.records(&["--from", "1"])).filter(|records| records.len() == 2)
    });
    let expected = [
        ["ann", "config.apply", "clients.rob.token_sha256, grpc.subscriptions_max"],
        ["SIGHUP", "config.reload", "quota.reader.updates_per_s"],
    ];
    let mut found = told(&records);
    // In whatever order the file has them.
    let mut keys: Vec<&str> = found[0][2].split(", ").collect();
    keys.sort_unstable();
    let keys = keys.join(", ");
    found[0][2] = &keys;
    assert_eq!(found, expected);
    let now = records[0]["now"].as_str().unwrap();
    assert!(now.contains("revision 2: ") && now.contains("grpc.subscriptions_max = 12"), "{now}");
    assert!(now.contains("clients.rob.token_sha256 is another"), "{now}");
    assert!(records[1]["now"].as_str().unwrap().ends_with("quota.reader.updates_per_s = 700"));
    let all = rig.obeys(&["audit", "--json"]);
    assert!(rig.hashes.iter().chain([&other_hash]).all(|hash| !all.contains(hash.as_str())), "{all}");
}

#[test]
fn the_command_follows_what_is_changed() {
    let rig = Rig::start();
    rig.obeys(&["quota", "set", "one", "--subscriptions", "1"]);
    let mut command = tickplane();
    command.args(["audit", "--watch", "--json", "--action", "quota.", "--server", &rig.server]);
    command.args(["--token", &rig.tokens[0]]).stdout(Stdio::piped());
    let mut watching = Process(command.spawn().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watching.0.stdout.take().unwrap()));
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["object"], "one");
    rig.obeys(&["subscription", "create", "desk", "A*"]);
    rig.obeys(&["quota", "set", "two", "--subscriptions", "1"]);
    let second = next();
    assert_eq!((&second["object"], &second["number"]), (&"two".into(), &3.into()));
    kill_process(Pid::from_child(&watching.0), Signal::INT).unwrap();
    assert!(watching.0.wait().unwrap().success(), "^C is how it ends");
    assert!(Path::new(rig.folder.path()).join("store").join("tickplane.redb").exists());
}
