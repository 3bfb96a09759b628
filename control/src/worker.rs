//! The worker's thread, and how a group's node changes what it writes: the group's region while it is the primary, a
//! shadow of its own while it is a hot standby.

use crate::config::Config;
use crate::idle::{Idle, Idler, nap};
use crate::port::{self, AnyPort};
use crate::runner::RunError;
use crossbeam_queue::ArrayQueue;
use dataplane::cache::reader::Reader;
use dataplane::cache::writer::Writer;
use dataplane::feed::Transferred;
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker};
use drivers::clock::SystemClock;
use drivers::cpu::{Cpu, pin_to_core};
use drivers::hugepages::advise_hugepages;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a parked worker sleeps at most: its timers are due to within that.
const PARK: Duration = Duration::from_micros(500);
/// Leaving multicast groups takes a second (RFC 3376, 8.11); a device that does not answer is not waited for.
const LEAVE_MAX: Duration = Duration::from_millis(2_500);
/// How long a worker that is behind the group's log may take to come level before it takes over all the same.
const BEHIND_MAX: Duration = Duration::from_millis(50);
/// The longest that a worker's answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);

pub type RunWorker = Worker<'static, AnyPort, SystemClock, Cpu>;

pub fn make_worker(
    config: &Config,
    ports: Vec<PortSetup<AnyPort>>,
    writer: Writer<'static>,
) -> Result<RunWorker, RunError> {
    let feeds = config.feeds.iter().map(|feed| {
        let line = |line: &crate::config::LineConfig| LineSetup {
            port: config.port(&line.port).expect("the configuration was checked"),
            destination: line.group,
            source: line.source,
        };
        FeedSetup {
            arbiter: feed.arbiter(),
            lines: feed.lines.iter().map(line).collect(),
            protocol: feed
                .protocol
                .setup(feed.orders_max, config.region.instruments_max as usize, feed.date.as_deref())
                .expect("the configuration was checked"),
        }
    });
    let valid_for_ns = config.times().valid_for_ns;
    let worker = Worker::new(ports, feeds.collect(), writer, SystemClock, valid_for_ns)?;
    worker.telemetry().stalls.limit_ns.set(config.worker.stall_us * 1_000);
    let advised: usize = worker.memory().map(advise_hugepages).sum();
    tracing::debug!("{} MiB of tables on transparent huge pages", advised >> 20);
    Ok(worker)
}

/// What the worker is to write from now on.
enum Turn {
    /// The group's region, which is read by this reader.
    TakeOver(Writer<'static>, Reader<'static>),
    /// Its own shadow.
    GiveUp(Writer<'static>),
}

/// The writer that the worker had until then, and what became of each feed in a take-over.
struct Turned {
    writer: Writer<'static>,
    feeds: Vec<Transferred>,
}

/// The worker's thread does not answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker does not answer")]
pub struct WorkerGone;

/// The worker, as the replication's thread sees it. One message is on its way at most in each direction.
#[derive(Clone)]
pub struct WorkerHandle {
    turns: Arc<ArrayQueue<Turn>>,
    turned: Arc<ArrayQueue<Turned>>,
    /// The worker writes the group's region no more, though it has not given back the writer yet.
    released: Arc<AtomicBool>,
    lease_until_ns: Arc<AtomicU64>,
}

impl WorkerHandle {
    fn new(worker: &RunWorker) -> WorkerHandle {
        let lease_until_ns = worker.lease_until_ns().clone();
        WorkerHandle {
            turns: Arc::new(ArrayQueue::new(1)),
            turned: Arc::new(ArrayQueue::new(1)),
            released: Arc::default(),
            lease_until_ns,
        }
    }

    /// No row of the group's region is believed past that time (`CLOCK_MONOTONIC`); `u64::MAX` = there is no lease.
    pub fn lease_until(&self, until_ns: u64) {
        self.lease_until_ns.store(until_ns, Ordering::Release);
    }

    /// Lets the worker go on in the group's region; returns the shadow's writer, and what that took.
    pub fn take_over(
        &self,
        writer: Writer<'static>,
        group: Reader<'static>,
    ) -> Result<(Writer<'static>, Vec<Transferred>), WorkerGone> {
        self.turns.push(Turn::TakeOver(writer, group)).map_err(|_| WorkerGone)?;
        let Turned { writer, feeds } = self.wait()?;
        Ok((writer, feeds))
    }

