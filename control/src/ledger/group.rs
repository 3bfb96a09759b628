//! A node's part in what its group shares through etcd.
//!
//! ```text
//!  tickplane/<group>/shared/history                which history it is; made once
//!  tickplane/<group>/shared/last                   the number of the latest record
//!  tickplane/<group>/shared/objects/<kind>/<name>  what was made: the message, as the store keeps it
//!  tickplane/<group>/shared/audit/<number>         the latest records; older ones are in the stores alone
//! ```
//!
//! A change is one transaction: it is made if each object is as it was when the change was thought of, and takes the next number. Like
//! everybody else's it comes in by the watch, in etcd's order; once it has, it is answered. So all nodes have the same, and take it
//! into effect by the same way.
//!
//! A node that begins, or whose watch broke, reads everything at one revision, and follows from there. One that was not of this
//! history before (it was alone, or etcd has lost its data) adds what the group has not: nothing that was made is lost, though
//! what was deleted meanwhile may come back. What it has otherwise becomes as the group's is. Numbers of records go on behind those
//! that it has of its own.

use super::{Kept, LedgerError, Request};
use crate::config::EtcdConfig;
use crate::election::{ElectionError, etcd};
use crate::proto::AuditRecord;
use crate::store::{Change, Object, StoreError};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use etcd_client::{
    Client, Compare, CompareOp, EventType, GetOptions, KeyValue, KvClient, Txn, TxnOp, TxnOpResponse,
    WatchOptions, WatchResponse,
};
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// Between two attempts to reach etcd: it doubles from the least to the most.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How often etcd is asked whether it is there: a connection that is cut says nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a change that was made is waited for.
const SEEN_MAX: Duration = Duration::from_secs(5);
/// Others may take the next number at the same time so often.
const ATTEMPTS_MAX: usize = 32;
/// Records that are in etcd.
const RECORDS_KEPT: u64 = 4_096;
/// Keys that are read at once, and the bytes that they may have together: etcd's own limit for one is 1.5 MiB.
const PAGE_KEYS: i64 = 64;
const PAGE_BYTES: usize = 128 << 20;

/// Why etcd is asked anew.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Etcd(#[from] ElectionError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the watch of {0} ended")]
    Watch(String),
    #[error("a change that was made did not come back in time")]
    Unseen,
}

/// A change that is in etcd, and is answered once it has come in.
struct Awaited {
    revision: i64,
    number: u64,
    until: Instant,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<u64, LedgerError>>;

pub(super) struct Group {
    kept: Arc<Kept>,
    config: EtcdConfig,
    requests: mpsc::Receiver<Request>,
    awaited: Option<Awaited>,
    backoff: Duration,
    ended: bool,
}

/// etcd, as long as it is reached.
struct Session {
    kv: KvClient,
    client: Client,
    endpoints: String,
    prefix: String,
    /// The number of the latest record, and the revision of its key, as far as this node knows.
    last: (u64, i64),
    /// Everything up to this revision has come in.
    seen: i64,
}

/// All that was read at one revision.
struct Snapshot {
    objects: HashMap<(Object, String), (Vec<u8>, i64)>,
    records: Vec<(u64, Vec<u8>)>,
}

impl Group {
    pub(super) fn new(kept: Arc<Kept>, config: EtcdConfig, requests: mpsc::Receiver<Request>) -> Group {
        Group { kept, config, requests, awaited: None, backoff: BACKOFF_MIN, ended: false }
    }

    /// Shares until the ledger is gone.
    pub(super) async fn live(mut self) {
        while !self.ended {
            if let Err(trouble) = self.reach().await {
                tracing::warn!("what the group shares can't be changed now: {trouble}");
                self.pause(&trouble).await;
            }
        }
    }

