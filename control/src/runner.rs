//! `tickplane run`: puts the appliance together, runs it, and takes it apart again.

use crate::audit;
use crate::config::{Config, ConfigError, ReplicaConfig, StoreConfig};
use crate::connection::raise_file_limit;
use crate::election::{Election, ElectionError};
use crate::log::Log;
use crate::node::{Node, NodeError};
use crate::notifier::Notifier;
use crate::port::{self, AnyPort, PortError};
use crate::replica::{self, Lead, Member, Orders, OwnRegion, ReplicaError, TermFile, View};
use crate::server::{self, Listeners, ServerError};
use crate::settings::{self, Settings, SettingsError};
use crate::stop;
use crate::store::{Store, StoreError};
use crate::worker::{make_worker, start_worker};
use dataplane::cache::cell::Cell;
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::Reader;
use dataplane::cache::writer::Writer;
use dataplane::telemetry::{FeedTelemetry, Telemetry};
use dataplane::time::Clock;
use dataplane::worker::{PortSetup, WorkerError};
use drivers::clock::SystemClock;
use drivers::cpu::AffinityError;
use drivers::region::{RegionError, RegionMapping};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

const EXAMPLES: &str = "\
Examples:
  The embedded default, kernel UDP on loopback:
      tickplane run

  An appliance as configured, and whether its configuration is good:
      tickplane run --config configs/nic-pci.toml
      tickplane run --config configs/nic-pci.toml --check

  Two nodes with the same cache:
      tickplane run --config configs/primary.toml
      tickplane run --config configs/standby.toml";

/// What runs without a configuration.
const EMBEDDED: &str = include_str!("../../configs/embedded.toml");
pub(crate) const EMBEDDED_NAME: &str = "configs/embedded.toml (built in)";

