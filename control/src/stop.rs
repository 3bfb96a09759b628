//! The wish to stop, by SIGINT or SIGTERM.

use signal_hook::consts::{SIGINT, SIGTERM};
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

/// Waits until the flag is set.
pub async fn requested(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
