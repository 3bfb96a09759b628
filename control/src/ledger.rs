//! The ledger: what is changed at run time passes it, with the record of who changed it.
//!
//! ```text
//!  service ──► what is to change, made of what is so now ─┬─────────────────► store: one transaction, on disk ──► followers ──► answer
//!                                                         └► etcd ─► watch ─┘
//! ```
//!
//! Changes are made one after the other. Whoever makes something of an object follows its kind: a follower is told all there are at the
//! start, and every change after it is kept and before it is answered. So there is one way into effect, whoever changed it.
//!
//! In a group that elects its primary in etcd a change goes there first, and comes back to all nodes, this one too (`group`). While etcd
//! is not reached nothing can be changed, and everything goes on as it is.

#[cfg(feature = "etcd")]
mod group;

#[cfg(feature = "etcd")]
use crate::config::EtcdConfig;
use crate::proto::AuditRecord;
use crate::store::{Change, Changes, Object, Store, StoreError};
use dataplane::counters::Counter;
use prost::Message;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("nothing that the group shares can be changed now, and all goes on as it is: {0}")]
    Unreachable(String),
    #[error("it is not known whether the change was made: {0}; look at it, and make it again if it was not")]
    Unknown(String),
    #[error("another node changed {0:?} at the same time: read it again, and change that")]
    Overtaken(String),
    #[error("the ledger's thread: {0}")]
    Thread(std::io::Error),
}

impl From<LedgerError> for Status {
    fn from(error: LedgerError) -> Status {
        let text = error.to_string();
        match error {
            LedgerError::Store(_) | LedgerError::Unreachable(_) => Status::unavailable(text),
            LedgerError::Unknown(_) => Status::deadline_exceeded(text),
            LedgerError::Overtaken(_) => Status::aborted(text),
            LedgerError::Thread(_) => Status::internal(text),
        }
    }
}

/// Is told what objects of its kind are from now on.
type Follower = Box<dyn Fn(&[&Change]) + Send + Sync>;

/// What is so, and who is told of it.
struct Kept {
    store: Arc<Store>,
    node: String,
    followers: Vec<(Object, Follower)>,
    latest: watch::Sender<u64>,
    /// Of a group's objects, the revisions in etcd at which they are here; `None` = etcd was not read yet. Whoever has it sees objects
    /// and revisions that belong together.
    revisions: Mutex<Option<Revisions>>,
}

type Revisions = HashMap<(Object, String), i64>;

/// A change that is asked of the group, if each object is at the revision beside it; 0 = it is not there.
#[cfg_attr(not(feature = "etcd"), allow(dead_code, reason = "nobody takes it"))]
struct Request {
    changes: Vec<(Change, i64)>,
    record: AuditRecord,
    answer: oneshot::Sender<Result<u64, LedgerError>>,
}

pub struct Ledger {
    kept: Arc<Kept>,
    /// One change at a time.
    changing: Mutex<()>,
    /// Where a group's changes are made; `None` = this node's are its own.
    group: Option<mpsc::Sender<Request>>,
    /// Records that were taken out since the start; by one thread.
    pub pruned: Counter,
}

impl Ledger {
    /// `node` is the name under which changes are recorded.
    pub fn new(store: Arc<Store>, node: &str) -> Result<Ledger, StoreError> {
        let (latest, _) = watch::channel(store.last()?);
        let revisions = Mutex::new(None);
        let kept = Kept { store, node: node.to_owned(), followers: Vec::new(), latest, revisions };
        Ok(Ledger {
            kept: Arc::new(kept),
            changing: Mutex::default(),
            group: None,
            pruned: Counter::default(),
        })
    }

    /// Tells `take` all objects of a kind at once, and from then on what those of them are that one change has changed, `None` = it is
    /// gone. It must not call the ledger. Nobody begins to follow once a group is shared with.
    pub fn follow<M: Message + Default>(
        &mut self,
        object: Object,
        take: impl Fn(Vec<(String, Option<M>)>) + Send + Sync + 'static,
    ) -> Result<(), StoreError> {
        let kept =
            Arc::get_mut(&mut self.kept).expect("whoever follows does so before a group is shared with");
        take(kept.store.all(object)?.into_iter().map(|(name, message)| (name, Some(message))).collect());
        let decode = move |changes: &[&Change]| {
            let mut decoded = Vec::new();
            for Change { name, bytes, .. } in changes {
                match bytes.as_deref().map(M::decode).transpose() {
                    Ok(message) => decoded.push((name.clone(), message)),
                    Err(error) => tracing::error!("{object:?} {name:?} stays as it was: {error}"),
                }
            }
            take(decoded);
        };
        kept.followers.push((object, Box::new(decode)));
        Ok(())
    }

