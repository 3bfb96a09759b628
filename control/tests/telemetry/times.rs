//! What the worker judges by changes while it runs.

use super::process::wait_for;
use super::rig::Rig;
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_feed_is_stale_by_the_time_that_holds_now() {
    let rig = Rig::start(5, "valid_for_ms = 60000", "");
    let exchange = rig.exchange(true, &[]);
    let status = || rig.json(&["status"]);
    let condition = || status()["feeds"][0]["condition"].as_str().unwrap().to_owned();
    wait_for("it is live", || (condition() == "live").then_some(()));
    rig.reload("silence_ms = 500", "silence_ms = 3600000");
    let shows = |text: &str| rig.json(&["config", "show"])["toml"].as_str().unwrap().contains(text);
    wait_for("an hour is in force", || shows("silence_ms = 3600000").then_some(()));
    kill_process(Pid::from_child(&exchange.0), Signal::STOP).unwrap();
    // Silent for longer than it could have been before.
    let received = || status()["feeds"][0]["messages"].as_u64().unwrap();
    let (mut last, mut since) = (0, std::time::Instant::now());
    wait_for("nothing comes", || {
        if std::mem::replace(&mut last, received()) != last {
            since = std::time::Instant::now();
        }
        (since.elapsed().as_millis() > 700).then_some(())
    });
    assert_eq!(condition(), "live");
    rig.reload("silence_ms = 3600000", "silence_ms = 500");
    wait_for("it is stale", || (condition() == "stale").then_some(()));
    // So far a minute.
    assert!(status()["region"]["valid_for_ns"].as_i64() > Some(5_000_000_000));
    rig.reload("valid_for_ms = 60000", "valid_for_ms = 3000");
    wait_for("it is believed for less", || {
        (status()["region"]["valid_for_ns"].as_i64() <= Some(3_000_000_000)).then_some(())
    });
    kill_process(Pid::from_child(&exchange.0), Signal::CONT).unwrap();
    wait_for("it is live again", || (condition() == "live").then_some(()));
}
