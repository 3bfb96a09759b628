//! The mounted file systems.

use super::machine::Machine;
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub folder: String,
    /// tmpfs, hugetlbfs, ext4, …
    pub kind: String,
    options: String,
}

impl Mount {
    /// The mount on which `path` lies.
    pub fn of(machine: &Machine, path: &Path) -> Option<Mount> {
        let of = |line: &str| Mount::parse(line).filter(|mount| path.starts_with(&mount.folder));
        let lines = machine.lines("/proc/self/mounts", |line| of(line).is_some())?;
        // Of two on the same folder the later one is seen.
        lines.iter().filter_map(|line| of(line)).max_by_key(|mount| mount.folder.len())
    }

    fn parse(line: &str) -> Option<Mount> {
        let mut fields = line.split(' ').skip(1);
        let (folder, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Mount { folder: folder.to_owned(), kind: kind.to_owned(), options: options.to_owned() })
    }

    /// `size=24684096k`, `pagesize=2M`
    pub fn option_bytes(&self, name: &str) -> Option<u64> {
        let value =
            self.options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='))?;
        let digits = value.trim_end_matches(|character: char| character.is_ascii_alphabetic());
        let shift = match &value[digits.len()..] {
            "" => 0,
            "k" | "K" => 10,
            "m" | "M" => 20,
            "g" | "G" => 30,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(1 << shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let mount = |options| Mount::parse(&format!("tmpfs /dev/shm tmpfs {options} 0 0")).unwrap();
        assert_eq!(mount("rw,size=64k").option_bytes("size"), Some(65_536));
        assert_eq!(mount("rw,pagesize=1G").option_bytes("pagesize"), Some(1 << 30));
        for options in ["rw", "size=", "size=5x", "size=99999999999999999999k", "size=99999999999g", "size=é"]
        {
            assert_eq!(mount(options).option_bytes("size"), None, "{options}");
        }
    }
}