    /// From now on what is changed is shared with the group, in a thread of its own that lives as long as the ledger.
    #[cfg(feature = "etcd")]
    pub fn share(&mut self, config: &EtcdConfig) -> Result<(), LedgerError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(LedgerError::Thread)?;
        let (requests, requested) = mpsc::channel(1);
        let group = group::Group::new(self.kept.clone(), config.clone(), requested);
        let thread = std::thread::Builder::new().name("ledger".to_owned());
        thread.spawn(move || runtime.block_on(group.live())).map_err(LedgerError::Thread)?;
        self.group = Some(requests);
        Ok(())
    }

    /// Makes a change: `make` tells what changes and how that is recorded, by what is so at that moment, or refuses. Returns the
    /// record's number; it is on disk then, and in effect. Waits for the disk, and for the group.
    pub fn change<E: From<LedgerError>>(
        &self,
        make: impl FnOnce() -> Result<(Changes, AuditRecord), E>,
    ) -> Result<u64, E> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = &self.group else {
            let (changes, record) = make()?;
            return Ok(self.kept.change(&changes, record)?);
        };
        let revisions = self.kept.revisions();
        let not_read = || LedgerError::Unreachable("etcd was not read yet: is it running?".to_owned());
        let known = revisions.as_ref().ok_or_else(not_read)?;
        let (changes, record) = make()?;
        let at = |change: &Change| known.get(&(change.object, change.name.clone())).copied().unwrap_or(0);
        let changes = changes.all().iter().map(|change| (change.clone(), at(change))).collect();
        drop(revisions);
        let record = AuditRecord { node: self.kept.node.clone(), ..record };
        let (answer, answered) = oneshot::channel();
        let gone = || LedgerError::Unknown("the ledger's thread has ended: the log says why".to_owned());
        group.blocking_send(Request { changes, record, answer }).map_err(|_| gone())?;
        Ok(answered.blocking_recv().map_err(|_| gone())??)
    }

    /// Records what is no change of an object.
    pub fn record(&self, record: AuditRecord) -> Result<u64, LedgerError> {
        self.change(|| Ok((Changes::default(), record)))
    }

    /// Records what was done already, whether that can be kept or not: what can't is in the log.
    pub fn record_done(&self, record: AuditRecord) {
        if let Err(error) = self.record(record.clone()) {
            let AuditRecord { client, action, object, now, refused, .. } = record;
            tracing::error!(client, action, object, now, refused, "done, but not recorded: {error}");
        }
    }

    /// The number of the latest record, as it grows.
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.kept.latest.subscribe()
    }

    /// As [`Store::numbers`].
    pub fn numbers(&self) -> Result<RangeInclusive<u64>, LedgerError> {
        Ok(self.kept.store.numbers()?)
    }

    /// As [`Store::prune`]; what is taken out is so at this node.
    pub fn prune(&self, numbers: RangeInclusive<u64>) -> Result<(), LedgerError> {
        self.pruned.add(self.kept.store.prune(numbers)?);
        Ok(())
    }

    /// As [`Store::audit`].
    pub fn records(
        &self,
        numbers: RangeInclusive<u64>,
        newest_first: bool,
        max: usize,
    ) -> Result<Vec<AuditRecord>, LedgerError> {
        Ok(self.kept.store.audit(numbers, newest_first, max)?)
    }
}

impl Kept {
    fn revisions(&self) -> MutexGuard<'_, Option<Revisions>> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change of this node's own.
    fn change(&self, changes: &Changes, record: AuditRecord) -> Result<u64, LedgerError> {
        let record = AuditRecord { node: self.node.clone(), ..record };
        let number = self.store.change(changes, &record)?;
        self.tell(&changes.all().iter().collect::<Vec<_>>());
        self.latest.send_replace(number);
        Ok(number)
    }

    /// Takes what the group has changed, each object with its revision (0 = it is gone), and the records of it by number. With the
    /// history that they are of they are all that there is.
    #[cfg(feature = "etcd")]
    fn take_all(
        &self,
        changes: &[(Change, i64)],
        records: &[(u64, Vec<u8>)],
        history: Option<&str>,
    ) -> Result<(), StoreError> {
        if changes.is_empty() && records.is_empty() && history.is_none() {
            return Ok(());
        }
        let mut revisions = self.revisions();
        let fresh = self.store.keep(changes.iter().map(|(change, _)| change), records, history)?;
        let known = revisions.get_or_insert_default();
        if history.is_some() {
            known.clear();
        }
        for (change, revision) in changes {
            let key = (change.object, change.name.clone());
            match change.bytes {
                Some(_) => known.insert(key, *revision),
                None => known.remove(&key),
            };
        }
        self.tell(&fresh);
        drop(revisions);
        if let Some(last) = records.iter().map(|(number, _)| *number).max() {
            self.latest.send_replace(last);
        }
        Ok(())
    }

