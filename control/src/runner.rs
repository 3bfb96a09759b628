//! `tickplane run`: puts the appliance together, runs it, and takes it apart again.

use crate::config::{Config, ConfigError, ReplicaConfig};
use crate::idle::{Idle, Idler, nap};
use crate::node::Node;
use crate::port::{self, AnyPort, PortError};
use crate::replica::{self, PrimaryGroup, ReplicaError, StandbyNode, TermFile, View};
use crate::server::{self, Listeners, ServerError};
use crate::stop;
use dataplane::cache::cell::Cell;
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::Reader;
use dataplane::cache::writer::Writer;
use dataplane::telemetry::{FeedTelemetry, Telemetry};
use dataplane::time::{Clock, NS_PER_MS};
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker, WorkerError};
use drivers::clock::SystemClock;
use drivers::cpu::{AffinityError, Cpu, pin_to_core};
use drivers::hugepages::advise_hugepages;
use drivers::region::{RegionError, RegionMapping};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const EXAMPLES: &str = "\
Examples:
  The embedded default, kernel UDP on loopback:
      tickplane run

  An appliance as configured, and whether its configuration is good:
      tickplane run --config configs/nic-pci.toml
      tickplane run --config configs/nic-pci.toml --check

  A second node with the same cache:
      tickplane run --config configs/primary.toml
      tickplane run --config configs/standby.toml";

/// What runs without a configuration.
const EMBEDDED: &str = include_str!("../../configs/embedded.toml");
pub(crate) const EMBEDDED_NAME: &str = "configs/embedded.toml (built in)";
/// How long a parked worker sleeps at most: its timers are due to within that.
const PARK: Duration = Duration::from_micros(500);
/// Leaving multicast groups takes a second (RFC 3376, 8.11); a device that does not answer is not waited for.
const LEAVE_MAX: Duration = Duration::from_millis(2_500);
/// How often the log's end is looked at for subscribers.
const NOTIFY_INTERVAL: Duration = Duration::from_micros(100);

