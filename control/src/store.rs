//! The store: what operators made, kept on disk beside the record of who made it.
//!
//! Values are messages of the gRPC interface, encoded; so an older store is read by a newer node, as an older client is.
//! A change and its audit record are one transaction, which is on disk (fsync) before the change is answered: after a crash
//! there is neither a change without its record, nor an answered change that is gone.

use crate::proto::AuditRecord;
use prost::Message;
use redb::backends::InMemoryBackend;
use redb::{Database, Key, ReadOnlyTable, ReadableTable, StorageBackend, TableDefinition, Value};
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Kind and name → message.
const OBJECTS: TableDefinition<(u8, &str), &[u8]> = TableDefinition::new("objects");
/// Number → audit record. Nothing here is ever changed, and only the oldest is taken out ([`Store::prune`]).
const AUDIT: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");
/// Of what history of a group the objects are, under an empty name.
const HISTORY: TableDefinition<&str, &str> = TableDefinition::new("history");
const FILE: &str = "tickplane.redb";

/// What kind of thing is kept. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Object {
    Client = 1,
    Subscription = 2,
    Quota = 3,
    Setting = 4,
}

impl Object {
    /// The kind of that number.
    pub fn numbered(number: u8) -> Option<Object> {
        [Object::Client, Object::Subscription, Object::Quota, Object::Setting]
            .into_iter()
            .find(|object| *object as u8 == number)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {cause}: name a folder that this node may write, and no other node uses", path = path.display())]
    Open { path: PathBuf, cause: Box<redb::Error> },
    #[error("the store can't be used: {0}: is the disk full?")]
    Use(#[from] Box<redb::Error>),
    #[error("the store holds {0:?} that can't be read: was it written by a later version?")]
    Unreadable(String),
}

/// What is to be kept, or forgotten, in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Changes(Vec<Change>);

/// `bytes` of none = it is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub object: Object,
    pub name: String,
    pub bytes: Option<Vec<u8>>,
}

impl Changes {
    pub fn put(mut self, object: Object, name: &str, message: &impl Message) -> Changes {
        self.0.push(Change { object, name: name.to_owned(), bytes: Some(message.encode_to_vec()) });
        self
    }

    pub fn remove(mut self, object: Object, name: &str) -> Changes {
        self.0.push(Change { object, name: name.to_owned(), bytes: None });
        self
    }

    pub fn all(&self) -> &[Change] {
        &self.0
    }
}

/// An embedded database in one file; one process at a time has it open.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the store in `folder`, or makes it; the folder must be there.
    pub fn open(folder: &Path) -> Result<Store, StoreError> {
        let path = folder.join(FILE);
        let there = if path.exists() { Ok(()) } else { make(folder, &path) };
        let opened = there.and_then(|()| Database::create(&path).map_err(boxed));
        let database = opened.map_err(|cause| StoreError::Open { path, cause })?;
        Store::with_tables(database)
    }

    /// A store that is gone when the node ends.
    pub fn in_memory() -> Result<Store, StoreError> {
        Store::over(InMemoryBackend::new())
    }

    /// A store over something else than a file.
    pub(crate) fn over(backend: impl StorageBackend) -> Result<Store, StoreError> {
        Store::with_tables(Database::builder().create_with_backend(backend).map_err(boxed)?)
    }

    fn with_tables(database: Database) -> Result<Store, StoreError> {
        let store = Store { database };
        store.in_transaction(|_, _, _| Ok(()))?;
        Ok(store)
    }

    /// A table as it is now.
    fn read<K: Key, V: Value>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, StoreError> {
        Ok(self.database.begin_read().map_err(boxed)?.open_table(table).map_err(boxed)?)
    }

    /// All objects of a kind, by name.
    pub fn all<M: Message + Default>(&self, object: Object) -> Result<Vec<(String, M)>, StoreError> {
        let (from, to) = ((object as u8, ""), (object as u8 + 1, ""));
        let mut all = Vec::new();
        for entry in self.read(OBJECTS)?.range(from..to).map_err(boxed)? {
            let (key, value) = entry.map_err(boxed)?;
            let name = key.value().1.to_owned();
            match M::decode(value.value()) {
                Ok(message) => all.push((name, message)),
                Err(_) => return Err(StoreError::Unreadable(name)),
            }
        }
        Ok(all)
    }

    /// Makes the changes together with the record of them, and returns the record's number. They are on disk then.
    pub fn change(&self, changes: &Changes, record: &AuditRecord) -> Result<u64, StoreError> {
        let mut number = 0;
        self.in_transaction(|objects, audit, _| {
            changes.0.iter().try_for_each(|change| write(objects, change))?;
            number = audit.last().map_err(boxed)?.map_or(1, |(last, _)| last.value() + 1);
            audit.insert(number, record.encode_to_vec().as_slice()).map_err(boxed)?;
            Ok(())
        })?;
        Ok(number)
    }

