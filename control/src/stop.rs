//! Signals: the wish to stop, by SIGINT or SIGTERM, and that to read the configuration again, by SIGHUP.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// From now on SIGINT and SIGTERM set the flag, for an orderly end.
pub fn on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).expect("SIGINT and SIGTERM may be handled");
    }
    stop
}

/// From now on SIGHUP sets the flag, rather than end the process.
pub fn on_hangup() -> Arc<AtomicBool> {
    let hangup = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, hangup.clone()).expect("SIGHUP may be handled");
    hangup
}

/// Waits until the flag is set.
pub async fn requested(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
