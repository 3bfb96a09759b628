//! The node as its services see it: the cache, the counters, and what is going on.

use crate::access::{Access, ClientsError};
use crate::bell::Bell;
use crate::config::Config;
use crate::connection::Connections;
use crate::delayed::{DelayError, Delays};
use crate::delivery::{Chunks, Delivery, Summaries};
use crate::latency;
use crate::ledger::{Ledger, LedgerError};
use crate::objective::Objectives;
use crate::proto::{Objective, QuotaLimits};
use crate::quota::{Limits, Quotas};
use crate::runner::{GroupAccess, ServedCache};
use crate::settings::Settings;
use crate::store::{Object, Store, StoreError};
use crate::subscriptions::Subscriptions;
use crate::trace::SpanCounts;
use crate::window::Windows;
use dataplane::cache::reader::Reader;
use dataplane::cache::tick::Session;
use dataplane::telemetry::Telemetry;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Clients(#[from] ClientsError),
    #[error("[store] {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A cache, and all that is the same whichever cache of the node is looked at.
pub struct Node {
    shared: Arc<Shared>,
    pub reader: Reader<'static>,
    pub region_bytes: usize,
    /// Rung when the log has grown.
    pub log_bell: Arc<Bell>,
    /// The log as it is delivered.
    pub chunks: Chunks,
    /// What changed in it, for those who pass over it.
    pub summaries: Summaries,
    delays: Arc<Delays>,
    /// Whether somebody vouched for the cache, and the node was to end, and the cache's generation, when that was last looked at.
    watched: Mutex<(bool, bool, u64)>,
}

/// What all services share.
pub struct Shared {
    /// What the node began with.
    pub config: Arc<Config>,
    /// What of it has changed since.
    pub settings: Settings,
    pub telemetry: Arc<Telemetry>,
    pub started_ns: u64,
    pub delivery: Arc<Delivery>,
    /// True once the node is to end.
    pub stopping: watch::Receiver<bool>,
    /// Rung when what is not in the log concerns who waits for it: nobody vouches for the cache any more, or does again, the cache
    /// began anew, the node is to end, limits are others, a client is not who it was any more.
    pub news_bell: Arc<Bell>,
    pub group: GroupAccess,
    pub quotas: Arc<Quotas>,
    pub access: Arc<Access>,
    pub connections: Arc<Connections>,
    /// By which everything is changed that outlasts the node.
    pub ledger: Ledger,
    /// What became of the traces of calls.
    pub spans: Arc<SpanCounts>,
    /// Those that are kept.
    pub subscriptions: Subscriptions,
    rates: Mutex<Rates>,
    windows: Mutex<Windows>,
    objectives: Arc<Objectives>,
}

impl Deref for Node {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// How often [`Delivery::age`] is due, in samples.
const AGE_SAMPLES: u64 = 60;

/// Counters a second ago, and how much they grew since.
#[derive(Default)]
struct Rates {
    samples: u64,
    sampled: Option<Instant>,
    counts: HashMap<String, u64>,
    per_s: HashMap<String, f64>,
}

impl Node {
    pub fn new(
        mut settings: Settings,
        cache: ServedCache,
        store: Arc<Store>,
        stopping: watch::Receiver<bool>,
    ) -> Result<Node, NodeError> {
        let ServedCache { reader, telemetry, region_bytes, group } = cache;
        let (config, _) = settings.current();
        let delivery = Arc::new(Delivery::default());
        delivery.subscriptions_max.store(config.grpc.subscriptions_max, Ordering::Relaxed);
        let limited = delivery.clone();
        settings.on_change("grpc.subscriptions_max", move |config| {
            limited.subscriptions_max.store(config.grpc.subscriptions_max, Ordering::Relaxed);
        });
        let quotas = Arc::new(Quotas::new(config.quota.clone()));
        let news_bell = Arc::new(Bell::default());
        let (limiting, telling) = (quotas.clone(), news_bell.clone());
        settings.on_change("quota", move |config| {
            limiting.set_defaults(config.quota.clone(), SystemClock.monotonic_ns());
            telling.ring();
        });
        let mut ledger = Ledger::new(store, &config.node)?;
        let access = Access::open(&config, &mut ledger, quotas.clone(), news_bell.clone())?;
        let admitting = access.clone();
        settings
            .on_trial("clients", move |config| admitting.reload(config).map_err(|error| error.to_string()));
        let connections = Arc::new(Connections::new(config.grpc.connections_max));
        let admitting = connections.clone();
        settings.on_change("grpc.connections_max", move |config| {
            admitting.set_max(config.grpc.connections_max);
        });
        let judging = telemetry.clone();
        // Whoever takes records out looks at it each time.
        settings.on_change("store.audit_records_max", |_| ());
        settings.on_change("worker.stall_us", move |config| {
            judging.stalls.limit_ns.set(config.worker.stall_us * 1_000);
        });
        for key in config.times_keys() {
            let judging = telemetry.clone();
            settings.on_change(key, move |config| {
                judging.times.set(config.times());
            });
        }
        follow_quotas(&mut ledger, quotas.clone(), access.clone(), news_bell.clone())?;
        let subscriptions = Subscriptions::open(config.clone(), &mut ledger)?;
        #[cfg(feature = "etcd")]
        if let Some(etcd) = config.replica.as_ref().and_then(|replica| replica.etcd.as_ref()) {
            ledger.share(etcd)?;
        }
        let objectives = Arc::new(Objectives::new(&config.objectives));
        let judging = objectives.clone();
        settings.on_change("objectives", move |config| {
            judging.change(&config.objectives);
        });
        let shared = Shared {
            config,
            settings,
            telemetry,
            started_ns: SystemClock.unix_ns(),
            delivery,
            stopping,
            news_bell,
            group,
            quotas,
            access,
            connections,
            ledger,
            spans: Arc::default(),
            subscriptions,
            rates: Mutex::default(),
            windows: Mutex::default(),
            objectives,
        };
        Ok(Node::over(Arc::new(shared), reader, region_bytes))
    }

    fn over(shared: Arc<Shared>, reader: Reader<'static>, region_bytes: usize) -> Node {
        Node {
            shared,
            reader,
            region_bytes,
            log_bell: Arc::default(),
            chunks: Chunks::default(),
            summaries: Summaries::default(),
            delays: Arc::default(),
            watched: Mutex::default(),
        }
    }

    /// The same node with another cache.
    pub fn with_cache(&self, reader: Reader<'static>, region_bytes: usize) -> Node {
        Node::over(self.shared.clone(), reader, region_bytes)
    }

    /// Rings for those who wait if nobody vouches for the cache any more, or does again, or it began anew (its log may end where it
    /// did before), or the node is to end; to be called a few times a second.
    pub fn watch_over(&self) {
        let now = (self.is_alive(), *self.stopping.borrow(), self.reader.generation());
        let before = {
            let mut watched = self.watched.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            std::mem::replace(&mut *watched, now)
        };
        if before != now {
            self.news_bell.ring();
        }
        self.delays.each(Node::watch_over);
    }

    /// The node as it was `delay` ago.
    pub async fn as_it_was(self: &Arc<Self>, delay: Duration) -> Result<Arc<Node>, DelayError> {
        if delay.is_zero() {
            return Ok(self.clone());
        }
        self.delays.view(self, delay).await
    }

    /// `CLOCK_MONOTONIC`, by which rows are judged.
    pub fn now_ns(&self) -> u64 {
        SystemClock.monotonic_ns()
    }

    pub fn unix_ns(&self) -> u64 {
        SystemClock.unix_ns()
    }

    /// Whether the worker, or the primary, vouches for the cache.
    pub fn is_alive(&self) -> bool {
        self.now_ns() < self.reader.valid_until_ns()
    }

    pub fn feed_name(&self, feed: u16) -> String {
        self.config.feeds.get(usize::from(feed)).map_or_else(String::new, |feed| feed.name.clone())
    }

    /// The latencies of the last minute.
    pub fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Looks at the counters that have rates, and at the latencies; to be called about once a second.
    pub fn sample(&self) {
        self.quotas.sample(self.now_ns());
        self.sample_rates();
        let counts = latency::counts(self);
        let mut windows = self.windows();
        windows.sample(self.now_ns(), counts);
        self.objectives.judge(&windows, self.unix_ns());
    }

    /// The objectives, as they were judged last.
    pub fn objectives(&self) -> Vec<Objective> {
        self.objectives.all()
    }

    fn sample_rates(&self) {
        let mut counts = HashMap::new();
        for (feed, counters) in self.config.feeds.iter().zip(&self.telemetry.feeds) {
            counts.insert(rate_key(&[&feed.name, "messages"]), counters.lines.messages.get());
            counts.insert(rate_key(&[&feed.name, "ticks"]), counters.decoder.ticks.get());
            for (line, counters) in feed.lines.iter().zip(&counters.lines.lines) {
                counts.insert(rate_key(&[&feed.name, &line.name, "packets"]), counters.packets.get());
            }
        }
        for (port, counters) in self.config.ports.iter().zip(&self.telemetry.ports) {
            counts.insert(rate_key(&[&port.name, "rx_frames"]), counters.rx_frames.get());
        }
        let now = Instant::now();
        let mut rates = self.rates.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(sampled) = rates.sampled {
            let elapsed_s = (now - sampled).as_secs_f64();
            rates.per_s = counts
                .iter()
                .map(|(key, count)| {
                    let before = rates.counts.get(key).copied().unwrap_or(*count);
                    (key.clone(), count.saturating_sub(before) as f64 / elapsed_s)
                })
                .collect();
        }
        rates.sampled = Some(now);
        rates.samples += 1;
        if rates.samples.is_multiple_of(AGE_SAMPLES) {
            self.delivery.age();
        }
        rates.counts = counts;
    }

    /// How much a counter grew a second, lately.
    pub fn per_s(&self, names: &[&str]) -> f64 {
        let rates = self.rates.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        rates.per_s.get(&rate_key(names)).copied().unwrap_or(0.0)
    }

    /// Takes a place for one more subscription, or tells that there is none.
    pub fn open_subscription(self: &Arc<Self>) -> Option<OpenSubscription> {
        let max = self.delivery.subscriptions_max.load(Ordering::Relaxed);
        let open = |open: usize| (open < max).then_some(open + 1);
        let opened =
            self.delivery.subscriptions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, open).is_ok();
        opened.then(|| OpenSubscription(self.clone()))
    }
}

/// From now on clients have the limits of their own that the ledger has, whether they are there yet or not.
fn follow_quotas(
    ledger: &mut Ledger,
    quotas: Arc<Quotas>,
    access: Arc<Access>,
    news_bell: Arc<Bell>,
) -> Result<(), StoreError> {
    let take = move |name: &str, own: Option<QuotaLimits>| {
        let own = own.map(|own| Limits::try_from(&own)).transpose()?;
        let role = access.role_of(name).unwrap_or_default();
        let set = quotas.set(name, role, own, SystemClock.monotonic_ns());
        set.map(drop).map_err(|error| error.to_string())
    };
    ledger.follow(Object::Quota, move |changed| {
        for (name, own) in changed {
            if let Err(error) = take(&name, own) {
                tracing::error!(client = name, "its own limits are kept, but do not hold: {error}");
            }
        }
        news_bell.ring();
    })
}

fn rate_key(names: &[&str]) -> String {
    names.join("/")
}

/// One subscription's place, given back when it is dropped.
pub struct OpenSubscription(Arc<Node>);

impl Drop for OpenSubscription {
    fn drop(&mut self) {
        self.0.delivery.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The exchange's name of a session, and its day as `YYYY-MM-DD`; empty = unknown.
pub fn session_names(session: Option<Session>) -> (String, String) {
    let Some(session) = session else { return Default::default() };
    let name = String::from_utf8_lossy(&session.session).trim_matches(['\0', ' ']).to_owned();
    let days = i64::from(session.day);
    let day = jiff::Timestamp::from_second(days * 86_400)
        .map(|midnight| midnight.strftime("%Y-%m-%d").to_string())
        .ok()
        .filter(|_| days != 0);
    (name, day.unwrap_or_default())
}
