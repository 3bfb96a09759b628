//! The configuration of a node that runs: shown, compared, applied, read again at SIGHUP, and refused.

mod process;

use process::{Process, start_appliance, tickplane, wait_for};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

const TEXT: &str = r#"
node = "config-test"
[region]
path = "REGION"
instruments_max = 100
log_ticks = 1024
[[ports]]
name = "lo"
kind = "udp"
interface = "127.0.0.1"
[[feeds]]
name = "feed"
protocol = "records"
[[feeds.lines]]
name = "A"
port = "lo"
group = "239.253.0.1:26477"
[grpc]
listen = "127.0.0.1:0"
# A comment that is kept.
subscriptions_max = 7
"#;

struct Node {
    process: Process,
    grpc: String,
    text: String,
    folder: tempfile::TempDir,
}

impl Node {
    fn start() -> Node {
        let folder = tempfile::tempdir().unwrap();
        let text = TEXT.replace("REGION", folder.path().join("region").to_str().unwrap());
        let (process, grpc) = start_appliance(folder.path(), &text);
        Node { process, grpc, text, folder }
    }

    /// Where the node keeps its configuration.
    fn file(&self) -> PathBuf {
        self.folder.path().join("appliance.toml")
    }

    fn config(&self, arguments: &[&str]) -> Output {
        let mut command = tickplane();
        command.env_remove("RUST_LOG").args(["config", "--json", "--server", &self.grpc]).args(arguments);
        command.output().unwrap()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn subscriptions_max(&self) -> u64 {
        let output = tickplane().args(["status", "--json", "--server", &self.grpc]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        status["subscriptions_max"].as_u64().unwrap_or_else(|| panic!("{status}"))
    }
}

fn json(output: &Output) -> Value {
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}", said());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said()))
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_node_takes_what_it_can_while_it_runs_and_refuses_the_rest_as_a_whole() {
    let node = Node::start();
    let shown = json(&node.config(&["show"]));
    assert_eq!(Path::new(shown["file"].as_str().unwrap()), node.file());
    assert!(shown["toml"].as_str().unwrap().contains("valid_for_ms = 1000"), "with defaults: {shown}");
    assert!(shown["live_keys"].as_array().unwrap().contains(&"grpc.subscriptions_max".into()), "{shown}");
    assert_eq!(node.subscriptions_max(), 7);

    let more = node.write("more.toml", &node.text.replace("subscriptions_max = 7", "subscriptions_max = 9"));
    let compared = json(&node.config(&["diff", &more]));
    assert_eq!(compared["differences"][0]["key"], "grpc.subscriptions_max");
    assert_eq!((&compared["applied"], node.subscriptions_max()), (&false.into(), 7));
    assert_eq!(json(&node.config(&["apply", &more]))["applied"], true);
    assert_eq!(node.subscriptions_max(), 9);
    let kept = std::fs::read_to_string(node.file()).unwrap();
    assert_eq!(kept, std::fs::read_to_string(&more).unwrap(), "comments, too");

    let fixed = kept.replace("instruments_max = 100", "instruments_max = 200").replace("max = 9", "max = 5");
    let refused = error(&node.config(&["apply", &node.write("fixed.toml", &fixed)]));
    assert!(refused.contains("region.instruments_max: can't change while the node runs"), "{refused}");
    let malformed = node.write("malformed.toml", &kept.replace("subscriptions_max", "subscriptions_mxa"));
    let refused = error(&node.config(&["diff", &malformed]));
    assert!(refused.contains("did you mean `subscriptions_max`?"), "{refused}");
    assert_eq!(node.subscriptions_max(), 9);
    assert_eq!(std::fs::read_to_string(node.file()).unwrap(), kept);

    std::fs::write(node.file(), kept.replace("max = 9", "max = 11")).unwrap();
    let pid = rustix::process::Pid::from_child(&node.process.0);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    wait_for("SIGHUP is heard", || (node.subscriptions_max() == 11).then_some(()));
}
