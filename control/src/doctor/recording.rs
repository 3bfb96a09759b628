//! Files as one text: what is looked at on one machine can be looked at on another.
//!
//! ```text
//! # a comment
//! /sys/class/net/eth1/mtu<TAB>1500                    a file of one line
//! /proc/mounts                                        a file of several lines, each behind a TAB
//! <TAB>proc /proc proc rw 0 0
//! <TAB>tmpfs /dev/shm tmpfs rw 0 0
//! /sys/bus/pci/devices/0000:3b:00.0/iommu_group -> ../../kernel/iommu_groups/42
//! /sys/class/ptp/                                     an empty directory
//! ```
//!
//! Bytes that are not printable ASCII, and the backslash, are written `\xNN`. A last newline is left out, and so are lines that
//! were not looked for, as of `/proc/self/mounts`.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    File(Vec<u8>),
    Link(String),
    Folder,
}

const HEADING: &str = "# A machine, recorded by `tickplane doctor --record`.\n";

pub fn write(seen: &BTreeMap<String, Seen>) -> String {
    let mut text = HEADING.to_owned();
    for (path, seen_there) in seen {
        let below = format!("{path}/");
        let is_parent = seen.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below));
        let path = escaped(path.as_bytes());
        match seen_there {
            Seen::Folder if is_parent => {}
            Seen::Folder => _ = writeln!(text, "{path}/"),
            Seen::Link(target) => _ = writeln!(text, "{path} -> {}", escaped(target.as_bytes())),
            Seen::File(bytes) => {
                let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
                let lines: Vec<String> = bytes.split(|byte| *byte == b'\n').map(escaped).collect();
                match lines.as_slice() {
                    [line] => _ = writeln!(text, "{path}\t{line}"),
                    lines => _ = writeln!(text, "{path}\n\t{}", lines.join("\n\t")),
                }
            }
        }
    }
    text
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b' '..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
            _ => _ = write!(text, "\\x{byte:02x}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_links_and_folders_are_told_apart() {
        let mut seen = BTreeMap::new();
        seen.insert("/a".to_owned(), Seen::Folder);
        seen.insert("/a/one".to_owned(), Seen::File(b"1 2\n".to_vec()));
        seen.insert("/a/link".to_owned(), Seen::Link("../../b".to_owned()));
        seen.insert("/a/two".to_owned(), Seen::File(b"x\ty\n\xff\\\n".to_vec()));
        seen.insert("/empty".to_owned(), Seen::Folder);
        let text = write(&seen);
        let known = "/a/link -> ../../b\n/a/one\t1 2\n/a/two\n\tx\\x09y\n\t\\xff\\x5c\n/empty/\n";
        assert_eq!(text.strip_prefix(HEADING).unwrap(), known);
    }
}
