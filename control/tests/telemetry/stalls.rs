//! A worker that is kept from running says so.

use super::process::{tickplane, wait_for};
use super::rig::Rig;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use rustix::process::Signal;

#[test]
fn a_node_that_was_stopped_says_when_and_for_how_long() {
    let rig = Rig::start(0, "idle = \"yield\"\nstall_us = 50000", "");
    // Another process may keep it from running, too: the longest of its stalls from then on is at least this one.
    let longest = |since_ns: u64| {
        let seen = rig.json(&["latency", "--stalls"]);
        let last = seen["workers"][0]["last"].as_array().unwrap().clone();
        let since = last.into_iter().filter(|stall| stall["ended_ns"].as_u64() > Some(since_ns));
        since.max_by_key(|stall| stall["duration_ns"].as_u64())
    };
    let (stopped, stopped_ns) = (std::time::Instant::now(), SystemClock.unix_ns());
    rig.signal(Signal::STOP);
    // It is stopped once the kernel says so.
    wait_for("it is stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", rig.node.0.id())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T').then_some(())
    });
    let until = std::time::Instant::now();
    wait_for("a while", || (until.elapsed().as_millis() >= 200).then_some(()));
    rig.signal(Signal::CONT);
    let stall = wait_for("the stall is told", || {
        longest(stopped_ns).filter(|stall| stall["duration_ns"].as_u64() >= Some(200_000_000))
    });
    // It may have been kept from running already when it was stopped.
    let begun_ns = stall["ended_ns"].as_u64().unwrap() - stall["duration_ns"].as_u64().unwrap();
    let most_ns = stopped.elapsed().as_nanos() as u64 + stopped_ns.saturating_sub(begun_ns);
    assert!(stall["duration_ns"].as_u64().unwrap() <= most_ns, "{stall}");
    assert_eq!((&stall["idle"], &stall["frames"], &stall["port"]), (&true.into(), &0.into(), &"".into()));
    let text = tickplane().args(["latency", "--stalls", "--server", &rig.grpc]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("worker 0: ") && text.contains("idle: the thread was kept"), "{text}");
    let value = |name: &str| -> f64 {
        let page = rig.page();
        let line = page.lines().find(|line| line.starts_with(&format!("tickplane_{name}{{}} ")));
        line.unwrap_or_else(|| panic!("{name} is not in {page}")).split(' ').nth(1).unwrap().parse().unwrap()
    };
    assert!(value("worker_stalls_total") >= 1.0 && value("worker_stalled_seconds_total") >= 0.2);
    // What a stall is changes while the node runs.
    let limit_ns = || rig.json(&["latency", "--stalls"])["workers"][0]["limit_ns"].as_u64();
    assert_eq!(limit_ns(), Some(50_000_000));
    rig.reload("stall_us = 50000", "stall_us = 1");
    wait_for("the new one holds", || (limit_ns() == Some(1_000)).then_some(()));
    let before = value("worker_stalls_total");
    wait_for("rounds are judged by it", || (value("worker_stalls_total") > before + 3.0).then_some(()));
}
