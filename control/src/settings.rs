//! The configuration while the node runs: what it is, and what of it can change without a restart.
//!
//! Whoever can take a change at once says so by [`Settings::on_change`], or if it may refuse, by [`Settings::on_trial`]. A new
//! configuration is taken as a whole or not at all: it is checked as at the start, each key that differs must be one that somebody
//! takes, and if one of them refuses, or it can't be kept, those that have taken it get the old one back. Who can't refuse takes it last.

use crate::config::{Config, ConfigError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tempfile::NamedTempFile;
use toml::Value;

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As in `grpc.subscriptions_max`; elements of a list go by their `name`: `feeds.nasdaq.orders_max`.
    pub key: String,
    /// As TOML; `None` = it is not there.
    pub from: Option<String>,
    pub to: Option<String>,
    /// It takes effect at once; else at the next start.
    pub is_live: bool,
}

/// The end of keys whose value is not to be shown.
const SECRET: &str = ".token_sha256";

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{keys}: can't change while the node runs: change the file, and restart it")]
    NotLive { keys: String },
    #[error("the configuration is at revision {now}, not {expected}: read it again, and apply to that")]
    Revision { now: u64, expected: u64 },
    #[error(
        "the node runs without a configuration file, so nothing could be kept: start it with --config FILE"
    )]
    NoFile,
    #[error("{path}: {cause}: the node must be able to write it and its folder", path = path.display())]
    Write { path: PathBuf, cause: std::io::Error },
    #[error("{key}: {message}")]
    Refused { key: String, message: String },
    /// Whoever keeps the record of the change says why it can't.
    #[error("{0}")]
    Unrecorded(String),
}

type Surely = Box<dyn Fn(&Config) + Send + Sync>;
type OnTrial = Box<dyn Fn(&Config) -> Result<(), String> + Send + Sync>;

enum Take {
    Surely(Surely),
    OnTrial(OnTrial),
}

/// Who takes changes of a key, and of all below it.
struct Live {
    key: String,
    take: Take,
}