/// Run the appliance
///
/// Takes the configured feeds in, keeps the latest of every instrument in the cache, and serves it over gRPC. A node
/// of a group ([replica] in the configuration) has the same cache as the others, whichever of them is the primary. SIGINT or
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
    Election(#[from] ElectionError),
    #[error("{0}")]
    Server(#[from] ServerError),
    #[error("{0}")]
    Node(#[from] NodeError),
    #[error("[store] {0}")]
    Store(#[from] StoreError),
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
    let log = Log::start(&config.log).map_err(RunError::Log)?;
    raise_file_limit(config.grpc.connections_max);
    let runtime = server::runtime(&config)?;
    let config = Arc::new(config);
    let mut settings = Settings::new(config.clone(), args.config.clone());
    settings.on_trial("log", move |config| log.set(&config.log));
    runtime.block_on(serve(&config, settings, stop))
}

async fn serve(config: &Config, settings: Settings, stop: &Arc<AtomicBool>) -> Result<(), RunError> {
    // Ports first: DPDK wants its huge pages before anyone else takes them. A copy has none.
    let ports = if config.is_copy() { Vec::new() } else { port::open_all(config)? };
    let listeners = server::bind(config).await?;
    let path = config.region_path();
    let layout = config.layout();
    let mut mapping = RegionMapping::create(&path, layout.cells())?;
    let cells = mapping.leak();
    let end = Arc::new(AtomicBool::new(false));
    let mapping = Arc::new(mapping);
    let filling = start_filling(config, ports, &mapping, cells, &end).inspect_err(|_| {
        end.store(true, Ordering::Relaxed);
    })?;
    let reader = Reader::open(cells).expect("it was laid out just now");
    mapping.publish()?;

    let Filling { threads, telemetry, group, replica } = filling;
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
    let cache = ServedCache { reader, telemetry, region_bytes: mapping.mapped_bytes(), group };
    let ended = async {
        tokio::select! {
            () = stop::requested(stop) => tracing::info!("asked to stop"),
            () = any_ended(&threads) => tracing::error!("a thread has ended"),
        }
        // Rows are stale from here on; then everybody is told.
        end.store(true, Ordering::Relaxed);
    };
    let served = serve_cache(settings, listeners, cache, ended).await;
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
    pub group: GroupAccess,
}

/// A node's place in its group, as the services see it; the default for a node that is alone.
#[derive(Clone, Default)]
pub struct GroupAccess {
    pub view: View,
    pub orders: Orders,
}

/// Serves a cache until `ended`; then everybody is told, and connections end in order.
pub async fn serve_cache(
    settings: Settings,
    listeners: Listeners,
    cache: ServedCache,
    ended: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let reader = cache.reader;
    let (stopping_sender, stopping) = watch::channel(false);
    let store = Arc::new(open_store(&settings.current().0.store)?);
    let node = Arc::new(Node::new(settings, cache, store, stopping)?);
    let notifier = Notifier::start(reader, node.log_bell.clone())?;
    let ended = async {
        ended.await;
        stopping_sender.send_replace(true);
    };
    let reloader = tokio::spawn(reload_on_hangup(node.clone()));
    let served = server::serve(node, listeners, ended).await;
    reloader.abort();
    let is_well = notifier.end().await;
    served?;
    if is_well { Ok(()) } else { Err(RunError::NotifierEnded) }
}

/// Where what is made at run time is kept.
fn open_store(config: &StoreConfig) -> Result<Store, RunError> {
    let Some(folder) = &config.folder else { return Ok(Store::in_memory()?) };
    std::fs::create_dir_all(folder)?;
    Ok(Store::open(folder)?)
}

/// SIGHUP: the file was changed.
async fn reload_on_hangup(node: Arc<Node>) {
    let hangup = stop::on_hangup();
    loop {
        stop::requested(&hangup).await;
        hangup.store(false, Ordering::Relaxed);
        let reloading = node.clone();
        let reload = move || {
            reloading.settings.reload(|differences, revision| {
                let (keys, now) = settings::words(differences);
                let now = format!("revision {revision}: {now}");
                let record = audit::record_of("SIGHUP", reloading.unix_ns(), "config.reload", &keys, now);
                reloading.ledger.record_done(record);
            })
        };
        let Ok(reloaded) = tokio::task::spawn_blocking(reload).await else { return };
        match reloaded {
            Ok(differences) => {
                let keys: Vec<&str> = differences.iter().map(|one| one.key.as_str()).collect();
                tracing::info!("configuration read again: {} keys changed: {}", keys.len(), keys.join(", "));
            }
            Err(SettingsError::NoFile) => {
                tracing::warn!("SIGHUP: there is no configuration file to read again")
            }
            Err(error) => tracing::error!("the configuration stays as it is: {error}"),
        }
    }
}

/// Who fills the cache, and sends it to others.
struct Filling {
    threads: Vec<JoinHandle<()>>,
    telemetry: Arc<Telemetry>,
    group: GroupAccess,
    /// Where standbys connect to.
    replica: Option<SocketAddr>,
}

/// One that no region of any node has: logs are known by it too.
fn new_generation() -> u64 {
    RandomState::new().hash_one(SystemClock.unix_ns())
}

/// Lays out the region, and starts what fills it: a worker for a node that is alone, the group's member else.
fn start_filling(
    config: &Config,
    ports: Vec<PortSetup<AnyPort>>,
    mapping: &Arc<RegionMapping>,
    cells: &'static [Cell],
    end: &Arc<AtomicBool>,
) -> Result<Filling, RunError> {
    let (layout, generation) = (config.layout(), new_generation());
    if let Some(replica) = &config.replica {
        let follower = Follower::format(cells, layout, generation).expect("the layout was checked");
        let reader = Reader::open(cells).expect("it was laid out just now");
        let region = OwnRegion { mapping: mapping.clone(), follower, reader };
        return start_member(config, replica, ports, region, end);
    }
    let writer = Writer::format(cells, layout, generation).expect("the layout was checked");
    let worker = make_worker(config, ports, writer)?;
    let telemetry = worker.telemetry().clone();
    let (thread, _) = start_worker(config, worker, end.clone())?;
    Ok(Filling { threads: vec![thread], telemetry, group: GroupAccess::default(), replica: None })
}

/// A node of a group begins as a standby, whatever it becomes; if it may become the primary, its worker runs from the start.
fn start_member(
    config: &Config,
    replica: &ReplicaConfig,
    ports: Vec<PortSetup<AnyPort>>,
    region: OwnRegion,
    end: &Arc<AtomicBool>,
) -> Result<Filling, RunError> {
    let term = TermFile::open(&replica.state).map_err(ReplicaError::from)?;
    let (orders, waiting) = Orders::new();
    let group = GroupAccess { view: View::default(), orders };
    let mut filling =
        Filling { threads: Vec::new(), telemetry: telemetry_of_none(config), group, replica: None };
    let mut lead = None;
    if let Some(listen) = replica.listen {
        let listener = replica::bind(listen)?;
        filling.replica = Some(listener.local_addr()?);
        let layout = config.layout();
        let shadow = RegionMapping::create_anonymous("shadow", layout.cells())?.leak();
        let writer = Writer::format(shadow, layout, new_generation()).expect("the layout was checked");
        let own = Reader::open(shadow).expect("it was laid out just now");
        let worker = make_worker(config, ports, writer)?;
        filling.telemetry = worker.telemetry().clone();
        let (thread, worker) = start_worker(config, worker, end.clone())?;
        filling.threads.push(thread);
        let mut election = None;
        if let Some(etcd) = &replica.etcd {
            let own = filling.replica.map(|address| address.to_string()).unwrap_or_default();
            let address = etcd.advertise.clone().unwrap_or(own);
            let (part, thread) = Election::start(etcd, &config.node, &address)?;
            election = Some(part);
            filling.threads.push(thread);
        }
        lead = Some(Lead { worker, listener, shadow: None, own, election });
    }
    let view = filling.group.view.clone();
    let member = Member::new(config, region, term, lead, waiting, view)?;
    filling.threads.push(replica::start(member, replica.idle, end.clone())?);
    Ok(filling)
}

/// The counters of a node that receives nothing.
fn telemetry_of_none(config: &Config) -> Arc<Telemetry> {
    Arc::new(Telemetry {
        feeds: config.feeds.iter().map(|_| FeedTelemetry::default()).collect(),
        ..Telemetry::default()
    })
}

async fn any_ended(threads: &[JoinHandle<()>]) {
    while !threads.iter().any(JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