/// Run the appliance
///
/// Takes the configured feeds in, keeps the latest of every instrument in the cache, and serves it over gRPC. A standby
/// ([replica] in the configuration) takes in what its primary sends instead. SIGINT or
/// SIGTERM end it in order: rows become stale, subscribers are told, multicast groups are left.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// The configuration [default: configs/embedded.toml, built in]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Only check the configuration
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Port(#[from] PortError),
    #[error("{0}")]
    Region(#[from] RegionError),
    #[error("{0}")]
    Worker(#[from] WorkerError),
    #[error("[worker] core: {0}")]
    Core(#[from] AffinityError),
    #[error("{0}")]
    Replica(#[from] ReplicaError),
    #[error("{0}")]
    Server(#[from] ServerError),
    #[error("[log] level: {0}")]
    Log(String),
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("a thread ended by itself: the log above says why")]
    ThreadEnded,
    #[error("the thread that tells subscribers of updates ended by itself: the log above says why")]
    NotifierEnded,
}

/// The file's configuration, or the embedded default.
pub fn read_config(file: Option<&Path>) -> Result<Config, ConfigError> {
    match file {
        Some(path) => Config::read(path),
        None => Config::parse(Path::new(EMBEDDED_NAME), EMBEDDED),
    }
}

/// Runs until `stop`.
pub fn run(args: &RunArgs, stop: &Arc<AtomicBool>) -> Result<(), RunError> {
    let config = read_config(args.config.as_deref())?;
    if args.check {
        println!("good: {} ports, {} feeds", config.ports.len(), config.feeds.len());
        return Ok(());
    }
    start_log(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, stop))
}

fn start_log(config: &Config) -> Result<(), RunError> {
    use tracing_subscriber::EnvFilter;
    let filter = match std::env::var("RUST_LOG") {
        Ok(told) if !told.is_empty() => told,
        _ => config.log.level.clone(),
    };
    let filter = EnvFilter::try_new(&filter).map_err(|error| RunError::Log(error.to_string()))?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second start in one process (tests) keeps the first one's log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .try_init();
    Ok(())
}

async fn serve(config: Config, stop: &Arc<AtomicBool>) -> Result<(), RunError> {
    // Ports first: DPDK wants its huge pages before anyone else takes them. A standby has none.
    let ports = if config.is_standby() { Vec::new() } else { port::open_all(&config)? };
    let listeners = server::bind(&config).await?;
    let path = config.region_path();
    let layout = config.layout();
    let mut mapping = RegionMapping::create(&path, layout.cells())?;
    let cells = mapping.leak();
    let end = Arc::new(AtomicBool::new(false));
    let filling = start_filling(&config, ports, cells, &end).inspect_err(|_| {
        end.store(true, Ordering::Relaxed);
    })?;
    let reader = Reader::open(cells).expect("it was laid out just now");
    mapping.publish()?;

    let Filling { threads, telemetry, view, replica } = filling;
    tracing::info!(
        node = config.node,
        grpc = %listeners.grpc_address(),
        metrics = listeners.metrics_address().map(tracing::field::display),
        replica = replica.map(tracing::field::display),
        region = %path.display(),
        "running: {} ports, {} feeds, {} MiB of cache ({:?})",
        telemetry.ports.len(),
        config.feeds.len(),
        mapping.mapped_bytes() >> 20,
        mapping.pages()
    );
    let cache = ServedCache { reader, telemetry, region_bytes: mapping.mapped_bytes(), replica: view };
    let ended = async {
        tokio::select! {
            () = stop::requested(stop) => tracing::info!("asked to stop"),
            () = any_ended(&threads) => tracing::error!("a thread has ended"),
        }
        // Rows are stale from here on; then everybody is told.
        end.store(true, Ordering::Relaxed);
    };
    let served = serve_cache(config, listeners, cache, ended).await;
    end.store(true, Ordering::Relaxed);
    let join_all = move || threads.into_iter().all(|thread| thread.join().is_ok());
    let joined = tokio::task::spawn_blocking(join_all).await;
    served?;
    match joined {
        Ok(true) if stop.load(Ordering::Relaxed) => Ok(()),
        _ => Err(RunError::ThreadEnded),
    }
}

/// A cache that somebody writes, as those see it who serve it.
pub struct ServedCache {
    pub reader: Reader<'static>,
    /// The writer's counters.
    pub telemetry: Arc<Telemetry>,
    pub region_bytes: usize,
    /// What the replication says of itself; the default for a node that is alone.
    pub replica: View,
}

/// Serves a cache until `ended`; then everybody is told, and connections end in order.
pub async fn serve_cache(
    config: Config,
    listeners: Listeners,
    cache: ServedCache,
    ended: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let ServedCache { reader, telemetry, region_bytes, replica } = cache;
    let (tail_sender, tail) = watch::channel(0);
    let (stopping_sender, stopping) = watch::channel(false);
    let notifier_end = Arc::new(AtomicBool::new(false));
    let notifier = start_notifier(reader, tail_sender, notifier_end.clone())?;
    let node = Arc::new(Node::new(config, reader, telemetry, region_bytes, tail, stopping, replica));
    let ended = async {
        ended.await;
        stopping_sender.send_replace(true);
    };
    let served = server::serve(node, listeners, ended).await;
    notifier_end.store(true, Ordering::Relaxed);
    let joined = tokio::task::spawn_blocking(move || notifier.join()).await;
    served?;
    if matches!(joined, Ok(Ok(()))) { Ok(()) } else { Err(RunError::NotifierEnded) }
}

/// Who fills the cache, and sends it to others.
struct Filling {
    threads: Vec<JoinHandle<()>>,
    telemetry: Arc<Telemetry>,
    view: View,
    /// Where standbys connect to.
    replica: Option<SocketAddr>,
}

/// Lays out the region, and starts what its role asks for: a worker, a worker and its replication, or a follower.
fn start_filling(
    config: &Config,
    ports: Vec<PortSetup<AnyPort>>,
    cells: &'static [Cell],
    end: &Arc<AtomicBool>,
) -> Result<Filling, RunError> {
    let (layout, generation, view) = (config.layout(), SystemClock.unix_ns(), View::default());
    let term = |replica: &ReplicaConfig| TermFile::open(&replica.state).map_err(ReplicaError::from);
    if let Some(replica) = &config.replica
        && let Some(primary) = &replica.primary
    {
        let term = term(replica)?;
        let follower = Follower::format(cells, layout, generation).expect("the layout was checked");
        let standby = StandbyNode::new(primary.clone(), follower, term, view.clone());
        let threads = vec![replica::start(standby, replica.idle, end.clone())?];
        return Ok(Filling { threads, telemetry: telemetry_of_none(config), view, replica: None });
    }
    let writer = Writer::format(cells, layout, generation).expect("the layout was checked");
    let worker = make_worker(config, ports, writer)?;
    let telemetry = worker.telemetry().clone();
    let mut filling = Filling { threads: Vec::new(), telemetry, view, replica: None };
    if let Some(replica) = &config.replica
        && let Some(listen) = replica.listen
    {
        let term = term(replica)?;
        let listener = PrimaryGroup::bind(listen)?;
        filling.replica = Some(listener.local_addr()?);
        let reader = Reader::open(cells).expect("it was laid out just now");
        let group = PrimaryGroup::new(listener, reader, term, replica.limits(), filling.view.clone())?;
        filling.threads.push(replica::start(group, replica.idle, end.clone())?);
    }
    filling.threads.push(start_worker(config, worker, end.clone())?);
    Ok(filling)
}

/// The counters of a node that receives nothing.
fn telemetry_of_none(config: &Config) -> Arc<Telemetry> {
    Arc::new(Telemetry {
        feeds: config.feeds.iter().map(|_| FeedTelemetry::default()).collect(),
        ..Telemetry::default()
    })
}

type RunWorker = Worker<'static, AnyPort, SystemClock, Cpu>;

fn make_worker(
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
    let valid_for_ns = config.worker.valid_for_ms * NS_PER_MS;
    let worker = Worker::new(ports, feeds.collect(), writer, SystemClock, valid_for_ns)?;
    let advised: usize = worker.memory().map(advise_hugepages).sum();
    tracing::debug!("{} MiB of tables on transparent huge pages", advised >> 20);
    Ok(worker)
}

fn start_worker(
    config: &Config,
    mut worker: RunWorker,
    end: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, RunError> {
    let (core, idle) = (config.worker.core, config.worker.idle);
    let config = config.clone();
    let (pinned_sender, pinned) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
        let result = core.map_or(Ok(()), pin_to_core);
        let is_pinned = result.is_ok();
        if pinned_sender.send(result).is_err() || !is_pinned {
            return;
        }
        port::prepare_thread(&config);
        poll(&mut worker, idle, &end);
        worker.leave();
        let left_at = Instant::now();
        while !worker.has_left() && left_at.elapsed() < LEAVE_MAX {
            worker.do_work();
            std::thread::sleep(PARK);
        }
    })?;
    match pinned.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(RunError::ThreadEnded),
    }
}

/// The worker's life.
fn poll(worker: &mut RunWorker, idle: Idle, end: &AtomicBool) {
    let mut idler = Idler::new(idle);
    while !end.load(Ordering::Relaxed) {
        let work = worker.do_work();
        idler.after_or_park(work, || {
            // Several ports can't be waited for at once, and a device wakes nobody.
            let mut ports = worker.ports();
            match (ports.next(), ports.next()) {
                (Some(port @ AnyPort::Udp(_)), None) => port.wait(PARK),
                _ => nap(),
            }
        });
    }
}

/// Tells subscribers that there is something new. A thread of its own: the runtime's timers are too coarse.
fn start_notifier(
    reader: Reader<'static>,
    tail: watch::Sender<u64>,
    end: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, RunError> {
    let notify = move || {
        while !end.load(Ordering::Relaxed) {
            let seen = reader.tail();
            tail.send_if_modified(|known| std::mem::replace(known, seen) != seen);
            std::thread::sleep(NOTIFY_INTERVAL);
        }
    };
    Ok(std::thread::Builder::new().name("notifier".to_owned()).spawn(notify)?)
}

async fn any_ended(threads: &[JoinHandle<()>]) {
    while !threads.iter().any(JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