impl Live {
    fn takes(&self, one: &Difference) -> bool {
        let below = one.key.strip_prefix(self.key.as_str());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// What runs now.
struct Running {
    config: Arc<Config>,
    /// Grows with each change.
    revision: u64,
}

pub struct Settings {
    running: Mutex<Running>,
    /// One change at a time; `running` is not locked while a disk is waited for.
    changing: Mutex<()>,
    file: Option<PathBuf>,
    live: Vec<Live>,
}

impl Settings {
    /// `file` is where `config` came from, and where changes are kept.
    pub fn new(config: Arc<Config>, file: Option<PathBuf>) -> Settings {
        let running = Mutex::new(Running { config, revision: 1 });
        Settings { running, changing: Mutex::default(), file, live: Vec::new() }
    }

    /// From now on `key` can change, and so can what is below it: `take` makes it so, once the change is kept.
    pub fn on_change(&mut self, key: impl Into<String>, take: impl Fn(&Config) + Send + Sync + 'static) {
        self.live.push(Live { key: key.into(), take: Take::Surely(Box::new(take)) });
    }

    /// The same, but `take` may refuse, and changes nothing then; if the change can't be kept, it is given what was before.
    pub fn on_trial(
        &mut self,
        key: impl Into<String>,
        take: impl Fn(&Config) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.live.push(Live { key: key.into(), take: Take::OnTrial(Box::new(take)) });
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What runs now, and its revision.
    pub fn current(&self) -> (Arc<Config>, u64) {
        let running = self.running();
        (running.config.clone(), running.revision)
    }

    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The keys that can change while the node runs.
    pub fn live_keys(&self) -> Vec<String> {
        self.live.iter().map(|live| live.key.clone()).collect()
    }

    /// What would change.
    pub fn compare(&self, text: &str) -> Result<Vec<Difference>, SettingsError> {
        let config = self.parse(text)?;
        Ok(self.differences(&self.running().config, &config))
    }

    /// Changes to the configuration `text`, which replaces the file's. `revision` is what it was made from; 0 = whatever. `record` is
    /// given what differs, if anything does, once all have taken it: if it fails, they get the old one back. Waits for the disk.
    pub fn apply(
        &self,
        text: &str,
        revision: u64,
        record: impl FnOnce(&[Difference], u64) -> Result<(), String>,
    ) -> Result<Vec<Difference>, SettingsError> {
        let config = self.parse(text)?;
        let file = self.file.as_deref().ok_or(SettingsError::NoFile)?;
        let unwritten = |cause| SettingsError::Write { path: file.to_owned(), cause };
        self.change(config, revision, |differences, revision| {
            // All that can fail comes before the record; then the new file only takes the old one's place.
            let fresh = write_beside(file, text).map_err(unwritten)?;
            if !differences.is_empty() {
                record(differences, revision).map_err(SettingsError::Unrecorded)?;
            }
            put_in_place(fresh, file).map_err(unwritten)
        })
    }

    /// Changes to what the file now says. `record` is given what differs, if anything does.
    pub fn reload(&self, record: impl FnOnce(&[Difference], u64)) -> Result<Vec<Difference>, SettingsError> {
        let file = self.file.as_deref().ok_or(SettingsError::NoFile)?;
        self.change(Config::read(file)?, 0, |differences, revision| {
            if !differences.is_empty() {
                record(differences, revision);
            }
            Ok(())
        })
    }

    fn parse(&self, text: &str) -> Result<Config, SettingsError> {
        Ok(Config::parse(self.file.as_deref().unwrap_or(Path::new("configuration")), text)?)
    }

    fn change(
        &self,
        config: Config,
        revision: u64,
        keep: impl FnOnce(&[Difference], u64) -> Result<(), SettingsError>,
    ) -> Result<Vec<Difference>, SettingsError> {
        let _one = self.changing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (before, now) = self.current();
        if revision != 0 && revision != now {
            return Err(SettingsError::Revision { now, expected: revision });
        }
        let differences = self.differences(&before, &config);
        let fixed: Vec<&str> =
            differences.iter().filter(|one| !one.is_live).map(|one| one.key.as_str()).collect();
        if !fixed.is_empty() {
            return Err(SettingsError::NotLive { keys: fixed.join(", ") });
        }
        let touched = || self.live.iter().filter(|live| differences.iter().any(|one| live.takes(one)));
        let mut taken = Vec::new();
        let take_all = || {
            for live in touched() {
                let Take::OnTrial(take) = &live.take else { continue };
                take(&config).map_err(|message| SettingsError::Refused { key: live.key.clone(), message })?;
                taken.push((&live.key, take));
            }
            keep(&differences, now + 1)
        };
        if let Err(error) = take_all() {
            for (key, take) in taken {
                if let Err(message) = take(&before) {
                    tracing::error!("{key}: what was before is not taken back: {message}");
                }
            }
            return Err(error);
        }
        for live in touched() {
            if let Take::Surely(take) = &live.take {
                take(&config);
            }
        }
        if !differences.is_empty() {
            *self.running() = Running { config: Arc::new(config), revision: now + 1 };
        }
        Ok(differences)
    }

    fn differences(&self, from: &Config, to: &Config) -> Vec<Difference> {
        let mut differences = Vec::new();
        compare("", Some(&value(from)), Some(&value(to)), &mut differences);
        for one in &mut differences {
            one.is_live = self.live.iter().any(|live| live.takes(one));
        }
        differences
    }
}

fn value(config: &Config) -> Value {
    Value::try_from(config).expect("what came from TOML can be TOML")
}

/// The keys that differ, and what they are now, in words without secrets.
pub fn words(differences: &[Difference]) -> (String, String) {
    let keys: Vec<&str> = differences.iter().map(|one| one.key.as_str()).collect();
    let now = |Difference { key, to, .. }: &Difference| match to {
        // Nobody gets in by a hash, but nobody needs it either.
        Some(_) if key.ends_with(SECRET) => format!("{key} is another"),
        Some(to) => format!("{key} = {to}"),
        None => format!("{key} is gone"),
    };
    (keys.join(", "), differences.iter().map(now).collect::<Vec<_>>().join(", "))
}

/// The whole configuration with all defaults.
pub fn text(config: &Config) -> String {
    toml::to_string(config).expect("what came from TOML can be TOML")
}

fn compare(key: &str, from: Option<&Value>, to: Option<&Value>, differences: &mut Vec<Difference>) {
    let parts = |value: Option<&Value>| value.and_then(parts).unwrap_or_default();
    if from == to {
        return;
    }
    let (before, after) = (parts(from), parts(to));
    if before.is_empty() && after.is_empty() {
        let text = |value: Option<&Value>| value.map(Value::to_string);
        differences.push(Difference { key: key.to_owned(), from: text(from), to: text(to), is_live: false });
        return;
    }
    let names_in = |all: &[(String, Value)], others: &[(String, Value)]| -> Vec<String> {
        let names = all.iter().map(|(name, _)| name.clone());
        names.filter(|name| others.iter().any(|(other, _)| other == name)).collect()
    };
    let (names_before, names_after) = (names_in(&before, &after), names_in(&after, &before));
    if names_before != names_after {
        // What is called by its place in a list would be another one.
        let order = |names: Vec<String>| Some(format!("in the order {}", names.join(", ")));
        let (from, to) = (order(names_before), order(names_after));
        differences.push(Difference { key: key.to_owned(), from, to, is_live: false });
    }
    let find = |all: &[(String, Value)], name: &str| {
        all.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    };
    let added = after.iter().filter(|(name, _)| find(&before, name).is_none());
    for (name, _) in before.iter().chain(added) {
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        compare(&key, find(&before, name).as_ref(), find(&after, name).as_ref(), differences);
    }
}

/// The parts of a table, or of a list of tables, by name; `None` = it has none.
fn parts(value: &Value) -> Option<Vec<(String, Value)>> {
    match value {
        Value::Table(table) => Some(table.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
        Value::Array(list) if list.iter().any(Value::is_table) => {
            let name = |(index, value): (usize, &Value)| {
                let name = value.get("name").and_then(Value::as_str);
                (name.map_or_else(|| index.to_string(), str::to_owned), value.clone())
            };
            Some(list.iter().enumerate().map(name).collect())
        }
        _ => None,
    }
}

/// What is to replace a file as a whole: a crash leaves the old one or the new one.
fn write_beside(file: &Path, text: &str) -> std::io::Result<NamedTempFile> {
    let mut fresh = NamedTempFile::new_in(folder_of(file))?;
    fresh.write_all(text.as_bytes())?;
    fresh.as_file().set_permissions(std::fs::metadata(file)?.permissions())?;
    fresh.as_file().sync_all()?;
    Ok(fresh)
}

fn put_in_place(fresh: NamedTempFile, file: &Path) -> std::io::Result<()> {
    fresh.persist(file)?;
    std::fs::File::open(folder_of(file))?.sync_all()
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const TEXT: &str = include_str!("../../configs/embedded.toml");

    struct Desk {
        settings: Settings,
        taken: Arc<AtomicUsize>,
        level: Arc<Mutex<String>>,
        _folder: tempfile::TempDir,
    }

    fn desk() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, TEXT).unwrap();
        let config = Config::read(&file).unwrap();
        let taken = Arc::new(AtomicUsize::new(config.grpc.subscriptions_max));
        let mut settings = Settings::new(Arc::new(config), Some(file));
        let seen = taken.clone();
        settings.on_change("grpc.subscriptions_max", move |config| {
            seen.store(config.grpc.subscriptions_max, Ordering::Relaxed);
        });
        let level = Arc::new(Mutex::new(String::new()));
        let seen = level.clone();
        settings.on_trial("log", move |config| match config.log.level.as_str() {
            "bad" => Err("there is no such level".to_owned()),
            good => {
                *seen.lock().unwrap() = good.to_owned();
                Ok(())
            }
        });
        Desk { settings, taken, level, _folder: folder }
    }

    fn with(from: &str, to: &str) -> String {
        assert!(TEXT.contains(from), "{from}");
        TEXT.replacen(from, to, 1)
    }

    const MAX: &str = "subscriptions_max = 256";

    /// Of what is not to come so far.
    fn unrecorded(differences: &[Difference], _: u64) -> Result<(), String> {
        panic!("{differences:?} was recorded")
    }

    fn recorded(expected: &[Difference]) -> impl FnOnce(&[Difference], u64) -> Result<(), String> {
        move |differences, revision| {
            assert_eq!((differences, revision), (expected, 2));
            Ok(())
        }
    }

    #[test]
    fn what_changed_is_told_in_words_and_no_secret_is_among_them() {
        let one = |key: &str, to: Option<&str>| Difference {
            key: key.to_owned(),
            from: Some("\"old\"".to_owned()),
            to: to.map(str::to_owned),
            is_live: true,
        };
        let (keys, now) = words(&[
            one("grpc.subscriptions_max", Some("9")),
            one("clients.ann.token_sha256", Some("\"5e4d\"")),
            one("clients.bob.token_sha256", None),
        ]);
        assert_eq!(keys, "grpc.subscriptions_max, clients.ann.token_sha256, clients.bob.token_sha256");
        assert_eq!(
            now,
            "grpc.subscriptions_max = 9, clients.ann.token_sha256 is another, clients.bob.token_sha256 is gone"
        );
    }

    #[test]
    fn a_change_of_what_is_live_takes_effect_and_is_kept() {
        let desk = desk();
        let text = with(MAX, "subscriptions_max = 9");
        let found = desk.settings.compare(&text).unwrap();
        let expected = Difference {
            key: "grpc.subscriptions_max".to_owned(),
            from: Some("256".to_owned()),
            to: Some("9".to_owned()),
            is_live: true,
        };
        assert_eq!(found, [expected]);
        assert_eq!(desk.taken.load(Ordering::Relaxed), 256, "it was only compared");
        assert_eq!(desk.settings.apply(&text, 1, recorded(&found)).unwrap(), found);
        assert_eq!(desk.taken.load(Ordering::Relaxed), 9);
        assert_eq!(std::fs::read_to_string(desk.settings.file().unwrap()).unwrap(), text);
        assert!(matches!(
            desk.settings.apply(TEXT, 1, unrecorded),
            Err(SettingsError::Revision { now: 2, expected: 1 })
        ));
        assert_eq!(desk.settings.apply(&text, 2, unrecorded).unwrap(), [], "it is so already");
        std::fs::write(desk.settings.file().unwrap(), TEXT).unwrap();
        assert_eq!(
            desk.settings
                .reload(|differences, revision| assert_eq!((differences.len(), revision), (1, 3)))
                .unwrap()
                .len(),
            1
        );
        assert_eq!((desk.taken.load(Ordering::Relaxed), desk.settings.current().1), (256, 3));
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let desk = desk();
        let feed = &desk.settings.current().0.feeds[0].name;
        let fixed = with("orders_max = 2000000", "orders_max = 7").replacen(MAX, "subscriptions_max = 9", 1);
        let error = desk.settings.apply(&fixed, 0, unrecorded).unwrap_err().to_string();
        assert!(error.contains(&format!("feeds.{feed}.orders_max: can't change")), "{error}");
        let refused = with(MAX, "subscriptions_max = 9").replace("level = \"info\"", "level = \"bad\"");
        let error = desk.settings.apply(&refused, 0, unrecorded).unwrap_err().to_string();
        assert_eq!(error, "log: there is no such level");
        let malformed = desk.settings.apply(&with(MAX, "subscriptions_mxa = 9"), 0, unrecorded).unwrap_err();
        assert!(malformed.to_string().contains("did you mean `subscriptions_max`?"), "{malformed}");
        let level = desk.level.clone();
        let full = |_: &[Difference], _| {
            assert_eq!(*level.lock().unwrap(), "debug", "it was tried");
            Err("the disk is full".to_owned())
        };
        let both = with(MAX, "subscriptions_max = 9").replace("level = \"info\"", "level = \"debug\"");
        let error = desk.settings.apply(&both, 0, full).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), desk.taken.load(Ordering::Relaxed)),
            ("the disk is full", 256)
        );
        assert_eq!(*desk.level.lock().unwrap(), "info", "it was taken back");
        assert_eq!(std::fs::read_to_string(desk.settings.file().unwrap()).unwrap(), TEXT);
        std::fs::remove_file(desk.settings.file().unwrap()).unwrap();
        let unkept = desk.settings.apply(&with(MAX, "subscriptions_max = 9"), 0, unrecorded).unwrap_err();
        assert!(matches!(unkept, SettingsError::Write { .. }), "{unkept}");
        assert_eq!((desk.taken.load(Ordering::Relaxed), desk.settings.current().1), (256, 1));
        let nowhere = Settings::new(desk.settings.current().0, None);
        assert!(matches!(nowhere.apply(TEXT, 0, unrecorded), Err(SettingsError::NoFile)));
    }

    #[test]
    fn the_order_of_feeds_and_lines_is_theirs() {
        let desk = desk();
        let mut other = value(&desk.settings.current().0);
        let lines = other["feeds"][0]["lines"].as_array_mut().unwrap();
        lines.reverse();
        let found = desk.settings.compare(&toml::to_string(&other).unwrap()).unwrap();
        let [Difference { key, from: Some(from), to: Some(to), is_live: false }] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(key.ends_with(".lines") && from.starts_with("in the order ") && from != to, "{found:?}");
    }

    #[test]
    fn the_whole_configuration_is_text_that_says_the_same() {
        let (config, _) = desk().settings.current();
        let again = Config::parse(Path::new("again.toml"), &text(&config)).unwrap();
        assert_eq!(value(&again), value(&config));
        assert!(text(&config).contains("subscriptions_max = 256"));
    }
}