    /// Refuses what is asked for until etcd is asked again.
    async fn pause(&mut self, trouble: &Trouble) {
        let until = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        loop {
            self.give_up_waiting();
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => {
                        let _ = request.answer.send(Err(LedgerError::Unreachable(trouble.to_string())));
                    }
                    None => {
                        self.ended = true;
                        return;
                    }
                },
                () = sleep_until(until) => return,
            }
        }
    }

    /// Whoever waits for too long is told that the change is made, though not here yet.
    fn give_up_waiting(&mut self) {
        if self.awaited.as_ref().is_some_and(|awaited| Instant::now() >= awaited.until)
            && let Some(awaited) = self.awaited.take()
        {
            let _ = awaited.answer.send(Err(LedgerError::Unknown(Trouble::Unseen.to_string())));
        }
    }

    /// Follows what is changed, and changes what it is asked to, as long as etcd is reached.
    async fn reach(&mut self) -> Result<(), Trouble> {
        let mut session = Session::open(&self.config).await?;
        self.join(&mut session).await?;
        let options = WatchOptions::new().with_prefix().with_start_revision(session.seen + 1);
        let watch = session.client.watch_client().max_decoding_message_size(PAGE_BYTES);
        let (mut watch, endpoints) = (watch, session.endpoints.clone());
        let mut changes =
            etcd::answer(&endpoints, watch.watch(session.prefix.as_str(), Some(options))).await?;
        self.backoff = BACKOFF_MIN;
        let mut look_at = Instant::now() + LOOK_INTERVAL;
        loop {
            self.answer_if_seen(session.seen);
            if self.awaited.as_ref().is_some_and(|awaited| Instant::now() >= awaited.until) {
                return Err(Trouble::Unseen);
            }
            tokio::select! {
                change = changes.message() => {
                    let change = change.map_err(|error| etcd::failed(&endpoints, &error))?;
                    let change = change.filter(|change| !change.canceled());
                    let change = change.ok_or_else(|| Trouble::Watch(session.prefix.clone()))?;
                    self.take(&mut session, &change)?;
                }
                // Who asks for one change waits for it before the next.
                request = self.requests.recv(), if self.awaited.is_none() => match request {
                    Some(request) => self.put(&mut session, request).await?,
                    None => {
                        self.ended = true;
                        return Ok(());
                    }
                },
                () = sleep_until(look_at) => {
                    look_at = Instant::now() + LOOK_INTERVAL;
                    session.look_at_last().await?;
                }
            }
        }
    }

    fn answer_if_seen(&mut self, seen: i64) {
        if self.awaited.as_ref().is_some_and(|awaited| seen >= awaited.revision)
            && let Some(Awaited { number, answer, .. }) = self.awaited.take()
        {
            // Whoever asked may be gone.
            let _ = answer.send(Ok(number));
        }
    }

    /// Becomes one of the group's history, and has what the group has.
    async fn join(&mut self, session: &mut Session) -> Result<(), Trouble> {
        let history = session.history(&self.kept.node).await?;
        let is_new = self.kept.store.history()?.as_deref() != Some(history.as_str());
        if is_new {
            let (objects, last) = (self.kept.store.objects()?, self.kept.store.last()?);
            tracing::info!("joins history {history} of the group with {} objects of its own", objects.len());
            for change in &objects {
                session.add(change).await?;
            }
            session.raise_last(last).await?;
        }
        let snapshot = session.read(self.kept.store.last()?).await?;
        let Snapshot { objects, records } = snapshot;
        let own = self.kept.store.objects()?.into_iter();
        let gone = own.filter(|own| !objects.contains_key(&(own.object, own.name.clone())));
        let mut changes: Vec<(Change, i64)> = gone.map(|own| (Change { bytes: None, ..own }, 0)).collect();
        for ((object, name), (bytes, revision)) in objects {
            changes.push((Change { object, name, bytes: Some(bytes) }, revision));
        }
        self.kept.take_all(&changes, &records, Some(&history))?;
        self.answer_if_seen(session.seen);
        Ok(())
    }

    /// Takes what came in by the watch.
    fn take(&mut self, session: &mut Session, response: &WatchResponse) -> Result<(), Trouble> {
        let (mut changes, mut records) = (Vec::new(), Vec::new());
        let mut seen = session.seen;
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            seen = seen.max(kv.mod_revision());
            let is_put = event.event_type() == EventType::Put;
            match session.parse(kv.key()) {
                Some(Key::Object(object, name)) => {
                    let bytes = is_put.then(|| kv.value().to_vec());
                    let revision = if is_put { kv.mod_revision() } else { 0 };
                    changes.push((Change { object, name, bytes }, revision));
                }
                Some(Key::Record(number)) if is_put => records.push((number, kv.value().to_vec())),
                Some(Key::Last) if is_put => session.last = (number_of(kv), kv.mod_revision()),
                _ => {}
            }
        }
        self.kept.take_all(&changes, &records, None)?;
        session.seen = seen;
        Ok(())
    }

    /// Makes a change, if each object is as this node knows it.
    async fn put(&mut self, session: &mut Session, request: Request) -> Result<(), Trouble> {
        let Request { changes, record, answer } = request;
        for _ in 0..ATTEMPTS_MAX {
            let (number, revision) = (session.last.0 + 1, session.last.1);
            let txn = session.transaction(&changes, &record, number, revision);
            let response = match etcd::answer(&session.endpoints, session.kv.txn(txn)).await {
                Ok(response) => response,
                Err(error) => {
                    let _ = answer.send(Err(LedgerError::Unknown(error.to_string())));
                    return Err(error.into());
                }
            };
            if response.succeeded() {
                let revision = response.header().map_or(0, |header| header.revision());
                let until = Instant::now() + SEEN_MAX;
                self.awaited = Some(Awaited { revision, number, until, answer });
                return Ok(());
            }
            let looks = response.op_responses();
            let found: HashMap<&[u8], &KeyValue> =
                looks.iter().flat_map(found).map(|kv| (kv.key(), kv)).collect();
            let is_other = |(change, known): &&(Change, i64)| {
                let key = session.key_of(change);
                found.get(key.as_bytes()).map_or(0, |kv| kv.mod_revision()) != *known
            };
            if let Some((change, _)) = changes.iter().find(is_other) {
                let _ = answer.send(Err(LedgerError::Overtaken(change.name.clone())));
                return Ok(());
            }
            let key = session.key("last");
            session.last = found.get(key.as_bytes()).map_or((0, 0), |kv| (number_of(kv), kv.mod_revision()));
        }
        let name = changes.first().map_or(record.object, |(change, _)| change.name.clone());
        let _ = answer.send(Err(LedgerError::Overtaken(name)));
        Ok(())
    }
}

