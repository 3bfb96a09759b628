//! Machines that were recorded as text (`doctor::recording` tells the format), unpacked into a folder.

use control::config::Config;
use control::doctor::{Finding, Machine, examine};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// What lies at a path of a recorded machine.
pub enum Entry {
    File(Vec<u8>),
    Link(String),
    Folder,
}

/// A recorded machine, as its format is told in `doctor::recording`.
fn parse(text: &str) -> Vec<(String, Entry)> {
    let mut entries: Vec<(String, Entry)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(more) = line.strip_prefix('\t') {
            let Some((_, Entry::File(bytes))) = entries.last_mut() else { panic!("no file before {line:?}") };
            bytes.extend(bytes_of(more));
            bytes.push(b'\n');
        } else if let Some((path, target)) = line.split_once(" -> ") {
            entries.push((path.to_owned(), Entry::Link(target.to_owned())));
        } else if let Some(path) = line.strip_suffix('/') {
            entries.push((path.to_owned(), Entry::Folder));
        } else {
            let (path, one) = line.split_once('\t').map_or((line, None), |(path, one)| (path, Some(one)));
            let bytes = one.map_or(Vec::new(), |one| [bytes_of(one), vec![b'\n']].concat());
            entries.push((path.to_owned(), Entry::File(bytes)));
        }
    }
    entries
}

fn bytes_of(escaped: &str) -> Vec<u8> {
    let mut parts = escaped.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

/// A machine in a folder of its own.
pub struct Tree {
    folder: TempDir,
    pub entries: Vec<(String, Entry)>,
}

impl Tree {
    pub fn of(name: &str) -> Tree {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doctor/machines");
        let file = folder.join(format!("{name}.txt"));
        Tree::parse(&fs::read_to_string(file).unwrap())
    }

    pub fn parse(text: &str) -> Tree {
        let tree = Tree { folder: tempfile::tempdir().unwrap(), entries: parse(text) };
        tree.entries.iter().for_each(|(path, entry)| tree.put(path, entry));
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        assert!(path.starts_with('/') && !path.contains(".."), "{path}");
        self.folder.path().join(&path[1..])
    }

    pub fn put(&self, path: &str, entry: &Entry) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match entry {
            Entry::File(bytes) => fs::write(path, bytes).unwrap(),
            Entry::Link(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            Entry::Folder => fs::create_dir_all(path).unwrap(),
        }
    }

    pub fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// Writes another text to a file.
    pub fn with(self, path: &str, text: &str) -> Tree {
        self.put(path, &Entry::File(text.as_bytes().to_vec()));
        self
    }

    pub fn findings(&self, config: &Config) -> Vec<Finding> {
        examine(config, &Machine::at(self.folder.path()))
    }

    pub fn doctor(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickplane"));
        command.arg("doctor").arg("--root").arg(self.folder.path()).args(arguments).output().unwrap()
    }
}

/// What may lie where a file should.
pub fn garbage() -> Vec<Option<Entry>> {
    let texts: [&[u8]; 9] = [
        b"",
        b"\n",
        b"-1\n",
        b"99999999999999999999999999\n",
        b"18446744073709551615\n",
        b"0-18446744073709551615,3-1\n[\n",
        b"\xff\xfe\x00[\xc3]=\x1b[2J \xf0\x9f DRIVER=\n\tMax locked memory\n",
        b"a b c d e f g h\n0x 1 2 3 FFFFFFFF 5 6 7 8\nCapEff:zz\nDRIVER=\xff\n",
        &[b'9'; 70_000],
    ];
    let mut garbage = vec![None, Some(Entry::Folder), Some(Entry::Link("../../../../../nowhere".to_owned()))];
    garbage.extend(texts.map(|text| Some(Entry::File(text.to_vec()))));
    garbage
}
