//! Subscribers of a group of nodes, which go on at another node when theirs is gone.

mod group;
mod process;

use dataplane::cache::reader::Reader;
use drivers::region::RegionMapping;
use group::{Node, Rig, fail_over};
use process::{Process, tickplane, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// `tickplane watch --every-tick` into a file, and with the place where it ended.
struct Watch {
    process: Process,
    file: PathBuf,
}

impl Watch {
    fn start(node: &Node, file: PathBuf, place: &Path) -> Watch {
        let mut command = tickplane();
        command.args(["watch", "--json", "--every-tick", "*", "--server", &node.server, "--resume"]);
        command.arg(place).stderr(Stdio::null()).stdout(File::create(&file).unwrap());
        Watch { process: Process(command.spawn().unwrap()), file }
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        // The last line may be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The positions of the updates.
    fn positions(&self) -> Vec<u64> {
        let is_update = |line: &&Value| line.get("instrument").is_some();
        self.lines().iter().filter(is_update).map(|line| line["position"].as_u64().unwrap()).collect()
    }

    fn end(mut self) -> Watch {
        kill_process(Pid::from_child(&self.process.0), Signal::TERM).unwrap();
        assert!(self.process.0.wait().unwrap().success());
        self
    }
}

/// A group that has lost all that its nodes wrote down of terms counts them from 1 again.
#[test]
fn a_place_of_another_log_of_the_same_term_is_not_gone_on_from() {
    let place = |rig: &Rig, wanted: u64| {
        let (place, dump) = (rig.dump("place"), rig.dump("book.jsonl"));
        let node = rig.group(&["a"]).remove(0);
        let watch = Watch::start(&node, rig.dump("watched.jsonl"), &place);
        let exchange = rig.exchange("ONE", &dump);
        let position = wait_for("ticks are watched", || {
            let last = watch.positions().last().copied()?;
            (last > wanted && place.exists()).then_some(last)
        });
        watch.end();
        (node, exchange, place, position)
    };
    let (rig, other) = (Rig::new(1), Rig::new(2));
    let (_node, _exchange, kept, position) = place(&rig, 1_000);
    let (stranger, _feeding, own, _) = place(&other, position);
    assert_eq!(stranger.cluster()["term"], 1);
    for (place, answer) in [(kept, ("image_reason", "other_log")), (own, ("notice", "resumed"))] {
        let watch = Watch::start(&stranger, other.dump("again.jsonl"), &place);
        let first = wait_for("an answer", || watch.lines().first().cloned());
        watch.end();
        assert_eq!(first[answer.0], answer.1, "{first}");
    }
}

#[test]
fn after_a_failover_each_tick_comes_once_and_in_order_at_either_survivor() {
    let rig = Rig::new(0);
    let mut nodes = rig.group(&["a", "b", "c"]);
    let dump = rig.dump("book.jsonl");
    let place = rig.dump("place");
    let before = Watch::start(&nodes[0], rig.dump("before.jsonl"), &place);
    wait_for("the image is watched", || place.exists().then_some(()));
    let _exchange = rig.exchange("ONE", &dump);
    wait_for("ticks are watched", || (before.positions().len() > 1_000).then_some(()));
    let before = before.end();
    let seen = before.positions();
    let kept = std::fs::read_to_string(&place).unwrap();
    let position = u64::from_str_radix(kept.split_whitespace().nth(2).unwrap(), 16).unwrap();
    for node in &nodes[1..] {
        let mapping = RegionMapping::open(&node.region).unwrap();
        let reader = Reader::open(mapping.cells()).unwrap();
        wait_for("the survivors have what was watched", || (reader.tail() >= position).then_some(()));
    }
    fail_over(&mut nodes, &dump);
    for node in &nodes[1..] {
        let copy = rig.dump(&format!("place.{}", node.name));
        std::fs::copy(&place, &copy).unwrap();
        let after = Watch::start(node, rig.dump(&format!("after.{}.jsonl", node.name)), &copy);
        let last = *node.rows_between(position, node.cluster()["tail"].as_u64().unwrap() - 1).last().unwrap();
        wait_for("all ticks are watched", || (after.positions().last() >= Some(&last)).then_some(()));
        let after = after.end();
        assert_eq!(after.lines()[0]["notice"], "resumed", "at {}", node.name);
        let all = [seen.clone(), after.positions()].concat();
        assert!(all.len() > 5_000 && all.windows(2).all(|pair| pair[0] < pair[1]), "once, and in order");
        assert_eq!(all, node.rows_between(all[0], *all.last().unwrap()), "nothing is missing");
    }
}