/// What a key of the group's stands for.
enum Key {
    Object(Object, String),
    Record(u64),
    Last,
}

fn number_of(kv: &KeyValue) -> u64 {
    String::from_utf8_lossy(kv.value()).parse().unwrap_or(0)
}

fn found(response: &TxnOpResponse) -> &[KeyValue] {
    match response {
        TxnOpResponse::Get(response) => response.kvs(),
        _ => &[],
    }
}

impl Session {
    async fn open(config: &EtcdConfig) -> Result<Session, Trouble> {
        let (client, endpoints) = etcd::connect(config).await?;
        let kv = client.kv_client().max_decoding_message_size(PAGE_BYTES);
        let prefix = etcd::key(&config.group, "shared/");
        Ok(Session { kv, client, endpoints, prefix, last: (0, 0), seen: 0 })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn key_of(&self, change: &Change) -> String {
        self.key(&format!("objects/{}/{}", change.object as u8, change.name))
    }

    fn record_key(&self, number: u64) -> String {
        self.key(&format!("audit/{number:020}"))
    }

    fn parse(&self, key: &[u8]) -> Option<Key> {
        let name = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        if let Some(object) = name.strip_prefix("objects/") {
            let (kind, name) = object.split_once('/')?;
            return Some(Key::Object(Object::numbered(kind.parse().ok()?)?, name.to_owned()));
        }
        match name.strip_prefix("audit/") {
            Some(number) => number.parse().ok().map(Key::Record),
            None => (name == "last").then_some(Key::Last),
        }
    }

    /// Which history the group has; one is begun if there is none.
    async fn history(&mut self, node: &str) -> Result<String, Trouble> {
        let key = self.key("history");
        let begun = format!("{node}-{:x}", SystemClock.unix_ns());
        let txn = Txn::new()
            .when([Compare::version(key.as_str(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.as_str(), begun.as_str(), None)])
            .or_else([TxnOp::get(key.as_str(), None)]);
        let response = etcd::answer(&self.endpoints, self.kv.txn(txn)).await?;
        let looks = response.op_responses();
        let known = looks.iter().flat_map(found).next();
        Ok(known.map_or(begun, |kv| String::from_utf8_lossy(kv.value()).into_owned()))
    }

    /// Adds what the group has not.
    async fn add(&mut self, own: &Change) -> Result<(), Trouble> {
        let (key, Some(bytes)) = (self.key_of(own), &own.bytes) else { return Ok(()) };
        let txn = Txn::new()
            .when([Compare::version(key.as_str(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.as_str(), bytes.as_slice(), None)]);
        etcd::answer(&self.endpoints, self.kv.txn(txn)).await?;
        Ok(())
    }

    /// Reads the number of the latest record.
    async fn look_at_last(&mut self) -> Result<(), Trouble> {
        let key = self.key("last");
        let response = etcd::answer(&self.endpoints, self.kv.get(key, None)).await?;
        self.last = response.kvs().first().map_or((0, 0), |kv| (number_of(kv), kv.mod_revision()));
        Ok(())
    }

    /// Has numbers go on behind `own`.
    async fn raise_last(&mut self, own: u64) -> Result<(), Trouble> {
        loop {
            self.look_at_last().await?;
            let (last, revision) = self.last;
            if last >= own {
                return Ok(());
            }
            let key = self.key("last");
            let txn = Txn::new()
                .when([Compare::mod_revision(key.as_str(), CompareOp::Equal, revision)])
                .and_then([TxnOp::put(key.as_str(), own.to_string(), None)]);
            etcd::answer(&self.endpoints, self.kv.txn(txn)).await?;
        }
    }

    /// A change of objects of which each has the revision beside it, if the latest record is the one before `number`.
    fn transaction(
        &self,
        changes: &[(Change, i64)],
        record: &AuditRecord,
        number: u64,
        revision: i64,
    ) -> Txn {
        let last = self.key("last");
        let mut as_known = vec![Compare::mod_revision(last.as_str(), CompareOp::Equal, revision)];
        let mut puts = vec![
            TxnOp::put(last.as_str(), number.to_string(), None),
            TxnOp::put(self.record_key(number), record.encode_to_vec(), None),
        ];
        let mut looks = vec![TxnOp::get(last.as_str(), None)];
        if let Some(old) = number.checked_sub(RECORDS_KEPT) {
            puts.push(TxnOp::delete(self.record_key(old), None));
        }
        for (change, known) in changes {
            let key = self.key_of(change);
            as_known.push(Compare::mod_revision(key.as_str(), CompareOp::Equal, *known));
            looks.push(TxnOp::get(key.as_str(), Some(GetOptions::new().with_keys_only())));
            puts.push(match &change.bytes {
                Some(bytes) => TxnOp::put(key, bytes.as_slice(), None),
                None => TxnOp::delete(key, None),
            });
        }
        Txn::new().when(as_known).and_then(puts).or_else(looks)
    }

    /// Everything at one revision; of records those after number `after`.
    async fn read(&mut self, after: u64) -> Result<Snapshot, Trouble> {
        self.seen = 0;
        let (mut objects, mut records) = (HashMap::new(), Vec::new());
        for kv in self.range(self.key("objects/"), self.key("objects0")).await? {
            if let Some(Key::Object(object, name)) = self.parse(kv.key()) {
                objects.insert((object, name), (kv.value().to_vec(), kv.mod_revision()));
            }
        }
        for kv in self.range(self.record_key(after.saturating_add(1)), self.key("audit0")).await? {
            if let Some(Key::Record(number)) = self.parse(kv.key()) {
                records.push((number, kv.value().to_vec()));
            }
        }
        self.look_at_last().await?;
        Ok(Snapshot { objects, records })
    }

    /// All keys from the one up to before the other, at the revision of the first that was read.
    async fn range(&mut self, mut from: String, to: String) -> Result<Vec<KeyValue>, Trouble> {
        let mut all = Vec::new();
        loop {
            let options =
                GetOptions::new().with_range(to.as_str()).with_limit(PAGE_KEYS).with_revision(self.seen);
            let mut page = etcd::answer(&self.endpoints, self.kv.get(from.as_str(), Some(options))).await?;
            if self.seen == 0 {
                self.seen = page.header().map_or(0, |header| header.revision());
            }
            all.extend(page.take_kvs());
            let Some(last) = all.last().filter(|_| page.more()) else { return Ok(all) };
            // The next key that there can be.
            from = format!("{}\0", String::from_utf8_lossy(last.key()));
        }
    }
}
