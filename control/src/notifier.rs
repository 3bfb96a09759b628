//! Tells subscribers that the log has grown.

use crate::bell::Bell;
use dataplane::cache::reader::Reader;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How often the log's end is looked at.
const INTERVAL: Duration = Duration::from_micros(100);
/// So many looks in a row for nobody, and it is not looked at until somebody waits.
const IDLE_LOOKS: u32 = 20;

/// A thread of its own, since the runtime's timers are too coarse; it sleeps while nobody waits for the log.
pub struct Notifier {
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    passing_on: tokio::task::JoinHandle<()>,
}

impl Notifier {
    /// Rings the bell whenever the log has grown; to be called from within the runtime of those who wait.
    pub fn start(reader: Reader<'static>, bell: Arc<Bell>) -> io::Result<Notifier> {
        let (sender, seen) = watch::channel(0);
        let end = Arc::new(AtomicBool::new(false));
        let (awaited, ended) = (bell.clone(), end.clone());
        let notify = move || {
            awaited.wakes(std::thread::current());
            look(&reader, &awaited, &sender, &ended);
        };
        let thread = std::thread::Builder::new().name("notifier".to_owned()).spawn(notify)?;
        Ok(Notifier { end, thread, passing_on: tokio::spawn(pass_on(seen, bell)) })
    }

    /// Ends it; false = it had ended by itself.
    pub async fn end(self) -> bool {
        self.passing_on.abort();
        self.end.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        matches!(joined, Ok(Ok(())))
    }
}

fn look(reader: &Reader<'_>, bell: &Bell, tail: &watch::Sender<u64>, end: &AtomicBool) {
    let mut idle_looks = 0;
    while !end.load(Ordering::Relaxed) {
        let seen = reader.tail();
        tail.send_if_modified(|known| std::mem::replace(known, seen) != seen);
        idle_looks = if bell.is_awaited() { 0 } else { idle_looks + 1 };
        if idle_looks < IDLE_LOOKS {
            std::thread::sleep(INTERVAL);
        } else {
            std::thread::park();
            idle_looks = 0;
        }
    }
}

/// Rings from within the runtime: there a subscriber is woken by a place in a queue; the notifier itself would have to call the
/// kernel for each.
async fn pass_on(mut seen: watch::Receiver<u64>, bell: Arc<Bell>) {
    while seen.changed().await.is_ok() {
        bell.ring_by_turns().await;
    }
}