    /// Lets the worker go on in its shadow. Soon the group's region [is final](WorkerHandle::has_released), and a little later
    /// its writer [is given back](WorkerHandle::given_up).
    pub fn give_up(&self, shadow: Writer<'static>) -> Result<(), WorkerGone> {
        self.released.store(false, Ordering::Relaxed);
        self.turns.push(Turn::GiveUp(shadow)).map_err(|_| WorkerGone)
    }

    /// The worker publishes nothing more in the group's region that it is to give up.
    pub fn has_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// The writer of the region that was to be given up; until then the worker reads it still.
    pub fn given_up(&self) -> Result<Writer<'static>, WorkerGone> {
        self.wait().map(|turned| turned.writer)
    }

    fn wait(&self) -> Result<Turned, WorkerGone> {
        let asked = Instant::now();
        while asked.elapsed() < ANSWER_MAX {
            if let Some(turned) = self.turned.pop() {
                return Ok(turned);
            }
            // The worker answers within a round, which may be on this thread's own core.
            std::thread::yield_now();
        }
        Err(WorkerGone)
    }

    /// The worker's side: does what was asked, if anything was. `waiting` is a take-over that waits for the feeds.
    fn serve(&self, worker: &mut RunWorker, waiting: &mut Option<(Turn, Instant)>) {
        let Some((turn, since)) = waiting.take().or_else(|| Some((self.turns.pop()?, Instant::now()))) else {
            return;
        };
        let turned = match turn {
            Turn::TakeOver(_, group) if worker.is_behind(&group) && since.elapsed() < BEHIND_MAX => {
                return *waiting = Some((turn, since));
            }
            Turn::TakeOver(writer, _) => {
                let (waited, began) = (since.elapsed(), Instant::now());
                let (feeds, writer) = worker.take_over(writer);
                tracing::debug!(
                    "goes on in the group's region: {waited:?} to come level, {:?} to take over",
                    began.elapsed()
                );
                Turned { writer, feeds }
            }
            Turn::GiveUp(shadow) => {
                worker.release();
                self.released.store(true, Ordering::Release);
                Turned { writer: worker.give_up(shadow), feeds: Vec::new() }
            }
        };
        // There is room: the last answer was taken before this was asked.
        let _ = self.turned.push(turned);
    }
}

/// Starts the worker's thread, on the core that the configuration names.
pub fn start_worker(
    config: &Config,
    mut worker: RunWorker,
    end: Arc<AtomicBool>,
) -> Result<(JoinHandle<()>, WorkerHandle), RunError> {
    let (core, idle) = (config.worker.core, config.worker.idle);
    let config = config.clone();
    let handle = WorkerHandle::new(&worker);
    let served = handle.clone();
    let (pinned_sender, pinned) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
        let result = core.map_or(Ok(()), pin_to_core);
        let is_pinned = result.is_ok();
        if pinned_sender.send(result).is_err() || !is_pinned {
            return;
        }
        port::prepare_thread(&config);
        poll(&mut worker, &served, idle, &end);
        worker.leave();
        let left_at = Instant::now();
        while !worker.has_left() && left_at.elapsed() < LEAVE_MAX {
            worker.do_work();
            std::thread::sleep(PARK);
        }
    })?;
    match pinned.recv() {
        Ok(Ok(())) => Ok((thread, handle)),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(RunError::ThreadEnded),
    }
}

/// The worker's life.
fn poll(worker: &mut RunWorker, turns: &WorkerHandle, idle: Idle, end: &AtomicBool) {
    let mut idler = Idler::new(idle);
    let mut waiting = None;
    while !end.load(Ordering::Relaxed) {
        let work = worker.do_work();
        turns.serve(worker, &mut waiting);
        idler.after_or_park(work, || {
            // Several ports can't be waited for at once, and a device wakes nobody.
            let mut ports = worker.ports();
            let first_two = (ports.next(), ports.next());
            drop(ports);
            match first_two {
                (Some(port @ AnyPort::Udp(_)), None) => port.wait(PARK),
                _ => nap(),
            }
            worker.awoke();
        });
    }
}
