//! What clients see that may not see market data in real time: the node, as it was a delay ago.
//!
//! Each delay has a region of its own, filled by a thread of its own from the first time that somebody needs it. The services
//! do with it what they do with the node's own.

use crate::node::Node;
use dataplane::cache::delayed::Delayed;
use dataplane::cache::reader::Reader;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::region::{RegionError, RegionMapping};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Delays that one node can have at once; each costs the memory of the region once more.
pub const DELAYS_MAX: usize = 4;
/// Of one delay. More than the longest that exchanges demand for delayed data, a day.
pub const DELAY_MAX: Duration = Duration::from_secs(86_400);

#[derive(Debug, thiserror::Error)]
pub enum DelayError {
    #[error(
        "clients have {DELAYS_MAX} different delays already, each with a region of its own: give this one the same as \
         another"
    )]
    TooMany,
    #[error("what was {delay_ms} ms ago is not known yet: try again in as many ms")]
    NotYet { delay_ms: u128 },
    #[error("memory for the region that is {delay_ms} ms late: {cause}")]
    Region { delay_ms: u128, cause: RegionError },
    #[error("a thread for the region that is late: {0}")]
    Thread(#[from] std::io::Error),
}

/// The delayed views of a node.
#[derive(Default)]
pub struct Delays {
    views: Mutex<Vec<View>>,
    /// Whoever has it makes one.
    making: Arc<tokio::sync::Mutex<()>>,
    end: Arc<AtomicBool>,
}

struct View {
    delay: Duration,
    node: Arc<Node>,
    is_complete: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Delays {
    /// The node as it was `delay` ago. It is made at the first call, which takes as long as its memory does, and is not complete
    /// before a delay has passed unless the node has only just begun.
    pub async fn view(self: &Arc<Self>, node: &Arc<Node>, delay: Duration) -> Result<Arc<Node>, DelayError> {
        if let Some(known) = self.known(delay) {
            return known;
        }
        let one = self.making.clone().lock_owned().await;
        if let Some(known) = self.known(delay) {
            return known;
        }
        if self.views().len() == DELAYS_MAX {
            return Err(DelayError::TooMany);
        }
        // All of a region's memory is touched when it is made: what this thread serves is not to wait for that.
        let (delays, node) = (self.clone(), node.clone());
        let made = tokio::task::spawn_blocking(move || {
            let _one = one;
            let view = View::start(&node, delay, delays.end.clone())?;
            let seen = view.node();
            delays.views().push(view);
            seen
        });
        made.await.map_err(std::io::Error::from)?
    }

    /// `None` = it is still to be made.
    fn known(&self, delay: Duration) -> Option<Result<Arc<Node>, DelayError>> {
        self.views().iter().find(|view| view.delay == delay).map(View::node)
    }

    /// Does it with each view.
    pub fn each(&self, what: impl Fn(&Node)) {
        self.views().iter().for_each(|view| what(&view.node));
    }

    fn views(&self) -> MutexGuard<'_, Vec<View>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Delays {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let views = self.views.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in views.iter_mut().filter_map(|view| view.thread.take()) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl View {
    fn node(&self) -> Result<Arc<Node>, DelayError> {
        match self.is_complete.load(Ordering::Acquire) {
            true => Ok(self.node.clone()),
            false => Err(DelayError::NotYet { delay_ms: self.delay.as_millis() }),
        }
    }

    fn start(node: &Arc<Node>, delay: Duration, end: Arc<AtomicBool>) -> Result<View, DelayError> {
        let bad = |cause| DelayError::Region { delay_ms: delay.as_millis(), cause };
        let mut mapping =
            RegionMapping::create_anonymous("delayed", node.reader.layout().cells()).map_err(bad)?;
        let bytes = mapping.mapped_bytes();
        let cells = mapping.leak();
        let delay_ns = delay.as_nanos() as u64;
        let mut delayed = Delayed::new(node.reader, cells, SystemClock.unix_ns(), delay_ns)
            .expect("the layout is that of the source");
        let reader = Reader::open(cells).expect("it was laid out just now");
        let node = Arc::new(node.with_cache(reader, bytes));
        let log_bell = node.log_bell.clone();
        let is_complete = Arc::new(AtomicBool::new(delayed.is_complete()));
        let complete = is_complete.clone();
        // Often enough for the grain of the delayed region, and never so rarely that the end waits for it.
        let pause = (delay / 4_096).clamp(Duration::from_micros(100), Duration::from_millis(20));
        let fill = move || {
            let mut known = 0;
            while !end.load(Ordering::Relaxed) {
                if let Err(foreign) = delayed.poll(SystemClock.monotonic_ns()) {
                    tracing::error!("the region that is late ends: {foreign}");
                    break;
                }
                complete.store(delayed.is_complete(), Ordering::Release);
                let seen = reader.tail();
                if std::mem::replace(&mut known, seen) != seen {
                    log_bell.ring();
                }
                std::thread::sleep(pause);
            }
            complete.store(false, Ordering::Release);
        };
        let thread = std::thread::Builder::new().name("delayed".to_owned()).spawn(fill)?;
        tracing::info!(delay_ms = delay.as_millis(), "a region that is late: {} MiB", bytes >> 20);
        Ok(View { delay, node, is_complete, thread: Some(thread) })
    }
}