    fn tell(&self, changes: &[&Change]) {
        for (object, follower) in &self.followers {
            let of_it: Vec<&Change> =
                changes.iter().copied().filter(|change| change.object == *object).collect();
            if !of_it.is_empty() {
                follower(&of_it);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit;
    use crate::proto::QuotaLimits;
    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;
    use std::collections::BTreeMap;
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A disk that may be full.
    #[derive(Debug)]
    struct Disk(InMemoryBackend, Arc<AtomicBool>);

    impl Disk {
        fn has_room(&self) -> io::Result<()> {
            match self.1.load(Ordering::Relaxed) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            self.0.read(offset, len)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.has_room().and_then(|()| self.0.set_len(len))
        }

        fn sync_data(&self, eventual: bool) -> io::Result<()> {
            self.has_room().and_then(|()| self.0.sync_data(eventual))
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.has_room().and_then(|()| self.0.write(offset, data))
        }
    }

    type Seen = Arc<Mutex<BTreeMap<String, u64>>>;

    /// A ledger, and what a follower of quotas knows: calls a minute by client.
    fn followed(store: Store) -> (Ledger, Seen) {
        let mut ledger = Ledger::new(Arc::new(store), "node-a").unwrap();
        let seen = Seen::default();
        let taking = seen.clone();
        let take = move |changed: Vec<(String, Option<QuotaLimits>)>| {
            let mut seen = taking.lock().unwrap();
            for (name, limits) in changed {
                match limits {
                    Some(limits) => seen.insert(name, limits.requests_per_min.unwrap()),
                    None => seen.remove(&name),
                };
            }
        };
        ledger.follow(Object::Quota, take).unwrap();
        (ledger, seen)
    }

    fn set(ledger: &Ledger, name: &str, requests: u64) -> Result<u64, LedgerError> {
        let limits = QuotaLimits { requests_per_min: Some(requests), ..QuotaLimits::default() };
        let record = audit::record_of("ann", 1, "quota.set", name, requests.to_string());
        ledger.change(|| Ok((Changes::default().put(Object::Quota, name, &limits), record)))
    }

    fn known(seen: &Seen) -> Vec<(String, u64)> {
        seen.lock().unwrap().iter().map(|(name, requests)| (name.clone(), *requests)).collect()
    }

    #[test]
    fn whoever_follows_knows_what_was_there_and_what_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, seen) = followed(Store::open(folder.path()).unwrap());
        assert_eq!((set(&ledger, "a", 5).unwrap(), set(&ledger, "b", 6).unwrap()), (1, 2));
        assert_eq!(*ledger.latest().borrow(), 2);
        drop(ledger);
        assert_eq!(known(&seen), [("a".to_owned(), 5), ("b".to_owned(), 6)]);
        let (ledger, again) = followed(Store::open(folder.path()).unwrap());
        assert_eq!((known(&again), *ledger.latest().borrow()), (known(&seen), 2));
        let record = audit::record_of("ann", 1, "quota.reset", "a", String::new());
        let refused = ledger.change(|| Err(LedgerError::from(StoreError::Unreadable("no".to_owned()))));
        assert!(refused.is_err() && ledger.records(1..=9, false, 9).unwrap().len() == 2);
        let gone = || Ok::<_, LedgerError>((Changes::default().remove(Object::Quota, "a"), record));
        assert_eq!(ledger.change(gone).unwrap(), 3);
        assert_eq!(known(&again), [("b".to_owned(), 6)]);
        let records = ledger.records(3..=9, false, 9).unwrap();
        assert_eq!((records[0].number, records[0].node.as_str()), (3, "node-a"));
    }

    #[test]
    fn what_can_not_be_kept_with_its_record_is_not_done() {
        let is_full = Arc::new(AtomicBool::new(false));
        let (ledger, seen) = followed(Store::over(Disk(InMemoryBackend::new(), is_full.clone())).unwrap());
        set(&ledger, "a", 5).unwrap();
        is_full.store(true, Ordering::Relaxed);
        let refused = set(&ledger, "a", 6).unwrap_err();
        assert!(refused.to_string().contains("is the disk full?"), "{refused}");
        assert_eq!(Status::from(refused).code(), tonic::Code::Unavailable);
        assert_eq!((known(&seen), *ledger.latest().borrow()), (vec![("a".to_owned(), 5)], 1));
        // That is told in the log, and stops nobody.
        ledger.record_done(audit::record_of("SIGHUP", 1, "config.reload", "log", String::new()));
        assert_eq!(*ledger.latest().borrow(), 1);
    }
}
