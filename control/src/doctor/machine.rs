//! The machine, as its files tell it.

use super::cores::Cores;
use super::recording::{self, Seen};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// No file that is looked at is near this long; what comes behind it is left out.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// /proc has an entry for each process.
const ENTRIES_MAX: usize = 1 << 16;
const COMM_BYTES_MAX: u64 = 16;
/// A device whose first four bytes are the limit.
const WAKEUP_LIMIT: &str = "/dev/cpu_dma_latency";

/// Files below a root directory, each of which may be missing, unreadable or garbage. All paths begin with `/`.
///
/// What was looked at is remembered. Where a link's target is asked for, nothing below the link is: so what was looked
/// at is a plain tree.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    seen: RefCell<BTreeMap<String, Seen>>,
}

impl Machine {
    pub fn at(root: &Path) -> Machine {
        Machine { root: root.to_owned(), seen: RefCell::default() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn exists(&self, path: &str) -> bool {
        let Ok(metadata) = fs::metadata(self.path(path)) else { return false };
        let seen = if metadata.is_dir() { Seen::Folder } else { Seen::File(Vec::new()) };
        self.seen.borrow_mut().entry(path.to_owned()).or_insert(seen);
        true
    }

    fn remember(&self, path: &str, seen: Seen) {
        self.seen.borrow_mut().insert(path.to_owned(), seen);
    }

    fn bytes(&self, path: &str, bytes_max: u64) -> Option<Vec<u8>> {
        // A FIFO might never begin, and a device never end.
        let kind = fs::metadata(self.path(path)).ok()?.file_type();
        let is_readable = kind.is_file() || (path == WAKEUP_LIMIT && kind.is_char_device());
        let mut bytes = Vec::new();
        if !is_readable {
            return None;
        }
        File::open(self.path(path)).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The file's lines that are `wanted`; only these are remembered.
    pub fn lines(&self, path: &str, wanted: impl Fn(&str) -> bool) -> Option<Vec<String>> {
        let bytes = self.bytes(path, FILE_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().filter(|line| wanted(line)).map(str::to_owned).collect();
        self.remember_parts(path, &lines, "\n");
        Some(lines)
    }

    /// What the kernel's command line says of `key=`; empty if it is not there. Other words are not remembered.
    pub fn boot_parameter(&self, key: &str) -> Option<String> {
        let path = "/proc/cmdline";
        let bytes = self.bytes(path, FILE_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&bytes);
        let value = |word: &str| Some(word.strip_prefix(key)?.strip_prefix('=')?.to_owned());
        // Of several the last one holds.
        let word = text.split_whitespace().rfind(|word| value(word).is_some());
        let words: Vec<String> = word.into_iter().map(str::to_owned).collect();
        self.remember_parts(path, &words, " ");
        Some(word.and_then(value).unwrap_or_default())
    }

    fn remember_parts(&self, path: &str, parts: &[String], between: &str) {
        let mut seen = self.seen.borrow_mut();
        let before = match seen.get(path) {
            Some(Seen::File(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        let mut all: Vec<&str> = before.split(between).filter(|part| !part.is_empty()).collect();
        all.extend(parts.iter().map(String::as_str));
        let mut known = HashSet::new();
        all.retain(|part| known.insert(*part));
        seen.insert(path.to_owned(), Seen::File(all.join(between).into_bytes()));
    }

    /// The file's text without the space around it.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = self.bytes(path, FILE_BYTES_MAX)?;
        self.remember(path, Seen::File(bytes.clone()));
        let is_space = |character: char| character.is_whitespace() || character == '\0';
        Some(String::from_utf8_lossy(&bytes).trim_matches(is_space).to_owned())
    }

    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    pub fn cores(&self, path: &str) -> Option<Cores> {
        Cores::parse(&self.text(path)?)
    }

    /// The chosen one of several: `always [madvise] never`.
    pub fn choice(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    }

    /// The value behind `KEY=` or `Key:`, in a file of one such line each.
    pub fn value(&self, path: &str, key: &str) -> Option<String> {
        let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix(['=', ':'])?.trim().to_owned());
        self.lines(path, |line| value(line).is_some())?.first().and_then(|line| value(line))
    }

    /// The last name of what a link points to.
    pub fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        let target = target.to_string_lossy().into_owned();
        let name = target.rsplit('/').next().unwrap_or_default().to_owned();
        self.remember(path, Seen::Link(target));
        Some(name)
    }

    /// The names in a directory that are `wanted`, `x2` before `x10`.
    pub fn entries(&self, path: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else { return Vec::new() };
        let names = entries.take(ENTRIES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| wanted(name)).collect();
        names.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
        let mut seen = self.seen.borrow_mut();
        seen.entry(path.to_owned()).or_insert(Seen::Folder);
        for name in &names {
            seen.entry(format!("{path}/{name}")).or_insert(Seen::Folder);
        }
        names
    }

    /// Which of the named programs run; the kernel cuts names after 15 bytes.
    pub fn running(&self, programs: &[&'static str]) -> Vec<&'static str> {
        let mut running = Vec::new();
        let Ok(processes) = fs::read_dir(self.path("/proc")) else { return running };
        let numbers =
            processes.take(ENTRIES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        for number in numbers.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
            // What else runs here is nobody's business.
            let path = format!("/proc/{number}/comm");
            let Some(bytes) = self.bytes(&path, COMM_BYTES_MAX) else { continue };
            let Some(name) = programs.iter().find(|name| name.as_bytes() == bytes.trim_ascii_end()) else {
                continue;
            };
            self.remember(&path, Seen::File(bytes));
            if !running.contains(name) {
                running.push(*name);
            }
        }
        running.sort_by_key(|name| programs.iter().position(|program| program == name));
        running
    }

    /// The longest wake-up that anyone has asked for, in µs (an `i32`); `None` = no limit is known.
    pub fn wakeup_limit_us(&self) -> Option<u64> {
        let bytes = self.bytes(WAKEUP_LIMIT, 4)?;
        self.remember(WAKEUP_LIMIT, Seen::File(bytes.clone()));
        u64::try_from(i32::from_le_bytes(bytes.try_into().ok()?)).ok()
    }

    /// All that was looked at so far, and was there, as one text.
    pub fn recording(&self) -> String {
        recording::write(&self.seen.borrow())
    }
}