    /// All objects of all kinds, but of those that only a later version knows.
    pub fn objects(&self) -> Result<Vec<Change>, StoreError> {
        let mut all = Vec::new();
        for entry in self.read(OBJECTS)?.iter().map_err(boxed)? {
            let (key, value) = entry.map_err(boxed)?;
            let (kind, name) = key.value();
            if let Some(object) = Object::numbered(kind) {
                all.push(Change { object, name: name.to_owned(), bytes: Some(value.value().to_vec()) });
            }
        }
        Ok(all)
    }

    /// Of what history of a group the objects are; `None` = they are this node's alone.
    pub fn history(&self) -> Result<Option<String>, StoreError> {
        let history = self.read(HISTORY)?.get("").map_err(boxed)?;
        Ok(history.map(|history| history.value().to_owned()))
    }

    /// Keeps what a group has changed, the records of it by number, and, if it is given, the history that all is of from then on.
    /// Returns those of the changes that change anything here.
    pub fn keep<'c>(
        &self,
        changes: impl Iterator<Item = &'c Change>,
        records: &[(u64, Vec<u8>)],
        history: Option<&str>,
    ) -> Result<Vec<&'c Change>, StoreError> {
        let mut fresh = Vec::new();
        self.in_transaction(|objects, audit, histories| {
            for change in changes {
                let (key, bytes) = ((change.object as u8, change.name.as_str()), change.bytes.as_deref());
                let is_so = objects.get(key).map_err(boxed)?.as_ref().map(|known| known.value()) == bytes;
                if is_so {
                    continue;
                }
                write(objects, change)?;
                fresh.push(change);
            }
            for (number, record) in records {
                audit.insert(number, record.as_slice()).map_err(boxed)?;
            }
            if let Some(history) = history {
                histories.insert("", history).map_err(boxed)?;
            }
            Ok(())
        })?;
        Ok(fresh)
    }

    /// The number of the last audit record; 0 = there is none.
    pub fn last(&self) -> Result<u64, StoreError> {
        Ok(*self.numbers()?.end())
    }

    /// From the first to the last number that an audit record has; some between may have none.
    pub fn numbers(&self) -> Result<RangeInclusive<u64>, StoreError> {
        let records = self.read(AUDIT)?;
        let (first, last) = (records.first().map_err(boxed)?, records.last().map_err(boxed)?);
        let number =
            |end: Option<(redb::AccessGuard<'_, u64>, _)>, none| end.map_or(none, |(end, _)| end.value());
        Ok(number(first, 1)..=number(last, 0))
    }

    /// Takes audit records out, in one transaction; returns how many there were.
    pub fn prune(&self, numbers: RangeInclusive<u64>) -> Result<u64, StoreError> {
        let mut pruned = 0;
        let take_out = |_, _: &[u8]| {
            pruned += 1;
            false
        };
        self.in_transaction(|_, audit, _| audit.retain_in(numbers, take_out).map_err(boxed))?;
        Ok(pruned)
    }

    /// Up to `max` audit records of these numbers, the first ones, or by `newest_first` the last ones, and in that order.
    pub fn audit(
        &self,
        numbers: RangeInclusive<u64>,
        newest_first: bool,
        max: usize,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let (mut range, mut records) = (self.read(AUDIT)?.range(numbers).map_err(boxed)?, Vec::new());
        while records.len() < max {
            let entry = if newest_first { range.next_back() } else { range.next() };
            let Some(entry) = entry else { break };
            let (number, value) = entry.map_err(boxed)?;
            let number = number.value();
            match AuditRecord::decode(value.value()) {
                Ok(record) => records.push(AuditRecord { number, ..record }),
                Err(_) => return Err(StoreError::Unreadable(format!("audit record {number}"))),
            }
        }
        Ok(records)
    }

    fn in_transaction(
        &self,
        change: impl FnOnce(&mut Objects<'_>, &mut Audit<'_>, &mut Histories<'_>) -> Result<(), Box<redb::Error>>,
    ) -> Result<(), StoreError> {
        let run = || -> Result<(), Box<redb::Error>> {
            let transaction = self.database.begin_write().map_err(boxed)?;
            {
                let mut objects = transaction.open_table(OBJECTS).map_err(boxed)?;
                let mut audit = transaction.open_table(AUDIT).map_err(boxed)?;
                let mut histories = transaction.open_table(HISTORY).map_err(boxed)?;
                change(&mut objects, &mut audit, &mut histories)?;
            }
            transaction.commit().map_err(boxed)?;
            Ok(())
        };
        Ok(run()?)
    }
}

fn write(objects: &mut Objects<'_>, change: &Change) -> Result<(), Box<redb::Error>> {
    let key = (change.object as u8, change.name.as_str());
    let changed = match &change.bytes {
        Some(bytes) => objects.insert(key, bytes.as_slice()),
        None => objects.remove(key),
    };
    changed.map(drop).map_err(boxed)
}

fn boxed(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}

type Objects<'t> = redb::Table<'t, (u8, &'static str), &'static [u8]>;
type Histories<'t> = redb::Table<'t, &'static str, &'static str>;
type Audit<'t> = redb::Table<'t, u64, &'static [u8]>;

/// Makes an empty store, which gets its name once it is whole: nobody could open one whose maker was killed at it.
fn make(folder: &Path, path: &Path) -> Result<(), Box<redb::Error>> {
    let made = tempfile::Builder::new().prefix(FILE).tempfile_in(folder).map_err(boxed)?;
    drop(Database::create(made.path()).map_err(boxed)?);
    match made.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(boxed(error.error)),
        // If it is there by now, another node was faster.
        _ => std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(boxed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{GetRequest, PromoteRequest};

    fn names(names: &[&str]) -> GetRequest {
        GetRequest { symbols: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn by(client: &str, number: u64) -> AuditRecord {
        AuditRecord { client: client.to_owned(), number, ..AuditRecord::default() }
    }

    fn clients(store: &Store) -> Vec<(String, GetRequest)> {
        store.all(Object::Client).unwrap()
    }

    #[test]
    fn a_store_gets_its_name_once_it_is_whole_and_nobody_else_s_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        // What is left of a maker that was killed at it.
        let half_made = format!("{FILE}x7");
        std::fs::write(folder.path().join(&half_made), [0; 4_096]).unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.change(&Changes::default(), &by("ann", 0)).unwrap(), 1);
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
        assert!(files.into_iter().all(|name| name == FILE || *name == *half_made));
        // Another one that did not see it there when it began.
        make(folder.path(), &folder.path().join(FILE)).unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.change(&Changes::default(), &by("ann", 0)).unwrap(), 2);
    }

    #[test]
    fn what_was_changed_is_there_when_it_is_opened_again_with_who_did_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let both =
            Changes::default().put(Object::Client, "b", &names(&["x"])).put(Object::Client, "a", &names(&[]));
        assert_eq!(store.change(&both, &by("ann", 0)).unwrap(), 1);
        let other = Changes::default().put(Object::Quota, "b", &names(&["q"]));
        assert_eq!(store.change(&other, &by("bob", 0)).unwrap(), 2);
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(clients(&store), [("a".to_owned(), names(&[])), ("b".to_owned(), names(&["x"]))]);
        let gone = Changes::default().remove(Object::Client, "a").remove(Object::Client, "never there");
        assert_eq!(store.change(&gone, &by("cy", 0)).unwrap(), 3);
        assert_eq!(clients(&store), [("b".to_owned(), names(&["x"]))]);
        assert_eq!(store.all::<GetRequest>(Object::Quota).unwrap().len(), 1);
        assert_eq!(store.last().unwrap(), 3);
        assert_eq!(store.audit(2..=9, false, 9).unwrap(), [by("bob", 2), by("cy", 3)]);
        assert_eq!(store.audit(1..=u64::MAX, false, 1).unwrap(), [by("ann", 1)]);
        assert_eq!(store.audit(1..=2, true, 9).unwrap(), [by("bob", 2), by("ann", 1)]);
        assert_eq!(store.audit(1..=3, true, 1).unwrap(), [by("cy", 3)]);
        #[allow(clippy::reversed_empty_ranges, reason = "whoever asks for a number that is to come asks so")]
        let none = store.audit(4..=3, false, 9).unwrap();
        assert!(none.is_empty());
        assert_eq!((store.prune(1..=2).unwrap(), store.prune(1..=2).unwrap()), (2, 0));
        assert_eq!((store.numbers().unwrap(), store.last().unwrap()), (3..=3, 3));
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.audit(1..=9, false, 9).unwrap(), [by("cy", 3)]);
        assert_eq!(store.change(&Changes::default(), &by("dan", 0)).unwrap(), 4, "numbers go on");
    }

    #[test]
    fn a_store_that_can_not_be_used_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("no other node"), "{error}");
        drop(store);
        std::fs::write(folder.path().join(FILE), "not a database").unwrap();
        assert!(Store::open(folder.path()).is_err());
        let store = Store::in_memory().unwrap();
        store.change(&Changes::default().put(Object::Client, "a", &names(&["x"])), &by("ann", 0)).unwrap();
        let error = store.all::<PromoteRequest>(Object::Client).unwrap_err().to_string();
        assert!(error.contains("\"a\""), "{error}");
    }
}
