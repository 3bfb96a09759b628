//! The ledger: what is changed at run time passes it, with the record of who changed it.
//!
//! ```text
//!  service ──► what is to change, made of what is so now ──► store: one transaction, on disk ──► followers ──► answer
//! ```
//!
//! Changes are made one after the other. Whoever makes something of an object follows its kind: a follower is told all there are at the
//! start, and every change after it is kept and before it is answered. So there is one way into effect, whoever changed it.

use crate::proto::AuditRecord;
use crate::store::{Change, Changes, Object, Store, StoreError};
use prost::Message;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tonic::Status;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<LedgerError> for Status {
    fn from(error: LedgerError) -> Status {
        match error {
            LedgerError::Store(_) => Status::unavailable(error.to_string()),
        }
    }
}

/// Is told what an object is from now on; `None` = it is gone.
type Follower = Box<dyn Fn(&str, Option<&[u8]>) + Send + Sync>;

pub struct Ledger {
    store: Arc<Store>,
    node: String,
    followers: Vec<(Object, Follower)>,
    /// One change at a time.
    changing: Mutex<()>,
    latest: watch::Sender<u64>,
}

impl Ledger {
    /// `node` is the name under which changes are recorded.
    pub fn new(store: Arc<Store>, node: &str) -> Result<Ledger, StoreError> {
        let (latest, _) = watch::channel(store.last()?);
        Ok(Ledger { store, node: node.to_owned(), followers: Vec::new(), changing: Mutex::default(), latest })
    }

    /// Tells `take` all objects of a kind at once, and from then on what one of them is now, `None` = it is gone. It must not call
    /// the ledger.
    pub fn follow<M: Message + Default>(
        &mut self,
        object: Object,
        take: impl Fn(&str, Option<M>) + Send + Sync + 'static,
    ) -> Result<(), StoreError> {
        for (name, message) in self.store.all::<M>(object)? {
            take(&name, Some(message));
        }
        let decode = move |name: &str, bytes: Option<&[u8]>| match bytes.map(M::decode).transpose() {
            Ok(message) => take(name, message),
            Err(error) => tracing::error!("{object:?} {name:?} stays as it was: {error}"),
        };
        self.followers.push((object, Box::new(decode)));
        Ok(())
    }

    /// Makes a change: `make` tells what changes and how that is recorded, by what is so at that moment, or refuses. Returns the
    /// record's number; it is on disk then, and in effect. Waits for the disk.
    pub fn change<E: From<LedgerError>>(
        &self,
        make: impl FnOnce() -> Result<(Changes, AuditRecord), E>,
    ) -> Result<u64, E> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (changes, record) = make()?;
        let record = AuditRecord { node: self.node.clone(), ..record };
        let number = self.store.change(&changes, &record).map_err(LedgerError::from)?;
        self.tell(&changes);
        self.latest.send_replace(number);
        Ok(number)
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
        self.latest.subscribe()
    }

    /// As [`Store::audit`].
    pub fn records(
        &self,
        numbers: RangeInclusive<u64>,
        newest_first: bool,
        max: usize,
    ) -> Result<Vec<AuditRecord>, LedgerError> {
        Ok(self.store.audit(numbers, newest_first, max)?)
    }

    fn tell(&self, changes: &Changes) {
        for Change { object, name, bytes } in changes.all() {
            for (_, follower) in self.followers.iter().filter(|(of, _)| of == object) {
                follower(name, bytes.as_deref());
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
        let take = move |name: &str, limits: Option<QuotaLimits>| {
            let mut seen = taking.lock().unwrap();
            match limits {
                Some(limits) => seen.insert(name.to_owned(), limits.requests_per_min.unwrap()),
                None => seen.remove(name),
            };
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
